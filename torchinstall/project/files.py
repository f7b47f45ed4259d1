"""Project files as text: read, parse, write TOML that looks hand-written, compare, replace atomically."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Iterable, Mapping
from itertools import dropwhile, groupby, takewhile
from operator import itemgetter
from pathlib import Path
from typing import Any

from torchinstall.core import files
from torchinstall.core.errors import UsageError
from torchinstall.core.files import quoted

_HEADER = re.compile(r"\[\[?\s*[A-Za-z0-9_\"'.\- ]+\s*\]\]?\s*(?:#.*)?$")

_PRECISELY = 2000
"""Lines that are compared with each other without leaving any out."""


def read_text(path: Path) -> str:
    """A project file with its line ends as they are.

    Raises:
        UsageError: `no-pyproject`, or `bad-pyproject` where it is not UTF-8, too large or cannot be read.
    """
    if not path.is_file():
        listed = path.name == "pyproject.toml" and (path.parent / "requirements.txt").is_file()
        raise UsageError(
            "no-pyproject",
            f"there is no file {path.name} in {path.parent}",
            wanted="a project",
            hints=(
                *(["torchinstall configure --migrate makes one of requirements.txt"] if listed else []),
                "uv init" if path.suffix == ".toml" else f"uv init --script {shlex.quote(path.name)}",
                "run it in the project's folder, or name it with --project DIR",
            ),
        )
    hint = f"save {path.name} as UTF-8, or correct its permissions; it was not changed"
    return files.read_named(path, "bad-pyproject", str(path), "valid TOML, which is UTF-8", hint)


def parse_toml(text: str, name: str = "pyproject.toml") -> dict[str, Any]:
    """Parse a project file, or the metadata of a script.

    Raises:
        UsageError: `bad-pyproject`, with the line.
    """
    try:
        return files.parse_toml(text)
    except ValueError as error:
        match = re.search(r" at line (\d+)", str(error))
        rows = text.splitlines()
        row = rows[int(match[1]) - 1 : int(match[1])] if match else []
        raise UsageError(
            "bad-pyproject",
            f"{name} is not valid TOML: {error}",
            wanted="valid TOML",
            found=row[0].strip()[:80] if row else "a file that does not parse",
            hints=(f"fix {name}{match.group() if match else ''}; it was not changed",),
        ) from error


def loads(text: str) -> dict[str, Any] | None:
    """Plain values; None where the text does not parse."""
    try:
        return files.parse_toml(text)
    except ValueError:
        return None


def inline(row: Mapping[str, Any]) -> str:
    """An inline table as uv's documentation writes it."""
    texts = (str(item).lower() if isinstance(item, bool) else quoted(str(item)) for item in row.values())
    return "{ " + ", ".join(f"{key} = {text}" for key, text in zip(row, texts, strict=True)) + " }"


def array(items: Iterable[str], *, multiline: bool = True, indent: str = "    ") -> str:
    """An array of values that are TOML already."""
    rows = list(items)
    if not multiline or not rows:
        return "[" + ", ".join(rows) + "]"
    return "[\n" + "".join(f"{indent}{row},\n" for row in rows) + "]"


def changed_lines(old: list[str], new: list[str]) -> list[tuple[str, int, int, int, int]]:
    """The opcodes of difflib but for `equal`, in time that lines which repeat thousands of times do not set.

    What is the same at both ends is not compared again; in what is long, frequent lines match nothing.
    """
    most = min(len(old), len(new))
    head = next((at for at in range(most) if old[at] != new[at]), most)
    tail = next((at for at in range(most - head) if old[-1 - at] != new[-1 - at]), most - head)
    a, b = old[head : len(old) - tail], new[head : len(new) - tail]
    matcher = difflib.SequenceMatcher(a=a, b=b, autojunk=max(len(a), len(b)) > _PRECISELY)
    return [
        (tag, first + head, last + head, start + head, end + head)
        for tag, first, last, start, end in matcher.get_opcodes()
        if tag != "equal"
    ]


def tidy(before: str, after: str) -> str:
    """Put one blank line around headers that are new, and leave a header's own comment above it."""
    old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    added = [False] * len(new)
    for tag, first, last, start, end in reversed(changed_lines(old, new)):
        if tag in ("insert", "replace"):
            added[start:end] = [True] * (end - start)
        # What is gone took the comments of the next header with it.
        gone = _of_next_header(old[first:last], old[last:]) if tag != "insert" else []
        if gone and not {*new[start:end]} & {*filter(_is_comment, gone)}:
            if not "".join(new[:end][-1:]).strip():  # one of the blank lines is there
                gone = list(dropwhile(lambda line: not line.strip(), gone))
            new[end:end], added[end:end] = gone, [False] * len(gone)
    lines: list[str] = []
    above = False
    for line, is_new in _comments_down(new, added):
        if (is_new or above) and _opens(line) and lines and lines[-1].strip() and not _is_comment(lines[-1]):
            lines.append("\n")
        above = is_new
        if not (is_new and not line.strip() and lines and not lines[-1].strip()):
            lines.append(line)
    while lines and not lines[-1].strip() and (not old or old[-1].strip()):
        lines.pop()
    return "".join(lines)


def _of_next_header(lines: list[str], below: Iterable[str]) -> list[str]:
    """The comments at the end of some lines that are about a header below, and the blank lines around them.

    Those right below a row belong to that.
    """
    tail = list(takewhile(lambda line: _is_comment(line) or not line.strip(), reversed(lines)))[::-1]
    moved = list(dropwhile(str.strip, tail))
    first = next((line for line in below if line.strip() and not _is_comment(line)), "")
    return moved if any(map(_is_comment, moved)) and _opens(first) else []


def _comments_down(lines: list[str], added: list[bool]) -> list[tuple[str, bool]]:
    """Move comments that stood above a header back there, below what was put between them."""
    rows = zip(lines, added, strict=True)
    runs = [list(run) for _, run in groupby(rows, key=itemgetter(1))]
    for above, run, below in zip(runs, runs[1:], runs[2:], strict=False):
        moved = _of_next_header([line for line, _ in above], (line for line, _ in below))
        if run[0][1] and moved:
            del above[_opens(run[0][0]) - len(moved) :]  # a blank line stays above a new header
            while run and not run[-1][0].strip():
                run.pop()
            run += [(line, True) for line in moved]
    return [row for run in runs for row in run]


def _is_comment(line: str) -> bool:
    return line.lstrip().startswith("#")


def _opens(line: str) -> bool:
    """Whether a line is a table header (an array's items are indented where we write them)."""
    return _HEADER.match(line) is not None


def unified_diff(before: str, after: str, name: str) -> str:
    """What would change, as `diff -u`; empty where nothing would."""
    lines = difflib.unified_diff(
        before.replace("\r\n", "\n").splitlines(keepends=True),
        after.replace("\r\n", "\n").splitlines(keepends=True),
        f"a/{name}",
        f"b/{name}",
    )
    no_end = "\n\\ No newline at end of file\n"
    return "".join(line if line.endswith("\n") else line + no_end for line in lines)
