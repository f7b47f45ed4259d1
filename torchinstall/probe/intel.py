"""Intel: display devices on the bus, their kernel driver, and the Level Zero libraries that torch loads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from torchinstall.core.machine import Driver, Finding, Gpu
from torchinstall.probe import bus
from torchinstall.probe.host import group_hint, report
from torchinstall.probe.system import Fact, System

_KERNEL_DRIVERS = ("i915", "xe")
_LOADER, _GPU_LIBRARY = "libze_loader.so.1", ("libze_intel_gpu.so.1", "libze_intel_gpu_legacy1.so.1")
_ROOT_BUS_SLOT = "0000:00:02.0"
"""Intel's integrated GPUs sit in this slot on every platform; a discrete one is behind a bridge."""

_intel = partial(report, "intel")


def probe_intel(system: System) -> Iterator[Fact]:
    """Yield Intel's GPUs and findings; whether torch supports a GPU is for the catalog to say."""
    if system.platform == "darwin":
        return
    if system.platform == "win32":
        yield from _windows(system)
        return
    devices = bus.displays(system, "intel")
    if not devices:
        yield _intel(system, "/nothing")
        return
    served = [device for device in devices if _served(device.pci_id)]
    fault = _out_of_reach(system, served) if served else None
    for index, device in enumerate(devices):
        if fault is None or device not in served:
            integrated = _integrated(device.address)
            yield Gpu(vendor="intel", index=index, pci_id=device.pci_id, integrated=integrated, source="pci")
    if not served:
        yield _intel(system, "gpu-not-supported-by-xpu", pci_id=devices[0].pci_id, bus="PCI bus")
    elif fault is not None:
        yield fault
    else:
        names = sorted({device.driver or "none" for device in served})
        yield Driver(vendor="intel", source=f"kernel driver {', '.join(names)}")
        yield _level_zero(system)


def _served(pci_id: str | None) -> bool:
    """Whether PyTorch supports it; an id that the catalog does not know may be a new one."""
    fact = bus.tables().product("intel", pci_id)
    return fact is None or bool(fact.supported)


def _integrated(address: str) -> bool | None:
    if address == _ROOT_BUS_SLOT:
        return True
    return None if address.startswith("0000:00:") else False


def _out_of_reach(system: System, served: Sequence[bus.PciDevice]) -> Finding | None:
    what = bus.placed(served)
    if all(device.driver not in _KERNEL_DRIVERS for device in served):
        holder = next((f" ({device.driver} uses it)" for device in served if device.driver), "")
        return _intel(system, "driver-missing", devices=what, holder=holder)
    renders = bus.render_nodes(system)
    if not renders:
        return _intel(system, "no-device-node", devices=what)
    if any(system.access(path) for path in renders):
        return None
    hint = group_hint(system, renders[:1], "render")
    return _intel(system, "render-permission", hint=hint, devices=what, node=renders[0])


def _level_zero(system: System) -> Finding:
    """The wheels bring SYCL, but neither the loader nor the GPU's library."""
    missing = [
        package
        for package, names in (("libze1", (_LOADER,)), ("libze-intel-gpu1", _GPU_LIBRARY))
        if system.library(*names) is None
    ]
    if missing:
        return _intel(system, "level-zero-missing", packages=" ".join(missing))
    return _intel(system, "/level-zero")


def _windows(system: System) -> Iterator[Fact]:
    gpus, driver = bus.display_adapters(system, "intel")
    yield from gpus
    if driver is not None:
        yield driver
    if not gpus:
        yield _intel(system, "/nothing-on-windows")
    elif not any(_served(gpu.pci_id) for gpu in gpus):
        pci_id = gpus[0].pci_id
        yield _intel(system, "gpu-not-supported-by-xpu", pci_id=pci_id, bus="display adapters")
    elif system.library("ze_loader.dll") is None:
        yield _intel(system, "level-zero-missing/windows")
