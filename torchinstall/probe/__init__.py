"""Examine the machine: one file per vendor, one door to the operating system (`system.py`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torchinstall.core.machine import Machine
from torchinstall.probe.system import System

__all__ = ["folder_system", "probe_machine", "real_system"]


def probe_machine(system: System) -> Machine:
    """What this machine is; never raises, and answers within three seconds."""
    from torchinstall.probe import detect  # only who probes pays for the probes

    return detect.probe_machine(system)


def real_system(env: Mapping[str, str]) -> System:
    """The machine that this process runs on, with these environment variables."""
    from torchinstall.probe import real  # starts processes

    return real.real_system(env)


def folder_system(root: Path) -> System:
    """A machine recorded by `torchinstall probe --record DIR`.

    Raises:
        UsageError: `root` is not a folder.
    """
    from torchinstall.probe import recording

    return recording.folder_system(root)
