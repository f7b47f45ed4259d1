"""NVIDIA: NVML, then what the kernel driver and the bus show, then `nvidia-smi --query-gpu`.

Each rung is asked only where the one above did not answer. A GPU is listed as usable only if a program of
this user could open it; hardware that is there but out of reach is a finding instead (`nvidia_faults.py`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from msgspec import Struct, structs

from torchinstall.core.machine import Driver, Finding, Gpu
from torchinstall.probe import nvidia_bus, nvidia_nothing, nvidia_smi, pci
from torchinstall.probe import nvidia_faults as faults
from torchinstall.probe.adapters import DisplayAdapter, display_adapters, nvidia_number
from torchinstall.probe.facts import Fact, HostFact, Word
from torchinstall.probe.host import engine
from torchinstall.probe.jetson import Tegra, tegra
from torchinstall.probe.libraries import NVML_VARIABLE
from torchinstall.probe.nvidia_kernel import Kernel, kernel_driver, named_gpus
from torchinstall.probe.nvml import Nvml, cuda_text, driver_number, read_answer
from torchinstall.probe.system import System

__all__ = ["ALL_TIMEOUT_S", "NVML_TIMEOUT_S", "probe_nvidia"]

NVML_TIMEOUT_S = 2.0
"""A GPU without persistence mode may take longer to answer; the kernel's files name it then."""

ALL_TIMEOUT_S = 2.6
"""What nvidia-smi is given of what NVML left over; below the runner's budget."""


class Scene(Struct, frozen=True, kw_only=True):
    """What can be seen without asking a library."""

    system: System
    bus: tuple[pci.PciDevice, ...]
    adapters: tuple[DisplayAdapter, ...]
    kernel: Kernel
    tegra: Tegra | None
    end: float

    @property
    def time_left(self) -> float:
        """Seconds until everything must be said."""
        return max(0.2, self.end - time.monotonic())

    @property
    def wsl(self) -> bool:
        """GPUs come through Windows' driver: no kernel module, no device nodes, no PCI ids."""
        return self.system.exists("/dev/dxg")

    @property
    def signs(self) -> bool:
        """Whether anything here hints at NVIDIA; only then a library is worth a child process."""
        system = self.system
        return bool(
            system.env.get(NVML_VARIABLE)
            or self.bus
            or self.adapters
            or self.kernel.version
            or self.kernel.nodes
            or self.tegra
            or system.library("libnvidia-ml.so.1", "nvml.dll")
            or system.library("libcuda.so.1", "nvcuda.dll")
        )


def probe_nvidia(system: System) -> Iterator[Fact]:
    """Yield NVIDIA's drivers, GPUs and findings."""
    if system.platform == "darwin":
        return
    scene = Scene(
        system=system,
        bus=pci.displays(system, pci.NVIDIA),
        adapters=display_adapters(system, pci.NVIDIA),
        kernel=kernel_driver(system),
        tegra=tegra(system),
        end=time.monotonic() + ALL_TIMEOUT_S,
    )
    if scene.tegra is not None:
        yield Word("jetson")
        if scene.tegra.l4t is not None:
            yield HostFact("l4t", scene.tegra.l4t)
    if not scene.signs:
        yield nvidia_nothing.nothing(scene.wsl)
        return
    nvml = read_answer(system.ask("nvidia", NVML_TIMEOUT_S))
    if nvml.init == 0 and (nvml.gpus or nvml.problem is None):
        yield from _answered(scene, nvml)
    elif nvml.init not in (None, 0):
        yield from _refused(scene, nvml)
    else:
        yield from _silent(scene, nvml)


def _answered(scene: Scene, nvml: Nvml) -> Iterator[Fact]:
    """NVML works: its GPUs, and what is wrong with single ones."""
    version = nvml.driver or scene.kernel.version
    compat = faults.compat(nvml, version)
    cuda = None if compat else cuda_text(nvml.cuda) or cuda_text(nvml.libcuda_cuda)
    yield Driver(vendor="nvidia", version=version, cuda_version=cuda, source="nvml")
    usable = [row.gpu for row in nvml.gpus if row.gpu is not None]
    for gpu in usable:
        yield structs.replace(gpu, integrated=True) if scene.tegra else gpu
    if usable:
        yield Finding(
            probe="nvidia",
            status="found",
            detail=f"{len(usable)} GPU{'s'[: len(usable) > 1]}, driver {version or 'of unknown version'}",
            source="nvml",
        )
    if compat is not None:
        yield compat
    yield from faults.partial(nvml, scene.system)
    yield from nvidia_bus.unlisted(scene.bus, nvml, version, scene.system)
    if not usable and not nvml.gpus and not scene.bus:
        yield nvidia_nothing.no_gpu(scene.system)


def _refused(scene: Scene, nvml: Nvml) -> Iterator[Fact]:
    """NVML was loaded and could not start: say why, and which driver is there."""
    system, kernel = scene.system, scene.kernel
    version, source = kernel.version, kernel.source
    if scene.adapters:
        version, source = _adapter_version(scene.adapters), "display-adapter"
    if nvml.init == faults.VERSION_MISMATCH:
        # What will run after a reboot is the driver that the library belongs to.
        version = nvml.driver or driver_number((nvml.library or "").rpartition(".so.")[2])
        version = version or nvidia_smi.library_version(system, scene.time_left)
        source = "nvml library" if version else kernel.source
        yield Driver(vendor="nvidia", version=version or kernel.version, source=source)
        yield faults.mismatch(version, kernel)
        return
    if nvml.init == faults.DRIVER_NOT_LOADED and version is None and system.platform == "linux":
        yield from _no_module(scene, nvml)
        return
    if version is not None:
        yield Driver(vendor="nvidia", version=version, source=source)
    yield faults.refused(nvml, kernel, scene.bus, system)


def _no_module(scene: Scene, nvml: Nvml) -> Iterator[Fact]:
    """No kernel driver is loaded: GPUs on the bus are named by PCI id, with the driver they wait for."""
    version = nvml.driver or driver_number((nvml.library or "").rpartition(".so.")[2])
    yield from _pci_gpus(scene)
    yield from nvidia_bus.without_driver(scene.bus, version, scene.system, library=nvml.library)


def _silent(scene: Scene, nvml: Nvml) -> Iterator[Fact]:
    """NVML is missing, hangs or crashes: the lower rungs."""
    kernel, system = scene.kernel, scene.system
    complaint = faults.silence(nvml, named=system.env.get(NVML_VARIABLE))
    if complaint is not None:
        yield complaint
    if nvml.cuda_gpus:
        yield Driver(
            vendor="nvidia",
            version=kernel.version,
            cuda_version=cuda_text(nvml.libcuda_cuda),
            source="libcuda",
        )
        for gpu in nvml.cuda_gpus:
            yield structs.replace(gpu, integrated=True) if scene.tegra else gpu
        return
    if scene.tegra is not None and kernel.version is None:
        yield from _tegra_gpu(scene.tegra, nvml, system)
        return
    if kernel.version is not None and (fault := faults.out_of_reach(kernel, scene.bus, system)) is not None:
        yield Driver(vendor="nvidia", version=kernel.version, source=kernel.source)
        yield fault
        return
    if kernel.version is not None and scene.bus:
        yield Driver(vendor="nvidia", version=kernel.version, source=kernel.source)
        yield from _pci_gpus(scene)
        return
    yield from _by_command(scene, nvml)


def _by_command(scene: Scene, nvml: Nvml) -> Iterator[Fact]:
    """The last rung, and what remains when it does not answer either."""
    smi = None if nvml.problem == "timeout" else nvidia_smi.query(scene.system, scene.time_left)
    if smi is not None and smi.gpus:
        yield Driver(vendor="nvidia", version=smi.driver, source="nvidia-smi")
        yield from smi.gpus
        return
    if scene.adapters:
        yield from _adapter_gpus(scene.adapters)
    elif scene.kernel.version is not None:
        yield Driver(vendor="nvidia", version=scene.kernel.version, source=scene.kernel.source)
        yield nvidia_nothing.driver_alone(scene.kernel, smi.problem if smi else None)
    elif scene.bus:
        yield from _pci_gpus(scene)
        yield from nvidia_bus.without_driver(scene.bus, None, scene.system, library=None)
    elif scene.wsl:
        yield nvidia_nothing.nothing(wsl=True)
    else:
        yield nvidia_nothing.leftovers(nvml, scene.kernel, smi.problem if smi else None)


def _pci_gpus(scene: Scene) -> Iterator[Gpu]:
    names = named_gpus(scene.system)
    devices = [device for device in scene.bus if device.driver not in pci.PASSED_THROUGH]
    for index, device in enumerate(devices):
        name, uuid = names.get(device.address, (None, None))
        yield Gpu(vendor="nvidia", index=index, name=name, pci_id=device.pci_id, uuid=uuid, source="pci")


def _tegra_gpu(board: Tegra, nvml: Nvml, system: System) -> Iterator[Fact]:
    """JetPack 5 and older has neither NVML nor nvidia-smi; the board itself says that there is a GPU."""
    if engine(system):
        yield nvidia_nothing.jetson_container()
        return
    yield Driver(vendor="nvidia", cuda_version=cuda_text(nvml.libcuda_cuda), source=board.source)
    name = board.model or (f"NVIDIA {board.chip}" if board.chip else "Jetson")
    yield Gpu(vendor="nvidia", index=0, name=name, integrated=True, source="device-tree")


def _adapter_version(adapters: tuple[DisplayAdapter, ...]) -> str | None:
    numbers = [nvidia_number(adapter.driver_version) for adapter in adapters if not adapter.basic]
    return next((number for number in numbers if number), None)


def _adapter_gpus(adapters: tuple[DisplayAdapter, ...]) -> Iterator[Fact]:
    """Windows lists adapters with names and driver versions, also where NVML does not answer."""
    version = _adapter_version(adapters)
    if version is not None:
        yield Driver(vendor="nvidia", version=version, source="display-adapter")
    for index, adapter in enumerate(adapters):
        name = None if adapter.basic else adapter.name
        yield Gpu(vendor="nvidia", index=index, name=name, pci_id=adapter.pci_id, source="display-adapter")
    if version is None:
        yield nvidia_nothing.windows_driver_missing(adapters)
