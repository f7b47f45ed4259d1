"""What a verb is handed: the doors of this run and where it speaks."""

from __future__ import annotations

from torchinstall.cli.console import Console
from torchinstall.cli.world import World
from torchinstall.values import dataclass

__all__ = ["Session"]


@dataclass(frozen=True, slots=True)
class Session:
    """One run of the command line."""

    world: World
    console: Console
