"""From a layout to entries: which index serves which package where, and what must be required. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packaging.specifiers import SpecifierSet

from torchinstall.core.errors import NoCompatibleBuildError, UsageError
from torchinstall.index.urls import index_url
from torchinstall.project.availability import Stock
from torchinstall.project.bounds import cap_spec, check_listed
from torchinstall.project.model import Desired, Layout, Message, Need, Route, Source
from torchinstall.project.needs import all_needs, cells_of, home_of
from torchinstall.project.platforms import CELLS, marker_of, partition, required_marker
from torchinstall.project.view import Place, ProjectView

if TYPE_CHECKING:
    from torchinstall.catalog.catalog import Catalog

__all__ = ["desired", "routed_packages", "routes"]


def desired(layout: Layout, view: ProjectView, catalog: Catalog) -> Desired:
    """The entries that a project needs for a layout.

    Raises:
        UsageError: a backend that nobody knows.
        NoCompatibleBuildError: the project's own version bounds rule out every build of a backend.
    """
    stock = Stock(catalog, layout.channel, _known_pythons(layout, view, catalog))
    ways = routes(layout, view, stock)
    notes = check_listed(ways, view, stock)
    packages = routed_packages(layout, view, catalog)
    sources, more = _sources(packages, ways, stock)
    needs, runtime = all_needs(packages, ways, layout, view, stock)
    return Desired(
        indexes=tuple((_index_name(way.backend, layout.channel), way.url) for way in ways),
        sources=(*sources, *runtime),
        needs=needs,
        conflicts=tuple(way.select for way in ways if way.select is not None) if len(ways) > 1 else (),
        default_group=_default_group(layout, ways, needs, view),
        environments=_environments(sources, ways, stock, layout),
        required=tuple(required_marker(cell) for cell in CELLS if cell in layout.required),
        notes=(*notes, *more),
    )


def routed_packages(layout: Layout, view: ProjectView, catalog: Catalog) -> tuple[str, ...]:
    """The packages to route: torch, what was asked for, and every companion that the project lists."""
    listed = {item.package for item in view.listed}
    family = [
        row.package
        for row in catalog.families
        if row.routed and not row.runtime_of and row.package in listed  # runtime packages: see `needs`
    ]
    return tuple(dict.fromkeys(("torch", *layout.packages, *family)))


def routes(layout: Layout, view: ProjectView, stock: Stock) -> tuple[Route, ...]:
    """Each backend with the platforms that it serves in this project.

    Raises:
        UsageError: a backend that nobody knows.
        NoCompatibleBuildError: it has no build that the bounds allow.
    """
    found = []
    for backend in dict.fromkeys(layout.backends):
        if stock.catalog.backend(backend) is None:
            raise UsageError(
                "unknown-backend",
                f"there is no backend {backend!r}",
                wanted=", ".join(stock.catalog.known_backends()),
                found=backend,
                hints=("torchinstall catalog show",),
            )
        select = None
        if layout.selector is not None:
            select = view.place(layout.selector, backend) or Place(layout.selector, backend)
        cells = _cells(backend, select, layout, view, stock)
        if not cells:
            raise NoCompatibleBuildError(
                "backend-not-published",
                f"no torch is known to be published for {backend}",
                wanted=f"a torch wheel in the {backend} index",
                found="none in the catalog",
                hints=("torchinstall catalog update",),
            )
        if layout.name == "markers":
            cells = frozenset(cell for cell, chosen in layout.on if chosen == backend)
            _served(backend, cells, stock)
        url = index_url(layout.index_base, layout.channel, backend)
        found.append(Route(backend=backend, url=url, cells=cells, select=select))
    return tuple(found)


def _cells(
    backend: str, select: Place | None, layout: Layout, view: ProjectView, stock: Stock
) -> frozenset[str]:
    """The platforms for which the backend has a torch within the project's bounds.

    Where it has none anywhere, those bounds are left out: holding them against the builds says why.
    """
    cap = cap_spec(layout, backend)
    bounds = SpecifierSet()
    for item in view.listed:
        if item.package == "torch" and item.requirement.marker is None and item.place in (Place(), select):
            bounds &= item.requirement.specifier
    narrowed = stock.cells("torch", backend, bounds & cap if cap is not None else bounds)
    return narrowed or stock.cells("torch", backend, cap)


def _served(backend: str, cells: frozenset[str], stock: Stock) -> None:
    there = stock.cells("torch", backend)
    for cell in sorted(cells - there):
        raise NoCompatibleBuildError(
            "backend-not-on-platform",
            f"torch for {backend} is not published for {cell}",
            wanted=f"a {backend} wheel for {cell}",
            found=f"{backend} for {', '.join(sorted(there))}",
            hints=(f"--on {cell}=default", f"--on {cell}=cpu"),
        )


def _known_pythons(layout: Layout, view: ProjectView, catalog: Catalog) -> tuple[str, ...]:
    """The project's Python versions, without the old ones for which no torch was ever built."""
    if not str(view.requires_python):
        return ()
    plain = Stock(catalog, layout.channel)
    tags = {tag for cell in CELLS for row in plain.rows("torch", None, cell) for tag in row.tags}
    return tuple(item for item in view.pythons if any(_is_for(tag, item) for tag in tags)) or view.pythons[:1]


def _is_for(tag: str, python: str) -> bool:
    return tag.partition("-")[0] == "cp" + python.replace(".", "")


def _index_name(backend: str, channel: str) -> str:
    return f"pytorch-{backend}" if channel == "stable" else f"pytorch-{channel}-{backend}"


def _sources(
    packages: tuple[str, ...], ways: tuple[Route, ...], stock: Stock
) -> tuple[tuple[tuple[str, tuple[Source, ...]], ...], tuple[Message, ...]]:
    found = []
    notes = []
    for package in packages:
        entries = []
        for way in ways:
            cells = cells_of(package, way, stock)
            if cells:
                entries.append(Source(url=way.url, marker=marker_of(cells), select=way.select))
            elif package != "torch":
                notes.append(
                    Message(
                        slug="companion-not-on-index",
                        message=f"{package} is not known to be published for {way.backend}, so it stays on "
                        "the default index",
                    )
                )
        if entries:
            found.append((package, tuple(entries)))
    return tuple(found), tuple(notes)


def _environments(
    sources: tuple[tuple[str, tuple[Source, ...]], ...], ways: tuple[Route, ...], stock: Stock, layout: Layout
) -> tuple[str, ...]:
    if layout.selector is None:
        return ()
    return partition(
        cells for package, _ in sources for way in ways if (cells := cells_of(package, way, stock))
    )


def _default_group(
    layout: Layout, ways: tuple[Route, ...], needs: tuple[Need, ...], view: ProjectView
) -> str | None:
    """The group that a bare `uv run` must take: the default backend's, or the one that torch was put into."""
    if layout.selector is None:
        home = home_of(view)
        used = any(need.place == home for need in needs) and not any(
            item.package == "torch" and item.place != home for item in view.listed
        )
        return home.name if home.kind == "group" and used else None
    if layout.default is None:
        return None
    return next((way.select.name for way in ways if way.backend == layout.default and way.select), None)
