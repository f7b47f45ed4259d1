"""`dataclass` for frozen values with slots, made at a quarter of the cost.

The standard decorator compiles six functions for every class. A plan meets some eighty classes of values, and
making them so took a quarter of its time. Here one function is compiled for a class, `__init__`; equality,
hash, repr and the refusal to change are shared by all. The classes are dataclasses: `fields`, `replace` and
`asdict` take them, and type checkers see the standard decorator.
"""

from __future__ import annotations

import dataclasses
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from dataclasses import dataclass
else:

    def dataclass(*, frozen: bool, slots: bool, kw_only: bool = False) -> Callable[[type], type]:
        """As `dataclasses.dataclass`, for values only: both switches must be on."""
        if not (frozen and slots):
            raise TypeError("values are frozen and have slots; take dataclasses.dataclass for others")

        def make(cls: type) -> type:
            shell = dataclasses.dataclass(init=False, repr=False, eq=False, slots=True, kw_only=kw_only)
            return _filled(shell(cls))

        return make


__all__ = ["dataclass"]

Value = TypeVar("Value", bound=type)


def _filled(cls: Value) -> Value:
    """The class with its methods; one that its body defines is kept."""
    fields = dataclasses.fields(cls)
    names = [field.name for field in fields]
    # `attrgetter` needs a name; values without fields are equal to each other.
    everything = attrgetter(*names) if names else lambda _value: ()

    def equal(self: object, other: object) -> Any:
        if other.__class__ is not self.__class__:
            return NotImplemented
        return everything(self) == everything(other)

    def hashed(self: object) -> int:
        return hash(everything(self))

    methods = {
        "__init__": _init(cls, fields),
        "__eq__": equal,
        "__hash__": hashed,
        "__repr__": _repr,
        "__setattr__": _no_change,
        "__delattr__": _no_change,
        "__getstate__": _state,
        "__setstate__": _set_state,
    }
    for name, method in methods.items():
        # A class that defines __eq__ and no __hash__ is given `__hash__ = None` by Python itself.
        if cls.__dict__.get(name) is None:
            setattr(cls, name, method)
    return cls


def _init(cls: type, fields: tuple[dataclasses.Field[Any], ...]) -> Any:
    """`__init__` through the descriptors of the slots, which the refusal to change does not reach."""
    scope: dict[str, Any] = {"_MISSING": dataclasses.MISSING}
    arguments: list[str] = []
    named: list[str] = []
    lines: list[str] = []
    for field in fields:
        name = field.name
        scope[f"_set_{name}"] = cls.__dict__[name].__set__
        given, value = name, name
        if field.default_factory is not dataclasses.MISSING:
            scope[f"_new_{name}"] = field.default_factory
            given, value = f"{name}=_MISSING", f"_new_{name}() if {name} is _MISSING else {name}"
        elif field.default is not dataclasses.MISSING:
            scope[f"_default_{name}"] = field.default
            given = f"{name}=_default_{name}"
        (named if field.kw_only else arguments).append(given)
        lines.append(f" _set_{name}(self, {value})\n")
    star = ["*", *named] if named else []
    head = f"def __init__({', '.join(['self', *arguments, *star])}):\n"
    exec(head + ("".join(lines) or " pass\n"), scope)  # noqa: S102  # as dataclasses itself does
    made = scope["__init__"]
    made.__qualname__ = f"{cls.__qualname__}.__init__"
    made.__module__ = cls.__module__
    made.__annotations__ = {field.name: field.type for field in fields} | {"return": None}
    return made


def _repr(self: Any) -> str:
    inside = ", ".join(f"{field.name}={getattr(self, field.name)!r}" for field in dataclasses.fields(self))
    return f"{type(self).__qualname__}({inside})"


def _no_change(self: object, name: str, *_value: object) -> None:
    raise dataclasses.FrozenInstanceError(f"{type(self).__qualname__}.{name} cannot be changed")


def _state(self: Any) -> list[Any]:
    return [getattr(self, field.name) for field in dataclasses.fields(self)]


def _set_state(self: Any, state: list[Any]) -> None:
    for field, value in zip(dataclasses.fields(self), state, strict=True):
        object.__setattr__(self, field.name, value)
