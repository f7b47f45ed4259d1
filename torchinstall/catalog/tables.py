"""The tables of facts on disk: read when they are first asked for, and checked while they are read.

A table is JSON with one row a line, so that a change of one fact is a change of one line in a diff::

    {"schema_version": 1, "as_of": "2026-11-22", "sources": {
    "key": "where the fact comes from"
    }, "rows": [
    {"first": "column", ..., "confidence": "high", "source": "key"},
    ...
    ]}

`scripts/invariants.py` writes them, the same bytes for the same table.
"""

import json
import re
from collections.abc import Mapping
from functools import cached_property, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from torchinstall.catalog import model, stack
from torchinstall.catalog.model import Family, GpuFact, Row
from torchinstall.core.decoding import decoder
from torchinstall.core.errors import CatalogError
from torchinstall.core.versions import dotted

SCHEMA_VERSION = 1

DATA = Path(__file__).parent / "data"
"""The folder of the tables that come with torchinstall."""

PageKey = tuple[str, str]
"""A page of the index: (package, backend)."""

_GLIBC_OR_PLAIN = re.compile(r"(?:manylinux\w*?|linux)_(x86_64|aarch64)$")
_PLACE = r"(?s)(?P<what>.*) - at `(?P<path>\$(?:\.rows\[(?P<row>\d+)\])?.*)`"

R = TypeVar("R", bound=Row)

TABLES: dict[str, type[Row]] = {}
"""The tables of the catalog by file name, and what a row of each one is."""


@lru_cache(maxsize=512)
def platform_of(platform_tag: str) -> str | None:
    """The table key of a wheel platform tag: `manylinux_2_28_x86_64` -> `linux_x86_64`.

    `any` for wheels that run everywhere, None for platforms that nobody plans for (s390x, musllinux, i686).
    A compressed tag (`manylinux_2_17_aarch64.manylinux2014_aarch64`) is one platform, that of its last part.
    """
    platform_tag = platform_tag.rpartition(".")[2]
    if match := _GLIBC_OR_PLAIN.match(platform_tag):
        return f"linux_{match[1]}"
    if platform_tag in ("any", "win_amd64", "win_arm64"):
        return platform_tag
    if platform_tag.startswith("macosx_") and platform_tag.endswith(("_arm64", "_x86_64")):
        return "macos_arm64" if platform_tag.endswith("_arm64") else "macos_x86_64"
    return None


class _File(Struct, Generic[R], frozen=True):
    """A table as it is written."""

    schema_version: Literal[1]
    as_of: Annotated[str, Meta(pattern=r"^\d{4}-\d{2}-\d{2}$")]
    sources: dict[str, str]
    rows: tuple[R, ...]


class Table(Struct, frozen=True, kw_only=True):
    """A table with its rows as JSON objects; `as_of` is the date of the facts, `2026-11-22`."""

    name: str
    as_of: str
    sources: Mapping[str, str]
    rows: tuple[dict[str, Any], ...]


def _table(name: str, row: type[R]) -> cached_property[tuple[R, ...]]:
    TABLES[name] = row
    return cached_property(lambda tables: tables.rows(name))


class Tables:
    """The tables of a folder (None: the shipped ones); each file is read once, when it is first needed.

    `added` are packages that move with torch by configuration; they replace rows of the same name.
    Everything here raises `CatalogError`: `catalog-invalid` (with table, row and path), `catalog-too-new`.
    """

    kinds = _table("backend_kinds.json", model.BackendKind)
    backends = _table("backends.json", model.Backend)
    wheels = _table("wheels.json", model.Wheels)
    companions = _table("companions.json", model.Companion)
    code = _table("code.json", model.Code)
    code_rules = _table("code_rules.json", model.CodeRule)
    floors = _table("driver_floors.json", model.Floor)
    branches = _table("driver_branches.json", model.DriverBranch)
    gpu_service = _table("driver_gpus.json", model.GpuService)
    limits = _table("limits.json", model.Limit)
    advice = _table("vendor_indexes.json", model.Advice)
    shipped_families = _table("families.json", model.Family)
    hashes = _table("hashes.json", model.WheelHash)
    nvidia = _table("gpus_nvidia.json", model.GpuFact)
    amd = _table("gpus_amd.json", model.GpuFact)
    intel = _table("gpus_intel.json", model.GpuFact)
    companion_builds = _table("companion_builds.json", stack.CompanionBuild)
    places = _table("places.json", stack.Place)
    grammars = _table("grammars.json", stack.Grammar)

    def __init__(self, directory: Path | None = None, *, added: tuple[Family, ...] = ()) -> None:
        self.directory = directory or DATA
        self.added = added
        self._files: dict[str, _File[Any]] = {}
        self._hashes: dict[str, tuple[model.WheelHash, ...]] = {}
        self._products: dict[str, dict[str | None, GpuFact]] = {}

    def file(self, name: str) -> Table:
        """One table with its rows as JSON objects."""
        file = self._read(name)
        rows = msgspec.to_builtins(file.rows)
        return Table(name=name, as_of=file.as_of, sources=file.sources, rows=tuple(rows))

    def rows(self, name: str) -> tuple[Any, ...]:
        """The rows of one table, of the class that `TABLES` names."""
        return self._read(name).rows

    def error_of(self, name: str) -> CatalogError | None:
        """What is wrong with one table; None: it can be used."""
        try:
            self._read(name)
        except CatalogError as error:
            return error
        return None

    @cached_property
    def snapshot(self) -> str:
        """Date of what is known to be published, `2026-11-22`."""
        return self._read("wheels.json").as_of

    @cached_property
    def retired(self) -> Mapping[str, str | None]:
        """Backend name -> last torch release published for it, None while it lives."""
        return {row.backend: row.retired for row in self.backends}

    @cached_property
    def branch_cuda(self) -> Mapping[int, str]:
        """NVIDIA driver branch -> newest CUDA it speaks."""
        return {row.branch: row.cuda for row in self.branches}

    @cached_property
    def families(self) -> tuple[Family, ...]:
        """Packages that move with torch; those of configuration files last, in place of shipped ones.

        One whose builds are in `companion_builds.json` needs no row of its own.
        """
        known = {row.package: row for row in self.shipped_families}
        for row in self.companion_builds:
            if row.kind != "pure" and row.package not in known:
                known[row.package] = Family(
                    row.package,
                    routed=False,
                    pairing="free",
                    runtime_of=(),
                    own_cuda=True,
                    confidence=row.confidence,
                    source=row.source,
                )
        for added in self.added:
            known.pop(added.package, None)
        return (*known.values(), *self.added)

    def gpus(self, vendor: str) -> tuple[GpuFact, ...]:
        """The product table of one vendor; empty for a vendor without one."""
        name = f"gpus_{vendor}.json"
        return self.rows(name) if name in TABLES else ()

    def product(self, vendor: str, pci_id: str | None) -> GpuFact | None:
        """The product with a PCI id, the first of several rows; None: there is none."""
        if vendor not in self._products:
            self._products[vendor] = {row.pci_id: row for row in self.gpus(vendor)[::-1]}
        return self._products[vendor].get(pci_id.lower()) if pci_id is not None else None

    def served(self, code: str | None) -> bool:
        """Whether a build may have code for a GPU; one that is unknown, or above all others, may be new."""
        native = {target for row in self.code for target in row.native}
        oldest = min(dotted(target) for target in native if target[0].isdigit())
        return code is None or code in native or (code[0].isdigit() and dotted(code) >= oldest)

    def sha256(self, backend: str, filename: str) -> str | None:
        """The hash of a wheel on the stable index, where known; backend `""`: PyPI."""
        if filename not in self._hashes:
            self._hashes[filename] = self._hashes_of(filename)
        return next((row.sha256 for row in self._hashes[filename] if row.backend == backend), None)

    @cached_property
    def _hash_lines(self) -> bytes:
        return self._content("hashes.json")

    def _hashes_of(self, filename: str) -> tuple[model.WheelHash, ...]:
        """The rows of one file; the others are not parsed: two of some thousand are needed for a plan."""
        name = json.dumps(filename, ensure_ascii=False).encode()
        lines = (
            before.rpartition(b"\n")[2] + name + after.partition(b"\n")[0].rstrip(b",")
            for before, after in pairwise(self._hash_lines.split(name))
        )
        try:
            return tuple(map(decoder(model.WheelHash).decode, lines))
        except msgspec.DecodeError:  # not one row a line, or a wrong row: read it all, which will say so
            return tuple(row for row in self.hashes if row.file == filename)

    def _content(self, name: str) -> bytes:
        try:
            return (self.directory / name).read_bytes()
        except OSError as error:
            raise invalid(name, f"cannot be read: {error.strerror or error}") from error

    def _read(self, name: str) -> _File[Any]:
        if name not in self._files:
            of: Any = TABLES[name]
            file: _File[Row] = _decode(name, self._content(name), _File[of])
            if self.directory != DATA:  # the shipped ones were checked when they were made
                for number, row in enumerate(file.rows):
                    _check(name, number, row, file.sources)
            self._files[name] = file
        return self._files[name]


def _check(name: str, number: int, row: Row, sources: Mapping[str, str]) -> None:
    """What no type says: each source is one of the file's, and each pattern is one."""
    if row.source not in sources:
        raise invalid(name, f"{row.source!r} is not in sources - at `$.rows[{number}].source`")
    try:
        re.compile(getattr(row, "pattern", ""))
    except re.error as error:
        problem = f"pattern is not a regular expression: {error} - at `$.rows[{number}]`"
        raise invalid(name, problem) from error


def _decode(name: str, content: bytes, kind: Any) -> Any:
    try:
        return decoder(kind).decode(content)
    except msgspec.ValidationError as error:
        raw = msgspec.json.decode(content)
        version = raw.get("schema_version") if isinstance(raw, dict) else None
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise CatalogError(
                "catalog-too-new",
                f"The catalog table {name} was written for a later torchinstall",
                wanted=f"schema_version {SCHEMA_VERSION}",
                found=f"schema_version {version}",
                hints=("uv pip install --upgrade torchinstall",),
            ) from error
        raise invalid(name, str(error)) from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise invalid(name, f"not JSON: {error}") from error


def invalid(name: str, problem: str) -> CatalogError:
    """The error for a table that cannot be trusted; rows count from 1."""
    found = f"{name}: {problem}"
    if match := re.fullmatch(_PLACE, problem):
        row = f", row {int(match['row']) + 1}" if match["row"] else ""
        found = f"{name}{row} ({match['path']}): {match['what']}"
    return CatalogError(
        "catalog-invalid",
        f"The catalog table {name} is damaged",
        found=found,
        hints=(
            "pip install --force-reinstall torchinstall  # restores the shipped tables",
            "unset TORCHINSTALL_CATALOG_DIR  # where it names tables of your own",
        ),
    )
