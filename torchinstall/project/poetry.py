"""Read `[tool.poetry]` as standard project metadata. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from torchinstall.index.urls import pytorch_index

if TYPE_CHECKING:
    from torchinstall.catalog.catalog import Catalog

__all__ = ["Made", "project_table", "specifier"]

_RELEASE = re.compile(r"\d+(?:\.\d+)*")


class Made(Struct):
    """What came out of the table.

    Attributes:
        project: keys of `[project]`; lists are tuples of texts.
        sources: (package, index name) of packages that Poetry took from a source of their own.
        left: what could not be said in standard metadata, one sentence each.
    """

    project: dict[str, Any] = field(default_factory=dict)
    extras: dict[str, tuple[str, ...]] = field(default_factory=dict)
    groups: dict[str, tuple[str, ...]] = field(default_factory=dict)
    indexes: list[tuple[str, str]] = field(default_factory=list)
    sources: list[tuple[str, str]] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


def specifier(text: str) -> str | None:
    """A Poetry constraint as a PEP 440 specifier: `^2.1` is `>=2.1,<3.0`; None where it cannot be said."""
    parts = []
    for part in re.split(r"\s*,\s*|\s+(?=[<>=!~^])", text.strip()):
        made = _one(part.strip())
        if made is None:
            return None
        parts.append(made)
    return ",".join(part for part in parts if part)


def _one(part: str) -> str | None:
    if part in ("", "*"):
        return ""
    if part[0] in "^~" and not part.startswith("~="):
        numbers = [int(item) for item in part[1:].strip().split(".") if item.isdigit()]
        if not _RELEASE.fullmatch(part[1:].strip()):
            return None
        return f">={part[1:].strip()},<{_ceiling(numbers, caret=part[0] == '^')}"
    if part.endswith(".*") and _RELEASE.fullmatch(part[:-2]):
        return f"=={part}"
    if _RELEASE.match(part):
        part = f"=={part}"
    try:
        return str(SpecifierSet(part))
    except InvalidSpecifier:
        return None


def _ceiling(numbers: list[int], *, caret: bool) -> str:
    """`^0.2.3` ends below 0.3.0, `~1.2` below 1.3: the first number that may not change goes up by one."""
    if caret:
        place = next((at for at, number in enumerate(numbers) if number), len(numbers) - 1)
    else:
        place = min(1, len(numbers) - 1)
    raised = [*numbers[:place], numbers[place] + 1]
    return ".".join(str(number) for number in [*raised, *[0] * (len(numbers) - len(raised))])


def project_table(poetry: Mapping[str, Any], catalog: Catalog) -> Made:
    """The standard metadata of a Poetry project.

    Args:
        poetry: the `[tool.poetry]` table.
        catalog: tells which sources are PyTorch's.
    """
    made = Made()
    for key in ("name", "version", "description"):
        if poetry.get(key):
            made.project[key] = str(poetry[key])
    main = poetry.get("dependencies")
    rows = dict(main) if isinstance(main, Mapping) else {}
    python = rows.pop("python", None)
    if isinstance(python, str) and (spec := specifier(python)):
        made.project["requires-python"] = spec
    optional: dict[str, str] = {}
    wanted: list[str] = []
    for name, row in rows.items():
        for text in _requirements(str(name), row, made):
            if isinstance(row, Mapping) and row.get("optional"):
                optional[canonicalize_name(str(name))] = text
            else:
                wanted.append(text)
    made.project["dependencies"] = tuple(wanted)
    for extra, names in _mapping(poetry.get("extras")).items():
        made.extras[str(extra)] = tuple(
            optional.get(canonicalize_name(str(name)), str(name)) for name in names
        )
    _groups(poetry, made)
    _sources(poetry, made, catalog)
    return made


def _groups(poetry: Mapping[str, Any], made: Made) -> None:
    groups = {
        str(name): _mapping(row).get("dependencies") for name, row in _mapping(poetry.get("group")).items()
    }
    if "dev-dependencies" in poetry:
        groups.setdefault("dev", poetry["dev-dependencies"])
    for name, rows in groups.items():
        texts = [
            text for package, row in _mapping(rows).items() for text in _requirements(str(package), row, made)
        ]
        if texts:
            made.groups[name] = tuple(texts)


def _sources(poetry: Mapping[str, Any], made: Made, catalog: Catalog) -> None:
    """Sources of PyTorch are configured afresh; the others keep their names."""
    rows = [row for row in poetry.get("source", []) if isinstance(row, Mapping)]
    torch = {str(row.get("name")) for row in rows if pytorch_index(str(row.get("url", "")), catalog.backend)}
    for row in rows:
        name, url = str(row.get("name", "")), str(row.get("url", ""))
        if url and name not in torch:
            made.indexes.append((name, url))
    known = {name for name, _ in made.indexes}
    made.sources = [(package, index) for package, index in made.sources if index in known]


def _requirements(name: str, row: Any, made: Made) -> list[str]:
    """The requirements of one entry; a list of entries has one each."""
    if isinstance(row, list):
        return [text for item in row for text in _requirements(name, item, made)]
    table = _mapping(row)
    version = str(table.get("version", "*")) if table else str(row)
    if any(key in table for key in ("git", "path", "url")):
        made.left.append(f"{name} comes from git, a path or a URL in tool.poetry: add it with `uv add`")
        return []
    spec = specifier(version)
    if spec is None:
        made.left.append(f"{name} {version!r} cannot be said as a standard version bound")
        spec = ""
    if isinstance(source := table.get("source"), str):
        made.sources.append((canonicalize_name(name), source))
    extras = f"[{','.join(table['extras'])}]" if table.get("extras") else ""
    markers = [str(table["markers"])] if "markers" in table else []
    if isinstance(table.get("platform"), str):
        markers.append(f"sys_platform == '{table['platform']}'")
    if isinstance(table.get("python"), str) and (python := _python_marker(table["python"])):
        markers.append(python)
    joined = " and ".join(f"({item})" if len(markers) > 1 and " or " in item else item for item in markers)
    return [f"{name}{extras}{spec}" + (f" ; {joined}" if joined else "")]


def _python_marker(text: str) -> str | None:
    spec = specifier(text)
    if not spec:
        return None
    return " and ".join(f"python_version {part.operator} '{part.version}'" for part in SpecifierSet(spec))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
