"""Intel: display devices on the bus, their kernel driver, and the Level Zero libraries that torch loads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from torchinstall.core.machine import Driver, Finding, Gpu
from torchinstall.probe import bus
from torchinstall.probe.host import container_engine, group_hint, joinable_group
from torchinstall.probe.system import Fact, System, finding, version_number

__all__ = ["probe_intel"]

_KERNEL_DRIVERS = ("i915", "xe")
_LOADER, _GPU_LIBRARY = "libze_loader.so.1", ("libze_intel_gpu.so.1", "libze_intel_gpu_legacy1.so.1")
_ROOT_BUS_SLOT = "0000:00:02.0"
"""Intel's integrated GPUs sit in this slot on every platform; a discrete one is behind a bridge."""

_intel = partial(finding, "intel")


def probe_intel(system: System) -> Iterator[Fact]:
    """Yield Intel's GPUs and findings; whether torch supports a GPU is for the catalog to say."""
    if system.platform == "darwin":
        return
    if system.platform == "win32":
        yield from _windows(system)
        return
    devices = bus.displays(system, "intel")
    if not devices:
        yield _intel("absent", None, "no Intel GPU", "PCI bus")
        return
    served = [device for device in devices if _served(device.pci_id)]
    fault = _out_of_reach(system, served) if served else None
    for index, device in enumerate(devices):
        if fault is None or device not in served:
            integrated = _integrated(device.address)
            yield Gpu(vendor="intel", index=index, pci_id=device.pci_id, integrated=integrated, source="pci")
    if not served:
        yield _unsupported(devices[0].pci_id, "PCI bus")
    elif fault is not None:
        yield fault
    else:
        names = sorted({device.driver or "none" for device in served})
        yield Driver(vendor="intel", source=f"kernel driver {', '.join(names)}")
        yield _level_zero(system)


def _served(pci_id: str) -> bool:
    """Whether the catalog does not rule it out: an id that it does not know may be a new one."""
    fact = bus.product("intel", pci_id)
    return fact is None or fact.supported is not False


def _unsupported(pci_id: str, source: str) -> Finding:
    detail = f"torch's XPU builds do not support the Intel GPU {pci_id}"
    return _intel("absent", "gpu-not-supported-by-xpu", detail, f"{source}, table of Intel GPUs")


def _integrated(address: str) -> bool | None:
    if address == _ROOT_BUS_SLOT:
        return True
    return None if address.startswith("0000:00:") else False


def _out_of_reach(system: System, served: Sequence[bus.PciDevice]) -> Finding | None:
    what = bus.placed(served)
    if all(device.driver not in _KERNEL_DRIVERS for device in served):
        holder = next((device.driver for device in served if device.driver), None)
        detail = f"no i915 or xe driver for {what}" + (f" ({holder} uses it)" if holder else "")
        hint = "boot a newer kernel (Arc B needs Linux 6.12 or later) with linux-firmware"
        return _intel("broken", "driver-missing", detail, "PCI bus", hint)
    renders = [f"/dev/dri/{name}" for name in system.listdir("/dev/dri") if name.startswith("renderD")]
    if not renders:
        hint = "sudo modprobe xe (or i915)"
        if container_engine(system):
            hint = "start the container with its GPUs: docker run --device /dev/dri"
        detail = f"{what} is on the bus, but /dev/dri/renderD* does not exist"
        return _intel("broken", "no-device-node", detail, "/dev/dri", hint)
    if any(system.access(path) for path in renders):
        return None
    detail = f"{what} is present, but this user may not open {renders[0]}"
    hint = group_hint(system, [joinable_group(system, renders[0]) or "render"])
    return _intel("denied", "render-permission", detail, renders[0], hint)


def _level_zero(system: System) -> Finding:
    """The wheels bring SYCL, but neither the loader nor the GPU's library."""
    missing = [
        package
        for package, names in (("libze1", (_LOADER,)), ("libze-intel-gpu1", _GPU_LIBRARY))
        if system.library(*names) is None
    ]
    if not missing:
        return _intel("found", None, "Level Zero is installed", _LOADER)
    detail = "Intel's compute runtime (Level Zero) is incomplete, so torch would find no XPU"
    hint = f"sudo apt install {' '.join(missing)} (elsewhere: level-zero, intel-level-zero-gpu)"
    return _intel("broken", "level-zero-missing", detail, f"{_LOADER}, {_GPU_LIBRARY[0]}", hint)


def _windows(system: System) -> Iterator[Fact]:
    adapters = bus.display_adapters(system, "intel")
    if not adapters:
        yield _intel("absent", None, "no Intel display adapter", "display adapters")
        return
    yield from bus.adapter_gpus("intel", adapters)
    own = [adapter for adapter in adapters if not adapter.basic]
    if own:
        yield Driver(vendor="intel", version=version_number(own[0].driver_version), source="display-adapter")
    if not any(_served(adapter.pci_id) for adapter in adapters):
        yield _unsupported(adapters[0].pci_id, "display adapters")
    elif system.library("ze_loader.dll") is None:
        detail = "Intel's compute runtime (Level Zero) is not installed, so torch would find no XPU"
        hint = "install Intel's current Arc & Iris Xe Graphics driver"
        yield _intel("broken", "level-zero-missing", detail, "System32/ze_loader.dll", hint)
