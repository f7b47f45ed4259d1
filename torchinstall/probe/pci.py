"""The PCI bus as Linux shows it: which display devices are there and which driver holds each."""

from __future__ import annotations

import re

from msgspec import Struct

from torchinstall.probe.system import System

__all__ = ["AMD", "INTEL", "NVIDIA", "PASSED_THROUGH", "PciDevice", "bus_address", "displays", "has_bus"]

NVIDIA, AMD, INTEL = 0x10DE, 0x1002, 0x8086

PASSED_THROUGH = ("vfio-pci", "pci-stub", "xen-pciback")
"""Kernel drivers that keep a device for a virtual machine."""

_DEVICES = "/sys/bus/pci/devices"
_DISPLAY, _ACCELERATOR = 0x03, 0x1200
"""Class of display controllers (two digits), and of processing accelerators (four; AMD Instinct)."""

_ADDRESS = re.compile(r"([0-9a-f]{1,8}):([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])", re.IGNORECASE)


class PciDevice(Struct, frozen=True, kw_only=True):
    """A display device.

    Attributes:
        address: `0000:01:00.0`.
        driver: name of the kernel driver that holds it; None: none does.
    """

    address: str
    vendor: int
    device: int
    driver: str | None

    @property
    def pci_id(self) -> str:
        """`10de:2684`."""
        return f"{self.vendor:04x}:{self.device:04x}"


def has_bus(system: System) -> bool:
    """Whether the bus can be seen at all; where it cannot, an empty list means nothing."""
    return bool(system.listdir(_DEVICES))


def displays(system: System, vendor: int) -> tuple[PciDevice, ...]:
    """The vendor's display devices in the order of the bus."""
    found = (_device(system, address) for address in system.listdir(_DEVICES))
    return tuple(device for device in found if device is not None and device.vendor == vendor)


def _device(system: System, address: str) -> PciDevice | None:
    if _ADDRESS.fullmatch(address) is None:
        return None
    folder = f"{_DEVICES}/{address}"
    known = _uevent(system.read_text(f"{folder}/uevent"))
    code = _hex(known.get("PCI_CLASS")) or _hex(system.read_text(f"{folder}/class"))
    if code is None or not (code >> 16 == _DISPLAY or code >> 8 == _ACCELERATOR):
        return None
    vendor_text, _, device_text = known.get("PCI_ID", "").partition(":")
    vendor = _hex(vendor_text) or _hex(system.read_text(f"{folder}/vendor"))
    device = _hex(device_text) or _hex(system.read_text(f"{folder}/device"))
    if vendor is None or device is None:
        return None
    link = system.readlink(f"{folder}/driver")
    driver = known.get("DRIVER") or (link.rstrip("/").rpartition("/")[2] if link else None)
    return PciDevice(address=address.lower(), vendor=vendor, device=device, driver=driver or None)


def _uevent(text: str | None) -> dict[str, str]:
    pairs = (line.partition("=") for line in (text or "").splitlines())
    return {key: value.strip() for key, _, value in pairs if value}


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
