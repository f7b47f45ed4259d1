"""A project's torch choices as values, the same for every kind of file, and the markers that spell them.

A lock serves every platform at once, so a choice says where it holds: on which platforms and Python versions.
Windows is one platform here: where a backend has no wheel for Windows on ARM, the default index has none
either, and the plain `sys_platform == 'win32'` is what people expect to read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import combinations, groupby
from typing import Literal

from msgspec import Struct, structs
from packaging.markers import InvalidMarker, Marker, UndefinedEnvironmentName
from packaging.requirements import Requirement

from torchinstall.core.machine import Os
from torchinstall.core.messages import Message
from torchinstall.core.request import DEFAULT_INDEX_BASE, canonical_name
from torchinstall.core.target import Target

LayoutName = Literal["this-machine", "markers", "extras", "groups"]

Point = tuple[str, str]
"""A platform key and a Python version (`3.12`)."""

PLATFORMS: tuple[str, ...] = ("linux_x86_64", "linux_aarch64", "win_amd64", "macos_arm64")
"""Platform keys as `catalog.platform_of` spells them."""

_SYSTEMS: dict[str, tuple[Os, str]] = {
    "linux_x86_64": ("linux", "x86_64"),
    "linux_aarch64": ("linux", "aarch64"),
    "win_amd64": ("windows", "x86_64"),
    "macos_arm64": ("macos", "aarch64"),
}
"""Platform key -> system and architecture."""


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
        return self.kind, canonical_name(self.name)

    @property
    def path(self) -> tuple[str, ...]:
        """Where its list of requirements stands in a project file."""
        if self.kind == "group":
            return "dependency-groups", self.name
        return ("project", "optional-dependencies", self.name) if self.name else ("project", "dependencies")


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
        return canonical_name(self.requirement.name)


class Index(Struct, frozen=True):
    """One `[[tool.uv.index]]`; name None where it has none."""

    url: str
    name: str | None = None
    explicit: bool = False
    default: bool = False


class Route(Struct, frozen=True, kw_only=True):
    """A package that comes from one index of PyTorch: for whom, and where.

    Attributes:
        scope: the list that asks for it; in uv's sources ALWAYS means every list.
        url: of the index, or of one wheel where `index` is empty; the mark of `LINKS` says that it is a page.
        index: name of the index: the file's own, or the usual one where it is to be written.
        points: for which it holds.
        bounds: of its version, without the local segment that names a build.
        unsaid: a marker that its points do not say all of.
    """

    backend: str
    url: str
    points: frozenset[Point]
    scope: Scope = ALWAYS
    package: str = "torch"
    index: str = ""
    bounds: str = ""
    unsaid: str = ""

    @property
    def platforms(self) -> frozenset[str]:
        """The platforms of its points."""
        return frozenset(platform for platform, _ in self.points)

    def on(self, platforms: Iterable[str]) -> Route:
        """The same on these platforms only."""
        kept = frozenset(platforms)
        return structs.replace(self, points=frozenset(point for point in self.points if point[0] in kept))


class Layout(Struct, frozen=True, kw_only=True):
    """How a project chooses its torch build.

    Attributes:
        backends: those to choose from; one for `this-machine`; empty where the default index serves.
        on: `markers` only: platform key -> backend; a platform that is missing takes the default index.
        default: `groups` only: the backend whose group is in `default-groups`.
        packages: normalised names that must be required directly, and routed: uv ignores the sources of what
            is only required by others.
        required: platform keys for `required-environments`; None: nobody said, `layouts.complete` decides.
        caps: backend -> torch versions from this one on do not run on the machine that was planned for.
        torch: the version planned for the machine, public; None where there is no plan.
        kept: torch's choices in the file that stay as they are; `backends` counts them too.
        split: resolve platforms with different sources apart, where the file says nothing about it.
        replaces: take what chooses a build out of the file first: the layout replaces the one that is there.
        wording: package -> the requirement that was taken out with an older layout, to be written again.
        companions: packages that are built against torch, as planned: where each comes from (empty URL: the
            default index), and as `bounds` its requirement.
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
    replaces: bool = False
    wording: tuple[tuple[str, str], ...] = ()
    companions: tuple[Route, ...] = ()

    @property
    def offers_choice(self) -> bool:
        """Whether an extra or a group chooses the backend."""
        return self.name in ("extras", "groups")

    def scope_of(self, backend: str) -> Scope:
        """What asks for a backend: an extra or a group named after it, or the project itself."""
        if self.name == "extras":
            return Scope("extra", backend)
        return Scope("group", backend) if self.name == "groups" else ALWAYS


class Dependency(Struct, frozen=True):
    """A package that must stand in a list of requirements: as `text` where it is not listed there yet.

    `cap`: versions from this one on are out; added to what is listed unless that says so already.
    """

    scope: Scope
    package: str
    text: str
    cap: str | None = None


class Entries(Struct, frozen=True, kw_only=True):
    """What must be in a project file.

    Attributes:
        choices: one for each package, index and scope; torch's come first.
        packages: those that were looked at; one without a choice stays on the default index.
        default_group: the group that a bare `uv run` takes; groups of other choices must not be in
            `default-groups`.
        environments: markers to resolve apart; empty: leave the key alone.
        required: markers for `required-environments`; those that are missing are added.
        conflicts: pairs that must not be active together.
    """

    choices: tuple[Route, ...] = ()
    packages: tuple[str, ...] = ()
    dependencies: tuple[Dependency, ...] = ()
    default_group: str | None = None
    environments: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    conflicts: tuple[tuple[Scope, Scope], ...] = ()
    notes: tuple[Message, ...] = ()

    @property
    def routes(self) -> tuple[Route, ...]:
        """One choice for each index and scope: torch's where it has one."""
        found: dict[tuple[Scope, str], Route] = {}
        for item in self.choices:
            found.setdefault((item.scope, item.url), item)
        return tuple(found.values())


def rivals(choices: Iterable[Route], kept: tuple[Route, ...] = ()) -> tuple[tuple[Scope, Scope], ...]:
    """The extras or groups of which only one may be active, since they take torch from different indexes."""
    chosen = [item for item in choices if item.scope != ALWAYS]
    if all(item in kept for item in chosen):
        return ()  # whoever wrote them said what conflicts
    pairs = (
        (one.scope, other.scope)
        for one, other in combinations(chosen, 2)
        if one.url != other.url and one.scope != other.scope
    )
    return tuple(dict.fromkeys(pairs))


def points_of(platforms: Iterable[str], pythons: Iterable[str]) -> frozenset[Point]:
    """Every point of these platforms and Python versions."""
    versions = tuple(pythons)
    return frozenset((platform, python) for platform in platforms for python in versions)


@lru_cache(maxsize=1024)
def points_where(marker: str, pythons: tuple[str, ...], patch: str = "0") -> frozenset[Point]:
    """The points for which a marker holds (on one patch release of Python); none where it is no marker."""
    all_points = points_of(PLATFORMS, pythons)
    return frozenset(point for point in all_points if holds(marker, marker_environment(*point, patch)))


def is_exact(marker: str, pythons: tuple[str, ...]) -> bool:
    """Whether points say all of a marker: it asks for no patch release of Python and for no kernel."""
    same = points_where(marker, pythons) == points_where(marker, pythons, "99")
    return same and not {"platform_release", "platform_version"} & {*re.findall(r"\w+", marker)}


def holds(marker: str, environment: dict[str, str]) -> bool:
    """Whether a marker holds: none always does, what is no marker or names what no source can ask never."""
    try:
        return not marker or Marker(marker).evaluate(dict(environment))
    except (InvalidMarker, UndefinedEnvironmentName):
        return False


def marker_at(points: frozenset[Point], pythons: tuple[str, ...]) -> str | None:
    """The marker that holds exactly on these points (at least one); None where it is all of them.

    `pythons` are all versions of the project, ascending.
    """
    platforms: dict[frozenset[str], list[str]] = {}
    for platform in PLATFORMS:
        if mine := frozenset(python for python in pythons if (platform, python) in points):
            platforms.setdefault(mine, []).append(platform)
    clauses = []
    for mine, there in platforms.items():
        clauses.append(all_of(marker_of(there) or "", _python_marker(mine, pythons)))
    if len(clauses) > 1:
        clauses = [f"({text})" if " and " in text else text for text in clauses]
    return " or ".join(clauses) or None


def all_of(*markers: str) -> str:
    """One marker that holds where all of these do."""
    known = [marker for marker in markers if marker]
    return " and ".join(f"({item})" if len(known) > 1 and " or " in item else item for item in known)


def _python_marker(mine: frozenset[str], pythons: tuple[str, ...]) -> str:
    runs, start = [], 0
    for wanted, run in groupby(pythons, mine.__contains__):
        end = start + len(tuple(run))
        low = [f"python_version >= '{pythons[start]}'"] if start else []
        high = [f"python_version < '{pythons[end]}'"] if end < len(pythons) else []
        runs += [" and ".join(low + high)] if wanted else []
        start = end
    return " or ".join(runs)


def marker_of(platforms: Iterable[str]) -> str | None:
    """The marker that holds on these platforms; None where that is all of them.

    Raises:
        ValueError: no platform at all; such an entry must not be written.
    """
    wanted = frozenset(platforms)
    if not wanted:
        raise ValueError("a marker for no platform")
    return None if wanted >= frozenset(PLATFORMS) else " or ".join(_clauses(wanted, "==", "and"))


def complement(platforms: Iterable[str]) -> str | None:
    """The marker that holds everywhere else, platforms that nobody named included; None: everywhere."""
    return " and ".join(_clauses(frozenset(platforms), "!=", "or")) or None


def _clauses(wanted: frozenset[str], operator: str, joint: str) -> Iterator[str]:
    """One clause a system; its machine is named only where the system's other machine is not wanted too."""
    linux = [platform for platform in PLATFORMS[:2] if platform in wanted]
    text = f"sys_platform {operator} 'linux'"
    if len(linux) == 1:
        text += f" {joint} {_clause(linux[0], 'platform_machine', operator)}"
        text = f"({text})" if len(wanted) > 1 else text
    if linux:
        yield text
    for platform in PLATFORMS[2:]:
        if platform in wanted:
            yield _clause(platform, "sys_platform", operator)


def required_marker(platform: str) -> str:
    """One platform exactly, as `required-environments` wants it."""
    return f"{_clause(platform, 'sys_platform')} and {_clause(platform, 'platform_machine')}"


def _clause(platform: str, name: str, operator: str = "==") -> str:
    return f"{name} {operator} '{marker_environment(platform, '3.12')[name]}'"


def separation(choices: Iterable[Route], pythons: tuple[str, ...], *, others: bool = True) -> tuple[str, ...]:
    """Disjoint markers that cover every platform: each choice holds on all of one, or on nothing of it.

    uv lets the index of an extra or group leak to platforms where its source does not hold when the same
    package is also a plain dependency; resolving these environments separately (`tool.uv.environments`)
    stops that. Empty where there is nothing to separate. Without `others`, systems that are none of the
    platforms are left out; also where a choice holds for some versions of Python only.
    """
    served = tuple(dict.fromkeys(item.points for item in choices))
    classes: dict[tuple[bool, ...], set[Point]] = {}
    for point in ((platform, python) for platform in PLATFORMS for python in pythons):
        classes.setdefault(tuple(point in points for points in served), set()).add(point)
    nowhere = classes.pop((False,) * len(served), set())
    markers = [marker_at(frozenset(points), pythons) for points in classes.values()]
    for_all = all(points == points_of({platform for platform, _ in points}, pythons) for points in served)
    if others and for_all:
        markers.append(complement(platform for points in served for platform, _ in points))
    elif nowhere:
        markers.append(marker_at(frozenset(nowhere), pythons))
    found = tuple(marker for marker in markers if marker)
    return found if len(found) > 1 else ()


def marker_environment(platform: str, python_version: str, patch: str = "0") -> dict[str, str]:
    """The values of markers on a platform and a Python version (`3.12`)."""
    os, arch = _SYSTEMS[platform]
    return Target(python_version=f"{python_version}.{patch}", abi="", os=os, arch=arch).marker_environment()
