"""Read `[tool.poetry]` as standard project metadata. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct, field
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from torchinstall.catalog.catalog import Catalog
from torchinstall.core.errors import UsageError
from torchinstall.index.urls import pytorch_index
from torchinstall.project.model import ALWAYS, Scope
from torchinstall.project.pyproject import mapping

_RELEASE = re.compile(r"\d+(?:\.\d+)*")
_EXTRA = re.compile(r"extra\s*(==|!=)\s*['\"]([^'\"]+)['\"]")
_UV_KEYS = {key: key for key in ("git", "rev", "tag", "branch", "subdirectory", "path", "url")}
_UV_KEYS["develop"] = "editable"
"""Poetry's words for where a package comes from -> uv's."""


class PoetryProject(Struct):
    """What the table says, in standard words.

    Attributes:
        project: keys of `[project]`; lists are tuples of texts.
        sources: package -> its entries in `tool.uv.sources`: an index of its own, git, a path, a URL.
        choices: (scope, package, URL of a PyTorch index, marker, bounds) of packages from such a source.
        omitted: what cannot be written as standard metadata, one sentence each.
    """

    project: dict[str, Any] = field(default_factory=dict)
    extras: dict[str, tuple[str, ...]] = field(default_factory=dict)
    groups: dict[str, tuple[str, ...]] = field(default_factory=dict)
    indexes: list[tuple[str, str]] = field(default_factory=list)
    sources: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    choices: list[tuple[Scope, str, str, str, str]] = field(default_factory=list)
    omitted: list[str] = field(default_factory=list)


def specifier(text: str) -> str | None:
    """A Poetry constraint as a PEP 440 specifier: `^2.1` is `>=2.1,<3.0`; None where there is none."""
    parts = []
    for part in re.split(r"\s*,\s*|\s+(?=[<>=!~^])", text.strip()):
        found = _one(part.strip())
        if found is None:
            return None
        parts.append(found)
    return ",".join(part for part in parts if part)


def _one(part: str) -> str | None:
    if part in ("", "*"):
        return ""
    if part[0] in "^~" and not part.startswith("~="):
        version = part[1:].strip().partition("+")[0]  # a build is named by its source, not by a bound
        if not _RELEASE.fullmatch(version):
            return None
        return f">={version},<{_ceiling([int(item) for item in version.split('.')], caret=part[0] == '^')}"
    if part.endswith(".*") and _RELEASE.fullmatch(part[:-2]):
        return f"=={part}"
    try:
        return str(SpecifierSet(f"=={part}" if _RELEASE.match(part) else part))
    except InvalidSpecifier:
        return None


def _ceiling(numbers: list[int], *, caret: bool) -> str:
    """`^0.2.3` ends below 0.3.0, `~1.2` below 1.3: the first number that may not change goes up by one."""
    if caret:
        place = next((at for at, number in enumerate(numbers) if number), len(numbers) - 1)
    else:
        place = min(1, len(numbers) - 1)
    raised = [*numbers[:place], numbers[place] + 1, *[0] * (len(numbers) - place - 1)]
    return ".".join(map(str, raised))


def by_extra(marker: str) -> list[tuple[str, str]]:
    """A marker of Poetry as pairs of an extra (empty: none) and the marker that is left.

    Raises:
        UsageError: `not-carried`: it holds unless an extra is active, or its terms are nested.
    """
    names = dict.fromkeys(name for _, name in _EXTRA.findall(marker))
    if not names:
        return [("", marker)]
    found = {name: _under(marker, name) for name in ("", *names)}
    if "(" in marker or (found[""] is not None and any(rest != found[""] for rest in found.values())):
        raise UsageError(
            "not-carried",
            f"uv has no words for the marker {marker!r}, so nothing was changed",
            wanted="markers such as extra == 'cpu', each with its own source",
            found=marker,
            hints=("write one extra for each choice in tool.poetry.extras, then run it again",),
        )
    if found[""] is not None:
        return [("", found[""])]
    return [(name, rest) for name, rest in found.items() if rest is not None]


def _under(marker: str, extra: str) -> str | None:
    """A marker without its terms about extras when one is active; None: it does not hold."""
    clauses = []
    for clause in re.split(r"\s+or\s+", marker):
        terms = re.split(r"\s+and\s+", clause.strip())
        about = [_EXTRA.fullmatch(term.strip()) for term in terms]
        if all(match is None or (match[1] == "==") == (match[2] == extra) for match in about):
            clauses.append(" and ".join(term for term, match in zip(terms, about, strict=True) if not match))
    if not clauses:
        return None
    return "" if "" in clauses else " or ".join(clauses)


def read_poetry(table: Mapping[str, Any], catalog: Catalog) -> PoetryProject:
    """The standard metadata of a Poetry project.

    Args:
        table: `[tool.poetry]`.
        catalog: tells which sources are PyTorch's: they become choices, the others keep their names.

    Raises:
        UsageError: `not-carried`: a marker that uv has no words for.
    """
    reader = _Reader(table, catalog)
    found = reader.found
    found.project = {key: str(table[key]) for key in ("name", "version", "description") if table.get(key)}
    rows = dict(mapping(table.get("dependencies")))
    python = rows.pop("python", None)
    if isinstance(python, str) and (spec := specifier(python)):
        found.project["requires-python"] = spec
    extras: dict[str, list[str]] = {}
    wanted: list[str] = []
    homes: dict[str, list[str]] = {}
    for extra, names in mapping(table.get("extras")).items():
        for name in names:
            homes.setdefault(canonicalize_name(str(name)), []).append(str(extra))
    for name, row in rows.items():
        optional = homes.get(canonicalize_name(str(name)), []) if _optional(row) else None
        for extra, text in reader.requirements(str(name), row, ALWAYS, optional):
            (extras.setdefault(extra, []) if extra else wanted).append(text)
    found.project["dependencies"] = tuple(wanted)
    groups = {name: mapping(row).get("dependencies") for name, row in mapping(table.get("group")).items()}
    groups.setdefault("dev", table.get("dev-dependencies"))
    for name, items in groups.items():
        texts: list[str] = []
        for key, row in mapping(items).items():
            for extra, text in reader.requirements(str(key), row, Scope("group", str(name)), None):
                (extras.setdefault(extra, []) if extra else texts).append(text)
        if texts:
            found.groups[str(name)] = tuple(texts)
    found.extras = _extras(extras, homes, [*map(str, mapping(table.get("extras"))), *extras])
    return found


def _extras(
    extras: dict[str, list[str]], homes: Mapping[str, list[str]], order: list[str]
) -> dict[str, tuple[str, ...]]:
    """The extras, with the packages that they only name."""
    for package, named in homes.items():
        for extra in named:
            has = [plain_name(text) for text in extras.get(extra, [])]
            if package not in has:
                extras.setdefault(extra, []).append(package)
    return {name: tuple(extras[name]) for name in dict.fromkeys(order) if extras.get(name)}


def plain_name(text: str) -> str:
    """The normalised name at the start of a requirement."""
    return canonicalize_name(re.split(r"[\s<>=!~;\[@(]", text, maxsplit=1)[0])


def _optional(row: Any) -> bool:
    rows = row if isinstance(row, list) else [row]
    return any(mapping(item).get("optional") for item in rows)


class _Reader:
    """Reads entries of dependencies one by one, and collects where their packages come from."""

    def __init__(self, table: Mapping[str, Any], catalog: Catalog) -> None:
        self.found = PoetryProject()
        self.urls = {}
        for row in table.get("source", []):
            name, url = str(mapping(row).get("name", "")), str(mapping(row).get("url", ""))
            self.urls[name] = url
            if url and pytorch_index(url, catalog.backend) is None:
                self.found.indexes.append((name, url))
        self.open = [
            str(row.get("url", ""))
            for row in map(mapping, table.get("source", []))
            if row.get("priority") not in ("explicit", "supplemental")
        ]
        self.catalog = catalog

    def requirements(
        self, name: str, row: Any, scope: Scope, optional: list[str] | None
    ) -> Iterator[tuple[str, str]]:
        """The requirements of one entry, each with the extra that it belongs to (empty: none)."""
        if isinstance(row, list):
            for item in row:
                yield from self.requirements(name, item, scope, optional)
            return
        table, found = mapping(row), self.found
        version = str(table.get("version", "*")) if table else str(row)
        spec = specifier(version)
        if spec is None:
            found.omitted.append(f"{name} {version!r} cannot be written as a standard version bound")
            spec = ""
        options = f"[{','.join(table['extras'])}]" if table.get("extras") else ""
        markers = [str(table["markers"])] if "markers" in table else []
        if isinstance(table.get("platform"), str):
            markers.append(f"sys_platform == '{table['platform']}'")
        if isinstance(table.get("python"), str) and (bounds := specifier(table["python"])):
            parts = SpecifierSet(bounds)
            markers.append(" and ".join(f"python_version {part.operator} '{part.version}'" for part in parts))
        joined = " and ".join(
            f"({item})" if len(markers) > 1 and " or " in item else item for item in markers
        )
        for extra, marker in by_extra(joined):
            for home in optional if optional is not None and not extra else [extra]:
                asks = Scope("extra", home) if home else scope
                self._place(name, table, asks, marker, spec)
                yield home, f"{name}{options}{spec}" + (f" ; {marker}" if marker else "")

    def _place(self, name: str, table: Mapping[str, Any], scope: Scope, marker: str, spec: str) -> None:
        """Where the package comes from."""
        package, found = canonicalize_name(name), self.found
        family = self.catalog.family(package)
        url = self.urls.get(str(table.get("source")), "")
        if not url and family is not None and family.routed:
            url = next((item for item in self.open if pytorch_index(item, self.catalog.backend)), "")
        row: dict[str, Any] = {_UV_KEYS[key]: table[key] for key in _UV_KEYS if key in table}
        if url and pytorch_index(url, self.catalog.backend):
            found.choices.append((scope, package, url, marker, spec))
        elif url:
            row = {"index": str(table.get("source"))}
        if row:
            if scope != ALWAYS:
                row[scope.kind] = scope.name
            rows = found.sources.setdefault(package, [])
            if row not in rows:
                rows.append({**row, "marker": marker} if marker else row)
