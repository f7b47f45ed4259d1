"""A plan for several machines, as text and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from torchinstall.cli.plan_text import package_texts
from torchinstall.cli.text import fields, heading
from torchinstall.core.plan import plan_to_json

if TYPE_CHECKING:
    from torchinstall.core.plan import Plan
    from torchinstall.fleet.classes import Fleet

__all__ = ["fleet_text", "fleet_to_json"]

SCHEMA_VERSION = 1


def fleet_text(fleet: Fleet) -> str:
    """Who gets which build: one part a build, one line a machine."""
    parts = []
    number = sum(len(group.plans) for group in fleet.groups)
    if len(fleet.groups) == 1 and number > 1:
        parts.append(f"One build serves all {number} machines.")
    elif fleet.groups:
        parts.append(f"{len(fleet.groups)} builds serve {number} machines; fewer do not.")
    for group in fleet.groups:
        title = f"torch {group.torch}, backend {click.style(group.backend, fg='green', bold=True)}"
        rows = [("installs", text) for text in package_texts(group.plans[0][1])]
        rows += [("for", f"{name}: {_gpus(plan)}") for name, plan in group.plans]
        parts.append(f"{heading(title)}\n{fields(rows)}")
    if fleet.impossible:
        rows = [(name, plan.error.message if plan.error else "no build") for name, plan in fleet.impossible]
        parts.append(f"{heading('No build')}\n{fields(rows)}")
    return "\n\n".join(parts)


def _gpus(plan: Plan) -> str:
    said = [f"{gpu.name or gpu.vendor} ({gpu.by if gpu.covered else 'not used'})" for gpu in plan.gpus]
    return ", ".join(dict.fromkeys(said)) or "no GPU"


def fleet_to_json(fleet: Fleet) -> dict[str, Any]:
    """Groups with the plan of each of their machines, and the machines that no build serves."""
    return {
        "schema_version": SCHEMA_VERSION,
        "status": "impossible" if fleet.impossible else "ready",
        "groups": [
            {
                "torch": group.torch,
                "backend": group.backend,
                "machines": [{"name": name, "plan": plan_to_json(plan)} for name, plan in group.plans],
            }
            for group in fleet.groups
        ],
        "impossible": [{"name": name, "plan": plan_to_json(plan)} for name, plan in fleet.impossible],
        "error": None
        if not fleet.impossible or fleet.impossible[0][1].error is None
        else fleet.impossible[0][1].error.to_json(),
    }
