"""What the user wants of the torch family: requirements and constraints by package."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct, field

from torchinstall.core.request import canonical_name

if TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet

    from torchinstall.catalog.catalog import Catalog
    from torchinstall.catalog.model import Wheels
    from torchinstall.core.request import Request, Requirement
    from torchinstall.core.target import Target

__all__ = ["Wants", "marker_environment", "of_url", "wants"]


class Wants(Struct, frozen=True):
    """Requirements sorted by who serves them.

    Attributes:
        family: packages that move with torch and were asked for, in order; torch always first.
        pins: version bounds by family package, from requirements and constraints.
        others: requirements for everything else, as asked.
        direct: family packages asked for by URL or path: that file is taken, and the plan goes around it.
    """

    family: tuple[str, ...]
    pins: dict[str, SpecifierSet]
    others: tuple[Requirement, ...]
    direct: dict[str, Requirement] = field(default_factory=dict)

    def allows(self, package: str, version: str) -> bool:
        """Whether a version (local segment included) satisfies the user's bounds."""
        spec = self.pins.get(package)
        return not spec or spec.contains(version, prereleases=True)


def wants(request: Request, target: Target, catalog: Catalog) -> Wants:
    """Split what was asked for; requirements whose markers do not hold for the target are dropped."""
    family: dict[str, None] = {"torch": None}
    pins: dict[str, SpecifierSet] = {}
    others: list[Requirement] = []
    direct: dict[str, Requirement] = {}
    for requirement in request.requirements:
        if not _holds(requirement, target):
            continue
        name = canonical_name(requirement.name)
        known = catalog.family(name)
        if known is None or known.own_cuda:
            others.append(requirement)
        elif requirement.url is not None:
            direct[name] = requirement
            others.append(requirement)
        else:
            family[name] = None
            _bound(pins, name, requirement)
    for constraint in request.constraints:
        name = canonical_name(constraint.name)
        if catalog.family(name) is not None and constraint.url is None and _holds(constraint, target):
            _bound(pins, name, constraint)
    return Wants(tuple(family), pins, tuple(others), direct)


def _holds(requirement: Requirement, target: Target) -> bool:
    """Whether a requirement's marker holds for the target."""
    if requirement.marker is None:
        return True
    from packaging.markers import Marker

    return Marker(requirement.marker).evaluate(marker_environment(target))


def _bound(pins: dict[str, SpecifierSet], name: str, requirement: Requirement) -> None:
    if requirement.specifier:
        from packaging.specifiers import SpecifierSet

        pins[name] = pins.get(name, SpecifierSet()) & SpecifierSet(requirement.specifier)


def of_url(package: str, wanted: Wants, catalog: Catalog) -> tuple[Wheels, ...]:
    """What is known of the file by whose URL a package was asked for; empty: nothing, or it was not."""
    asked = wanted.direct.get(package)
    if asked is None:
        return ()
    return tuple(row for row in catalog.local if row.package == package and row.source == asked.url)


def marker_environment(target: Target) -> dict[str, str]:
    """The marker environment of the target (PEP 508), as far as requirements of a person use it."""
    short = ".".join(target.python_version.split(".")[:2])
    machine = {"windows": {"x86_64": "AMD64", "aarch64": "ARM64"}, "macos": {"aarch64": "arm64"}}
    return {
        "python_version": short,
        "python_full_version": target.python_version
        if target.python_version.count(".") > 1
        else f"{short}.0",
        "implementation_name": target.implementation,
        "implementation_version": target.python_version,
        "platform_python_implementation": "CPython",
        "os_name": "nt" if target.os == "windows" else "posix",
        "sys_platform": {"linux": "linux", "windows": "win32", "macos": "darwin"}[target.os],
        "platform_system": {"linux": "Linux", "windows": "Windows", "macos": "Darwin"}[target.os],
        "platform_machine": machine.get(target.os, {}).get(target.arch, target.arch),
        "platform_release": "",
        "platform_version": "",
        "extra": "",
    }
