"""`--format constraints`: exact pins that a later `pip install -c` or `uv pip install -c` cannot move."""

from __future__ import annotations

from torchinstall.export.inputs import Given
from torchinstall.export.resolve import decided

__all__ = ["render"]


def render(given: Given) -> str:
    """A constraints file. The local version in a pin is what keeps another build of the same release out."""
    how = "Give it to every later install: -c constraints.txt"
    lines = [pin.exact if pin.version is not None else pin.by_file for pin in decided(given)]
    return "\n".join([*given.head(how), *lines]) + "\n"
