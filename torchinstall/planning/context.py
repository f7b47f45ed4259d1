"""The doors of one run: environment, folder, streams, and what asks the machine, the index and uv.

Built once in `main`; a test builds its own and hands it in, so that nothing needs to be patched.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TextIO

from msgspec import Struct

if TYPE_CHECKING:
    from datetime import date

    from torchinstall.catalog.model import Family
    from torchinstall.install.uv import Uv
    from torchinstall.probe.system import System

__all__ = ["Context", "process_context"]


class Context(Struct, frozen=True, kw_only=True):
    """Everything a run may touch that is not its arguments.

    Attributes:
        env: the environment, never written.
        cwd: where relative paths start.
        system: makes the probe's door to this machine.
        find_uv: finds the uv that installs.
        now: seconds since 1970, for the age of what is known.
        python_version: of the interpreter that runs torchinstall, where no other is named.
        families: packages that move with torch by configuration.
    """

    env: Mapping[str, str]
    cwd: Path
    stdin: TextIO
    stdout: TextIO
    stderr: TextIO
    system: Callable[[Mapping[str, str]], System]
    find_uv: Callable[[Mapping[str, str]], Uv]
    now: Callable[[], float]
    python_version: str
    families: tuple[Family, ...] = ()

    @property
    def stderr_bytes(self) -> BinaryIO:
        """Stderr below its text layer: what a child writes is copied there as it is."""
        buffer: BinaryIO = getattr(self.stderr, "buffer", sys.stderr.buffer)
        return buffer

    def today(self) -> date:
        """The date in UTC."""
        import datetime as dt

        return dt.datetime.fromtimestamp(self.now(), tz=dt.timezone.utc).date()

    def path(self, text: str) -> Path:
        """A path that the user typed."""
        return self.cwd / Path(text).expanduser()


def process_context() -> Context:
    """The context as this process sees it."""
    return Context(
        env=dict(os.environ),
        cwd=Path.cwd(),
        stdin=sys.stdin,
        stdout=sys.stdout,
        stderr=sys.stderr,
        system=_this_machine,
        find_uv=_uv,
        now=time.time,
        python_version=".".join(map(str, sys.version_info[:3])),
    )


def _this_machine(env: Mapping[str, str]) -> System:
    from torchinstall.probe.real import real_system

    return real_system(env)


def _uv(env: Mapping[str, str]) -> Uv:
    from torchinstall.install.uv import find_uv

    return find_uv(env)
