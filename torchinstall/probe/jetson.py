"""Tell Jetson (Tegra) apart from other aarch64 machines with NVIDIA GPUs: Grace, Spark."""

from __future__ import annotations

import re

from msgspec import Struct

from torchinstall.probe.facts import clean
from torchinstall.probe.system import System

__all__ = ["Tegra", "tegra"]

_RELEASE = re.compile(r"#\s*R(\d{1,3})\s*\(release\),\s*REVISION:\s*(\d{1,3}(?:\.\d{1,3}){0,2})")
_RELEASE_FILE = "/etc/nv_tegra_release"
_COMPATIBLE = re.compile(r"nvidia,tegra\d+")


class Tegra(Struct, frozen=True, kw_only=True):
    """A Jetson: its Linux release (`36.4.3`), chip (`tegra234`) and board, as far as they can be read."""

    l4t: str | None
    chip: str | None
    model: str | None
    source: str


def tegra(system: System) -> Tegra | None:
    """What marks a Jetson: the release file, or a Tegra chip in the device tree."""
    release = _RELEASE.search(system.read_text(_RELEASE_FILE) or "")
    chip = _COMPATIBLE.search(system.read_text("/proc/device-tree/compatible") or "")
    if release is None and chip is None:
        return None
    model = clean((system.read_text("/proc/device-tree/model") or "").replace("\0", " "))
    return Tegra(
        l4t=f"{release[1]}.{release[2]}" if release else None,
        chip=chip[0].partition(",")[2] if chip else None,
        model=model,
        source=_RELEASE_FILE if release else "/proc/device-tree/compatible",
    )
