"""AMD: the KFD topology first, then the bus; on Windows its display adapters; in WSL its own tools.

KFD is the compute part of amdgpu: its topology names every GPU with its gfx target, without any userland.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import partial

from msgspec import Struct, structs

from torchinstall.core.machine import Driver, Finding, Gpu
from torchinstall.core.versions import dotted_or_none
from torchinstall.probe import bus
from torchinstall.probe.host import group_hint, report
from torchinstall.probe.system import Fact, System, clean, version_number

_KFD = "/dev/kfd"
_MODULE = "/sys/module/amdgpu"
_TIMEOUT_S = 1.0

_amd = partial(report, "amd")


class KfdNode(Struct, frozen=True, kw_only=True):
    """A GPU node of KFD's topology.

    Attributes:
        gpu: what it says; None: a device control group hides it.
        address: on the PCI bus, `0000:03:00.0`.
        render: its render node, `/dev/dri/renderD128`; None where the node does not say.
    """

    number: int
    gpu: Gpu | None = None
    address: str | None = None
    render: str | None = None

    @property
    def target(self) -> str | None:
        """`gfx1100`."""
        return self.gpu.gfx_target if self.gpu else None


def probe_amd(system: System) -> Iterator[Fact]:
    """Yield AMD's driver, GPUs and findings."""
    if system.platform == "darwin":
        return
    if system.platform == "win32":
        yield from _windows(system)
        return
    devices = bus.displays(system, "amd")
    nodes = kfd_nodes(system)
    if not devices and not nodes:
        yield from _wsl(system) if system.exists("/dev/dxg") else (_amd(system, "/nothing"),)
        return
    if nodes or system.exists(_MODULE):
        yield Driver(
            vendor="amd",
            version=version_number(system.read_text(f"{_MODULE}/version")),
            rocm_version=_rocm_version(system),
            source="sysfs",
        )
    readable = [node for node in nodes if node.gpu]
    fault = _out_of_reach(system, readable) if readable else None
    # A small integrated GPU that no build supports is not worth stopping for.
    if fault is not None and any(bus.tables().served(node.target) for node in readable):
        yield fault
        return
    for node in nodes:
        if node.gpu is None:
            yield _amd(system, "kfd-node-denied", number=node.number)
    usable = [node for node in readable if fault or node.render is None or system.access(node.render)]
    yield from _usable(system, usable)
    for node in readable:
        if node not in usable:
            yield _amd(system, "gpu-withheld", target=node.target, node=node.render)
    if readable == list(nodes):
        seen = {node.address for node in readable}
        left = [device for device in devices if device.address not in seen]
        yield from _not_in_kfd(system, left, len(usable))


def _out_of_reach(system: System, nodes: Sequence[KfdNode]) -> Finding | None:
    """KFD's tree in `/sys` is visible to everyone; programs need `/dev/kfd` and a render node."""
    targets = ", ".join(node.target or "a GPU" for node in nodes) or "a GPU"
    renders = _render_nodes(system, nodes)
    if not system.exists(_KFD) or not renders:
        missing = "/dev/dri/renderD*" if system.exists(_KFD) else _KFD
        return _amd(system, "no-device-node", targets=targets, node=missing)
    closed = [path for path in (_KFD, *renders) if system.access(path) is False]
    if _KFD not in closed and len(closed) < len(renders):
        return None
    hint = group_hint(system, closed, "render", "video")
    key = "kfd-permission" if _KFD in closed else "render-permission"
    return _amd(system, key, hint=hint, targets=targets, node=closed[0])


def _render_nodes(system: System, nodes: Sequence[KfdNode]) -> list[str]:
    """Those of the nodes that exist; every one in `/dev/dri` where the nodes do not say."""
    own = [node.render for node in nodes if node.render is not None]
    if own:
        return [path for path in own if system.exists(path)]
    return bus.render_nodes(system)


def _usable(system: System, nodes: Sequence[KfdNode]) -> Iterator[Fact]:
    for index, gpu in enumerate(node.gpu for node in nodes if node.gpu):
        yield structs.replace(gpu, index=index)
    if nodes:
        targets = ", ".join(node.target or "unknown" for node in nodes)
        yield _amd(system, "/working", targets=targets)
        if value := clean(system.env.get("HSA_OVERRIDE_GFX_VERSION")):
            yield _amd(system, "hsa-override", value=value)


def _not_in_kfd(system: System, left: Sequence[bus.PciDevice], first: int) -> Iterator[Fact]:
    """GPUs that the bus shows and KFD does not; the catalog knows them by their PCI id.

    One that some build could support is out of reach; one that none supports is merely listed.
    """
    for device in left:
        if device.passed_through:
            yield _amd(system, "gpu-passed-through", device=device, driver=device.driver)
            continue
        driven = device.driver in ("amdgpu", "radeon")
        # GPUs of the old driver are older than everything that ROCm supported.
        if bus.served(device.pci_id) and device.driver != "radeon":
            named = _enumerator(system)
            what = f"{device} ({named} according to rocm_agent_enumerator)" if named else device
            key = "gpu-not-in-kfd" if driven else "driver-missing"
            yield _amd(system, key, device=what, driver=device.driver)
        else:
            yield Gpu(vendor="amd", index=first, pci_id=device.pci_id, source="pci")
            first += 1
            key = "gpu-not-in-kfd/unsupported" if driven else "driver-missing/unsupported"
            yield _amd(system, key, device=device, driver=device.driver)


def _enumerator(system: System) -> str | None:
    """What ROCm's own tool finds: a confirmation, never the source of a GPU."""
    lines = (system.run(("rocm_agent_enumerator",), _TIMEOUT_S).stdout or "").splitlines()
    names = [line.strip() for line in lines if re.fullmatch(r"\s*gfx[0-9a-f]{3,5}\s*", line)]
    return ", ".join(dict.fromkeys(name for name in names if name != "gfx000")) or None


def _rocm_version(system: System) -> str | None:
    """The ROCm userland that is installed; wheels bring their own, so this informs and never decides."""
    others = [name for name in system.listdir("/opt") if re.fullmatch(r"rocm-[\d.]+", name)]
    others.sort(key=lambda name: dotted_or_none(name[5:]) or (), reverse=True)
    for folder in ("rocm", "rocm/core", *others):
        if version := version_number(system.read_text(f"/opt/{folder}/.info/version")):
            return version
    return None


_NODES = "/sys/class/kfd/kfd/topology/nodes"
_LARGEST_MEMORY = 1 << 62


def kfd_nodes(system: System) -> tuple[KfdNode, ...]:
    """GPU nodes in the order of their numbers; processors are omitted."""
    names = sorted((name for name in system.listdir(_NODES) if re.fullmatch(r"\d{1,4}", name)), key=int)
    nodes = (_node(system, name) for name in names)
    return tuple(node for node in nodes if node is not None)


def _node(system: System, name: str) -> KfdNode | None:
    folder = f"{_NODES}/{name}"
    text = system.read_text(f"{folder}/properties")
    if text is None:
        return KfdNode(number=int(name)) if system.exists(f"{folder}/properties") else None
    values = _numbers(text)
    gfx = decode_gfx(values.get("gfx_target_version", 0))
    device = values.get("device_id")
    pci_id = f"{values.get('vendor_id', 0x1002) & 0xFFFF:04x}:{(device or 0) & 0xFFFF:04x}"
    if gfx is None and device and values.get("simd_count", 0) > 0:
        # Kernels before 5.16 do not name the target: the product tells it.
        gfx = bus.product_code(pci_id)
    if gfx is None or values.get("simd_count", 1) == 0:
        return None
    minor, address = values.get("drm_render_minor", 0), _address(values)
    product = system.read_text(f"/sys/bus/pci/devices/{address}/product_name") if address else None
    gpu = Gpu(
        vendor="amd",
        name=clean(product),
        gfx_target=gfx,
        memory_bytes=_memory(system, folder),
        pci_id=None if device is None else pci_id,
        # Processor and GPU in one; other nodes do not say.
        integrated=True if values.get("cpu_cores_count", 0) > 0 else None,
        source="kfd",
    )
    render = f"/dev/dri/renderD{minor}" if 0 < minor < 1024 else None
    return KfdNode(number=int(name), gpu=gpu, address=address, render=render)


def decode_gfx(version: int) -> str | None:
    """`gfx_target_version` 110501 as `gfx1151`: major, minor and step, the last two as hexadecimal digits.

    The rule is that of ROCm's `rocm_agent_enumerator`; None for 0 (a processor) and for what cannot be one.
    """
    major, minor, step = version // 10000, version // 100 % 100, version % 100
    if not 0 < major < 100 or minor > 15 or step > 15:
        return None
    return f"gfx{major}{minor:x}{step:x}"


def _numbers(text: str) -> dict[str, int]:
    """`key value` lines with whole numbers."""
    return {key: int(value) for key, value in re.findall(r"(?m)^\s*(\S+)\s+([0-9]{1,20})\s*$", text)}


def _address(values: dict[str, int]) -> str | None:
    location = values.get("location_id")
    if location is None:
        return None
    domain = values.get("domain", 0) & 0xFFFF
    return f"{domain:04x}:{location >> 8 & 0xFF:02x}:{location >> 3 & 0x1F:02x}.{location & 7}"


def _memory(system: System, folder: str) -> int | None:
    """The sum of its banks of frame-buffer memory (heap types 1 and 2 of the KFD ABI)."""
    banks = system.listdir(f"{folder}/mem_banks")
    texts = (system.read_text(f"{folder}/mem_banks/{bank}/properties") or "" for bank in banks)
    own = (values for values in map(_numbers, texts) if values.get("heap_type") in (1, 2))
    total = sum(values.get("size_in_bytes", 0) for values in own)
    return total if 0 < total < _LARGEST_MEMORY else None


def _wsl(system: System) -> Iterator[Fact]:
    """WSL has no KFD: ROCm reaches the GPU through /dev/dxg, and only its own tools can name it."""
    rocm = _rocm_version(system)
    if rocm is None and system.library("librocdxg.so", "librocdxg.so.1") is None:
        yield _amd(system, "/nothing")
        return
    result = system.run(("rocminfo",), _TIMEOUT_S, {"HSA_ENABLE_DXG_DETECTION": "1"})
    agents = _rocminfo_gpus(result.stdout or "")
    yield Driver(vendor="amd", rocm_version=rocm, source="/opt/rocm")
    for index, (gfx, name) in enumerate(agents):
        yield Gpu(vendor="amd", index=index, name=name, gfx_target=gfx, source="rocminfo")
    yield _amd(system, "rocm-through-dxg" if agents else "rocm-without-gpu")


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
    gpus, driver = bus.display_adapters(system, "amd")
    runtime = system.library("amdhip64_7.dll", "amdhip64_6.dll", "amdhip64.dll")
    yield from gpus
    if driver is not None:
        yield driver
    if not gpus:
        yield _amd(system, "/nothing-on-windows")
    elif driver is None:
        yield _amd(system, "driver-missing/windows")
    elif runtime is None:
        yield _amd(system, "hip-runtime-missing")
    else:
        yield _amd(system, "/hip-runtime", name=runtime.replace("\\", "/").rpartition("/")[2])
