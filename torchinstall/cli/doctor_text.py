"""The doctor's report and its explanations as text a person understands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from torchinstall.cli.text import fields, wrapped

if TYPE_CHECKING:
    from torchinstall.doctor.model import Diagnosis, Environment
    from torchinstall.doctor.symptoms import Match

__all__ = ["doctor_text", "explained_text"]

_COLOUR = {"error": "red", "warning": "yellow", "info": "cyan"}


def doctor_text(seen: Environment, found: Sequence[Diagnosis]) -> str:
    """What was looked at, then every finding with its evidence and what to type."""
    parts = [fields(_head(seen, found))]
    parts += [_diagnosis(item) for item in found]
    parts.append(_sum(found))
    return "\n\n".join(parts)


def _head(seen: Environment, found: Sequence[Diagnosis]) -> list[tuple[str, str]]:
    target = seen.target
    rows = [
        ("environment", f"{target.prefix} (Python {target.python_version}, {target.why})"),
        *(("installed", _package(item.name, item.version, item.backend)) for item in target.installed),
        *(("GPU", gpu.label) for gpu in seen.machine.gpus),
    ]
    if not seen.machine.gpus:
        rows.append(("GPU", "none found"))
    rows.append(("build", _build(seen, found)))
    if seen.report is not None:
        passed = len(seen.report.checks) - len(seen.report.failed)
        rows.append(
            (
                "computes",
                f"{'yes' if seen.report.ok else 'no'}: {passed} of {len(seen.report.checks)} checks",
            )
        )
    return rows


def _package(name: str, version: str, backend: str | None) -> str:
    return f"{name} {version}" + (f" ({backend})" if backend and not version.endswith(backend) else "")


def _build(seen: Environment, found: Sequence[Diagnosis]) -> str:
    """One line: is this the build that the planner would choose?"""
    if seen.installed("torch") is None:
        return "there is none"
    choice = seen.choice
    if choice is None or choice.error is not None:
        better = seen.free.torch if seen.free is not None else None
        return "no build of this release is right here" + (
            f"; the planner would choose {better}" if better else ""
        )
    if choice.status == "satisfied":
        return "right: the planner would choose the same"
    wrong = any(item.severity == "error" for item in found)
    return f"{'wrong' if wrong else 'another one'}: the planner would choose {choice.torch}"


def _diagnosis(item: Diagnosis) -> str:
    head = click.style(f"{item.severity}[{item.slug}]:", fg=_COLOUR[item.severity], bold=True)
    lines = [wrapped(f"{head} {item.message}", indent=2)]
    lines += [wrapped(f"  seen: {text}", indent=8) for text in item.evidence]
    lines += [f"  type: {click.style(remedy.command, bold=True)}" for remedy in item.remedies]
    if item.advice:
        lines.append(wrapped(f"  note: {item.advice}", indent=8))
    return "\n".join(lines)


def _sum(found: Sequence[Diagnosis]) -> str:
    errors = sum(item.severity == "error" for item in found)
    warnings = sum(item.severity == "warning" for item in found)
    if not errors and not warnings:
        return click.style("nothing is wrong", fg="green", bold=True)
    parts = [_count(errors, "fault"), _count(warnings, "warning")]
    text = " and ".join(part for part in parts if part)
    if any(remedy.safe for item in found if item.severity != "info" for remedy in item.remedies):
        text += "; torchinstall doctor --fix mends what it safely can"
    return text


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}" if number else ""


def explained_text(matches: Sequence[Match]) -> str:
    """What a pasted text means; the match that says most first."""
    parts = []
    for match in matches:
        lines = [wrapped(click.style(match.slug, bold=True) + f": {match.cause}", indent=2)]
        lines.append(wrapped(f"  seen: {match.evidence}", indent=8))
        lines += [f"  type: {click.style(command, bold=True)}" for command in match.commands]
        if match.advice:
            lines.append(wrapped(f"  note: {match.advice}", indent=8))
        lines.append(wrapped(f"  more: {', '.join(match.sources)}", indent=8))
        parts.append("\n".join(lines))
    return "\n\n".join(parts)
