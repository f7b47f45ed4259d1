"""`torchinstall probe` and `catalog`: what this machine is, and what is known about builds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from msgspec import to_builtins

from torchinstall.catalog.invariants import verify as problems_of
from torchinstall.catalog.tables import TABLES, Tables
from torchinstall.cli.app import LazyGroup
from torchinstall.cli.console import Session, envelope
from torchinstall.cli.text import columns, heading, machine_text
from torchinstall.cli.verb import GROUP_OPTIONS, Argument, Verb, global_options
from torchinstall.core.errors import CatalogError, UsageError
from torchinstall.core.machine import machine_to_json
from torchinstall.core.messages import close_matches
from torchinstall.core.request import DEFAULT_INDEX_BASE, Channel
from torchinstall.planning.assemble import read_pages
from torchinstall.planning.context import Options, PlanOptions
from torchinstall.planning.inputs import catalog_of, probed


class ProbeOptions(Options, frozen=True, kw_only=True):
    """The options of `probe`."""

    root: str | None = None
    record: str | None = None
    anonymous: bool = False


def probe(session: Session, options: ProbeOptions) -> int:
    """Probe and print."""
    machine = probed(session.context, options.root, options.record)
    if options.record is not None:
        session.console.say(f"Recorded in {options.record}; look through the folder before you publish it.")
    if options.anonymous:
        machine = machine.anonymous()
    session.console.answer(machine_to_json(machine), machine_text(machine))
    return 0


PROBE = Verb(
    "probe",
    probe,
    ProbeOptions,
    more="System, drivers, GPUs, and what could not be read.",
    examples="""
    torchinstall probe  # what is this machine?
    torchinstall probe --json --anonymous > machine.json  # a machine file for a bug report
    torchinstall probe --record my-machine  # everything that was read, for a bug in the probe
    torchinstall probe --json | torchinstall plan --machine -  # plan from what was probed
""",
)


class ShowOptions(Options, frozen=True, kw_only=True):
    """The options of `catalog show`."""

    tables: tuple[str, ...] = ()


class UpdateOptions(Options, frozen=True, kw_only=True):
    """The options of `catalog update`."""

    channel: Channel = "stable"
    index_base: str = DEFAULT_INDEX_BASE
    allow_insecure_host: tuple[str, ...] = ()


def _tables(session: Session) -> Tables:
    tables = catalog_of(session.context).tables
    assert isinstance(tables, Tables)  # noqa: S101  # catalog_of makes no other
    return tables


def show(session: Session, options: ShowOptions) -> int:
    """Print each table's date, size and sources; of tables that are named, the rows too."""
    tables, wanted = _tables(session), options.tables
    known = [name.removesuffix(".json") for name in TABLES]
    if unknown := [name for name in wanted if name not in known]:
        raise UsageError(
            "unknown-table",
            f"the catalog has no table {unknown[0]!r}",
            wanted=", ".join(close_matches(unknown[0], known) or known),
            found=unknown[0],
            hints=("torchinstall catalog show",),
        )
    data: dict[str, Any] = {}
    for name in (name for name in known if not wanted or name in wanted):
        file = tables.file(f"{name}.json")
        rows = list(file.rows) if wanted else len(file.rows)
        data[name] = {"as_of": file.as_of, "rows": rows, "sources": dict(file.sources)}
    parts = [f"{heading('Catalog')} of {tables.snapshot}", *map(_table_text, data, data.values())]
    session.console.answer(envelope("ok", snapshot=tables.snapshot, tables=data), "\n".join(parts))
    return 0


def _table_text(name: str, table: Mapping[str, Any]) -> str:
    """A table's size and sources, and its rows where they are more than a number."""
    rows = table["rows"]
    count, listed = (rows, []) if isinstance(rows, int) else (len(rows), rows)
    lines = [f"{heading(name)}  {count} rows, of {table['as_of']}"]
    lines += ["  " + json.dumps(row, ensure_ascii=False) for row in listed]
    return "\n".join(filter(None, (*lines, columns(list(table["sources"].items())))))


def update(session: Session, options: UpdateOptions) -> int:
    """Read the page of every package that moves with torch, for every backend that is still published."""
    console, context = session.console, session.context
    catalog = catalog_of(context)
    retired: Any = catalog.tables.retired
    backends = [name for name in catalog.known_backends() if not retired.get(name)]
    packages = [row.package for row in catalog.families if row.routed and row.pairing == "table"]
    keys = [(package, backend) for backend in backends for package in dict.fromkeys(["torch", *packages])]
    result = read_pages(keys, catalog, context, PlanOptions.of(options, refresh=True), discover=True)
    console.warn_all(result.warnings)
    if (error := result.error()) is not None:
        raise error
    releases = {row.version for rows in result.pages.values() for row in rows if row.package == "torch"}
    unknown = [name for name in result.backends or () if catalog.backend(name) and name not in backends]
    counts = {"pages": result.live, "failed": len(result.failures), "unknown_backends": unknown}
    console.answer(
        envelope("ok", index=result.index_base, torch_releases=len(releases), **counts),
        f"read {result.live} pages of {result.index_base}; plans use them for a day",
    )
    return 0


def verify(session: Session, _options: Options) -> int:
    """Print every contradiction in the tables; one is an error."""
    tables = _tables(session)
    problems = problems_of(tables)
    session.console.partial["problems"] = to_builtins(problems)
    if problems:
        first = problems[0]
        for problem in problems:
            session.console.say(f"{problem.table}: {problem.invariant}: {problem.what}")
        raise CatalogError(
            "catalog-unlawful",
            f"the catalog breaks {len(problems)} of its rules, the first in {first.table}",
            wanted=first.invariant,
            found=first.what,
            hints=("uv pip install --reinstall torchinstall", "unset TORCHINSTALL_CATALOG_DIR if you set it"),
        )
    session.console.answer(
        envelope("ok", snapshot=tables.snapshot, problems=[]),
        f"the catalog of {tables.snapshot} is consistent",
    )
    return 0


SHOW = Verb(
    "show",
    show,
    ShowOptions,
    Argument("tables", "[TABLE]...", "Print the rows of these tables."),
    examples="""
    torchinstall catalog show  # how old is what we know?
    torchinstall catalog show driver_floors  # which driver does each CUDA need, and who says so?
    torchinstall catalog show code --json  # the SM and gfx targets of every build
""",
)

UPDATE = Verb(
    "update",
    update,
    UpdateOptions,
    examples="""
    torchinstall catalog update  # before going offline
    torchinstall catalog update --index-base https://mirror.example/whl  # from a mirror
    torchinstall catalog update --channel nightly --json  # tonight's builds
""",
)

VERIFY = Verb(
    "verify",
    verify,
    Options,
    examples="""
    torchinstall catalog verify  # are the tables complete?
    TORCHINSTALL_CATALOG_DIR=./data torchinstall catalog verify  # are tables of my own?
    torchinstall catalog verify --json  # for a script
""",
)

CATALOG = LazyGroup(
    "catalog",
    {
        "show": (".show:SHOW", "Print each table: its date, its rows, its sources."),
        "update": (".show:UPDATE", "Read the index pages now and keep them for a day."),
        "verify": (".show:VERIFY", "Check the tables: well formed, and in agreement."),
    },
    params=global_options(before_verb=False),
    **GROUP_OPTIONS,
)
