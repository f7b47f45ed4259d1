"""Version bounds that the chosen backends can satisfy, and the project's own bounds held against them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from torchinstall.core.errors import NoCompatibleBuildError, UsageError
from torchinstall.project.model import Layout, Message, Route
from torchinstall.project.platforms import CELLS, marker_environment
from torchinstall.project.view import Listed, Place, ProjectView

if TYPE_CHECKING:
    from torchinstall.project.availability import Stock

__all__ = ["cap_spec", "check_listed", "companion_floor", "excludes", "floor"]

_FAR_AWAY = "99999"


def excludes(spec: SpecifierSet, cap: str) -> bool:
    """Whether bounds already keep out everything from `cap` on."""
    return not spec.contains(cap, prereleases=True) and not spec.contains(_FAR_AWAY, prereleases=True)


def cap_spec(layout: Layout, backend: str) -> SpecifierSet | None:
    """The bound that the planned machine sets on a backend's torch; None: none."""
    cap = dict(layout.caps).get(backend)
    return SpecifierSet(f"<{cap}") if cap else None


def floor(ways: tuple[Route, ...], layout: Layout, stock: Stock) -> str | None:
    """The newest torch that every route, and the default index elsewhere, has for the oldest Python.

    None where nothing is known. A lower bound keeps the resolver from running back to a version that was
    published before these indexes were.
    """
    python = stock.lowest_python
    found = []
    for way in ways:
        spec = cap_spec(layout, way.backend)
        found.append(stock.newest("torch", way.backend, way.cells, spec, python))
    rest = [cell for cell in CELLS if not any(cell in way.cells for way in ways)]
    found.append(stock.newest("torch", None, rest, None, python))
    if layout.torch is not None:
        found.append(Version(Version(layout.torch).public))
    lowest = min((version for version in found if version is not None), default=None)
    return str(lowest) if lowest is not None else None


def companion_floor(package: str, torch: str | None, stock: Stock) -> str | None:
    """The version of a companion that belongs to the torch floor; None where they are not paired."""
    family = stock.catalog.family(package)
    if torch is None or family is None:
        return None
    if family.pairing == "torch":
        return torch
    row = stock.catalog.companion(torch, package)
    return row.version if row is not None else None


def check_listed(ways: tuple[Route, ...], view: ProjectView, stock: Stock) -> tuple[Message, ...]:
    """Hold the project's own bounds on torch against every build that they will meet.

    Raises:
        NoCompatibleBuildError: `local-version-pinned` or `bounds-unsatisfiable`.
        UsageError: `torch-from-url`.
    """
    notes: list[Message | None] = []
    for item in view.listed:
        if item.package != "torch":
            continue
        if item.requirement.url:
            raise _from_url(item)
        for way in (*ways, None):
            if way is not None and not _meets(item.place, way.select):
                continue
            others = [cell for cell in CELLS if not any(cell in other.cells for other in ways)]
            cells = sorted(way.cells) if way is not None else others
            notes += [_check(item, way, cell, stock) for cell in cells]
    return tuple(dict.fromkeys(note for note in notes if note is not None))


def _from_url(item: Listed) -> UsageError:
    return UsageError(
        "torch-from-url",
        f"{item.place.text} takes torch from one file, and nothing that you wrote is undone",
        wanted="torch by name and version: the index chooses the build",
        found=item.text,
        hints=("write torch without its URL, then run configure again", "uv sync works with it as it is"),
    )


def _meets(place: Place, select: Place | None) -> bool:
    """Whether a requirement holds together with a route: always, unless each has its own extra or group."""
    return select is None or place == Place() or place == select


def _check(item: Listed, way: Route | None, cell: str, stock: Stock) -> Message | None:
    marker = item.requirement.marker
    environment = marker_environment(cell, (stock.pythons or ("3.12",))[-1])
    if marker is not None and not marker.evaluate(environment):
        return None
    backend = way.backend if way is not None else None
    spec = item.requirement.specifier
    known = stock.versions("torch", backend, cell)
    if not known or any(spec.contains(version, prereleases=True) for version, _ in known):
        return None
    where = f"{backend} on {cell}" if backend else f"the default index on {cell}"
    if _beyond(spec, known[0][0]):
        return Message(
            slug="newer-than-catalog",
            message=f"{item.text} is newer than every torch that the catalog knows for {where}",
        )
    if any("+" in part.version for part in spec):
        raise NoCompatibleBuildError(
            "local-version-pinned",
            f"{item.text!r} in {item.place.text} names one build, and {where} has another",
            wanted=f"a version without its local segment, torch {known[0][0].public}: the index chooses",
            found=item.text,
            hints=("torchinstall configure --migrate",),
        )
    raise NoCompatibleBuildError(
        "bounds-unsatisfiable",
        f"{item.text!r} in {item.place.text} rules out every torch for {where}",
        wanted=str(spec),
        found=f"torch {known[-1][0].public} to {known[0][0].public} for {where}",
        hints=("change the bound, or choose another backend: torchinstall configure --backend …",),
    )


def _beyond(spec: SpecifierSet, newest: Version) -> bool:
    """Whether every version that the bounds name is newer than what is known."""
    try:
        named = [Version(part.version.removesuffix(".*")) for part in spec if part.operator != "!="]
    except InvalidVersion:
        return False
    return bool(named) and all(Version(version.public) > Version(newest.public) for version in named)
