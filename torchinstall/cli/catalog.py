"""`torchinstall catalog`: what is known about builds, how old that is, and where each fact comes from."""

from __future__ import annotations

import difflib
from typing import Any

from msgspec import to_builtins

from torchinstall.catalog.invariants import verify as problems_of
from torchinstall.catalog.tables import TABLES, Tables
from torchinstall.cli.app import LazyGroup
from torchinstall.cli.console import Session, envelope
from torchinstall.cli.text import tables_text
from torchinstall.cli.verb import GROUP_OPTIONS, Argument, Verb, global_options
from torchinstall.core.errors import CatalogError, UsageError
from torchinstall.core.request import DEFAULT_INDEX_BASE, Channel
from torchinstall.planning.inputs import catalog_of
from torchinstall.planning.online import read_pages
from torchinstall.planning.options import Options, PlanOptions


class ShowOptions(Options, frozen=True, kw_only=True):
    """The options of `catalog show`."""

    tables: tuple[str, ...] = ()
    json: bool = False


class UpdateOptions(Options, frozen=True, kw_only=True):
    """The options of `catalog update`."""

    channel: Channel = "stable"
    index_base: str = DEFAULT_INDEX_BASE
    allow_insecure_host: tuple[str, ...] = ()
    json: bool = False


class VerifyOptions(Options, frozen=True, kw_only=True):
    """The options of `catalog verify`."""

    json: bool = False


def _tables(session: Session) -> Tables:
    tables = catalog_of(session.context).tables
    assert isinstance(tables, Tables)  # noqa: S101  # catalog_of makes no other
    return tables


def show(session: Session, options: ShowOptions) -> int:
    """Print each table's date, size and sources; of tables that are named, the rows too."""
    tables, wanted = _tables(session), options.tables
    known = [name.removesuffix(".json") for name in TABLES]
    for name in wanted:
        if name not in known:
            raise UsageError(
                "unknown-table",
                f"the catalog has no table {name!r}",
                wanted=", ".join(difflib.get_close_matches(name, known) or known),
                found=name,
                hints=("torchinstall catalog show",),
            )
    data: dict[str, Any] = {}
    for name in known:
        if not wanted or name in wanted:
            file = tables.file(f"{name}.json")
            rows = list(file.rows) if wanted else len(file.rows)
            data[name] = {"as_of": file.as_of, "rows": rows, "sources": dict(file.sources)}
    if options.json:
        session.console.out_json(envelope("ok", snapshot=tables.snapshot, tables=data))
    else:
        session.console.out(tables_text(tables.snapshot, data))
    return 0


def update(session: Session, options: UpdateOptions) -> int:
    """Read the page of every package that moves with torch, for every backend that is still published."""
    console, context = session.console, session.context
    catalog = catalog_of(context)
    retired: Any = catalog.tables.retired
    backends = [name for name in catalog.known_backends() if not retired.get(name)]
    packages = [row.package for row in catalog.families if row.routed and row.pairing == "table"]
    keys = [(package, backend) for backend in backends for package in dict.fromkeys(["torch", *packages])]
    asked = PlanOptions.of(options, refresh=True)
    result = read_pages(keys, catalog, context, asked, discover=True)
    for warning in result.warnings:
        console.warn(warning.slug, warning.message)
    error = result.error()
    if error is not None:
        raise error
    releases = {row.version for rows in result.pages.values() for row in rows if row.package == "torch"}
    unknown = [name for name in result.backends or () if catalog.backend(name) and name not in backends]
    if options.json:
        counts = {"pages": len(result.live), "failed": len(result.failures), "unknown_backends": unknown}
        console.out_json(envelope("ok", index=result.index_base, torch_releases=len(releases), **counts))
    else:
        console.out(f"read {len(result.live)} pages of {result.index_base}; plans use them for a day")
    return 0


def verify(session: Session, options: VerifyOptions) -> int:
    """Print every contradiction in the tables; one is an error."""
    tables = _tables(session)
    problems = problems_of(tables)
    session.console.partial["problems"] = [to_builtins(problem) for problem in problems]
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
    if options.json:
        session.console.out_json(envelope("ok", snapshot=tables.snapshot, problems=[]))
    else:
        session.console.out(f"the catalog of {tables.snapshot} is consistent")
    return 0


SHOW = Verb(
    "show",
    show,
    options=ShowOptions,
    summary="Print each table of the catalog: its date, its rows, its sources.",
    arguments=(
        Argument(name="tables", metavar="[TABLE]...", help="Print the rows of these tables.", many=True),
    ),
    examples=(
        ("torchinstall catalog show", "how old is what we know?"),
        ("torchinstall catalog show driver_floors", "which driver does each CUDA need, and who says so?"),
        ("torchinstall catalog show code --json", "the SM and gfx targets of every build"),
    ),
)

UPDATE = Verb(
    "update",
    update,
    options=UpdateOptions,
    summary="Read the pages of the PyTorch index now and keep them for a day.",
    examples=(
        ("torchinstall catalog update", "before going offline"),
        ("torchinstall catalog update --index-base https://mirror.example/whl", "from a mirror"),
        ("torchinstall catalog update --channel nightly --json", "tonight's builds"),
    ),
)

VERIFY = Verb(
    "verify",
    verify,
    options=VerifyOptions,
    summary="Check the catalog's tables: that each is well formed, and that they agree.",
    examples=(
        ("torchinstall catalog verify", "are the tables complete?"),
        ("TORCHINSTALL_CATALOG_DIR=./data torchinstall catalog verify", "are tables of my own?"),
        ("torchinstall catalog verify --json", "for a script"),
    ),
)

VERB = LazyGroup(
    "catalog",
    {
        "show": (f"{__name__}:SHOW", "Print each table: its date, its rows, its sources."),
        "update": (f"{__name__}:UPDATE", "Read the index pages now and keep them for a day."),
        "verify": (f"{__name__}:VERIFY", "Check the tables: well formed, and in agreement."),
    },
    params=global_options(before_verb=False),
    help="What torchinstall knows about PyTorch's builds, how old that is, and where it comes from.",
    **GROUP_OPTIONS,
)
