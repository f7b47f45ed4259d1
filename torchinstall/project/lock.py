"""Read `uv.lock`: which build each platform gets, for every extra or group that can be asked for. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct
from packaging.markers import InvalidMarker, Marker
from packaging.utils import canonicalize_name

from torchinstall.catalog.tables import platform_of
from torchinstall.project.platforms import marker_environment
from torchinstall.project.toml import loads
from torchinstall.project.view import Place

__all__ = ["Locked", "Lockfile", "read_lock"]

_EXTRA = re.compile(r"extra\s*(==|!=)\s*'([^']*)'")


class Locked(Struct, frozen=True, kw_only=True):
    """One package that a platform gets.

    Attributes:
        version: with its local segment.
        url: the index; None where it comes from a file, a URL or git.
        platforms: platform keys that it has wheels for (`any` for pure ones).
    """

    name: str
    version: str
    url: str | None
    platforms: frozenset[str]
    sdist: bool = False

    def serves(self, cell: str) -> bool:
        """Whether something can be installed on the platform."""
        return self.sdist or "any" in self.platforms or cell in self.platforms


class Lockfile:
    """A parsed lock.

    Args:
        data: as parsed.
        name: the project's own name, normalised; the lock holds its members and their dependencies.
    """

    def __init__(self, data: Mapping[str, Any], name: str) -> None:
        self.packages: list[Mapping[str, Any]] = list(data.get("package", []))
        self.name = canonicalize_name(name)

    def _root(self) -> Mapping[str, Any] | None:
        local = ("virtual", "editable", "directory")
        mine = [row for row in self.packages if any(key in row.get("source", {}) for key in local)]
        return next((row for row in mine if row["name"] == self.name), mine[0] if len(mine) == 1 else None)

    def direct(self) -> frozenset[str]:
        """Packages that the project itself requires, in any list."""
        root = self._root()
        return frozenset(str(edge["name"]) for edge in _all_edges(root)) if root is not None else frozenset()

    def reachable(self) -> frozenset[str]:
        """Everything that the project may need anywhere, with any extra or group, by name."""
        root = self._root()
        todo = list(_all_edges(root)) if root is not None else []
        found: set[str] = set()
        while todo:
            name = str(todo.pop()["name"])
            if name not in found:
                found.add(name)
                todo += [edge for row in self.packages if row["name"] == name for edge in _all_edges(row)]
        return frozenset(found)

    def tree(self, cell: str, python: str, select: tuple[Place, ...] = ()) -> dict[str, Locked]:
        """What is installed on a platform with these extras and groups, by name.

        Args:
            cell: platform key.
            python: `3.12`.
            select: the active extras and groups of the project, default groups included.
        """
        root = self._root()
        if root is None:
            return {}
        environment = marker_environment(cell, python)
        active = {_encoded(self.name, place) for place in select}
        found: dict[str, Locked] = {}
        seen: set[tuple[str, str, str]] = set()
        todo = [*_edges(root, select)]
        while todo:
            edge = todo.pop()
            if not _holds(str(edge.get("marker", "")), environment, active):
                continue
            for row in self._rows(edge):
                for extra in ("", *map(str, edge.get("extra", ()))):
                    key = (str(row["name"]), str(row.get("version")), extra)
                    if key not in seen:
                        seen.add(key)
                        found[key[0]] = _locked(row)
                        more = row.get("optional-dependencies", {}).get(extra, ()) if extra else ()
                        todo += [*(row.get("dependencies", ()) if not extra else more)]
        return found

    def _rows(self, edge: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        for row in self.packages:
            if row["name"] != edge["name"]:
                continue
            if "version" in edge and row.get("version") != edge["version"]:
                continue
            if "source" in edge and row.get("source") != edge["source"]:
                continue
            yield row


def read_lock(text: str, name: str) -> Lockfile | None:
    """Parse a lock; None where it is no TOML."""
    data = loads(text)
    return Lockfile(data, name) if data is not None else None


def _all_edges(root: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield from root.get("dependencies", ())
    for key in ("optional-dependencies", "dev-dependencies"):
        for edges in root.get(key, {}).values():
            yield from edges


def _edges(root: Mapping[str, Any], select: tuple[Place, ...]) -> Iterator[Mapping[str, Any]]:
    yield from root.get("dependencies", ())
    for place in select:
        key = "optional-dependencies" if place.kind == "extra" else "dev-dependencies"
        yield from root.get(key, {}).get(canonicalize_name(place.name), ())


def _encoded(package: str, place: Place) -> str:
    """How uv writes a conflicting extra or group into markers: `extra-4-name-cu128`, 4 for `name`."""
    return f"{place.kind}-{len(package)}-{package}-{canonicalize_name(place.name)}"


def _holds(marker: str, environment: dict[str, str], active: set[str]) -> bool:
    """Whether a marker of the lock holds; uv's conflict markers compare `extra` with each active one."""
    if not marker:
        return True

    def fixed(match: re.Match[str]) -> str:
        holds = (match[2] in active) == (match[1] == "==")
        return f"sys_platform {'==' if holds else '!='} '{environment['sys_platform']}'"

    try:
        return Marker(_EXTRA.sub(fixed, marker)).evaluate(dict(environment))
    except InvalidMarker:
        return True


def _locked(row: Mapping[str, Any]) -> Locked:
    source = row.get("source", {})
    wheels = row.get("wheels", ())
    names = [str(item.get("url") or item.get("filename") or item.get("path", "")) for item in wheels]
    tags = [name.rpartition("/")[2].removesuffix(".whl").rpartition("-")[2] for name in names]
    cells = {platform_of(part) for tag in tags for part in tag.split(".")} | {
        platform_of(tag) for tag in tags
    }
    return Locked(
        name=str(row["name"]),
        version=str(row.get("version", "")),
        url=str(source["registry"]) if "registry" in source else None,
        platforms=frozenset(cell for cell in cells if cell),
        sdist="sdist" in row,
    )
