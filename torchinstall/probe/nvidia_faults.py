"""What can be wrong with an NVIDIA GPU and its driver, and the findings where there is nothing to use.

One finding, one slug and one way to fix it for each. `broken` and `denied` mean that hardware is there; it
counts as out of reach only where no usable GPU is listed beside the finding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from torchinstall.core.machine import Finding
from torchinstall.core.versions import dotted
from torchinstall.probe.bus import PciDevice, bus_address, has_bus, last_branch, passed_through, placed
from torchinstall.probe.host import container_engine, group_hint, joinable_group
from torchinstall.probe.nvidia_sources import CONTROL, Kernel, Nvml, Row, cuda_text
from torchinstall.probe.system import NVML_VARIABLE, System, finding

_NO_PERMISSION, _INSUFFICIENT_POWER, DRIVER_NOT_LOADED = 4, 8, 9
_LIBRARY_NOT_FOUND, _GPU_IS_LOST, _OPERATING_SYSTEM, VERSION_MISMATCH = 12, 15, 17, 18
"""Return codes of nvml.h that name a fault a person can fix."""

_FIRST_BRANCH = 100
"""WSL and Jetson call their library `libcuda.so.1.1`, which is no driver version."""

_REINSTALL = "reinstall the NVIDIA driver, then reboot"
_GPUS_ALL = "start the container with its GPUs: docker run --gpus all"

_nvidia = partial(finding, "nvidia")


def working(count: int, version: str | None) -> Finding:
    """GPUs that NVML lists."""
    text = f"{count} GPU{'s'[: count > 1]}, driver {version or 'of unknown version'}"
    return _nvidia("found", None, text, "nvml")


def nothing(*, wsl: bool) -> Finding:
    """No sign of NVIDIA."""
    if wsl:
        return _nvidia(
            "absent",
            "wsl-no-nvidia-library",
            "WSL offers a GPU (/dev/dxg), but Windows has not added an NVIDIA library to it",
            "/usr/lib/wsl/lib",
            "for an NVIDIA GPU install its Windows driver, then run `wsl --shutdown` in Windows",
        )
    sources = "PCI bus, /proc/driver/nvidia, /dev/nvidiactl, libnvidia-ml.so.1, libcuda.so.1"
    return _nvidia("absent", None, "no NVIDIA device, driver or library", sources)


def no_gpu(system: System) -> Finding:
    """The driver works and has no GPU."""
    hint = _GPUS_ALL if container_engine(system) else None
    return _nvidia("absent", "driver-without-gpu", "the NVIDIA driver works, but lists no GPU", "nvml", hint)


def driver_alone(kernel: Kernel, smi_problem: str | None) -> Finding:
    """A driver is loaded; neither NVML, the bus nor nvidia-smi names a GPU."""
    reason = f"; nvidia-smi: {smi_problem}" if smi_problem else ""
    detail = f"the NVIDIA driver {kernel.version} is loaded, but no GPU can be read{reason}"
    hint = "nvidia-smi; " + _REINSTALL
    return _nvidia("broken", "driver-without-gpu", detail, kernel.source or "kernel", hint)


def leftovers(nvml: Nvml, kernel: Kernel, smi_problem: str | None) -> Finding:
    """Libraries or device nodes without anything behind them."""
    what = "device nodes" if kernel.nodes else "libraries"
    reason = f" ({smi_problem})" if smi_problem and smi_problem != "not found" else ""
    detail = f"NVIDIA {what} are present, but no driver or GPU answers{reason}"
    return _nvidia("absent", None, detail, nvml.library.path or nvml.libcuda.path or CONTROL)


def windows_driver_missing(count: int) -> Finding:
    """Windows runs the GPU with its own basic driver."""
    adapters = f"{count} NVIDIA adapter{'s'[: count > 1]} without NVIDIA's driver"
    hint = "install NVIDIA's driver"
    return _nvidia("broken", "driver-missing", f"Windows lists {adapters}", "display adapters", hint)


def jetson_container() -> Finding:
    """A container on a Jetson that was started without NVIDIA's runtime."""
    detail = "this container runs on a Jetson, but has neither its CUDA library nor its device nodes"
    source = "/proc/device-tree/compatible"
    return _nvidia("broken", "no-device-node", detail, source, "docker run --runtime nvidia")


def compat(nvml: Nvml, version: str | None) -> Finding | None:
    """A forward-compatibility libcuda ahead of the driver's own: NVML then reports that library's CUDA."""
    own = nvml.libcuda.driver
    if own is not None and dotted(own)[0] < _FIRST_BRANCH:
        own = None
    differs = own is not None and version is not None and dotted(own)[:2] != dotted(version)[:2]
    path = nvml.libcuda.path or ""
    if "/compat/" not in path and not differs:
        return None
    cuda = cuda_text(nvml.libcuda.value) or cuda_text(nvml.cuda.value)
    return _nvidia(
        "overridden",
        "cuda-compat",
        f"programs load a compatibility libcuda ({own or 'of unknown version'}, CUDA {cuda or 'unknown'}) "
        f"instead of that of the kernel driver ({version or 'of unknown version'}), whose limits still apply",
        path,
        "remove the compat folder from LD_LIBRARY_PATH (and from /etc/ld.so.conf.d), unless this is a "
        "data-centre GPU that needs it",
    )


def partial_faults(nvml: Nvml, system: System) -> Iterator[Finding]:
    """Faults of single GPUs and values, beside those that work."""
    for row in nvml.gpus:
        if row.gpu is None:
            yield _gpu_fault(row, system)
        elif row.mig == 1:
            detail = f"GPU {row.index} is partitioned with MIG; a CUDA program sees one instance of it"
            yield _nvidia("found", "mig", detail, "nvml")
    if nvml.cuda.code == _LIBRARY_NOT_FOUND or (nvml.libcuda.problem and nvml.cuda.value is None):
        yield _nvidia(
            "broken",
            "libcuda-missing",
            "the driver's CUDA library (libcuda) is missing, so torch will not find a GPU",
            "nvml",
            "in a container set NVIDIA_DRIVER_CAPABILITIES=compute,utility; elsewhere install the driver's "
            "compute package (libnvidia-compute, nvidia-driver-cuda)",
        )
    elif nvml.cuda.value is not None and cuda_text(nvml.cuda.value) is None:
        detail = (
            f"NVML reports {nvml.cuda.value} as the driver CUDA version, which is impossible and is ignored"
        )
        yield _nvidia("broken", "implausible-cuda-version", detail, "nvml", _REINSTALL)
    if nvml.count.value is not None and len(nvml.gpus) >= nvml.count.value and nvml.problem:
        detail = f"NVML works, but loading libcuda failed: {nvml.problem}"
        yield _nvidia("broken", "libcuda-unusable", detail, "libcuda", _REINSTALL)
    elif nvml.problem:
        yield _failed_child(nvml.problem)


def _gpu_fault(row: Row, system: System) -> Finding:
    index, code, error = row.index, row.code, row.text or f"NVML error {row.code}"
    if code in (_NO_PERMISSION, _OPERATING_SYSTEM):
        return _permission_denied(f"GPU {index} is present, but this user may not open it ({error})", system)
    if code == _GPU_IS_LOST:
        hint = "reboot; if it happens again check power, cooling and seating (sudo dmesg | grep -i xid)"
        return _nvidia("broken", "gpu-lost", f"GPU {index} has fallen off the bus ({error})", "nvml", hint)
    if code == _INSUFFICIENT_POWER:
        hint = "plug in the GPU's power cables"
        return _nvidia("broken", "gpu-without-power", f"GPU {index} lacks power ({error})", "nvml", hint)
    hint = "sudo dmesg | grep -i -e xid -e nvrm"
    return _nvidia("broken", "gpu-unreadable", f"GPU {index} does not answer ({error})", "nvml", hint)


def _permission_denied(detail: str, system: System) -> Finding:
    group = joinable_group(system, CONTROL)
    if system.env.get("SLURM_JOB_ID"):
        hint = "request a GPU from Slurm: srun --gres=gpu:1"
    elif container_engine(system):
        hint = _GPUS_ALL
    elif system.access(CONTROL) is False and group is not None:
        hint = group_hint(system, [group])
    else:
        hint = "ls -l /dev/nvidia* shows who may open the devices; ask the administrator"
    return _nvidia("denied", "gpu-permission-denied", detail, "nvml", hint)


def mismatch(library: str | None, kernel: Kernel) -> Finding:
    """The driver was updated, and the old kernel module is still loaded."""
    return _nvidia(
        "broken",
        "driver-library-mismatch",
        f"the NVIDIA driver was updated to {library or 'another version'}, but the kernel module of version "
        f"{kernel.version or '(unknown)'} is still loaded",
        "nvml",
        "reboot (or unload and load the nvidia kernel modules)",
    )


def refused(nvml: Nvml, kernel: Kernel, devices: Sequence[PciDevice], system: System) -> Finding:
    """NVML could not start although a driver may be there."""
    error = nvml.init.text or f"NVML error {nvml.init.code}"
    if nvml.init.code in (_NO_PERMISSION, _OPERATING_SYSTEM):
        return _permission_denied(f"this user may not use the NVIDIA driver ({error})", system)
    if fault := out_of_reach(kernel, devices, system):
        return fault
    hint = "nvidia-smi; " + _REINSTALL
    return _nvidia("broken", "nvml-refused", f"NVML could not start: {error}", "nvml", hint)


def out_of_reach(kernel: Kernel, devices: Sequence[PciDevice], system: System) -> Finding | None:
    """The kernel driver is loaded, but there is no device node, or it may not be opened."""
    seen = f" (on the bus: {placed(devices)})" if devices else ""
    if not kernel.nodes and not system.exists("/dev/dxg") and system.platform == "linux":
        hint = "create the device nodes: sudo nvidia-modprobe -c 0 -u (nvidia-smi does it too)"
        if container_engine(system):
            hint = f"{_GPUS_ALL} (in `docker build` name the target: --target-driver and --target-gpu)"
        detail = f"the host's NVIDIA driver {kernel.version or ''} is visible, but no device node is{seen}"
        return _nvidia("broken", "no-device-node", detail, kernel.source or CONTROL, hint)
    if kernel.nodes and not kernel.usable:
        return _permission_denied(f"this user may not open {CONTROL}{seen}", system)
    return None


def silence(nvml: Nvml, named: str | None) -> Finding | None:
    """Why NVML did not answer; None where it simply is not installed."""
    if nvml.problem:
        return _failed_child(nvml.problem)
    if named:
        detail = f"the library named by {NVML_VARIABLE} cannot be loaded: {nvml.library.problem}"
        hint = f"unset {NVML_VARIABLE}, or set it to the driver's libnvidia-ml.so.1"
        return _nvidia("broken", "nvml-not-loadable", detail, NVML_VARIABLE, hint)
    return None


def _failed_child(problem: str) -> Finding:
    if problem == "timeout":
        return _nvidia(
            "broken",
            "nvml-timeout",
            "NVML did not answer in time: the driver takes long to wake the GPUs, or hangs",
            "nvml",
            "nvidia-smi shows whether the driver hangs; sudo nvidia-smi -pm 1 keeps the GPUs awake",
        )
    if problem.startswith("crash"):
        return _nvidia("broken", "nvml-crash", f"NVML crashed: {problem[7:]}", "nvml", _REINSTALL)
    detail = f"NVML could not be asked ({problem})"
    return _nvidia("absent", "nvml-not-asked", detail, "nvml", "uv pip install nvidia-ml-py")


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
        detail = f"GPUs of this host that this container or job may not use: {len(left)}"
        yield _nvidia("found", "gpu-withheld", detail, "PCI bus, nvml")
    elif left:
        yield from without_driver(left, version, None, library=nvml.library.path)


def without_driver(
    devices: Sequence[PciDevice], version: str | None, system: System | None, *, library: str | None
) -> Iterator[Finding]:
    """GPUs on the bus for which no NVIDIA driver answers, by the reason.

    Args:
        devices: those GPUs.
        version: the driver that is installed, where known.
        system: None when another GPU's driver works, so that only single GPUs are in question.
        library: the NVML that was loaded, None when there is none.
    """
    left = []
    for device in devices:
        last = last_branch(device.pci_id)
        if (fault := passed_through("nvidia", device)) is not None:
            yield fault
        elif version is not None and last is not None and dotted(version)[0] > last:
            detail = f"driver {version} no longer supports {device}; R{last} was the last branch that did"
            source, hint = "PCI bus, table of driver branches", f"install the R{last} driver"
            yield _nvidia("broken", "gpu-unsupported-by-driver", detail, source, hint)
        elif device.driver in ("nouveau", "nova", "nova_core"):
            detail = f"{device} uses the {device.driver} driver, which does not support CUDA"
            hint = f"install NVIDIA's driver{_branch(last)}, which replaces {device.driver}, then reboot"
            yield _nvidia("broken", "nouveau", detail, "PCI bus", hint)
        else:
            left.append(device)
    if left:
        yield _driver_missing(left, system, library)
    elif not devices and system is not None:
        yield _library_alone(system, library)


def _branch(last: int | None) -> str:
    return f" (R{last}; later ones do not support this GPU)" if last is not None else ""


def _driver_missing(left: Sequence[PciDevice], system: System | None, library: str | None) -> Finding:
    if system is None:
        detail = f"{placed(left)} is on the bus, but the driver does not list it"
        hint = "find the reason in the kernel's log: sudo dmesg | grep -i nvrm"
        return _nvidia("broken", "gpu-unlisted", detail, "PCI bus, nvml", hint)
    if library is not None:
        detail = f"NVIDIA's driver is installed, but its kernel module is not loaded for {placed(left)}"
        hint = "sudo modprobe nvidia; if that fails, reboot, or sign the module for Secure Boot"
        return _nvidia("broken", "driver-not-loaded", detail, "nvml", hint)
    last = next(filter(None, (last_branch(device.pci_id) for device in left)), None)
    hint = f"install NVIDIA's driver{_branch(last)}"
    return _nvidia("broken", "driver-missing", f"no NVIDIA driver for {placed(left)}", "PCI bus", hint)


def _library_alone(system: System, library: str | None) -> Finding:
    """NVML says that no driver is loaded, and no GPU can be seen."""
    source = library or "nvml"
    if has_bus(system) and not (system.env.get(NVML_VARIABLE) or system.exists("/dev/dxg")):
        detail = "NVIDIA's library is installed, but there is no NVIDIA GPU"
        return _nvidia("absent", "driver-not-loaded", detail, source)
    hint = _GPUS_ALL if container_engine(system) else "sudo modprobe nvidia"
    detail = "NVIDIA's driver is installed, but not loaded"
    return _nvidia("broken", "driver-not-loaded", detail, source, hint)
