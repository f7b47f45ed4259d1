"""One run at a time in an environment: the others wait, or are told that it is busy."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from torchinstall.core.decoding import load, store
from torchinstall.core.errors import InstallFailedError
from torchinstall.core.files import cannot_write, real_path
from torchinstall.install.environment import STATE
from torchinstall.install.journal import Owner, ended, free, read_journal, recover

if TYPE_CHECKING:
    from filelock import FileLock
    from typing_extensions import Self

_LOCK = "lock"
_OWNER = "owner.json"


class EnvironmentLock:
    """The right to change environments; given back at the end of the `with` block.

    Args:
        wait: for another run to finish; otherwise its presence is an error.
        tell: is told what is waited for, and what became of a run that was killed.
    """

    def __init__(self, *, wait: bool, tell: Callable[[str], None]) -> None:
        self._wait = wait
        self._tell = tell
        self._held: dict[Path, FileLock | None] = {}
        self._made: list[Path] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        """Give everything back and leave no folder of ours behind."""
        for prefix, lock in self._held.items():
            folder = prefix / STATE
            # Whoever waits on the file that goes here notices (`_acquire`) and makes a new one.
            with contextlib.suppress(OSError):
                (folder / _OWNER).unlink(missing_ok=True)
                (folder / _LOCK).unlink(missing_ok=True)
            if lock is not None:
                lock.release()
            self._made.append(folder)
        for folder in reversed(self._made):
            with contextlib.suppress(OSError):
                folder.rmdir()

    def take_if_writable(self, prefix: Path) -> None:
        """As `take`, where this user may make our folder; elsewhere nobody can be in the way."""
        place = next(folder for folder in (prefix, *prefix.parents) if folder.exists())
        if place.is_dir() and os.access(place, os.W_OK):
            self.take(prefix)

    def take(self, prefix: Path) -> bool:
        """Make an environment ours, and put right what a run that was killed left in it.

        Returns:
            Whether somebody else changed it, or left a change to put right: look at it again.

        Raises:
            InstallFailedError: `environment-busy`.
            PermissionError: there is no right to write there.
            UsageError: `cannot-write`: something lies in the way.
        """
        prefix = real_path(prefix)
        if prefix in self._held:
            return False
        try:
            return self._taken(prefix)
        except (BrokenPipeError, PermissionError):
            raise
        except OSError as error:
            place = prefix / STATE
            raise cannot_write(place, error, f"look into it, then remove it: {place}") from error

    def _taken(self, prefix: Path) -> bool:
        if (prefix / STATE).is_symlink():
            raise OSError(errno.ELOOP, "it leads elsewhere")
        waited = self._acquire(prefix)
        store(prefix / STATE / _OWNER, Owner.here())
        left = read_journal(prefix)
        if not ended(prefix):
            holder = "the uv of a run that was ended"
            if left is not None and self._held[prefix] is None:
                holder = str(left.owner)
            self._meet(prefix, holder)
            while not ended(prefix):
                time.sleep(0.1)
        recover(prefix, self._tell)
        return waited or left is not None

    def _acquire(self, prefix: Path) -> bool:
        from filelock import FileLock, Timeout  # most runs change nothing

        path = prefix / STATE / _LOCK
        waited = False
        while True:
            self._made += reversed([folder for folder in (prefix, *prefix.parents) if not folder.exists()])
            path.parent.mkdir(parents=True, exist_ok=True)
            # A lock that outlives its file, or a file that is not the one locked, protects nothing.
            try:
                path.touch()
                if sys.platform != "win32" and free(path) is None:
                    self._tell(
                        f"the file system of {prefix} has no locks: let no other run change it meanwhile"
                    )
                    self._held[prefix] = None
                    return waited
                before = path.stat().st_ino
                lock = FileLock(path)
                try:
                    lock.acquire(timeout=0)
                except Timeout:
                    if not waited:
                        holder = load(prefix / STATE / _OWNER, Owner)
                        self._meet(prefix, str(holder or "another run"))
                    waited = True
                    lock.acquire(poll_interval=0.1)
                if path.stat().st_ino == before or sys.platform == "win32":
                    self._held[prefix] = lock
                    return waited
                lock.release()
            except FileNotFoundError:
                continue

    def _meet(self, prefix: Path, holder: str) -> None:
        if not self._wait:
            raise InstallFailedError(
                "environment-busy",
                f"another run is changing the environment {prefix}",
                wanted="an environment that nobody else is changing",
                found=holder,
                hints=("run the same command again when it has finished, or omit --no-wait to wait for it",),
            )
        self._tell(f"waiting for {holder} to finish with {prefix}")
