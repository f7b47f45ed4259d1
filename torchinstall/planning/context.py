"""What a run may touch besides its arguments: environment, folder, streams, machine, uv and clock.

Built once in `main`; a test builds its own and hands it in, so that nothing needs to be patched.
"""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO

from msgspec import Struct

from torchinstall.core.errors import UsageError
from torchinstall.core.files import parse_toml, read_text, user_path

if TYPE_CHECKING:
    from torchinstall.catalog.model import Family
    from torchinstall.install.uv import Uv
    from torchinstall.probe.system import System


class Context(Struct, frozen=True, kw_only=True):
    """Everything a run may touch that is not its arguments.

    Attributes:
        env: the environment, never written.
        cwd: where relative paths start.
        system: gives the probe access to this machine.
        find_uv: finds the uv that installs.
        now: seconds since 1970, for the age of what is known.
        python_version: of the interpreter that runs torchinstall, where no other is named.
        families: packages that move with torch by configuration.
        working: told what begins and may take a while.
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
    working: Callable[[str], object] = str

    @property
    def stderr_bytes(self) -> BinaryIO:
        """Stderr below its text layer: what a child writes is copied there as it is."""
        buffer: BinaryIO = getattr(self.stderr, "buffer", sys.stderr.buffer)
        return buffer

    def today(self) -> dt.date:
        """The date in UTC."""
        return dt.datetime.fromtimestamp(self.now(), tz=dt.timezone.utc).date()

    def path(self, text: str) -> Path:
        """A path that the user typed."""
        return user_path(self.cwd, text)


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        UsageError: it cannot be read or is not TOML.
    """
    try:
        return parse_toml(read_text(path))
    except ValueError as error:
        raise UsageError(
            "bad-config",
            f"{path} is not valid TOML: {error}",
            hints=("correct the file, or ignore it with --no-config",),
        ) from error
    except OSError as error:
        raise UsageError(
            "bad-config",
            f"{path} cannot be read: {error.strerror}",
            hints=("correct the file or its permissions, or ignore it with --no-config",),
        ) from error
