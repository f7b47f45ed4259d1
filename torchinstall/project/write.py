"""Write entries into a project file's values, and take a layout out of them again.

Whatever a person wrote stays, or is named in an error.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from itertools import combinations
from typing import Any

from packaging.specifiers import SpecifierSet

from torchinstall.catalog.catalog import Catalog
from torchinstall.core.errors import UsageError
from torchinstall.core.messages import Message, redact
from torchinstall.core.request import canonical_name
from torchinstall.index.urls import LINKS, pytorch_index
from torchinstall.project.edit import value_at
from torchinstall.project.model import ALWAYS, Dependency, Entries, Index, Point, Route, Scope, marker_at
from torchinstall.project.pyproject import ProjectView, below, same_url, scope_in


def write_entries(
    data: dict[str, Any], entries: Entries, catalog: Catalog, roots: tuple[ProjectView, ...] = ()
) -> tuple[Message, ...]:
    """Bring a file's values to what the entries ask for; `roots`: of the workspace, which hold for members.

    Raises:
        UsageError: something that a person wrote stands in the way; the values are to be thrown away.
    """
    own = ProjectView(copy.deepcopy(data))
    view = below(own, *roots)
    names, notes = _index_names(entries.choices, view.indexes)
    notes = [*entries.notes, *notes]
    sources = {}
    for package in dict.fromkeys(item.package for item in entries.choices):
        mine = [item for item in entries.choices if item.package == package]
        sources[package], more = _merged_sources(package, mine, names, view, catalog)
        notes += more
    for dependency in entries.dependencies:
        _require(data, dependency)
    _set_uv_lists(data, entries, view, notes)
    for package, rows in sources.items():
        if view.sources.get(package) != rows:
            value_at(data, dict, "tool", "uv", "sources")[own.source_name(package)] = rows
    for url, name in names.items():
        if any(row.name == name for row in view.indexes):
            continue
        rows = value_at(data, list, "tool", "uv", "index")
        nameless = next((at for at, row in enumerate(own.indexes) if same_url(row.url, url)), None)
        if nameless is not None:
            rows[nameless]["name"] = name
        else:
            flat = {"format": "flat"} if url.endswith(LINKS) else {}
            rows.append({"name": name, "url": url.removesuffix(LINKS), **flat, "explicit": True})
    return tuple(dict.fromkeys(notes))


def _index_names(choices: tuple[Route, ...], rows: tuple[Index, ...]) -> tuple[dict[str, str], list[Message]]:
    """URL -> name: that of the entry with the same URL, else the usual one, or a free one like it."""
    names: dict[str, str] = {}
    notes = []
    for item in choices:
        if not item.index or item.url in names:
            continue
        same = (row.name for row in rows if same_url(row.url, item.url.removesuffix(LINKS)))
        taken = {row.name for row in rows} | set(names.values())
        free = (item.index, *(f"{item.index}-{number}" for number in range(2, len(taken) + 3)))
        found = next(same, None)
        names[item.url] = found or next(name for name in free if name not in taken)
        if found is None and names[item.url] != item.index:
            text = f"the index name {item.index} belongs to another URL here, so {names[item.url]} is used"
            notes.append(Message(slug="index-name-taken", message=text))
    return names, notes


def _merged_sources(
    package: str, choices: list[Route], names: Mapping[str, str], view: ProjectView, catalog: Catalog
) -> tuple[list[dict[str, Any]], list[Message]]:
    """A package's entries afterwards; equal to those that are there when nothing has to change.

    Entries that route the package to another backend of PyTorch are what is being configured, and are
    replaced. Everything else that a person wrote stays, or is a conflict.

    Raises:
        UsageError: `source-conflict`: the project takes the package from somewhere else on purpose.
    """
    wanted = {(names.get(item.url, item.url), item.scope.key): item for item in choices}
    scopes = {key for _, key in wanted}
    served: dict[tuple[str, tuple[str, str]], frozenset[Point]] = {}
    rows = view.sources.get(package, [])
    keys = [(str(row.get("index") or row.get("url")), scope_in(row).key) for row in rows]
    for key, row in zip(keys, rows, strict=True):
        served[key] = served.get(key, frozenset()) | view.points(row.get("marker"))
    right = {key for key, item in wanted.items() if served.get(key) == item.points}
    new = frozenset[Point]().union(*(item.points for key, item in wanted.items() if key not in right))
    kept: list[dict[str, Any]] = []
    notes: list[Message] = []
    for key, row in zip(keys, rows, strict=True):
        url, scope = view.index_url(row), scope_in(row)
        mine = scope == ALWAYS or scope.key in scopes
        stays = key in right or not (mine or ALWAYS.key in scopes)
        if stays or (mine and key not in wanted and not new & view.points(row.get("marker"))):
            kept.append(row)
        elif mine:
            ours = row.get("index") in names.values() or pytorch_index(url, catalog.backend)
            if "index" not in row or not ours:
                raise _from_elsewhere(package, row, url)
            what = " on other platforms; the marker changes" if key in wanted else "; that entry is replaced"
            text = f"{package} came from the index {row['index']}{what}"
            notes.append(Message(slug="source-replaced", message=text))
        else:
            raise UsageError(
                "source-conflict",
                f"{package} is chosen by {scope.kind}s in this project",
                wanted=f"no [tool.uv.sources] entry of {package} with `{scope.kind} = {scope.name!r}`",
                found=f"{package} from {row.get('index')} for {scope.text}",
                hints=(f"torchinstall configure --layout {scope.kind}s",),
            )
    for key, item in wanted.items():
        if key not in right:
            row = {"index": names[item.url]} if item.index else {"url": item.url}
            row |= {item.scope.kind: item.scope.name} if item.scope != ALWAYS else {}
            marker = marker_at(item.points, view.versions)
            kept.append({**row, "marker": marker} if marker else row)
    return kept, notes


def _from_elsewhere(package: str, row: Mapping[str, Any], url: str) -> UsageError:
    what = ", ".join(f"{key} = {value!r}" for key, value in row.items())
    hint = f"remove {package} from [tool.uv.sources], then run configure again"
    mirror = url and not url.rstrip("/").endswith("/simple")  # that is the page of an ordinary index
    return UsageError(
        "source-conflict",
        f"{package} already comes from somewhere else; configure changes nothing that you wrote",
        wanted=f"no entry for {package} in [tool.uv.sources], or one for an index of PyTorch",
        found=f"{package} = {{ {what} }}",
        hints=(f"torchinstall configure --index-base {redact(url)}", hint) if mirror else (hint,),
    )


def _require(data: dict[str, Any], dependency: Dependency) -> None:
    listed = ProjectView(data).listed
    same = [item for item in listed if (item.scope, item.package) == (dependency.scope, dependency.package)]
    rows = value_at(data, list, *dependency.scope.path)
    for item in same:
        if dependency.cap and not excludes(item.requirement.specifier, dependency.cap):
            rows[item.position] = _capped(item.text, dependency.cap)
    if not same:
        rows.append(dependency.text)


def excludes(spec: SpecifierSet, cap: str) -> bool:
    """Whether bounds already keep out everything from `cap` on."""
    return not any(spec.contains(version, prereleases=True) for version in (cap, "99999"))


def _capped(text: str, cap: str) -> str:
    """A requirement with one more bound, the rest of it as it was written."""
    head, semicolon, marker = text.partition(";")
    stripped = head.rstrip()
    space = head[len(stripped) :]
    if stripped.endswith(")"):
        return f"{stripped[:-1]},<{cap}){space}{semicolon}{marker}"
    comma = "," if any(sign in stripped for sign in "<>=~!") else ""
    return f"{stripped}{comma}<{cap}{space}{semicolon}{marker}"


def _set_uv_lists(data: dict[str, Any], entries: Entries, view: ProjectView, notes: list[Message]) -> None:
    """`conflicts`, `default-groups`, `environments`, `required-environments`."""
    if entries.conflicts:
        _set_conflicts(data, entries.conflicts, view)
    if entries.default_group is not None:
        _set_default_groups(data, entries.default_group, entries, view)
    there = view.texts("environments")
    if entries.environments and there is None:
        value_at(data, dict, "tool", "uv")["environments"] = list(entries.environments)
    elif entries.environments and there != entries.environments and len(view.platforms) > 1:
        message = "tool.uv.environments was there already and is kept; if a platform gets the wrong build, "
        message += "split it as follows: " + " | ".join(entries.environments)
        notes.append(Message(slug="environments-kept", message=message))
    required = view.texts("required-environments") or ()
    free = there in (None, entries.environments)
    if missing := [item for item in entries.required if free and item not in required]:
        value_at(data, dict, "tool", "uv")["required-environments"] = [*required, *missing]


def _set_conflicts(data: dict[str, Any], pairs: tuple[tuple[Scope, Scope], ...], view: ProjectView) -> None:
    there = {frozenset(pair) for row in view.conflicts for pair in combinations(row, 2)}
    missing = [pair for pair in pairs if frozenset(scope.key for scope in pair) not in there]
    if not missing:
        return
    rows = {scope.key: {scope.kind: scope.name} for pair in pairs for scope in pair}
    conflicts = value_at(data, list, "tool", "uv", "conflicts")
    each = len(pairs) == len(rows) * (len(rows) - 1) // 2  # every one of them with every other
    for position, row in enumerate(view.conflicts):
        if each and len(row) > 1 and set(row) <= rows.keys():
            conflicts[position] += [item for key, item in rows.items() if key not in row]
            return
    sets = [tuple(rows)] if each else [tuple(scope.key for scope in pair) for pair in missing]
    conflicts += [[rows[key] for key in row] for row in sets]


def _set_default_groups(data: dict[str, Any], ours: str, entries: Entries, view: ProjectView) -> None:
    raw = view.uv.get("default-groups")
    if isinstance(raw, str):
        raise UsageError(
            "default-groups-all",
            f"tool.uv.default-groups is {raw!r}, so uv would install conflicting groups together",
            wanted="a list of groups",
            found=f"default-groups = {raw!r}",
            hints=(f"write default-groups as a list that ends with {ours!r}",),
        )
    key = canonical_name(ours)
    pairs = [{canonical_name(scope.name) for scope in pair} for pair in entries.conflicts]
    rivals = {name for pair in pairs if key in pair for name in pair} - {key}
    wanted = [name for name in view.default_groups if canonical_name(name) not in rivals]
    if key not in map(canonical_name, wanted):
        wanted.append(ours)
    if raw is None or wanted != list(view.default_groups):
        value_at(data, dict, "tool", "uv")["default-groups"] = wanted
