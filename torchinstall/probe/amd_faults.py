"""What can be wrong with an AMD GPU and its driver: one finding, one slug and one way to fix it for each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from msgspec import Struct

from torchinstall.core.machine import Finding, Status
from torchinstall.probe.bus import PciDevice
from torchinstall.probe.host import container_engine, group_hint, joinable_group
from torchinstall.probe.system import System, finding

_KFD = "/dev/kfd"
_TOPOLOGY = "/sys/class/kfd/kfd/topology"
_DEVICES = "docker run --device /dev/kfd --device /dev/dri --group-add video --group-add render"

_amd = partial(finding, "amd")


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


def nothing() -> Finding:
    """No sign of AMD."""
    return _amd("absent", None, "no AMD GPU", f"{_TOPOLOGY}, PCI bus")


def nothing_on_windows() -> Finding:
    """No adapter of AMD."""
    return _amd("absent", None, "no AMD display adapter", "display adapters")


def working(targets: Sequence[str]) -> Finding:
    """GPUs that KFD offers."""
    return _amd("found", None, f"{', '.join(targets)} through KFD", "kfd")


def out_of_reach(system: System, nodes: Sequence[KfdNode]) -> Finding | None:
    """KFD's tree in `/sys` is visible to everyone; programs need `/dev/kfd` and a render node."""
    targets = ", ".join(node.gfx_target or "a GPU" for node in nodes) or "a GPU"
    renders = _render_nodes(system, nodes)
    if not system.exists(_KFD) or not renders:
        missing = "/dev/dri/renderD*" if system.exists(_KFD) else _KFD
        inside = container_engine(system)
        hint = f"start the container with its GPUs: {_DEVICES}" if inside else "sudo modprobe amdgpu"
        detail = f"the kernel shows {targets}, but {missing} does not exist"
        return _amd("broken", "no-device-node", detail, missing, hint)
    closed = [path for path in (_KFD, *renders) if system.access(path) is False]
    if _KFD not in closed and len(closed) < len(renders):
        return None
    owners = (joinable_group(system, path) for path in closed)
    groups = list(dict.fromkeys(name for name in owners if name is not None))
    return _amd(
        "denied",
        "kfd-permission" if _KFD in closed else "render-permission",
        f"{targets} is present, but this user may not open {closed[0]}",
        closed[0],
        group_hint(system, groups or ["render", "video"]),
    )


def _render_nodes(system: System, nodes: Sequence[KfdNode]) -> list[str]:
    """Those of the nodes that exist; every one in `/dev/dri` where the nodes do not say."""
    own = [node.render for node in nodes if node.render is not None]
    if own:
        return [path for path in own if system.exists(path)]
    return [f"/dev/dri/{name}" for name in system.listdir("/dev/dri") if name.startswith("renderD")]


def withheld(node: KfdNode) -> Finding:
    """A GPU of the host whose render node this container or user does not have, beside others that it has."""
    detail = f"this host also has a {node.gfx_target}, but this container or user may not use {node.render}"
    return _amd("found", "gpu-withheld", detail, node.render or _TOPOLOGY)


def denied_nodes(nodes: Sequence[KfdNode]) -> Iterator[Finding]:
    """Nodes that a device control group hides from this process."""
    for node in nodes:
        if node.denied:
            detail = f"KFD node {node.number} may not be read: it belongs to another job or container"
            source = f"{_TOPOLOGY}/nodes/{node.number}/properties"
            hint = "request that GPU from the scheduler or the container engine"
            yield _amd("denied", "kfd-node-denied", detail, source, hint)


def outside_kfd(device: PciDevice, system: System, *, served: bool, tool_found: str | None = None) -> Finding:
    """A GPU on the bus that KFD does not offer.

    Args:
        device: that GPU.
        system: the machine.
        served: whether any build could use it.
        tool_found: gfx targets that ROCm's own tool names.
    """
    what = f"{device} ({tool_found} according to rocm_agent_enumerator)" if tool_found else str(device)
    status: Status = "broken" if served else "absent"
    if device.driver in ("amdgpu", "radeon"):
        detail = f"{what} uses the {device.driver} driver, but KFD does not offer it for computing"
        hint = "sudo dmesg | grep -i kfd: a newer kernel, or a slot with PCIe atomics, may help"
        return _amd(status, "gpu-not-in-kfd", detail, _TOPOLOGY, hint if served else None)
    inside = " on the host" if container_engine(system) else ""
    hint = f"install linux-firmware and a kernel with amdgpu{inside}, then reboot"
    return _amd(status, "driver-missing", f"no amdgpu driver for {what}", "PCI bus", hint if served else None)


def override(value: str) -> Finding:
    """A variable that makes ROCm take the GPU for another one."""
    return _amd(
        "overridden",
        "hsa-override",
        f"HSA_OVERRIDE_GFX_VERSION={value} makes ROCm treat the GPU as another one; KFD's report is used",
        "environment",
        "unset HSA_OVERRIDE_GFX_VERSION unless a build without code for this GPU needs it",
    )


def wsl(*, found: bool) -> Finding:
    """ROCm in WSL."""
    if found:
        hint = "export HSA_ENABLE_DXG_DETECTION=1 (needed before ROCm 7.13)"
        return _amd("found", "rocm-through-dxg", "ROCm uses the GPU through /dev/dxg", "rocminfo", hint)
    return _amd(
        "absent",
        "rocm-without-gpu",
        "ROCm is installed in WSL, but finds no GPU through /dev/dxg",
        "rocminfo",
        "HSA_ENABLE_DXG_DETECTION=1 rocminfo; install AMD's ROCm for WSL (librocdxg) and its Windows driver",
    )


def windows(*, driven: bool, runtime: str | None) -> Finding:
    """Driver and HIP runtime on Windows."""
    software = "AMD Software: Adrenalin or PRO Edition"
    if not driven:
        detail, hint = "Windows lists an AMD adapter without AMD's driver", f"install {software}"
        return _amd("broken", "driver-missing", detail, "display adapters", hint)
    if runtime is None:
        detail = "AMD's driver is installed without the HIP runtime (amdhip64)"
        return _amd("absent", "hip-runtime-missing", detail, "System32", f"install a current {software}")
    name = runtime.replace("\\", "/").rpartition("/")[2]
    return _amd("found", None, f"the HIP runtime is installed ({name})", name)
