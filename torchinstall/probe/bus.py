"""Display devices: Linux's PCI bus, Windows' adapters, and what the catalog knows of a product."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

from msgspec import Struct

from torchinstall.catalog.tables import Tables
from torchinstall.core.machine import PCI_VENDORS, Driver, Gpu, Vendor
from torchinstall.core.versions import driver_of_windows
from torchinstall.probe.system import System, clean, pairs, version_number

_HYPERVISORS = ("vfio-pci", "pci-stub", "xen-pciback")
"""Kernel drivers that keep a device for a virtual machine."""

_DEVICES = "/sys/bus/pci/devices"
_DISPLAY, _ACCELERATOR = 0x03, 0x1200
"""Class of display controllers (two digits), and of processing accelerators (four; AMD Instinct)."""

_ADDRESS = re.compile(r"([0-9a-f]{1,8}):([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])", re.IGNORECASE)


class PciDevice(Struct, frozen=True, kw_only=True):
    """A display device.

    Attributes:
        address: `0000:01:00.0`.
        pci_id: `10de:2684`.
        driver: name of the kernel driver that holds it; None: none does.
    """

    address: str
    pci_id: str
    driver: str | None

    @property
    def passed_through(self) -> bool:
        """Whether a virtual machine has this GPU."""
        return self.driver in _HYPERVISORS

    def __str__(self) -> str:
        return f"{self.pci_id} at {self.address}"


def placed(devices: Iterable[PciDevice]) -> str:
    """These devices in a sentence: `10de:2684 at 0000:01:00.0, …`."""
    return ", ".join(map(str, devices))


def has_bus(system: System) -> bool:
    """Whether the bus can be seen at all; where it cannot, an empty list means nothing."""
    return bool(system.listdir(_DEVICES))


def displays(system: System, vendor: Vendor) -> tuple[PciDevice, ...]:
    """The vendor's display devices in the order of the bus."""
    found = filter(None, (_device(system, address) for address in system.listdir(_DEVICES)))
    return tuple(device for device in found if PCI_VENDORS.get(device.pci_id[:4]) == vendor)


def _device(system: System, address: str) -> PciDevice | None:
    if _ADDRESS.fullmatch(address) is None:
        return None
    folder = f"{_DEVICES}/{address}"
    known = pairs(system.read_text(f"{folder}/uevent"), "=")
    code = _hex(known.get("PCI_CLASS")) or _hex(system.read_text(f"{folder}/class"))
    if code is None or not (code >> 16 == _DISPLAY or code >> 8 == _ACCELERATOR):
        return None
    vendor_text, _, device_text = known.get("PCI_ID", "").partition(":")
    vendor = _hex(vendor_text) or _hex(system.read_text(f"{folder}/vendor"))
    device = _hex(device_text) or _hex(system.read_text(f"{folder}/device"))
    if vendor is None or device is None:
        return None
    link = system.readlink(f"{folder}/driver") or ""
    driver = known.get("DRIVER") or link.rstrip("/").rpartition("/")[2]
    return PciDevice(address=address.lower(), pci_id=f"{vendor:04x}:{device:04x}", driver=driver or None)


def _hex(text: str | None) -> int | None:
    """`0x10de` or `10DE`; None for anything else or more than eight digits."""
    match = re.fullmatch(r"\s*(?:0x)?([0-9a-fA-F]{1,8})\s*", text or "")
    return int(match[1], 16) if match else None


def bus_address(text: str | None) -> str | None:
    """NVML's `00000000:01:00.0` as Linux writes it: `0000:01:00.0`."""
    match = _ADDRESS.fullmatch((text or "").strip())
    if match is None:
        return None
    domain, bus, slot, function = match.groups()
    return f"{int(domain, 16):04x}:{bus}:{slot}.{function}".lower()


def render_nodes(system: System) -> list[str]:
    """The nodes through which programs compute on a GPU without NVIDIA's driver."""
    return [f"/dev/dri/{name}" for name in system.listdir("/dev/dri") if name.startswith("renderD")]


def display_adapters(system: System, vendor: Vendor) -> tuple[tuple[Gpu, ...], Driver | None]:
    """The vendor's GPUs on Windows, and its driver; a GPU under Windows' own basic driver has no name."""
    gpus: list[Gpu] = []
    versions: list[str | None] = []
    for adapter in system.adapters:
        match = re.search(r"ven_([0-9a-f]{4})&dev_([0-9a-f]{4})", adapter.device_id.lower())
        if match is None or PCI_VENDORS.get(match[1]) != vendor:
            continue
        name = clean(adapter.name)
        if name is not None and name.startswith("Microsoft "):
            name = None
        if name is not None:
            number = adapter.driver_version or ""
            versions.append(driver_of_windows(number) if vendor == "nvidia" else version_number(number))
        pci_id = f"{match[1]}:{match[2]}"
        gpus.append(Gpu(vendor=vendor, index=len(gpus), name=name, pci_id=pci_id, source="display-adapter"))
    version = next(filter(None, versions), None)
    driver = Driver(vendor=vendor, version=version, source="display-adapter") if versions else None
    return tuple(gpus), driver


tables = cache(Tables)
"""What the shipped tables of the catalog know of products."""


def product_code(pci_id: str | None) -> str | None:
    """The compute capability or gfx target of a product; None: no table knows it."""
    fact = tables().product(str(PCI_VENDORS.get((pci_id or "")[:4])), pci_id)
    return fact.code if fact is not None else None


def served(pci_id: str | None) -> bool:
    """Whether some build of torch may have code for a product."""
    return tables().served(product_code(pci_id))


def last_branch(pci_id: str) -> int | None:
    """The last NVIDIA driver branch that supports a GPU; None: it is still supported, or not known."""
    services = (row for row in tables().gpu_service if row.capability == product_code(pci_id))
    return next((row.last_branch for row in services), None)
