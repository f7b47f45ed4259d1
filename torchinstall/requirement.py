"""What was asked for, one by one: requirements as `packaging` reads them, and bare names.

Most requests are names and nothing else, `torch torchvision`. For those the parser need not be loaded: with
all that it brings along it takes a seventh of a plan.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Union

if TYPE_CHECKING:
    from packaging.requirements import Requirement

__all__ = ["BareName", "Wanted", "canonical_name", "requirement"]

Wanted = Union["Requirement", "BareName"]

_BARE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")


class BareName:
    """A requirement that bounds nothing; what it has is read as from `packaging.requirements.Requirement`."""

    __slots__ = ("name",)

    extras: frozenset[str] = frozenset()
    url: str | None = None
    marker: None = None

    def __init__(self, name: str) -> None:
        self.name = name

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"<{type(self).__name__}({self.name!r})>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BareName) and canonical_name(self.name) == canonical_name(other.name)

    def __hash__(self) -> int:
        return hash(canonical_name(self.name))


def requirement(text: str) -> Wanted:
    """Parse one requirement (PEP 508).

    Raises:
        packaging.requirements.InvalidRequirement: it does not parse.
    """
    bare = text.strip()
    if _BARE.fullmatch(bare):
        return BareName(bare)
    from packaging.requirements import Requirement

    return Requirement(text)


def canonical_name(name: str) -> str:
    """A project name as indexes spell it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()
