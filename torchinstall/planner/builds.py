"""The builds that exist for a platform: torch's wheels grouped by release and backend."""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache
from typing import TYPE_CHECKING

from msgspec import Struct
from packaging.version import InvalidVersion, Version

if TYPE_CHECKING:
    from torchinstall.catalog.catalog import Catalog
    from torchinstall.catalog.model import BackendInfo, Wheels
    from torchinstall.core.target import Target

__all__ = ["Build", "builds", "fitting", "version_key"]

_ORIGINS = {"find-links": 0, "index": 1, "vendor": 2, "default": 3}
"""Which source of one and the same build is taken: what lies here already comes first."""


class Build(Struct, frozen=True):
    """torch of one release for one backend: what a candidate is before it is judged."""

    torch: str
    version: Version
    backend: BackendInfo
    wheels: tuple[Wheels, ...]

    @property
    def order(self) -> tuple[Version, tuple[int, ...]]:
        """Newest first when sorted in reverse."""
        return self.version, self.backend.toolkit or ()


@lru_cache(maxsize=2048)
def version_key(text: str) -> Version:
    """A version for ordering; what is not PEP 440 sorts before everything."""
    try:
        return Version(text)
    except InvalidVersion:
        return Version("0")


def builds(catalog: Catalog, target: Target, channel: str) -> tuple[Build, ...]:
    """Every build for the target's platform, newest first.

    On macOS torch comes from the default index (design, rule 9); elsewhere from the PyTorch index and from
    local folders, and from the default index only when the catalog says that it has to stand in.
    """
    cache = catalog.scratch
    key = ("builds", target.os, target.platform, channel)
    if key not in cache:
        cache[key] = _group(catalog, target, channel)
    found: tuple[Build, ...] = cache[key]
    return found


def _group(catalog: Catalog, target: Target, channel: str) -> tuple[Build, ...]:
    grouped: dict[tuple[str, str], list[Wheels]] = defaultdict(list)
    for row in catalog.wheels("torch", target.platform):
        if _counts(row, catalog, target, channel):
            grouped[row.version, row.backend].append(row)
    found: list[Build] = []
    for (torch, name), rows in grouped.items():
        backend = catalog.backend(name)
        if backend is not None:
            found.append(Build(torch, version_key(torch), backend, tuple(rows)))
    return tuple(sorted(found, key=lambda build: build.order, reverse=True))


def _counts(row: Wheels, catalog: Catalog, target: Target, channel: str) -> bool:
    if row.origin == "find-links":
        return True
    if row.channel != channel:
        return False
    if target.os == "macos":
        return row.origin == "default"
    if row.origin == "default":
        return catalog.index_down
    return not catalog.index_down


def fitting(rows: tuple[Wheels, ...], tags: frozenset[str]) -> tuple[Wheels, ...]:
    """The rows with a file for these `python-abi` tags, the best source first."""
    found = [row for row in rows if not tags.isdisjoint(row.tags)]
    return tuple(sorted(found, key=lambda row: (_ORIGINS[row.origin], row.platform_tag == "any")))
