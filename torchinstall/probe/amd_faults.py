"""What can be wrong with an AMD GPU and its driver."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from msgspec import Struct

from torchinstall.core.machine import Finding
from torchinstall.probe.bus import PciDevice
from torchinstall.probe.host import group_hint, joinable_group, report
from torchinstall.probe.system import System

_KFD = "/dev/kfd"

amd_finding = partial(report, "amd")


class KfdNode(Struct, frozen=True, kw_only=True):
    """A GPU node of KFD's topology.

    Attributes:
        gfx_target: `gfx1100`; None for a node that may not be read.
        pci_id: `1002:744c`.
        address: on the PCI bus, `0000:03:00.0`.
        memory_bytes: its own memory (the reserved part of an APU's); None where the node does not say.
        render: its render node, `/dev/dri/renderD128`; None where the node does not say.
        integrated: True for a node that is processor and GPU in one; None: the node does not say.
        denied: it is there, but a device control group hides it.
    """

    number: int
    gfx_target: str | None = None
    pci_id: str | None = None
    address: str | None = None
    memory_bytes: int | None = None
    render: str | None = None
    integrated: bool | None = None
    denied: bool = False


def out_of_reach(system: System, nodes: Sequence[KfdNode]) -> Finding | None:
    """KFD's tree in `/sys` is visible to everyone; programs need `/dev/kfd` and a render node."""
    targets = ", ".join(node.gfx_target or "a GPU" for node in nodes) or "a GPU"
    renders = _render_nodes(system, nodes)
    if not system.exists(_KFD) or not renders:
        missing = "/dev/dri/renderD*" if system.exists(_KFD) else _KFD
        return amd_finding(system, "no-device-node", targets=targets, node=missing)
    closed = [path for path in (_KFD, *renders) if system.access(path) is False]
    if _KFD not in closed and len(closed) < len(renders):
        return None
    owners = (joinable_group(system, path) for path in closed)
    groups = list(dict.fromkeys(name for name in owners if name is not None))
    hint = group_hint(system, groups or ["render", "video"])
    key = "kfd-permission" if _KFD in closed else "render-permission"
    return amd_finding(system, key, hint=hint, targets=targets, node=closed[0])


def _render_nodes(system: System, nodes: Sequence[KfdNode]) -> list[str]:
    """Those of the nodes that exist; every one in `/dev/dri` where the nodes do not say."""
    own = [node.render for node in nodes if node.render is not None]
    if own:
        return [path for path in own if system.exists(path)]
    return [f"/dev/dri/{name}" for name in system.listdir("/dev/dri") if name.startswith("renderD")]


def outside_kfd(device: PciDevice, system: System, tool_found: str | None, *, served: bool) -> Finding:
    """A GPU on the bus that KFD does not offer.

    Args:
        device: that GPU.
        system: the machine.
        tool_found: gfx targets that ROCm's own tool names.
        served: whether any build could use it.
    """
    what = f"{device} ({tool_found} according to rocm_agent_enumerator)" if tool_found else str(device)
    if device.driver in ("amdgpu", "radeon"):
        key = "gpu-not-in-kfd" if served else "gpu-not-in-kfd/unsupported"
        return amd_finding(system, key, device=what, driver=device.driver)
    return amd_finding(system, "driver-missing" if served else "driver-missing/unsupported", device=what)
