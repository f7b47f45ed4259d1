"""The one type for everything that is said to a person and can be searched for by its slug."""

from __future__ import annotations

from msgspec import Struct

__all__ = ["Message"]


class Message(Struct, frozen=True):
    """A warning or a note: a stable kebab-case name, and one sentence without a full stop."""

    slug: str
    message: str
