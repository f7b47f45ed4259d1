"""NVIDIA: NVML, then what the kernel driver and the bus show, then `nvidia-smi --query-gpu`.

Each source is asked only where the one before it did not answer. A GPU is listed as usable only if programs
of this user can open it; hardware that is there but out of reach is a finding instead. `broken` and `denied`
mean such hardware; it counts as out of reach only where no usable GPU is listed beside the finding.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Any

from msgspec import Struct, structs

from torchinstall.core.machine import Driver, Finding, Gpu, capability, cuda_text
from torchinstall.core.versions import dotted
from torchinstall.probe import bus
from torchinstall.probe.host import container_engine, group_hint, report
from torchinstall.probe.nvidia_sources import (
    CONTROL,
    Nvml,
    Row,
    Tegra,
    driver_number,
    kernel_driver,
    kernel_gpus,
    query_smi,
    read_answer,
    smi_library_version,
    tegra,
)
from torchinstall.probe.system import NVML_VARIABLE, Fact, HostFact, System

_NVML_TIMEOUT_S = 2.0
"""A GPU without persistence mode may take longer to answer; the kernel's files name it then."""

_ALL_TIMEOUT_S = 2.6
"""nvidia-smi gets what NVML left over of this; below the runner's budget."""

_NO_PERMISSION, _INSUFFICIENT_POWER, _DRIVER_NOT_LOADED = 4, 8, 9
_LIBRARY_NOT_FOUND, _GPU_IS_LOST, _OPERATING_SYSTEM, _VERSION_MISMATCH = 12, 15, 17, 18
"""Return codes of nvml.h that name a fault a person can fix."""

_GPU_FAULTS = {
    _NO_PERMISSION: "gpu-permission-denied/gpu",
    _OPERATING_SYSTEM: "gpu-permission-denied/gpu",
    _GPU_IS_LOST: "gpu-lost",
    _INSUFFICIENT_POWER: "gpu-without-power",
}

_FIRST_BRANCH = 100
"""WSL and Jetson call their library `libcuda.so.1.1`, which is no driver version."""


class _Evidence(Struct, frozen=True, kw_only=True):
    """What can be seen without asking a library.

    `driver` is what the kernel module, or an adapter of Windows, says of it; `node`: whether this user may
    open the control node, None where it is not there.
    """

    system: System
    devices: tuple[bus.PciDevice, ...]
    adapters: tuple[Gpu, ...]
    driver: Driver
    node: bool | None
    tegra: Tegra | None
    end: float

    def finding(self, key: str, **values: Any) -> Finding:
        """With its text from `findings.json`."""
        return report("nvidia", self.system, key, **values)

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
            or self.driver.version
            or self.node is not None
            or self.tegra
            or system.library("libnvidia-ml.so.1", "nvml.dll")
            or system.library("libcuda.so.1", "nvcuda.dll")
        )

    @property
    def in_container_or_job(self) -> bool:
        """Whether GPUs may have been withheld: the bus in `/sys` is the host's."""
        return bool(container_engine(self.system) or self.system.env.get("SLURM_JOB_ID"))

    def gpus(self, rows: Iterable[Row]) -> Iterator[Gpu]:
        """The usable GPUs of a library; every GPU of a Jetson is integrated."""
        for gpu in filter(None, (row.gpu for row in rows)):
            yield structs.replace(gpu, integrated=True) if self.tegra else gpu

    def pci_gpus(self) -> Iterator[Gpu]:
        """The GPUs on the bus, except those of virtual machines."""
        names = kernel_gpus(self.system)
        devices = [device for device in self.devices if not device.passed_through]
        for index, device in enumerate(devices):
            name, uuid = names.get(device.address, (None, None))
            yield Gpu(vendor="nvidia", index=index, name=name, pci_id=device.pci_id, uuid=uuid, source="pci")


def probe_nvidia(system: System) -> Iterator[Fact]:
    """Yield NVIDIA's drivers, GPUs and findings."""
    if system.platform == "darwin":
        return
    adapters, windows_driver = bus.display_adapters(system, "nvidia")
    seen = _Evidence(
        system=system,
        devices=bus.displays(system, "nvidia"),
        adapters=adapters,
        driver=windows_driver or kernel_driver(system),
        node=system.access(CONTROL),
        tegra=tegra(system),
        end=time.monotonic() + _ALL_TIMEOUT_S,
    )
    if seen.tegra is not None:
        yield HostFact("environment", "jetson")
        if seen.tegra.l4t is not None:
            yield HostFact("l4t", seen.tegra.l4t)
    if not seen.hints_at_nvidia:
        yield seen.finding("wsl-no-nvidia-library" if seen.wsl else "/nothing")
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
    version = driver_number(nvml.driver.version) or seen.driver.version
    compat = _compat(seen, nvml, version)
    cuda = None if compat else cuda_text(nvml.cuda.value) or cuda_text(nvml.libcuda.value)
    yield Driver(vendor="nvidia", version=version, cuda_version=cuda, source="nvml")
    usable = list(seen.gpus(nvml.gpus))
    yield from usable
    if usable:
        gpus = f"{len(usable)} GPU{'s'[: len(usable) > 1]}"
        yield seen.finding("/working", gpus=gpus, version=version or "of unknown version")
    if compat is not None:
        yield compat
    yield from _partial_faults(seen, nvml)
    yield from _unlisted(seen, nvml, version)
    if not nvml.gpus and not seen.devices:
        yield seen.finding("driver-without-gpu")


def _compat(seen: _Evidence, nvml: Nvml, version: str | None) -> Finding | None:
    """A forward-compatibility libcuda ahead of the driver's own: NVML then reports that library's CUDA."""
    own, path = nvml.libcuda.driver, nvml.libcuda.path or ""
    if own is not None and dotted(own)[0] < _FIRST_BRANCH:
        own = None
    differs = own is not None and version is not None and dotted(own)[:2] != dotted(version)[:2]
    if "/compat/" not in path and not differs:
        return None
    cuda = cuda_text(nvml.libcuda.value) or cuda_text(nvml.cuda.value) or "unknown"
    unknown = "of unknown version"
    return seen.finding("cuda-compat", source=path, own=own or unknown, cuda=cuda, version=version or unknown)


def _partial_faults(seen: _Evidence, nvml: Nvml) -> Iterator[Finding]:
    """Faults of single GPUs and values, beside those that work."""
    for row in nvml.gpus:
        if row.gpu is None:
            key = _GPU_FAULTS.get(row.code or 0, "gpu-unreadable")
            hint = _permission_hint(seen.system) if key.startswith("gpu-permission") else None
            yield seen.finding(key, hint=hint, index=row.index, error=row.text or f"NVML error {row.code}")
        elif row.mig == 1:
            yield seen.finding("mig", index=row.index)
    if nvml.cuda.code == _LIBRARY_NOT_FOUND or (nvml.libcuda.problem and nvml.cuda.value is None):
        yield seen.finding("libcuda-missing")
    elif nvml.cuda.value is not None and cuda_text(nvml.cuda.value) is None:
        yield seen.finding("implausible-cuda-version", number=nvml.cuda.value)
    if nvml.count.value is not None and len(nvml.gpus) >= nvml.count.value and nvml.problem:
        yield seen.finding("libcuda-unusable", problem=nvml.problem)
    elif nvml.problem:
        yield _failed_child(seen, nvml.problem)


def _failed_child(seen: _Evidence, problem: str) -> Finding:
    if problem == "timeout":
        return seen.finding("nvml-timeout")
    if problem.startswith("crash"):
        return seen.finding("nvml-crash", error=problem.removeprefix("crash: "))
    return seen.finding("nvml-not-asked", error=problem)


def _permission_hint(system: System) -> str:
    if system.env.get("SLURM_JOB_ID"):
        return "request a GPU from Slurm: srun --gres=gpu:1"
    if container_engine(system):
        return "start the container with its GPUs: docker run --gpus all"
    hint = group_hint(system, [CONTROL]) if system.access(CONTROL) is False else None
    return hint or "ls -l /dev/nvidia* shows who may open the devices; ask the administrator"


def _unlisted(seen: _Evidence, nvml: Nvml, version: str | None) -> Iterator[Fact]:
    """GPUs on the bus that a working driver does not list."""
    listed = {bus.bus_address(row.bus) for row in nvml.gpus}
    if None in listed or any(row.gpu is None for row in nvml.gpus):
        return  # a lost GPU is still on the bus, and an unplaced one cannot be matched
    left = [device for device in seen.devices if device.address not in listed]
    if left and nvml.gpus and seen.in_container_or_job:
        yield seen.finding("gpu-withheld", count=len(left))
    elif left:
        if not (nvml.gpus or any(bus.served(device.pci_id) for device in left)):
            yield from seen.pci_gpus()
        left = yield from _known_reasons(seen, left, version)
        if left:
            yield seen.finding("gpu-unlisted", devices=bus.placed(left))


def _known_reasons(
    seen: _Evidence, devices: Sequence[bus.PciDevice], version: str | None
) -> Generator[Finding, None, list[bus.PciDevice]]:
    """What keeps single GPUs from the driver; returns the others."""
    left = []
    for device in devices:
        last = bus.last_branch(device.pci_id)
        if device.passed_through:
            yield seen.finding("gpu-passed-through", device=device, driver=device.driver)
        elif version is not None and last is not None and dotted(version)[0] > last:
            served = bus.served(device.pci_id)
            key = "gpu-unsupported-by-driver" if served else "gpu-unsupported-by-driver/too-old"
            yield seen.finding(key, version=version, device=device, last=last)
        elif not bus.served(device.pci_id):
            yield seen.finding("gpu-too-old", device=device)
        elif device.driver in ("nouveau", "nova", "nova_core"):
            yield seen.finding("nouveau", branch=_branch(last), device=device, driver=device.driver)
        else:
            left.append(device)
    return left


def _branch(last: int | None) -> str:
    return f" (R{last}; later ones do not support this GPU)" if last is not None else ""


def _refused(seen: _Evidence, nvml: Nvml) -> Iterator[Fact]:
    """NVML was loaded and could not start: say why, and which driver is there."""
    driver, code = seen.driver, nvml.init.code
    if code == _VERSION_MISMATCH:
        # The driver was updated; what will run after a reboot is the one that the library belongs to.
        version = nvml.library_driver or smi_library_version(seen.system, seen.time_left)
        yield Driver(vendor="nvidia", version=version, source="nvml library") if version else driver
        old = f"version {driver.version}" if driver.version else "another version"
        if (yield from _known_reasons(seen, seen.devices, version)) or not seen.devices:
            yield seen.finding("driver-library-mismatch", library=version or "another version", kernel=old)
        return
    if code == _DRIVER_NOT_LOADED and driver.version is None and seen.system.platform == "linux":
        yield from seen.pci_gpus()
        yield from _without_driver(seen, nvml.library_driver, nvml.library.path)
        return
    if driver.version is not None:
        yield driver
    error = nvml.init.text or f"NVML error {code}"
    if code in (_NO_PERMISSION, _OPERATING_SYSTEM):
        yield seen.finding("gpu-permission-denied", hint=_permission_hint(seen.system), error=error)
    else:
        yield _out_of_reach(seen) or seen.finding("nvml-refused", error=error)


def _out_of_reach(seen: _Evidence) -> Finding | None:
    """The kernel driver is loaded, but there is no device node, or it may not be opened."""
    devices = f" (on the bus: {bus.placed(seen.devices)})" if seen.devices else ""
    if seen.node is None and not seen.wsl and seen.system.platform == "linux":
        source, version = seen.driver.source or CONTROL, seen.driver.version or ""
        return seen.finding("no-device-node", source=source, version=version, devices=devices)
    if seen.node is False:
        hint = _permission_hint(seen.system)
        return seen.finding("gpu-permission-denied/node", hint=hint, devices=devices)
    return None


def _without_driver(seen: _Evidence, version: str | None, library: str | None) -> Iterator[Finding]:
    """GPUs on the bus when no NVIDIA driver works, by the reason.

    `version` is the driver that is installed, where known; `library` the NVML that was loaded, if any.
    """
    left = yield from _known_reasons(seen, seen.devices, version)
    if left and library is not None:
        yield seen.finding("driver-not-loaded", devices=bus.placed(left))
    elif left:
        last = next(filter(None, (bus.last_branch(device.pci_id) for device in left)), None)
        yield seen.finding("driver-missing", devices=bus.placed(left), branch=_branch(last))
    elif not seen.devices:
        # NVML says that no driver is loaded, and no GPU can be seen.
        sure = bus.has_bus(seen.system) and not (seen.system.env.get(NVML_VARIABLE) or seen.wsl)
        key = "driver-not-loaded/no-gpu" if sure else "driver-not-loaded/hidden"
        yield seen.finding(key, source=library or "nvml")


def _silent(seen: _Evidence, nvml: Nvml) -> Iterator[Fact]:
    """NVML is missing, hangs or crashes: ask the sources below it."""
    if nvml.problem:
        yield _failed_child(seen, nvml.problem)
    elif seen.system.env.get(NVML_VARIABLE):
        yield seen.finding("nvml-not-loadable", error=nvml.library.problem)
    version = seen.driver.version
    if nvml.cuda_gpus:
        cuda = cuda_text(nvml.libcuda.value)
        yield Driver(vendor="nvidia", version=version, cuda_version=cuda, source="libcuda")
        yield from seen.gpus(nvml.cuda_gpus)
    elif seen.tegra is not None and version is None:
        yield from _tegra_gpu(seen, seen.tegra, nvml)
    elif version and (fault := _out_of_reach(seen)) is not None:
        yield seen.driver
        yield fault
    elif version and seen.devices:
        yield seen.driver
        yield from seen.pci_gpus()
    else:
        yield from _by_command(seen, nvml)


def _tegra_gpu(seen: _Evidence, board: Tegra, nvml: Nvml) -> Iterator[Fact]:
    """JetPack 5 and older has neither NVML nor nvidia-smi; the board itself tells that there is a GPU."""
    if container_engine(seen.system):
        yield seen.finding("no-device-node/jetson")
        return
    yield Driver(vendor="nvidia", cuda_version=cuda_text(nvml.libcuda.value), source=board.source)
    chip = next((row for row in bus.tables().nvidia if row.name == board.chip), None)
    code = capability(chip.code) if chip is not None and chip.code else None
    gpu = Gpu(vendor="nvidia", index=0, name=board.name, integrated=True, source="device-tree")
    yield structs.replace(gpu, compute_capability=code)


def _by_command(seen: _Evidence, nvml: Nvml) -> Iterator[Fact]:
    """The last source, and what remains when it does not answer either."""
    smi = None if nvml.problem == "timeout" else query_smi(seen.system, seen.time_left)
    problem = smi.problem if smi else None
    if smi is not None and smi.gpus:
        yield Driver(vendor="nvidia", version=smi.driver, source="nvidia-smi")
        yield from smi.gpus
    elif seen.adapters:
        yield from seen.adapters
        if seen.driver.version is not None:
            yield seen.driver
        elif any(bus.served(gpu.pci_id) for gpu in seen.adapters):
            yield seen.finding("driver-missing/windows")
    elif seen.driver.version is not None:
        yield seen.driver
        reason = f"; nvidia-smi: {problem}" if problem else ""
        source, version = seen.driver.source, seen.driver.version
        yield seen.finding("driver-without-gpu/silent", source=source, version=version, reason=reason)
    elif seen.devices:
        yield from seen.pci_gpus()
        yield from _without_driver(seen, None, None)
    elif seen.wsl:
        yield seen.finding("wsl-no-nvidia-library")
    else:
        what = "device nodes" if seen.node is not None else "libraries"
        reason = f" ({problem})" if problem and problem != "not found" else ""
        source = nvml.library.path or nvml.libcuda.path or CONTROL
        yield seen.finding("/leftovers", source=source, what=what, reason=reason)
