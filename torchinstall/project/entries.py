"""Work a layout out for one project: which index serves which package where, and what must be required."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import structs
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from torchinstall.catalog.catalog import Catalog
from torchinstall.core.errors import NoCompatibleBuildError
from torchinstall.core.messages import Message
from torchinstall.index.urls import index_url
from torchinstall.planner.builds import runtime_entry
from torchinstall.planning.request import backend_called
from torchinstall.project.choices import Availability, check_bounds, routed_in, unrouted
from torchinstall.project.model import (
    ALWAYS,
    PLATFORMS,
    Dependency,
    Entries,
    Layout,
    Listed,
    Route,
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
    draft = _Draft(layout, view, catalog)
    notes = [*check_bounds(draft.listed, draft.torch, view, draft.published)]
    dependencies = draft.dependencies()
    leaves = draft.leaves_others()
    environments = separation(draft.choices, view.versions, others=not leaves)
    environments = environments if layout.offers_choice and layout.split else ()
    if leaves and environments and view.texts("environments") is None:
        message = "tool.uv.environments leaves out systems such as FreeBSD, for which nobody has a torch"
        notes.append(Message(slug="environments-narrowed", message=message))
    choices = draft.choices
    for choice in [runtime for item in draft.torch for runtime in draft.runtime(item)]:
        home = choice.scope if choice.scope != ALWAYS else draft.home("torch")
        text = _marked(choice.package, marker_of(choice.platforms))
        dependencies.append(Dependency(home, choice.package, text))
        choices.append(choice)
    for item in layout.companions:
        scope = next((row.scope for row in draft.torch if row.backend == item.backend), ALWAYS)
        item = structs.replace(item, scope=scope, points=item.points & points_of(PLATFORMS, view.versions))
        choices += [item] if item.url and item.points else []
        home = scope if scope != ALWAYS else draft.home(item.package)
        marker = marker_at(item.points, view.versions) if item.points else None
        dependencies.append(Dependency(home, item.package, _marked(item.bounds, marker)))
    return Entries(
        choices=tuple(choices),
        packages=(*draft.packages, *(item.package for item in layout.companions if item.url)),
        dependencies=tuple(dict.fromkeys(dependencies)),
        default_group=draft.default_group(dependencies),
        environments=environments,
        required=tuple(required_marker(item) for item in PLATFORMS if item in (layout.required or ())),
        conflicts=rivals(draft.torch, layout.kept),
        notes=(*notes, *draft.unserved()),
    )


def _marked(text: str, marker: str | None) -> str:
    return f"{text} ; {marker}" if marker else text


class _Draft:
    """A layout in one project: torch's choices, the packages that go with it, and the choices of all."""

    def __init__(self, layout: Layout, view: ProjectView, catalog: Catalog) -> None:
        self.layout, self.view, self.catalog = layout, view, catalog
        self.published = Availability(catalog, layout.channel, view)
        there = {item.backend for item in layout.kept}
        new = [backend for backend in dict.fromkeys(layout.backends) if backend not in there]
        # What asks for torch: as written, and as it is to be written again.
        text = dict(layout.wording).get("torch")
        again = [Listed(layout.scope_of(name), 0, text, Requirement(text)) for name in new if text]
        self.listed = (*(item for item in view.listed if item.package == "torch"), *again)
        self.torch = (*layout.kept, *map(self.torch_of, new))
        listed = {item.package for item in view.listed}
        family = (row.package for row in catalog.families if row.routed_when_asked)
        apart = {item.package for item in layout.companions}
        named = ("torch", *layout.packages, *(name for name in family if name in listed))
        self.packages = tuple(name for name in dict.fromkeys(named) if name not in apart)
        found = (self.of_package(package, item) for package in self.packages for item in self.torch)
        self.choices = [choice for choice in found if choice.points]
        # What a person's own sources say of companions in lists that torch has no choice for.
        taken = {(item.package, item.scope.key) for item in self.choices}
        taken |= {(name, ALWAYS.key) for name in self.packages}
        own = (row for name in self.packages if name != "torch" for row in routed_in(view, catalog, name))
        self.choices += [item for item in own if (item.package, item.scope.key) not in taken]

    def torch_of(self, backend: str) -> Route:
        """A backend's torch, with the platforms that it serves in this project."""
        layout, view = self.layout, self.view
        backend_called(backend, "project", self.catalog)
        scope = view.spelled(layout.scope_of(backend))
        # Where the project's bounds leave no platform, `check_bounds` says why.
        cap = self.cap(backend)
        platforms = self.published.platforms("torch", backend, self.bounds(scope) & cap)
        platforms = platforms or self.published.platforms("torch", backend, cap)
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
            there = self.published.platforms("torch", backend)
            for platform in sorted(platforms - there):
                raise NoCompatibleBuildError(
                    "backend-not-on-platform",
                    f"torch for {backend} is not published for {platform}",
                    wanted=f"a {backend} wheel for {platform}",
                    found=f"{backend} for {', '.join(sorted(there))}",
                    hints=(f"--on {platform}=default", f"--on {platform}=cpu"),
                )
        channel = "" if layout.channel == "stable" else f"{layout.channel}-"
        return Route(
            backend=backend,
            index=f"pytorch-{channel}{backend}",
            url=index_url(layout.index_base, layout.channel, backend),
            points=points_of(platforms, view.versions),
            scope=scope,
        )

    def of_package(self, package: str, torch: Route) -> Route:
        """A package from the index that torch comes from: as the file says, where that choice is kept.

        A companion comes from there only where torch does: what does not require torch itself gets the
        default index's, whatever the sources say.
        """
        found = structs.replace(torch, package=package)
        if package == "torch":
            return found
        kept = routed_in(self.view, self.catalog, package) if torch in self.layout.kept else ()
        if there := [item for item in kept if (item.url, item.scope) == (torch.url, torch.scope)]:
            return structs.replace(there[0], index=torch.index)
        family = self.catalog.family(package)
        left_out = torch in self.layout.kept and not self.asks(package, torch.scope)
        if left_out or family is None or not family.routed:
            return found.on(())
        required = self.view.required_at("torch", torch.scope) or found.points
        nowhere = torch.platforms - self.published.platforms("torch", torch.backend)
        # Where a person's own source has no torch, it goes with torch.
        if torch.backend not in family.runtime_of:
            found = found.on(self.published.platforms(package, torch.backend) | nowhere)
        return structs.replace(found, points=found.points & required)

    def asks(self, package: str, scope: Scope) -> bool:
        """Whether a list that a kept choice of torch is for asks for a companion without a source of its own.

        uv refuses a source for an extra or group that does not list the package.
        """
        if scope != ALWAYS:
            return package in self.layout.packages or bool(self.view.required_at(package, scope))
        own = {scope_in(row).key for row in self.view.sources.get(package, [])}
        return not own or not {item.key for item in self.view.scopes_of(package)} <= own

    def leaves_others(self) -> bool:
        """Whether a source that stays holds on systems for which nobody has a torch, such as FreeBSD."""
        others = marker_environment(PLATFORMS[0], self.view.versions[0])
        others |= {"sys_platform": "", "os_name": "posix"}
        urls = {item.url for item in self.layout.kept}
        rows = [row for row in self.view.sources.get("torch", []) if self.view.index_url(row) in urls]
        return any("marker" in row and holds(str(row["marker"]), others) for row in rows)

    def bounds(self, scope: Scope) -> SpecifierSet:
        """What a list and the project's own say of torch on every platform."""
        mine = (item.requirement for item in self.listed if item.scope.key in (ALWAYS.key, scope.key))
        return SpecifierSet(",".join(str(item.specifier) for item in mine if item.marker is None))

    def cap(self, backend: str) -> SpecifierSet:
        """The bound that the planned machine sets on a backend's torch."""
        cap = dict(self.layout.caps).get(backend)
        return SpecifierSet(f"<{cap}" if cap else "")

    def unserved(self) -> Iterator[Message]:
        """The packages that a backend has not got."""
        for package in self.packages:
            served = {item.backend for item in self.choices if item.package == package}
            for item in self.torch:
                if item.backend not in served and not self.published.platforms(package, item.backend):
                    yield Message(
                        slug="companion-not-on-index",
                        message=f"{package} is not known to be published for {item.backend}, so it stays on "
                        "the default index",
                    )

    def home(self, package: str = "") -> Scope:
        """A list that requires a package; else the project's own, or the group `torch` where it has none."""
        has_own = self.view.project and not self.view.dynamic_dependencies
        own = ALWAYS if has_own else Scope("group", "torch")
        return next(iter(self.view.scopes_of(package)), own)

    def dependencies(self) -> list[Dependency]:
        """What must be required directly: uv ignores the sources of what only others require.

        Without a choice: wherever it is listed already, else beside the project's other dependencies. With
        one: in each backend's own extra or group; the project's own list keeps what it has.
        """
        layout, view = self.layout, self.view
        if not layout.offers_choice:
            low, used = self.floor(*self.torch), {item.backend for item in self.torch}
            # One list serves every platform.
            cap = min((cap for backend, cap in layout.caps if backend in used), key=Version, default=None)
            return [
                self.dependency(scope, package, low, cap)
                for package in self.packages
                for scope in view.scopes_of(package) or (self.home(),)
            ]
        base = {item.package for item in view.listed if item.scope == ALWAYS}
        routed = {(item.package, item.scope) for item in self.choices}
        found = []
        for item in self.torch:
            low, cap = self.floor(item), dict(layout.caps).get(item.backend)
            for package in self.packages:
                if item in layout.kept and package not in (*layout.packages, *base):
                    continue  # an extra of the project's own lists what it wants
                if package not in base:
                    found.append(self.dependency(item.scope, package, low, cap))
                elif (package, item.scope) in routed:
                    # Where the project does not require it, no extra or group of its builds does.
                    marker = marker_at(view.required_at(package, ALWAYS) or view.points(), view.versions)
                    found.append(self.dependency(item.scope, package, None, cap, marker))
        return found

    def dependency(
        self, scope: Scope, package: str, low: str | None, cap: str | None, marker: str | None = None
    ) -> Dependency:
        """A requirement, for torch at least `low` and below `cap`; a companion goes with that torch."""
        if package != "torch":
            family, cap = self.catalog.family(package), None
            if low and family is not None and family.pairing != "torch":
                row = self.catalog.companion(low, package)
                low = row.version if row is not None else None
            low = low if package in self.layout.packages and family is not None else None
        bounds = ",".join([f">={low}"] * bool(low) + [f"<{cap}"] * bool(cap))
        wording = dict(self.layout.wording).get(package, package + bounds)
        return Dependency(scope, package, _marked(wording, marker), cap)

    def floor(self, *torch: Route) -> str | None:
        """The newest torch that every choice, and the default index elsewhere, has for the oldest Python.

        None where nothing is known. A lower bound keeps the resolver from running back to a version that was
        published before these indexes were.
        """
        python = next(iter(self.published.pythons), None)
        found = [self.published.newest("torch", None, unrouted(torch), None, python)]
        for item in torch:
            cap = self.cap(item.backend)
            found.append(self.published.newest("torch", item.backend, item.platforms, cap, python))
        if self.layout.torch is not None:
            found.append(Version(Version(self.layout.torch).public))
        lowest = min((version for version in found if version is not None), default=None)
        return str(lowest) if lowest is not None else None

    def runtime(self, torch: Route) -> Iterator[Route]:
        """Packages that the backend's torch depends on and that only the PyTorch index has."""
        info = self.catalog.backend(torch.backend)
        if info is None:
            return
        pythons = {*self.published.pythons[:1], *self.published.pythons[-1:]} or (None,)
        bounds = self.bounds(torch.scope) & self.cap(torch.backend)
        versions = {
            self.published.newest("torch", torch.backend, [platform], bounds, python)
            for python in pythons
            for platform in torch.platforms
        }
        for family in self.catalog.families:
            entry = runtime_entry(family, info, "stable")
            mine = structs.replace(torch, package=family.package)
            listed = torch in self.layout.kept and self.view.scopes_of(family.package)
            own = routed_in(self.view, self.catalog, family.package) if listed else ()
            if entry is None or torch.url in {item.url for item in own}:
                continue
            if entry == info.name != info.kind.kind:
                # Its files are only linked from the index: no table of wheels lists them.
                yield mine
            elif any(self.catalog.companion(str(version), family.package) for version in versions):
                yield mine.on(self.published.platforms(family.package, torch.backend) or torch.platforms)

    def default_group(self, dependencies: list[Dependency]) -> str | None:
        """The group that a bare `uv run` must take: the default backend's, or the one with torch in it."""
        if self.layout.offers_choice:
            mine = (item.scope.name for item in self.torch if item.backend == self.layout.default)
            return next(mine, None)
        home = self.home()
        used = any(item.scope == home for item in dependencies)
        alone = set(self.view.scopes_of("torch")) <= {home}
        return home.name if home.kind == "group" and used and alone else None
