"""What an unfinished change of an environment leaves behind, for whoever comes next.

Lock, journal and backup lie in `.torchinstall` in the environment, on the file system of its packages. A
wheel could name files there; one that does is refused, and a journal counts for its own environment only.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from torchinstall.core.messages import Message, redact
from torchinstall.install.backup import Backup
from torchinstall.install.distributions import distributions
from torchinstall.install.record import Decision

STATE = ".torchinstall"
"""The folder in an environment that holds what is needed while it changes; it is gone afterwards."""

_NAME = "journal.json"


def real(path: Path | str) -> Path:
    """A path without links and `..`, so that one environment has one lock, whatever it was called."""
    return Path(os.path.realpath(path))


def state_folder(prefix: Path) -> Path:
    """Where an environment keeps its lock and what it may need to go back."""
    return prefix / STATE


class Owner(Struct, frozen=True, kw_only=True):
    """A process.

    Attributes:
        started: its start time, which tells it from a later process with the same number.
        command: as it was typed, without credentials.
    """

    pid: int
    started: float
    command: str
    host: str = ""

    @classmethod
    def here(cls) -> Owner:
        """This process."""
        pid = os.getpid()
        return cls(pid=pid, started=_started(pid) or 0.0, command=_command(pid), host=socket.gethostname())

    @property
    def alive(self) -> bool:
        """Whether it still runs on this host."""
        started = _started(self.pid) if self.host == socket.gethostname() else None
        return started is not None and abs(started - self.started) < 1.0

    def __str__(self) -> str:
        return f"process {self.pid}, {self.command}"


def _command(pid: int) -> str:
    """What a process was started with, as the system has it, from our own name on."""
    import psutil  # as below

    words = psutil.Process(pid).cmdline()
    ours = next((at for at, word in enumerate(words) if "torchinstall" in Path(word).parts[-2:]), 0)
    return shlex.join(["torchinstall", *(redact(word) for word in words[ours + 1 :])])


def _started(pid: int) -> float | None:
    import psutil  # only who changes an environment, or meets somebody who does, asks

    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return None


class Journal(Struct, frozen=True, kw_only=True):
    """What is about to happen to an environment; written before it does.

    Attributes:
        begun: seconds since 1970.
        created: the environment itself is new.
        due: name -> version of what will be there in the end, None: gone; None: nobody knows yet.
        backup: what was installed, and where its files are kept.
        decision: to be recorded in the environment with the end of the change.
    """

    owner: Owner
    begun: float
    prefix: Path
    created: bool = False
    due: dict[str, str | None] | None = None
    backup: Backup | None = None
    decision: Decision | None = None

    @contextlib.contextmanager
    def open(self) -> Iterator[tuple[int, ...]]:
        """Write it to disk; yields what a child has to inherit so that `uv_ended` waits for it too.

        Raises:
            OSError: it cannot be written.
        """
        folder = state_folder(self.prefix)
        new = folder / f"{_NAME}.new"
        with new.open("wb") as file:
            file.write(msgspec.json.encode(self, enc_hook=str))
            file.flush()
            os.fsync(file.fileno())
        new.replace(folder / _NAME)
        _sync_folder(folder)
        with (folder / _NAME).open("rb") as file:
            _lock_file(file.fileno())
            yield (file.fileno(),) if sys.platform != "win32" else ()


def read_journal(prefix: Path) -> Journal | None:
    """The journal of a change that is under way or was cut off; None where there is none.

    One that a package brought, or that speaks of another environment, is none.
    """
    path = state_folder(prefix) / _NAME
    try:
        journal = msgspec.json.decode(path.read_bytes(), type=Journal, dec_hook=_path)
    except (OSError, ValueError, TypeError):
        return None
    if journal.prefix != prefix or (journal.backup is not None and not journal.backup.stays_in(prefix)):
        return None
    sites = journal.backup.sites if journal.backup is not None else ()
    brought = any(dist.brings(path) for dist in distributions(sites))
    return None if brought else journal


def unfinished(prefix: Path) -> Message | None:
    """What somebody who only reads has to be told of a change that has not come to its end."""
    journal = read_journal(real(prefix))
    if journal is None:
        return None
    if journal.owner.alive or not uv_ended(journal.prefix, wait=False):
        return Message("environment-busy", f"the environment is being changed right now: {journal.owner}")
    text = (
        f"a run that changed this environment was killed ({journal.owner}); torchinstall auto or "
        "torchinstall doctor --fix puts that right first"
    )
    return Message("interrupted-install", text)


def remove_journal(prefix: Path) -> None:
    """The change has come to its end."""
    for name in (_NAME, f"{_NAME}.new"):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            (state_folder(prefix) / name).unlink()


def uv_ended(prefix: Path, *, wait: bool) -> bool:
    """Whether nobody works for this journal any more: a uv may outlive the run that started it."""
    if sys.platform == "win32":
        return True
    try:
        with (state_folder(prefix) / _NAME).open("rb") as file:
            _lock_file(file.fileno(), wait=wait)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


if sys.platform == "win32":

    def _lock_file(number: int, *, wait: bool = True) -> None:
        del number, wait  # there an ended run takes its uv with it, or the files are in use

    def _sync_folder(path: Path) -> None:
        """Windows writes folders by itself."""

else:
    import fcntl

    def _lock_file(number: int, *, wait: bool = True) -> None:
        fcntl.flock(number, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))

    def _sync_folder(path: Path) -> None:
        """Bring the names in a folder to disk."""
        number = os.open(path, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def _path(kind: type, value: Any) -> Any:
    return kind(value)
