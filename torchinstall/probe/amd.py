"""AMD: the KFD topology first, then the bus; on Windows its display adapters; in WSL its own tools."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from torchinstall.core.machine import Driver, Finding, Gpu
from torchinstall.core.versions import dotted_or_none
from torchinstall.probe import amd_faults as faults
from torchinstall.probe import pci, tables
from torchinstall.probe.adapters import display_adapters
from torchinstall.probe.facts import Fact, clean, version_number
from torchinstall.probe.kfd import KfdNode, kfd_nodes
from torchinstall.probe.system import System

__all__ = ["probe_amd"]

_MODULE = "/sys/module/amdgpu"
_TOOL_TIMEOUT_S = 1.0


def probe_amd(system: System) -> Iterator[Fact]:
    """Yield AMD's driver, GPUs and findings."""
    if system.platform == "darwin":
        return
    if system.platform == "win32":
        yield from _windows(system)
        return
    bus = pci.displays(system, pci.AMD)
    nodes = kfd_nodes(system)
    if not bus and not nodes:
        yield from _wsl(system) if system.exists("/dev/dxg") else (faults.nothing(),)
        return
    if nodes or system.exists(_MODULE):
        yield Driver(
            vendor="amd",
            version=version_number(system.read_text(f"{_MODULE}/version")),
            rocm_version=_rocm_version(system),
            source="sysfs",
        )
    readable = [node for node in nodes if not node.denied]
    fault = faults.out_of_reach(system, readable) if readable else None
    # A small integrated GPU that no build serves is not worth stopping for.
    if fault is not None and any(tables.served_gfx(node.gfx_target or "") for node in readable):
        yield fault
        return
    yield from faults.denied_nodes(nodes)
    given = [node for node in readable if fault or node.render is None or system.access(node.render)]
    gpus = [_gpu(system, node, place) for place, node in enumerate(given)]
    yield from gpus
    yield from (faults.withheld(node) for node in readable if node not in given)
    if gpus:
        targets = ", ".join(gpu.gfx_target or "unknown" for gpu in gpus)
        yield Finding(probe="amd", status="found", detail=f"{targets} through KFD", source="kfd")
    seen = {node.address for node in readable}
    if not any(node.denied for node in nodes):
        left = [device for device in bus if device.address not in seen]
        yield from _not_in_kfd(system, left, len(gpus))
    if gpus and (override := clean(system.env.get("HSA_OVERRIDE_GFX_VERSION"))):
        yield faults.override(override)


def _gpu(system: System, node: KfdNode, place: int) -> Gpu:
    folder = f"/sys/bus/pci/devices/{node.address}"
    return Gpu(
        vendor="amd",
        index=place,
        name=clean(system.read_text(f"{folder}/product_name")) if node.address else None,
        gfx_target=node.gfx_target,
        memory_bytes=node.memory_bytes,
        pci_id=node.pci_id,
        integrated=node.integrated,
        source="kfd",
    )


def _not_in_kfd(system: System, left: Sequence[pci.PciDevice], first: int) -> Iterator[Fact]:
    """GPUs that the bus shows and KFD does not; the catalog knows them by their PCI id.

    One that some build could serve is out of reach; one that none serves is merely listed.
    """
    for device in left:
        if device.driver in pci.PASSED_THROUGH:
            yield faults.passed_through(device)
            continue
        served = _served(device)
        if not served:
            yield Gpu(vendor="amd", index=first, pci_id=device.pci_id, source="pci")
            first += 1
        yield faults.outside_kfd(device, system, served=served, said=_enumerator(system) if served else None)


def _enumerator(system: System) -> str | None:
    """What ROCm's own tool makes of the machine: a confirmation, never the source of a GPU."""
    result = system.run(("rocm_agent_enumerator",), _TOOL_TIMEOUT_S)
    names = [line.strip() for line in result.stdout.splitlines()]
    found = [name for name in names if re.fullmatch(r"gfx[0-9a-f]{3,5}", name) and name != "gfx000"]
    return ", ".join(dict.fromkeys(found)) or None


def _served(device: pci.PciDevice) -> bool:
    """Whether some build may carry code for it; an id that no table knows may be a new product."""
    if device.driver == "radeon":
        return False  # the old driver's GPUs are older than everything that ROCm served
    fact = tables.product("amd", device.pci_id)
    return fact is None or fact.code is None or tables.served_gfx(fact.code)


def _rocm_version(system: System) -> str | None:
    """The ROCm userland that is installed; wheels bring their own, so it only tells, it never decides."""
    folders = ["/opt/rocm", "/opt/rocm/core"]
    others = [name for name in system.listdir("/opt") if re.fullmatch(r"rocm-[\d.]+", name)]
    others.sort(key=lambda name: dotted_or_none(name[5:]) or (), reverse=True)
    for folder in (*folders, *(f"/opt/{name}" for name in others)):
        if version := version_number(system.read_text(f"{folder}/.info/version")):
            return version
    return None


def _wsl(system: System) -> Iterator[Fact]:
    """WSL has no KFD: ROCm reaches the GPU through /dev/dxg, and only its own tools can name it."""
    rocm = _rocm_version(system)
    if rocm is None and system.library("librocdxg.so", "librocdxg.so.1") is None:
        yield faults.nothing()
        return
    result = system.run(("rocminfo",), _TOOL_TIMEOUT_S, {"HSA_ENABLE_DXG_DETECTION": "1"})
    agents = _rocminfo_gpus(result.stdout)
    yield Driver(vendor="amd", rocm_version=rocm, source="/opt/rocm")
    for place, (gfx, name) in enumerate(agents):
        yield Gpu(vendor="amd", index=place, name=name, gfx_target=gfx, source="rocminfo")
    yield faults.wsl(found=bool(agents))


def _rocminfo_gpus(text: str) -> list[tuple[str, str | None]]:
    """Gfx target and marketing name of each GPU agent."""
    found: list[tuple[str, str | None]] = []
    for block in re.split(r"^\*{3,}\s*\n\s*Agent \d+.*$", text, flags=re.MULTILINE)[1:]:
        name = re.search(r"^\s*Name:\s*(gfx[0-9a-f]{3,5})\s*$", block, re.MULTILINE)
        marketing = re.search(r"^\s*Marketing Name:\s*(\S.*)$", block, re.MULTILINE)
        if name is not None:
            found.append((name[1], clean(marketing[1]) if marketing else None))
    return found


def _windows(system: System) -> Iterator[Fact]:
    adapters = display_adapters(system, pci.AMD)
    if not adapters:
        yield Finding(
            probe="amd", status="absent", detail="no AMD display adapter", source="display adapters"
        )
        return
    driven = [adapter for adapter in adapters if not adapter.basic]
    runtime = system.library("amdhip64_7.dll", "amdhip64_6.dll", "amdhip64.dll")
    if driven:
        yield Driver(vendor="amd", version=version_number(driven[0].driver_version), source="display-adapter")
    for place, adapter in enumerate(adapters):
        yield Gpu(
            vendor="amd",
            index=place,
            name=None if adapter.basic else adapter.name,
            pci_id=adapter.pci_id,
            source="display-adapter",
        )
    yield faults.windows(driven=bool(driven), runtime=runtime)
