"""Which container this is, if any; every mark is a file or variable that the engine itself leaves."""

from __future__ import annotations

import re

from torchinstall.probe.system import System

__all__ = ["engine"]

_FILES = (
    ("/.dockerenv", "docker"),
    ("/run/.containerenv", "podman"),
    ("/.singularity.d", "apptainer"),
)

_VARIABLES = (
    ("KUBERNETES_SERVICE_HOST", "kubernetes"),
    ("APPTAINER_CONTAINER", "apptainer"),
    ("SINGULARITY_CONTAINER", "apptainer"),
    ("ENROOT_ROOTFS", "enroot"),
)

_CGROUPS = (("kubepods", "kubernetes"), ("docker", "docker"), ("libpod", "podman"), ("lxc", "lxc"))

_NOT_A_CONTAINER = ("wsl", "vm")


def engine(system: System) -> str | None:
    """`docker`, `podman`, `kubernetes`, `apptainer`, `lxc` …; None outside of containers."""
    if system.platform != "linux":
        return None
    for variable, name in _VARIABLES:
        if system.env.get(variable):
            return name
    for path, name in _FILES:
        if system.exists(path):
            return name
    # systemd and its kin write their name down; WSL does too and is none.
    said = system.env.get("container") or (system.read_text("/run/systemd/container") or "").strip()
    if re.fullmatch(r"[a-z0-9_-]{2,30}", said) and said not in _NOT_A_CONTAINER:
        return said
    cgroups = system.read_text("/proc/1/cgroup") or ""
    return next((name for mark, name in _CGROUPS if re.search(rf"[/:-]{mark}", cgroups)), None)
