"""The laws themselves: what tables must say together (see `catalog.verify`)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

from msgspec import Struct

from torchinstall.catalog.catalog import Catalog
from torchinstall.catalog.schemas import GPU_VENDORS, SCHEMAS
from torchinstall.catalog.table_file import read_table, render
from torchinstall.catalog.tables import platform_of
from torchinstall.core.errors import CatalogError
from torchinstall.core.versions import dotted

if TYPE_CHECKING:
    from torchinstall.catalog.load import ShippedTables

__all__ = ["LAWS", "Law", "Problem", "verify"]


class Problem(Struct, frozen=True, kw_only=True):
    """A law that a table breaks.

    Attributes:
        law: kebab-case name of the law.
        table: the file to mend.
        what: which row, and what is wrong with it.
    """

    law: str
    table: str
    what: str


Law = Callable[["ShippedTables", Catalog], Iterator[Problem]]
"""A law yields what breaks it."""

_TARGET = re.compile(r"\d+\.\d|gfx[0-9a-f]{3,4}|mps\d+\.\d+").fullmatch
_VENDOR_MATCH = re.compile(r"gfx[0-9a-f]{3,4}|l4t\d+").fullmatch


def _byte_stable(tables: ShippedTables, _: Catalog) -> Iterator[Problem]:
    """A table is written as the writer writes it, so that a refresh changes only what changed."""
    for name, schema in SCHEMAS.items():
        written = (tables.directory / name).read_text(encoding="utf-8")
        if written != render(tables.file(name), schema):
            yield Problem(law="byte-stable", table=name, what="is not as the table writer writes it")


def _sources_cited(tables: ShippedTables, _: Catalog) -> Iterator[Problem]:
    """Loading checks that each row's source is explained; here: no source is left over."""
    for name in SCHEMAS:
        table = tables.file(name)
        unused = set(table.sources) - {row["source"] for row in table.rows}
        for key in sorted(unused):
            yield Problem(law="source-uncited", table=name, what=f"no row cites the source {key!r}")


_KEYS: dict[str, tuple[str, ...]] = {
    "backend_kinds.json": ("kind",),
    "backends.json": ("backend",),
    "companions.json": ("torch", "package"),
    "code.json": ("torch", "backend", "platform"),
    "code_rules.json": ("rule", "capability"),
    "driver_floors.json": ("kind", "major", "minor"),
    "driver_branches.json": ("branch",),
    "driver_gpus.json": ("capability",),
    "families.json": ("package",),
    "hashes.json": ("backend", "file"),
    "vendor_indexes.json": ("vendor", "match", "os"),
}


def _repeated(keys: Iterable[Hashable]) -> list[Hashable]:
    return [key for key, times in Counter(keys).items() if times > 1]


def _no_duplicates(tables: ShippedTables, _: Catalog) -> Iterator[Problem]:
    """One fact, one row."""
    for name, columns in _KEYS.items():
        rows = tables.file(name).rows
        for key in _repeated(tuple(map(str, (row[column] for column in columns))) for row in rows):
            yield Problem(law="duplicate", table=name, what=f"two rows for {key}")
    for vendor in GPU_VENDORS:
        facts = tables.gpus(vendor)
        for key in _repeated(fact.pci_id for fact in facts if fact.pci_id):
            yield Problem(law="duplicate", table=f"gpus_{vendor}.json", what=f"two rows for {key}")
    files = (
        (
            row.package,
            row.full_version,
            row.backend,
            row.platform_tag,
            row.origin,
            row.channel,
            row.build,
            tag,
        )
        for row in tables.wheels
        for tag in row.tags
    )
    for key in _repeated(files):
        yield Problem(law="duplicate", table="wheels.json", what=f"listed twice: {key}")


def _kinds_of(tables: ShippedTables, backend: str) -> list[str]:
    return [kind.kind for kind in tables.kinds if re.fullmatch(kind.pattern, backend)]


def _no_orphan_backend(tables: ShippedTables, _: Catalog) -> Iterator[Problem]:
    """Each backend belongs to one kind; the backends of torch and those of `backends.json` are the same."""
    named = [("wheels.json", row.backend) for row in tables.wheels if row.backend or row.package == "torch"]
    named += [("code.json", row.backend) for row in tables.code]
    named += [("backends.json", name) for name in tables.retired]
    for table, backend in sorted(set(named)):
        kinds = _kinds_of(tables, backend)
        if len(kinds) != 1:
            what = f"backend {backend!r} belongs to {kinds or 'no kind'}, wanted exactly one"
            yield Problem(law="orphan-backend", table=table, what=what)
    published = {row.backend for row in tables.wheels if row.package == "torch" and row.channel == "stable"}
    for backend in sorted(published ^ set(tables.retired)):
        what = f"{backend!r} has " + ("no row" if backend in published else "no torch wheel")
        yield Problem(law="orphan-backend", table="backends.json", what=what)


def _retired_is_last(tables: ShippedTables, _: Catalog) -> Iterator[Problem]:
    for row in tables.wheels:
        last = tables.retired.get(row.backend)
        if row.package == "torch" and last is not None and dotted(row.version) > dotted(last):
            what = f"{row.backend} is said to end with {last}, but wheels.json has torch {row.version}"
            yield Problem(law="retired-too-early", table="backends.json", what=what)


def _known_platforms(tables: ShippedTables, _: Catalog) -> Iterator[Problem]:
    """Nothing is listed that no plan can use; macOS takes torch from the default index."""
    for row in tables.wheels:
        platform = platform_of(row.platform_tag)
        if platform is None:
            what = f"{row.package} {row.full_version}: nobody plans for {row.platform_tag}"
            yield Problem(law="unknown-platform", table="wheels.json", what=what)
        elif platform.startswith("macos") and row.origin != "default":
            what = f"{row.package} {row.full_version} for macOS is taken from the default index"
            yield Problem(law="macos-from-default", table="wheels.json", what=what)


def _branches_never_step_back(tables: ShippedTables, _: Catalog) -> Iterator[Problem]:
    """A later driver branch speaks at least the CUDA of an earlier one."""
    branches = sorted(tables.branch_cuda.items())
    for (earlier, low), (later, high) in pairwise(branches):
        if dotted(high) < dotted(low):
            what = f"R{later} speaks CUDA {high}, less than R{earlier} with {low}"
            yield Problem(law="branch-steps-back", table="driver_branches.json", what=what)


def _code_for_every_build(tables: ShippedTables, catalog: Catalog) -> Iterator[Problem]:
    """Each torch build for GPUs has a row of code, its own or one that may be assumed; and a driver floor."""
    builds = {
        (row.version, row.backend, platform_of(row.platform_tag))
        for row in tables.wheels
        if row.package == "torch"
    }
    for version, name, platform in sorted(builds, key=str):
        backend = catalog.backend(name)
        if backend is None or platform is None or backend.kind.strategy not in ("sm", "gfx"):
            continue
        if catalog.code(version, backend, platform) is None:
            what = f"nothing known or assumed for torch {version} {name} on {platform}"
            yield Problem(law="code-unknown", table="code.json", what=what)
        if backend.kind.strategy == "sm" and catalog.floor(backend) is None:
            what = f"no driver floor for {name}"
            yield Problem(law="floor-unknown", table="driver_floors.json", what=what)


def _targets_make_sense(tables: ShippedTables, _: Catalog) -> Iterator[Problem]:
    """Native code is for GPUs that some driver serves; SM and gfx targets do not mix."""
    served = {row.capability for row in tables.gpu_service}
    for row in tables.code:
        where = f"torch {row.torch} {row.backend} {row.platform}"
        for target in (*row.native, *(row.ptx or ())):
            if not _TARGET(target):
                yield Problem(law="bad-target", table="code.json", what=f"{where}: {target!r} is no target")
            elif target[0].isdigit() and target not in served:
                what = f"{target} of {where} has no row"
                yield Problem(law="unserved-target", table="driver_gpus.json", what=what)


def _companions_exist(tables: ShippedTables, _: Catalog) -> Iterator[Problem]:
    """A companion has a wheel for some backend, if files of its package were ever seen on the index.

    Other packages need none: a live page or the user's own indexes know them.
    """
    published = {(row.package, row.version) for row in tables.wheels}
    packages = {row.package for row in tables.wheels if row.origin == "index" and row.confidence == "high"}
    packages &= {family.package for family in tables.families if family.routed}
    releases = {version for package, version in published if package == "torch"}
    for row in tables.companions:
        if row.torch not in releases:
            what = f"{row.package} goes with torch {row.torch}, which wheels.json does not have"
            yield Problem(law="companion-of-nothing", table="companions.json", what=what)
        if row.package in packages and (row.package, row.version) not in published:
            what = f"torch {row.torch} goes with {row.package} {row.version}, of which no wheel is known"
            yield Problem(law="companion-unpublished", table="companions.json", what=what)


def _families_complete(tables: ShippedTables, catalog: Catalog) -> Iterator[Problem]:
    families = {row.package for row in tables.families}
    kinds = {row.kind for row in tables.kinds}
    packages = {row.package for row in tables.wheels} | {row.package for row in tables.companions}
    for package in sorted(packages - families):
        yield Problem(law="no-family", table="families.json", what=f"{package} has no row")
    for family in tables.families:
        named = {entry for entry in family.runtime_of if catalog.backend(entry) is not None}
        for kind in sorted({entry.partition("@")[0] for entry in family.runtime_of} - named - kinds):
            what = f"{family.package}: {kind!r} is no kind of backend"
            yield Problem(law="no-kind", table="families.json", what=what)


def _hashes_of_known_files(tables: ShippedTables, _: Catalog) -> Iterator[Problem]:
    known = {
        (row.backend if row.origin == "index" else "", row.filename(tag))
        for row in tables.wheels
        for tag in row.tags
    }
    for row in tables.file("hashes.json").rows:
        if (row["backend"], row["file"]) not in known:
            what = f"{row['file']} of {row['backend'] or 'PyPI'} is not in wheels.json"
            yield Problem(law="hash-of-nothing", table="hashes.json", what=what)


def _advice_is_usable(tables: ShippedTables, _: Catalog) -> Iterator[Problem]:
    for row in tables.advice:
        if not row.url.startswith("https://") or not _VENDOR_MATCH(row.match):
            what = f"{row.match}: {row.url}"
            yield Problem(law="bad-advice", table="vendor_indexes.json", what=what)


LAWS: tuple[Law, ...] = (
    _byte_stable,
    _sources_cited,
    _no_duplicates,
    _no_orphan_backend,
    _retired_is_last,
    _known_platforms,
    _branches_never_step_back,
    _code_for_every_build,
    _targets_make_sense,
    _companions_exist,
    _families_complete,
    _hashes_of_known_files,
    _advice_is_usable,
)
"""Every law, the cheap ones first."""


def verify(tables: ShippedTables) -> tuple[Problem, ...]:
    """Every broken law, the tables that cannot even be read first (then nothing else is looked at)."""
    unreadable = tuple(_unreadable(tables))
    if unreadable:
        return unreadable
    catalog = Catalog(tables)
    return tuple(problem for law in LAWS for problem in law(tables, catalog))


def _unreadable(tables: ShippedTables) -> Iterator[Problem]:
    for name in SCHEMAS:
        error = _fault(tables, name)
        if error is not None:
            yield Problem(law=error.slug, table=name, what=error.found or error.message)


def _fault(tables: ShippedTables, name: str) -> CatalogError | None:
    try:
        read_table(tables.directory / name, SCHEMAS[name])
    except CatalogError as error:
        return error
    return None
