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
    builds = ", ".join(f"{row.name} {row.version or ''}".strip() for row in plan.packages)
    if status == "satisfied":
        return _line("already right:", f"{builds}; nothing was changed")
    if changes:
        planned = {row.name for row in plan.packages}
        coming = [f"{row.name} {row.version}" for row in changes if row.action != "uninstalled"]
        builds = ", ".join([text for text in coming if text.partition(" ")[0] in planned] or coming)
        others = len(coming) - builds.count(", ") - 1
        builds += f", and {others} other packages" if others > 0 else ""
    return _line("would install:" if status == "dry-run" else "installed:", builds)


def _line(head: str, text: str) -> str:
    return wrapped(f"{click.style(head, fg='green', bold=True)} {text}", indent=2)
