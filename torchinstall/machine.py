"""What a machine is: the values that the probe produces and the planner reads. No I/O."""

from __future__ import annotations

import dataclasses
from functools import lru_cache
from typing import Literal

from torchinstall.values import dataclass

__all__ = [
    "Capability",
    "Driver",
    "Finding",
    "Gpu",
    "Libc",
    "Machine",
    "Os",
    "Status",
    "Vendor",
    "capability",
    "capability_text",
]


Os = Literal["linux", "windows", "macos"]
Vendor = Literal["nvidia", "amd", "intel", "apple"]
Status = Literal["found", "absent", "denied", "broken", "overridden"]

Capability = tuple[int, int]
"""A CUDA compute capability, `(8, 9)` for text `8.9`; never a float."""


@lru_cache(maxsize=256)
def capability(text: str) -> Capability:
    """Parse `8.9`.

    Raises:
        ValueError: not two integers with a dot between them.
    """
    major, dot, minor = text.partition(".")
    if not (dot and major.isdigit() and minor.isdigit()):
        raise ValueError(f"not a compute capability: {text!r}")
    return int(major), int(minor)


def capability_text(value: Capability) -> str:
    """`(8, 9)` as `8.9`."""
    return f"{value[0]}.{value[1]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Libc:
    """The C library of a Linux machine; wheels name the lowest glibc they run on."""

    family: Literal["glibc", "musl"]
    version: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    """A GPU driver. `cuda_version` is the newest CUDA it speaks; `rocm_version` is the ROCm userland."""

    vendor: Vendor
    version: str | None = None
    cuda_version: str | None = None
    rocm_version: str | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU. Everything but the vendor may be unknown (None); unknown is not absent.

    Attributes:
        index: position among the GPUs of its vendor.
        compute_capability: NVIDIA only.
        gfx_target: AMD only, `gfx1100`.
        pci_id: `vendor:device` in lower-case hex, `10de:2684`.
        integrated: whether it shares the processor's memory; None where nobody said.
        source: how this was learnt: `nvml`, `kfd`, `pci`, `--target-gpu` …
    """

    vendor: Vendor
    index: int | None = None
    name: str | None = None
    compute_capability: Capability | None = None
    gfx_target: str | None = None
    memory_bytes: int | None = None
    pci_id: str | None = None
    uuid: str | None = None
    integrated: bool | None = None
    source: str | None = None

    @property
    def label(self) -> str:
        """What to call it in a sentence."""
        if self.name:
            return self.name
        code = capability_text(self.compute_capability) if self.compute_capability else self.gfx_target
        return f"{self.vendor} GPU {code or self.pci_id or ''}".strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one probe has to say.

    Attributes:
        probe: `nvidia`, `amd`, `intel`, `apple`, `host` …
        status: absent is not broken; denied and broken mean hardware may be there and cannot be read.
        detail: one sentence for a person.
        source: which file, library or command said so.
        slug: stable name of a fault (`driver-library-mismatch`), None for plain news.
        hint: what to type to mend it.
    """

    probe: str
    status: Status
    detail: str
    source: str | None = None
    slug: str | None = None
    hint: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A machine as the probe saw it, or as a machine file describes it.

    Attributes:
        os_version: distribution version, Windows build, macOS product version.
        arch: of the machine, `x86_64` or `aarch64` (Apple Silicon and Windows on ARM are `aarch64`).
        libc: None where it has no meaning.
        environment: any of `wsl2`, `container`, `ci`, `jetson` and what later probes add.
        rosetta: an x86-64 Python runs on Apple Silicon.
        l4t: Jetson Linux release, `36.4.3`.
    """

    os: Os
    arch: str
    os_version: str | None = None
    libc: Libc | None = None
    environment: tuple[str, ...] = ()
    memory_bytes: int | None = None
    drivers: tuple[Driver, ...] = ()
    gpus: tuple[Gpu, ...] = ()
    findings: tuple[Finding, ...] = ()
    rosetta: bool = False
    l4t: str | None = None

    def driver(self, vendor: str) -> Driver | None:
        """The driver of that vendor, or None."""
        return next((driver for driver in self.drivers if driver.vendor == vendor), None)

    def anonymous(self) -> Machine:
        """The same machine without anything that names it (UUIDs)."""
        return dataclasses.replace(self, gpus=tuple(dataclasses.replace(gpu, uuid=None) for gpu in self.gpus))
