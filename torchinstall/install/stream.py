"""Show a child's stderr as it comes and keep its last words, on a terminal as if the child wrote there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from typing import BinaryIO

__all__ = ["Tee", "plain", "stop"]

_KEPT = 64 * 1024
_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07]*\x07")


def plain(text: str) -> str:
    """Text without terminal codes; of a line that was overwritten in place only its last state."""
    lines = (_ANSI.sub("", line).rstrip("\r").rpartition("\r")[2].rstrip() for line in text.split("\n"))
    return "\n".join(line for line in lines if line)


class Tee:
    """Copy what a child writes to `sink` and remember its end.

    On a terminal the child gets a pseudo-terminal of the same size, so that it draws its progress bars; where
    there is none to be had (Windows), it gets the terminal itself and nothing is remembered.

    Attributes:
        child_end: what `Popen(stderr=…)` takes; closed by `start`.
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
        """File descriptor that the child writes to."""
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
            del self._end[:-_KEPT]
            try:
                self.sink.write(piece)
                self.sink.flush()
            except (OSError, ValueError):
                # Nobody looks any more; the child must still not block on a full pipe.
                continue

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

    def _terminal_like(sink: BinaryIO) -> tuple[int, int]:
        """Both ends of a pseudo-terminal as wide as the sink, that passes bytes through unchanged."""
        import fcntl
        import termios

        ours, childs = os.openpty()
        try:
            size = fcntl.ioctl(sink.fileno(), termios.TIOCGWINSZ, b"\0" * 8)
            fcntl.ioctl(childs, termios.TIOCSWINSZ, size)
            mode = termios.tcgetattr(childs)
            mode[1] &= ~termios.OPOST
            termios.tcsetattr(childs, termios.TCSANOW, mode)
        except OSError:
            # A terminal of unknown size still shows progress.
            return ours, childs
        return ours, childs


def stop(process: subprocess.Popen[bytes], *, grace: float) -> None:
    """End a child: give it time to notice the Ctrl-C that the terminal sent, then ask, then insist.

    A second Ctrl-C ends the patience.
    """
    import signal

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
    except KeyboardInterrupt:
        process.kill()
        process.wait()


def _ended(process: subprocess.Popen[bytes], timeout: float) -> bool:
    try:
        process.wait(timeout)
    except subprocess.TimeoutExpired:
        return False
    return True
