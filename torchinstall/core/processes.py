"""Start a child process, read what it prints, and wait no longer for it than it was given.

Imported only where a process is started: `subprocess` is a good part of what a plan costs.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from torchinstall.core.messages import exit_name

_LAST_WORDS = 0.1
"""Seconds that a child which was killed may take to end."""


class Completed(Struct, frozen=True, kw_only=True):
    """How a process ended and what it printed.

    Attributes:
        returncode: negative: the signal that ended it; None: it was stopped because it took too long.
        timeout: seconds that it was given.
    """

    returncode: int | None
    stdout: str = ""
    stderr: str = ""
    timeout: float | None = None

    @property
    def ending(self) -> str:
        """How it ended, as a person says it."""
        if self.returncode is None:
            return f"no answer within {self.timeout:g} s"
        return f"{'ended by ' * (self.returncode < 0)}{exit_name(self.returncode)}"

    @property
    def problem(self) -> str:
        """How it ended, and its last words."""
        last = self.stderr.strip().splitlines()
        return self.ending + (f": {last[-1]}" if last else "")


def capture(
    argv: Sequence[str], *, env: Mapping[str, str], cwd: Path | None = None, timeout: float | None = None
) -> Completed:
    """Run a command without stdin and read what it prints.

    Raises:
        OSError: it does not start.
    """
    return completed(start(argv, env=env, cwd=cwd), timeout)


def start(argv: Sequence[str], *, env: Mapping[str, str], cwd: Path | None = None) -> subprocess.Popen[bytes]:
    """Start a command without stdin; `completed` waits for it.

    Raises:
        OSError: it does not start.
    """
    pipe = subprocess.PIPE
    return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, env=env, cwd=cwd)


def completed(process: subprocess.Popen[bytes], timeout: float | None = None) -> Completed:
    """How a command of `start` ended, or that it took too long; what it printed by then is kept."""
    try:
        printed, said = process.communicate(timeout=timeout)
        return Completed(returncode=process.returncode, stdout=decoded(printed), stderr=decoded(said))
    except subprocess.TimeoutExpired:
        process.kill()
    except BaseException:
        with process:
            process.kill()
        raise
    try:
        printed, said = process.communicate(timeout=_LAST_WORDS)
    except subprocess.TimeoutExpired as late:
        # A grandchild keeps the pipe open, or the process is stuck inside the kernel: leave it behind.
        printed, said = late.stdout or b"", late.stderr or b""
        for pipe in filter(None, (process.stdout, process.stderr)):
            pipe.close()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_LAST_WORDS)
    return Completed(returncode=None, stdout=decoded(printed), stderr=decoded(said), timeout=timeout)


def decoded(data: bytes) -> str:
    """What a child prints, with plain ends of lines."""
    return data.decode("utf-8", "replace").replace("\r\n", "\n")
