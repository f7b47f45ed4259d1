"""What questions are made of: systems, Pythons, sets of packages and pins."""

from __future__ import annotations

from tests.simulation.case import System
from tests.simulation.facts import facts
from tests.simulation.hardware import Part
from tests.simulation.oracle import branch_of

M3 = Part("apple", "Apple M3", "apple", discrete=False)
LINUX = System("linux", glibc="2.35")
ARM = System("linux", arch="aarch64", glibc="2.39")
WINDOWS = System("windows")
WSL = System("linux", glibc="2.35", wsl=True)
GLIBCS = ("2.17", "2.23", "2.26", "2.27", "2.28", "2.31", "2.34", "2.35", "2.36", "2.39", "2.40")
MACS = ("11.7", "12.6", "13.6", "14.5", "15.3", "26.1")

PYTHONS = ("3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.13t", "3.14", "3.14t", "3.15", "3.15t")
SETS = (
    ("torch",),
    ("torch", "torchvision"),
    ("torch", "torchaudio"),
    ("torch", "torchvision", "torchaudio"),
)
PINS: tuple[tuple[str, ...], ...] = (
    ("torch==1.13.1",),
    ("torch==2.0.1",),
    ("torch<2.3",),
    ("torch==2.2.2",),
    ("torch==2.4.1",),
    ("torch==2.5.1",),
    ("torch==2.6.0",),
    ("torch<2.7",),
    ("torch==2.7.1",),
    ("torch==2.8.0",),
    ("torch~=2.9.0",),
    ("torch==2.9.1",),
    ("torch==2.10.0",),
    ("torch==2.11.0",),
    ("torch>=2.12,<2.13",),
    ("torch==2.13.0",),
    ("torch==2.14.1",),
    ("torch==2.15.0",),
    ("torch>=2.11",),
    ("torch>=2.6,<2.10", "torchvision"),
    ("torchvision==0.20.1",),
    ("torchvision<0.24",),
    ("torchaudio==2.8.0",),
    ("torchaudio>=2.9",),
    ("torch==9.9.9",),
)


def driver_knows(part: Part, driver: str) -> bool:
    """Whether that driver would show that GPU at all."""
    first, last = facts().served.get(
        (int(part.code.split(".")[0]), int(part.code.split(".")[1])), (None, 390)
    )
    branch = branch_of(driver) or 390
    return (first or 0) <= branch <= (last or 9999)
