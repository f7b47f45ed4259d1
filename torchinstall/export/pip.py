"""`--format pip`: the commands for pip, which cannot tie a package to an index."""

from __future__ import annotations

from torchinstall.export.inputs import Given
from torchinstall.export.steps import joined, steps, words

__all__ = ["render"]


def render(given: Given) -> str:
    """One command a line; in a shell each must succeed before the next is typed."""
    lines = [
        joined(("python", "-m", "pip", "install", *words(step, given, "pip")), given.target.os)
        for step in steps(given)
    ]
    return "\n".join(lines) + "\n"
