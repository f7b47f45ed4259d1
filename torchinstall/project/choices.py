"""Which builds are published where, and which of them a project chooses, whichever of its tables say so.

A choice that was seen in a file is in uv's tables after a migration, or the migration stops.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatch
from typing import Any

from msgspec import structs
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from torchinstall.catalog.catalog import Catalog
from torchinstall.catalog.model import Wheels
from torchinstall.core.errors import NoCompatibleBuildError, UsageError
from torchinstall.core.messages import Message
from torchinstall.core.request import DEFAULT_INDEX_BASE
from torchinstall.core.target import python_tags
from torchinstall.index.urls import backend_in, index_url, pytorch_index
from torchinstall.planner.builds import version_key
from torchinstall.project.foreign import Offer, hatch_offers, pixi_offers, source_offers
from torchinstall.project.model import (
    ALWAYS,
    PLATFORMS,
    Entries,
    Listed,
    Point,
    Route,
    Scope,
    is_exact,
    rivals,
)
from torchinstall.project.poetry import poetry_offers
from torchinstall.project.pyproject import ProjectView, scope_in, texts

_ROUTED = tuple(platform for platform in PLATFORMS if not platform.startswith("macos"))
"""macOS takes torch from the default index: its files on PyTorch's own are others of the same name."""


class Availability:
    """Versions by package, backend (None: the default index) and platform, as far as they are known.

    Guesses (confidence low) do not count. Of a project's Python versions (`pythons`, ascending) those for
    which no torch was ever built are left out.
    """

    def __init__(self, catalog: Catalog, channel: str, view: ProjectView | None = None) -> None:
        self.catalog, self.channel = catalog, channel
        allowed = view.pythons if view is not None else ()
        rows = (row for platform in PLATFORMS for row in self._wheels("torch", None, platform) if allowed)
        built = {tag.partition("-")[0] for row in rows for tag in row.tags}
        self.pythons = tuple(item for item in allowed if "cp" + item.replace(".", "") in built) or allowed[:1]

    def _wheels(self, package: str, backend: str | None, platform: str) -> list[Wheels]:
        origin = "default" if backend is None else "index"
        rows = [row for row in self.catalog.wheels(package, platform) if row.origin == origin]
        return [
            row
            for row in rows
            if row.confidence != "low"
            and (backend is None or (row.channel == self.channel and row.backend in (backend, "")))
        ]

    def versions(
        self,
        package: str,
        backend: str | None,
        platform: str,
        spec: SpecifierSet | None = None,
        python: str | None = None,
    ) -> list[Version]:
        """Every version within the bounds that has a wheel (for a minor version of Python), newest first."""
        rows = self._wheels(package, backend, platform)
        tags = python_tags(f"cp{python.replace('.', '')}") if python else None
        found = (version_key(row.full_version) for row in rows if tags is None or row.tags & tags)
        kept = (item for item in found if spec is None or spec.contains(item, prereleases=True))
        return sorted(kept, reverse=True)

    def platforms(self, package: str, backend: str, spec: SpecifierSet | None = None) -> frozenset[str]:
        """The platforms for which a backend has the package; macOS never."""
        return frozenset(item for item in _ROUTED if self.versions(package, backend, item, spec))

    def newest(
        self,
        package: str,
        backend: str | None,
        platforms: Iterable[str],
        spec: SpecifierSet | None = None,
        python: str | None = None,
    ) -> Version | None:
        """The newest public version that is there for every one of these platforms that has any."""
        found = (self.versions(package, backend, platform, spec, python) for platform in platforms)
        return min((Version(versions[0].public) for versions in found if versions), default=None)


def unrouted(choices: Iterable[Route]) -> list[str]:
    """The platforms that no choice serves."""
    routed = {platform for item in choices for platform in item.platforms}
    return [platform for platform in PLATFORMS if platform not in routed]


def check_bounds(
    items: tuple[Listed, ...], torch: tuple[Route, ...], view: ProjectView, availability: Availability
) -> tuple[Message, ...]:
    """Compare bounds on torch with every build that they apply to; one platform that has it is enough.

    Raises:
        NoCompatibleBuildError: `local-version-pinned` or `bounds-unsatisfiable`.
        UsageError: `torch-from-url`.
    """
    notes = []
    served = frozenset[Point]().union(*(item.points for item in torch))
    for item in items:
        if item.requirement.url:
            raise UsageError(
                "torch-from-url",
                f"{item.scope.text} takes torch from one file; configure changes nothing that you wrote",
                wanted="torch by name and version: the index chooses the build",
                found=item.text,
                hints=(
                    "write torch without its URL, then run configure again",
                    "uv sync works with it as it is",
                ),
            )
        mine = view.points(item.requirement.marker)
        # A requirement and a choice apply together unless each has its own extra or group.
        together = [row for row in torch if ALWAYS in (row.scope, item.scope) or row.scope == item.scope]
        for row in together:
            index = pytorch_index(row.url, availability.catalog.backend)
            if index is None or index.channel == availability.channel:
                notes.append(_check(item, row.backend, mine & row.points, availability))
        notes.append(_check(item, None, mine - served, availability))
    return tuple(dict.fromkeys(note for note in notes if note is not None))


def _check(
    item: Listed, backend: str | None, points: frozenset[Point], availability: Availability
) -> Message | None:
    """Of the default index any file will do: that it has none for a platform stops no lock."""
    spec = item.requirement.specifier
    platforms = {platform for platform, _ in points} if backend or not points else PLATFORMS
    there = sorted(item for item in platforms if availability.versions("torch", backend, item))
    known = sorted({row for item in there for row in availability.versions("torch", backend, item)})[::-1]
    if not known or any(spec.contains(version, prereleases=True) for version in known):
        return None
    build = backend or "the default index"
    build += f" on {there[0]}" if len(there) == 1 else ""
    if _beyond(spec, availability):
        return Message(
            slug="newer-than-catalog",
            message=f"{item.text} is newer than every torch that torchinstall knows",
        )
    if any("+" in part.version for part in spec):
        raise NoCompatibleBuildError(
            "local-version-pinned",
            f"{item.text!r} in {item.scope.text} pins one build, and {build} has another",
            wanted=f"a version without its local segment, torch {known[0].public}: the index chooses",
            found=item.text,
            hints=("torchinstall configure --migrate",),
        )
    raise NoCompatibleBuildError(
        "bounds-unsatisfiable",
        f"{item.text!r} in {item.scope.text} rules out every torch for {build}",
        wanted=str(spec),
        found=f"torch {known[-1].public} to {known[0].public} for {build}",
        hints=("change the bound, or choose another backend: torchinstall configure --backend …",),
    )


def _beyond(spec: SpecifierSet, availability: Availability) -> bool:
    """Whether every version that the bounds name is newer than what is known of any build."""
    rows = (row for platform in PLATFORMS for row in availability.catalog.wheels("torch", platform))
    newest = max(version_key(row.version) for row in rows if row.channel == availability.channel)
    named = [version_key(part.version.removesuffix(".*")) for part in spec if part.operator != "!="]
    return bool(named) and all(Version(version.public) > newest for version in named)


_READERS = (poetry_offers, pixi_offers, hatch_offers, source_offers)
"""What other tools' tables offer for a package."""


def choices(
    view: ProjectView,
    catalog: Catalog,
    index_base: str = DEFAULT_INDEX_BASE,
    *,
    offers: tuple[Offer, ...] = (),
    uv: bool = False,
) -> tuple[Route, ...]:
    """Every choice of a file with `[project]`: a package, the list that asks for it, and its index.

    `index_base` is for a pin (`+cu124`) that no index of the file serves; `offers` are of indexes that other
    files name; with `uv`, only what uv reads counts.
    """
    found = []
    for item in view.listed:
        family = catalog.family(item.package)
        if family is None or not family.routed_when_asked or item.requirement.url:
            continue
        marker = str(item.requirement.marker or "")
        mine, unsaid = view.points(marker), "" if is_exact(marker, view.versions) else marker
        for offer in _serving(item, view, catalog, index_base, None if uv else offers):
            index = pytorch_index(offer.url, catalog.backend, index_base=index_base)
            if index is not None and index.backend and (points := mine & view.points(offer.marker)):
                page = offer.url.endswith(".html")  # of links, beside the index with the same files
                route = Route(
                    scope=item.scope,
                    package=item.package,
                    backend=index.backend,
                    url=index_url(index_base, index.channel, index.backend) if page else offer.url,
                    points=points,
                    bounds=public_bounds(item.requirement.specifier),
                    unsaid=unsaid,
                )
                found.append(route)
    return tuple(found)


def _serving(
    item: Listed, view: ProjectView, catalog: Catalog, index_base: str, more: tuple[Offer, ...] | None
) -> list[Offer]:
    """The indexes that serve a requirement, by the first table that says so; `more` None: uv's only."""
    if item.package in view.sources:
        rows = [
            row for row in view.sources[item.package] if scope_in(row).key in (ALWAYS.key, item.scope.key)
        ]
        return [Offer(view.index_url(row), marker=str(row.get("marker", ""))) for row in rows]
    if more is None:
        return []
    found = [*more, *(offer for reader in _READERS for offer in reader(view, item.package))]
    found += map(Offer, texts(view.uv.get("find-links")))
    served = [offer for offer in found if backend_in([offer.url], catalog.backend)]
    if pinned := pinned_backend(item, catalog):
        urls = (offer.url for offer in served if backend_in([offer.url], catalog.backend) == pinned)
        return [Offer(next(urls, index_url(index_base, "stable", pinned)))]
    exact = [offer for offer in found if item.package in offer.packages]
    open_ = [offer for offer in served if any(fnmatch(item.package, glob) for glob in offer.packages)]
    for named in (exact, open_):
        for scope in (item.scope, ALWAYS):
            if mine := [offer for offer in named if offer.scope.key == scope.key]:
                return list(dict.fromkeys(mine))
    return []


def routed_in(view: ProjectView, catalog: Catalog, package: str = "torch") -> tuple[Route, ...]:
    """What uv's sources of a package say, by index and scope, whether something requires it or not."""
    found: dict[tuple[str, Scope], Route] = {}
    for row in view.sources.get(package, []):
        url, scope, points = view.index_url(row), scope_in(row), view.points(row.get("marker"))
        if (backend := backend_in([url], catalog.backend)) is not None:
            points |= found[url, scope].points if (url, scope) in found else points
            index = str(row["index"])
            found[url, scope] = Route(
                scope=scope, package=package, backend=backend, url=url, points=points, index=index
            )
    return tuple(found.values())


def _by_point(items: tuple[Route, ...]) -> dict[tuple[Any, ...], tuple[frozenset[str], frozenset[str]]]:
    """Scope, package, platform, Python -> the backends and the bounds: the same for every spelling."""
    found: dict[tuple[Any, ...], tuple[frozenset[str], frozenset[str]]] = {}
    for item in items:
        for point in item.points:
            key = (item.scope.key, item.package, *point)
            backends, bounds = found.get(key, (frozenset(), frozenset()))
            found[key] = backends | {item.backend}, bounds | {item.bounds}
    return found


def missing(seen: tuple[Route, ...], view: ProjectView, catalog: Catalog) -> dict[Route, str]:
    """Those of the choices that uv does not read in a file, and where."""
    read = choices(view, catalog, uv=True)
    there, wanted = _by_point(read), _by_point(seen)
    found = {}
    for item in seen:
        lost = (key for key in _by_point((item,)) if there.get(key) != wanted[key])
        if key := next(lost, None):
            found[item] = f"on {key[2]} with Python {key[3]}"
    return found


def public_bounds(spec: SpecifierSet) -> str:
    """Bounds without the local segments that name a build."""
    return ",".join(sorted(f"{part.operator}{part.version.partition('+')[0]}" for part in spec))


def pinned_backend(item: Listed, catalog: Catalog) -> str | None:
    """The backend that a requirement pins by its local version."""
    locals_ = (part.version.partition("+")[2] for part in item.requirement.specifier)
    return next((local for local in locals_ if local and catalog.backend(local) is not None), None)


def entries_of(seen: tuple[Route, ...], catalog: Catalog) -> Entries:
    """What uv's tables need to hold these choices."""
    merged: dict[tuple[Any, ...], Route] = {}
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


def _publishable(item: Route, catalog: Catalog) -> Route:
    """A choice on the platforms for which its build is published; the default index serves the others."""
    availability, spec = Availability(catalog, "stable"), SpecifierSet(item.bounds)
    known = availability.platforms(item.package, item.backend, spec)
    return item.on(known or availability.platforms(item.package, item.backend) or PLATFORMS[:3])


def check_carried(seen: tuple[Route, ...], view: ProjectView, catalog: Catalog) -> None:
    """Compare what was seen with what uv reads now.

    Raises:
        UsageError: `not-carried`: uv would not do the same.
    """
    read, wanted = choices(view, catalog, uv=True), _by_point(seen)
    lost = {item: f"where {item.unsaid}" for item in seen if item.unsaid and item not in read}
    twice = (item for item in seen if any(len(wanted[key][0]) > 1 for key in _by_point((item,))))
    lost |= dict.fromkeys(twice, "beside another index")
    lost |= missing(tuple(_publishable(item, catalog) for item in seen), view, catalog)
    for item, reason in lost.items():
        raise UsageError(
            "not-carried",
            f"uv has no words for one choice of this project, so nothing was changed: {item.package} for "
            f"{item.backend} in {item.scope.text}, {reason}",
            wanted=f"one index for {item.package} in {item.scope.text} on each platform",
            found=f"{item.package} {item.bounds} from {item.url}",
            hints=(
                "make extras or dependency groups of the choices, one backend each, then run it again",
                "or choose anew: torchinstall configure --migrate --layout groups --with cpu --with "
                + (item.backend if item.backend != "cpu" else "cu130"),
            ),
        )
