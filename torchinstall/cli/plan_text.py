"""A plan as text a person understands: what was found, what is chosen and why, and why nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from torchinstall.cli.text import columns, fields, heading, machine_text
from torchinstall.core.machine import Machine
from torchinstall.core.messages import redact
from torchinstall.core.plan import Candidate, Plan, plan_to_json
from torchinstall.core.request import extras_text
from torchinstall.core.versions import dotted_or_none
from torchinstall.fleet.classes import Fleet
from torchinstall.install.command import shell

_OF_MANY = ("no-gpu-of-vendor", "python-not-published", "backend-not-asked")
"""Rules that say the same of many backends, which then share a line."""


def plan_text(plan: Plan, machine: Machine) -> str:
    """The whole plan but its warnings and its error, which go to stderr."""
    parts = [machine_text(machine), fields(_target(plan)), chosen_text(plan), why_not_text(plan)]
    command = _command(plan)
    if command:
        parts.append(f"{heading('What will be run')}\n{command}")
    return "\n\n".join(part for part in parts if part)


def chosen_text(plan: Plan) -> str:
    """What will be installed, from where, and what it does with each GPU."""
    if plan.status == "impossible":
        return ""
    rows = [("installs", text) for text in package_texts(plan)]
    if plan.status == "satisfied":
        rows = [("installed", value) for _, value in rows]
    rows.append(("from", _origin(plan)))
    for gpu in plan.gpus:
        name = f"{'' if gpu.index is None else f'{gpu.index}: '}{gpu.name or gpu.vendor}"
        verdict = f"runs on {gpu.by}" if gpu.covered else f"not used: {gpu.by}"
        rows.append(("on GPU", f"{name} {click.style(verdict, fg='green' if gpu.covered else 'yellow')}"))
    title = f"Chosen: backend {click.style(plan.backend or '?', fg='green', bold=True)}"
    if plan.status == "satisfied":
        title += ", already installed"
    return f"{heading(title)}\n{fields(rows)}"


def package_texts(plan: Plan) -> list[str]:
    """One text a package; those whose version only torch's own metadata names are counted in one."""
    open_ones = [package for package in plan.packages if package.routed and package.version is None]
    texts = [
        f"{package.name}{extras_text(package.extras)} {package.version or '(uv chooses)'}"
        for package in plan.packages
        if package not in open_ones or len(open_ones) == 1
    ]
    if len(open_ones) > 1:
        texts.append(f"{open_ones[0].name} and {len(open_ones) - 1} more of torch's runtime (uv chooses)")
    return texts


def why_not_text(plan: Plan) -> str:
    """One line for each other backend: why its newest release was not chosen."""
    newest: dict[str, Candidate] = {}
    for candidate in plan.candidates:
        newest.setdefault(candidate.backend, candidate)
    chosen = plan.chosen
    rows = []
    others: dict[str, list[str]] = {}
    for backend, candidate in newest.items():
        if chosen is not None and backend == chosen.backend:
            continue
        if candidate.rule in _OF_MANY:
            others.setdefault(f"{candidate.rule}: needs {candidate.wanted}", []).append(backend)
        else:
            rows.append((backend, candidate.torch, _reason(candidate, chosen)))
    rows += [(_span(names), "", reason) for reason, names in others.items()]
    if not rows:
        return ""
    return f"{heading('Why not')}\n{columns(rows)}"


def _reason(candidate: Candidate, chosen: Candidate | None) -> str:
    if candidate.verdict == "rejected":
        found = f"; found {candidate.found}" if candidate.found else ""
        return f"{candidate.rule}: needs {candidate.wanted}{found}"
    if chosen is None:
        return "Would run here."
    mine, theirs = dotted_or_none(candidate.torch) or (), dotted_or_none(chosen.torch) or ()
    if mine > theirs:
        # The newest torch wins among builds that cover the same GPUs, so this one covers fewer.
        if candidate.backend == "cpu":
            return "Would run on the CPU only."
        return f"Would run, but not on every GPU that {chosen.backend} uses."
    if mine < theirs:
        return f"Would run, but its newest torch is {candidate.torch}."
    return f"Would run, but {chosen.backend} is the better match."


def _span(names: list[str]) -> str:
    return (
        names[0] if len(names) == 1 else f"{names[0]} … {names[-1]}" if len(names) > 2 else ", ".join(names)
    )


def _target(plan: Plan) -> list[tuple[str, str]]:
    target = plan.target
    where = f" in {target.prefix}" if target.prefix else ""
    why = click.style(f" ({target.why})", dim=True) if target.why else ""
    rows = [("target", f"Python {target.python_version}{where}{why}")]
    rows += [
        ("setting", f"{setting.name.replace('_', '-')} = {setting.value} ({setting.source})")
        for setting in plan.settings
        if setting.source != "default"
    ]
    live = f", {len(plan.catalog.live)} index pages read now" if plan.catalog.live else ""
    return [*rows, ("catalog", f"of {plan.catalog.snapshot}{live}")]


def _origin(plan: Plan) -> str:
    if plan.index_url is not None:
        return redact(plan.index_url)
    if any(package.routed for package in plan.packages):
        return ", ".join(plan.find_links)
    return "your default index (PyPI unless you chose another)"


def _command(plan: Plan) -> str:
    return shell(plan).rstrip() if plan.status == "ready" else ""


FLEET_SCHEMA_VERSION = 1


def fleet_text(fleet: Fleet) -> str:
    """Who gets which build: one part a build, one line for equal machines."""
    parts = []
    number = sum(len(group.plans) for group in fleet.groups)
    if len(fleet.groups) == 1 and number > 1:
        parts.append(f"One build serves all {number} machines.")
    elif fleet.groups:
        parts.append(f"{len(fleet.groups)} builds serve {number} machines; no smaller set does.")
    for group in fleet.groups:
        title = f"torch {group.torch}, backend {click.style(group.backend, fg='green', bold=True)}"
        rows = [("installs", text) for text in package_texts(group.plans[0][1])]
        rows += [("for", f"{names_text(kind.names)}: {_gpus(plan)}") for kind, plan in group.kinds]
        parts.append(f"{heading(title)}\n{fields(rows)}")
    if fleet.impossible:
        rows = [(name, plan.error.message if plan.error else "no build") for name, plan in fleet.impossible]
        parts.append(f"{heading('No build')}\n{fields(rows)}")
    return "\n\n".join(parts)


def names_text(names: Sequence[str], most: int = 4) -> str:
    """The first names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def _gpus(plan: Plan) -> str:
    said = [f"{gpu.name or gpu.vendor} ({gpu.by if gpu.covered else 'not used'})" for gpu in plan.gpus]
    return ", ".join(dict.fromkeys(said)) or "no GPU"


def fleet_to_json(fleet: Fleet) -> dict[str, Any]:
    """Groups with the plan of each of their machines, and the machines that no build serves."""
    return {
        "schema_version": FLEET_SCHEMA_VERSION,
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
