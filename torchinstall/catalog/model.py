"""The catalog's values: what is published, which GPU code it contains, which drivers it needs.

Each class is a row of a table in `data/` and declares its columns, in the order in which they are written.
Confidence is `high` (a real file, a measured wheel, an official command), `medium` (build matrix,
documentation) or `low` (a guess: listed so that it can be named, never chosen silently).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from torchinstall.catalog.row import Confidence, Row, Text
from torchinstall.catalog.stack import CompanionBuild, Grammar, Place
from torchinstall.catalog.vendor_index import Advice
from torchinstall.core.machine import Vendor
from torchinstall.core.request import Channel
from torchinstall.core.versions import RANGE, Dotted

Origin = Literal["index", "default", "find-links", "vendor"]
"""Where a wheel comes from: the PyTorch index, the default index (PyPI), a folder, a vendor's own index."""

Strategy = Literal["sm", "gfx", "device", "none"]
"""How a build's code is matched to a GPU: SM/PTX targets, gfx targets, a device list, not at all."""

Version = Annotated[str, Meta(pattern=r"^\d+(\.\d+)*$", description="a dotted version")]
Capability = Annotated[str, Meta(pattern=r"^\d+\.\d+$", description="two numbers, such as 8.9")]
Range = Annotated[str, Meta(pattern=rf"^{RANGE}$", description="a range such as >=2.12,<2.14; empty: any")]
PciId = Annotated[str, Meta(pattern=r"^[0-9a-f]{4}:[0-9a-f]{4}$")]
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]


class BackendKind(Row, frozen=True):
    """A line of backends (`backend_kinds.json`); a backend's toolkit version follows from its name.

    Attributes:
        pattern: regular expression for backend names with groups `major`, `minor`, `patch`.
        vendor: whose GPUs it serves; None: none.
        toolkit: what its toolkit is called, `CUDA`, `ROCm`; None where it has no version.
        strategy: how its code is matched to a GPU.
        rank: among vendors of one machine the lowest rank wins.
    """

    kind: Text
    pattern: str
    vendor: Vendor | None
    toolkit: Text | None
    strategy: Strategy
    rank: int
    confidence: Confidence
    source: str

    def __post_init__(self) -> None:
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise ValueError(f"pattern is not a regular expression: {error}") from error


class BackendInfo(Struct, frozen=True):
    """One backend by name, `cu128` with toolkit `(12, 8)`; `toolkit` is None where it has no version.

    `retired` is the last torch release published for it, None while it lives or nobody knows.
    """

    name: str
    kind: BackendKind
    toolkit: Dotted | None
    retired: str | None = None


class Backend(Row, frozen=True):
    """The first and the last torch release published for a backend (`backends.json`)."""

    backend: Text
    first: Version
    retired: Version | None
    confidence: Confidence
    source: str


class Wheels(Row, frozen=True, kw_only=True, gc=False):
    """The wheels of one package version for one backend and platform tag (`wheels.json`, or a live page).

    Attributes:
        package: normalised name.
        version: public version text, `2.9.1`.
        local: local segment in the file name; empty where it has none.
        backend: directory of the index that holds it; for origin `default` the backend it was built for.
        platform_tag: `manylinux_2_28_x86_64`, `linux_x86_64`, `win_amd64`, `macosx_14_0_arm64`, `any` …
        tag_list: `cp312-cp312 py3-none`: python and ABI tag of each file, with a space between.
        channel: `stable`, `test`, `nightly`.
        build: build tag of the file names, empty where they have none; a higher one replaces a lower one.
        variant: label of a wheel variant (PEP 825), empty for an ordinary wheel.
    """

    package: Text
    version: Text
    local: str
    backend: str
    platform_tag: Text
    tag_list: Text = field(name="tags")
    origin: Origin
    channel: Channel = "stable"
    build: str = ""
    variant: str = ""
    confidence: Confidence
    source: str

    @property
    def tags(self) -> frozenset[str]:
        """Python and ABI tag of each file: `cp312-cp312`, `py3-none`."""
        return _split(self.tag_list)

    @property
    def full_version(self) -> str:
        """Version with its local segment, as a pin names it."""
        return f"{self.version}+{self.local}" if self.local else self.version

    def filename(self, tag: str) -> str:
        """The wheel's file name for one of its tags."""
        build = f"{self.build}-" if self.build else ""
        label = f"-{self.variant}" if self.variant else ""
        name = f"{self.package.replace('-', '_')}-{self.full_version}-{build}{tag}-{self.platform_tag}"
        return f"{name}{label}.whl"


@lru_cache(maxsize=1024)
def _split(tag_list: str) -> frozenset[str]:
    return frozenset(tag_list.split(" "))


class Companion(Row, frozen=True):
    """Which version of a package belongs to a torch release (`companions.json`).

    `exact`: the package itself pins torch; otherwise it merely goes with it.
    """

    torch: Version
    package: Text
    version: Text
    exact: bool
    confidence: Confidence
    source: str


class Code(Row, frozen=True):
    """What a build contains for GPUs (`code.json`): row of (torch minor, backend, platform).

    Attributes:
        native: SM targets as `8.9`, or gfx targets as `gfx1100`.
        ptx: PTX targets as `12.0`; None: nobody knows (treated as none, and said).
        assumed: set when no row exists for this release and a neighbour's was taken: which one.
    """

    torch: Capability
    backend: Text
    platform: Text
    native: Annotated[tuple[Text, ...], Meta(min_length=1)]
    ptx: tuple[Text, ...] | None
    confidence: Confidence
    source: str
    assumed: str | None = None


class CodeRule(Row, frozen=True):
    """An exception to "code X.y runs on X.z, z >= y" (`code_rules.json`).

    `own-code-only`: the capability runs only code built for it, below toolkit `until` (None: always).
    `same-device`: the capability and `other` are one device.
    """

    rule: Literal["own-code-only", "same-device"]
    capability: Capability
    other: Capability | None
    until: Version | None
    confidence: Confidence
    source: str


class Floor(Row, frozen=True):
    """The lowest driver on which a toolkit's programs start (`driver_floors.json`).

    `minor` None: the row holds for the whole major version (minor-version compatibility).
    """

    kind: Text
    major: int
    minor: int | None
    linux: Version
    windows: Version
    confidence: Confidence
    source: str


class DriverBranch(Row, frozen=True):
    """The newest CUDA that an NVIDIA driver branch speaks (`driver_branches.json`)."""

    branch: int
    cuda: Version
    confidence: Confidence
    source: str


class GpuService(Row, frozen=True):
    """Which driver branches serve a compute capability (`driver_gpus.json`); None: open end."""

    capability: Capability
    first_branch: int | None
    last_branch: int | None
    architecture: Text
    confidence: Confidence
    source: str


class Limit(Row, frozen=True, kw_only=True):
    """What builds cannot do although they have code for the GPU (`limits.json`).

    A row holds where all its conditions do; an empty one always does. Texts may name `{gpu}`, `{code}`,
    `{build}`, `{backend}` and what else `planner/limits.py` offers.

    Attributes:
        number: of the row.
        severity: `blocks`: the build does not compute; `degrades`: only `effect` fails or is slow.
        torch: releases.
        kind: of backends.
        toolkit: versions of the backend's toolkit.
        os: operating systems of the target; `arch`: its architectures.
        environment: marks of the machine, `wsl2`, all of them.
        gfx: gfx targets.
        except_gfx: or every gfx target but these.
        sm: compute capabilities.
        pci: beginnings of PCI ids.
        kernel: ranges of Linux kernels (`>=6.18.4`), each with a word that the name contains (or empty).
        cuda: the driver's CUDA version.
        cpu_lacks: CPU features, of which at least one is missing.
        names: it is no limit where one of these packages is asked for.
        mendable: what fails can be made to work (`way` says how), so that no other build is looked for.
        avoid: another build that serves the same GPUs comes before it.
        effect: what fails: `gemm`, `import`, `compile`, `attention` …
        wanted: what is needed, for a build that is rejected.
        found: what is there instead.
        message: what does not work and why, a clause that follows the build's name.
        way: what to do about it.
    """

    number: Text = field(name="id")
    slug: Text
    severity: Literal["blocks", "degrades"]
    torch: Range = ""
    kind: str = ""
    toolkit: Range = ""
    os: tuple[Text, ...] = ()
    arch: tuple[Text, ...] = ()
    environment: tuple[Text, ...] = ()
    gfx: tuple[Text, ...] = ()
    except_gfx: tuple[Text, ...] = ()
    sm: Range = ""
    pci: tuple[Text, ...] = ()
    kernel: tuple[tuple[Range, str], ...] = ()
    cuda: Range = ""
    cpu_lacks: tuple[Text, ...] = ()
    names: tuple[Text, ...] = ()
    mendable: bool = False
    avoid: bool = False
    effect: Text
    wanted: str = ""
    found: str = ""
    message: Text
    way: str = ""
    confidence: Confidence
    source: str


class GpuFact(Row, frozen=True, kw_only=True, gc=False):
    """A product by PCI id or name (`gpus_<vendor>.json`); last resort when the driver does not answer.

    Attributes:
        pci_id: `10de:2684`; None for a row known by name only.
        code: `8.9`, `gfx1100`, or for Intel the platform (`BMG`).
        supported: Intel only: whether PyTorch's XPU builds name it as supported; None: unknown.
        integrated: None where the source does not say.
        os: operating systems on which `supported` holds; empty: on all.
    """

    pci_id: PciId | None
    name: Text | None
    code: Text | None
    supported: bool | None = None
    integrated: bool | None = None
    os: tuple[Text, ...] = ()
    confidence: Confidence
    source: str


class Family(Row, frozen=True, kw_only=True):
    """A package that moves with torch (`families.json`).

    Attributes:
        package: normalised name.
        routed: it is taken from the PyTorch index; otherwise from the user's indexes.
        pairing: `table` (`companions.json` decides), `torch` (same version as torch), `free` (uv chooses).
        runtime_of: where torch itself depends on it and only the PyTorch index has it, so that it is routed
            although nobody asked: a kind of backends (`rocm` for `triton-rocm`), one backend (`rocm7.14`),
            or a kind on one channel (`cuda@nightly`).
        own_cuda: it carries its own CUDA, so that it is not tied to torch's backend (vllm, flash-attn).
        index_first: where the PyTorch index has it for the backend it is taken from there, else from the
            user's indexes.
        ended: nothing of it goes with a torch newer than those in `companions.json`.
    """

    package: Text
    routed: bool
    pairing: Literal["table", "torch", "free"]
    runtime_of: tuple[Text, ...]
    own_cuda: bool
    ended: bool = False
    index_first: bool = False
    confidence: Confidence
    source: str


class WheelHash(Row, frozen=True):
    """The sha256 of a wheel on the stable index, or on PyPI where `backend` is empty (`hashes.json`)."""

    backend: str
    file: Text
    sha256: Sha256
    confidence: Confidence
    source: str


TABLES: dict[str, type[Row]] = {
    "backend_kinds.json": BackendKind,
    "backends.json": Backend,
    "wheels.json": Wheels,
    "companions.json": Companion,
    "code.json": Code,
    "code_rules.json": CodeRule,
    "driver_floors.json": Floor,
    "driver_branches.json": DriverBranch,
    "driver_gpus.json": GpuService,
    "limits.json": Limit,
    "vendor_indexes.json": Advice,
    "families.json": Family,
    "hashes.json": WheelHash,
    "gpus_nvidia.json": GpuFact,
    "gpus_amd.json": GpuFact,
    "gpus_intel.json": GpuFact,
    "companion_builds.json": CompanionBuild,
    "places.json": Place,
    "grammars.json": Grammar,
}
"""The tables of the catalog by file name, and what a row of each one is."""
