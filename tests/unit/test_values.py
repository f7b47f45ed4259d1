"""Our `dataclass` against the standard one: nobody who uses a value may notice which made it."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from typing import Any

import pytest

from torchinstall.machine import Driver
from torchinstall.values import dataclass


class Plain:
    """A value."""

    name: str
    version: str | None = None
    tags: list[str] = dataclasses.field(default_factory=list)
    count: int = dataclasses.field(default=3, repr=True)


def _copy_of(body: type) -> type:
    return type(body.__name__, (), {key: value for key, value in vars(body).items() if key != "__dict__"})


def made(kw_only: bool) -> tuple[Any, Any]:
    ours: Any = dataclass
    return (
        ours(frozen=True, slots=True, kw_only=kw_only)(_copy_of(Plain)),
        dataclasses.dataclass(frozen=True, slots=True, kw_only=kw_only)(_copy_of(Plain)),
    )


@pytest.fixture(params=[True, False], ids=["keywords", "positions"])
def pair(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    return made(request.param)


def test_it_is_called_the_same_way(pair: tuple[Any, Any]) -> None:
    ours, standard = (inspect.signature(cls) for cls in pair)
    assert [(row.name, row.kind) for row in ours.parameters.values()] == [
        (row.name, row.kind) for row in standard.parameters.values()
    ]
    for arguments in ({}, {"name": "a", "size": 1}):
        for cls in pair:
            with pytest.raises(TypeError):
                cls(**arguments)


def test_fields_defaults_and_text_are_the_same(pair: tuple[Any, Any]) -> None:
    ours, standard = (cls(name="torch", version="2.9.1") for cls in pair)
    assert dataclasses.asdict(ours) == dataclasses.asdict(standard)
    assert repr(ours) == repr(standard) == "Plain(name='torch', version='2.9.1', tags=[], count=3)"
    assert ours.__match_args__ == standard.__match_args__
    assert type(ours).__slots__ == type(standard).__slots__
    assert ours.tags is not type(ours)(name="torch").tags, "each value has a list of its own"


def test_replaced_copied_and_pickled() -> None:
    value = Driver(vendor="nvidia", version="580.95")
    assert dataclasses.replace(value, version="570").version == "570"
    pickled = pickle.loads(pickle.dumps(value))  # noqa: S301  our own value, made one call before
    for twin in (copy.copy(value), copy.deepcopy(value), pickled):
        assert twin == value
        assert hash(twin) == hash(value)


def test_equal_by_value_and_only_among_its_own_kind(pair: tuple[Any, Any]) -> None:
    ours, standard = pair
    assert ours(name="a", count=1) == ours(name="a", count=1)
    assert ours(name="a", count=1) != ours(name="a", count=2)
    assert ours(name="a") != standard(name="a")
    assert len({Driver(vendor="amd"), Driver(vendor="amd"), Driver(vendor="intel")}) == 2


def test_it_cannot_be_changed() -> None:
    value: Any = Driver(vendor="nvidia")
    with pytest.raises(dataclasses.FrozenInstanceError):
        value.version = "580"
    with pytest.raises(dataclasses.FrozenInstanceError):
        del value.version
    with pytest.raises(dataclasses.FrozenInstanceError):
        value.other = 1
    assert value == Driver(vendor="nvidia")


def test_one_field_and_none() -> None:
    @dataclass(frozen=True, slots=True)
    class One:
        text: str

    @dataclass(frozen=True, slots=True)
    class Nothing:
        pass

    assert One("a") == One("a") != One("b")
    assert Nothing() == Nothing()
    assert hash(Nothing()) == hash(Nothing())


def test_methods_of_the_body_are_kept() -> None:
    @dataclass(frozen=True, slots=True)
    class Loud:
        text: str

        def __repr__(self) -> str:
            return self.text.upper()

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Loud) and other.text.lower() == self.text.lower()

        def __hash__(self) -> int:
            return hash(self.text.lower())

    assert repr(Loud("a")) == "A"
    assert Loud("a") == Loud("A")
    assert hash(Loud("a")) == hash(Loud("A"))


def test_only_for_values() -> None:
    ours: Any = dataclass
    with pytest.raises(TypeError, match="frozen"):
        ours(frozen=False, slots=True)
