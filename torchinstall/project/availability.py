"""What is published where, as a lock for many platforms and Python versions asks it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from torchinstall.core.tags import python_tags
from torchinstall.project.platforms import CELLS

if TYPE_CHECKING:
    from torchinstall.catalog.catalog import Catalog
    from torchinstall.catalog.model import Wheels

__all__ = ["Stock"]

ROUTED_CELLS = tuple(cell for cell in CELLS if not cell.startswith("macos"))
"""macOS takes torch from the default index: its files on PyTorch's own are others of the same name."""


class Stock:
    """Versions by package, backend and platform.

    Args:
        catalog: what is known to be published; guesses (confidence low) do not count.
        channel: `stable`, `test`, `nightly`.
        pythons: minor versions that the project allows, lowest first; empty: any.
    """

    def __init__(self, catalog: Catalog, channel: str, pythons: tuple[str, ...] = ()) -> None:
        self.catalog = catalog
        self.channel = channel
        self.pythons = pythons

    def rows(self, package: str, backend: str | None, cell: str) -> list[Wheels]:
        """The wheels of a backend on the PyTorch index, or (None) of the default index."""
        return [
            row
            for row in self.catalog.wheels(package, cell)
            if row.confidence != "low"
            and (
                (row.origin == "default")
                if backend is None
                else (row.origin == "index" and row.channel == self.channel and row.backend in (backend, ""))
            )
        ]

    def versions(
        self, package: str, backend: str | None, cell: str, spec: SpecifierSet | None = None
    ) -> list[tuple[Version, Wheels]]:
        """Every version that the bounds allow, newest first."""
        found = []
        for row in self.rows(package, backend, cell):
            version = _version(row.full_version)
            if version is not None and (spec is None or spec.contains(version, prereleases=True)):
                found.append((version, row))
        return sorted(found, key=lambda item: item[0], reverse=True)

    def cells(self, package: str, backend: str, spec: SpecifierSet | None = None) -> frozenset[str]:
        """The platforms for which a backend has the package; macOS never."""
        return frozenset(cell for cell in ROUTED_CELLS if self.versions(package, backend, cell, spec))

    def newest(
        self,
        package: str,
        backend: str | None,
        cells: Iterable[str],
        spec: SpecifierSet | None = None,
        python: str | None = None,
    ) -> Version | None:
        """The newest public version that is there for every one of these platforms that has any.

        Args:
            package: normalised name.
            backend: None: the default index.
            cells: platform keys.
            spec: bounds to keep.
            python: minor version that needs a wheel; None: any.

        """
        best = []
        for cell in cells:
            versions = [
                version
                for version, row in self.versions(package, backend, cell, spec)
                if python is None or row.tags & _tags(python)
            ]
            if versions:
                best.append(Version(versions[0].public))
        return min(best, default=None)

    @property
    def lowest_python(self) -> str | None:
        """The oldest Python that the project allows; None where it does not say."""
        return self.pythons[0] if self.pythons else None

    def knows(self, package: str) -> bool:
        """Whether the catalog has any wheel of the package on the PyTorch index."""
        return any(row.origin == "index" for cell in CELLS for row in self.catalog.wheels(package, cell))


@lru_cache(maxsize=64)
def _tags(python: str) -> frozenset[str]:
    return python_tags("cp" + python.replace(".", ""))


@lru_cache(maxsize=4096)
def _version(text: str) -> Version | None:
    try:
        return Version(text)
    except InvalidVersion:
        return None
