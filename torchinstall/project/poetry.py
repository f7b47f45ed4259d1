"""The reader for Poetry 1 and 2: constraints, markers about extras, sources, and the lists of its tables."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from torchinstall.catalog.catalog import Catalog
from torchinstall.core.errors import UsageError
from torchinstall.core.request import canonical_name, extras_text
from torchinstall.index.urls import backend_in
from torchinstall.project.foreign import Foreign, Offer, plain_name
from torchinstall.project.model import ALWAYS, Index, Scope, all_of
from torchinstall.project.pyproject import ProjectView, mapping, tables, texts

_RELEASE = re.compile(r"\d+(?:\.\d+)*")
_EXTRA = re.compile(r"extra\s*(==|!=)\s*['\"]([^'\"]+)['\"]")


def poetry_offers(view: ProjectView, package: str) -> Iterator[Offer]:
    """A package names its source; a source that is not explicit serves whatever names none."""
    urls = _sources(view)
    for scope, _, row, marker in _rows(view, package):
        if (source := str(mapping(row).get("source", ""))) in urls:
            yield Offer(urls[source], (package,), scope, marker)
    for row in tables(view.tool("poetry").get("source")):
        if row.get("priority") not in ("explicit", "supplemental"):
            yield Offer(str(row.get("url", "")))


def read_poetry(view: ProjectView, catalog: Catalog) -> Foreign:
    """`[tool.poetry]` in standard words; Poetry 2 has its groups there only.

    Raises:
        UsageError: `not-carried`: a marker that uv has no words for.
    """
    found, poetry = Foreign(), view.tool("poetry")
    found.project = {key: str(poetry[key]) for key in ("name", "version", "description") if poetry.get(key)}
    for python in texts(mapping(poetry.get("dependencies")).get("python")):
        found.project["requires-python"] = specifier(python) or ""
    rows, urls = tables(poetry.get("source")), _sources(view)
    explicit = {str(row.get("name")) for row in rows if row.get("priority") == "explicit"}
    others = {name: url for name, url in urls.items() if url and not backend_in([url], catalog.backend)}
    found.indexes = [Index(url, name, explicit=name in explicit) for name, url in others.items()]
    extras = _extras(view)
    found.lists = {Scope("extra", name): [] for name in extras}
    for scope, name, row, marker in _rows(view):
        table = dict(mapping(row))
        version = str(table.get("version", "*")) if table else str(row)
        if (spec := specifier(version)) is None:
            found.omitted.append(f"{name} {version!r} cannot be written as a standard version bound")
        if (source := str(table.get("source", ""))) in others:
            table["index"] = source
        options = extras_text(texts(table.get("extras")))
        found.add(scope, name, f"{options}{spec or ''}", marker, table)
    for extra, names in extras.items():
        there = {plain_name(text) for text in found.lists[Scope("extra", extra)]}
        for name in names:  # a package that the extra only names
            if canonical_name(name) not in there:
                found.add(Scope("extra", extra), canonical_name(name), "", "", {})
    return found


def _sources(view: ProjectView) -> dict[str, str]:
    rows = tables(view.tool("poetry").get("source"))
    return {str(row.get("name")): str(row.get("url", "")) for row in rows}


def _extras(view: ProjectView) -> dict[str, list[str]]:
    return {str(name): texts(names) for name, names in mapping(view.tool("poetry").get("extras")).items()}


def _rows(view: ProjectView, package: str = "") -> Iterator[tuple[Scope, str, Any, str]]:
    """Each requirement (of one package): the list that has it in standard words, name, row and marker."""
    poetry = view.tool("poetry")
    groups = {name: mapping(row).get("dependencies") for name, row in mapping(poetry.get("group")).items()}
    groups.setdefault("dev", poetry.get("dev-dependencies"))
    named = [(ALWAYS, poetry.get("dependencies"))]
    named += [(Scope("group", str(name)), listed) for name, listed in groups.items()]
    listed = [(scope, str(name), row) for scope, rows in named for name, row in mapping(rows).items()]
    for scope, name, rows in listed:
        if (name == "python" and scope == ALWAYS) or package not in ("", canonical_name(name)):
            continue
        extras = [Scope("extra", extra) for extra, names in _extras(view).items() if name in names]
        for row in rows if isinstance(rows, list) else [rows]:
            asks = extras if mapping(row).get("optional") else [scope]
            for extra, marker in _by_extra(_marker(mapping(row))):
                homes = [Scope("extra", extra)] if extra else asks
                yield from ((home, name, row, marker) for home in homes)


def _marker(row: Mapping[str, Any]) -> str:
    """`markers`, `platform` and `python` of a row as one marker."""
    markers = texts(row.get("markers"))
    markers += [f"sys_platform == '{platform}'" for platform in texts(row.get("platform"))]
    for python in texts(row.get("python")):
        parts = SpecifierSet(specifier(python) or "")
        markers += [" and ".join(f"python_version {part.operator} '{part.version}'" for part in parts)]
    return all_of(*markers)


def specifier(text: str) -> str | None:
    """A Poetry constraint as a PEP 440 specifier: `^2.1` is `>=2.1,<3.0`; None where there is none."""
    parts = [_one(part.strip()) for part in re.split(r"\s*,\s*|\s+(?=[<>=!~^])", text.strip())]
    return None if None in parts else ",".join(filter(None, parts))


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
    if part[0] in "<>" or part.startswith("~="):
        part = part.partition("+")[0]
    try:
        return str(SpecifierSet(f"=={part}" if _RELEASE.match(part) else part))
    except InvalidSpecifier:
        return None


def _ceiling(numbers: list[int], *, caret: bool) -> str:
    """`^0.2.3` ends below 0.3.0, `~1.2` below 1.3: the first number that may not change goes up by one."""
    last = len(numbers) - 1
    place = next((at for at, number in enumerate(numbers) if number), last) if caret else min(1, last)
    raised = [*numbers[:place], numbers[place] + 1, *[0] * (len(numbers) - place - 1)]
    return ".".join(map(str, raised))


def _by_extra(marker: str) -> list[tuple[str, str]]:
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
    return None if not clauses else "" if "" in clauses else " or ".join(clauses)
