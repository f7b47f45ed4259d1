"""A project's choices of torch builds, read from whichever tables have them, and compared.

A choice that was seen in a file is in uv's tables after a migration, or the migration stops.
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatch
from typing import Any

from msgspec import structs
from packaging.specifiers import SpecifierSet

from torchinstall.catalog.catalog import Catalog
from torchinstall.core.errors import UsageError
from torchinstall.core.request import DEFAULT_INDEX_BASE
from torchinstall.index.urls import index_url, pytorch_index
from torchinstall.project.availability import Availability
from torchinstall.project.foreign import Offer, backend_of, hatch_offers, pdm_offers, pixi_offers, rye_offers
from torchinstall.project.model import ALWAYS, PLATFORMS, Choice, Entries, Listed, Scope, rivals
from torchinstall.project.poetry import poetry_offers
from torchinstall.project.pyproject import ProjectView, scope_in, texts

_READERS = (poetry_offers, pixi_offers, hatch_offers, pdm_offers, rye_offers)
"""What other tools' tables offer for a package."""


def choices(
    view: ProjectView,
    catalog: Catalog,
    index_base: str = DEFAULT_INDEX_BASE,
    *,
    offers: tuple[Offer, ...] = (),
    uv: bool = False,
) -> tuple[Choice, ...]:
    """Every choice of a file with `[project]`: a package, the list that asks for it, and its index.

    Args:
        view: the file.
        catalog: knows backends.
        index_base: of the index for a pin (`+cu124`) that no index of the file serves.
        offers: of indexes that other files name.
        uv: only those that uv reads.
    """
    found = []
    for item in view.listed:
        family = catalog.family(item.package)
        if family is None or not family.routed or family.runtime_of or item.requirement.url:
            continue
        mine = view.points(item.requirement.marker)
        for offer in _serving(item, view, catalog, index_base, None if uv else offers):
            index = pytorch_index(offer.url, catalog.backend, index_base=index_base)
            if index is not None and index.backend and (points := mine & view.points(offer.marker)):
                choice = Choice(
                    scope=item.scope,
                    package=item.package,
                    backend=index.backend,
                    url=offer.url,
                    points=points,
                    bounds=public_bounds(item.requirement.specifier),
                )
                found.append(choice)
    return tuple(found)


def _serving(
    item: Listed, view: ProjectView, catalog: Catalog, index_base: str, more: tuple[Offer, ...] | None
) -> list[Offer]:
    """The indexes that serve a requirement, by the first table that says so; `more` None: uv's only."""
    if item.package in view.sources:
        return [offer for offer in _uv(view, item.package) if offer.scope.key in (ALWAYS.key, item.scope.key)]
    if more is None:
        return []
    found = [*more, *(offer for reader in _READERS for offer in reader(view, item.package))]
    pages = [url for url in texts(view.uv.get("find-links")) if backend_of(url, catalog)]
    found += [Offer(index_url(index_base, "stable", str(backend_of(url, catalog)))) for url in pages]
    served = [offer for offer in found if backend_of(offer.url, catalog)]
    if pinned := pinned_backend(item, catalog):
        urls = (offer.url for offer in served if backend_of(offer.url, catalog) == pinned)
        return [Offer(next(urls, index_url(index_base, "stable", pinned)))]
    exact = [offer for offer in found if item.package in offer.packages]
    open_ = [offer for offer in served if any(fnmatch(item.package, glob) for glob in offer.packages)]
    for named in (exact, open_):
        for scope in (item.scope, ALWAYS):
            if mine := [offer for offer in named if offer.scope.key == scope.key]:
                return list(dict.fromkeys(mine))
    return []


def routed_in(view: ProjectView, catalog: Catalog, package: str = "torch") -> tuple[Choice, ...]:
    """What uv's sources of a package say, by index and scope, whether something requires it or not."""
    found: dict[tuple[str, Scope], Choice] = {}
    for row, offer in zip(view.sources.get(package, []), _uv(view, package), strict=True):
        if (backend := backend_of(offer.url, catalog)) is None:
            continue
        points, key = view.points(offer.marker), (offer.url, offer.scope)
        if key in found:
            found[key] = structs.replace(found[key], points=found[key].points | points)
            continue
        found[key] = Choice(
            scope=offer.scope,
            package=package,
            backend=backend,
            url=offer.url,
            points=points,
            index=str(row["index"]),
        )
    return tuple(found.values())


def by_point(items: tuple[Choice, ...]) -> dict[tuple[Any, ...], tuple[frozenset[str], frozenset[str]]]:
    """Scope, package, platform, Python -> the backends and the bounds: the same for every spelling."""
    found: dict[tuple[Any, ...], tuple[frozenset[str], frozenset[str]]] = {}
    for item in items:
        for point in item.points:
            key = (item.scope.key, item.package, *point)
            backends, bounds = found.get(key, (frozenset(), frozenset()))
            found[key] = backends | {item.backend}, bounds | {item.bounds}
    return found


def missing(seen: tuple[Choice, ...], view: ProjectView, catalog: Catalog) -> tuple[Choice, ...]:
    """Those of the choices that uv does not read in a file."""
    there = by_point(choices(view, catalog, uv=True))
    return tuple(item for item in seen if not by_point((item,)).items() <= there.items())


def public_bounds(spec: SpecifierSet) -> str:
    """Bounds without the local segments that name a build."""
    return ",".join(sorted(f"{part.operator}{part.version.partition('+')[0]}" for part in spec))


def pinned_backend(item: Listed, catalog: Catalog) -> str | None:
    """The backend that a requirement pins by its local version."""
    locals_ = (part.version.partition("+")[2] for part in item.requirement.specifier)
    return next((local for local in locals_ if local and catalog.backend(local) is not None), None)


def _uv(view: ProjectView, package: str) -> Iterator[Offer]:
    for row in view.sources.get(package, []):
        yield Offer(view.index_url(row), (package,), scope_in(row), str(row.get("marker", "")))


def entries_of(seen: tuple[Choice, ...], catalog: Catalog) -> Entries:
    """What uv's tables need to hold these choices."""
    merged: dict[tuple[Any, ...], Choice] = {}
    # What the project takes from an index, its extras and groups take from there too: one entry says it.
    known = [_publishable(item, catalog) for item in seen]
    for item in sorted(known, key=lambda row: (row.scope != ALWAYS, row.package != "torch")):
        base = item.package, ALWAYS.key, item.url
        key = base if base in merged else (item.package, item.scope.key, item.url)
        points = merged[key].points | item.points if key in merged else item.points
        merged[key] = structs.replace(
            merged.get(key, item), points=points, index=f"pytorch-{item.backend}", bounds=""
        )
    found = tuple(sorted(merged.values(), key=lambda row: row.package != "torch"))
    packages = tuple(dict.fromkeys(item.package for item in found))
    entries = Entries(choices=found, packages=packages)
    return structs.replace(entries, conflicts=rivals(entries.routes))


def _publishable(item: Choice, catalog: Catalog) -> Choice:
    """A choice on the platforms for which its build is published; the default index serves the others."""
    availability, spec = Availability(catalog, "stable"), SpecifierSet(item.bounds)
    known = availability.platforms(item.package, item.backend, spec)
    return item.on(known or availability.platforms(item.package, item.backend) or PLATFORMS[:3])


def check_carried(seen: tuple[Choice, ...], view: ProjectView, catalog: Catalog) -> None:
    """Compare what was seen with what uv reads now.

    Raises:
        UsageError: `not-carried`: uv would not do the same.
    """
    there = by_point(choices(view, catalog, uv=True))
    items = tuple(_publishable(item, catalog) for item in seen)
    wanted = by_point(items)
    for item in items:
        for key in by_point((item,)):
            if there.get(key) != wanted[key]:
                raise _not_carried(item, f"on {key[2]} with Python {key[3]}")


def _not_carried(item: Choice, where: str) -> UsageError:
    return UsageError(
        "not-carried",
        f"uv has no words for one choice of this project, so nothing was changed: {item.package} for "
        f"{item.backend} in {item.scope.text}, {where}",
        wanted=f"one index for {item.package} in {item.scope.text} on each platform",
        found=f"{item.package} {item.bounds} from {item.url}",
        hints=(
            "make extras or dependency groups of the choices, one backend each, then run it again",
            "or choose anew: torchinstall configure --migrate --layout groups --with cpu --with "
            + (item.backend if item.backend != "cpu" else "cu130"),
        ),
    )
