"""Machines, targets and requests for planner tests, with the shipped catalog."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from torchinstall.catalog.catalog import load_catalog
from torchinstall.core.machine import Driver, Gpu, Libc, Machine, capability
from torchinstall.core.request import Request, requirement
from torchinstall.core.target import foreign_target
from torchinstall.planner.selection import plan

if TYPE_CHECKING:
    from torchinstall.catalog.catalog import Catalog
    from torchinstall.core.plan import Candidate, Plan

GIB = 2**30


@lru_cache(maxsize=1)
def shipped() -> Catalog:
    """The shipped catalog, loaded once: it never changes."""
    return load_catalog()


def nvidia(name: str, code: str, index: int = 0, **more: Any) -> Gpu:
    """An NVIDIA GPU as NVML would describe it."""
    more.setdefault("integrated", False)
    return Gpu(
        vendor="nvidia",
        index=index,
        name=name,
        compute_capability=capability(code),
        memory_bytes=16 * GIB,
        source="nvml",
        **more,
    )


def amd(gfx: str, index: int = 0, *, integrated: bool = False) -> Gpu:
    """An AMD GPU as KFD would describe it."""
    return Gpu(vendor="amd", index=index, gfx_target=gfx, integrated=integrated, source="kfd")


def intel(pci_id: str, *, integrated: bool) -> Gpu:
    """An Intel GPU as the PCI bus would describe it."""
    return Gpu(vendor="intel", index=0, pci_id=pci_id, integrated=integrated, source="pci")


def linux(
    *gpus: Gpu, driver: str | None = None, glibc: str = "2.39", arch: str = "x86_64", **more: Any
) -> Machine:
    """A Linux machine; `driver` is the NVIDIA driver version."""
    drivers = (Driver(vendor="nvidia", version=driver, source="nvml"),) if driver else ()
    return Machine(
        os="linux",
        os_version="24.04",
        arch=arch,
        libc=Libc(family="glibc", version=glibc),
        gpus=gpus,
        drivers=drivers,
        **more,
    )


def windows(*gpus: Gpu, driver: str | None = None, arch: str = "x86_64") -> Machine:
    """A Windows machine."""
    drivers = (Driver(vendor="nvidia", version=driver, source="nvml"),) if driver else ()
    return Machine(os="windows", os_version="10.0.26100", arch=arch, gpus=gpus, drivers=drivers)


def mac(version: str = "14.5", arch: str = "aarch64", *, rosetta: bool = False) -> Machine:
    """A Mac; Apple Silicon has its GPU."""
    gpus = (Gpu(vendor="apple", index=0, name="Apple M3", integrated=True, source="sysctl"),)
    return Machine(
        os="macos", os_version=version, arch=arch, gpus=gpus if arch == "aarch64" else (), rosetta=rosetta
    )


def decide(machine: Machine, *requirements: str, python: str = "3.12", **request: Any) -> Plan:
    """Plan for a machine described in values; without requirements for `torch torchvision`."""
    wanted = tuple(requirement(text) for text in requirements or ("torch", "torchvision"))
    return plan(Request(requirements=wanted, **request), machine, foreign_target(machine, python), shipped())


def rejection(plan: Plan, backend: str, torch: str | None = None) -> Candidate:
    """The newest rejected candidate of a backend (or that of one release)."""
    for item in plan.candidates:
        if item.backend == backend and torch in (None, item.torch) and item.verdict == "rejected":
            return item
    raise AssertionError(f"no rejected candidate of {backend}")
