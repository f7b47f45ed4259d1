"""What verification found, as text a person understands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from torchinstall.report.layout import columns, heading

if TYPE_CHECKING:
    from torchinstall.install.verify import Report

__all__ = ["verify_text"]


def verify_text(report: Report) -> str:
    """One line for each check; a failed one says what was wanted."""
    rows = []
    for check in report.checks:
        mark = click.style("ok", fg="green") if check.ok else click.style("FAILED", fg="red", bold=True)
        found = check.found if check.ok else f"wanted {check.wanted}; found {check.found}"
        rows.append((mark, check.name, found))
    return f"{heading('Verified' if report.ok else 'Verification failed')}\n{columns(rows)}"
