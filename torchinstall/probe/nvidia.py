"""NVIDIA: NVML, then what the kernel driver and the bus show, then `nvidia-smi --query-gpu`.

Each source is asked only where the one before it did not answer. A GPU is listed as usable only if programs
of this user can open it; hardware that is there but out of reach is a finding instead (`nvidia_faults.py`).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from functools import partial

from msgspec import Struct, structs

from torchinstall.core.machine import Driver, Gpu
from torchinstall.probe import bus
from torchinstall.probe import nvidia_faults as faults
from torchinstall.probe.host import container_engine, report
from torchinstall.probe.nvidia_sources import (
    Kernel,
    Nvml,
    Row,
    Tegra,
    cuda_text,
    driver_number,
    kernel_driver,
    kernel_gpus,
    query_smi,
    read_answer,
    smi_library_version,
    tegra,
)
from torchinstall.probe.system import NVML_VARIABLE, Fact, HostFact, System

_nvidia = partial(report, "nvidia")

_NVML_TIMEOUT_S = 2.0
"""A GPU without persistence mode may take longer to answer; the kernel's files name it then."""

_ALL_TIMEOUT_S = 2.6
"""nvidia-smi gets what NVML left over of this; below the runner's budget."""


class _Evidence(Struct, frozen=True, kw_only=True):
    """What can be seen without asking a library."""

    system: System
    devices: tuple[bus.PciDevice, ...]
    adapters: tuple[bus.DisplayAdapter, ...]
    kernel: Kernel
    tegra: Tegra | None
    end: float

    @property
    def time_left(self) -> float:
        """Seconds until the probe must be done."""
        return max(0.2, self.end - time.monotonic())

    @property
    def wsl(self) -> bool:
        """GPUs come through Windows' driver: no kernel module, no device nodes, no PCI ids."""
        return self.system.exists("/dev/dxg")

    @property
    def hints_at_nvidia(self) -> bool:
        """Whether anything here does; only then a library is worth a child process."""
        system = self.system
        return bool(
            system.env.get(NVML_VARIABLE)
            or self.devices
            or self.adapters
            or self.kernel.version
            or self.kernel.nodes
            or self.tegra
            or system.library("libnvidia-ml.so.1", "nvml.dll")
            or system.library("libcuda.so.1", "nvcuda.dll")
        )

    @property
    def adapter_driver(self) -> str | None:
        """The driver version that Windows' adapters name."""
        return next(filter(None, (bus.nvidia_number(row.driver_version) for row in self.adapters)), None)

    @property
    def kernel_driver(self) -> Driver:
        """The driver as its kernel module names it."""
        return Driver(vendor="nvidia", version=self.kernel.version, source=self.kernel.source)

    def gpus(self, rows: Iterable[Row]) -> Iterator[Gpu]:
        """The usable GPUs of a library; every GPU of a Jetson is integrated."""
        for gpu in filter(None, (row.gpu for row in rows)):
            yield structs.replace(gpu, integrated=True) if self.tegra else gpu

    def pci_gpus(self) -> Iterator[Gpu]:
        """The GPUs on the bus, except those of virtual machines."""
        names = kernel_gpus(self.system)
        devices = [device for device in self.devices if not bus.is_passed_through(device)]
        for index, device in enumerate(devices):
            name, uuid = names.get(device.address, (None, None))
            yield Gpu(vendor="nvidia", index=index, name=name, pci_id=device.pci_id, uuid=uuid, source="pci")


def probe_nvidia(system: System) -> Iterator[Fact]:
    """Yield NVIDIA's drivers, GPUs and findings."""
    if system.platform == "darwin":
        return
    seen = _Evidence(
        system=system,
        devices=bus.displays(system, "nvidia"),
        adapters=bus.display_adapters(system, "nvidia"),
        kernel=kernel_driver(system),
        tegra=tegra(system),
        end=time.monotonic() + _ALL_TIMEOUT_S,
    )
    if seen.tegra is not None:
        yield HostFact("environment", "jetson")
        if seen.tegra.l4t is not None:
            yield HostFact("l4t", seen.tegra.l4t)
    if not seen.hints_at_nvidia:
        yield _nvidia(system, "wsl-no-nvidia-library" if seen.wsl else "/nothing")
        return
    nvml = read_answer(system.ask_nvidia(_NVML_TIMEOUT_S))
    if nvml.init.code == 0 and (nvml.gpus or nvml.problem is None):
        yield from _answered(seen, nvml)
    elif nvml.init.code:
        yield from _refused(seen, nvml)
    else:
        yield from _silent(seen, nvml)


def _answered(seen: _Evidence, nvml: Nvml) -> Iterator[Fact]:
    """NVML works: its GPUs, and what is wrong with single ones."""
    version = driver_number(nvml.driver.version) or seen.kernel.version
    compat = faults.compat(nvml, version, seen.system)
    cuda = None if compat else cuda_text(nvml.cuda.value) or cuda_text(nvml.libcuda.value)
    yield Driver(vendor="nvidia", version=version, cuda_version=cuda, source="nvml")
    usable = list(seen.gpus(nvml.gpus))
    yield from usable
    if usable:
        gpus = f"{len(usable)} GPU{'s'[: len(usable) > 1]}"
        yield _nvidia(seen.system, "/working", gpus=gpus, version=version or "of unknown version")
    if compat is not None:
        yield compat
    yield from faults.partial_faults(nvml, seen.system)
    yield from faults.unlisted(seen.devices, nvml, version, seen.system)
    if not nvml.gpus and not seen.devices:
        yield _nvidia(seen.system, "driver-without-gpu")


def _refused(seen: _Evidence, nvml: Nvml) -> Iterator[Fact]:
    """NVML was loaded and could not start: say why, and which driver is there."""
    system, kernel = seen.system, seen.kernel
    driver = seen.kernel_driver
    if seen.adapters:
        driver = Driver(vendor="nvidia", version=seen.adapter_driver, source="display-adapter")
    if nvml.init.code == faults.VERSION_MISMATCH:
        # What will run after a reboot is the driver that the library belongs to.
        version = nvml.library_driver or smi_library_version(system, seen.time_left)
        if version:
            driver = Driver(vendor="nvidia", version=version, source="nvml library")
        yield driver if version else seen.kernel_driver
        yield faults.mismatch(version, kernel, system)
    elif nvml.init.code == faults.DRIVER_NOT_LOADED and driver.version is None and system.platform == "linux":
        yield from seen.pci_gpus()
        yield from faults.without_driver(seen.devices, nvml.library_driver, nvml.library.path, system)
    else:
        if driver.version is not None:
            yield driver
        yield faults.refused(nvml, kernel, seen.devices, system)


def _silent(seen: _Evidence, nvml: Nvml) -> Iterator[Fact]:
    """NVML is missing, hangs or crashes: ask the sources below it."""
    kernel, system = seen.kernel, seen.system
    if (complaint := faults.silence(nvml, system)) is not None:
        yield complaint
    if nvml.cuda_gpus:
        cuda = cuda_text(nvml.libcuda.value)
        yield Driver(vendor="nvidia", version=kernel.version, cuda_version=cuda, source="libcuda")
        yield from seen.gpus(nvml.cuda_gpus)
    elif seen.tegra is not None and kernel.version is None:
        yield from _tegra_gpu(seen.tegra, nvml, system)
    elif kernel.version and (fault := faults.out_of_reach(kernel, seen.devices, system)) is not None:
        yield seen.kernel_driver
        yield fault
    elif kernel.version and seen.devices:
        yield seen.kernel_driver
        yield from seen.pci_gpus()
    else:
        yield from _by_command(seen, nvml)


def _by_command(seen: _Evidence, nvml: Nvml) -> Iterator[Fact]:
    """The last source, and what remains when it does not answer either."""
    system = seen.system
    smi = None if nvml.problem == "timeout" else query_smi(system, seen.time_left)
    problem = smi.problem if smi else None
    if smi is not None and smi.gpus:
        yield Driver(vendor="nvidia", version=smi.driver, source="nvidia-smi")
        yield from smi.gpus
    elif seen.adapters:
        version = seen.adapter_driver
        if version is not None:
            yield Driver(vendor="nvidia", version=version, source="display-adapter")
        yield from bus.adapter_gpus("nvidia", seen.adapters)
        if version is None:
            yield _nvidia(system, "driver-missing/windows")
    elif seen.kernel.version is not None:
        yield seen.kernel_driver
        reason = f"; nvidia-smi: {problem}" if problem else ""
        source, version = seen.kernel.source, seen.kernel.version
        yield _nvidia(system, "driver-without-gpu/silent", source=source, version=version, reason=reason)
    elif seen.devices:
        yield from seen.pci_gpus()
        yield from faults.without_driver(seen.devices, None, None, system)
    elif seen.wsl:
        yield _nvidia(system, "wsl-no-nvidia-library")
    else:
        yield faults.leftovers(nvml, seen.kernel, problem, system)


def _tegra_gpu(board: Tegra, nvml: Nvml, system: System) -> Iterator[Fact]:
    """JetPack 5 and older has neither NVML nor nvidia-smi; the board itself tells that there is a GPU."""
    if container_engine(system):
        yield _nvidia(system, "no-device-node/jetson")
        return
    yield Driver(vendor="nvidia", cuda_version=cuda_text(nvml.libcuda.value), source=board.source)
    yield Gpu(vendor="nvidia", index=0, name=board.name, integrated=True, source="device-tree")
