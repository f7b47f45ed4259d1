"""The shape of a catalog table on disk: how it is read, checked and written.

A table is JSON with one row a line, so that a change of one fact is a change of one line in a diff::

    {"schema_version": 1, "as_of": "2026-11-22", "sources": {
    "key": "where the fact comes from"
    }, "rows": [
    {"first": "column", ...},
    ...
    ]}

`render` writes the same bytes for the same table; the scripts that rebuild the data rely on it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from torchinstall.core.errors import CatalogError

__all__ = [
    "SCHEMA_VERSION",
    "Check",
    "Column",
    "Schema",
    "TableFile",
    "find_rows",
    "invalid",
    "parse_table",
    "read_table",
    "render",
]

SCHEMA_VERSION = 1

Row = Mapping[str, Any]
Check = Callable[[Any], bool]


class Column(Struct, frozen=True, kw_only=True):
    """One column: `check` says whether a value is allowed, `wanted` names what is, for the error text.

    A column with a `default` may be missing from a row, and is then written only where it differs.
    """

    name: str
    check: Check
    wanted: str
    optional: bool = False
    default: Any = None


class Schema(Struct, frozen=True, kw_only=True):
    """The columns of one table, in the order in which they are written; `confidence` and `source` end it."""

    columns: tuple[Column, ...]

    def fits(self, rows: list[Any]) -> bool:
        """Whether no row has a problem; quick, since a value that many rows share is looked at once."""
        names = frozenset(column.name for column in self.columns)
        if not all(isinstance(row, dict) and row.keys() <= names for row in rows):
            return False
        return all(_column_fits(column, rows) for column in self.columns)

    def problem(self, row: Any) -> str | None:
        """What is wrong with a row, None where nothing is."""
        if not isinstance(row, dict):
            return f"a row is an object, not {type(row).__name__}"
        seen = 0
        for column in self.columns:
            if column.name not in row:
                if column.optional:
                    continue
                return f"{column.name} is missing"
            seen += 1
            if not column.check(row[column.name]):
                return f"{column.name} is {row[column.name]!r}, wanted {column.wanted}"
        if seen != len(row):
            known = {column.name for column in self.columns}
            return f"{min(set(row) - known)!r} is not a column"
        return None


def _column_fits(column: Column, rows: list[dict[str, Any]]) -> bool:
    name = column.name
    try:
        values = (
            [row[name] for row in rows if name in row] if column.optional else [row[name] for row in rows]
        )
    except KeyError:
        return False
    try:
        distinct = set(values)
    except TypeError:  # lists
        return all(map(column.check, values))
    if any(not isinstance(value, str) and value is not None for value in distinct):
        # 1, 1.0 and True are one member of a set, and not the same to a check.
        return all(map(column.check, values))
    return all(map(column.check, distinct))


class TableFile(Struct, frozen=True, kw_only=True):
    """A table as read.

    Attributes:
        name: file name, `wheels.json`.
        as_of: date of the facts, `2026-11-22`.
        sources: source key -> where the fact comes from.
        rows: the rows as JSON objects, checked against the schema.
    """

    name: str
    as_of: str
    sources: Mapping[str, str]
    rows: tuple[dict[str, Any], ...]


def invalid(name: str, what: str, *, row: int | None = None) -> CatalogError:
    """The error for a table that cannot be trusted; rows count from 1."""
    where = name if row is None else f"{name}, row {row}"
    return CatalogError(
        "catalog-invalid",
        f"The catalog table {name} is damaged",
        found=f"{where}: {what}",
        hints=(
            "pip install --force-reinstall torchinstall  # restores the shipped tables",
            "unset TORCHINSTALL_CATALOG_DIR  # where it names tables of your own",
        ),
    )


def read_table(path: Path, schema: Schema | None) -> TableFile:
    """Read and check one table.

    Args:
        path: of the file.
        schema: of its rows; None: they were checked when the table was made, and need not be again.

    Raises:
        CatalogError: `catalog-invalid` (unreadable, not JSON, a row that breaks the schema),
            `catalog-too-new` (written for a later torchinstall).
    """
    try:
        raw = json.loads(path.read_bytes())
    except OSError as error:
        raise invalid(path.name, f"cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise invalid(path.name, f"not JSON: {error}") from error
    return parse_table(path.name, raw, schema)


def find_rows(path: Path, schema: Schema | None, text: str) -> tuple[dict[str, Any], ...]:
    """The rows that hold this text in any column, checked; the others are neither parsed nor checked.

    For a long table of which little is wanted. One that is not written one row a line is read as a whole.

    Raises:
        CatalogError: as `read_table`.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise invalid(path.name, f"cannot be read: {error.strerror or error}") from error
    needle = json.dumps(text, ensure_ascii=False).encode()
    rows: list[dict[str, Any]] = []
    at = content.find(needle)
    while at >= 0:
        start, end = content.rfind(b"\n", 0, at) + 1, content.find(b"\n", at)
        end = len(content) if end < 0 else end
        try:
            row = json.loads(content[start:end].rstrip(b","))
        except ValueError:
            return tuple(row for row in read_table(path, schema).rows if text in row.values())
        if schema is not None and (problem := schema.problem(row)) is not None:
            raise invalid(path.name, problem)
        rows.append(row)
        at = content.find(needle, end)
    return tuple(rows)


def parse_table(name: str, raw: Any, schema: Schema | None) -> TableFile:
    """Check the object of a table file, see `read_table`."""
    if not isinstance(raw, dict):
        raise invalid(name, "not a JSON object")
    version = raw.get("schema_version")
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise CatalogError(
            "catalog-too-new",
            f"The catalog table {name} was written for a later torchinstall",
            wanted=f"schema_version {SCHEMA_VERSION}",
            found=f"schema_version {version}",
            hints=("uv pip install --upgrade torchinstall",),
        )
    if version != SCHEMA_VERSION:
        raise invalid(name, f"schema_version is {version!r}, wanted {SCHEMA_VERSION}")
    as_of, sources, rows = raw.get("as_of"), raw.get("sources"), raw.get("rows")
    if not isinstance(as_of, str) or len(as_of) != len("2026-11-22"):
        raise invalid(name, f"as_of is {as_of!r}, wanted a date")
    if not isinstance(sources, dict) or not all(isinstance(text, str) for text in sources.values()):
        raise invalid(name, "sources is not an object of texts")
    if not isinstance(rows, list):
        raise invalid(name, "rows is not a list")
    if schema is not None and not _fits(rows, sources, schema):
        raise _first_problem(name, rows, sources, schema)
    return TableFile(name=name, as_of=as_of, sources=sources, rows=tuple(rows))


def _fits(rows: list[Any], sources: Row, schema: Schema) -> bool:
    return schema.fits(rows) and {row["source"] for row in rows} <= sources.keys()


def _first_problem(name: str, rows: list[Any], sources: Row, schema: Schema) -> CatalogError:
    for number, row in enumerate(rows, 1):
        problem = schema.problem(row)
        if problem is None and row["source"] not in sources:
            problem = f"source {row['source']!r} is not among the file's sources"
        if problem is not None:
            return invalid(name, problem, row=number)
    return invalid(name, "a row breaks the schema")


def render(table: TableFile, schema: Schema) -> str:
    """The file's text: columns in the schema's order, sources sorted, rows as given, one a line."""
    lines = [f'{{"schema_version": {SCHEMA_VERSION}, "as_of": {_json(table.as_of)}, "sources": {{']
    lines.append(",\n".join(f"{_json(key)}: {_json(text)}" for key, text in sorted(table.sources.items())))
    lines.append('}, "rows": [')
    lines.append(",\n".join(_json(_ordered(row, schema)) for row in table.rows))
    lines.append("]}")
    return "\n".join(lines) + "\n"


def _ordered(row: Row, schema: Schema) -> dict[str, Any]:
    ordered: dict[str, Any] = {}
    for column in schema.columns:
        if column.name not in row or (column.optional and row[column.name] == column.default):
            continue
        ordered[column.name] = row[column.name]
    return ordered


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
