"""The catalog's values: what is published, what code it carries, which drivers start it.

Every table is a JSON file in `data/` of this shape, one row a line::

    {"schema_version": 1, "as_of": "2026-11-22", "sources": {"key": "where the fact comes from"}, "rows": [
    {"source": "key", "confidence": "high", ...},
    ...
    ]}

Confidence is `high` (a real file, a measured wheel, an official command), `medium` (build matrix,
documentation) or `low` (a guess: kept so that it can be named, never chosen in silence).
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from torchinstall.core.machine import Vendor
from torchinstall.core.versions import Dotted

__all__ = [
    "Advice",
    "BackendInfo",
    "BackendKind",
    "Code",
    "CodeRule",
    "Companion",
    "Confidence",
    "Family",
    "Floor",
    "GpuFact",
    "GpuService",
    "Origin",
    "Wheels",
]

Confidence = Literal["high", "medium", "low"]

Origin = Literal["index", "default", "find-links", "vendor"]
"""Where a wheel lies: the PyTorch index, the user's default index (PyPI), a folder, a vendor's own index."""

Strategy = Literal["sm", "gfx", "device", "none"]
"""How a build's code is matched to a GPU: SM/PTX targets, gfx targets, a device list, not at all."""


class BackendKind(Struct, frozen=True):
    """A line of backends (`backend_kinds.json`); a backend's toolkit version follows from its name.

    Attributes:
        pattern: regular expression for backend names with groups `major`, `minor`, `patch`.
        vendor: whose GPUs it serves; None: none.
        toolkit: what its toolkit is called, `CUDA`, `ROCm`; None where it has no version.
        strategy: how its code is matched to a GPU.
        rank: among vendors of one machine the lowest rank wins.
    """

    kind: str
    pattern: str
    vendor: Vendor | None
    toolkit: str | None
    strategy: Strategy
    rank: int
    source: str
    confidence: Confidence


class BackendInfo(Struct, frozen=True):
    """One backend by name, `cu128` with toolkit `(12, 8)`; `toolkit` is None where it has no version.

    `retired` is the last torch release published for it, None while it lives or nobody knows.
    """

    name: str
    kind: BackendKind
    toolkit: Dotted | None
    retired: str | None = None


class Wheels(Struct, frozen=True):
    """The wheels of one package version for one backend and platform tag (`wheels.json`, or a live page).

    Attributes:
        package: normalised name.
        version: public version text, `2.9.1`.
        local: local segment in the file name; empty where it has none.
        backend: directory of the index it lies in; for origin `default` the backend it was built for.
        platform_tag: `manylinux_2_28_x86_64`, `linux_x86_64`, `win_amd64`, `macosx_14_0_arm64`, `any` …
        tags: `cp312-cp312`, `py3-none` …: python and ABI tag of each file.
        channel: `stable`, `test`, `nightly`.
        build: build tag of the file names, empty where they have none; a higher one replaces a lower one.
    """

    package: str
    version: str
    local: str
    backend: str
    platform_tag: str
    tags: frozenset[str]
    origin: Origin
    source: str
    confidence: Confidence
    channel: str = "stable"
    build: str = ""

    @property
    def full_version(self) -> str:
        """Version with its local segment, as a pin names it."""
        return f"{self.version}+{self.local}" if self.local else self.version

    def filename(self, tag: str) -> str:
        """The wheel's file name for one of its tags."""
        build = f"{self.build}-" if self.build else ""
        return f"{self.package.replace('-', '_')}-{self.full_version}-{build}{tag}-{self.platform_tag}.whl"


class Companion(Struct, frozen=True):
    """Which version of a package belongs to a torch release (`companions.json`).

    `exact`: the package itself pins torch; otherwise it merely goes with it.
    """

    torch: str
    package: str
    version: str
    exact: bool
    source: str
    confidence: Confidence


class Code(Struct, frozen=True):
    """What a build carries for GPUs (`code.json`): row of (torch minor, backend, platform).

    Attributes:
        native: SM targets as `8.9`, or gfx targets as `gfx1100`.
        ptx: PTX targets as `12.0`; None: nobody knows (treated as none, and said).
        assumed: set when no row exists for this release and a neighbour's was taken: which one.
    """

    torch: str
    backend: str
    platform: str
    native: tuple[str, ...]
    ptx: tuple[str, ...] | None
    source: str
    confidence: Confidence
    assumed: str | None = None


class CodeRule(Struct, frozen=True):
    """An exception to "code X.y runs on X.z, z >= y" (`code_rules.json`).

    `own-code-only`: the capability runs only code built for it, below toolkit `until` (None: always).
    `same-device`: the capability and `other` are one device.
    """

    rule: Literal["own-code-only", "same-device"]
    capability: str
    other: str | None
    until: Dotted | None
    source: str
    confidence: Confidence


class Floor(Struct, frozen=True):
    """The lowest driver on which a toolkit's programs start (`driver_floors.json`).

    `minor` None: the row holds for the whole major version (minor-version compatibility).
    """

    kind: str
    major: int
    minor: int | None
    linux: Dotted
    windows: Dotted
    source: str
    confidence: Confidence


class GpuService(Struct, frozen=True):
    """Which driver branches serve a compute capability (`driver_gpus.json`); None: open end."""

    capability: str
    first_branch: int | None
    last_branch: int | None
    architecture: str
    source: str
    confidence: Confidence


class GpuFact(Struct, frozen=True):
    """A product by PCI id or name (`gpus_<vendor>.json`); last resort when the driver does not answer.

    Attributes:
        pci_id: `10de:2684`; None for a row known by name only.
        code: `8.9`, `gfx1100`, or for Intel the platform (`BMG`).
        supported: Intel only: whether PyTorch's XPU builds name it as supported; None: unknown.
        integrated: None where the source does not say.
        os: operating systems on which `supported` holds; empty: on all.
    """

    vendor: Vendor
    pci_id: str | None
    name: str | None
    code: str | None
    supported: bool | None
    integrated: bool | None
    source: str
    confidence: Confidence
    os: tuple[str, ...] = ()


class Family(Struct, frozen=True):
    """A package that moves with torch (`families.json`).

    Attributes:
        package: normalised name.
        routed: it is taken from the PyTorch index; otherwise from the user's indexes.
        pairing: `table` (`companions.json` decides), `torch` (same version as torch), `free` (uv chooses).
        runtime_of: where torch itself depends on it and only the PyTorch index has it, so that it is routed
            although nobody asked: a kind of backends (`rocm` for `triton-rocm`), one backend (`rocm7.14`),
            or a kind on one channel (`cuda@nightly`).
        ended: nothing of it goes with a torch newer than those in `companions.json`.
        own_cuda: it carries its own CUDA, so that it is not tied to torch's backend (vllm, flash-attn).
    """

    package: str
    routed: bool
    pairing: Literal["table", "torch", "free"]
    runtime_of: tuple[str, ...]
    own_cuda: bool
    source: str
    confidence: Confidence
    ended: bool = False


class Advice(Struct, frozen=True):
    """An index of a vendor that serves what PyTorch's own does not (`vendor_indexes.json`).

    Attributes:
        match: `gfx1151`, or `l4t36` for a Jetson release; one row each.
        os: operating systems it serves.
        url: what `--index-base` takes.
    """

    vendor: Vendor
    match: str
    os: tuple[str, ...]
    url: str
    text: str
    source: str
    confidence: Confidence
