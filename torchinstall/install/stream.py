"""Start a child process that a person watches: its stderr shown as it comes, or on our own streams."""

from __future__ import annotations

import codecs
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, BinaryIO

from typing_extensions import Self

from torchinstall.core.messages import printable, redact
from torchinstall.core.processes import Completed, decoded
from torchinstall.install.signals import deferred_signals, leave_on_signals

if sys.platform != "win32":
    import fcntl
    import termios

_REMEMBERED = 64 * 1024
_GRACE = 10.0
"""Seconds that a child may take to end after a Ctrl-C before it is made to."""

_UNFINISHED = re.compile(
    r"(?:\x1b(?:\[[0-?]*[ -/]*|[\]PX^_][^\x07\x1b\n]{0,4096}\x1b?)?|[A-Za-z]{1,10}://[^\s\x1b]{0,4096})\Z"
)
"""A terminal code or a URL whose rest comes with the next piece."""


def plain(text: str) -> str:
    """Text without terminal codes; of a line that was overwritten in place only its last state."""
    lines = (printable(line.rstrip("\r").rpartition("\r")[2]).rstrip() for line in text.split("\n"))
    return "\n".join(line for line in lines if line)


def attach(argv: Sequence[str], *, env: Mapping[str, str], cwd: Path | None = None) -> Completed:
    """Run a command on our own streams; a Ctrl-C reaches it too, and it is waited for.

    Raises:
        OSError: it does not start.
    """
    with ExitStack() as stack:
        process = _started(stack, _GRACE, argv, env=env, cwd=cwd)
        try:
            return Completed(returncode=process.wait())
        except KeyboardInterrupt:
            process.wait()
            raise


def stream(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    sink: BinaryIO,
    cwd: Path | None = None,
    inherited: tuple[int, ...] = (),
    grace: float = _GRACE,
) -> Completed:
    """Run a command on our stdin; its stderr goes to `sink` as it comes, its stdout is read.

    On a terminal it draws as if it wrote there. It inherits the files `inherited`, and may take `grace`
    seconds to end after a Ctrl-C. Of its stderr the last words are returned, without terminal codes.

    Raises:
        OSError: it does not start.
        KeyboardInterrupt: after it has ended.
    """
    with leave_on_signals(), _Copy(sink) as copy, ExitStack() as stack:
        ends: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": copy.child_end, "pass_fds": inherited}
        process = _started(stack, grace, argv, env=env, cwd=cwd, **ends)
        copy.start()
        printed = _printed(process)
        return Completed(returncode=process.returncode, stdout=decoded(printed), stderr=copy.finish())


def _started(stack: ExitStack, grace: float, argv: Sequence[str], **how: Any) -> subprocess.Popen[bytes]:
    """Start a child that `stack` ends if anything goes wrong: one that nobody knows of would outlive us."""
    with deferred_signals():
        process = stack.enter_context(subprocess.Popen(argv, **how))
        stack.push(lambda kind, *_: None if kind is None else _stop(process, grace))
    return process


def _printed(process: subprocess.Popen[bytes]) -> bytes:
    """What a child prints until it ends.

    A signal that comes right before a wait is only seen when that returns, so no wait is long.
    """
    while True:
        with suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=1.0)[0]


class _Copy:
    """Copy what a child writes to `sink`, but for what a terminal would obey, and remember its end.

    On a terminal the child gets a pseudo-terminal of the same size, so that it draws its progress bars; where
    there is none to be had (Windows), it gets the terminal itself and nothing is remembered.
    """

    def __init__(self, sink: BinaryIO) -> None:
        self._sink = sink
        self._end = ""
        self._thread: threading.Thread | None = None
        self._ends: list[int] = []
        if not sink.isatty():
            self._ends += os.pipe()
        elif sys.platform != "win32":
            self._ends += _terminal_like(sink)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.finish()

    @property
    def child_end(self) -> int:
        """File descriptor that the child writes to; `start` closes it."""
        return self._ends[1] if self._ends else self._sink.fileno()

    def start(self) -> None:
        """Close our copy of the child's end and begin to copy; a half-started thread could not be joined."""
        if self._ends:
            with deferred_signals():
                os.close(self._ends.pop())
                self._thread = threading.Thread(target=self._copy, args=self._ends, daemon=True)
                self._thread.start()

    def _copy(self, source: int) -> None:
        decoder, rest, piece = codecs.getincrementaldecoder("utf-8")("replace"), "", b" "
        while piece:
            try:
                piece = os.read(source, 65536)
            except OSError:  # Linux reports the end of a pseudo-terminal as an input/output error
                piece = b""
            text = rest + decoder.decode(piece, not piece)
            cut = _UNFINISHED.search(text) if piece else None
            text, rest = (text[: cut.start()], cut.group()) if cut else (text, "")
            self._end = (self._end + text)[-_REMEMBERED:]
            # Where nobody reads any more, the child must still not block on a full pipe.
            with suppress(OSError, ValueError):
                self._sink.write(redact(printable(text, drawing=True)).encode("utf-8", "replace"))
                self._sink.flush()

    def finish(self) -> str:
        """Wait for the last words (grandchildren may hold the other end open) and return them plain."""
        if self._thread is not None:
            self._thread.join(2.0)
        if self._thread is None or not self._thread.is_alive():
            while self._ends:
                os.close(self._ends.pop())
        return plain(self._end)


if sys.platform != "win32":

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
    asked = (None, signal.SIGTERM) if sys.platform == "win32" else (None, signal.SIGINT, signal.SIGTERM)
    try:
        for number in asked:
            if number is not None:
                process.send_signal(number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(min(0.5, grace) if number is None else grace)
                return
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
