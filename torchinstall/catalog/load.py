"""The tables, each read when it is first asked for.

Tables of a folder that the user names are checked row by row. Those that came with torchinstall were checked
when they were made (`verify.verify`, a test), and only their heads are looked at again.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchinstall.catalog.model import (
    Advice,
    BackendKind,
    Code,
    CodeRule,
    Companion,
    Family,
    Floor,
    GpuFact,
    GpuService,
    Wheels,
)
from torchinstall.catalog.table_file import TableFile, find_rows, read_table
from torchinstall.core.versions import dotted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torchinstall.catalog.catalog import Catalog
    from torchinstall.catalog.table_file import Schema

__all__ = ["DATA", "ShippedTables", "load_catalog"]

DATA = Path(__file__).parent / "data"
"""The folder of the tables that come with torchinstall."""


class ShippedTables:
    """The tables of a folder (see `catalog.Tables`); every property reads its own file once.

    Args:
        directory: a folder of tables that replaces the shipped one as a whole
            (`TORCHINSTALL_CATALOG_DIR`); None: the shipped one.
        added: packages that move with torch by configuration; they replace rows of the same name.

    Every property raises `CatalogError`: `catalog-invalid` or `catalog-too-new`, naming file and row.
    """

    def __init__(self, directory: Path | None = None, *, added: tuple[Family, ...] = ()) -> None:
        self.directory = directory or DATA
        self.added = added
        self._files: dict[str, TableFile] = {}
        self._gpus: dict[str, tuple[GpuFact, ...]] = {}
        self._hashes: dict[str, tuple[dict[str, Any], ...]] = {}

    def _schema(self, name: str) -> Schema | None:
        if self.directory == DATA:
            return None
        from torchinstall.catalog.schemas import SCHEMAS

        return SCHEMAS[name]

    def file(self, name: str) -> TableFile:
        """One table as read, with its date and sources, by file name."""
        if name not in self._files:
            self._files[name] = read_table(self.directory / name, self._schema(name))
        return self._files[name]

    @cached_property
    def snapshot(self) -> str:
        """Date of what is known to be published, `2026-11-22`."""
        return self.file("wheels.json").as_of

    @cached_property
    def kinds(self) -> tuple[BackendKind, ...]:
        """Lines of backends."""
        return tuple(BackendKind(**row) for row in self.file("backend_kinds.json").rows)

    @cached_property
    def retired(self) -> Mapping[str, str | None]:
        """Backend name -> last torch release published for it, None while it lives."""
        return {row["backend"]: row["retired"] for row in self.file("backends.json").rows}

    @cached_property
    def wheels(self) -> tuple[Wheels, ...]:
        """What is published."""
        rows = self.file("wheels.json").rows
        lists: dict[str, frozenset[str]] = {}
        for row in rows:
            if row["tags"] not in lists:
                lists[row["tags"]] = frozenset(row["tags"].split(" "))
        return tuple(
            Wheels(
                row["package"],
                row["version"],
                row["local"],
                row["backend"],
                row["platform_tag"],
                lists[row["tags"]],
                row["origin"],
                row["source"],
                row["confidence"],
                row.get("channel", "stable"),
                row.get("build", ""),
            )
            for row in rows
        )

    @cached_property
    def companions(self) -> tuple[Companion, ...]:
        """Which package version belongs to which torch."""
        return tuple(Companion(**row) for row in self.file("companions.json").rows)

    @cached_property
    def code(self) -> tuple[Code, ...]:
        """What builds carry for GPUs."""
        return tuple(
            Code(
                row["torch"],
                row["backend"],
                row["platform"],
                tuple(row["native"]),
                None if row["ptx"] is None else tuple(row["ptx"]),
                row["source"],
                row["confidence"],
            )
            for row in self.file("code.json").rows
        )

    @cached_property
    def code_rules(self) -> tuple[CodeRule, ...]:
        """Exceptions to who runs what."""
        return tuple(
            CodeRule(**{**row, "until": None if row["until"] is None else dotted(row["until"])})
            for row in self.file("code_rules.json").rows
        )

    @cached_property
    def floors(self) -> tuple[Floor, ...]:
        """Lowest drivers of toolkits."""
        return tuple(
            Floor(**{**row, "linux": dotted(row["linux"]), "windows": dotted(row["windows"])})
            for row in self.file("driver_floors.json").rows
        )

    @cached_property
    def branch_cuda(self) -> Mapping[int, str]:
        """NVIDIA driver branch -> newest CUDA it speaks."""
        return {row["branch"]: row["cuda"] for row in self.file("driver_branches.json").rows}

    @cached_property
    def gpu_service(self) -> tuple[GpuService, ...]:
        """Driver branches by compute capability."""
        return tuple(GpuService(**row) for row in self.file("driver_gpus.json").rows)

    @cached_property
    def families(self) -> tuple[Family, ...]:
        """Packages that move with torch; those of configuration files last, in place of shipped ones."""
        shipped = (
            Family(**{**row, "runtime_of": tuple(row["runtime_of"])})
            for row in self.file("families.json").rows
        )
        names = {row.package for row in self.added}
        return (*(row for row in shipped if row.package not in names), *self.added)

    @cached_property
    def advice(self) -> tuple[Advice, ...]:
        """Vendors' own indexes."""
        return tuple(
            Advice(**{**row, "os": tuple(row["os"])}) for row in self.file("vendor_indexes.json").rows
        )

    def gpus(self, vendor: str) -> tuple[GpuFact, ...]:
        """The product table of one vendor; empty for a vendor without one."""
        if vendor not in self._gpus:
            self._gpus[vendor] = tuple(self._gpu_facts(vendor))
        return self._gpus[vendor]

    def _gpu_facts(self, vendor: str) -> list[GpuFact]:
        from torchinstall.catalog.schemas import GPU_VENDORS

        known = next((name for name in GPU_VENDORS if name == vendor), None)
        if known is None:
            return []
        return [
            GpuFact(
                known,
                row["pci_id"],
                row["name"],
                row["code"],
                row.get("supported"),
                row.get("integrated"),
                row["source"],
                row["confidence"],
                tuple(row.get("os") or ()),
            )
            for row in self.file(f"gpus_{known}.json").rows
        ]

    def sha256(self, backend: str, filename: str) -> str | None:
        """The hash of a wheel on the stable index, where known; backend `""`: PyPI."""
        # Two of some thousand rows are wanted for a plan; reading them all costs a tenth of it.
        if filename not in self._hashes:
            name = "hashes.json"
            self._hashes[filename] = find_rows(self.directory / name, self._schema(name), filename)
        rows = self._hashes[filename]
        return next((row["sha256"] for row in rows if row["backend"] == backend), None)


def load_catalog(directory: Path | None = None, *, families: tuple[Family, ...] = ()) -> Catalog:
    """A catalog of the shipped tables, or of those in `directory`. Nothing is read yet.

    `families` are packages that a configuration file adds.
    """
    from torchinstall.catalog.catalog import Catalog

    return Catalog(ShippedTables(directory, added=families))
