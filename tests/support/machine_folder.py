"""Make machine folders (layout: `torchinstall/probe/recording.py`) with the shapes that real kernels show."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torchinstall.probe.recording import RECORD, stored_path

GIB = 1 << 30

SMI_QUERY = (
    "nvidia-smi --query-gpu=index,name,driver_version,memory.total,uuid,pci.device_id,compute_cap "
    "--format=csv,noheader"
)


class MachineFolder:
    """A folder in the making: every method adds to it and returns it; `write` stores the record.

    Args:
        root: made if it is not there.
        source: where the shapes come from, for the reader of the folder.
    """

    def __init__(self, root: Path, source: str, **record: Any) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        self.record: dict[str, Any] = {"schema_version": 1, "source": source, **record}

    def file(self, path: str, text: str = "") -> MachineFolder:
        """A file at a machine's path; a device node is an empty one."""
        target = self.root / stored_path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(text.encode())
        return self

    def files(self, *paths: str) -> MachineFolder:
        """Empty files."""
        for path in paths:
            self.file(path)
        return self

    def note(self, key: str, values: Mapping[str, Any]) -> MachineFolder:
        """Add to a table of the record."""
        self.record.setdefault(key, {}).update(values)
        return self

    def distribution(self, name: str, version: str | None, glibc: str | None) -> MachineFolder:
        """`/etc/os-release` and the C library."""
        lines = [f"ID={name}"] + ([f'VERSION_ID="{version}"'] if version else [])
        self.file("/etc/os-release", "\n".join(lines) + "\n")
        if glibc:
            self.record["glibc"] = glibc
        return self

    def pci(
        self, address: str, pci_id: str, *, code: int = 0x030000, driver: str | None = None
    ) -> MachineFolder:
        """A device on the bus as its `uevent` file names it."""
        lines = [f"DRIVER={driver}"] if driver else []
        lines += [f"PCI_CLASS={code:X}", f"PCI_ID={pci_id.upper()}", f"PCI_SLOT_NAME={address}"]
        return self.file(f"/sys/bus/pci/devices/{address}/uevent", "\n".join(lines) + "\n")

    def nvidia_module(self, version: str, *, opened: bool = True, arch: str = "x86_64") -> MachineFolder:
        """What the loaded kernel module shows."""
        kind = f"Open Kernel Module for {arch}" if opened else f"{arch} Kernel Module"
        text = (
            f"NVRM version: NVIDIA UNIX {kind}  {version}  Release Build\nGCC version:  gcc version 12.3.0\n"
        )
        self.file("/proc/driver/nvidia/version", text)
        return self.file("/sys/module/nvidia/version", version + "\n")

    def nvidia_nodes(self, count: int = 1) -> MachineFolder:
        """Device nodes."""
        return self.files("/dev/nvidiactl", "/dev/nvidia-uvm", *(f"/dev/nvidia{n}" for n in range(count)))

    def nvml(self, rows: Sequence[Mapping[str, Any]], problem: str | None = None) -> MachineFolder:
        """What NVML and libcuda answered (the rows of `nvml_script.py`)."""
        return self.note("answers", {"nvidia": {"rows": list(rows), "problem": problem}})

    def kfd(self, number: int, **properties: int) -> MachineFolder:
        """A node of the KFD topology with its properties."""
        text = "".join(f"{key} {value}\n" for key, value in properties.items())
        return self.file(f"/sys/class/kfd/kfd/topology/nodes/{number}/properties", text)

    def kfd_memory(self, number: int, size: int) -> MachineFolder:
        """A memory bank of that node."""
        path = f"/sys/class/kfd/kfd/topology/nodes/{number}/mem_banks/0/properties"
        return self.file(path, f"heap_type 1\nsize_in_bytes {size}\nflags 0\nwidth 384\n")

    def smi(self, lines: Iterable[str], code: int = 0) -> MachineFolder:
        """What `nvidia-smi --query-gpu` printed."""
        return self.note("commands", {SMI_QUERY: {"returncode": code, "stdout": "\n".join(lines) + "\n"}})

    def write(self) -> Path:
        """Store `_recorded.json`; the folder."""
        text = json.dumps(self.record, indent=1, sort_keys=False, ensure_ascii=False)
        (self.root / RECORD).write_text(text + "\n", encoding="utf-8")
        return self.root


def nvml_gpu(
    index: int,
    name: str,
    capability: tuple[int, int],
    pci_id: str,
    *,
    bus: str | None = None,
    memory: int | None = 24 * GIB,
    mig: int | None = None,
) -> dict[str, Any]:
    """The row of a GPU that answers; no memory is NOT_SUPPORTED."""
    vendor, device = pci_id.split(":")
    codes = {key: 3 for key, value in (("memory", memory), ("mig", mig)) if value is None}
    return {
        "what": "gpu",
        "index": index,
        "code": 0,
        "name": name,
        "capability": list(capability),
        "memory": memory,
        "uuid": f"GPU-00000000-0000-0000-0000-{index:012d}",
        "bus": bus or f"00000000:{index + 1:02X}:00.0",
        "device": int(device + vendor, 16),
        "mig": mig,
        "codes": codes,
    }


def nvml_rows(
    driver: str,
    cuda: int | None,
    gpus: Sequence[Mapping[str, Any]],
    *,
    libcuda: str | None = "/usr/lib/x86_64-linux-gnu/libcuda.so.{driver}",
    library: str = "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.{driver}",
) -> list[dict[str, Any]]:
    """Everything a working NVML answers; `cuda` None is LIBRARY_NOT_FOUND."""
    rows: list[dict[str, Any]] = [
        {"what": "library", "path": library.format(driver=driver)},
        {"what": "init", "code": 0, "text": "Success"},
        {"what": "driver", "version": driver},
        {"what": "cuda", "value": cuda, "code": 0 if cuda else 12},
        {"what": "count", "value": len(gpus), "code": 0},
        *(dict(gpu) for gpu in gpus),
    ]
    if libcuda is None:
        missing = "libcuda.so.1: cannot open shared object file: No such file or directory"
        rows.append({"what": "libcuda", "problem": missing})
    else:
        rows.append({"what": "libcuda", "path": libcuda.format(driver=driver), "value": cuda, "code": 0})
    rows.append({"what": "end"})
    return rows
