"""Look facts up: the shipped tables with live index pages and local wheels laid over them.

The planner asks `Catalog` and nothing else. It is pure once its tables are loaded (lazily, each file when it
is first needed).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import cached_property, lru_cache
from itertools import chain
from pathlib import Path
from typing import TypeVar

from msgspec import structs

from torchinstall.catalog.model import (
    Advice,
    BackendInfo,
    Code,
    Companion,
    Family,
    Floor,
    GpuFact,
    GpuService,
    Memo,
    Wheels,
)
from torchinstall.catalog.stack import CompanionBuild, Grammar, Place
from torchinstall.catalog.tables import PageKey, Tables, platform_of
from torchinstall.core.versions import dotted, dotted_or_none, version_text

R = TypeVar("R", Companion, CompanionBuild)


def load_catalog(directory: Path | None = None, *, families: tuple[Family, ...] = ()) -> Catalog:
    """A catalog of the shipped tables, or of those in `directory`. Nothing is read yet.

    `families` are packages that a configuration file adds.
    """
    return Catalog(Tables(directory, added=families))


class Catalog(Memo, frozen=True, eq=False):
    """The tables with live pages and local wheels on top.

    Attributes:
        live: pages of the index that were read; each replaces what the tables say of that page.
        local: wheels from `--find-links` folders.
        hashes: sha256 of wheels seen on live pages or in folders, by file name.
        index_down: the PyTorch index cannot be used, so that only local folders and the default index serve.
        folders_only: nothing of the tables counts, because no index can be used, or only a vendor's.
        vendor: the rows of the vendor's index that builds come from.
        live_code: GPU code that an index itself says its wheels have; it counts before the tables.
        built: builds of companions as their places list them today; they replace those of the tables.
    """

    tables: Tables
    live: Mapping[PageKey, tuple[Wheels, ...]] = {}
    local: tuple[Wheels, ...] = ()
    hashes: Mapping[str, str] = {}
    index_down: bool = False
    folders_only: bool = False
    vendor: tuple[Advice, ...] = ()
    live_code: tuple[Code, ...] = ()
    built: Mapping[str, tuple[CompanionBuild, ...]] = {}

    def overlay(self, live: Mapping[PageKey, tuple[Wheels, ...]], hashes: Mapping[str, str]) -> Catalog:
        """The same catalog with more live pages."""
        return structs.replace(self, live={**self.live, **live}, hashes={**self.hashes, **hashes})

    @cached_property
    def vendor_ranks(self) -> Mapping[str, int]:
        """Vendor -> its place among the vendors of one machine; the lowest wins."""
        return {kind.vendor: kind.rank for kind in self.tables.kinds if kind.vendor is not None}

    def backend(self, name: str) -> BackendInfo | None:
        """What a backend's name says, also for one that no table knows yet; None: not a backend name."""

        def parse() -> BackendInfo | None:
            for kind in self.tables.kinds:
                if match := re.fullmatch(kind.pattern, name):
                    toolkit = tuple(map(int, filter(None, match.groups())))
                    return BackendInfo(name, kind, toolkit or None, self.tables.retired.get(name))
            return None

        return self.once(("backend", name), parse)

    def known_backends(self) -> tuple[str, ...]:
        """Every backend with a build of torch here, in the order of the tables, live ones last."""
        names = dict.fromkeys(row.backend for rows in self._by_package["torch"].values() for row in rows)
        return tuple(names)

    @cached_property
    def _by_package(self) -> Mapping[str, dict[str, list[Wheels]]]:
        """Rows by package and platform key, with the live overlay applied."""
        index: dict[str, dict[str, list[Wheels]]] = defaultdict(lambda: defaultdict(list))
        read, shipped = self.live, () if self.folders_only else self.tables.wheels
        if read:
            # The pages of the default index hold every backend.
            shipped = tuple(
                row
                for row in shipped
                if (row.package, row.backend if row.origin == "index" else "") not in read
            )
        for row in chain(shipped, *read.values(), self.local):
            key = platform_of(row.platform_tag)
            if key is not None:
                index[row.package][key].append(row)
        return index

    def wheels(self, package: str, platform: str) -> tuple[Wheels, ...]:
        """All wheels of a package for a platform key (`linux_x86_64`), pure ones (`any`) included."""
        rows = self._by_package.get(package, {})
        return (*rows.get(platform, ()), *rows.get("any", ()))

    def platforms(self, package: str, version: str) -> set[str]:
        """The platform keys for which the default index has files of a version."""
        rows = self._by_package.get(package, {}).items()
        files = ((key, row) for key, found in rows for row in found if row.version == version)
        return {key for key, row in files if row.origin == "default"}

    @cached_property
    def _code(self) -> Mapping[tuple[str, str], dict[str, Code]]:
        """Rows of `code.json` by backend and platform, then by torch minor release."""
        index: dict[tuple[str, str], dict[str, Code]] = defaultdict(dict)
        for row in (*self.tables.code, *self.live_code):
            index[row.backend, row.platform][row.torch] = row
        return index

    def code(self, torch: str, backend: BackendInfo, platform: str) -> Code | None:
        """What a build contains; the nearest known row (and `assumed` says which) where none is exact.

        A release newer than the table takes the newest row of its backend, an unknown backend the newest
        row of its toolkit's major version. None: nothing is known that could be assumed.
        """
        minor = _minor(torch)
        rows = self._code.get((backend.name, platform), {})
        if exact := rows.get(minor):
            return exact
        nearest = _nearest(rows, minor) or self._code_of_major(backend, platform, minor)
        if nearest is None:
            return None
        assumed = f"torch {nearest.torch} {nearest.backend}"
        return structs.replace(nearest, torch=minor, backend=backend.name, confidence="low", assumed=assumed)

    def _code_of_major(self, backend: BackendInfo, platform: str, minor: str) -> Code | None:
        major = (backend.toolkit or ())[:1]
        infos = [self.backend(name) for name, there in self._code if there == platform]
        similar = [
            (info.toolkit, info.name)
            for info in infos
            if info is not None and info.toolkit is not None
            if info.kind.kind == backend.kind.kind and info.toolkit[:1] == major
        ]
        found = (_nearest(self._code[name, platform], minor) for _, name in sorted(similar, reverse=True))
        return next((row for row in found if row is not None), None)

    @cached_property
    def _floors(self) -> dict[tuple[str, int, int | None], Floor]:
        return {(row.kind, row.major, row.minor): row for row in self.tables.floors}

    def floor(self, backend: BackendInfo) -> Floor | None:
        """The lowest driver for a backend; None: its toolkit asks for none, or nobody knows."""
        if backend.toolkit is None:
            return None
        kind, major = backend.kind.kind, backend.toolkit[0]
        minor = backend.toolkit[1] if len(backend.toolkit) > 1 else None
        return self._floors.get((kind, major, minor)) or self._floors.get((kind, major, None))

    @property
    def jetson_floor(self) -> Floor | None:
        """The lowest Jetson Linux that runs the builds for ordinary Arm servers, not only its own."""
        return self._floors.get(("l4t", 0, None))

    def cuda_of_branch(self, branch: int) -> str | None:
        """The newest CUDA that a driver branch speaks; that of the nearest lower branch where unknown."""
        known = self.branch_of(branch)
        return None if known is None else self.tables.branch_cuda[known]

    def branch_of(self, major: int) -> int | None:
        """The known driver branch that a driver's first number belongs to.

        On Linux the two are the same; Windows counts its releases on (472 is of branch R470, 581 of R580).
        """
        return max((number for number in self.tables.branch_cuda if number <= major), default=None)

    def service(self, capability: str) -> GpuService | None:
        """Which driver branches serve a compute capability."""
        return next((row for row in self.tables.gpu_service if row.capability == capability), None)

    @cached_property
    def _companions(self) -> Mapping[str, tuple[Companion, ...]]:
        return _of_packages(self.tables.companions)

    def companion(self, torch: str, package: str) -> Companion | None:
        """The version of a package that belongs to a torch release (public version, `2.9.1`)."""
        return next((row for row in self.companions_of(package) if row.torch == torch), None)

    def companions_of(self, package: str) -> tuple[Companion, ...]:
        """Every torch release that a package is known to go with."""
        return self._companions.get(package, ())

    @cached_property
    def _families(self) -> dict[str, Family]:
        return {row.package: row for row in self.tables.families}

    def family(self, package: str) -> Family | None:
        """How a package moves with torch; None: it does not."""
        return self._families.get(package)

    @property
    def families(self) -> tuple[Family, ...]:
        """Every package that moves with torch."""
        return tuple(self._families.values())

    @cached_property
    def _built(self) -> Mapping[str, tuple[CompanionBuild, ...]]:
        return {**_of_packages(self.tables.companion_builds), **self.built}

    def companion_builds(self, package: str) -> tuple[CompanionBuild, ...]:
        """Every line of builds of a package that is built against torch; empty: it is none."""
        return self._built.get(package, ())

    def place(self, name: str) -> Place | None:
        """Where the builds of a companion are."""
        return next((row for row in self.tables.places if row.id == name), None)

    def grammar(self, name: str) -> Grammar | None:
        """How the local versions of a companion's files are written."""
        return next((row for row in self.tables.grammars if row.id == name), None)

    def gpu_fact(self, vendor: str, pci_id: str | None, name: str | None) -> GpuFact | None:
        """A product by PCI id, else by name (without the vendor's name, case and spacing apart).

        The first of several rows counts. Where the name is not known as it is, it is looked up without its
        memory size or `Laptop GPU`: `NVIDIA GeForce RTX 3060 12GB`.
        """
        if row := self.tables.product(vendor, pci_id):
            return row
        if name is None:
            return None
        rows = reversed(self.tables.gpus(vendor))
        by_name = self.once(
            ("gpu-names", vendor), lambda: {_plain_name(row.name): row for row in rows if row.name}
        )
        # `lspci` writes the product behind the chip: `Battlemage G21 [Arc Pro B60]`.
        for written in filter(None, (name, name.partition("[")[2].partition("]")[0])):
            plain = _plain_name(written)
            if row := by_name.get(plain) or by_name.get(re.sub(_AFTER_NAME, "", plain)):
                return row
        return None

    def advice(self, vendor: str, match: str, os: str) -> tuple[Advice, ...]:
        """Indexes of a vendor that serve this gfx target or Jetson release."""
        return tuple(
            row
            for row in self.tables.advice
            if row.vendor == vendor and row.match == match and (not row.os or os in row.os)
        )

    def sha256(self, wheel: Wheels, filename: str) -> str | None:
        """The hash of a wheel, where a page or the tables know it."""
        if found := self.hashes.get(filename):
            return found
        if wheel.origin == "default":
            return self.tables.sha256("", filename)
        if wheel.origin == "index" and wheel.channel == "stable":
            return self.tables.sha256(wheel.backend, filename)
        return None


def _of_packages(rows: Iterable[R]) -> Mapping[str, tuple[R, ...]]:
    groups: dict[str, list[R]] = defaultdict(list)
    for row in rows:
        groups[row.package].append(row)
    return {name: tuple(found) for name, found in groups.items()}


@lru_cache(maxsize=512)
def _minor(torch: str) -> str:
    return version_text((dotted_or_none(torch) or ())[:2])


def _nearest(rows: Mapping[str, Code], minor: str) -> Code | None:
    """The newest row not newer than `minor`, else the oldest one."""
    if not rows:
        return None
    older = [key for key in rows if dotted(key) <= dotted(minor)]
    return rows[max(older, key=dotted)] if older else rows[min(rows, key=dotted)]


_AFTER_NAME = r"( laptop gpu| \d+ ?gb)+$"
"""What may follow a product's name without changing the chip."""


@lru_cache(maxsize=4096)
def _plain_name(name: str) -> str:
    text = re.sub(r"\b(nvidia|amd|intel|geforce|corporation|graphics)\b|\(r\)|\(tm\)", " ", name.lower())
    return re.sub(r"[^a-z0-9]+", " ", text).strip() or name.lower()
