"""Where NVIDIA has nothing to offer: no sign of it, a driver without a GPU, leftovers, a bare container."""

from __future__ import annotations

from collections.abc import Sequence

from torchinstall.core.machine import Finding
from torchinstall.probe.host import engine
from torchinstall.probe.nvidia_faults import REINSTALL, fault
from torchinstall.probe.nvidia_kernel import CONTROL, Kernel
from torchinstall.probe.nvml import Nvml
from torchinstall.probe.system import System

__all__ = ["driver_alone", "jetson_container", "leftovers", "no_gpu", "nothing", "windows_driver_missing"]


def nothing(wsl: bool) -> Finding:
    """No sign of NVIDIA."""
    if wsl:
        return fault(
            "absent",
            "wsl-no-nvidia-library",
            "WSL passes a GPU through (/dev/dxg), but Windows has put no NVIDIA library into it",
            "/usr/lib/wsl/lib",
            "for an NVIDIA GPU install its Windows driver, then run `wsl --shutdown` in Windows",
        )
    return Finding(
        probe="nvidia",
        status="absent",
        detail="no NVIDIA device, driver or library",
        source="PCI bus, /proc/driver/nvidia, /dev/nvidiactl, libnvidia-ml.so.1, libcuda.so.1",
    )


def no_gpu(system: System) -> Finding:
    """The driver works and has no GPU."""
    hint = "start the container with its GPUs: docker run --gpus all" if engine(system) else None
    return fault("absent", "driver-without-gpu", "the NVIDIA driver answers, but lists no GPU", "nvml", hint)


def driver_alone(kernel: Kernel, smi_problem: str | None) -> Finding:
    """A driver is loaded; neither NVML, the bus nor nvidia-smi names a GPU."""
    tail = f"; nvidia-smi: {smi_problem}" if smi_problem else ""
    return fault(
        "broken",
        "driver-without-gpu",
        f"the NVIDIA driver {kernel.version} is loaded, but no GPU can be read{tail}",
        kernel.source or "kernel",
        "nvidia-smi; " + REINSTALL,
    )


def leftovers(nvml: Nvml, kernel: Kernel, smi_problem: str | None) -> Finding:
    """Libraries or device nodes without anything behind them."""
    what = "device nodes" if kernel.nodes else "libraries"
    tail = f" ({smi_problem})" if smi_problem and smi_problem != "not found" else ""
    return Finding(
        probe="nvidia",
        status="absent",
        detail=f"NVIDIA {what} are here, but neither a driver nor a GPU answers{tail}",
        source=nvml.library or nvml.libcuda or CONTROL,
    )


def windows_driver_missing(adapters: Sequence[object]) -> Finding:
    """Windows runs the GPU with its own basic driver."""
    return fault(
        "broken",
        "driver-missing",
        f"Windows lists NVIDIA adapters without NVIDIA's driver ({len(adapters)})",
        "display adapters",
        "install NVIDIA's driver",
    )


def jetson_container() -> Finding:
    """A container on a Jetson that was started without NVIDIA's runtime."""
    return fault(
        "broken",
        "no-device-node",
        "this container runs on a Jetson, but has neither its CUDA library nor its device nodes",
        "/proc/device-tree/compatible",
        "docker run --runtime nvidia",
    )
