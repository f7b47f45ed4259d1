"""Read `[tool.poetry]` as standard project metadata. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from msgspec import Struct, field
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from torchinstall.catalog.catalog import Catalog
from torchinstall.index.urls import pytorch_index
from torchinstall.project.pyproject import mapping

__all__ = ["PoetryProject", "read_poetry", "specifier"]

_RELEASE = re.compile(r"\d+(?:\.\d+)*")


class PoetryProject(Struct):
    """What the table says, in standard words.

    Attributes:
        project: keys of `[project]`; lists are tuples of texts.
        sources: (package, index name) of packages that Poetry took from a source of their own.
        omitted: what cannot be written as standard metadata, one sentence each.
    """

    project: dict[str, Any] = field(default_factory=dict)
    extras: dict[str, tuple[str, ...]] = field(default_factory=dict)
    groups: dict[str, tuple[str, ...]] = field(default_factory=dict)
    indexes: list[tuple[str, str]] = field(default_factory=list)
    sources: list[tuple[str, str]] = field(default_factory=list)
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
        version = part[1:].strip()
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


def read_poetry(table: Mapping[str, Any], catalog: Catalog) -> PoetryProject:
    """The standard metadata of a Poetry project.

    Args:
        table: `[tool.poetry]`.
        catalog: tells which sources are PyTorch's: they are configured anew, the others keep their names.
    """
    found = PoetryProject()
    found.project = {key: str(table[key]) for key in ("name", "version", "description") if table.get(key)}
    rows = dict(mapping(table.get("dependencies")))
    python = rows.pop("python", None)
    if isinstance(python, str) and (spec := specifier(python)):
        found.project["requires-python"] = spec
    optional: dict[str, str] = {}
    wanted: list[str] = []
    for name, row in rows.items():
        for text in _requirements(str(name), row, found):
            if mapping(row).get("optional"):
                optional[canonicalize_name(str(name))] = text
            else:
                wanted.append(text)
    found.project["dependencies"] = tuple(wanted)
    for extra, names in mapping(table.get("extras")).items():
        found.extras[str(extra)] = tuple(
            optional.get(canonicalize_name(str(name)), str(name)) for name in names
        )
    groups = {name: mapping(row).get("dependencies") for name, row in mapping(table.get("group")).items()}
    groups.setdefault("dev", table.get("dev-dependencies"))
    for name, items in groups.items():
        texts = [text for key, row in mapping(items).items() for text in _requirements(str(key), row, found)]
        if texts:
            found.groups[str(name)] = tuple(texts)
    for row in table.get("source", []):
        url = str(mapping(row).get("url", ""))
        if url and pytorch_index(url, catalog.backend) is None:
            found.indexes.append((str(row.get("name", "")), url))
    names = {name for name, _ in found.indexes}
    found.sources = [(package, index) for package, index in found.sources if index in names]
    return found


def _requirements(name: str, row: Any, found: PoetryProject) -> list[str]:
    """The requirements of one entry; a list of entries has one each."""
    if isinstance(row, list):
        return [text for item in row for text in _requirements(name, item, found)]
    table = mapping(row)
    version = str(table.get("version", "*")) if table else str(row)
    if any(key in table for key in ("git", "path", "url")):
        found.omitted.append(f"{name} comes from git, a path or a URL in tool.poetry: add it with `uv add`")
        return []
    spec = specifier(version)
    if spec is None:
        found.omitted.append(f"{name} {version!r} cannot be written as a standard version bound")
        spec = ""
    if isinstance(source := table.get("source"), str):
        found.sources.append((canonicalize_name(name), source))
    extras = f"[{','.join(table['extras'])}]" if table.get("extras") else ""
    markers = [str(table["markers"])] if "markers" in table else []
    if isinstance(table.get("platform"), str):
        markers.append(f"sys_platform == '{table['platform']}'")
    if isinstance(table.get("python"), str) and (bounds := specifier(table["python"])):
        parts = SpecifierSet(bounds)
        markers.append(" and ".join(f"python_version {part.operator} '{part.version}'" for part in parts))
    joined = " and ".join(f"({item})" if len(markers) > 1 and " or " in item else item for item in markers)
    return [f"{name}{extras}{spec}" + (f" ; {joined}" if joined else "")]
