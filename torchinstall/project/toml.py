"""Style-preserving TOML: parse with a line number in the complaint, make values that look hand-written."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from torchinstall.errors import UsageError

if TYPE_CHECKING:
    from tomlkit import TOMLDocument

__all__ = ["array", "inline", "loads", "parse", "quoted", "table_at", "tidy", "value"]

_HEADER = re.compile(r"\s*\[")


def parse(text: str, source: str = "pyproject.toml") -> TOMLDocument:
    """Parse a project file.

    Raises:
        UsageError: `bad-pyproject`, with the line.
    """
    import tomlkit
    from tomlkit.exceptions import ParseError, TOMLKitError

    try:
        document = tomlkit.parse(text)
        document.unwrap()
    except (TOMLKitError, ValueError) as error:
        line = f" at line {error.line}" if isinstance(error, ParseError) else ""
        raise UsageError(
            "bad-pyproject",
            f"{source} is not valid TOML{line}: {error}",
            wanted="valid TOML",
            found=_line(text, error.line) if isinstance(error, ParseError) else "a file that does not parse",
            hints=(f"mend {source}{line}; it was not touched",),
        ) from error
    return document


def loads(text: str) -> dict[str, Any] | None:
    """Plain values by the standard parser; None where it does not parse."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        data: dict[str, Any] = tomllib.loads(text)

    except tomllib.TOMLDecodeError:
        return None
    return data


def _line(text: str, number: int) -> str:
    lines = text.splitlines()
    return lines[number - 1].strip()[:80] if 0 < number <= len(lines) else ""


def quoted(text: str) -> str:
    """A TOML string; markers hold single quotes, so double ones are the rule."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def inline(row: Mapping[str, Any]) -> str:
    """An inline table as uv's documentation writes it."""
    return "{ " + ", ".join(f"{key} = {_scalar(item)}" for key, item in row.items()) + " }"


def _scalar(item: Any) -> str:
    if isinstance(item, bool):
        return "true" if item else "false"
    return quoted(str(item))


def array(items: Iterable[str], *, multiline: bool = True, indent: str = "    ") -> str:
    """An array of values that are TOML already."""
    rows = list(items)
    if not multiline or not rows:
        return "[" + ", ".join(rows) + "]"
    return "[\n" + "".join(f"{indent}{row},\n" for row in rows) + "]"


def value(text: str) -> Any:
    """A tomlkit item from its text."""
    import tomlkit

    return tomlkit.parse(f"x = {text}\n")["x"]


def table_at(document: Any, *path: str) -> Any:
    """The table at this path, made where it is missing; the tables above it stay implicit."""
    import tomlkit

    here = document
    for position, key in enumerate(path):
        if key not in here:
            last = position == len(path) - 1
            here[key] = tomlkit.table(is_super_table=not last)
        here = here[key]
    return here


def tidy(before: str, after: str) -> str:
    """Put one blank line around headers that are new, and nowhere else."""
    old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    added: set[int] = set()
    for tag, _, _, start, end in difflib.SequenceMatcher(a=old, b=new, autojunk=False).get_opcodes():
        if tag in ("insert", "replace"):
            added.update(range(start, end))
    lines: list[str] = []
    for number, line in enumerate(new):
        edge = number in added or number - 1 in added
        if edge and _HEADER.match(line) and number and lines and lines[-1].strip() and _opens(new, number):
            lines.append("\n")
        if number in added and not line.strip() and lines and not lines[-1].strip():
            continue
        lines.append(line)
    while lines and len(lines) > len(old) and not lines[-1].strip():
        lines.pop()
    return "".join(lines)


def _opens(lines: list[str], number: int) -> bool:
    """Whether a line that begins with a bracket is a table header, not an item of an array."""
    return re.match(r"\s*\[\[?\s*[A-Za-z0-9_\"'.\- ]+\s*\]\]?\s*(?:#.*)?$", lines[number]) is not None and (
        not lines[number].startswith((" ", "\t"))
    )
