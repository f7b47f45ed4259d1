"""Machines from public reports and from other tools' test tables, and the build that is right for each."""

from __future__ import annotations

import pytest
from msgspec import structs

from tests.support.planning import amd, decide, intel, linux, nvidia, windows
from torchinstall.core.machine import Driver, Gpu, Machine

DATA_CENTRE = {"integrated": False}


def with_amd_driver(machine: Machine) -> Machine:
    return structs.replace(machine, drivers=(*machine.drivers, Driver(vendor="amd")))


def unnamed(vendor: str, name: str, pci_id: str | None = None, index: int = 0, **more: bool) -> Gpu:
    """A GPU that only the bus described."""
    return Gpu(vendor=vendor, name=name, pci_id=pci_id, index=index, **more)  # type: ignore[arg-type]  # a literal that comes as plain text


def bus(*gpus: Gpu, driver: str | None = "580.95.05", **more: object) -> Machine:
    machine = linux(*gpus, driver=driver if any(gpu.vendor == "nvidia" for gpu in gpus) else None)
    return with_amd_driver(machine) if any(gpu.vendor == "amd" for gpu in gpus) else machine


V100 = nvidia("Tesla V100-PCIE-32GB", "7.0")
A100 = nvidia("NVIDIA A100-PCIE-40GB", "8.0")

REPORTS: list[tuple[str, Machine, str]] = [
    ("B200, R575", linux(nvidia("NVIDIA B200", "10.0"), driver="575.57.08"), "2.13.0+cu129"),
    ("CentOS 7", linux(V100, driver="535.104.05", glibc="2.17"), "2.6.0+cu118"),
    ("GH200", linux(nvidia("NVIDIA GH200", "9.0"), driver="550.54.15", arch="aarch64"), "2.14.1+cu126"),
    ("MI210", linux(amd("gfx90a")), "2.14.1+rocm7.2"),
    ("Kaggle P100", linux(nvidia("Tesla P100", "6.0"), driver="580.105.08", glibc="2.35"), "2.14.1+cu126"),
    ("Rocky 8.8", linux(A100, driver="535.104.05", glibc="2.28"), "2.14.1+cu126"),
    ("RX 6600", linux(amd("gfx1032")), "2.15.0+cpu"),
    ("RX 7600 XT", linux(amd("gfx1102")), "2.14.1+rocm7.14"),
    ("Strix Halo", linux(amd("gfx1151")), "2.14.1+rocm7.14"),
    ("V100, R560", linux(V100, driver="560.35.03", glibc="2.35"), "2.14.1+cu126"),
    ("Vega 56", linux(amd("gfx900")), "2.9.1+rocm6.3"),
    (
        "vGPU of R525",
        linux(nvidia("GRID A100D-7-80C", "8.0"), driver="525.105.17", glibc="2.31"),
        "2.14.1+cu126",
    ),
    ("GTX 1060, Windows", windows(nvidia("GTX 1060 6GB", "6.1"), driver="581.57"), "2.14.1+cu126"),
    (
        "RTX 5090 in WSL",
        structs.replace(
            linux(nvidia("RTX 5090", "12.0"), driver="581.57", glibc="2.35"), environment=("wsl2",)
        ),
        "2.15.0+cu130",
    ),
    # Products by PCI id or name alone, as other installers' tests describe them.
    ("Navi 41", bus(unnamed("amd", "Navi 41")), "2.15.0+cpu"),
    ("Navi 31", bus(unnamed("amd", "Navi 31", "1002:744c")), "2.14.1+rocm7.14"),
    ("Navi 22", bus(unnamed("amd", "Navi 22", "1002:73df")), "2.15.0+cpu"),
    ("Navi 10", bus(unnamed("amd", "Navi 10", "1002:731f")), "2.15.0+cpu"),
    ("Vega 20", bus(unnamed("amd", "Vega 20", "1002:66af")), "2.9.1+rocm6.3"),
    ("Vega 10", bus(unnamed("amd", "Vega 10", "1002:687f")), "2.9.1+rocm6.3"),
    ("Polaris", bus(unnamed("amd", "Ellesmere", "1002:67df")), "2.15.0+cpu"),
    ("unknown AMD", bus(unnamed("amd", "UnknownModel", "1002:1234")), "2.15.0+cpu"),
    ("unnamed NVIDIA", bus(unnamed("nvidia", "GeForce")), "2.15.0+cu130"),
    ("RTX 5080", bus(unnamed("nvidia", "GB203", "10de:2c02")), "2.15.0+cu130"),
    (
        "RTX 3060 and GTX 1060",
        bus(unnamed("nvidia", "GA106", "10de:2504"), unnamed("nvidia", "GP106", "10de:1c02", 1)),
        "2.14.1+cu126",
    ),
    (
        "M40 and GTX 960",
        bus(unnamed("nvidia", "GM200GL", "10de:17fd"), unnamed("nvidia", "GM206", "10de:1401", 1)),
        "2.14.1+cu126",
    ),
    (
        "Navi 33 and Navi 21",
        bus(unnamed("amd", "Navi 33", "1002:73f0"), unnamed("amd", "Navi 21", "1002:73bf", 1)),
        "2.14.1+rocm7.14",
    ),
    (
        "Navi 33 and Vega 20",
        bus(unnamed("amd", "Navi 33", "1002:73f0"), unnamed("amd", "Vega 20", "1002:66af", 1)),
        "2.9.1+rocm6.3",
    ),
    (
        "Vega 10 and Navi 21",
        bus(unnamed("amd", "Vega 10", "1002:6867"), unnamed("amd", "Navi 21", "1002:73bf", 1)),
        "2.9.1+rocm6.3",
    ),
    ("Phoenix", bus(unnamed("amd", "Phoenix1", "1002:15bf", integrated=True)), "2.14.1+rocm7.14"),
    (
        "RTX 3060 beside Phoenix and Navi 33",
        bus(
            unnamed("amd", "Phoenix1", "1002:15bf", integrated=True),
            unnamed("nvidia", "RTX 3060", "10de:2504", integrated=False),
            unnamed("amd", "Navi 33", "1002:73f0", 1, integrated=False),
        ),
        "2.15.0+cu130",
    ),
    ("UHD 770", linux(intel("8086:4692", integrated=True)), "2.15.0+cpu"),
    ("Arc Pro B60 by name", linux(unnamed("intel", "Intel(R) Arc(TM) Pro B60")), "2.14.1+xpu"),
    ("Arc Pro B50 of lspci", linux(unnamed("intel", "Battlemage G21 [Arc Pro B50]")), "2.14.1+xpu"),
]


@pytest.mark.parametrize(("machine", "torch"), [row[1:] for row in REPORTS], ids=[row[0] for row in REPORTS])
def test_the_right_build(machine: Machine, torch: str) -> None:
    plan = decide(machine)
    assert plan.torch == torch
    lost = [gpu for gpu in plan.gpus if not gpu.covered]
    assert (
        not lost
        or {w.slug for w in plan.warnings} & {"gpu-not-used", "gpu-left-out"}
        or plan.backend != "cpu"
    )
