"""What the tables must say together, and how they are written: `python -m scripts.invariants [FOLDER]`.

Each function is an invariant and yields what breaks it. The refreshers write nothing that breaks one, and
a test holds the shipped tables to all of them.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from torchinstall.catalog.catalog import Catalog
from torchinstall.catalog.model import Row
from torchinstall.catalog.tables import SCHEMA_VERSION, TABLES, Table, Tables, invalid, platform_of
from torchinstall.core.decoding import convert
from torchinstall.core.versions import dotted


class Problem(Struct, frozen=True):
    """What is wrong with a table.

    Attributes:
        invariant: kebab-case name of what the table breaks.
        table: the file to fix.
        what: which row, and what is wrong with it.
    """

    invariant: str
    table: str
    what: str


_TARGET = re.compile(r"\d+\.\d|gfx[0-9a-f]{3,4}|mps\d+\.\d+").fullmatch
_VENDOR_MATCH = re.compile(r"gfx[0-9a-f]{3,4}|l4t\d+").fullmatch
_TAGS = re.compile(r"[a-z0-9.]+-[a-z0-9_.]+(?: [a-z0-9.]+-[a-z0-9_.]+)*").fullmatch

_KEYS: dict[str, Callable[[Any], Hashable]] = {
    "backend_kinds.json": lambda row: row.kind,
    "backends.json": lambda row: row.backend,
    "companions.json": lambda row: (row.torch, row.package),
    "code.json": lambda row: (row.torch, row.backend, row.platform),
    "code_rules.json": lambda row: (row.rule, row.capability),
    "driver_floors.json": lambda row: (row.kind, row.major, row.minor),
    "driver_branches.json": lambda row: row.branch,
    "driver_gpus.json": lambda row: row.capability,
    "families.json": lambda row: row.package,
    "limits.json": lambda row: row.number,
    "hashes.json": lambda row: (row.backend, row.file),
    "vendor_indexes.json": lambda row: (row.vendor, row.match, row.os),
    **dict.fromkeys(
        ("gpus_nvidia.json", "gpus_amd.json", "gpus_intel.json"), lambda row: row.pci_id or id(row)
    ),
}
"""What tells one row of a table from another; a product without a PCI id may be listed twice."""


def render(table: Table) -> str:
    """The file's text: columns in the order of the row's class, sources sorted, one row a line.

    Raises:
        CatalogError: `catalog-invalid`: a row is wrong.
    """
    of: Any = TABLES[table.name]
    try:
        rows = msgspec.to_builtins(convert(table.rows, tuple[of, ...]))
    except msgspec.ValidationError as error:
        raise invalid(table.name, str(error).replace("`$[", "`$.rows[")) from error
    head = f'{{"schema_version": {SCHEMA_VERSION}, "as_of": {_json(table.as_of)}, "sources": {{\n'
    sources = ",\n".join(f"{_json(key)}: {_json(text)}" for key, text in sorted(table.sources.items()))
    return f'{head}{sources}\n}}, "rows": [\n' + ",\n".join(map(_json, rows)) + "\n]}\n"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _byte_stable(tables: Tables, _: Catalog) -> Iterator[Problem]:
    """A table is written as the writer writes it, so that a refresh changes only what changed."""
    for name in TABLES:
        if (tables.directory / name).read_text(encoding="utf-8") != render(tables.file(name)):
            yield Problem("byte-stable", name, "is not as the table writer writes it")


def _sources_cited(tables: Tables, _: Catalog) -> Iterator[Problem]:
    """Each row has a source that the file explains, and no source is left over."""
    for name in TABLES:
        table = tables.file(name)
        cited = {row["source"] for row in table.rows}
        for key in sorted(table.sources.keys() - cited):
            yield Problem("source-uncited", name, f"no row cites the source {key!r}")
        for key in sorted(cited - table.sources.keys()):
            yield Problem("source-unknown", name, f"{key!r} is not among the file's sources")


def _no_duplicates(tables: Tables, _: Catalog) -> Iterator[Problem]:
    """One fact, one row; one file, one row."""
    for name, key_of in _KEYS.items():
        rows: tuple[Row, ...] = tables.rows(name)
        for key in _repeated(map(key_of, rows)):
            yield Problem("duplicate", name, f"two rows for {key}")
    files = (
        (row.filename(tag), row.backend, row.origin, row.channel)
        for row in tables.wheels
        for tag in row.tag_list.split(" ")
    )
    for key in _repeated(files):
        yield Problem("duplicate", "wheels.json", f"listed twice: {key}")


def _repeated(keys: Iterable[Hashable]) -> list[Hashable]:
    return [key for key, times in Counter(keys).items() if times > 1]


def _backends_known(tables: Tables, _: Catalog) -> Iterator[Problem]:
    """Each backend belongs to one kind; the backends of torch and those of `backends.json` are the same."""
    named = {("wheels.json", row.backend) for row in tables.wheels if row.backend or row.package == "torch"}
    named |= {("code.json", row.backend) for row in tables.code}
    named |= {("backends.json", name) for name in tables.retired}
    for table, backend in sorted(named):
        kinds = [kind.kind for kind in tables.kinds if re.fullmatch(kind.pattern, backend)]
        if len(kinds) != 1:
            what = f"backend {backend!r} belongs to {kinds or 'no kind'}, wanted exactly one"
            yield Problem("orphan-backend", table, what)
    published = {row.backend for row in tables.wheels if row.package == "torch" and row.channel == "stable"}
    for backend in sorted(published ^ set(tables.retired)):
        what = f"{backend!r} has " + ("no row" if backend in published else "no torch wheel")
        yield Problem("orphan-backend", "backends.json", what)


def _wheels_usable(tables: Tables, _: Catalog) -> Iterator[Problem]:
    """Nothing is listed that no plan can use; macOS takes torch from the default index."""
    for row in tables.wheels:
        platform, wheel = platform_of(row.platform_tag), f"{row.package} {row.full_version}"
        last = tables.retired.get(row.backend)
        if platform is None:
            yield Problem("unknown-platform", "wheels.json", f"{wheel}: nobody plans for {row.platform_tag}")
        elif platform.startswith("macos") and row.origin != "default":
            what = f"{wheel} for macOS is taken from the default index"
            yield Problem("macos-from-default", "wheels.json", what)
        if not _TAGS(row.tag_list):
            yield Problem("bad-tags", "wheels.json", f"{wheel}: {row.tag_list!r} is no list of tags")
        if row.package == "torch" and last is not None and dotted(row.version) > dotted(last):
            what = f"{row.backend} is said to end with {last}, but wheels.json has torch {row.version}"
            yield Problem("retired-too-early", "backends.json", what)


def _branches_never_step_back(tables: Tables, _: Catalog) -> Iterator[Problem]:
    """A later driver branch speaks at least the CUDA of an earlier one."""
    for (earlier, low), (later, high) in pairwise(sorted(tables.branch_cuda.items())):
        if dotted(high) < dotted(low):
            what = f"R{later} speaks CUDA {high}, less than R{earlier} with {low}"
            yield Problem("branch-steps-back", "driver_branches.json", what)


def _code_for_every_build(tables: Tables, catalog: Catalog) -> Iterator[Problem]:
    """Each torch build for GPUs has a row of code, its own or one that may be assumed; and a driver floor."""
    torch = (row for row in tables.wheels if row.package == "torch")
    builds = {(row.version, row.backend, platform_of(row.platform_tag)) for row in torch}
    for version, name, platform in sorted(builds, key=str):
        backend = catalog.backend(name)
        if backend is None or platform is None or backend.kind.strategy not in ("sm", "gfx"):
            continue
        if catalog.code(version, backend, platform) is None:
            what = f"nothing known or assumed for torch {version} {name} on {platform}"
            yield Problem("code-unknown", "code.json", what)
        if backend.kind.strategy == "sm" and catalog.floor(backend) is None:
            yield Problem("floor-unknown", "driver_floors.json", f"no driver floor for {name}")


def _targets_make_sense(tables: Tables, _: Catalog) -> Iterator[Problem]:
    """Native code is for GPUs that some driver serves; SM and gfx targets do not mix."""
    served = {row.capability for row in tables.gpu_service}
    for row in tables.code:
        build = f"torch {row.torch} {row.backend} {row.platform}"
        for target in (*row.native, *(row.ptx or ())):
            if not _TARGET(target):
                yield Problem("bad-target", "code.json", f"{build}: {target!r} is no target")
            elif target[0].isdigit() and target not in served:
                yield Problem("unserved-target", "driver_gpus.json", f"{target} of {build} has no row")


def _companions_exist(tables: Tables, _: Catalog) -> Iterator[Problem]:
    """A companion has a wheel for some backend, if files of its package were ever seen on the index.

    Other packages need none: a live page or the user's own indexes know them.
    """
    published = {(row.package, row.version) for row in tables.wheels}
    seen = {row.package for row in tables.wheels if row.origin == "index" and row.confidence == "high"}
    seen &= {family.package for family in tables.families if family.routed}
    for row in tables.companions:
        if ("torch", row.torch) not in published:
            what = f"{row.package} goes with torch {row.torch}, which wheels.json does not have"
            yield Problem("companion-of-nothing", "companions.json", what)
        if row.package in seen and (row.package, row.version) not in published:
            what = f"torch {row.torch} goes with {row.package} {row.version}, of which no wheel is known"
            yield Problem("companion-unpublished", "companions.json", what)


def _families_complete(tables: Tables, catalog: Catalog) -> Iterator[Problem]:
    """Each package has a family, and each family names kinds or backends that exist."""
    packages = {row.package for row in tables.wheels} | {row.package for row in tables.companions}
    for package in sorted(packages - {row.package for row in tables.families}):
        yield Problem("no-family", "families.json", f"{package} has no row")
    kinds = {row.kind for row in tables.kinds}
    for family in tables.families:
        for entry in family.runtime_of:
            kind = entry.partition("@")[0]
            if kind not in kinds and catalog.backend(entry) is None:
                what = f"{family.package}: {kind!r} is no kind of backend"
                yield Problem("no-kind", "families.json", what)


def _hashes_of_known_files(tables: Tables, _: Catalog) -> Iterator[Problem]:
    known = {
        (row.backend if row.origin == "index" else "", row.filename(tag))
        for row in tables.wheels
        for tag in row.tag_list.split(" ")
    }
    for row in tables.hashes:
        if (row.backend, row.file) not in known:
            what = f"{row.file} of {row.backend or 'PyPI'} is not in wheels.json"
            yield Problem("hash-of-nothing", "hashes.json", what)


def _advice_is_usable(tables: Tables, _: Catalog) -> Iterator[Problem]:
    for row in tables.advice:
        if not row.url.startswith("https://") or not _VENDOR_MATCH(row.match):
            yield Problem("bad-advice", "vendor_indexes.json", f"{row.match}: {row.url}")


def _limits_apply(tables: Tables, _: Catalog) -> Iterator[Problem]:
    """A limit names a kind of backends and asks of a GPU only what GPUs of that kind have."""
    strategies = {kind.kind: kind.strategy for kind in tables.kinds}
    for row in tables.limits:
        strategy = strategies.get(row.kind)
        if row.kind and strategy is None:
            yield Problem("no-kind", "limits.json", f"{row.number}: {row.kind!r} is no kind of backend")
        for asked, needed in ((row.gfx or row.except_gfx, "gfx"), (row.sm, "sm"), (row.pci, "device")):
            if asked and strategy != needed:
                yield Problem("bad-limit", "limits.json", f"{row.number}: {row.kind!r} has no {needed}")
        if row.severity == "blocks" and not (row.wanted and row.found):
            yield Problem("bad-limit", "limits.json", f"{row.number} blocks and lacks wanted or found")


INVARIANTS = (
    _byte_stable,
    _sources_cited,
    _no_duplicates,
    _backends_known,
    _wheels_usable,
    _branches_never_step_back,
    _code_for_every_build,
    _targets_make_sense,
    _companions_exist,
    _families_complete,
    _hashes_of_known_files,
    _advice_is_usable,
    _limits_apply,
)
"""Every invariant, the cheap ones first."""


def verify(tables: Tables) -> tuple[Problem, ...]:
    """What is broken: the tables that cannot even be read, else every invariant that does not hold."""
    errors = {name: error for name in TABLES if (error := tables.error_of(name)) is not None}
    if errors:
        return tuple(
            Problem(error.slug, name, error.found or error.message) for name, error in errors.items()
        )
    catalog = Catalog(tables)
    return tuple(problem for invariant in INVARIANTS for problem in invariant(tables, catalog))


def main(arguments: list[str]) -> int:
    """Print what is broken in the tables of a folder, or in the shipped ones; 1 where anything is."""
    problems = verify(Tables(Path(arguments[0]) if arguments else None))
    for problem in problems:
        print(f"{problem.table}: {problem.invariant}: {problem.what}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
