"""Golden plans: what is chosen for machines that people have, for one Python and the default packages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.planning import decide
from torchinstall.core.machine import decode_machine

if TYPE_CHECKING:
    from torchinstall.core.plan import Plan

MACHINES = Path(__file__).parent / "machines"
PLANS = Path(__file__).parent / "plans"


def summary(plan: Plan) -> dict[str, Any]:
    """The parts of a plan that a person would compare, with one rejection per backend."""
    rejected: dict[str, str] = {}
    for item in plan.candidates:
        if item.verdict == "rejected" and item.backend not in rejected:
            rejected[item.backend] = f"{item.torch}: {item.rule} (wanted {item.wanted}; found {item.found})"
    return {
        "status": plan.status,
        "packages": {package.name: package.version for package in plan.packages},
        "wheel": plan.packages[0].wheel if plan.packages else None,
        "index_url": plan.index_url,
        "gpus": [f"{gpu.name}: {'yes' if gpu.covered else 'no'}, {gpu.by}" for gpu in plan.gpus],
        "warnings": [item.slug for item in plan.warnings],
        "newest_rejected": rejected,
        "error": plan.error.slug if plan.error else None,
    }


@pytest.mark.parametrize("name", sorted(path.stem for path in MACHINES.glob("*.json")))
def test_golden_plan(name: str, *, update_golden: bool) -> None:
    machine = decode_machine((MACHINES / f"{name}.json").read_text(encoding="utf-8"), name)
    found = summary(decide(machine))
    path = PLANS / f"{name}.json"
    if update_golden:
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    assert found == json.loads(path.read_text(encoding="utf-8"))
