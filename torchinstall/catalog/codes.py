"""Which GPU code a build carries: the row of its release, or the nearest one, said to be assumed."""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache
from typing import TYPE_CHECKING

from packaging.version import InvalidVersion, Version

from torchinstall.catalog.model import Code
from torchinstall.core.versions import Dotted, dotted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from torchinstall.catalog.model import BackendInfo

__all__ = ["CodeIndex"]


class CodeIndex:
    """The rows of `code.json` by backend and platform.

    Args:
        rows: of the table.
        backend: says what a backend's name means.
    """

    def __init__(self, rows: Iterable[Code], backend: Callable[[str], BackendInfo | None]) -> None:
        self._backend = backend
        self._rows: dict[tuple[str, str], dict[str, Code]] = defaultdict(dict)
        for row in rows:
            self._rows[row.backend, row.platform][row.torch] = row

    def find(self, torch: str, backend: BackendInfo, platform: str) -> Code | None:
        """What a build carries; the nearest known row (and `assumed` says which) where none is exact.

        A release newer than the table takes the newest row of its backend, an unknown backend the newest
        row of its toolkit's major version. None: nothing is known that could be assumed.
        """
        minor = _minor(torch)
        rows = self._rows.get((backend.name, platform), {})
        if exact := rows.get(minor):
            return exact
        nearest = _nearest(rows, minor) or self._of_major(backend, platform, minor)
        if nearest is None:
            return None
        return Code(
            torch=minor,
            backend=backend.name,
            platform=platform,
            native=nearest.native,
            ptx=nearest.ptx,
            source=nearest.source,
            confidence="low",
            assumed=f"torch {nearest.torch} {nearest.backend}",
        )

    def _of_major(self, backend: BackendInfo, platform: str, minor: str) -> Code | None:
        if backend.toolkit is None:
            return None
        relatives: list[tuple[Dotted, str]] = []
        for name, key_platform in self._rows:
            info = self._backend(name)
            if (
                key_platform == platform
                and info is not None
                and info.kind.kind == backend.kind.kind
                and info.toolkit is not None
                and info.toolkit[0] == backend.toolkit[0]
            ):
                relatives.append((info.toolkit, name))
        for _, name in sorted(relatives, reverse=True):
            if row := _nearest(self._rows[name, platform], minor):
                return row
        return None


@lru_cache(maxsize=512)
def _minor(torch: str) -> str:
    try:
        version = Version(torch)
    except InvalidVersion:
        return torch
    return f"{version.major}.{version.minor}"


def _nearest(rows: Mapping[str, Code], minor: str) -> Code | None:
    """The newest row not newer than `minor`, else the oldest one."""
    if not rows:
        return None
    wanted = dotted(minor)
    older = [key for key in rows if dotted(key) <= wanted]
    return rows[max(older, key=dotted)] if older else rows[min(rows, key=dotted)]
