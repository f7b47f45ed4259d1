"""Machines for questions about packages that are built against torch."""

from __future__ import annotations

from tests.support.planning import amd, linux, mac, nvidia, windows
from torchinstall.core.machine import Driver, Machine


def _rocm() -> Machine:
    machine = linux(amd("gfx942"))
    return Machine(
        os=machine.os,
        os_version=machine.os_version,
        arch=machine.arch,
        libc=machine.libc,
        gpus=machine.gpus,
        drivers=(Driver(vendor="amd", version="6.12.12", source="kfd"),),
    )


MACHINES: dict[str, Machine] = {
    "rtx4090": linux(nvidia("NVIDIA GeForce RTX 4090", "8.9"), driver="580.95.05"),
    "h100": linux(nvidia("NVIDIA H100 80GB HBM3", "9.0"), driver="580.95.05"),
    "h100-r550": linux(nvidia("NVIDIA H100 80GB HBM3", "9.0"), driver="550.163.01"),
    "rtx5090-r610": linux(nvidia("NVIDIA GeForce RTX 5090", "12.0"), driver="610.43.02"),
    "v100+a100": linux(nvidia("Tesla V100", "7.0"), nvidia("NVIDIA A100", "8.0", 1), driver="580.95.05"),
    "a100-r470": linux(nvidia("NVIDIA A100-SXM4-40GB", "8.0"), driver="470.256.02"),
    "v100": linux(nvidia("Tesla V100-SXM2-32GB", "7.0"), driver="580.95.05"),
    "rtx4090-windows": windows(nvidia("NVIDIA GeForce RTX 4090", "8.9"), driver="591.44"),
    "mi300x": _rocm(),
    "spark": linux(nvidia("NVIDIA GB10", "12.1"), driver="580.95.05", arch="aarch64"),
    "t4": linux(nvidia("Tesla T4", "7.5"), driver="570.86"),
    "rtx2080": linux(nvidia("NVIDIA GeForce RTX 2080", "7.5"), driver="580.95.05"),
    "gtx1080ti": linux(nvidia("NVIDIA GeForce GTX 1080 Ti", "6.1"), driver="580.95.05"),
    "m3": mac("15.5"),
    "no-gpu": linux(),
    "a10g-rhel8": linux(nvidia("NVIDIA A10G", "8.6"), driver="580.95.05", glibc="2.28"),
}
