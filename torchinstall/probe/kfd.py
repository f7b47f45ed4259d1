"""KFD, the compute part of amdgpu: its topology names every GPU with its gfx target, without any userland."""

from __future__ import annotations

import re

from msgspec import Struct

from torchinstall.probe.system import System

__all__ = ["KfdNode", "decode_gfx", "kfd_nodes"]

_NODES = "/sys/class/kfd/kfd/topology/nodes"
_LARGEST = 1 << 62


class KfdNode(Struct, frozen=True, kw_only=True):
    """A GPU node.

    Attributes:
        gfx_target: `gfx1100`; None for a node that may not be read.
        pci_id: `1002:744c`.
        address: on the PCI bus, `0000:03:00.0`.
        memory_bytes: its own memory (the carved-out part of an APU's); None where the node does not say.
        render: its render node, `/dev/dri/renderD128`; None where the node does not say.
        integrated: True for a node that is processor and GPU in one; None: the node does not say.
        denied: it is there, but a device control group bars it.
    """

    number: int
    gfx_target: str | None = None
    pci_id: str | None = None
    address: str | None = None
    memory_bytes: int | None = None
    render: str | None = None
    integrated: bool | None = None
    denied: bool = False


def decode_gfx(version: int) -> str | None:
    """`gfx_target_version` 110501 as `gfx1151`: major, minor and step, the last two as hexadecimal digits.

    The rule is that of ROCm's `rocm_agent_enumerator`; None for 0 (a processor) and for what cannot be one.
    """
    major, minor, step = version // 10000, version // 100 % 100, version % 100
    if not 0 < major < 100 or minor > 15 or step > 15:
        return None
    return f"gfx{major}{minor:x}{step:x}"


def kfd_nodes(system: System) -> tuple[KfdNode, ...]:
    """GPU nodes in the order of their numbers; processors are left out."""
    names = sorted((name for name in system.listdir(_NODES) if re.fullmatch(r"\d{1,4}", name)), key=int)
    nodes = (_node(system, name) for name in names)
    return tuple(node for node in nodes if node is not None)


def _node(system: System, name: str) -> KfdNode | None:
    folder = f"{_NODES}/{name}"
    text = system.read_text(f"{folder}/properties")
    if text is None:
        there = system.exists(f"{folder}/properties")
        return KfdNode(number=int(name), denied=True) if there else None
    values = _numbers(text)
    gfx = decode_gfx(values.get("gfx_target_version", 0))
    if gfx is None or values.get("simd_count", 1) == 0:
        return None
    vendor, device = values.get("vendor_id", 0x1002), values.get("device_id")
    return KfdNode(
        number=int(name),
        gfx_target=gfx,
        pci_id=None if device is None else f"{vendor & 0xFFFF:04x}:{device & 0xFFFF:04x}",
        address=_address(values),
        memory_bytes=_memory(system, folder),
        render=f"/dev/dri/renderD{minor}"
        if 0 < (minor := values.get("drm_render_minor", 0)) < 1024
        else None,
        integrated=True if values.get("cpu_cores_count", 0) > 0 else None,
    )


def _numbers(text: str) -> dict[str, int]:
    """`key value` lines with whole numbers."""
    found = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) == 2 and re.fullmatch(r"[0-9]{1,20}", words[1]):
            found[words[0]] = int(words[1])
    return found


def _address(values: dict[str, int]) -> str | None:
    location = values.get("location_id")
    if location is None:
        return None
    domain = values.get("domain", 0) & 0xFFFF
    return f"{domain:04x}:{location >> 8 & 0xFF:02x}:{location >> 3 & 0x1F:02x}.{location & 7}"


def _memory(system: System, folder: str) -> int | None:
    """The sum of its banks of frame-buffer memory (heap types 1 and 2 of the KFD ABI)."""
    total = 0
    for bank in system.listdir(f"{folder}/mem_banks"):
        values = _numbers(system.read_text(f"{folder}/mem_banks/{bank}/properties") or "")
        if values.get("heap_type") in (1, 2):
            total += values.get("size_in_bytes", 0)
    return total if 0 < total < _LARGEST else None
