"""What must be required directly, and where: uv ignores the sources of what only others require. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packaging.version import Version

from torchinstall.planner.companions import runtime_entry
from torchinstall.project.bounds import cap_spec, companion_floor, floor
from torchinstall.project.model import Layout, Need, Route, Source
from torchinstall.project.platforms import marker_of
from torchinstall.project.view import Place, ProjectView

if TYPE_CHECKING:
    from torchinstall.project.availability import Stock

__all__ = ["all_needs", "cells_of", "home_of"]

Sources = tuple[tuple[str, tuple[Source, ...]], ...]


def cells_of(package: str, way: Route, stock: Stock) -> frozenset[str]:
    """The platforms on which a package comes from a route's index; empty: it stays on the default index."""
    if package == "torch":
        return way.cells
    family = stock.catalog.family(package)
    if family is None or not family.routed:
        return frozenset()
    if way.backend in family.runtime_of:
        return way.cells
    return way.cells & stock.cells(package, way.backend)


def home_of(view: ProjectView) -> Place:
    """Where to put what is listed nowhere: the group `torch` where the project's own list is not ours."""
    return Place() if view.project and not view.dynamic_dependencies else Place("group", "torch")


def all_needs(
    packages: tuple[str, ...], ways: tuple[Route, ...], layout: Layout, view: ProjectView, stock: Stock
) -> tuple[tuple[Need, ...], Sources]:
    """The requirements, and the sources of the runtime packages among them."""
    plain = home_of(view)
    if layout.selector is None:
        needs = _unconditional(packages, ways, layout, view, stock, plain)
        home = (_places("torch", view) or (plain,))[0]
    else:
        needs = [need for way in ways for need in _selected(packages, way, layout, view, stock)]
        home = plain
    runtime: dict[str, list[Source]] = {}
    for way in ways:
        for package, cells in _runtime(way, layout, stock):
            marker = marker_of(cells)
            needs.append(Need(place=way.select or home, package=package, marker=marker))
            runtime.setdefault(package, []).append(Source(url=way.url, marker=marker, select=way.select))
    return tuple(dict.fromkeys(needs)), tuple((name, tuple(rows)) for name, rows in runtime.items())


def _unconditional(
    packages: tuple[str, ...],
    ways: tuple[Route, ...],
    layout: Layout,
    view: ProjectView,
    stock: Stock,
    plain: Place,
) -> list[Need]:
    """Wherever they are listed already, else beside the project's other dependencies."""
    low = floor(ways, layout, stock)
    caps = [cap for backend, cap in layout.caps if any(way.backend == backend for way in ways)]
    cap = min(caps, key=Version, default=None)  # one list serves every platform
    return [
        _need(place, package, low, cap, layout, stock)
        for package in packages
        for place in _places(package, view) or (plain,)
    ]


def _selected(
    packages: tuple[str, ...], way: Route, layout: Layout, view: ProjectView, stock: Stock
) -> list[Need]:
    """In the route's own extra or group; the project's own list keeps what it has."""
    base = {item.package for item in view.listed if item.place == Place()}
    low = floor((way,), layout, stock)
    cap = dict(layout.caps).get(way.backend)
    place = way.select or Place()
    return [
        _need(place, package, None if package in base else low, cap, layout, stock)
        for package in packages
        if package not in base or cells_of(package, way, stock)
    ]


def _need(place: Place, package: str, low: str | None, cap: str | None, layout: Layout, stock: Stock) -> Need:
    if package == "torch":
        return Need(place=place, package=package, floor=low, cap=cap)
    asked = package in layout.packages
    return Need(place=place, package=package, floor=companion_floor(package, low, stock) if asked else None)


def _places(package: str, view: ProjectView) -> tuple[Place, ...]:
    return tuple(dict.fromkeys(item.place for item in view.listed if item.package == package))


def _runtime(way: Route, layout: Layout, stock: Stock) -> list[tuple[str, frozenset[str]]]:
    """Packages that the backend's torch depends on and that only the PyTorch index has."""
    info = stock.catalog.backend(way.backend)
    ends: set[str | None] = {*stock.pythons[:1], *stock.pythons[-1:]}
    spec = cap_spec(layout, way.backend)
    versions = {
        stock.newest("torch", way.backend, [cell], spec, python)
        for python in ends or {None}
        for cell in way.cells
    }
    found = []
    for family in stock.catalog.families:
        entry = None if info is None else runtime_entry(family, info, "stable")
        if info is None or entry is None:
            continue
        if entry == info.name != info.kind.kind:
            # Its files are only linked from the index: no table of wheels lists them.
            found.append((family.package, way.cells))
            continue
        if any(version and stock.catalog.companion(str(version), family.package) for version in versions):
            cells = way.cells & (stock.cells(family.package, way.backend) or way.cells)
            found.append((family.package, cells))
    return found
