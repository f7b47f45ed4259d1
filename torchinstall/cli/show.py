"""`torchinstall probe`, `inspect`, `catalog`, `completion`: what is here, in a wheel, known, to be typed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import click
from msgspec import to_builtins

from torchinstall.catalog.tables import TABLES
from torchinstall.cli.app import LazyGroup, build
from torchinstall.cli.console import Session, envelope
from torchinstall.cli.text import columns, fields, heading, machine_text
from torchinstall.cli.verb import GROUP_OPTIONS, Argument, Verb, global_options
from torchinstall.cli.words import SHELLS, completion_script
from torchinstall.core.errors import CatalogError, UsageError
from torchinstall.core.machine import machine_to_json
from torchinstall.core.messages import close_matches, size_text
from torchinstall.core.request import DEFAULT_INDEX_BASE, Channel
from torchinstall.index.inspect import WheelReport
from torchinstall.planning.context import Options, PlanOptions
from torchinstall.planning.index_pages import read_pages
from torchinstall.planning.inputs import catalog_of, probed


class _ProbeOptions(Options, frozen=True, kw_only=True):
    root: str | None = None
    record: str | None = None
    anonymous: bool = False


def probe(session: Session, options: _ProbeOptions) -> int:
    """Probe and print."""
    machine, name = probed(session.context, options.root, options.record)
    if options.record is not None:
        session.console.say(f"Recorded in {options.record}; look through the folder before you publish it.")
    if options.anonymous:
        machine = machine.anonymous()
    session.console.answer(machine_to_json(machine), machine_text(machine, name))
    return 0


PROBE = Verb(
    "probe",
    probe,
    _ProbeOptions,
    more="System, drivers, GPUs, and what could not be read.",
    examples="""
    torchinstall probe  # what is this machine?
    torchinstall probe --json --anonymous > machine.json  # a machine file for a bug report
    torchinstall probe --record my-machine  # everything that was read, for a bug in the probe
    torchinstall probe --json | torchinstall plan --machine -  # plan from what was probed
""",
)


class _InspectOptions(Options, frozen=True, kw_only=True):
    wheel: str = ""
    allow_insecure_host: tuple[str, ...] = ()


def inspect(session: Session, options: _InspectOptions) -> int:
    """Read the wheel and print what it contains."""
    from torchinstall.export.wheel_check import read_wheel  # it loads httpx

    report = read_wheel(session.context, options.wheel, options.allow_insecure_host)
    session.console.answer(envelope("ok", **to_builtins(report)), _wheel_text(report))
    return 0


def _wheel_text(report: WheelReport) -> str:
    about = [("file", f"{report.filename}, {size_text(report.size)}")]
    if report.transferred is not None:
        share = 100 * report.transferred / report.size
        about.append(("read", f"{size_text(report.transferred)} over the network ({share:.1f} %)"))
    facts = (
        ("package", f"{report.name} {report.version}"),
        ("Python", report.requires_python),
        ("built with", report.toolkit or "no GPU toolkit"),
        ("glibc", report.glibc and f"{report.glibc} or newer"),
        ("macOS", report.macos and f"{report.macos} or newer"),
        ("variant", "; ".join(report.variant)),
    )
    about += [(name, value) for name, value in facts if value]
    code = [("torch's list", f"{' '.join(report.targets)} ({report.targets_from})")] if report.targets else []
    for row in report.libraries:
        name = row.name.rpartition("/")[2]
        part = "" if row.whole else " (only its beginning was read)"
        code.append((name, " ".join((*row.sm, *row.ptx, *row.gfx)) + part))
        if row.lacks:
            code.append((name, click.style(f"no code for {' '.join(row.lacks)}", fg="yellow")))
    code += [(name, " ".join(targets)) for name, targets in report.kernels.items()]
    parts = (
        ("GPU code", fields(code or [("none", "")])),
        ("Requires", "\n".join(f"  {pin}" for pin in report.pins)),
        ("Libraries that must be present", report.needed and fields([("", " ".join(report.needed))])),
        ("Notes", fields([("", note) for note in report.notes])),
    )
    return "\n\n".join([fields(about), *(f"{heading(title)}\n{text}" for title, text in parts if text)])


INSPECT = Verb(
    "inspect",
    inspect,
    _InspectOptions,
    Argument("wheel", "WHEEL|URL", "The wheel to look into."),
    more="GPU code, pins, needed libraries, oldest glibc. A wheel at a URL is read in small parts (under 2 % "
    "of a large file), never downloaded whole.",
    examples="""
    torchinstall inspect dist/torch-2.9.1-cp312-cp312-linux_x86_64.whl  # for which GPUs is it?
    torchinstall inspect https://mirror.example/whl/cu126/torch.whl  # without downloading it
    torchinstall inspect --json torch.whl  # for a script
""",
)


class _ShowOptions(Options, frozen=True, kw_only=True):
    tables: tuple[str, ...] = ()


class _UpdateOptions(Options, frozen=True, kw_only=True):
    channel: Channel = "stable"
    index_base: str = DEFAULT_INDEX_BASE
    allow_insecure_host: tuple[str, ...] = ()


def show(session: Session, options: _ShowOptions) -> int:
    """Print each table's date, size and sources; of tables that are named, the rows too."""
    tables, wanted = catalog_of(session.context).tables, options.tables
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


def update(session: Session, options: _UpdateOptions) -> int:
    """Read the page of every package that moves with torch, for every backend that is still published."""
    console, context = session.console, session.context
    catalog = catalog_of(context)
    backends = [name for name in catalog.known_backends() if not catalog.tables.retired.get(name)]
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
    """Read every table; one that cannot be used is an error."""
    tables = catalog_of(session.context).tables
    errors = {name: error for name in TABLES if (error := tables.error_of(name)) is not None}
    problems = [{"law": error.slug, "table": name, "what": error.found} for name, error in errors.items()]
    session.console.partial["problems"] = problems
    if problems:
        for problem in problems:
            session.console.say(problem["what"] or "")
        raise CatalogError(
            "catalog-unlawful",
            f"the catalog has tables that cannot be used: {', '.join(errors)}",
            wanted="rows with the columns that this version knows, each with a source of its file",
            found=problems[0]["what"],
            hints=next(iter(errors.values())).hints,
        )
    session.console.answer(
        envelope("ok", snapshot=tables.snapshot, problems=[]),
        f"every table of the catalog of {tables.snapshot} can be used",
    )
    return 0


SHOW = Verb(
    "show",
    show,
    _ShowOptions,
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
    _UpdateOptions,
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
    torchinstall catalog verify  # are the tables whole?
    TORCHINSTALL_CATALOG_DIR=./data torchinstall catalog verify  # are tables of my own?
    torchinstall catalog verify --json  # for a script
""",
)

CATALOG = LazyGroup(
    "catalog",
    {
        "show": (".show:SHOW", "Print each table: its date, its rows, its sources."),
        "update": (".show:UPDATE", "Read the index pages now and keep them for a day."),
        "verify": (".show:VERIFY", "Read every table and check its rows."),
    },
    params=global_options(before_verb=False),
    **GROUP_OPTIONS,
)


class _CompletionOptions(Options, frozen=True, kw_only=True):
    shell: str = ""


def completion(session: Session, options: _CompletionOptions) -> int:
    """Print the script that makes a shell complete verbs and flags."""
    script = completion_script(options.shell, build())
    if session.console.json:
        session.console.out_json(envelope("ok", shell=options.shell, script=script))
    else:
        session.console.out_file(script)
    return 0


COMPLETION = Verb(
    "completion",
    completion,
    _CompletionOptions,
    Argument("shell", "SHELL", "bash, zsh, fish or powershell.", SHELLS),
    examples="""
    eval "$(torchinstall completion bash)"  # for this bash
    torchinstall completion zsh > ~/.zfunc/_torchinstall  # for every zsh
    torchinstall completion fish > ~/.config/fish/completions/torchinstall.fish  # for every fish
    torchinstall completion powershell >> $PROFILE  # for every PowerShell
""",
)
