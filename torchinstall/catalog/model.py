"""The catalog's values: what is published, which GPU code it contains, which drivers it needs.

Each class is a row of a table in `data/` and declares its columns, in the order in which they are written.
Confidence is `high` (a real file, a measured wheel, an official command), `medium` (build matrix,
documentation) or `low` (a guess: listed so that it can be named, never chosen silently).
"""

from collections.abc import Callable, Hashable
from functools import cached_property, lru_cache
from typing import Annotated, Any, Literal, TypeVar

from msgspec import Meta, Struct, field

from torchinstall.core.machine import Machine, Vendor
from torchinstall.core.request import Channel
from torchinstall.core.versions import RANGE, Dotted

Confidence = Literal["high", "medium", "low"]

Origin = Literal["index", "default", "find-links", "vendor"]
"""Where a wheel comes from: the PyTorch index, the default index (PyPI), a folder, a vendor's own index."""

Strategy = Literal["sm", "gfx", "device", "none"]
"""How a build's code is matched to a GPU: SM/PTX targets, gfx targets, a device list, not at all."""

Text = Annotated[str, Meta(min_length=1)]
Version = Annotated[str, Meta(pattern=r"^\d+(\.\d+)*$", description="a dotted version")]
Capability = Annotated[str, Meta(pattern=r"^\d+\.\d+$", description="two numbers, such as 8.9")]
Range = Annotated[str, Meta(pattern=rf"^{RANGE}$", description="a range such as >=2.12,<2.14; empty: any")]
PciId = Annotated[str, Meta(pattern=r"^[0-9a-f]{4}:[0-9a-f]{4}$")]
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]


T = TypeVar("T")


class Memo(Struct, frozen=True, dict=True):
    """A value that never changes, with what was derived from it so far."""

    @cached_property
    def memo(self) -> dict[Hashable, Any]:
        """Answers by question."""
        return {}

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What `make` answers, kept in `memo`."""
        if key not in self.memo:
            self.memo[key] = make()
        answer: T = self.memo[key]
        return answer


class Row(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, kw_only=True):
    """A row of a table; one that lacks a column without a default, or has an unknown one, is refused."""

    confidence: Confidence
    source: str


class BackendKind(Row, frozen=True):
    """A line of backends (`backend_kinds.json`); a backend's toolkit version follows from its name.

    `pattern` matches names, with the groups `major`, `minor`, `patch`; `vendor` is whose GPUs it serves;
    `toolkit` what its toolkit is called (`CUDA`), None where it has no version; among the vendors of one
    machine the lowest `rank` wins.
    """

    kind: Text
    pattern: str
    vendor: Vendor | None
    toolkit: Text | None
    strategy: Strategy
    rank: int


class BackendInfo(Struct, frozen=True):
    """One backend by name, `cu128` with toolkit `(12, 8)`; `toolkit` is None where it has no version.

    `retired` is the last torch release published for it, None while it lives or nobody knows.
    """

    name: str
    kind: BackendKind
    toolkit: Dotted | None
    retired: str | None = None


class Backend(Row, frozen=True):
    """The last torch release published for a backend, None while it lives (`backends.json`)."""

    backend: Text
    retired: Version | None


class Wheels(Row, frozen=True, gc=False):
    """The wheels of one package version for one backend and platform tag (`wheels.json`, or a live page).

    Attributes:
        version: without its local segment, which is `local`.
        backend: directory of the index that holds it; for origin `default` the backend it was built for.
        tag_list: `cp312-cp312 py3-none`: python and ABI tag of each file, with a space between.
        build: build tag of the file names; a higher one replaces a lower one.
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


class Code(Row, frozen=True):
    """What a build contains for GPUs (`code.json`): row of (torch minor, backend, platform).

    `native` are SM targets (`8.9`) or gfx targets, `ptx` PTX targets (None: nobody knows; treated as none,
    and said). `assumed` names the neighbour whose row was taken where this release has none.
    """

    torch: Capability
    backend: Text
    platform: Text
    native: Annotated[tuple[Text, ...], Meta(min_length=1)]
    ptx: tuple[Text, ...] | None
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


class Floor(Row, frozen=True):
    """The lowest driver on which a toolkit's programs start (`driver_floors.json`).

    `minor` None: the row holds for the whole major version (minor-version compatibility).
    """

    kind: Text
    major: int
    minor: int | None
    linux: Version
    windows: Version

    def driver(self, machine: Machine) -> str:
        """For a machine; WSL runs on the Windows driver."""
        return self.windows if machine.os == "windows" or "wsl2" in machine.environment else self.linux


class DriverBranch(Row, frozen=True):
    """The newest CUDA that an NVIDIA driver branch speaks (`driver_branches.json`)."""

    branch: int
    cuda: Version


class GpuService(Row, frozen=True):
    """Which driver branches serve a compute capability (`driver_gpus.json`); None: open end."""

    capability: Capability
    first_branch: int | None
    last_branch: int | None
    architecture: Text


class Limit(Row, frozen=True):
    """What builds cannot do although they have code for the GPU (`limits.json`).

    A row holds where all its conditions (`torch` to `names`) do; an empty one always does. Texts may name
    `{gpu}`, `{code}`, `{build}`, `{backend}` and what else `planner/coverage.py` offers.

    Attributes:
        severity: `blocks`: the build does not compute; `degrades`: only `effect` fails or is slow.
        effect: what fails: `gemm`, `import`, `compile`, `attention` …
        message: what does not work and why, a clause that follows the build's name.
        environment: marks of the machine, `wsl2`, all of them.
        pci: beginnings of PCI ids.
        kernel: ranges of Linux kernels (`>=6.18.4`), each with a word that the name contains (or empty).
        cuda: the driver's CUDA version.
        cpu_lacks: CPU features, of which at least one is missing.
        names: it is no limit where one of these packages is asked for; in no version that is named with it
            (`numpy>=2`).
        mendable: `workaround` says how to make it work, so no other build is looked for.
        avoid: another build that serves the same GPUs comes before it.
    """

    number: Text = field(name="id")
    slug: Text
    severity: Literal["blocks", "degrades"]
    effect: Text
    message: Text
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
    wanted: str = ""
    found: str = ""
    workaround: str = ""


class GpuFact(Row, frozen=True, gc=False):
    """A product by PCI id or name (`gpus_<vendor>.json`); last resort when the driver does not answer.

    `code` is `8.9`, `gfx1100`, or for Intel the platform (`BMG`). `supported`, for Intel: whether PyTorch's
    XPU builds name it as supported, on each system of `os` (empty: on all). None: unknown.
    """

    pci_id: PciId | None
    name: Text | None
    code: Text | None
    supported: bool | None = None
    integrated: bool | None = None
    os: tuple[Text, ...] = ()


class Family(Row, frozen=True):
    """A package that moves with torch (`families.json`).

    Attributes:
        routed: it is taken from the PyTorch index; otherwise from the user's indexes.
        pairing: `table` (`companions.json` decides), `torch` (same version as torch), `free` (uv chooses).
        runtime_of: where torch itself depends on it and only the PyTorch index has it, so that it is routed
            although nobody asked: a kind of backends (`rocm` for `triton-rocm`), one backend (`rocm7.14`),
            or a kind on one channel (`cuda@nightly`).
        own_cuda: it carries its own CUDA, so that it is not tied to torch's backend (vllm, flash-attn).
        index_first: where the PyTorch index has it for the backend it is taken from there, else from the
            user's indexes.
        pypi_backends: that PyPI's Linux files of such a package have code for (`cu13*`); empty: all.
        provides: the package in whose place torch brings it (`triton`); both would write the same files.
        ended: nothing of it goes with a torch newer than those in `companions.json`.
    """

    package: Text
    routed: bool
    pairing: Literal["table", "torch", "free"]
    runtime_of: tuple[Text, ...]
    own_cuda: bool
    provides: str = ""
    ended: bool = False
    index_first: bool = False
    pypi_backends: tuple[Text, ...] = ()

    @property
    def routed_when_asked(self) -> bool:
        """Whether it comes from the PyTorch index because somebody asks for it, not because torch does."""
        return self.routed and not self.runtime_of

    @property
    def follows_torch(self) -> bool:
        """Whether another torch needs another version of it; what torch itself asks for, uv changes."""
        return self.pairing != "free" and not self.runtime_of and (self.routed or self.ended)


class WheelHash(Row, frozen=True):
    """The sha256 of a wheel on the stable index, or on PyPI where `backend` is empty (`hashes.json`)."""

    backend: str
    file: Text
    sha256: Sha256


class Advice(Row, frozen=True):
    """An index of a vendor that serves what PyTorch's own does not (`vendor_indexes.json`).

    Attributes:
        match: `gfx1151`, or `l4t36` for a Jetson release; one row each.
        layout: where the page of a package is: `{url}/{backend}/{package}/` (as PyTorch's own), `flat`
            (`{url}/{package}/`), or `links` (the URL itself is one page with every file).
        backend: that its builds are for where their local version does not say; None: it always does.
        extras: by package, the extra that brings the code for a GPU; `{gpu}` stands for `match`.
        packages: what torch depends on there and only this index has.
    """

    vendor: Vendor
    match: Text
    os: tuple[Text, ...]
    url: Text
    layout: Literal["backend", "flat", "links"]
    backend: str | None
    extras: dict[str, str]
    packages: tuple[Text, ...]
    text: Text

    @property
    def template(self) -> str:
        """The URL as `index.urls` takes it for this layout."""
        base = self.url.rstrip("/")
        return {"backend": base, "flat": f"{base}/{{package}}", "links": f"{base}/#links"}[self.layout]

    def runtime(self) -> tuple[str, ...]:
        """The packages that torch depends on, for this GPU."""
        return tuple(name.replace("{gpu}", self.match) for name in self.packages)
