"""GPUs on the PCI bus for which no NVIDIA driver answers: by which reason, and which driver they wait for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torchinstall.core.machine import Finding
from torchinstall.core.versions import dotted
from torchinstall.probe import tables
from torchinstall.probe.host import engine
from torchinstall.probe.libraries import NVML_VARIABLE
from torchinstall.probe.nvidia_faults import fault, listed
from torchinstall.probe.nvml import Nvml
from torchinstall.probe.pci import PASSED_THROUGH, PciDevice, has_bus
from torchinstall.probe.system import System

__all__ = ["unlisted", "without_driver"]


def unlisted(bus: Sequence[PciDevice], nvml: Nvml, version: str | None, system: System) -> Iterator[Finding]:
    """GPUs on the bus that a working driver does not list."""
    if any(row.gpu is None or row.bus is None for row in nvml.gpus):
        return  # a lost GPU is still on the bus, and an unplaced one cannot be matched
    listed = {row.bus for row in nvml.gpus}
    left = [device for device in bus if device.address not in listed]
    if left and nvml.gpus and (engine(system) or system.env.get("SLURM_JOB_ID")):
        # The bus in /sys is the host's: a container or job sees GPUs there that it was not given.
        yield Finding(
            probe="nvidia",
            status="found",
            slug="gpu-withheld",
            detail=f"GPUs of this host that were not given to this container or job: {len(left)}",
            source="PCI bus, nvml",
        )
    elif left:
        yield from without_driver(left, version, None, library=nvml.library)


def without_driver(
    bus: Sequence[PciDevice], version: str | None, system: System | None, *, library: str | None
) -> Iterator[Finding]:
    """GPUs on the bus for which no NVIDIA driver answers, by the reason.

    Args:
        bus: those GPUs.
        version: the driver that is installed, where known.
        system: None when another GPU's driver works, so that only single GPUs are in question.
        library: the NVML that was loaded, None when there is none.
    """
    left = []
    for device in bus:
        last = tables.last_branch(device.pci_id)
        if device.driver in PASSED_THROUGH:
            yield Finding(
                probe="nvidia",
                status="found",
                slug="gpu-passed-through",
                detail=f"{device.pci_id} at {device.address} is kept for a virtual machine ({device.driver})",
                source="PCI bus",
            )
        elif version is not None and last is not None and dotted(version)[0] > last:
            yield fault(
                "broken",
                "gpu-unsupported-by-driver",
                f"driver {version} no longer serves {device.pci_id} at {device.address}, R{last} was last",
                "PCI bus, table of driver branches",
                f"install the R{last} driver",
            )
        elif device.driver in ("nouveau", "nova", "nova_core"):
            yield fault(
                "broken",
                "nouveau",
                f"{device.pci_id} at {device.address} is run by {device.driver}, which has no CUDA",
                "PCI bus",
                f"install NVIDIA's driver{_branch(last)}, which replaces {device.driver}, then reboot",
            )
        else:
            left.append(device)
    if left:
        yield from _plainly_missing(left, system, library)
    elif not bus and system is not None:
        yield _library_alone(system, library)


def _branch(last: int | None) -> str:
    return f" (R{last}; later ones do not serve this GPU)" if last is not None else ""


def _plainly_missing(
    left: Sequence[PciDevice], system: System | None, library: str | None
) -> Iterator[Finding]:
    if system is None:
        yield fault(
            "broken",
            "gpu-unlisted",
            f"{listed(left)} is on the bus, but the driver does not list it",
            "PCI bus, nvml",
            "sudo dmesg | grep -i nvrm tells why the driver left it out",
        )
    elif library is not None:
        yield fault(
            "broken",
            "driver-not-loaded",
            f"NVIDIA's driver is installed, but its kernel module is not loaded for {listed(left)}",
            "nvml",
            "sudo modprobe nvidia; if that fails: reboot, or sign the module for Secure Boot",
        )
    else:
        last = next((branch for device in left if (branch := tables.last_branch(device.pci_id))), None)
        yield fault(
            "broken",
            "driver-missing",
            f"no NVIDIA driver for {listed(left)}",
            "PCI bus",
            f"install NVIDIA's driver{_branch(last)}",
        )


def _library_alone(system: System, library: str | None) -> Finding:
    """NVML says that no driver is loaded, and no GPU can be seen."""
    where = library or "nvml"
    if has_bus(system) and not (system.env.get(NVML_VARIABLE) or system.exists("/dev/dxg")):
        return fault(
            "absent", "driver-not-loaded", "NVIDIA's library is installed, but there is no NVIDIA GPU", where
        )
    hint = (
        "start the container with its GPUs: docker run --gpus all"
        if engine(system)
        else "sudo modprobe nvidia"
    )
    return fault("broken", "driver-not-loaded", "NVIDIA's driver is installed, but not loaded", where, hint)
