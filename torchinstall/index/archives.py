"""Look into a wheel as the zip file that it is; one on a server is read by parts, never whole.

A zip file has its table of contents at the end, so a few ranges of bytes say which members there are.
"""

from __future__ import annotations

import contextlib
import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

from torchinstall.index.faults import MOST_BYTES

if TYPE_CHECKING:
    from torchinstall.index.client import Client

_BLOCK = 16 << 10
_MOST = 1 << 20
"""The most that one request asks for."""


class RangeFile(io.RawIOBase):
    """A remote file as one that can be read anywhere: blocks are fetched when they are needed, and kept.

    Args:
        size: of the file.
        fetch: (first byte, number of bytes) -> exactly those bytes.

    Attributes:
        ahead: how much one request asks for at most; pieces grow up to that while a file is read on.
        transferred: bytes that came over the network.
    """

    def __init__(self, size: int, fetch: Callable[[int, int], bytes]) -> None:
        self.size = size
        self.ahead = min(max(size // 512, _BLOCK), _MOST)
        self.transferred = 0
        self._fetch = fetch
        self._at = 0
        self._blocks: dict[int, bytes] = {}
        self._next, self._pieces = -1, 1

    def seekable(self) -> bool:
        """Always."""
        return True

    def readable(self) -> bool:
        """Always."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """As of any file."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def tell(self) -> int:
        """As of any file."""
        return self._at

    def read(self, size: int = -1) -> bytes:
        """As of any file; shorter only at the end."""
        end = self.size if size < 0 else min(self.size, self._at + size)
        parts = []
        while self._at < end:
            number, skip = divmod(self._at, _BLOCK)
            block = self._block(number, end)[skip : skip + end - self._at]
            parts.append(block)
            self._at += len(block)
        return b"".join(parts)

    def _block(self, number: int, end: int) -> bytes:
        if number not in self._blocks:
            # Read on where the last request ended: the further, the larger the piece.
            self._pieces = min(self._pieces * 2, self.ahead // _BLOCK) if number == self._next else 1
            start = number * _BLOCK
            length = max(self._pieces * _BLOCK, -(-(end - start) // _BLOCK) * _BLOCK)
            length = min(length, self.ahead // _BLOCK * _BLOCK, self.size - start)
            data = self._fetch(start, length)
            if len(data) != length:
                raise OSError(f"the server sent {len(data)} bytes instead of {length}")
            self.transferred += length
            for offset in range(0, length, _BLOCK):
                self._blocks[number + offset // _BLOCK] = data[offset : offset + _BLOCK]
            self._next = number + -(-length // _BLOCK)
        return self._blocks[number]


def remote_file(
    client: Client, url: str, *, size: int | None = None, deadline: float | None = None
) -> RangeFile:
    """A file on a server, which says the size where nobody else did.

    Raises:
        FetchError: also while it is read; `no-ranges` where the server does not send parts of a file.
    """
    if size is None:
        _, size = client.part(url, 0, 1, deadline)
    return RangeFile(size, lambda start, length: client.part(url, start, length, deadline)[0])


@contextlib.contextmanager
def open_wheel(file: Path | RangeFile) -> Iterator[zipfile.ZipFile]:
    """A wheel that is here, or on a server.

    Raises:
        ValueError: it is no zip file, or something in it cannot be read.
    """
    try:
        with zipfile.ZipFile(cast("Path", file)) as wheel:
            yield wheel
    except (zipfile.BadZipFile, KeyError, EOFError, RuntimeError, struct.error, zlib.error) as error:
        raise ValueError(str(error)) from error


def member(wheel: zipfile.ZipFile, ending: str) -> str:
    """The member whose path ends so, `/torch/version.py`.

    Raises:
        ValueError: there is none.
    """
    found = next((name for name in wheel.namelist() if f"/{name}".endswith(ending)), None)
    if found is None:
        raise ValueError(f"it has no {ending.rpartition('/')[2]}")
    return found


def member_text(file: Path | RangeFile, ending: str, most: int) -> str:
    """A small member of a wheel.

    Raises:
        ValueError: it is no wheel, or the member is not there or larger than so many bytes.
    """
    with open_wheel(file) as wheel:
        name = member(wheel, ending)
        if wheel.getinfo(name).file_size > most:
            raise ValueError(f"{name} is too large")
        return wheel.read(name).decode("utf-8", "replace")


def unpacked_size(file: Path | RangeFile) -> int | None:
    """Of all members of a wheel, by its table of contents; None for what is no wheel."""
    try:
        with open_wheel(file) as wheel:
            return min(sum(info.file_size for info in wheel.infolist()), MOST_BYTES)
    except ValueError:
        return None
