"""Intel: display devices on the bus, their kernel driver, and the Level Zero libraries that torch loads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torchinstall.core.machine import Driver, Finding, Gpu
from torchinstall.probe import pci, tables
from torchinstall.probe.adapters import display_adapters
from torchinstall.probe.facts import Fact, version_number
from torchinstall.probe.host import engine, joinable_group
from torchinstall.probe.system import System

__all__ = ["probe_intel"]

_KERNEL_DRIVERS = ("i915", "xe")
_LOADER, _GPU_LIBRARY = "libze_loader.so.1", ("libze_intel_gpu.so.1", "libze_intel_gpu_legacy1.so.1")
_ROOT_BUS_SLOT = "0000:00:02.0"
"""Intel's integrated GPUs sit in this slot on every platform; a discrete one is behind a bridge."""


def probe_intel(system: System) -> Iterator[Fact]:
    """Yield Intel's GPUs and findings; whether torch serves a GPU is the catalog's to say."""
    if system.platform == "darwin":
        return
    if system.platform == "win32":
        yield from _windows(system)
        return
    bus = pci.displays(system, pci.INTEL)
    if not bus:
        yield Finding(probe="intel", status="absent", detail="no Intel GPU", source="PCI bus")
        return
    served = [device for device in bus if _served(device.pci_id)]
    fault = _out_of_reach(system, served)
    for place, device in enumerate(bus):
        if fault is not None and device in served:
            continue
        yield Gpu(
            vendor="intel",
            index=place,
            pci_id=device.pci_id,
            integrated=_integrated(device.address),
            source="pci",
        )
    if not served:
        yield Finding(
            probe="intel",
            status="absent",
            slug="gpu-not-supported-by-xpu",
            detail=f"{bus[0].pci_id} is not among the GPUs that torch's XPU builds support",
            source="PCI bus, table of Intel GPUs",
        )
    elif fault is not None:
        yield fault
    else:
        names = sorted({device.driver or "none" for device in served})
        yield Driver(vendor="intel", source=f"kernel driver {', '.join(names)}")
        yield from _level_zero(system)


def _served(pci_id: str) -> bool:
    """Whether the catalog does not rule it out: an id that it does not know may be a new one."""
    fact = tables.product("intel", pci_id)
    return fact is None or fact.supported is not False


def _integrated(address: str) -> bool | None:
    if address == _ROOT_BUS_SLOT:
        return True
    return None if address.startswith("0000:00:") else False


def _out_of_reach(system: System, served: Sequence[pci.PciDevice]) -> Finding | None:
    if not served:
        return None
    where = ", ".join(f"{device.pci_id} at {device.address}" for device in served)
    if all(device.driver not in _KERNEL_DRIVERS for device in served):
        held = next((device.driver for device in served if device.driver), None)
        return Finding(
            probe="intel",
            status="broken",
            slug="driver-missing",
            detail=f"no i915 or xe driver for {where}" + (f" (held by {held})" if held else ""),
            source="PCI bus",
            hint="boot a newer kernel (Arc B needs Linux 6.12 or later) with linux-firmware",
        )
    renders = [f"/dev/dri/{name}" for name in system.listdir("/dev/dri") if name.startswith("renderD")]
    if not renders:
        inside = "start the container with its GPUs: docker run --device /dev/dri"
        return Finding(
            probe="intel",
            status="broken",
            slug="no-device-node",
            detail=f"{where} is on the bus, but /dev/dri/renderD* is not here",
            source="/dev/dri",
            hint=inside if engine(system) else "sudo modprobe xe (or i915)",
        )
    if any(system.access(path) for path in renders):
        return None
    name = joinable_group(system, renders[0]) or "render"
    way = f"start the container with --group-add {name}"
    return Finding(
        probe="intel",
        status="denied",
        slug="render-permission",
        detail=f"{where} is there, but this user may not open {renders[0]}",
        source=renders[0],
        hint=way if engine(system) else f"sudo usermod -aG {name} $USER, then log in again",
    )


def _level_zero(system: System) -> Iterator[Finding]:
    """The wheels bring SYCL, but neither the loader nor the GPU's library."""
    missing = [
        package
        for package, path in (
            ("libze1", system.library(_LOADER)),
            ("libze-intel-gpu1", system.library(*_GPU_LIBRARY)),
        )
        if path is None
    ]
    if missing:
        yield Finding(
            probe="intel",
            status="broken",
            slug="level-zero-missing",
            detail="Intel's compute runtime (Level Zero) is not complete, so torch would count no XPU",
            source=f"{_LOADER}, {_GPU_LIBRARY[0]}",
            hint=f"sudo apt install {' '.join(missing)} (elsewhere: level-zero, intel-level-zero-gpu)",
        )
    else:
        yield Finding(probe="intel", status="found", detail="Level Zero is installed", source=_LOADER)


def _windows(system: System) -> Iterator[Fact]:
    adapters = display_adapters(system, pci.INTEL)
    if not adapters:
        yield Finding(
            probe="intel", status="absent", detail="no Intel display adapter", source="display adapters"
        )
        return
    for place, adapter in enumerate(adapters):
        yield Gpu(
            vendor="intel",
            index=place,
            name=None if adapter.basic else adapter.name,
            pci_id=adapter.pci_id,
            source="display-adapter",
        )
    driven = [adapter for adapter in adapters if not adapter.basic]
    if driven:
        yield Driver(
            vendor="intel", version=version_number(driven[0].driver_version), source="display-adapter"
        )
    if not any(_served(adapter.pci_id) for adapter in adapters):
        yield Finding(
            probe="intel",
            status="absent",
            slug="gpu-not-supported-by-xpu",
            detail=f"{adapters[0].pci_id} is not among the GPUs that torch's XPU builds support",
            source="display adapters, table of Intel GPUs",
        )
    elif system.library("ze_loader.dll") is None:
        yield Finding(
            probe="intel",
            status="broken",
            slug="level-zero-missing",
            detail="Intel's compute runtime (Level Zero) is not installed, so torch would count no XPU",
            source="System32/ze_loader.dll",
            hint="install Intel's current Arc & Iris Xe Graphics driver",
        )
