"""Work a layout out for one project: which index serves which package where, and what must be required."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import structs
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from torchinstall.catalog.catalog import Catalog
from torchinstall.core.errors import NoCompatibleBuildError, UsageError
from torchinstall.core.messages import Message
from torchinstall.index.urls import index_url
from torchinstall.planner.builds import runtime_entry
from torchinstall.project.availability import Availability, check_bounds, unrouted
from torchinstall.project.model import ALWAYS, Dependency, Entries, Layout, Route, Scope, rivals
from torchinstall.project.platforms import PLATFORMS, marker_of, partition, required_marker
from torchinstall.project.pyproject import ProjectView, scope_in

_Sources = Mapping[str, tuple[Route, ...]]


def project_entries(layout: Layout, view: ProjectView, catalog: Catalog) -> Entries:
    """The entries that a project needs for a layout.

    Raises:
        UsageError: a backend that nobody knows.
        NoCompatibleBuildError: the project's own version bounds rule out every build of a backend.
    """
    availability = Availability(catalog, layout.channel, view)
    there = {route.backend for route in layout.kept}
    new = (backend for backend in dict.fromkeys(layout.backends) if backend not in there)
    routes = (*layout.kept, *(_route(backend, layout, view, availability) for backend in new))
    notes = check_bounds(routes, view, availability)
    sources = {
        package: tuple(
            structs.replace(route, platforms=platforms)
            for route in routes
            if (platforms := _served(package, route, layout, view, availability))
        )
        for package in _packages(layout, view, catalog)
    }
    dependencies = _dependencies(sources, routes, layout, view, availability)
    runtime: dict[str, tuple[Route, ...]] = {}
    for route in routes:
        for package, platforms in _runtime(route, layout, availability):
            scope = route.scope
            if scope == ALWAYS:
                scope = (view.scopes_of("torch") or (_home(view),))[0]
            marker = marker_of(platforms)
            dependencies.append(Dependency(scope=scope, package=package, marker=marker))
            part = structs.replace(route, platforms=platforms)
            runtime[package] = (*runtime.get(package, ()), part)
    environments = partition(route.platforms for parts in sources.values() for route in parts)
    return Entries(
        routes=routes,
        sources=tuple({**sources, **runtime}.items()),
        dependencies=tuple(dict.fromkeys(dependencies)),
        default_group=_default_group(layout, routes, dependencies, view),
        environments=environments if layout.offers_choice and layout.split else (),
        required=tuple(required_marker(item) for item in PLATFORMS if item in (layout.required or ())),
        conflicts=rivals(routes, layout.kept),
        notes=(*notes, *_unserved(sources, routes)),
    )


def _served(
    package: str, route: Route, layout: Layout, view: ProjectView, availability: Availability
) -> frozenset[str]:
    """The platforms on which a route serves a package; as the file says, where the route is kept."""
    rows = view.sources.get(package, []) if route in layout.kept else []
    mine = [row for row in rows if scope_in(row) == route.scope and view.index_url(row) == route.url]
    there = frozenset[str]().union(*(view.platforms_of(row) for row in mine))
    return there or availability.served(package, route)


def _packages(layout: Layout, view: ProjectView, catalog: Catalog) -> tuple[str, ...]:
    """The packages to route: torch, what was asked for, and every companion that the project lists."""
    listed = {item.package for item in view.listed}
    companions = (row.package for row in catalog.families if row.routed and not row.runtime_of)
    return tuple(dict.fromkeys(("torch", *layout.packages, *(name for name in companions if name in listed))))


def _route(backend: str, layout: Layout, view: ProjectView, availability: Availability) -> Route:
    """A backend with the platforms that it serves in this project."""
    catalog = availability.catalog
    if catalog.backend(backend) is None:
        raise UsageError(
            "unknown-backend",
            f"there is no backend {backend!r}",
            wanted=", ".join(catalog.known_backends()),
            found=backend,
            hints=("torchinstall catalog show",),
        )
    scope = view.spelled(layout.scope_of(backend))
    # Where the project's bounds leave no platform, `check_bounds` says why.
    cap, bounds = _cap_spec(layout, backend), SpecifierSet()
    for item in view.listed:
        if item.package == "torch" and item.requirement.marker is None and item.scope in (ALWAYS, scope):
            bounds &= item.requirement.specifier
    platforms = availability.platforms("torch", backend, bounds & cap)
    platforms = platforms or availability.platforms("torch", backend, cap)
    if not platforms:
        raise NoCompatibleBuildError(
            "backend-not-published",
            f"no torch is known to be published for {backend}",
            wanted=f"a torch wheel in the {backend} index",
            found="none that torchinstall knows",
            hints=("torchinstall catalog update",),
        )
    if layout.name == "markers":
        platforms = frozenset(platform for platform, chosen in layout.on if chosen == backend)
        there = availability.platforms("torch", backend)
        for platform in sorted(platforms - there):
            raise NoCompatibleBuildError(
                "backend-not-on-platform",
                f"torch for {backend} is not published for {platform}",
                wanted=f"a {backend} wheel for {platform}",
                found=f"{backend} for {', '.join(sorted(there))}",
                hints=(f"--on {platform}=default", f"--on {platform}=cpu"),
            )
    return Route(
        backend=backend,
        index=f"pytorch-{backend}" if layout.channel == "stable" else f"pytorch-{layout.channel}-{backend}",
        url=index_url(layout.index_base, layout.channel, backend),
        platforms=platforms,
        scope=scope,
    )


def _cap_spec(layout: Layout, backend: str) -> SpecifierSet:
    """The bound that the planned machine sets on a backend's torch."""
    cap = dict(layout.caps).get(backend)
    return SpecifierSet(f"<{cap}" if cap else "")


def _unserved(sources: _Sources, routes: tuple[Route, ...]) -> Iterable[Message]:
    for package, parts in sources.items():
        served = {route.backend for route in parts}
        for route in routes:
            if package != "torch" and route.backend not in served:
                yield Message(
                    slug="companion-not-on-index",
                    message=f"{package} is not known to be published for {route.backend}, so it stays on "
                    "the default index",
                )


def _home(view: ProjectView) -> Scope:
    """Where to put what is listed nowhere: the group `torch` where the project has no list of its own."""
    return ALWAYS if view.project and not view.dynamic_dependencies else Scope("group", "torch")


def _dependencies(
    sources: _Sources,
    routes: tuple[Route, ...],
    layout: Layout,
    view: ProjectView,
    availability: Availability,
) -> list[Dependency]:
    """What must be required directly: uv ignores the sources of what only others require.

    Without a choice: wherever it is listed already, else beside the project's other dependencies. With one:
    in each route's own extra or group; the project's own list keeps what it has.
    """

    def dependency(scope: Scope, package: str, low: str | None, cap: str | None) -> Dependency:
        if package != "torch":
            asked = package in layout.packages
            low, cap = (_companion_floor(package, low, availability.catalog) if asked else None), None
        wording = dict(layout.wording).get(package)
        return Dependency(scope=scope, package=package, floor=low, cap=cap, wording=wording)

    if not layout.offers_choice:
        low = _floor(routes, layout, availability)
        caps = [cap for backend, cap in layout.caps if any(route.backend == backend for route in routes)]
        cap = min(caps, key=Version, default=None)  # one list serves every platform
        return [
            dependency(scope, package, low, cap)
            for package in sources
            for scope in view.scopes_of(package) or (_home(view),)
        ]
    base = {item.package for item in view.listed if item.scope == ALWAYS}
    found = []
    for route in routes:
        low, cap = _floor((route,), layout, availability), dict(layout.caps).get(route.backend)
        for package, parts in sources.items():
            if route in layout.kept and package not in (*layout.packages, *base):
                continue  # an extra of the project's own lists what it wants
            if package not in base:
                found.append(dependency(route.scope, package, low, cap))
            elif any(part.scope == route.scope for part in parts):
                found.append(dependency(route.scope, package, None, cap))
    return found


def _floor(routes: tuple[Route, ...], layout: Layout, availability: Availability) -> str | None:
    """The newest torch that every route, and the default index elsewhere, has for the oldest Python.

    None where nothing is known. A lower bound keeps the resolver from running back to a version that was
    published before these indexes were.
    """
    python = next(iter(availability.pythons), None)
    found = [availability.newest("torch", None, unrouted(routes), None, python)]
    for route in routes:
        cap = _cap_spec(layout, route.backend)
        found.append(availability.newest("torch", route.backend, route.platforms, cap, python))
    if layout.torch is not None:
        found.append(Version(Version(layout.torch).public))
    lowest = min((version for version in found if version is not None), default=None)
    return str(lowest) if lowest is not None else None


def _companion_floor(package: str, torch: str | None, catalog: Catalog) -> str | None:
    """The version of a companion that belongs to the torch floor; None where they are not paired."""
    family = catalog.family(package)
    if torch is None or family is None:
        return None
    if family.pairing == "torch":
        return torch
    row = catalog.companion(torch, package)
    return row.version if row is not None else None


def _runtime(
    route: Route, layout: Layout, availability: Availability
) -> Iterable[tuple[str, frozenset[str]]]:
    """Packages that the backend's torch depends on and that only the PyTorch index has."""
    catalog = availability.catalog
    info = catalog.backend(route.backend)
    if info is None:
        return
    cap = _cap_spec(layout, route.backend)
    versions = {
        availability.newest("torch", route.backend, [platform], cap, python)
        for python in {*availability.pythons[:1], *availability.pythons[-1:]} or (None,)
        for platform in route.platforms
    }
    for family in catalog.families:
        entry = runtime_entry(family, info, "stable")
        if entry is None:
            continue
        if entry == info.name != info.kind.kind:
            # Its files are only linked from the index: no table of wheels lists them.
            yield family.package, route.platforms
        elif any(version and catalog.companion(str(version), family.package) for version in versions):
            known = availability.platforms(family.package, route.backend)
            yield family.package, route.platforms & (known or route.platforms)


def _default_group(
    layout: Layout, routes: tuple[Route, ...], dependencies: list[Dependency], view: ProjectView
) -> str | None:
    """The group that a bare `uv run` must take: the default backend's, or the one that torch was put into."""
    if layout.offers_choice:
        return next((route.scope.name for route in routes if route.backend == layout.default), None)
    home = _home(view)
    used = any(item.scope == home for item in dependencies)
    return home.name if home.kind == "group" and used and set(view.scopes_of("torch")) <= {home} else None
