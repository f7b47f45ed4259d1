"""What a verb is handed: the doors of this run and where it speaks."""

from __future__ import annotations

from msgspec import Struct

from torchinstall.cli.console import Console
from torchinstall.planning.context import Context

__all__ = ["Session"]


class Session(Struct, frozen=True):
    """One run of the command line."""

    context: Context
    console: Console
