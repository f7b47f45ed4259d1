"""Laying text out in 80 columns; colour codes take no room."""

from __future__ import annotations

from collections.abc import Sequence

import click

__all__ = ["WIDTH", "columns", "fields", "heading", "wrapped"]

WIDTH = 80


def heading(text: str) -> str:
    """The title of a part."""
    return click.style(text, bold=True)


def fields(rows: Sequence[tuple[str, str]]) -> str:
    """Names in one column, values wrapped in the other; a name that repeats is shown once."""
    width = max((len(name) for name, _ in rows), default=0) + 2
    lines = []
    before = None
    for name, value in rows:
        shown = "" if name == before else name
        lines.append(wrapped(f"{shown:<{width}}{value}", indent=width))
        before = name
    return "\n".join(lines)


def columns(rows: Sequence[Sequence[str]], indent: int = 2) -> str:
    """A table without rules; the last column is wrapped, the others are as wide as they must be."""
    if not rows:
        return ""
    widths = [max(len(click.unstyle(row[number])) for row in rows) + 2 for number in range(len(rows[0]) - 1)]
    lines = []
    for row in rows:
        cells = [
            cell + " " * (width - len(click.unstyle(cell))) for cell, width in zip(row, widths, strict=False)
        ]
        lines.append(wrapped(" " * indent + "".join(cells) + row[-1], indent=indent + sum(widths)).rstrip())
    return "\n".join(lines)


def wrapped(text: str, indent: int = 0, width: int = WIDTH) -> str:
    """Break lines at spaces; lines after the first begin with `indent` spaces.

    A word that is longer than a line stays whole: paths and URLs must be copyable.
    """
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line, *words = paragraph.split(" ")
        for word in words:
            longer = f"{line} {word}"
            if line.strip() and len(click.unstyle(longer)) > width:
                lines.append(line.rstrip())
                line = " " * indent + word
            else:
                line = longer
        lines.append(line.rstrip())
    return "\n".join(lines)
