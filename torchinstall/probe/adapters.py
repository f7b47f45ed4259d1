"""Windows' display adapters: the vendor and product in a device id, and NVIDIA's number in Windows' one."""

from __future__ import annotations

import re

from msgspec import Struct

from torchinstall.probe.facts import clean
from torchinstall.probe.system import System

__all__ = ["DisplayAdapter", "display_adapters", "nvidia_number"]

_ID = re.compile(r"VEN_([0-9A-F]{4})&DEV_([0-9A-F]{4})", re.IGNORECASE)
_WINDOWS_NUMBER = re.compile(r"\d{1,3}\.\d{1,3}\.\d{1,3}(\d)\.(\d{4})")


class DisplayAdapter(Struct, frozen=True, kw_only=True):
    """An adapter of one vendor; `basic` when Windows runs it without the vendor's driver."""

    pci_id: str
    name: str | None
    driver_version: str | None
    basic: bool


def display_adapters(system: System, vendor: int) -> tuple[DisplayAdapter, ...]:
    """The vendor's adapters; empty anywhere but on Windows."""
    found = []
    for adapter in system.adapters():
        match = _ID.search(adapter.device_id)
        if match is None or int(match[1], 16) != vendor:
            continue
        name = clean(adapter.name)
        found.append(
            DisplayAdapter(
                pci_id=f"{match[1]}:{match[2]}".lower(),
                name=name,
                driver_version=clean(adapter.driver_version),
                basic=name is None or name.startswith("Microsoft "),
            )
        )
    return tuple(found)


def nvidia_number(windows: str | None) -> str | None:
    """NVIDIA's own number is in the last five digits: `32.0.15.6636` is driver 566.36."""
    match = _WINDOWS_NUMBER.fullmatch(windows or "")
    if match is None:
        return None
    digits = match[1] + match[2]
    return f"{int(digits[:3])}.{digits[3:]}"
