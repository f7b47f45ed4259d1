"""What the refreshers share: sources, the order of rows, the diff, and writing only what keeps the laws.

A refresher makes new tables from a source of truth and hands them to `finish`, which prints a unified diff
and writes the files only with `--write`, and only if every invariant (`scripts/invariants.py`)
holds.
"""

from __future__ import annotations

import argparse
import datetime as dt
import difflib
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from msgspec import structs
from packaging.version import InvalidVersion, Version

from scripts.invariants import render, verify
from torchinstall.catalog.catalog import Catalog
from torchinstall.catalog.tables import DATA, Table, Tables
from torchinstall.core.versions import dotted

__all__ = [
    "Row",
    "arguments",
    "backend_order",
    "backend_rows",
    "code_order",
    "file_names",
    "finish",
    "fold",
    "hash_order",
    "parser",
    "read_source",
    "version_of",
    "wheel_order",
]

Row = dict[str, Any]

_RANK = {"high": 0, "medium": 1, "low": 2}


def parser(description: str) -> argparse.ArgumentParser:
    """The options that every refresher has."""
    found = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    found.add_argument("--write", action="store_true", help="write the tables (default: only show the diff)")
    found.add_argument(
        "--data", type=Path, default=DATA, help="folder of the tables (default: the shipped ones)"
    )
    found.add_argument("--as-of", default="", help="date of the facts, 2026-11-22 (default: today)")
    return found


def arguments(found: argparse.ArgumentParser, argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line; an absent date is today's, in UTC."""
    args = found.parse_args(argv)
    if not args.as_of:
        args.as_of = dt.datetime.now(tz=dt.timezone.utc).date().isoformat()
    return args


def read_source(source: str) -> str:
    """The text of a local file or of an http(s) URL.

    Raises:
        SystemExit: it cannot be had; the message says why.
    """
    if not re.match(r"https?://", source):
        try:
            return Path(source).read_text(encoding="utf-8")
        except OSError as error:
            raise SystemExit(f"{source}: {error.strerror}") from error
    import httpx

    try:
        reply = httpx.get(source, follow_redirects=True, timeout=60)
        reply.raise_for_status()
    except httpx.HTTPError as error:
        raise SystemExit(f"{source}: {error}") from error
    return reply.text


def version_of(text: str) -> Version:
    """A version for ordering; what is not PEP 440 comes first."""
    try:
        return Version(text)
    except InvalidVersion:
        return Version("0")


def _backend_order(catalog: Catalog, name: str) -> tuple[int, tuple[int, ...]]:
    backend = catalog.backend(name)
    return (99, ()) if backend is None else (backend.kind.rank, backend.toolkit or ())


def backend_order(tables: Tables) -> Callable[[Row], tuple[Any, ...]]:
    """The order of `backends.json`: lines of backends, old toolkits first."""
    catalog = Catalog(tables)
    return lambda row: (_backend_order(catalog, row["backend"]), row["backend"])


def wheel_order(tables: Tables) -> Callable[[Row], tuple[Any, ...]]:
    """The order of `wheels.json`: packages as in `families.json`, old releases first."""
    catalog = Catalog(tables)
    packages = {family.package: place for place, family in enumerate(tables.families)}

    def order(row: Row) -> tuple[Any, ...]:
        return (
            packages.get(row["package"], len(packages)),
            row["package"],
            version_of(row["version"]),
            _backend_order(catalog, row["backend"]),
            row["backend"],
            row["platform_tag"],
            row["origin"],
            row.get("channel", "stable"),
            -int(re.match(r"\d*", row.get("build", ""))[0] or 0),  # type: ignore[index]  # always matches
            _RANK[row["confidence"]],
            row["local"],
            row["tags"],
        )

    return order


def code_order(tables: Tables) -> Callable[[Row], tuple[Any, ...]]:
    """The order of `code.json`: lines of backends, old releases first."""
    catalog = Catalog(tables)

    def order(row: Row) -> tuple[Any, ...]:
        rank, toolkit = _backend_order(catalog, row["backend"])
        return rank, dotted(row["torch"]), toolkit, row["backend"], row["platform"]

    return order


def hash_order(tables: Tables) -> Callable[[Row], tuple[Any, ...]]:
    """The order of `hashes.json`: PyPI last, files of one package and release together."""
    catalog = Catalog(tables)

    def order(row: Row) -> tuple[Any, ...]:
        package, version = row["file"].split("-")[:2]
        return (
            _backend_order(catalog, row["backend"]),
            row["backend"],
            package,
            version_of(version),
            row["file"],
        )

    return order


def file_names(row: Row) -> Iterator[str]:
    """The file names of a row of `wheels.json`."""
    local = f"+{row['local']}" if row["local"] else ""
    build = f"{row['build']}-" if row.get("build") else ""
    package = row["package"].replace("-", "_")
    for tag in row["tags"].split(" "):
        yield f"{package}-{row['version']}{local}-{build}{tag}-{row['platform_tag']}.whl"


def backend_rows(tables: Tables, wheels: list[Row], source: str) -> list[Row]:
    """Rows of `backends.json` for these wheels, old ones as they are; people say which has ended."""
    stable = (row for row in wheels if row.get("channel", "stable") == "stable")
    names = dict.fromkeys(row["backend"] for row in stable if row["package"] == "torch")
    known = {row["backend"]: row for row in tables.file("backends.json").rows}
    new = {"retired": None, "confidence": "high", "source": source}
    rows = [known.get(name, {"backend": name, **new}) for name in names]
    return sorted(rows, key=backend_order(tables))


def fold(table: Table, rows: Iterable[Row], sources: dict[str, str], as_of: str) -> Table:
    """The table with other rows: new sources added, uncited ones dropped, a new date if anything changed."""
    listed = tuple(rows)
    cited = {row["source"] for row in listed}
    known = {**table.sources, **sources}
    changed = structs.replace(
        table, rows=listed, sources={key: text for key, text in known.items() if key in cited}
    )
    return changed if changed == table else structs.replace(changed, as_of=as_of)


def finish(tables: Tables, changed: Iterable[Table], *, write: bool) -> int:
    """Show what changes; write it if asked to and if no law is broken.

    Returns:
        The exit code: 1 where the new tables break a law (then nothing is written).
    """
    texts = {table.name: render(table) for table in changed}
    before = {name: (tables.directory / name).read_text(encoding="utf-8") for name in texts}
    texts = {name: text for name, text in texts.items() if text != before[name]}
    if not texts:
        print("nothing changed")
        return 0
    for name, text in texts.items():
        _print_diff(name, before[name], text)
    problems = _problems(tables, texts)
    for problem in problems:
        print(f"broken law {problem}")
    if problems:
        print("nothing written: mend the tables by hand first")
        return 1
    if not write:
        print(f"{len(texts)} tables would change; --write writes them")
        return 0
    for name, text in texts.items():
        (tables.directory / name).write_text(text, encoding="utf-8")
    print(f"wrote {', '.join(texts)}")
    return 0


def _print_diff(name: str, before: str, after: str) -> None:
    old, new = before.splitlines(), after.splitlines()
    for line in difflib.unified_diff(old, new, f"a/{name}", f"b/{name}", n=0, lineterm=""):
        print(line)


def _problems(tables: Tables, texts: dict[str, str]) -> list[str]:
    """What `verify` says of the tables as they would be."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copytree(tables.directory, Path(folder) / "tables"))
        for name, text in texts.items():
            (copy / name).write_text(text, encoding="utf-8")
        return [f"{item.invariant} ({item.table}): {item.what}" for item in verify(Tables(copy))]
