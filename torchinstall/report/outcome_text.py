"""What an installation came to, in one or two lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from torchinstall.report.layout import wrapped

if TYPE_CHECKING:
    from torchinstall.install.run import Change
    from torchinstall.planner.model import Plan

__all__ = ["outcome_text"]


def outcome_text(status: str, plan: Plan, changes: tuple[Change, ...] | None) -> str:
    """One sentence for a status of `auto`: `installed`, `satisfied`, `dry-run`."""
    if status == "satisfied":
        builds = ", ".join(f"{row.name} {row.version}" for row in plan.packages if row.version)
        return click.style("already right:", fg="green", bold=True) + f" {builds}; nothing was changed"
    word = "would change" if status == "dry-run" else "changed"
    if changes is None:
        return f"{word}: uv did not say what"
    if status == "dry-run" and not changes:
        names = ", ".join(f"{row.name} {row.version or ''}".strip() for row in plan.packages)
        return wrapped(f"would install: {names}", indent=2)
    rows = ", ".join(f"{row.name} {row.version} ({row.action})" for row in changes)
    return wrapped(f"{click.style(f'{word}:', fg='green', bold=True)} {rows}", indent=2)
