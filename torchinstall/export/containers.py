"""What a machine is to a container on it."""

from __future__ import annotations

from msgspec import structs

from torchinstall.core.machine import Libc, Machine
from torchinstall.export.dockerfile import GLIBC

__all__ = ["container_on"]


def container_on(machine: Machine) -> Machine:
    """The Linux that a container sees: the image's libc, and of the hardware what reaches into containers.

    An NVIDIA driver of Windows reaches containers through WSL. A Mac's GPU does not: containers run in a
    virtual machine there, on Linux for the Mac's own architecture.
    """
    reaches = machine.os != "macos"
    environment = dict.fromkeys((*machine.environment, "container"))
    if machine.os == "windows":
        environment["wsl2"] = None
    return structs.replace(
        machine,
        os="linux",
        os_version="12",
        libc=Libc(family="glibc", version=GLIBC),
        environment=tuple(environment),
        gpus=machine.gpus if reaches else (),
        drivers=machine.drivers if reaches else (),
        findings=machine.findings if reaches else (),
        rosetta=False,
    )
