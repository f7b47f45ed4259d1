"""Tables of one's own: a copy of the shipped ones with a change, in a folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scripts.invariants import render
from torchinstall.catalog.tables import DATA, Table

Rows = list[dict[str, Any]]


def copied(folder: Path) -> Path:
    """The shipped tables, copied into a new folder."""
    return Path(shutil.copytree(DATA, folder / "tables"))


def edit(folder: Path, name: str, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a table's raw object, however wrong that makes it."""
    path = folder / name
    raw = json.loads(path.read_text(encoding="utf-8"))
    change(raw)
    path.write_text(json.dumps(raw), encoding="utf-8")


def changed(folder: Path, name: str, change: Callable[[Rows], None]) -> None:
    """Change a table's rows and write it as the writer does; sources that nobody cites any more go."""
    path = folder / name
    raw = json.loads(path.read_text(encoding="utf-8"))
    change(raw["rows"])
    cited = {row["source"] for row in raw["rows"]}
    raw["sources"] = {key: text for key, text in raw["sources"].items() if key in cited}
    table = Table(name=name, as_of=raw["as_of"], sources=raw["sources"], rows=tuple(raw["rows"]))
    path.write_text(render(table), encoding="utf-8")


def row_of(rows: Rows, **values: object) -> dict[str, Any]:
    """The first row with these values."""
    return next(row for row in rows if all(row[key] == value for key, value in values.items()))
