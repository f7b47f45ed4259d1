"""Look at the machine: one file per vendor, one door to the operating system (`system.py`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torchinstall.core.machine import Machine
    from torchinstall.probe.system import System

__all__ = ["folder_system", "probe_machine", "real_system"]


def probe_machine(system: System) -> Machine:
    """What this machine is; never raises, and answers within three seconds."""
    from torchinstall.probe.detect import probe_machine as look

    return look(system)


def real_system(env: Mapping[str, str]) -> System:
    """The machine that this process runs on, with these environment variables."""
    from torchinstall.probe.real import RealSystem

    return RealSystem(env)


def folder_system(root: Path) -> System:
    """A captured machine (`scripts/capture_machine.py`).

    Raises:
        UsageError: `root` is not a folder.
    """
    from torchinstall.probe.replay import FolderSystem

    return FolderSystem(root)
