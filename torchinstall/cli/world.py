"""The doors of one run: environment, folder, streams, and what asks the machine, the index and uv.

Built once in `main`; a test builds its own and hands it in, so that nothing needs to be patched.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from torchinstall.probe.system import System

__all__ = ["World", "real_world"]


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Everything a run may touch that is not its arguments.

    Attributes:
        env: the environment, never written.
        cwd: where relative paths start.
        system: makes the probe's door to this machine.
    """

    env: Mapping[str, str]
    cwd: Path
    stdin: TextIO
    stdout: TextIO
    stderr: TextIO
    system: Callable[[Mapping[str, str]], System]

    def path(self, text: str) -> Path:
        """A path that the user typed."""
        return self.cwd / Path(text).expanduser()


def real_world() -> World:
    """The world as this process sees it."""
    return World(
        env=dict(os.environ),
        cwd=Path.cwd(),
        stdin=sys.stdin,
        stdout=sys.stdout,
        stderr=sys.stderr,
        system=_this_machine,
    )


def _this_machine(env: Mapping[str, str]) -> System:
    from torchinstall.probe import real_system

    return real_system(env)
