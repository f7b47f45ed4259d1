"""Which group opens a device node, as far as joining it is a way in."""

from __future__ import annotations

import re

from torchinstall.probe.system import System

__all__ = ["joinable_group"]


def joinable_group(system: System, path: str) -> str | None:
    """The group of a node by name or number; None where it is root's, or no name that one could type."""
    group = system.group(path)
    if group is None or group in ("root", "wheel", "0") or re.fullmatch(r"[\w.-]{1,64}", group) is None:
        return None
    return group
