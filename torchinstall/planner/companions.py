"""Which wheel of each wanted package goes with a build, and which package is missing beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from torchinstall.core.tags import python_tags, wheel_fits
from torchinstall.planner.builds import fitting, version_key
from torchinstall.planner.requirements import of_url

if TYPE_CHECKING:
    from packaging.version import Version

    from torchinstall.catalog.catalog import Catalog
    from torchinstall.catalog.model import BackendInfo, Family, Wheels
    from torchinstall.core.target import Target
    from torchinstall.planner.builds import Build
    from torchinstall.planner.requirements import Wants

__all__ = ["Missing", "Pick", "picks", "runtime_entry", "usable"]


class Pick(Struct, frozen=True):
    """What is taken of one package.

    Attributes:
        wheels: None where no file is known: uv chooses.
        asked: somebody asked for it; otherwise torch itself depends on it.
        version: pinned although no file is known (a package from the user's own indexes).
        routed: it comes from where torch comes from.
    """

    package: str
    wheels: Wheels | None
    asked: bool = True
    version: str | None = None
    routed: bool = False


class Missing(Struct, frozen=True):
    """A package that a build lacks. `pinned`: only the user's version bound rules it out."""

    package: str
    wanted: str
    found: str
    pinned: bool = False


def usable(rows: tuple[Wheels, ...], target: Target) -> tuple[Wheels, ...]:
    """The rows with a file that the target can install, the best source first."""
    found = fitting(rows, python_tags(target.abi))
    return tuple(row for row in found if wheel_fits(row.platform_tag, target) is None)


def picks(build: Build, wants: Wants, catalog: Catalog, target: Target) -> tuple[Pick, ...] | Missing:
    """All wanted packages for a build whose torch wheel fits, or the first that is missing."""
    torch = usable(build.wheels, target)[0]
    misfit = _misfit(build, wants, catalog)
    if misfit is not None:
        return misfit
    found = [Pick("torch", torch)]
    for package in wants.family:
        if package == "torch":
            continue
        family = catalog.family(package)
        if family is None:  # wants() lets only known packages in
            continue
        pick = _companion(family, build, torch, wants, catalog, target)
        if isinstance(pick, Missing):
            return pick
        found.append(pick)
    found.extend(_runtime(build, torch, wants, catalog, target))
    return tuple(found)


def _misfit(build: Build, wants: Wants, catalog: Catalog) -> Missing | None:
    """A companion that was asked for by URL and goes with another torch."""
    for package, asked in wants.direct.items():
        family, rows = catalog.family(package), of_url(package, wants, catalog)
        if package == "torch" or family is None or not rows:
            continue
        row, version = rows[0], _pairing(family, build, catalog).version
        other_backend = bool(row.local) and row.backend != build.backend.name
        if other_backend or version not in (None, row.version):
            what = f"{package} {version or ''}".rstrip()
            wanted = f"{what} beside torch {build.torch}+{build.backend.name}"
            return Missing(package, wanted, str(asked.url), pinned=True)
    return None


def _origins(torch: Wheels, wants: Wants, catalog: Catalog) -> tuple[str, ...]:
    """Where packages that go with this torch may lie: beside one that was named by URL, on the index too."""
    named = torch in of_url("torch", wants, catalog)
    return (torch.origin, "find-links", *(("index",) if named else ()))


def _beside(
    package: str, build: Build, torch: Wheels, origins: tuple[str, ...], catalog: Catalog, target: Target
) -> tuple[Wheels, ...]:
    """Wheels of a package in the same place as torch's: same backend, same source, same channel."""
    place = (package, build.backend.name, torch.channel, origins)
    key = ("usable", *place, target.abi, target.platform, target.libc, target.os_version)
    if key not in catalog.scratch:
        rows = (
            row
            for row in catalog.wheels_beside(package, target.platform, build.backend.name)
            if row.channel == torch.channel and row.origin in origins
        )
        catalog.scratch[key] = usable(tuple(rows), target)
    found: tuple[Wheels, ...] = catalog.scratch[key]
    return found


def _companion(
    family: Family, build: Build, torch: Wheels, wants: Wants, catalog: Catalog, target: Target
) -> Pick | Missing:
    package = family.package
    beside = f"beside torch {build.torch}+{build.backend.name}"
    origins = _origins(torch, wants, catalog)
    of_its_own = torch.origin == "find-links" and catalog.companion(build.torch, package) is None
    if of_its_own and "index" in origins and family.pairing == "table":
        # A torch that somebody built: only the package's own metadata says what goes with it.
        return Pick(package, None)
    pairing = _pairing(family, build, catalog)
    if pairing.nothing:
        return Missing(package, f"{package} {beside}", f"no {package} goes with torch {build.torch}")
    if not family.routed:
        version = pairing.version
        if version is not None and not wants.allows(package, version):
            return Missing(package, f"{package}{wants.pins[package]}", f"{package} {version}", pinned=True)
        return Pick(package, None, version=version)
    rows = tuple(
        row for row in _beside(package, build, torch, origins, catalog, target) if pairing.allows(row.version)
    )
    if not rows:
        if family.pairing == "free" or torch.origin == "find-links":
            # Neither the index nor a folder has it: uv looks for it where everything else comes from.
            return Pick(package, None)
        return Missing(
            package, f"{package} {pairing.version or ''}".rstrip() + f" {beside}", "not published there"
        )
    allowed = tuple(row for row in rows if wants.allows(package, row.full_version))
    if not allowed:
        best = max(rows, key=lambda row: version_key(row.version))
        return Missing(
            package, f"{package}{wants.pins[package]}", f"{package} {best.full_version}", pinned=True
        )
    newest = max(version_key(row.version) for row in allowed)
    return Pick(package, next(row for row in allowed if version_key(row.version) == newest))


class _Pairing(Struct, frozen=True):
    """Which versions of a package go with a torch release.

    Attributes:
        version: exactly this one.
        taken: otherwise none of these, which other torch releases pin,
        since: and none older than this one, which goes with the newest torch that is known.
        nothing: none at all.
    """

    version: str | None = None
    taken: frozenset[str] = frozenset()
    since: Version | None = None
    nothing: bool = False

    def allows(self, version: str) -> bool:
        if self.version is not None:
            return version == self.version
        return version not in self.taken and (self.since is None or version_key(version) >= self.since)


def _pairing(family: Family, build: Build, catalog: Catalog) -> _Pairing:
    if family.pairing == "torch":
        return _Pairing(version=build.torch)
    if family.pairing == "free":
        return _Pairing()
    companion = catalog.companion(build.torch, family.package)
    if companion is not None:
        return _Pairing(version=companion.version)
    rows = catalog.companions_of(family.package)
    if any(version_key(row.torch) >= build.version for row in rows):
        # The package is known for this torch's time, and nothing of it goes with this torch.
        return _Pairing(nothing=True)
    taken = frozenset(row.version for row in rows if row.exact)
    since = max((version_key(row.version) for row in rows), default=None)
    return _Pairing(taken=taken, since=since, nothing=family.ended)


def _runtime(build: Build, torch: Wheels, wants: Wants, catalog: Catalog, target: Target) -> list[Pick]:
    """Packages that torch depends on and that only the PyTorch index has: they must be routed too."""
    if torch.origin not in ("index", "find-links"):
        return []
    key = ("runtime", build.backend.name, torch.channel)
    if key not in catalog.scratch:
        entries = ((row, runtime_entry(row, build.backend, torch.channel)) for row in catalog.families)
        catalog.scratch[key] = tuple((row, entry) for row, entry in entries if entry is not None)
    found: list[Pick] = []
    for family, entry in catalog.scratch[key]:
        if family.package in wants.family:
            continue
        if entry == build.backend.name != build.backend.kind.kind:
            # Its files lie elsewhere and are only linked from the index: uv finds the version.
            found.append(Pick(family.package, None, asked=False, routed=True))
            continue
        companion = catalog.companion(build.torch, family.package)
        origins = _origins(torch, wants, catalog)
        beside = _beside(family.package, build, torch, origins, catalog, target)
        if torch.channel != "stable" and beside:
            # torch of this channel pins one of many versions that only its metadata names.
            found.append(Pick(family.package, None, asked=False, routed=True))
        elif companion is not None:
            fits = tuple(row for row in beside if row.version == companion.version)
            found.extend(Pick(family.package, row, asked=False) for row in fits[:1])
    return found


def runtime_entry(family: Family, backend: BackendInfo, channel: str) -> str | None:
    """The entry of `runtime_of` that makes torch of a backend depend on a package; None: it does not."""
    kind = backend.kind.kind
    wanted = (backend.name, f"{kind}@{channel}", kind)
    return next((entry for entry in wanted if entry in family.runtime_of), None)
