"""Read what a `pyproject.toml` says about torch in the standard tables and in uv's; nothing is changed."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from msgspec import structs
from packaging.markers import InvalidMarker, Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from torchinstall.catalog.catalog import Catalog
from torchinstall.index.urls import pytorch_index
from torchinstall.project.files import loads, parse_toml
from torchinstall.project.model import ALWAYS, Index, Listed, Route, Scope
from torchinstall.project.platforms import PLATFORMS, marker_environment

__all__ = ["ProjectView", "mapping", "project_view", "same_url", "scope_in", "workspace_root"]

_MINORS = range(6, 30)


def project_view(text: str) -> ProjectView:
    """What a project file says.

    Raises:
        UsageError: `bad-pyproject`.
    """
    return ProjectView(parse_toml(text.removeprefix("\ufeff")))


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
        return mapping(self.data.get("project"))

    @cached_property
    def uv(self) -> Mapping[str, Any]:
        """The `[tool.uv]` table."""
        return self.tool("uv")

    def tool(self, name: str) -> Mapping[str, Any]:
        """A tool's table."""
        return mapping(mapping(self.data.get("tool")).get(name))

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
        """The minor versions that the project allows, `3.11`, `3.12` …; empty where it does not say."""
        spec = self.requires_python
        return tuple(f"3.{minor}" for minor in _MINORS if str(spec) and spec.contains(f"3.{minor}.99"))

    @cached_property
    def lists(self) -> dict[Scope, list[Any]]:
        """Every list of requirements, items as written."""
        found = {ALWAYS: self.project.get("dependencies")}
        for name, items in mapping(self.project.get("optional-dependencies")).items():
            found[Scope("extra", name)] = items
        for name, items in mapping(self.data.get("dependency-groups")).items():
            found[Scope("group", name)] = items
        return {scope: items for scope, items in found.items() if isinstance(items, list)}

    @cached_property
    def listed(self) -> tuple[Listed, ...]:
        """Every requirement that parses."""
        return tuple(
            Listed(scope, position, text, requirement)
            for scope, items in self.lists.items()
            for position, text, requirement in _requirements(items)
        )

    def scopes_of(self, package: str) -> tuple[Scope, ...]:
        """Where a package is required."""
        return tuple(dict.fromkeys(item.scope for item in self.listed if item.package == package))

    def spelled(self, scope: Scope) -> Scope:
        """An extra or group as the file spells its name; as it is where the file has none (PEP 685)."""
        return next((item for item in self.lists if item.key == scope.key), scope)

    @cached_property
    def indexes(self) -> tuple[Index, ...]:
        """The indexes that have a URL."""
        rows = self.uv.get("index")
        return tuple(
            Index(
                str(row["name"]) if "name" in row else None,
                str(row["url"]),
                row.get("explicit") is True,
                row.get("default") is True,
            )
            for row in (rows if isinstance(rows, list) else ())
            if isinstance(row, Mapping) and "url" in row
        )

    def index_url(self, source: Mapping[str, Any]) -> str:
        """The URL of the index that an entry of a package's sources names; empty where there is none."""
        return next((row.url for row in self.indexes if row.name and row.name == source.get("index")), "")

    @cached_property
    def sources(self) -> dict[str, list[dict[str, Any]]]:
        """Package -> its entries; the single form is a list of one."""
        found: dict[str, list[dict[str, Any]]] = {}
        for name, value in mapping(self.uv.get("sources")).items():
            entries = value if isinstance(value, list) else [value]
            found[canonicalize_name(name)] = [dict(entry) for entry in entries if isinstance(entry, Mapping)]
        return found

    def texts(self, key: str) -> tuple[str, ...] | None:
        """A list of texts in `[tool.uv]` (one text counts as a list of one); None where it is not there."""
        value = self.uv.get(key)
        if isinstance(value, str):
            return (value,)
        return tuple(str(item) for item in value) if isinstance(value, list) else None

    @cached_property
    def conflicts(self) -> tuple[tuple[tuple[str, str], ...], ...]:
        """The sets of `tool.uv.conflicts`, each as keys of scopes (`extra`, `cpu`)."""
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
    def default_groups(self) -> tuple[str, ...]:
        """The groups that uv takes unasked: those of `default-groups`, else `dev` where there is one."""
        named = self.texts("default-groups")
        has_dev = ("group", "dev") in {scope.key for scope in self.lists} or "dev-dependencies" in self.uv
        return named if named is not None else ("dev",) if has_dev else ()

    def rival_groups(self, scope: Scope) -> tuple[str, ...]:
        """The default groups that may not be active together with an extra or group."""
        rivals = {key for row in self.conflicts if scope.key in row for key in row} - {scope.key}
        return tuple(name for name in self.default_groups if ("group", canonicalize_name(name)) in rivals)

    def torch_routes(self, catalog: Catalog) -> tuple[Route, ...]:
        """The backends that torch's sources name, in their order; what serves it otherwise is left out."""
        python = next(iter(self.pythons), "3.12")
        found: dict[tuple[str, Scope], Route] = {}
        for row in self.sources.get("torch", []):
            url = self.index_url(row)
            index = pytorch_index(url, catalog.backend)
            if index is None or index.backend is None:
                continue
            route = Route(
                backend=index.backend,
                index=str(row["index"]),
                url=url,
                platforms=_platforms(str(row.get("marker", "")), python),
                scope=scope_in(row),
            )
            same = found.get((route.backend, route.scope), route)
            found[route.backend, route.scope] = structs.replace(
                same, platforms=same.platforms | route.platforms
            )
        return tuple(found.values())


def scope_in(source: Mapping[str, Any]) -> Scope:
    """The extra or group for which an entry of a package's sources holds."""
    for kind in ("extra", "group"):
        if kind in source:
            return Scope(kind, str(source[kind]))
    return ALWAYS


def mapping(value: Any) -> Mapping[str, Any]:
    """A table of the file; empty where something else stands there."""
    return value if isinstance(value, Mapping) else {}


def _platforms(marker: str, python: str) -> frozenset[str]:
    try:
        parsed = Marker(marker) if marker else None
    except InvalidMarker:
        return frozenset()
    return frozenset(
        platform
        for platform in PLATFORMS
        if parsed is None or parsed.evaluate(dict(marker_environment(platform, python)))
    )


def _requirements(items: list[Any]) -> Iterator[tuple[int, str, Requirement]]:
    for position, item in enumerate(items):
        if isinstance(item, str):
            try:
                yield position, item, Requirement(re.sub(r"[\r\n]+", " ", item))
            except InvalidRequirement:
                continue


def same_url(left: str, right: str) -> bool:
    """Whether two index URLs are one index (a slash at the end and user names apart)."""

    def plain(url: str) -> str:
        scheme, separator, rest = url.strip().rstrip("/").partition("://")
        host, slash, path = rest.partition("/")
        return f"{scheme.lower()}{separator}{host.rpartition('@')[2].lower()}{slash}{path}"

    return plain(left) == plain(right)


def workspace_root(directory: Path) -> Path:
    """The folder of the workspace that a project is a member of; the project's own where it is in none."""
    own = directory.resolve()
    for parent in own.parents:
        try:
            text = (parent / "pyproject.toml").read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        table = mapping(ProjectView(loads(text) or {}).uv.get("workspace"))
        relative = own.relative_to(parent).as_posix()
        if _matches(relative, table.get("members")) and not _matches(relative, table.get("exclude")):
            return parent
    return own


def _matches(relative: str, patterns: object) -> bool:
    """As uv matches: a star stays within one folder name."""
    parts = relative.split("/")
    return any(
        len(pieces := str(pattern).rstrip("/").removeprefix("./").split("/")) == len(parts)
        and all(fnmatch.fnmatchcase(part, piece) for part, piece in zip(parts, pieces, strict=True))
        for pattern in (patterns if isinstance(patterns, list) else ())
    )
