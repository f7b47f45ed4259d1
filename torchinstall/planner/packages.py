"""Which wheel of each wanted package goes with a build, and which package is missing beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torchinstall.planner.builds import fitting, version_key
from torchinstall.tags import python_tags, wheel_fits

if TYPE_CHECKING:
    from torchinstall.catalog.catalog import Catalog
    from torchinstall.catalog.model import Family, Wheels
    from torchinstall.planner.builds import Build
    from torchinstall.planner.wants import Wants
    from torchinstall.target import Target

__all__ = ["Missing", "Pick", "picks", "usable"]


@dataclass(frozen=True, slots=True)
class Pick:
    """The wheels chosen for one package; None: it comes from the user's own indexes, uv chooses."""

    package: str
    wheels: Wheels | None
    asked: bool = True


@dataclass(frozen=True, slots=True)
class Missing:
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


def _beside(
    package: str, build: Build, torch: Wheels, catalog: Catalog, target: Target
) -> tuple[Wheels, ...]:
    """Wheels of a package in the same place as torch's: same backend, same source, same channel."""
    place = (package, build.backend.name, torch.channel, torch.origin)
    key = ("usable", *place, target.abi, target.platform, target.libc, target.os_version)
    if key not in catalog.scratch:
        rows = (
            row
            for row in catalog.wheels_beside(package, target.platform, build.backend.name)
            if row.channel == torch.channel and row.origin in (torch.origin, "find-links")
        )
        catalog.scratch[key] = usable(tuple(rows), target)
    found: tuple[Wheels, ...] = catalog.scratch[key]
    return found


def _companion(
    family: Family, build: Build, torch: Wheels, wants: Wants, catalog: Catalog, target: Target
) -> Pick | Missing:
    package = family.package
    if not family.routed:
        return Pick(package, None)
    rows = _beside(package, build, torch, catalog, target)
    version = _paired_version(family, build, catalog)
    if version is not None:
        rows = tuple(row for row in rows if row.version == version)
        if not rows:
            return Missing(
                package,
                f"{package} {version} beside torch {build.torch}+{build.backend.name}",
                "not published there",
            )
    elif not rows:
        if family.pairing == "free" or torch.origin == "find-links":
            # Neither the index nor a folder has it: uv looks for it where everything else comes from.
            return Pick(package, None)
        return Missing(
            package, f"{package} beside torch {build.torch}+{build.backend.name}", "not published there"
        )
    allowed = tuple(row for row in rows if wants.allows(package, row.full_version))
    if not allowed:
        best = max(rows, key=lambda row: version_key(row.version))
        return Missing(
            package, f"{package}{wants.pins[package]}", f"{package} {best.full_version}", pinned=True
        )
    newest = max(version_key(row.version) for row in allowed)
    return Pick(package, next(row for row in allowed if version_key(row.version) == newest))


def _paired_version(family: Family, build: Build, catalog: Catalog) -> str | None:
    if family.pairing == "torch":
        return build.torch
    companion = catalog.companion(build.torch, family.package)
    return companion.version if companion is not None else None


def _runtime(build: Build, torch: Wheels, wants: Wants, catalog: Catalog, target: Target) -> list[Pick]:
    """Packages that torch depends on and that only the PyTorch index has: they must be routed too."""
    if torch.origin not in ("index", "find-links"):
        return []
    found: list[Pick] = []
    for family in catalog.families:
        if build.backend.kind.kind not in family.runtime_of or family.package in wants.family:
            continue
        companion = catalog.companion(build.torch, family.package)
        if companion is None:
            continue
        rows = tuple(
            row
            for row in catalog.wheels(family.package, target.platform)
            if row.origin == torch.origin and row.version == companion.version
        )
        fits = usable(rows, target)
        if fits:
            found.append(Pick(family.package, fits[0], asked=False))
    return found
