"""Change the text of a project file: plain values say what is wanted, the rest of the text stays as it is.

Every edit is checked afterwards with the standard parser: the text must say exactly what was wanted.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator
from functools import reduce
from operator import getitem
from typing import Any, TypeVar

import tomlkit
from msgspec import Struct
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import AoT, Array, InlineTable, Table

from torchinstall.core.errors import UsageError
from torchinstall.core.files import quoted
from torchinstall.core.messages import Message
from torchinstall.project.files import array, changed_lines, inline, loads, tidy
from torchinstall.project.pyproject import ProjectView

_UV = ("tool", "uv")
_SOURCES, _INDEX = (*_UV, "sources"), (*_UV, "index")
_ON_ONE_LINE = ("default-groups", "members")

_T = TypeVar("_T")
_Path = tuple[Any, ...]
"""Keys of tables and positions in lists."""


class Edited(Struct, frozen=True):
    """The text afterwards (equal to the text before when nothing had to change), and what to tell."""

    text: str
    notes: tuple[Message, ...] = ()


def edit_text(text: str, change: Callable[[dict[str, Any]], tuple[Message, ...]]) -> Edited:
    """Bring a file to other values; comments, line ends and a byte order mark are kept.

    Args:
        text: the file, which is valid TOML.
        change: changes its plain values in place; gives notes.

    Raises:
        UsageError: `cannot-edit`: the file is written in a way that cannot be edited safely.
    """
    mark = "\ufeff" if text.startswith("\ufeff") else ""
    body = text.removeprefix(mark)
    crlf = body.count("\r\n") > 0 and body.count("\r\n") == body.count("\n")
    plain = body.replace("\r\n", "\n") if crlf else body
    before = loads(plain) or {}
    wanted = copy.deepcopy(before)
    notes = change(wanted)
    if wanted == before:
        return Edited(text, notes)
    tries = ((plain, False), (plain, True), (_gathered(plain), False))
    results = (
        _edited(source, before, wanted, flat=flat) for source, flat in tries if loads(source) == before
    )
    found = [text for text in results if loads(text) == wanted]
    if not found:
        raise UsageError(
            "cannot-edit",
            "this project file is written in a way that cannot be edited without losing something",
            hints=("write each of [tool.uv], [tool.uv.sources] and [[tool.uv.index]] as one table",),
        )
    result = min(found, key=lambda text: len(_commented(plain) - _commented(text)))
    return Edited(mark + (result.replace("\n", "\r\n") if crlf else result), notes)


def _commented(text: str) -> set[tuple[str, str]]:
    """Each comment on lines of its own, and the header below it."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return {(lines[at], line) for at, line in enumerate(lines[1:]) if (lines[at][0], line[0]) == ("#", "[")}


def _gathered(text: str) -> str:
    """The text with uv's tables next to each other: of those in several places tomlkit has only a copy."""
    blocks, tables, above = [""], [ProjectView({})], ""
    for line in text.splitlines(keepends=True):
        opened = loads(line.strip()) if line.lstrip().startswith("[") else None
        if opened is not None:
            blocks.append(above + line)
            tables.append(ProjectView(opened))
        elif not line.strip() or (line.startswith("#") and above):
            above += line
            continue
        else:  # a comment right below a row belongs to that
            blocks[-1] += above + line
        above = ""
    uv = [at for at, table in enumerate(tables) if "uv" in table.tool()]
    first = uv[0] if uv else 0
    names = {at: next(iter(tables[at].uv), "") for at in uv}
    places = {name: place for place, name in enumerate(dict.fromkeys(names.values()))}
    uv.sort(key=lambda at: (names[at] == "index", places[names[at]]))
    rest = [at for at in range(first, len(blocks)) if at not in uv]
    return "".join((*blocks[:first], *(blocks[at] for at in (*uv, *rest)), above))


def _edited(text: str, before: dict[str, Any], wanted: dict[str, Any], *, flat: bool) -> str:
    """The text with other values; what was there already where tomlkit finds no place for something."""
    try:
        document = _Document(text, before, wanted, flat)
        document.bring((), before, wanted)
        # A list that moved brought its own rows along.
        document.bring((), loads(document.toml.as_string()) or wanted, wanted)
        return tidy(text, document.toml.as_string())
    except (TOMLKitError, LookupError, TypeError, ValueError):
        return text


class _Document:
    """A file as tomlkit has it, and the lists that are to stand somewhere else, with their comments.

    `flat`: uv's new tables become inline tables: beside dotted keys (`uv.package`) no others fit.
    """

    def __init__(self, text: str, before: dict[str, Any], wanted: dict[str, Any], flat: bool) -> None:
        self.flat = flat
        self.toml: Any = tomlkit.parse(text)
        origin: Any = tomlkit.parse(text)
        self.moving: list[Any] = [reduce(getitem, path, origin) for path in _lost(before, wanted)]

    def at(self, path: _Path) -> Any:
        """What stands at a path, looked up anew each time: what is written in several places moves."""
        return reduce(getitem, path, self.toml)

    def bring(self, path: _Path, old: Any, new: Any) -> None:
        """Bring what stands at a path from its old value to a new one."""
        if old == new:
            return
        if isinstance(old, dict) and isinstance(new, dict):
            for key in old:
                if key not in new:
                    del self.at(path)[key]
            for key, item in new.items():
                if key in old:
                    self.bring((*path, key), old[key], item)
                else:
                    self.put((*path, key), item)
        elif old and isinstance(old, list) and isinstance(new, list) and not self.restyled(path, old, new):
            keys = ([json.dumps(row, default=str) for row in rows] for rows in (old, new))
            for _, first, last, start, end in reversed(changed_lines(*keys)):
                self.rows(path, old, range(first, last), new[start:end])
        else:
            self.put(path, new)

    def rows(self, path: _Path, old: list[Any], places: range, new: list[Any]) -> None:
        """Bring some neighbours in a list to new rows."""
        last = places.stop
        for at, row in reversed(_paired(old, places, new)):
            rows = self.at(path)
            if at is None:
                rows.insert(last, self.written((*path, last), row, flat=not isinstance(rows, AoT)))
            else:
                del rows[at + 1 : last]
                self.bring((*path, at), old[at], row)
                last = at
        del self.at(path)[places.start : last]

    def restyled(self, path: _Path, old: list[Any], new: list[Any]) -> bool:
        """Whether a list is written anew, one row a line: sources that grow and have no comments."""
        grows = path[:-1] == _SOURCES and any(row not in old for row in new)
        return grows and "#" not in self.at(path).as_string()

    def put(self, path: _Path, item: Any) -> None:
        """Write a new value."""
        here = self.at(path[:-1])
        flat = isinstance(here, InlineTable) or (self.flat and path[:2] == _UV)
        if isinstance(here, Table) and here.is_super_table():
            here.trivia.comment = here.trivia.comment_ws = ""  # that of the header below it
        here[path[-1]] = self.written(path, item, flat=flat)

    def written(self, path: _Path, item: Any, *, flat: bool) -> Any:
        """A new value as uv's documentation writes it; `flat`: it stands in an inline table or list."""
        if item and isinstance(item, list):
            arrays = (row for row in self.moving if isinstance(row, Array))
            moved = (row for row in arrays if _words(row.unwrap()) == _words(item))
            if (there := next(moved, None)) is not None:
                return there
        if path == _INDEX and not flat:
            rows = tomlkit.aot()
            for row in item:
                rows.append(self.written((*path, 0), row, flat=False))
            return rows
        if not isinstance(item, dict) or path[:-1] == _SOURCES or (isinstance(path[-1], int) and flat):
            depth = sum(isinstance(key, int) for key in path)
            text = _text(item, depth, multiline=path[-1] not in _ON_ONE_LINE)
            return tomlkit.parse(f"x = {text}\n")["x"]
        tables = [key for key, row in item.items() if isinstance(row, dict) or key == "index"]
        only_tables = path != _SOURCES and 0 < len(item) == len(tables)
        table: Any = tomlkit.inline_table() if flat else tomlkit.table(is_super_table=only_tables)
        for key, row in item.items():
            table[key] = self.written((*path, key), row, flat=flat)
        return table


def _lost(old: dict[str, Any], new: dict[str, Any], path: _Path = ()) -> Iterator[_Path]:
    """Where lists stood that are not wanted there any more."""
    for key, item in old.items():
        left = new.get(key)
        if isinstance(item, dict):
            yield from _lost(item, left if isinstance(left, dict) else {}, (*path, key))
        elif isinstance(item, list) and left is None:
            yield (*path, key)


def _paired(old: list[Any], places: range, new: list[Any]) -> list[tuple[int | None, Any]]:
    """Each new row and the place of the one that becomes it: of requirements, that of the same package."""
    found, free = list[tuple[int | None, Any]](), places.start
    for row in new:
        alike = (place for place in range(free, places.stop) if _word(old[place]) == _word(row))
        at = next(alike, None)
        free = free if at is None else at + 1
        found.append((at, row))
    return found


def _word(row: Any) -> str:
    """The package that a row of a list is about."""
    return re.split(r"[^\w.-]", str(row), maxsplit=1)[0]


def _words(rows: list[Any]) -> list[str]:
    return [*dict.fromkeys(map(_word, rows))]


def _text(item: Any, depth: int = 0, *, multiline: bool = True) -> str:
    if isinstance(item, dict):
        return inline(item)
    if isinstance(item, list):
        rows = (_text(row, depth + 1) for row in item)
        text = array(rows, multiline=multiline, indent="    " * (depth + 1))
        return text[:-1] + "    " * depth + "]"
    return quoted(item) if isinstance(item, str) else tomlkit.item(item).as_string()


def value_at(data: dict[str, Any], kind: type[_T], *path: str) -> _T:
    """The table or list at this path of a file's values, made where it is missing.

    Raises:
        UsageError: `bad-pyproject`: something else is there.
    """
    here: Any = data
    for position, key in enumerate(path, 1):
        wanted: type[Any] = kind if position == len(path) else dict
        here = here.setdefault(key, wanted())
        if not isinstance(here, wanted):
            word = "list" if wanted is list else "table"
            raise UsageError(
                "bad-pyproject",
                f"{'.'.join(path[:position])} in the project file is not a {word}",
                wanted=f"a {word}",
                found=str(here)[:80],
                hints=("correct the file; it was not changed",),
            )
    found: _T = here
    return found


def drop(data: dict[str, Any], *path: str) -> None:
    """Take out what is at this path of a file's values, and the tables above it that become empty."""
    *above, last = path
    tables = [data]
    for key in above:
        there = tables[-1].get(key)
        if not isinstance(there, dict):
            return
        tables.append(there)
    tables[-1].pop(last, None)
    for table, key in zip(reversed(tables[:-1]), reversed(above), strict=True):
        if not table[key]:
            del table[key]
