"""Rebuild wheels.json, hashes.json and backends.json from the pages of the PyTorch index.

    python -m scripts.refresh_wheels --index https://download.pytorch.org/whl
    python -m scripts.refresh_wheels --index https://download.pytorch.org/whl --backend cu134 --write

Every page that was read replaces what the table says of it: rows that were only derived become certain or go.
What PyPI has is left alone (`scripts.refresh_pypi`).
"""

from __future__ import annotations

import sys
from collections.abc import Container, Iterator, Mapping

from msgspec import structs

from scripts.refreshing import (
    Row,
    arguments,
    backend_rows,
    file_names,
    finish,
    fold,
    hash_order,
    parser,
    version_of,
    wheel_order,
)
from torchinstall.catalog.catalog import Catalog
from torchinstall.catalog.model import Wheels
from torchinstall.catalog.tables import PageKey, Table, Tables, platform_of
from torchinstall.core.errors import TorchInstallError
from torchinstall.index.fetch import LiveOptions, LiveResult, fetch_pages
from torchinstall.index.wheels import parse_name

SOURCE = "index-page"


def main(argv: list[str] | None = None) -> int:
    """Run the refresher; returns its exit code."""
    options = parser(__doc__ or "")
    options.add_argument("--index", required=True, help="base of the index, https://download.pytorch.org/whl")
    options.add_argument("--backend", action="append", default=[], help="only this backend (repeatable)")
    options.add_argument("--package", action="append", default=[], help="only this package (repeatable)")
    args = arguments(options, argv)
    tables = Tables(args.data)
    runtime = frozenset(family.package for family in tables.families if family.runtime_of)
    live = LiveOptions(index_base=args.index, shared=runtime, budget=900.0, refresh=True)
    try:
        backends = args.backend or sorted({*_listed(tables, live), *tables.retired})
        packages = args.package or [family.package for family in tables.families if family.routed]
        result = fetch_pages([(package, backend) for backend in backends for package in packages], live)
    except TorchInstallError as error:
        raise SystemExit(f"error[{error.slug}]: {error.message}") from error
    for trouble in result.warnings:
        print(f"warning[{trouble.slug}]: {trouble.message}", file=sys.stderr)
    if fault := result.error():
        raise SystemExit(f"error[{fault.slug}]: {fault.message}")
    complete = not (args.backend or args.package or result.failures)
    return finish(tables, refreshed(tables, result, args.as_of, complete=complete), write=args.write)


def _listed(tables: Tables, live: LiveOptions) -> tuple[str, ...]:
    catalog = Catalog(tables)
    names = fetch_pages((), live, discover=True).backends or ()
    return tuple(name for name in names if catalog.backend(name) is not None)


def refreshed(tables: Tables, result: LiveResult, as_of: str, *, complete: bool = False) -> tuple[Table, ...]:
    """The three tables with the pages of `result` in the place of what they said of these pages.

    `complete`: every page was read, so that wheels.json is as new as the index even if nothing changed.
    """
    source = {SOURCE: f"Pages of the PyTorch index, read on {as_of}"}
    wheels = [
        *(row for row in tables.file("wheels.json").rows if not _on_page(row, result.pages)),
        *_rows(tables, result.pages),
    ]
    wheels.sort(key=wheel_order(tables))
    known = {(row["backend"], name) for row in wheels if row["origin"] == "index" for name in file_names(row)}
    known |= {("", name) for row in wheels if row["origin"] == "default" for name in file_names(row)}
    hashes = sorted(_hashes(tables, result, known), key=hash_order(tables))
    backends = backend_rows(tables, wheels, SOURCE)
    published = fold(tables.file("wheels.json"), wheels, source, as_of)
    return (
        structs.replace(published, as_of=as_of) if complete else published,
        fold(tables.file("hashes.json"), hashes, source, as_of),
        fold(tables.file("backends.json"), backends, source, as_of),
    )


def _on_page(row: Row, pages: Container[PageKey]) -> bool:
    stable = row.get("channel", "stable") == "stable"
    return row["origin"] == "index" and stable and (row["package"], row["backend"]) in pages


def _rows(tables: Tables, pages: Mapping[PageKey, tuple[Wheels, ...]]) -> Iterator[Row]:
    oldest: dict[str, str] = {}
    for row in tables.wheels:
        if row.package not in oldest or version_of(row.version) < version_of(oldest[row.package]):
            oldest[row.package] = row.version
    for wheels in pages.values():
        for wheel in wheels:
            platform = platform_of(wheel.platform_tag)
            too_old = version_of(wheel.version) < version_of(oldest.get(wheel.package, "0"))
            if platform is None or platform.startswith("macos") or too_old:
                continue
            yield {
                "package": wheel.package,
                "version": wheel.version,
                "local": wheel.local,
                "backend": wheel.backend,
                "platform_tag": wheel.platform_tag,
                "tags": " ".join(sorted(wheel.tags, key=_tag_order)),
                "origin": "index",
                "build": wheel.build,
                "confidence": "high",
                "source": SOURCE,
            }


def _tag_order(tag: str) -> tuple[int, str]:
    digits = tag.split("-")[0].lstrip("cpy")
    return int(digits) if digits.isdigit() else 0, tag


def _hashes(tables: Tables, result: LiveResult, known: set[tuple[str, str]]) -> Iterator[Row]:
    """Hashes of the pages, and old ones of files that are still there: a release's bytes never change."""
    fresh: dict[tuple[str, str], str] = {}
    for (_, backend), page in result.found.items():
        for file in page.files:
            if file.sha256 is not None and (backend, file.filename) in known:
                fresh[backend, file.filename] = file.sha256
    for row in tables.file("hashes.json").rows:
        key = row["backend"], row["file"]
        if key in known and fresh.get(key, row["sha256"]) == row["sha256"]:
            fresh.pop(key, None)
            yield row
    for (backend, name), sha256 in fresh.items():
        if parse_name(name) is not None:
            yield {"backend": backend, "file": name, "sha256": sha256, "confidence": "high", "source": SOURCE}


if __name__ == "__main__":
    sys.exit(main())
