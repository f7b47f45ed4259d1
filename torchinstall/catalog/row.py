"""What every row of a table is, whatever it says."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

Confidence = Literal["high", "medium", "low"]

Text = Annotated[str, Meta(min_length=1)]


class Row(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A row of a table; one that lacks a column without a default, or has an unknown one, is refused."""
