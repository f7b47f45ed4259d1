"""What verification found, as text a person understands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from torchinstall.report.layout import columns, heading, wrapped

if TYPE_CHECKING:
    from torchinstall.install.verify import Report

__all__ = ["verify_text"]


def verify_text(report: Report, *, full: bool) -> str:
    """The names of the checks that passed; every check on a line of its own where one failed or `full`."""
    if report.ok and not full:
        names = ", ".join(check.name for check in report.checks)
        return wrapped(f"{click.style('verified:', fg='green', bold=True)} {names}", indent=2)
    rows = []
    for check in report.checks:
        mark = click.style("ok", fg="green") if check.ok else click.style("FAILED", fg="red", bold=True)
        found = check.found if check.ok else f"wanted {check.wanted}; found {check.found}"
        rows.append((mark, check.name, found))
    return f"{heading('Verified' if report.ok else 'Verification failed')}\n{columns(rows)}"
