"""What a project asks for, in whichever tool's words: which index serves torch and its companions, and where.

A choice that one of the readers saw is in uv's tables after a migration, or the migration stops.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatch
from typing import Any

from packaging.specifiers import SpecifierSet

from torchinstall.catalog.catalog import Catalog
from torchinstall.core.errors import UsageError
from torchinstall.core.request import DEFAULT_INDEX_BASE
from torchinstall.index.urls import index_url, pytorch_index
from torchinstall.project.availability import Availability
from torchinstall.project.model import ALWAYS, Choice, Entries, Listed, Route, Scope, rivals
from torchinstall.project.platforms import PLATFORMS
from torchinstall.project.poetry import by_extra
from torchinstall.project.pyproject import ProjectView, mapping, points_where, scope_in


def choices(view: ProjectView, catalog: Catalog, index_base: str = DEFAULT_INDEX_BASE) -> tuple[Choice, ...]:
    """Every choice of a file with `[project]`: a package, what asks for it, and the index that serves it.

    Args:
        view: the file.
        catalog: knows backends.
        index_base: of the index for a pin (`+cu124`) that no index of the file serves.
    """
    found = []
    for item in view.listed:
        family = catalog.family(item.package)
        if family is None or not family.routed or family.runtime_of or item.requirement.url:
            continue
        mine = _points(str(item.requirement.marker or ""), view)
        for url, points in _served(item, view, catalog, index_base):
            index = pytorch_index(url, catalog.backend, index_base=index_base)
            if points & mine and index is not None and index.backend is not None:
                found.append(
                    Choice(
                        scope=item.scope,
                        package=item.package,
                        backend=index.backend,
                        url=url,
                        points=points & mine,
                        bounds=public_bounds(item.requirement.specifier),
                    )
                )
    return tuple(found)


def _points(marker: str, view: ProjectView) -> frozenset[tuple[str, str]]:
    """The platforms and Python versions of the project for which a marker holds."""
    return points_where(marker, view.pythons or ("3.12",))


def public_bounds(spec: SpecifierSet) -> str:
    """Bounds without the local segments that name a build."""
    return ",".join(sorted(f"{part.operator}{part.version.partition('+')[0]}" for part in spec))


def pinned_backend(item: Listed, catalog: Catalog) -> str | None:
    """The backend that a requirement pins by its local version."""
    locals_ = (part.version.partition("+")[2] for part in item.requirement.specifier)
    return next((local for local in locals_ if local and catalog.backend(local) is not None), None)


def _served(
    item: Listed, view: ProjectView, catalog: Catalog, index_base: str
) -> Iterator[tuple[str, frozenset[tuple[str, str]]]]:
    """The indexes that serve a requirement, and where, by the first of the tables that says so."""
    everywhere = _points("", view)
    rows = view.sources.get(item.package)
    if rows is not None:
        for row in rows:
            if scope_in(row) == ALWAYS or scope_in(row).key == item.scope.key:
                yield view.index_url(row), _points(str(row.get("marker", "")), view)
        return
    pinned = pinned_backend(item, catalog)
    if pinned is not None:
        urls = (url for url, _ in _tool_indexes(view) if _backend(url, catalog) == pinned)
        yield next(urls, index_url(index_base, "stable", pinned)), everywhere
        return
    if poetry := list(_poetry_rows(item, view)):
        yield from ((url, _points(marker, view)) for url, marker in poetry)
        return
    open_ = [
        url
        for url, packages in _tool_indexes(view)
        if _backend(url, catalog) and any(fnmatch(item.package, pattern) for pattern in packages)
    ]
    yield from ((url, everywhere) for url in dict.fromkeys(open_))


def _backend(url: str, catalog: Catalog) -> str | None:
    index = pytorch_index(url, catalog.backend)
    return index.backend if index is not None else None


def _tool_indexes(view: ProjectView) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The indexes of Rye, PDM and Poetry, each with the packages that it may serve unasked."""
    for row in _rows(view.tool("rye").get("sources")):
        yield str(row.get("url", "")), ("*",)
    for row in _rows(view.tool("pdm").get("source")):
        packages = row.get("include_packages") or ["*"]
        yield str(row.get("url", "")), tuple(map(str, packages))
    for row in _rows(view.tool("poetry").get("source")):
        yield str(row.get("url", "")), () if row.get("priority") in ("explicit", "supplemental") else ("*",)


def _rows(items: Any) -> list[Mapping[str, Any]]:
    return [mapping(row) for row in (items if isinstance(items, list) else [])]


def _poetry_rows(item: Listed, view: ProjectView) -> Iterator[tuple[str, str]]:
    """What `[tool.poetry.dependencies]` adds to a requirement of `[project]`: URL and marker."""
    poetry = view.tool("poetry")
    urls = {str(row.get("name")): str(row.get("url", "")) for row in _rows(poetry.get("source"))}
    tables = [mapping(poetry.get("dependencies"))]
    mine = ("", item.scope.name) if item.scope.kind == "extra" else ("",)
    if item.scope.kind == "group":
        group = mapping(mapping(poetry.get("group")).get(item.scope.name))
        tables.insert(0, mapping(group.get("dependencies")))
    for table in tables:
        for name, found in table.items():
            if re.sub(r"[-_.]+", "-", str(name)).lower() != item.package:
                continue
            for row in map(mapping, found if isinstance(found, list) else [found]):
                for extra, marker in by_extra(str(row.get("markers", ""))):
                    if "source" in row and extra in mine:
                        yield urls.get(str(row["source"]), ""), marker


def unread(view: ProjectView, catalog: Catalog) -> tuple[Choice, ...]:
    """The choices of the file that uv does not read."""
    return missing(choices(view, catalog), view, catalog)


def missing(seen: Iterable[Choice], view: ProjectView, catalog: Catalog) -> tuple[Choice, ...]:
    """Those of the choices that uv does not read in a file."""
    there = _by_point(choices(view.as_uv_reads(), catalog))
    return tuple(item for item in seen if not _by_point((item,)).items() <= there.items())


def _by_point(items: Iterable[Choice]) -> dict[tuple[Any, ...], tuple[frozenset[str], frozenset[str]]]:
    """Scope, package, platform, Python -> the backends and the bounds: the same for every spelling."""
    found: dict[tuple[Any, ...], tuple[frozenset[str], frozenset[str]]] = {}
    for item in items:
        for point in item.points:
            key = (item.scope.key, item.package, *point)
            backends, bounds = found.get(key, (frozenset(), frozenset()))
            found[key] = backends | {item.backend}, bounds | {item.bounds}
    return found


def _publishable(item: Choice, availability: Availability) -> Choice:
    """A choice on the platforms for which its build is published; the default index serves the others."""
    spec = SpecifierSet(item.bounds)
    known = availability.platforms(item.package, item.backend, spec)
    known = known or availability.platforms(item.package, item.backend) or frozenset(PLATFORMS[:3])
    return item.on(known)


def entries_of(seen: Iterable[Choice], catalog: Catalog) -> Entries:
    """What uv's tables need to hold these choices.

    Raises:
        UsageError: `not-carried`: uv has no words for one of them.
    """
    availability = Availability(catalog, "stable")
    merged: dict[tuple[Any, ...], Choice] = {}
    # What the project takes from an index, its extras and groups take from there too: one entry says it.
    known = [_publishable(item, availability) for item in seen]
    for item in sorted(known, key=lambda row: row.scope != ALWAYS):
        base = item.package, ALWAYS.key, item.url
        key = base if base in merged else (item.package, item.scope.key, item.url)
        merged[key] = merged[key].joined(item) if key in merged else item
    routes: dict[tuple[Scope, str], Route] = {}
    sources: dict[str, tuple[Route, ...]] = {}
    for item in merged.values():
        pythons = {python for _, python in item.points}
        if len(item.points) != len(item.platforms) * len(pythons):
            raise _not_carried(item, "for some versions of Python only")
        route = Route(
            backend=item.backend,
            index=f"pytorch-{item.backend}",
            url=item.url,
            platforms=item.platforms,
            scope=item.scope,
        )
        sources[item.package] = (*sources.get(item.package, ()), route)
        if item.package == "torch" or (item.scope, item.url) not in routes:
            routes[item.scope, item.url] = route
    found = tuple(routes.values())
    return Entries(routes=found, sources=tuple(sources.items()), conflicts=rivals(found))


def carried(seen: Iterable[Choice], view: ProjectView, catalog: Catalog) -> None:
    """Compare what was seen with what uv reads now.

    Raises:
        UsageError: `not-carried`: uv would not do the same.
    """
    availability = Availability(catalog, "stable")
    there = _by_point(choices(view.as_uv_reads(), catalog))
    items = tuple(_publishable(item, availability) for item in seen)
    wanted = _by_point(items)
    for item in items:
        for key in _by_point((item,)):
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
