"""Work a layout out for one project: which index serves which package where, and what must be required."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec import structs
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from torchinstall.catalog.catalog import Catalog
from torchinstall.core.errors import NoCompatibleBuildError, UsageError
from torchinstall.core.messages import Message
from torchinstall.index.urls import index_url
from torchinstall.planner.builds import runtime_entry
from torchinstall.project.choices import Availability, check_bounds, routed_in, unrouted
from torchinstall.project.model import (
    ALWAYS,
    PLATFORMS,
    Choice,
    Dependency,
    Entries,
    Layout,
    Scope,
    holds,
    marker_at,
    marker_environment,
    marker_of,
    points_of,
    required_marker,
    rivals,
    separation,
)
from torchinstall.project.pyproject import ProjectView, scope_in


def project_entries(layout: Layout, view: ProjectView, catalog: Catalog) -> Entries:
    """The entries that a project needs for a layout.

    Raises:
        UsageError: a backend that nobody knows.
        NoCompatibleBuildError: the project's own version bounds rule out every build of a backend.
    """
    availability = Availability(catalog, layout.channel, view)
    there = {item.backend for item in layout.kept}
    new = (backend for backend in dict.fromkeys(layout.backends) if backend not in there)
    torch = (*layout.kept, *(_torch(backend, layout, view, availability) for backend in new))
    notes = check_bounds(torch, view, availability)
    listed = {item.package for item in view.listed}
    family = (row.package for row in catalog.families if row.routed and not row.runtime_of)
    apart = {item.package for item in layout.companions}
    named = ("torch", *layout.packages, *(name for name in family if name in listed))
    packages = tuple(name for name in dict.fromkeys(named) if name not in apart)
    choices = [
        choice
        for package in packages
        for item in torch
        if (choice := _of_package(package, item, layout, view, availability)).points
    ]
    choices += _own(packages, choices, view, catalog)
    dependencies = _dependencies(packages, choices, torch, layout, view, availability)
    leaves = _leaves_others(layout, view)
    environments = separation(choices, view.versions, others=not leaves)
    environments = environments if layout.offers_choice and layout.split else ()
    if leaves and environments and view.texts("environments") is None:
        message = "tool.uv.environments leaves out systems such as FreeBSD, for which nobody has a torch"
        notes = (*notes, Message(slug="environments-narrowed", message=message))
    for choice in [runtime for item in torch for runtime in _runtime(item, layout, availability)]:
        scope = choice.scope
        if scope == ALWAYS:
            scope = (view.scopes_of("torch") or (_home(view),))[0]
        marker = marker_of(choice.platforms)
        dependencies.append(Dependency(scope=scope, package=choice.package, marker=marker))
        choices.append(choice)
    for item in layout.companions:
        scope = next((row.scope for row in torch if row.backend == item.backend), ALWAYS)
        item = structs.replace(item, scope=scope, points=item.points & points_of(PLATFORMS, view.versions))
        choices += [item] if item.url and item.points else []
        home = scope if scope != ALWAYS else (view.scopes_of(item.package) or (_home(view),))[0]
        marker = marker_at(item.points, view.versions) if item.points else None
        dependencies.append(Dependency(scope=home, package=item.package, wording=item.bounds, marker=marker))
    return Entries(
        choices=tuple(choices),
        packages=(*packages, *(item.package for item in layout.companions if item.url)),
        dependencies=tuple(dict.fromkeys(dependencies)),
        default_group=_default_group(layout, torch, dependencies, view),
        environments=environments,
        required=tuple(required_marker(item) for item in PLATFORMS if item in (layout.required or ())),
        conflicts=rivals(torch, layout.kept),
        notes=(*notes, *_unserved(packages, choices, torch, availability)),
    )


def _torch(backend: str, layout: Layout, view: ProjectView, availability: Availability) -> Choice:
    """A backend's torch, with the platforms that it serves in this project."""
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
    cap, bounds = _cap(layout, backend), SpecifierSet()
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
    return Choice(
        backend=backend,
        index=f"pytorch-{backend}" if layout.channel == "stable" else f"pytorch-{layout.channel}-{backend}",
        url=index_url(layout.index_base, layout.channel, backend),
        points=points_of(platforms, view.versions),
        scope=scope,
    )


def _of_package(
    package: str, torch: Choice, layout: Layout, view: ProjectView, availability: Availability
) -> Choice:
    """A package from the index that torch comes from: as the file says, where that choice is kept.

    A companion comes from there only where torch does: what does not require torch itself gets the default
    index's, whatever the sources say.
    """
    found = structs.replace(torch, package=package)
    if package == "torch":
        return found
    mine = (torch.url, torch.scope)
    kept = routed_in(view, availability.catalog, package) if torch in layout.kept else ()
    if there := [item for item in kept if (item.url, item.scope) == mine]:
        return structs.replace(there[0], index=torch.index)
    if torch in layout.kept and not _asks(package, torch.scope, layout, view):
        return found.on(())
    family = availability.catalog.family(package)
    if family is None or not family.routed:
        return found.on(())
    required = view.required_at("torch", torch.scope) or found.points
    nowhere = torch.platforms - availability.platforms("torch", torch.backend)
    if torch.backend not in family.runtime_of:  # where a person's own source has no torch, it goes with torch
        found = found.on(availability.platforms(package, torch.backend) | nowhere)
    return structs.replace(found, points=found.points & required)


def _asks(package: str, scope: Scope, layout: Layout, view: ProjectView) -> bool:
    """Whether a list that a kept choice of torch is for asks for a companion without a source of its own.

    uv refuses a source for an extra or group that does not list the package.
    """
    if scope != ALWAYS:
        return package in layout.packages or bool(view.required_at(package, scope))
    own = {scope_in(row).key for row in view.sources.get(package, [])}
    return not own or not {item.key for item in view.scopes_of(package)} <= own


def _own(
    packages: tuple[str, ...], choices: list[Choice], view: ProjectView, catalog: Catalog
) -> list[Choice]:
    """What a person's own sources say of companions in lists that torch has no choice for."""
    taken = {(item.package, item.scope.key) for item in choices} | {(name, ALWAYS.key) for name in packages}
    own = (item for name in packages if name != "torch" for item in routed_in(view, catalog, name))
    return [item for item in own if (item.package, item.scope.key) not in taken]


def _leaves_others(layout: Layout, view: ProjectView) -> bool:
    """Whether a source that stays holds on systems for which nobody has a torch, such as FreeBSD."""
    others = {**marker_environment(PLATFORMS[0], view.versions[0]), "sys_platform": "", "os_name": "posix"}
    urls = {item.url for item in layout.kept}
    rows = [row for row in view.sources.get("torch", []) if view.index_url(row) in urls]
    return any("marker" in row and holds(str(row["marker"]), others) for row in rows)


def _cap(layout: Layout, backend: str) -> SpecifierSet:
    """The bound that the planned machine sets on a backend's torch."""
    cap = dict(layout.caps).get(backend)
    return SpecifierSet(f"<{cap}" if cap else "")


def _unserved(
    packages: tuple[str, ...], choices: list[Choice], torch: tuple[Choice, ...], availability: Availability
) -> Iterator[Message]:
    for package in packages:
        served = {item.backend for item in choices if item.package == package}
        for item in torch:
            if item.backend not in served and not availability.platforms(package, item.backend):
                yield Message(
                    slug="companion-not-on-index",
                    message=f"{package} is not known to be published for {item.backend}, so it stays on "
                    "the default index",
                )


def _home(view: ProjectView) -> Scope:
    """Where to require what is listed nowhere: the group `torch` where the project has no list of its own."""
    return ALWAYS if view.project and not view.dynamic_dependencies else Scope("group", "torch")


def _dependencies(
    packages: tuple[str, ...],
    choices: list[Choice],
    torch: tuple[Choice, ...],
    layout: Layout,
    view: ProjectView,
    availability: Availability,
) -> list[Dependency]:
    """What must be required directly: uv ignores the sources of what only others require.

    Without a choice: wherever it is listed already, else beside the project's other dependencies. With one:
    in each backend's own extra or group; the project's own list keeps what it has.
    """

    def dependency(scope: Scope, package: str, low: str | None, cap: str | None) -> Dependency:
        if package != "torch":
            asked = package in layout.packages
            low, cap = (_companion_floor(package, low, availability.catalog) if asked else None), None
        wording = dict(layout.wording).get(package)
        return Dependency(scope=scope, package=package, floor=low, cap=cap, wording=wording)

    if not layout.offers_choice:
        low = _floor(torch, layout, availability)
        caps = [cap for backend, cap in layout.caps if any(item.backend == backend for item in torch)]
        cap = min(caps, key=Version, default=None)  # one list serves every platform
        return [
            dependency(scope, package, low, cap)
            for package in packages
            for scope in view.scopes_of(package) or (_home(view),)
        ]
    base = {item.package for item in view.listed if item.scope == ALWAYS}
    routed = {(item.package, item.scope) for item in choices}
    found = []
    for item in torch:
        low, cap = _floor((item,), layout, availability), dict(layout.caps).get(item.backend)
        for package in packages:
            if item in layout.kept and package not in (*layout.packages, *base):
                continue  # an extra of the project's own lists what it wants
            if package not in base:
                found.append(dependency(item.scope, package, low, cap))
            elif (package, item.scope) in routed:
                # Where the project does not require it, no extra or group of its builds does.
                marker = marker_at(view.required_at(package, ALWAYS) or view.points(), view.versions)
                again = dependency(item.scope, package, None, cap)
                found.append(structs.replace(again, marker=marker))
    return found


def _floor(torch: tuple[Choice, ...], layout: Layout, availability: Availability) -> str | None:
    """The newest torch that every choice, and the default index elsewhere, has for the oldest Python.

    None where nothing is known. A lower bound keeps the resolver from running back to a version that was
    published before these indexes were.
    """
    python = next(iter(availability.pythons), None)
    found = [availability.newest("torch", None, unrouted(torch), None, python)]
    for item in torch:
        cap = _cap(layout, item.backend)
        found.append(availability.newest("torch", item.backend, item.platforms, cap, python))
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


def _runtime(torch: Choice, layout: Layout, availability: Availability) -> Iterable[Choice]:
    """Packages that the backend's torch depends on and that only the PyTorch index has."""
    catalog = availability.catalog
    info = catalog.backend(torch.backend)
    if info is None:
        return
    cap = _cap(layout, torch.backend)
    versions = {
        availability.newest("torch", torch.backend, [platform], cap, python)
        for python in {*availability.pythons[:1], *availability.pythons[-1:]} or (None,)
        for platform in torch.platforms
    }
    for family in catalog.families:
        entry, mine = runtime_entry(family, info, "stable"), structs.replace(torch, package=family.package)
        if entry is None:
            continue
        if entry == info.name != info.kind.kind:
            # Its files are only linked from the index: no table of wheels lists them.
            yield mine
        elif any(version and catalog.companion(str(version), family.package) for version in versions):
            yield mine.on(availability.platforms(family.package, torch.backend) or torch.platforms)


def _default_group(
    layout: Layout, torch: tuple[Choice, ...], dependencies: list[Dependency], view: ProjectView
) -> str | None:
    """The group that a bare `uv run` must take: the default backend's, or the one that torch was put into."""
    if layout.offers_choice:
        return next((item.scope.name for item in torch if item.backend == layout.default), None)
    home = _home(view)
    used = any(item.scope == home for item in dependencies)
    return home.name if home.kind == "group" and used and set(view.scopes_of("torch")) <= {home} else None
