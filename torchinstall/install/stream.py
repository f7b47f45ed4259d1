"""Start a child process: captured, its stderr shown as it comes, or on our own streams.

Imported only where a process is started: `subprocess` is a good part of what a plan costs.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct

from torchinstall.install.signals import leave_on_signals

_REMEMBERED = 64 * 1024
_GRACE = 10.0
"""Seconds that a child may take to end after a Ctrl-C before it is made to."""

_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07]*\x07")


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
        if self.returncode >= 0:
            return f"exit status {self.returncode}"
        try:
            return f"ended by {signal.Signals(-self.returncode).name}"
        except ValueError:
            return f"ended by signal {-self.returncode}"

    @property
    def problem(self) -> str:
        """How it ended, and its last words."""
        last = self.stderr.strip().splitlines()
        return self.ending + (f": {last[-1]}" if last else "")


def plain(text: str) -> str:
    """Text without terminal codes; of a line that was overwritten in place only its last state."""
    lines = (_ANSI.sub("", line).rstrip("\r").rpartition("\r")[2].rstrip() for line in text.split("\n"))
    return "\n".join(line for line in lines if line)


def capture(
    argv: Sequence[str], *, env: Mapping[str, str], cwd: Path | None = None, timeout: float | None = None
) -> Completed:
    """Run a command without stdin and read what it prints.

    Raises:
        OSError: it does not start.
    """
    try:
        done = subprocess.run(
            list(argv),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
            env=dict(env),
            cwd=cwd,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        return Completed(
            returncode=None, stdout=_text(late.stdout), stderr=_text(late.stderr), timeout=timeout
        )
    return Completed(returncode=done.returncode, stdout=_text(done.stdout), stderr=_text(done.stderr))


def _text(data: bytes | None) -> str:
    return (data or b"").decode("utf-8", "replace").replace("\r\n", "\n")


def attach(
    argv: Sequence[str], *, env: Mapping[str, str], cwd: Path | None = None, keep: tuple[int, ...] = ()
) -> Completed:
    """Run a command on our own streams; `keep` are file descriptors that it inherits.

    A Ctrl-C reaches the child too: it is waited for, so that it can clean up.

    Raises:
        OSError: it does not start.
    """
    with subprocess.Popen(list(argv), env=dict(env), cwd=cwd, pass_fds=keep) as process:
        try:
            return Completed(returncode=process.wait())
        except KeyboardInterrupt:
            process.wait()
            raise
        except BaseException:
            _stop(process, _GRACE)
            raise


def stream(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    sink: BinaryIO,
    cwd: Path | None = None,
    keep: tuple[int, ...] = (),
    grace: float = _GRACE,
) -> Completed:
    """Run a command on our stdin; its stderr goes to `sink` as it comes, its stdout is read.

    Args:
        argv: the command.
        env: its environment.
        sink: our stderr. On a terminal the child draws as if it wrote there.
        cwd: its folder.
        keep: file descriptors that it inherits.
        grace: seconds that it may take to end after a Ctrl-C.

    Returns:
        The last words of its stderr without terminal codes; nothing where they went to the terminal itself.

    Raises:
        OSError: it does not start.
        KeyboardInterrupt: after it has ended.
    """
    with leave_on_signals():
        return _stream(argv, env, _Copy(sink), cwd, keep, grace)


def _stream(
    argv: Sequence[str],
    env: Mapping[str, str],
    copy: _Copy,
    cwd: Path | None,
    keep: tuple[int, ...],
    grace: float,
) -> Completed:
    try:
        process = subprocess.Popen(
            list(argv), stdout=subprocess.PIPE, stderr=copy.child_end, env=dict(env), cwd=cwd, pass_fds=keep
        )
    except OSError:
        copy.finish()
        raise
    with process:
        try:
            copy.start()
            printed, _ = process.communicate()
        except BaseException:
            _stop(process, grace)
            copy.finish()
            raise
    return Completed(returncode=process.returncode, stdout=_text(printed), stderr=copy.finish())


class _Copy:
    """Copy what a child writes to `sink` and remember its end.

    On a terminal the child gets a pseudo-terminal of the same size, so that it draws its progress bars; where
    there is none to be had (Windows), it gets the terminal itself and nothing is remembered.
    """

    def __init__(self, sink: BinaryIO) -> None:
        self.sink = sink
        self._end = bytearray()
        self._thread: threading.Thread | None = None
        self._read_fd: int | None = None
        self._write_fd: int | None = None
        if not sink.isatty():
            self._read_fd, self._write_fd = os.pipe()
        elif sys.platform != "win32":
            self._read_fd, self._write_fd = _terminal_like(sink)

    @property
    def child_end(self) -> int:
        """File descriptor that the child writes to; `start` closes it."""
        return self._write_fd if self._write_fd is not None else self.sink.fileno()

    def start(self) -> None:
        """Close our copy of the child's end and begin to copy."""
        if self._write_fd is not None:
            os.close(self._write_fd)
            self._write_fd = None
        if self._read_fd is not None:
            self._thread = threading.Thread(target=self._copy, args=(self._read_fd,), daemon=True)
            self._thread.start()

    def _copy(self, source: int) -> None:
        while True:
            try:
                piece = os.read(source, 65536)
            except OSError:
                # Linux reports the end of a pseudo-terminal as an input/output error.
                return
            if not piece:
                return
            self._end += piece
            del self._end[:-_REMEMBERED]
            # Where nobody reads any more, the child must still not block on a full pipe.
            with suppress(OSError, ValueError):
                self.sink.write(piece)
                self.sink.flush()

    def finish(self, timeout: float = 2.0) -> str:
        """Wait for the last words (grandchildren may hold the other end open) and return them plain."""
        if self._thread is not None:
            self._thread.join(timeout)
        alive = self._thread is not None and self._thread.is_alive()
        for descriptor in (self._write_fd, None if alive else self._read_fd):
            if descriptor is not None:
                os.close(descriptor)
        self._write_fd = self._read_fd = None
        return plain(bytes(self._end).decode("utf-8", "replace"))


if sys.platform != "win32":
    import fcntl
    import termios

    def _terminal_like(sink: BinaryIO) -> tuple[int, int]:
        """Both ends of a pseudo-terminal as wide as the sink, that passes bytes through unchanged."""
        ours, childs = os.openpty()
        # A terminal of unknown size still shows progress.
        with suppress(OSError):
            size = fcntl.ioctl(sink.fileno(), termios.TIOCGWINSZ, b"\0" * 8)
            fcntl.ioctl(childs, termios.TIOCSWINSZ, size)
            mode = termios.tcgetattr(childs)
            mode[1] &= ~termios.OPOST
            termios.tcsetattr(childs, termios.TCSANOW, mode)
        return ours, childs


def _stop(process: subprocess.Popen[bytes], grace: float) -> None:
    """End a child: give it time to notice the Ctrl-C that the terminal sent, then ask, then insist.

    A second Ctrl-C ends the patience.
    """
    try:
        if _ended(process, min(0.5, grace)):
            return
        if sys.platform != "win32":
            process.send_signal(signal.SIGINT)
            if _ended(process, grace):
                return
        process.terminate()
        if not _ended(process, grace):
            process.kill()
            process.wait()
    except BaseException:
        process.kill()
        process.wait()
        raise


def _ended(process: subprocess.Popen[bytes], timeout: float) -> bool:
    try:
        process.wait(timeout)
    except subprocess.TimeoutExpired:
        return False
    return True
