"""What can be wrong with an NVIDIA GPU and its driver: one finding, one slug and one way on for each.

`broken` and `denied` mean that hardware is there; it counts as out of reach only where no usable GPU is
listed beside the finding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torchinstall.core.machine import Finding, Status
from torchinstall.core.versions import dotted
from torchinstall.probe.host import engine, joinable_group
from torchinstall.probe.libraries import NVML_VARIABLE
from torchinstall.probe.nvidia_kernel import CONTROL, Kernel
from torchinstall.probe.nvml import Nvml, cuda_text, driver_number
from torchinstall.probe.pci import PciDevice
from torchinstall.probe.system import System

__all__ = ["DRIVER_NOT_LOADED", "VERSION_MISMATCH"]

NO_PERMISSION, INSUFFICIENT_POWER, DRIVER_NOT_LOADED, IRQ_ISSUE = 4, 8, 9, 11
LIBRARY_NOT_FOUND, GPU_IS_LOST, OPERATING_SYSTEM, VERSION_MISMATCH = 12, 15, 17, 18
"""NVML's return codes (nvml.h) that name a fault a person can mend."""

_FIRST_BRANCH = 100
"""WSL and Jetson call their library `libcuda.so.1.1`, which is no driver version."""

REINSTALL = "reinstall the NVIDIA driver, then reboot"


def fault(status: Status, slug: str, detail: str, source: str, hint: str | None = None) -> Finding:
    return Finding(probe="nvidia", status=status, slug=slug, detail=detail, source=source, hint=hint)


def listed(bus: Sequence[PciDevice]) -> str:
    return ", ".join(f"{device.pci_id} at {device.address}" for device in bus)


def compat(nvml: Nvml, version: str | None) -> Finding | None:
    """A forward-compatibility libcuda ahead of the driver's own: NVML then reports that library's CUDA."""
    path = nvml.libcuda or ""
    own = driver_number(path.rpartition(".so.")[2]) if ".so." in path else None
    if own is not None and dotted(own)[0] < _FIRST_BRANCH:
        own = None
    differs = own is not None and version is not None and dotted(own)[:2] != dotted(version)[:2]
    if "/compat/" not in path and not differs:
        return None
    claim = cuda_text(nvml.libcuda_cuda) or cuda_text(nvml.cuda) or "a newer CUDA"
    return Finding(
        probe="nvidia",
        status="overridden",
        slug="cuda-compat",
        detail=f"programs load a compatibility libcuda ({own or 'of unknown version'}, {claim}) ahead of "
        f"that of the kernel driver {version or 'of unknown version'}; the kernel driver counts",
        source=path,
        hint="take the compat folder out of LD_LIBRARY_PATH (and of /etc/ld.so.conf.d) unless this is a "
        "data-centre GPU that needs it",
    )


def partial(nvml: Nvml, system: System) -> Iterator[Finding]:
    """Faults of single GPUs and values, beside those that work."""
    for row in nvml.gpus:
        if row.gpu is None:
            yield _one_gpu(row.index, row.code, row.text, system)
        elif row.mig:
            yield Finding(
                probe="nvidia",
                status="found",
                slug="mig",
                detail=f"GPU {row.index} is split by MIG; a CUDA program sees one slice of it",
                source="nvml",
            )
    if nvml.cuda_code == LIBRARY_NOT_FOUND or (nvml.libcuda_problem and nvml.cuda is None):
        yield fault(
            "broken",
            "libcuda-missing",
            "the driver's CUDA library (libcuda) is not here, so torch will not find a GPU",
            "nvml",
            "in a container set NVIDIA_DRIVER_CAPABILITIES=compute,utility; elsewhere install the driver's "
            "compute package (libnvidia-compute, nvidia-driver-cuda)",
        )
    elif nvml.cuda is not None and cuda_text(nvml.cuda) is None:
        yield fault(
            "broken",
            "implausible-cuda-version",
            f"NVML gives {nvml.cuda} as the driver CUDA version, which cannot be and is ignored",
            "nvml",
            REINSTALL,
        )
    if nvml.count is not None and len(nvml.gpus) >= nvml.count and nvml.problem:
        yield fault(
            "broken",
            "libcuda-unusable",
            f"NVML answers, but loading libcuda ended with {nvml.problem}",
            "libcuda",
            REINSTALL,
        )
    elif nvml.problem:
        yield _ended_badly(nvml.problem)


def _one_gpu(index: int, code: int, text: str | None, system: System) -> Finding:
    said = text or f"NVML error {code}"
    if code == GPU_IS_LOST:
        return fault(
            "broken",
            "gpu-lost",
            f"GPU {index} has fallen off the bus ({said})",
            "nvml",
            "reboot; if it happens again look at power, cooling and seating (sudo dmesg | grep -i xid)",
        )
    if code in (NO_PERMISSION, OPERATING_SYSTEM):
        return _denied(f"GPU {index} is there, but this user may not open it ({said})", system)
    if code == INSUFFICIENT_POWER:
        hint = "plug in the GPU's power cables"
        return fault("broken", "gpu-without-power", f"GPU {index} lacks power ({said})", "nvml", hint)
    hint = "sudo dmesg | grep -i -e xid -e nvrm"
    return fault("broken", "gpu-unreadable", f"GPU {index} does not answer ({said})", "nvml", hint)


def _denied(detail: str, system: System) -> Finding:
    group = joinable_group(system, CONTROL)
    if system.env.get("SLURM_JOB_ID"):
        hint = "ask Slurm for a GPU: srun --gres=gpu:1"
    elif engine(system):
        hint = "start the container with its GPUs: docker run --gpus all"
    elif system.access(CONTROL) is False and group is not None:
        hint = f"sudo usermod -aG {group} $USER, then log in again"
    else:
        hint = "ls -l /dev/nvidia* shows who may open the devices; ask the administrator"
    return fault("denied", "gpu-permission-denied", detail, "nvml", hint)


def mismatch(library: str | None, kernel: Kernel) -> Finding:
    """The driver was updated, and the old kernel module is still loaded."""
    return fault(
        "broken",
        "driver-library-mismatch",
        f"the NVIDIA driver was updated to {library or 'another version'}, but the kernel module "
        f"{kernel.version or 'of the old one'} is still loaded",
        "nvml",
        "reboot (or unload and load the nvidia kernel modules)",
    )


def refused(nvml: Nvml, kernel: Kernel, bus: Sequence[PciDevice], system: System) -> Finding:
    """NVML could not start although a driver may be there."""
    said = nvml.init_text or f"NVML error {nvml.init}"
    if nvml.init in (NO_PERMISSION, OPERATING_SYSTEM):
        return _denied(f"the NVIDIA driver may not be used by this user ({said})", system)
    if beyond := out_of_reach(kernel, bus, system):
        return beyond
    return fault(
        "broken", "nvml-refused", f"NVML could not start: {said}", "nvml", "nvidia-smi; " + REINSTALL
    )


def out_of_reach(kernel: Kernel, bus: Sequence[PciDevice], system: System) -> Finding | None:
    """The kernel driver is loaded, but there is no device node, or it may not be opened."""
    seen = f" (on the bus: {listed(bus)})" if bus else ""
    if not kernel.nodes and not system.exists("/dev/dxg") and system.platform == "linux":
        inside = engine(system)
        hint = (
            "start the container with its GPUs: docker run --gpus all (in `docker build` declare the target: "
            "--target-driver and --target-gpu)"
            if inside
            else "sudo nvidia-modprobe -c 0 -u makes the device nodes; nvidia-smi does it too"
        )
        return fault(
            "broken",
            "no-device-node",
            f"the host's NVIDIA driver {kernel.version or ''} is visible, but no device node is{seen}",
            kernel.source or CONTROL,
            hint,
        )
    if kernel.nodes and not kernel.usable:
        return _denied(f"{CONTROL} may not be opened by this user{seen}", system)
    return None


def silence(nvml: Nvml, named: str | None) -> Finding | None:
    """Why NVML said nothing; None where it simply is not installed."""
    if nvml.problem:
        return _ended_badly(nvml.problem)
    if named:
        return fault(
            "broken",
            "nvml-not-loadable",
            f"the library named by {NVML_VARIABLE} does not load: {nvml.library_problem}",
            NVML_VARIABLE,
            f"unset {NVML_VARIABLE}, or name the libnvidia-ml.so.1 of the driver",
        )
    return None


def _ended_badly(problem: str) -> Finding:
    if problem == "timeout":
        return fault(
            "broken",
            "nvml-timeout",
            "NVML did not answer in time; the driver is slow to wake the GPUs, or hangs",
            "nvml",
            "nvidia-smi shows whether the driver hangs; sudo nvidia-smi -pm 1 keeps the GPUs awake",
        )
    if problem.startswith("crash"):
        return fault("broken", "nvml-crash", f"NVML took its process down ({problem})", "nvml", REINSTALL)
    return Finding(
        probe="nvidia",
        status="absent",
        slug="nvml-not-asked",
        detail=f"NVML could not be asked ({problem})",
        source="nvml",
        hint="uv pip install nvidia-ml-py",
    )
