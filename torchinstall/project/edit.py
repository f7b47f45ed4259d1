"""Write entries into a project file's text and change nothing else.

Every edit is checked afterwards by parsing the result with the standard parser: what was not meant to change
must be equal, or the edit is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, MutableMapping
from itertools import combinations
from typing import Any

import tomlkit
from msgspec import Struct
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import AoT, Array, InlineTable

from torchinstall.catalog.catalog import Catalog
from torchinstall.core.errors import UsageError
from torchinstall.core.messages import Message, redact
from torchinstall.index.urls import LINKS, pytorch_index
from torchinstall.project.files import array, inline, loads, quoted, tidy
from torchinstall.project.model import ALWAYS, Choice, Dependency, Entries, Index, Point, Scope, marker_at
from torchinstall.project.pyproject import ProjectView, below, mapping, same_url, scope_in


class Edited(Struct, frozen=True):
    """The text afterwards (equal to the text before when nothing had to change), and what to tell."""

    text: str
    notes: tuple[Message, ...] = ()


def edit_text(text: str, change: Callable[[Any], tuple[Message, ...]]) -> Edited:
    """Apply a change to the parsed document; line ends and a byte order mark are kept.

    Args:
        text: the file, which is valid TOML.
        change: changes a document of tomlkit in place; gives notes.

    Raises:
        UsageError: `cannot-edit`: the file is written in a way that cannot be edited safely.
    """
    mark = "\ufeff" if text.startswith("\ufeff") else ""
    body = text.removeprefix(mark)
    crlf = body.count("\r\n") > 0 and body.count("\r\n") == body.count("\n")
    plain = body.replace("\r\n", "\n") if crlf else body
    try:
        document = tomlkit.parse(plain)
        before = document.unwrap()
        notes = change(document)
    except (TOMLKitError, ValueError, IndexError) as error:
        if not isinstance(error, TOMLKitError) and not _within_tomlkit(error):
            raise
        raise _cannot_edit() from error
    if document.unwrap() == before:
        return Edited(text, notes)
    result = tidy(plain, document.as_string())
    if loads(result) != document.unwrap():
        raise _cannot_edit()
    return Edited(mark + (result.replace("\n", "\r\n") if crlf else result), notes)


def _within_tomlkit(error: BaseException) -> bool:
    """Whether tomlkit itself lost its way: in tables that are scattered it finds no place for a key."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and str(trace.tb_frame.f_globals.get("__name__")).startswith("tomlkit")


def _cannot_edit() -> UsageError:
    return UsageError(
        "cannot-edit",
        "this project file is written in a way that cannot be edited without losing something",
        hints=("write each of [tool.uv], [tool.uv.sources] and [[tool.uv.index]] as one table",),
    )


def value(text: str) -> Any:
    """A tomlkit item from its text."""
    return tomlkit.parse(f"x = {text}\n")["x"]


def table_at(document: Any, *path: str) -> Any:
    """The table at this path, made where it is missing; the tables above it stay implicit.

    Raises:
        UsageError: `bad-pyproject`: something else is there.
    """
    here = document
    for position, key in enumerate(path):
        if key not in here:
            last = position == len(path) - 1
            flat = isinstance(here, InlineTable)
            here[key] = tomlkit.inline_table() if flat else tomlkit.table(is_super_table=not last)
        here = here[key]
        if not isinstance(here, MutableMapping):
            raise _wrong_type(".".join(path[: position + 1]), "table", here)
    return here


def _wrong_type(name: str, wanted: str, found: object) -> UsageError:
    return UsageError(
        "bad-pyproject",
        f"{name} in the project file is not a {wanted}",
        wanted=f"a {wanted}",
        found=str(found)[:80],
        hints=("correct the file; it was not changed",),
    )


def prune(document: Any, *path: str) -> None:
    """Remove the table at this path if it is empty, and those above it that become so."""
    tables = [document]
    for key in path:
        tables.append(mapping(tables[-1]).get(key, {}))
    for above, key in zip(reversed(tables[:-1]), reversed(path), strict=True):
        there = mapping(above).get(key)
        if isinstance(there, MutableMapping) and not len(there):
            del above[key]


def add_table(parent: Any, key: str, row: Mapping[str, Any]) -> None:
    """Append to an array of tables, in whichever of its two spellings the file has it."""
    rows = parent.get(key)
    if rows is None and isinstance(parent, InlineTable):
        parent[key] = value(array([inline(row)], multiline=False))
        return
    if rows is not None and not isinstance(rows, AoT):
        extend(parent, key, [inline(row)])
        return
    if rows is None:
        parent[key] = tomlkit.aot()
    table = tomlkit.table()
    table.update(row)
    parent[key].append(table)


def extend(table: Any, key: str, items: Iterable[str]) -> None:
    """Append values that are TOML already to an array, which is made where it is missing or empty.

    Raises:
        UsageError: `bad-pyproject`: something else is there.
    """
    if not table.get(key):
        table[key] = value(array(items))
        return
    if not isinstance(table[key], list):
        raise _wrong_type(key, "list", table[key])
    for item in items:
        table[key].append(value(item))


def requirements_at(document: Any, scope: Scope) -> tuple[Any, str]:
    """The table that a list of requirements is in, made where it is missing, and the list's key."""
    if scope.kind == "group":
        return table_at(document, "dependency-groups"), scope.name
    if scope.kind == "extra":
        return table_at(document, "project", "optional-dependencies"), scope.name
    return table_at(document, "project"), "dependencies"


def write_entries(
    document: Any, entries: Entries, catalog: Catalog, roots: tuple[ProjectView, ...] = ()
) -> tuple[Message, ...]:
    """Bring a parsed document to what the entries ask for.

    Args:
        document: of tomlkit; changed in place.
        entries: what must be in it.
        catalog: tells which URLs are backends of PyTorch.
        roots: of the workspace, whose indexes and sources hold for its members too.

    Raises:
        UsageError: something that a person wrote stands in the way; the document is to be thrown away.
    """
    own = ProjectView(document.unwrap())
    view = below(own, *roots)
    names, notes = _index_names(entries.choices, view.indexes)
    notes = [*entries.notes, *notes]
    sources = {}
    for package in dict.fromkeys(item.package for item in entries.choices):
        mine = [item for item in entries.choices if item.package == package]
        sources[package], more = _merged_sources(package, mine, names, view, catalog)
        notes += more
    for dependency in entries.dependencies:
        _require(document, dependency)
    _set_uv_lists(document, entries, view, notes)
    spelled: dict[str, str] = {canonicalize_name(name): name for name in mapping(own.uv.get("sources"))}
    for package, rows in sources.items():
        if view.sources.get(package) != rows:
            table = table_at(document, "tool", "uv", "sources")
            set_rows(table, spelled.get(package, package), rows)
    for url, name in names.items():
        if any(row.name == name for row in view.indexes):
            continue
        uv = table_at(document, "tool", "uv")
        nameless = next((at for at, row in enumerate(own.indexes) if same_url(row.url, url)), None)
        if nameless is not None:
            uv["index"][nameless]["name"] = name
        else:
            flat = {"format": "flat"} if url.endswith(LINKS) else {}
            add_table(uv, "index", {"name": name, "url": url.removesuffix(LINKS), **flat, "explicit": True})
    return tuple(dict.fromkeys(notes))


def set_rows(table: Any, key: str, rows: list[dict[str, Any]]) -> None:
    """Bring a list of inline tables to these rows; comments beside those that stay are kept."""
    there = table.get(key)
    if not isinstance(there, Array) or "#" not in there.as_string():
        table[key] = value(array(inline(row) for row in rows))
        return
    for at in reversed(range(len(there))):
        if there[at].unwrap() not in rows:
            del there[at]
    extend(table, key, [inline(row) for row in rows if row not in there.unwrap()])


def _index_names(
    choices: tuple[Choice, ...], rows: tuple[Index, ...]
) -> tuple[dict[str, str], list[Message]]:
    """URL -> name: that of the entry with the same URL, else the usual one, or a free one like it."""
    names: dict[str, str] = {}
    notes = []
    for url in dict.fromkeys(item.url for item in choices if item.index):
        usual = next(item.index for item in choices if item.url == url)
        found = next((row.name for row in rows if same_url(row.url, url.removesuffix(LINKS))), None)
        if found is not None:
            names[url] = found
            continue
        taken = {row.name for row in rows} | set(names.values())
        name, number = usual, 2
        while name in taken:
            name, number = f"{usual}-{number}", number + 1
        names[url] = name
        if name != usual:
            text = f"the index name {usual} belongs to another URL here, so {name} is used"
            notes.append(Message(slug="index-name-taken", message=text))
    return names, notes


def _merged_sources(
    package: str, choices: list[Choice], names: Mapping[str, str], view: ProjectView, catalog: Catalog
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
    rows = [
        ((str(row.get("index") or row.get("url")), scope_in(row).key), row)
        for row in view.sources.get(package, [])
    ]
    for here, row in rows:
        served[here] = served.get(here, frozenset()) | view.points(row.get("marker"))
    right = {key for key, item in wanted.items() if served.get(key) == item.points}
    kept: list[dict[str, Any]] = []
    notes: list[Message] = []
    for here, row in rows:
        url, scope = view.index_url(row), scope_in(row)
        if here in right:
            kept.append(row)
        elif scope.key in scopes or scope == ALWAYS:
            ours = row.get("index") in names.values() or pytorch_index(url, catalog.backend)
            if "index" not in row or not ours:
                raise _from_elsewhere(package, row, url)
            what = " on other platforms; the marker changes" if here in wanted else "; that entry is replaced"
            text = f"{package} came from the index {row['index']}{what}"
            notes.append(Message(slug="source-replaced", message=text))
        elif ALWAYS.key in scopes:
            raise UsageError(
                "source-conflict",
                f"{package} is chosen by {scope.kind}s in this project",
                wanted=f"no [tool.uv.sources] entry of {package} with `{scope.kind} = {scope.name!r}`",
                found=f"{package} from {row.get('index')} for {scope.text}",
                hints=(f"torchinstall configure --layout {scope.kind}s",),
            )
        else:
            kept.append(row)
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


def _require(document: Any, dependency: Dependency) -> None:
    listed = ProjectView(document.unwrap()).listed
    same = [item for item in listed if (item.scope, item.package) == (dependency.scope, dependency.package)]
    table, key = requirements_at(document, dependency.scope)
    for item in same:
        if dependency.cap and not excludes(item.requirement.specifier, dependency.cap):
            table[key][item.position] = _capped(item.text, dependency.cap)
    if not same:
        extend(table, key, [quoted(dependency.text)])


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


def _set_uv_lists(document: Any, entries: Entries, view: ProjectView, notes: list[Message]) -> None:
    """`conflicts`, `default-groups`, `environments`, `required-environments`."""
    if entries.conflicts:
        _set_conflicts(document, entries.conflicts, view)
    if entries.default_group is not None:
        _set_default_groups(document, entries.default_group, entries, view)
    there = view.texts("environments")
    if entries.environments and there is None:
        table_at(document, "tool", "uv")["environments"] = value(array(map(quoted, entries.environments)))
    elif entries.environments and there != entries.environments and len(view.platforms) > 1:
        message = "tool.uv.environments was there already and is kept; if a platform gets the wrong build, "
        message += "split it as follows: " + " | ".join(entries.environments)
        notes.append(Message(slug="environments-kept", message=message))
    required = view.texts("required-environments") or ()
    free = there in (None, entries.environments)
    if missing := [item for item in entries.required if free and item not in required]:
        uv = table_at(document, "tool", "uv")
        if not isinstance(view.uv.get("required-environments"), list):
            missing, uv["required-environments"] = [*required, *missing], []
        extend(uv, "required-environments", map(quoted, missing))


def _set_conflicts(document: Any, pairs: tuple[tuple[Scope, Scope], ...], view: ProjectView) -> None:
    there = {frozenset(pair) for row in view.conflicts for pair in combinations(row, 2)}
    missing = [pair for pair in pairs if frozenset(scope.key for scope in pair) not in there]
    scopes = dict.fromkeys(scope for pair in pairs for scope in pair)
    if not missing:
        return
    uv = table_at(document, "tool", "uv")
    rows = {scope.key: inline({scope.kind: scope.name}) for scope in scopes}
    each = len(pairs) == len(rows) * (len(rows) - 1) // 2  # every one of them with every other
    for position, row in enumerate(view.conflicts):
        if each and len(row) > 1 and set(row) <= rows.keys():
            for key, text in rows.items():
                if key not in row:
                    uv["conflicts"][position].append(value(text))
            return
    sets = [tuple(rows)] if each else [tuple(scope.key for scope in pair) for pair in missing]
    deep = "        "
    groups = [array((rows[key] for key in row), indent=deep).removesuffix("]") + "    ]" for row in sets]
    extend(uv, "conflicts", groups)


def _set_default_groups(document: Any, ours: str, entries: Entries, view: ProjectView) -> None:
    raw = view.uv.get("default-groups")
    if isinstance(raw, str):
        raise UsageError(
            "default-groups-all",
            f"tool.uv.default-groups is {raw!r}, so uv would install conflicting groups together",
            wanted="a list of groups",
            found=f"default-groups = {raw!r}",
            hints=(f"write default-groups as a list that ends with {ours!r}",),
        )
    key = canonicalize_name(ours)
    pairs = [{canonicalize_name(scope.name) for scope in pair} for pair in entries.conflicts]
    rivals = {name for pair in pairs if key in pair for name in pair} - {key}
    wanted = [name for name in view.default_groups if canonicalize_name(name) not in rivals]
    if key not in map(canonicalize_name, wanted):
        wanted.append(ours)
    if raw is None or wanted != list(view.default_groups):
        groups = value(array(map(quoted, wanted), multiline=False))
        table_at(document, "tool", "uv")["default-groups"] = groups
