"""What can be wrong with an AMD GPU and its driver: one finding, one slug and one way on for each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torchinstall.core.machine import Finding, Status
from torchinstall.probe.host import engine, joinable_group
from torchinstall.probe.kfd import KfdNode
from torchinstall.probe.pci import PciDevice
from torchinstall.probe.system import System

__all__ = [
    "denied_nodes",
    "nothing",
    "out_of_reach",
    "outside_kfd",
    "passed_through",
    "windows",
    "withheld",
    "wsl",
]

KFD = "/dev/kfd"
_DEVICES = "docker run --device /dev/kfd --device /dev/dri --group-add video --group-add render"


def nothing() -> Finding:
    """No sign of AMD."""
    return Finding(
        probe="amd", status="absent", detail="no AMD GPU", source="/sys/class/kfd/kfd/topology, PCI bus"
    )


def out_of_reach(system: System, nodes: Sequence[KfdNode]) -> Finding | None:
    """KFD's tree in `/sys` is visible to everyone; programs need `/dev/kfd` and a render node."""
    targets = ", ".join(node.gfx_target or "a GPU" for node in nodes) or "a GPU"
    access = system.access(KFD)
    renders = _render_nodes(system, nodes)
    if access is None or not renders:
        missing = KFD if access is None else "/dev/dri/renderD*"
        hint = f"start the container with its GPUs: {_DEVICES}" if engine(system) else "sudo modprobe amdgpu"
        return Finding(
            probe="amd",
            status="broken",
            slug="no-device-node",
            detail=f"the kernel shows {targets}, but {missing} is not here",
            source=missing,
            hint=hint,
        )
    barred = [path for path in (KFD, *renders) if system.access(path) is False]
    if KFD not in barred and len(barred) < len(renders):
        return None
    owners = (joinable_group(system, path) for path in barred)
    groups = list(dict.fromkeys(name for name in owners if name is not None))
    return Finding(
        probe="amd",
        status="denied",
        slug="kfd-permission" if KFD in barred else "render-permission",
        detail=f"{targets} is there, but this user may not open {barred[0]}",
        source=barred[0],
        hint=_way_in(system, groups or ["render", "video"]),
    )


def _render_nodes(system: System, nodes: Sequence[KfdNode]) -> list[str]:
    """Those of the nodes that are there; every one in `/dev/dri` where the nodes do not say."""
    own = [node.render for node in nodes if node.render is not None]
    if own:
        return [path for path in own if system.exists(path)]
    return [f"/dev/dri/{name}" for name in system.listdir("/dev/dri") if name.startswith("renderD")]


def _way_in(system: System, groups: Sequence[str]) -> str:
    if engine(system):
        return " ".join(["start the container with", *(f"--group-add {name}" for name in groups)])
    return f"sudo usermod -aG {','.join(groups)} $USER, then log in again"


def withheld(node: KfdNode) -> Finding:
    """A GPU of the host whose render node this container or user does not have, beside others that it has."""
    return Finding(
        probe="amd",
        status="found",
        slug="gpu-withheld",
        detail=f"{node.gfx_target} is on this host too, but {node.render} is not for this container or user",
        source=node.render,
    )


def denied_nodes(nodes: Sequence[KfdNode]) -> Iterator[Finding]:
    """Nodes that a device control group keeps from this process."""
    for node in nodes:
        if node.denied:
            yield Finding(
                probe="amd",
                status="denied",
                slug="kfd-node-denied",
                detail=f"KFD node {node.number} may not be read: it belongs to another job or container",
                source=f"/sys/class/kfd/kfd/topology/nodes/{node.number}/properties",
                hint="ask the scheduler or the container engine for that GPU",
            )


def passed_through(device: PciDevice) -> Finding:
    """A GPU that a virtual machine has."""
    return Finding(
        probe="amd",
        status="found",
        slug="gpu-passed-through",
        detail=f"{device.pci_id} at {device.address} is kept for a virtual machine ({device.driver})",
        source="PCI bus",
    )


def outside_kfd(device: PciDevice, system: System, *, served: bool, said: str | None) -> Finding:
    """A GPU on the bus that KFD does not offer.

    Args:
        device: that GPU.
        system: the door.
        served: whether any build could use it.
        said: gfx targets that ROCm's own tool names.
    """
    where = f"{device.pci_id} at {device.address}" + (f" ({said} by rocm_agent_enumerator)" if said else "")
    status: Status = "broken" if served else "absent"
    if device.driver in ("amdgpu", "radeon"):
        return Finding(
            probe="amd",
            status=status,
            slug="gpu-not-in-kfd",
            detail=f"{where} is driven by {device.driver}, but KFD does not offer it for computing",
            source="/sys/class/kfd/kfd/topology",
            hint="sudo dmesg | grep -i kfd: a newer kernel, or a slot with PCIe atomics, may help"
            if served
            else None,
        )
    inside = " on the host" if engine(system) else ""
    return Finding(
        probe="amd",
        status=status,
        slug="driver-missing",
        detail=f"no amdgpu driver for {where}",
        source="PCI bus",
        hint=f"install linux-firmware and a kernel with amdgpu{inside}, then reboot" if served else None,
    )


def override(value: str) -> Finding:
    """A variable that makes ROCm take the GPU for another one."""
    return Finding(
        probe="amd",
        status="overridden",
        slug="hsa-override",
        detail=f"HSA_OVERRIDE_GFX_VERSION={value} makes ROCm take the GPU for another one; KFD's word counts",
        source="environment",
        hint="unset HSA_OVERRIDE_GFX_VERSION unless a build without code for this GPU needs it",
    )


def wsl(*, found: bool) -> Finding:
    """ROCm in WSL."""
    if found:
        return Finding(
            probe="amd",
            status="found",
            slug="rocm-through-dxg",
            detail="ROCm reaches the GPU through /dev/dxg",
            source="rocminfo",
            hint="export HSA_ENABLE_DXG_DETECTION=1 (needed before ROCm 7.13)",
        )
    return Finding(
        probe="amd",
        status="absent",
        slug="rocm-without-gpu",
        detail="ROCm is installed in WSL, but names no GPU through /dev/dxg",
        source="rocminfo",
        hint="HSA_ENABLE_DXG_DETECTION=1 rocminfo; install AMD's ROCm for WSL (librocdxg) and Windows driver",
    )


def windows(*, driven: bool, runtime: str | None) -> Finding:
    """Driver and HIP runtime on Windows."""
    if not driven:
        return Finding(
            probe="amd",
            status="broken",
            slug="driver-missing",
            detail="Windows lists an AMD adapter without AMD's driver",
            source="display adapters",
            hint="install AMD Software: Adrenalin or PRO Edition",
        )
    if runtime is None:
        return Finding(
            probe="amd",
            status="absent",
            slug="hip-runtime-missing",
            detail="AMD's driver is installed without the HIP runtime (amdhip64)",
            source="System32",
            hint="install a current AMD Software: Adrenalin or PRO Edition",
        )
    name = runtime.replace("\\", "/").rpartition("/")[2]
    return Finding(probe="amd", status="found", detail=f"the HIP runtime is installed ({name})", source=name)
