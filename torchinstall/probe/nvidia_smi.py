"""The last rung of the NVIDIA ladder: `nvidia-smi --query-gpu`, one line a GPU; the banner is never read."""

from __future__ import annotations

import csv
import re

from msgspec import Struct

from torchinstall.core.machine import Capability, Gpu
from torchinstall.probe.facts import clean
from torchinstall.probe.nvml import driver_number
from torchinstall.probe.system import System

__all__ = ["Smi", "library_version", "query"]

_FIELDS = ("index", "name", "driver_version", "memory.total", "uuid", "pci.device_id", "compute_cap")
_OLD_FIELDS = _FIELDS[:-1]
"""nvidia-smi before R510 does not know `compute_cap` and refuses the whole query."""

_UNITS = {"MiB": 1 << 20, "GiB": 1 << 30, "KiB": 1 << 10}


class Smi(Struct, frozen=True, kw_only=True):
    """What it said: GPUs and driver version, or `problem`."""

    driver: str | None = None
    gpus: tuple[Gpu, ...] = ()
    problem: str | None = None


def query(system: System, timeout: float) -> Smi:
    """Ask for every GPU."""
    for fields in (_FIELDS, _OLD_FIELDS):
        argv = ("nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader")
        result = system.run(argv, timeout)
        if result.problem is not None:
            return Smi(problem=result.problem)
        text = f"{result.stdout}\n{result.stderr}"
        if "not a valid field" in text:
            continue
        rows = [row for row in csv.reader(_plain(result.stdout)) if len(row) == len(fields)]
        parsed = [_gpu(dict(zip(fields, row, strict=True)), place) for place, row in enumerate(rows)]
        gpus = tuple(gpu for gpu, _ in parsed if gpu is not None)
        if gpus:
            return Smi(driver=next((driver for _, driver in parsed if driver), None), gpus=gpus)
        # Its errors come on stdout, some with exit status 0.
        return Smi(problem=clean(text) or f"exit status {result.returncode}")
    return Smi(problem="the query was refused")


def _plain(text: str) -> list[str]:
    """Lines without NUL and carriage returns, which the csv module refuses."""
    return [line.replace("\0", "").replace("\r", "") for line in text.split("\n")]


def _gpu(row: dict[str, str], place: int) -> tuple[Gpu | None, str | None]:
    values = {key: _said(value) for key, value in row.items()}
    name, index, driver = values["name"], values["index"], driver_number(values["driver_version"])
    if name is None or driver is None or index is None or not re.fullmatch(r"\d{1,4}", index):
        return None, None  # an error text that happens to hold enough commas
    gpu = Gpu(
        vendor="nvidia",
        index=int(index) if index else place,
        name=name,
        compute_capability=_capability(values.get("compute_cap")),
        memory_bytes=_bytes(values["memory.total"]),
        pci_id=_pci_id(values["pci.device_id"]),
        uuid=values["uuid"],
        integrated=False if _bytes(values["memory.total"]) else None,
        source="nvidia-smi",
    )
    return gpu, driver


def _said(value: str) -> str | None:
    """The value, None for `[N/A]`, `[Not Supported]`, `[Unknown Error]`."""
    text = clean(value)
    return None if text is None or text.startswith("[") or text == "N/A" else text


def _capability(text: str | None) -> Capability | None:
    match = re.fullmatch(r"(\d{1,2})\.(\d{1,2})", text or "")
    return (int(match[1]), int(match[2])) if match else None


def _bytes(text: str | None) -> int | None:
    match = re.fullmatch(r"(\d{1,9}) ?(MiB|GiB|KiB)", text or "")
    return int(match[1]) * _UNITS[match[2]] if match else None


def _pci_id(text: str | None) -> str | None:
    """`0x268410DE`: device, then vendor."""
    match = re.fullmatch(r"0x([0-9A-Fa-f]{4})([0-9A-Fa-f]{4})", text or "")
    return f"{match[2]}:{match[1]}".lower() if match else None


def library_version(system: System, timeout: float) -> str | None:
    """After a mismatch it prints `NVML library version: 535.161`."""
    result = system.run(("nvidia-smi", "-L"), timeout)
    match = re.search(
        r"NVML library version:\s*(\d{1,4}(?:\.\d{1,4}){1,3})", f"{result.stdout}\n{result.stderr}"
    )
    return match[1] if match else None
