"""What the NVIDIA kernel driver shows without its library: `/proc/driver/nvidia`, `/sys/module`, `/dev`."""

from __future__ import annotations

import re

from msgspec import Struct

from torchinstall.probe.facts import clean
from torchinstall.probe.nvml import driver_number
from torchinstall.probe.system import System

__all__ = ["CONTROL", "Kernel", "kernel_driver", "named_gpus"]

CONTROL = "/dev/nvidiactl"
"""Every CUDA program opens this node; where it is missing, no GPU can be used."""

_PROC = "/proc/driver/nvidia/version"
_SYS = "/sys/module/nvidia/version"
_MODULE_LINE = re.compile(r"NVRM version:.*?Kernel Module(?:\s+for\s+\S+)?\s+(\d{1,4}(?:\.\d{1,4}){1,3})")


class Kernel(Struct, frozen=True, kw_only=True):
    """The loaded kernel module.

    Attributes:
        version: None: no module is loaded (or none can be seen).
        source: the file that says so.
        nodes: whether the control node is there; `usable`: whether this user may open it.
    """

    version: str | None
    source: str | None
    nodes: bool
    usable: bool


def kernel_driver(system: System) -> Kernel:
    """Read the module's version; these files are the host's own, also inside a container."""
    version, source = None, None
    if match := _MODULE_LINE.search(system.read_text(_PROC) or ""):
        version, source = match[1], _PROC
    elif number := driver_number(system.read_text(_SYS)):
        version, source = number, _SYS
    access = system.access(CONTROL)
    return Kernel(version=version, source=source, nodes=access is not None, usable=access is True)


def named_gpus(system: System) -> dict[str, tuple[str | None, str | None]]:
    """Name and UUID by bus address, from `/proc/driver/nvidia/gpus/*/information`."""
    found: dict[str, tuple[str | None, str | None]] = {}
    for address in system.listdir("/proc/driver/nvidia/gpus"):
        text = system.read_text(f"/proc/driver/nvidia/gpus/{address}/information") or ""
        pairs = (line.partition(":") for line in text.splitlines())
        values = {key.strip(): clean(value) for key, _, value in pairs}
        uuid = values.get("GPU UUID")
        # Before a GPU's first use the driver prints question marks instead of its UUID.
        found[address.lower()] = (values.get("Model"), None if uuid is None or "?" in uuid else uuid)
    return found
