"""A right torch is kept; where torch changes, what is installed beside it changes too, or nothing does."""

from __future__ import annotations

import pytest
from msgspec import structs

from tests.support.planning import linux, shipped
from torchinstall.core.plan import Plan
from torchinstall.core.request import Request, requirement
from torchinstall.core.target import Installed, foreign_target
from torchinstall.planner.selection import plan

KEPT = {"torch": "2.9.1+cpu", "torchaudio": "2.9.1+cpu"}


def planned(installed: dict[str, str], *asked: str, upgrade: bool = False) -> Plan:
    rows = tuple(Installed(name=name, version=version, backend="cpu") for name, version in installed.items())
    target = structs.replace(foreign_target(linux(), "3.12"), installed=rows)
    request = Request(requirements=tuple(map(requirement, asked)), backend="cpu", upgrade=upgrade)
    return plan(request, linux(), target, shipped())


def versions(made: Plan) -> dict[str, str | None]:
    return {item.name: item.version for item in made.packages}


@pytest.mark.parametrize("asked", [("torch", "torchvision"), ("torchvision",)])
def test_a_missing_companion_is_no_reason_to_change_torch(asked: tuple[str, ...]) -> None:
    made = planned(KEPT, *asked)
    assert made.status == "ready"
    assert versions(made) == {"torch": "2.9.1+cpu", "torchvision": "0.24.1+cpu"}


def test_nor_is_one_that_does_not_fit() -> None:
    made = planned({"torch": "2.9.1+cpu", "torchvision": "0.23.0+cpu"}, "torch", "torchvision")
    assert versions(made) == {"torch": "2.9.1+cpu", "torchvision": "0.24.1+cpu"}


def test_what_is_right_is_satisfied() -> None:
    assert planned(KEPT, "torch", "torchaudio").status == "satisfied"


def test_an_upgrade_moves_what_is_beside_torch() -> None:
    made = planned(KEPT, "torch", upgrade=True)
    assert made.error is None
    assert versions(made)["torch"] != "2.9.1+cpu"
    assert versions(made)["torchaudio"] not in (None, "2.9.1+cpu")


def test_an_upgrade_that_something_cannot_follow_stops_and_names_it() -> None:
    newest = str(planned({}, "torch").torch).partition("+")[0]
    made = planned({"torch": "2.3.1+cpu", "torchtext": "0.18.0+cpu"}, f"torch=={newest}")
    assert made.error is not None
    assert made.error.slug == "companion-left-behind"
    assert "torchtext" in made.error.message
    assert "uv pip uninstall torchtext" in made.error.hints[0]


def test_what_torch_brought_itself_does_not_hold_it() -> None:
    made = planned({"torch": "2.9.1+rocm6.4", "pytorch-triton-rocm": "3.5.1"}, "torch")
    assert made.error is None
    assert versions(made).keys() == {"torch"}
