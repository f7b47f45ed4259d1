"""What a project file says about torch, read from its parsed TOML; nothing is changed here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, Literal

from msgspec import Struct
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

__all__ = ["IndexRow", "Listed", "Place", "ProjectView", "same_url"]

_MINORS = range(6, 30)


class Place(Struct, frozen=True):
    """A list of requirements: `project.dependencies`, an extra, or a dependency group."""

    kind: Literal["dependencies", "extra", "group"] = "dependencies"
    name: str = ""

    @property
    def text(self) -> str:
        """How to call it in a sentence."""
        return "project.dependencies" if self.kind == "dependencies" else f"{self.kind} {self.name}"


class Listed(Struct, frozen=True):
    """A requirement as written, and where; `position` counts every item of that list."""

    place: Place
    position: int
    text: str
    requirement: Requirement

    @property
    def package(self) -> str:
        """Its normalised name."""
        return canonicalize_name(self.requirement.name)


class IndexRow(Struct, frozen=True):
    """One `[[tool.uv.index]]`; name None where it has none."""

    name: str | None
    url: str
    explicit: bool
    default: bool


def same_url(left: str, right: str) -> bool:
    """Whether two index URLs are one index (a slash at the end and user names apart)."""

    def plain(url: str) -> str:
        scheme, separator, rest = url.strip().rstrip("/").partition("://")
        host, slash, path = rest.partition("/")
        return f"{scheme.lower()}{separator}{host.rpartition('@')[2].lower()}{slash}{path}"

    return plain(left) == plain(right)


class ProjectView:
    """Read-only access to a project file.

    Args:
        data: the file as parsed; anything that has not the right type is treated as not there, since uv
            itself will say so.
    """

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.data = data

    @cached_property
    def project(self) -> Mapping[str, Any]:
        """The `[project]` table."""
        return _table(self.data.get("project"))

    @cached_property
    def uv(self) -> Mapping[str, Any]:
        """The `[tool.uv]` table."""
        return self.tool("uv")

    def tool(self, name: str) -> Mapping[str, Any]:
        """A tool's table."""
        return _table(_table(self.data.get("tool")).get(name))

    @property
    def name(self) -> str:
        """The project's name; empty where it has none."""
        return str(self.project.get("name", ""))

    @property
    def dynamic_dependencies(self) -> bool:
        """Whether the build backend, not this file, says what the project depends on."""
        return "dependencies" in (self.project.get("dynamic") or ())

    @property
    def requires_python(self) -> SpecifierSet:
        """Empty where nothing (valid) is said."""
        try:
            return SpecifierSet(str(self.project.get("requires-python", "")))
        except InvalidSpecifier:
            return SpecifierSet()

    @cached_property
    def pythons(self) -> tuple[str, ...]:
        """The minor versions that the project allows, `3.11`, `3.12` …; the upper end is open-ended."""
        spec = self.requires_python
        return tuple(f"3.{minor}" for minor in _MINORS if spec.contains(f"3.{minor}.99"))

    @cached_property
    def places(self) -> dict[Place, list[Any]]:
        """Every list of requirements, items as written."""
        found = {}
        if isinstance(items := self.project.get("dependencies"), list):
            found[Place()] = items
        for name, items in _table(self.project.get("optional-dependencies")).items():
            if isinstance(items, list):
                found[Place("extra", name)] = items
        for name, items in _table(self.data.get("dependency-groups")).items():
            if isinstance(items, list):
                found[Place("group", name)] = items
        return found

    @cached_property
    def listed(self) -> tuple[Listed, ...]:
        """Every requirement that parses."""
        return tuple(
            Listed(place, position, text, requirement)
            for place, items in self.places.items()
            for position, text, requirement in _requirements(items)
        )

    def place(self, kind: Literal["extra", "group"], name: str) -> Place | None:
        """The extra or group of that name, however it is spelled (PEP 685)."""
        wanted = canonicalize_name(name)
        same = (item for item in self.places if canonicalize_name(item.name) == wanted)
        return next((item for item in same if item.kind == kind), None)

    @cached_property
    def indexes(self) -> tuple[IndexRow, ...]:
        """The named indexes."""
        rows = self.uv.get("index")
        return tuple(
            IndexRow(
                str(row["name"]) if "name" in row else None,
                str(row["url"]),
                row.get("explicit") is True,
                row.get("default") is True,
            )
            for row in (rows if isinstance(rows, list) else ())
            if isinstance(row, Mapping) and "url" in row
        )

    @cached_property
    def sources(self) -> dict[str, list[dict[str, Any]]]:
        """Package -> its entries; the single form is a list of one."""
        found: dict[str, list[dict[str, Any]]] = {}
        for name, value in _table(self.uv.get("sources")).items():
            entries = value if isinstance(value, list) else [value]
            found[canonicalize_name(name)] = [dict(entry) for entry in entries if isinstance(entry, Mapping)]
        return found

    def source_key(self, package: str) -> str:
        """The key under which a package's sources are written, `Torch` perhaps."""
        for name in _table(self.uv.get("sources")):
            if canonicalize_name(name) == package:
                return str(name)
        return package

    def texts(self, key: str) -> tuple[str, ...] | None:
        """A list of texts in `[tool.uv]` (one text counts as a list of one); None where it is not there."""
        value = self.uv.get(key)
        if isinstance(value, str):
            return (value,)
        if not isinstance(value, list):
            return None
        return tuple(str(item) for item in value)

    @cached_property
    def conflicts(self) -> tuple[tuple[tuple[str, str], ...], ...]:
        """The sets of `tool.uv.conflicts`, each as pairs (`extra`, `cpu`)."""
        rows = self.uv.get("conflicts")
        found = []
        for row in rows if isinstance(rows, list) else ():
            items = [item for item in (row if isinstance(row, list) else ()) if isinstance(item, Mapping)]
            found.append(
                tuple(
                    (kind, str(canonicalize_name(str(item[kind]))))
                    for item in items
                    for kind in ("extra", "group")
                    if kind in item
                )
            )
        return tuple(found)

    @property
    def has_dev_group(self) -> bool:
        """Whether uv's built-in default group `dev` says anything."""
        return self.place("group", "dev") is not None or "dev-dependencies" in self.uv


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _requirements(items: list[Any]) -> Iterator[tuple[int, str, Requirement]]:
    for position, item in enumerate(items):
        if isinstance(item, str):
            try:
                yield position, item, Requirement(re.sub(r"[\r\n]+", " ", item))
            except InvalidRequirement:
                continue
