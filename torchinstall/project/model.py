"""A project's torch choices as values, the same for every kind of file that they are read from."""

from __future__ import annotations

from itertools import combinations
from typing import Literal

from msgspec import Struct, structs
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from torchinstall.core.messages import Message
from torchinstall.core.request import DEFAULT_INDEX_BASE

LayoutName = Literal["this-machine", "markers", "extras", "groups"]


class Scope(Struct, frozen=True):
    """What asks for a dependency: the project itself, one of its extras, or a dependency group."""

    kind: Literal["always", "extra", "group"] = "always"
    name: str = ""

    @property
    def text(self) -> str:
        """What to call it in a sentence."""
        return "project.dependencies" if self.kind == "always" else f"{self.kind} {self.name}"

    @property
    def key(self) -> tuple[str, str]:
        """The same for every spelling of the name (PEP 685)."""
        return self.kind, canonicalize_name(self.name)


ALWAYS = Scope()


class Listed(Struct, frozen=True):
    """A requirement as written, and where; `position` counts every item of that list."""

    scope: Scope
    position: int
    text: str
    requirement: Requirement

    @property
    def package(self) -> str:
        """Its normalised name."""
        return canonicalize_name(self.requirement.name)


class Index(Struct, frozen=True):
    """One `[[tool.uv.index]]`; name None where it has none."""

    url: str
    name: str | None = None
    explicit: bool = False
    default: bool = False


class Route(Struct, frozen=True, kw_only=True):
    """One backend in the project: the index that serves it, on which platforms, and what asks for it.

    Attributes:
        index: name of the index: the usual one for a route that is to be written, else the file's own.
        platforms: platform keys (`platforms.PLATFORMS`) that take the package from this index.
    """

    backend: str
    index: str
    url: str
    platforms: frozenset[str]
    scope: Scope = ALWAYS


class Choice(Struct, frozen=True, kw_only=True):
    """A package that one list of requirements takes from one index of PyTorch.

    Attributes:
        points: (platform key, Python version) for which it does.
        bounds: of its version, without the local segment that names a build.
    """

    scope: Scope
    package: str
    backend: str
    url: str
    points: frozenset[tuple[str, str]]
    bounds: str = ""

    @property
    def platforms(self) -> frozenset[str]:
        """The platforms of its points."""
        return frozenset(platform for platform, _ in self.points)

    def on(self, platforms: frozenset[str]) -> Choice:
        """The same on these platforms only."""
        return structs.replace(self, points=frozenset(item for item in self.points if item[0] in platforms))

    def joined(self, other: Choice) -> Choice:
        """The same on the points of another one too."""
        return structs.replace(self, points=self.points | other.points)


class Layout(Struct, frozen=True, kw_only=True):
    """How a project chooses its torch build.

    Attributes:
        backends: those to choose from; one for `this-machine`; empty where the default index serves.
        on: `markers` only: platform key -> backend; a platform that is missing takes the default index.
        default: `groups` only: the backend whose group is in `default-groups`.
        packages: normalised names that must be required directly, and routed: uv ignores the sources of what
            is only required by others.
        required: platform keys for `required-environments`; None: nobody said, `layouts.complete` decides.
        index_base: as `--index-base`.
        caps: backend -> torch versions from this one on do not run on the machine that was planned for.
        torch: the version planned for the machine, public; None where there is no plan.
        kept: routes of the file that stay as they stand, under whatever names; `backends` counts them too.
        split: resolve platforms with different sources apart, where the file says nothing about it.
        fresh: take what chooses a build out of the file first: the layout replaces the one that is there.
        wording: package -> the requirement that was taken out with an older layout, to be written again.
    """

    name: LayoutName
    backends: tuple[str, ...] = ()
    on: tuple[tuple[str, str], ...] = ()
    default: str | None = None
    packages: tuple[str, ...] = ("torch",)
    required: tuple[str, ...] | None = None
    index_base: str = DEFAULT_INDEX_BASE
    channel: str = "stable"
    caps: tuple[tuple[str, str], ...] = ()
    torch: str | None = None
    kept: tuple[Route, ...] = ()
    split: bool = True
    fresh: bool = False
    wording: tuple[tuple[str, str], ...] = ()

    @property
    def offers_choice(self) -> bool:
        """Whether an extra or a group chooses the backend."""
        return self.name in ("extras", "groups")

    def scope_of(self, backend: str) -> Scope:
        """What asks for a backend: an extra or a group named after it, or the project itself."""
        if self.name == "extras":
            return Scope("extra", backend)
        return Scope("group", backend) if self.name == "groups" else ALWAYS


class Dependency(Struct, frozen=True, kw_only=True):
    """A package that must stand in a list of requirements.

    Attributes:
        floor: lowest version, only used where the package is not listed there yet.
        cap: versions from this one on are out; added to what is listed unless that says so already.
        marker: where it is needed; only used where it is not listed there yet.
        wording: the requirement as a person wrote it, which takes the place of the floor.
    """

    scope: Scope
    package: str
    floor: str | None = None
    cap: str | None = None
    marker: str | None = None
    wording: str | None = None

    @property
    def text(self) -> str:
        """The requirement to write."""
        bounds = ",".join(
            part for part in (self.floor and f">={self.floor}", self.cap and f"<{self.cap}") if part
        )
        text = self.wording or f"{self.package}{bounds}"
        return text + (f" ; {self.marker}" if self.marker else "")


class Entries(Struct, frozen=True, kw_only=True):
    """What must be in a project file: the layout, worked out for this project.

    Attributes:
        routes: each backend.
        sources: package -> the routes that serve it, each with the platforms on which it does; without
            routes it stays on the default index.
        default_group: the group that a bare `uv run` takes; groups of other routes must not be in
            `default-groups`.
        environments: markers to resolve apart; empty: leave the key alone.
        required: markers for `required-environments`; those that are missing are added.
        conflicts: pairs that must not be active together.
    """

    routes: tuple[Route, ...] = ()
    sources: tuple[tuple[str, tuple[Route, ...]], ...] = ()
    dependencies: tuple[Dependency, ...] = ()
    default_group: str | None = None
    environments: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    conflicts: tuple[tuple[Scope, Scope], ...] = ()
    notes: tuple[Message, ...] = ()


def rivals(routes: tuple[Route, ...], kept: tuple[Route, ...] = ()) -> tuple[tuple[Scope, Scope], ...]:
    """The extras or groups of which only one may be active, since they take torch from different indexes."""
    chosen = [route for route in routes if route.scope != ALWAYS]
    if all(route in kept for route in chosen):
        return ()  # whoever wrote them said what conflicts
    return tuple(
        (one.scope, other.scope)
        for one, other in combinations(chosen, 2)
        if one.url != other.url and one.scope != other.scope
    )
