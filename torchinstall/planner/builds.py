"""The builds that exist for a platform, and the packages that go with each.

A build is torch of one release for one backend. Its companions (torchvision, triton-rocm …) come from where
its torch comes from: same backend, same source, same channel.
"""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache
from typing import TYPE_CHECKING

from msgspec import Struct
from packaging.version import InvalidVersion, Version

from torchinstall.catalog.catalog import Catalog
from torchinstall.catalog.model import BackendInfo, Family, Wheels
from torchinstall.core.target import Target, python_tags, wheel_fits
from torchinstall.planner.situation import Situation

if TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet

_ORIGINS = ("find-links", "index", "vendor", "default")
"""Which source of one and the same build is taken: what lies here already comes first."""


class Build(Struct, frozen=True):
    """torch of one release for one backend, and its wheels for the target's platform."""

    torch: str
    version: Version
    backend: BackendInfo
    wheels: tuple[Wheels, ...]

    @property
    def name(self) -> str:
        """`2.9.1+cu128`."""
        return f"{self.torch}+{self.backend.name}"

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
    index = "default" if target.os == "macos" or catalog.index_down else "index"

    def sort() -> tuple[Build, ...]:
        grouped: dict[tuple[str, str], list[Wheels]] = defaultdict(list)
        for row in catalog.wheels("torch", target.platform):
            if row.origin in ("find-links", "vendor") or (row.origin == index and row.channel == channel):
                grouped[row.version, row.backend].append(row)
        found = [
            Build(torch, version_key(torch), backend, tuple(rows))
            for (torch, name), rows in grouped.items()
            if (backend := catalog.backend(name)) is not None
        ]
        return tuple(sorted(found, key=lambda build: build.order, reverse=True))

    return catalog.once(("builds", target.os, target.platform, channel), sort)


def can_hold(bounds: SpecifierSet) -> bool:
    """Whether some version lies within bounds: the lowest, a bound, or the next one above a bound."""
    ends = [item.version.removesuffix(".*") for item in bounds if item.operator != "==="]
    above = (f"{version_key(end).base_version}.0.0.1" for end in ends)
    return any(map(bounds.contains, ("0", *ends, *above)))


def matching_wheels(rows: tuple[Wheels, ...], target: Target) -> tuple[Wheels, ...]:
    """The rows with a file for the target's Python and ABI, for any system; the best source first."""
    tags = python_tags(target.abi)
    found = [row for row in rows if not tags.isdisjoint(row.tags)]
    return tuple(sorted(found, key=lambda row: (_ORIGINS.index(row.origin), row.platform_tag == "any")))


def _usable_wheels(rows: tuple[Wheels, ...], target: Target) -> tuple[Wheels, ...]:
    return tuple(row for row in matching_wheels(rows, target) if wheel_fits(row.platform_tag, target) is None)


class Pick(Struct, frozen=True):
    """What is taken of one package.

    Attributes:
        wheels: None where no file is known: uv chooses, within `version` where that is pinned.
        asked: somebody asked for it; otherwise torch itself depends on it.
        routed: it comes from where torch comes from, or from `index` (one page of links, too), or is `file`.
        kept: it is installed and stays as it is.
        instead: the package in whose place torch brings it.
    """

    package: str
    wheels: Wheels | None
    asked: bool = True
    version: str | None = None
    routed: bool = False
    index: str | None = None
    file: str | None = None
    kept: bool = False
    instead: str = ""


class Rejection(Struct, frozen=True):
    """A rule's objection to a build: what it needs, and what is there instead.

    Attributes:
        package: that it is about.
        depth: of several objections that with the highest one came nearest.
        kind: what of a companion's files does not fit: `version`, `torch`, `platform` …
    """

    rule: str
    wanted: str
    found: str
    package: str = ""
    depth: int = 0
    kind: str = ""


def pick_packages(build: Build, situation: Situation) -> tuple[Pick, ...] | Rejection:
    """All requested packages for a build whose torch wheel fits, or the first that is missing."""
    if conflict := _url_conflict(build, situation):
        return conflict
    torch = _usable_wheels(build.wheels, situation.target)[0]
    found, runtime = [Pick("torch", torch)], _runtime(build, torch, situation)
    replaced = {"torch", *(pick.instead for pick in runtime)}
    for package in situation.requirements.family:
        family = situation.catalog.family(package)
        if package in replaced or family is None:
            continue
        pick = _companion(family, build, torch, situation)
        if isinstance(pick, Rejection):
            return pick
        found.append(pick)
    return (*found, *runtime)


def _url_conflict(build: Build, situation: Situation) -> Rejection | None:
    """A companion that was asked for by URL and goes with another torch."""
    for package, asked in situation.requirements.direct.items():
        family, rows = situation.catalog.family(package), situation.wheels_by_url(package)
        if package != "torch" and family is not None and rows:
            row, version = rows[0], _pairing(family, build, situation.catalog).version
            other_backend = bool(row.local) and row.backend != build.backend.name
            if other_backend or version not in (None, row.version):
                wanted = _for_build(package, version, build)
                return Rejection("pinned-out", wanted, str(asked.url), package)
    return None


def _for_build(package: str, version: str | None, build: Build) -> str:
    return f"{package} {version or ''}".rstrip() + f" for torch {build.name}"


def _companion_wheels(package: str, build: Build, torch: Wheels, situation: Situation) -> tuple[Wheels, ...]:
    """Wheels of a package in the same place as torch's that the target can install.

    Beside a torch that was named by URL they may lie on the index too.
    """
    catalog, target = situation.catalog, situation.target
    origins = (torch.origin, "find-links", "index" if torch in situation.wheels_by_url("torch") else "")
    place = (package, build.backend.name, torch.channel, origins)

    def usable() -> tuple[Wheels, ...]:
        backend, rows = build.backend.name, catalog.wheels(package, target.platform)
        ours = [row for row in rows if row.backend == backend or row.platform_tag == "any"]
        there = (row for row in ours if row.channel == torch.channel and row.origin in origins)
        return _usable_wheels(tuple(there), target)

    return catalog.once((*place, target.abi, target.platform, target.libc, target.os_version), usable)


def _companion(family: Family, build: Build, torch: Wheels, situation: Situation) -> Pick | Rejection:
    package, catalog, requirements = family.package, situation.catalog, situation.requirements
    named = torch.origin == "find-links" and torch in situation.wheels_by_url("torch")
    if named and catalog.companion(build.torch, package) is None and family.pairing == "table":
        # A torch that somebody built: only the package's own metadata says what goes with it.
        return Pick(package, None)
    pairing = _pairing(family, build, catalog)
    version = pairing.version
    if pairing.none:
        found = f"no {package} goes with torch {build.torch}"
        return Rejection("companion-missing", _for_build(package, None, build), found, package)
    on_index = family.routed or family.index_first
    of_index = _companion_wheels(package, build, torch, situation) if on_index else ()
    rows = [row for row in of_index if pairing.allows(row.version)]
    if not rows and family.index_first and version is not None:
        # It merely goes with this torch: an older one that was built for the backend beats PyPI's newest.
        rows = [row for row in of_index if version_key(row.version) <= version_key(version)]
    if not family.routed and not rows:
        if version is not None and not requirements.allows(package, version):
            found = f"{package} {version}"
            return Rejection("pinned-out", requirements.bounded(package), found, package)
        platforms = catalog.platforms(package, version or "")
        if platforms and platforms.isdisjoint(("any", situation.target.platform)):
            found = f"no files of {package} {version} for {situation.target.platform}"
            return Rejection("companion-missing", _for_build(package, version, build), found, package)
        return Pick(package, None, version=version)
    if not rows and (family.pairing == "free" or torch.origin == "find-links"):
        # Neither the index nor a folder has it: uv looks for it where everything else comes from.
        return Pick(package, None)
    if not rows:
        wanted = _for_build(package, version, build)
        return Rejection("companion-missing", wanted, "not published", package)
    allowed = [row for row in rows if requirements.allows(package, row.full_version)]
    name = build.backend.name
    newest = max(allowed or rows, key=lambda row: (version_key(row.version), row.backend == name))
    if not allowed:
        found = f"{package} {newest.full_version}"
        return Rejection("pinned-out", requirements.bounded(package), found, package)
    return Pick(package, newest)


class _Pairing(Struct, frozen=True):
    """Which versions of a package go with a torch release: exactly `version`, or `none` at all.

    Otherwise none of `taken`, which other releases of torch pin, and none older than `since`, which goes with
    the newest torch that is known.
    """

    version: str | None = None
    taken: frozenset[str] = frozenset()
    since: Version | None = None
    none: bool = False

    def allows(self, version: str) -> bool:
        if self.version is not None:
            return version == self.version
        return version not in self.taken and (self.since is None or version_key(version) >= self.since)


def _pairing(family: Family, build: Build, catalog: Catalog) -> _Pairing:
    if family.pairing != "table":
        return _Pairing(version=build.torch if family.pairing == "torch" else None)
    companion = catalog.companion(build.torch, family.package)
    if companion is not None:
        return _Pairing(version=companion.version)
    rows = catalog.companions_of(family.package)
    if any(version_key(row.torch) >= build.version for row in rows):
        # The package is known for this torch's time, and nothing of it goes with this torch.
        return _Pairing(none=True)
    taken = frozenset(row.version for row in rows if row.exact)
    since = max((version_key(row.version) for row in rows), default=None)
    return _Pairing(taken=taken, since=since, none=family.ended)


def _runtime(build: Build, torch: Wheels, situation: Situation) -> list[Pick]:
    """Packages that torch depends on and that only the PyTorch index has: they must be routed too."""
    if torch.origin == "vendor":
        names = (name for row in situation.vendor_rows for name in row.runtime())
        there = (name for name in dict.fromkeys(names) if situation.catalog.live.get((name, "")))
        return [Pick(name, None, asked=False, routed=True) for name in there]
    if torch.origin not in ("index", "find-links"):
        return []
    catalog, backend = situation.catalog, build.backend
    found: list[Pick] = []

    def entries() -> list[tuple[Family, str]]:
        rows = ((row, runtime_entry(row, backend, torch.channel)) for row in catalog.families)
        return [(row, entry) for row, entry in rows if entry is not None]

    for family, entry in catalog.once(("runtime", backend.name, torch.channel), entries):
        if family.package in situation.requirements.family:
            continue
        linked = entry == backend.name != backend.kind.kind
        wheels = () if linked else _companion_wheels(family.package, build, torch, situation)
        if linked or (torch.channel != "stable" and wheels):
            # Its files are only linked from the index, or torch of this channel pins one of many versions
            # that only its metadata names: uv finds the version.
            found.append(Pick(family.package, None, asked=False, routed=True))
        elif companion := catalog.companion(build.torch, family.package):
            fits = [row for row in wheels if row.version == companion.version]
            found += [Pick(family.package, row, asked=False, instead=family.provides) for row in fits[:1]]
    return found


def runtime_entry(family: Family, backend: BackendInfo, channel: str) -> str | None:
    """The entry of `runtime_of` that makes torch of a backend depend on a package; None: it does not."""
    kind = backend.kind.kind
    entries = (backend.name, f"{kind}@{channel}", kind)
    return next((entry for entry in entries if entry in family.runtime_of), None)
