"""What can be wrong with an NVIDIA GPU and its driver, and the findings where there is nothing to use.

`broken` and `denied` mean that hardware is there; it counts as out of reach only where no usable GPU is
listed beside the finding.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from functools import partial
from typing import Any

from torchinstall.core.machine import Finding
from torchinstall.core.versions import dotted
from torchinstall.probe.bus import PciDevice, bus_address, has_bus, is_passed_through, last_branch, placed
from torchinstall.probe.host import container_engine, group_hint, joinable_group, report
from torchinstall.probe.nvidia_sources import CONTROL, Kernel, Nvml, Row, cuda_text
from torchinstall.probe.system import NVML_VARIABLE, System

_NO_PERMISSION, _INSUFFICIENT_POWER, DRIVER_NOT_LOADED = 4, 8, 9
_LIBRARY_NOT_FOUND, _GPU_IS_LOST, _OPERATING_SYSTEM, VERSION_MISMATCH = 12, 15, 17, 18
"""Return codes of nvml.h that name a fault a person can fix."""

_FIRST_BRANCH = 100
"""WSL and Jetson call their library `libcuda.so.1.1`, which is no driver version."""

_nvidia = partial(report, "nvidia")


def compat(nvml: Nvml, version: str | None, system: System) -> Finding | None:
    """A forward-compatibility libcuda ahead of the driver's own: NVML then reports that library's CUDA."""
    own, path = nvml.libcuda.driver, nvml.libcuda.path or ""
    if own is not None and dotted(own)[0] < _FIRST_BRANCH:
        own = None
    differs = own is not None and version is not None and dotted(own)[:2] != dotted(version)[:2]
    if "/compat/" not in path and not differs:
        return None
    cuda = cuda_text(nvml.libcuda.value) or cuda_text(nvml.cuda.value) or "unknown"
    unknown = "of unknown version"
    values = {"own": own or unknown, "cuda": cuda, "version": version or unknown}
    return _nvidia(system, "cuda-compat", source=path, **values)


def partial_faults(nvml: Nvml, system: System) -> Iterator[Finding]:
    """Faults of single GPUs and values, beside those that work."""
    for row in nvml.gpus:
        if row.gpu is None:
            yield _gpu_fault(row, system)
        elif row.mig == 1:
            yield _nvidia(system, "mig", index=row.index)
    if nvml.cuda.code == _LIBRARY_NOT_FOUND or (nvml.libcuda.problem and nvml.cuda.value is None):
        yield _nvidia(system, "libcuda-missing")
    elif nvml.cuda.value is not None and cuda_text(nvml.cuda.value) is None:
        yield _nvidia(system, "implausible-cuda-version", number=nvml.cuda.value)
    if nvml.count.value is not None and len(nvml.gpus) >= nvml.count.value and nvml.problem:
        yield _nvidia(system, "libcuda-unusable", problem=nvml.problem)
    elif nvml.problem:
        yield _failed_child(nvml.problem, system)


def _gpu_fault(row: Row, system: System) -> Finding:
    values: dict[str, Any] = {"index": row.index, "error": row.text or f"NVML error {row.code}"}
    if row.code in (_NO_PERMISSION, _OPERATING_SYSTEM):
        return _nvidia(system, "gpu-permission-denied/gpu", hint=_permission_hint(system), **values)
    if row.code == _GPU_IS_LOST:
        return _nvidia(system, "gpu-lost", **values)
    if row.code == _INSUFFICIENT_POWER:
        return _nvidia(system, "gpu-without-power", **values)
    return _nvidia(system, "gpu-unreadable", **values)


def _permission_hint(system: System) -> str:
    group = joinable_group(system, CONTROL)
    if system.env.get("SLURM_JOB_ID"):
        return "request a GPU from Slurm: srun --gres=gpu:1"
    if container_engine(system):
        return "start the container with its GPUs: docker run --gpus all"
    if system.access(CONTROL) is False and group is not None:
        return group_hint(system, [group])
    return "ls -l /dev/nvidia* shows who may open the devices; ask the administrator"


def mismatch(library: str | None, kernel: Kernel, system: System) -> Finding:
    """The driver was updated, and the old kernel module is still loaded."""
    old = f"version {kernel.version}" if kernel.version else "another version"
    values = {"library": library or "another version", "kernel": old}
    return _nvidia(system, "driver-library-mismatch", **values)


def refused(nvml: Nvml, kernel: Kernel, devices: Sequence[PciDevice], system: System) -> Finding:
    """NVML could not start although a driver may be there."""
    error = nvml.init.text or f"NVML error {nvml.init.code}"
    if nvml.init.code in (_NO_PERMISSION, _OPERATING_SYSTEM):
        return _nvidia(system, "gpu-permission-denied", hint=_permission_hint(system), error=error)
    return out_of_reach(kernel, devices, system) or _nvidia(system, "nvml-refused", error=error)


def out_of_reach(kernel: Kernel, devices: Sequence[PciDevice], system: System) -> Finding | None:
    """The kernel driver is loaded, but there is no device node, or it may not be opened."""
    seen = f" (on the bus: {placed(devices)})" if devices else ""
    if not kernel.nodes and not system.exists("/dev/dxg") and system.platform == "linux":
        source, version = kernel.source or CONTROL, kernel.version or ""
        return _nvidia(system, "no-device-node", source=source, version=version, devices=seen)
    if kernel.nodes and not kernel.usable:
        return _nvidia(system, "gpu-permission-denied/node", hint=_permission_hint(system), devices=seen)
    return None


def silence(nvml: Nvml, system: System) -> Finding | None:
    """Why NVML did not answer; None where it simply is not installed."""
    if nvml.problem:
        return _failed_child(nvml.problem, system)
    if system.env.get(NVML_VARIABLE):
        return _nvidia(system, "nvml-not-loadable", error=nvml.library.problem)
    return None


def _failed_child(problem: str, system: System) -> Finding:
    if problem == "timeout":
        return _nvidia(system, "nvml-timeout")
    if problem.startswith("crash"):
        return _nvidia(system, "nvml-crash", error=problem.removeprefix("crash: "))
    return _nvidia(system, "nvml-not-asked", error=problem)


def leftovers(nvml: Nvml, kernel: Kernel, smi_problem: str | None, system: System) -> Finding:
    """Libraries or device nodes without anything behind them."""
    what = "device nodes" if kernel.nodes else "libraries"
    reason = f" ({smi_problem})" if smi_problem and smi_problem != "not found" else ""
    source = nvml.library.path or nvml.libcuda.path or CONTROL
    return _nvidia(system, "/leftovers", source=source, what=what, reason=reason)


def unlisted(
    devices: Sequence[PciDevice], nvml: Nvml, version: str | None, system: System
) -> Iterator[Finding]:
    """GPUs on the bus that a working driver does not list."""
    if any(row.gpu is None or bus_address(row.bus) is None for row in nvml.gpus):
        return  # a lost GPU is still on the bus, and an unplaced one cannot be matched
    listed = {bus_address(row.bus) for row in nvml.gpus}
    left = [device for device in devices if device.address not in listed]
    if left and nvml.gpus and (container_engine(system) or system.env.get("SLURM_JOB_ID")):
        # The bus in /sys is the host's: a container or job sees GPUs there that it was not given.
        yield _nvidia(system, "gpu-withheld", count=len(left))
    elif left:
        left = yield from _known_reasons(left, version, system)
        if left:
            yield _nvidia(system, "gpu-unlisted", devices=placed(left))


def without_driver(
    devices: Sequence[PciDevice], version: str | None, library: str | None, system: System
) -> Iterator[Finding]:
    """GPUs on the bus when no NVIDIA driver works, by the reason.

    Args:
        devices: those GPUs.
        version: the driver that is installed, where known.
        library: the NVML that was loaded, None when there is none.
        system: the machine.
    """
    left = yield from _known_reasons(devices, version, system)
    if left and library is not None:
        yield _nvidia(system, "driver-not-loaded", devices=placed(left))
    elif left:
        last = next(filter(None, (last_branch(device.pci_id) for device in left)), None)
        yield _nvidia(system, "driver-missing", devices=placed(left), branch=_branch(last))
    elif not devices:
        # NVML says that no driver is loaded, and no GPU can be seen.
        sure = has_bus(system) and not (system.env.get(NVML_VARIABLE) or system.exists("/dev/dxg"))
        key = "driver-not-loaded/no-gpu" if sure else "driver-not-loaded/hidden"
        yield _nvidia(system, key, source=library or "nvml")


def _known_reasons(
    devices: Sequence[PciDevice], version: str | None, system: System
) -> Generator[Finding, None, list[PciDevice]]:
    """What keeps single GPUs from the driver; returns the others."""
    left = []
    for device in devices:
        last = last_branch(device.pci_id)
        values: dict[str, Any] = {"device": device, "driver": device.driver}
        if is_passed_through(device):
            yield _nvidia(system, "gpu-passed-through", **values)
        elif version is not None and last is not None and dotted(version)[0] > last:
            yield _nvidia(system, "gpu-unsupported-by-driver", version=version, device=device, last=last)
        elif device.driver in ("nouveau", "nova", "nova_core"):
            yield _nvidia(system, "nouveau", branch=_branch(last), **values)
        else:
            left.append(device)
    return left


def _branch(last: int | None) -> str:
    return f" (R{last}; later ones do not support this GPU)" if last is not None else ""
