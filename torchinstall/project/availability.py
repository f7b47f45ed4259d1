"""What is published for each platform, as a lock for many platforms and Python versions needs to know it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from torchinstall.catalog.catalog import Catalog
from torchinstall.catalog.model import Wheels
from torchinstall.core.errors import NoCompatibleBuildError, UsageError
from torchinstall.core.messages import Message
from torchinstall.core.target import python_tags
from torchinstall.planner.builds import version_key
from torchinstall.project.model import ALWAYS, PLATFORMS, Choice, Listed, Point
from torchinstall.project.pyproject import ProjectView

_ROUTED = tuple(platform for platform in PLATFORMS if not platform.startswith("macos"))
"""macOS takes torch from the default index: its files on PyTorch's own are others of the same name."""


class Availability:
    """Versions by package, backend and platform.

    Args:
        catalog: what is known to be published; guesses (confidence low) do not count.
        channel: `stable`, `test`, `nightly`.
        view: a project whose Python versions count; those for which no torch was ever built are left out.
    """

    def __init__(self, catalog: Catalog, channel: str, view: ProjectView | None = None) -> None:
        self.catalog = catalog
        self.channel = channel
        self.pythons: tuple[str, ...] = ()
        if view is not None and view.pythons:
            rows = (row for platform in PLATFORMS for row in self._wheels("torch", None, platform))
            built = {tag.partition("-")[0] for row in rows for tag in row.tags}
            known = tuple(item for item in view.pythons if "cp" + item.replace(".", "") in built)
            self.pythons = known or view.pythons[:1]

    def _wheels(self, package: str, backend: str | None, platform: str) -> list[Wheels]:
        """The wheels of a backend on the PyTorch index, or (None) of the default index."""
        return [
            row
            for row in self.catalog.wheels(package, platform)
            if row.confidence != "low"
            and (
                (row.origin == "default")
                if backend is None
                else (row.origin == "index" and row.channel == self.channel and row.backend in (backend, ""))
            )
        ]

    def versions(
        self,
        package: str,
        backend: str | None,
        platform: str,
        spec: SpecifierSet | None = None,
        python: str | None = None,
    ) -> list[Version]:
        """Every version that the bounds allow, newest first.

        Args:
            package: normalised name.
            backend: None: the default index.
            platform: platform key.
            spec: bounds to keep.
            python: minor version that needs a wheel; None: any.
        """
        found = []
        for row in self._wheels(package, backend, platform):
            version = version_key(row.full_version)
            fits = python is None or row.tags & _tags(python)
            if fits and (spec is None or spec.contains(version, prereleases=True)):
                found.append(version)
        return sorted(found, reverse=True)

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


@lru_cache(maxsize=64)
def _tags(python: str) -> frozenset[str]:
    return python_tags("cp" + python.replace(".", ""))


def unrouted(choices: Iterable[Choice]) -> list[str]:
    """The platforms that no choice serves."""
    routed = {platform for item in choices for platform in item.platforms}
    return [platform for platform in PLATFORMS if platform not in routed]


def check_bounds(
    torch: tuple[Choice, ...], view: ProjectView, availability: Availability
) -> tuple[Message, ...]:
    """Compare the project's own bounds on torch with every build that they apply to.

    Raises:
        NoCompatibleBuildError: `local-version-pinned` or `bounds-unsatisfiable`.
        UsageError: `torch-from-url`.
    """
    notes: dict[Message, None] = {}
    served = frozenset[Point]().union(*(item.points for item in torch))
    for item in view.listed:
        if item.package != "torch":
            continue
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
        builds = [*((row.backend, mine & row.points) for row in together), (None, mine - served)]
        for backend, points in builds:
            for platform in sorted({platform for platform, _ in points}):
                if note := _check(item, backend, platform, availability):
                    notes[note] = None
    return tuple(notes)


def _check(item: Listed, backend: str | None, platform: str, availability: Availability) -> Message | None:
    spec = item.requirement.specifier
    known = availability.versions("torch", backend, platform)
    if not known or any(spec.contains(version, prereleases=True) for version in known):
        return None
    build = f"{backend} on {platform}" if backend else f"the default index on {platform}"
    if _beyond(spec, known[0]):
        return Message(
            slug="newer-than-catalog",
            message=f"{item.text} is newer than every torch that torchinstall knows for {build}",
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


def _beyond(spec: SpecifierSet, newest: Version) -> bool:
    """Whether every version that the bounds name is newer than what is known."""
    named = [version_key(part.version.removesuffix(".*")) for part in spec if part.operator != "!="]
    return bool(named) and all(Version(version.public) > Version(newest.public) for version in named)
