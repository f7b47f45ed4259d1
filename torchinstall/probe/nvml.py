"""Make sense of what NVML and libcuda told the child process; see `nvml_script.py` for the rows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from msgspec import Struct, field

from torchinstall.core.machine import Capability, Gpu
from torchinstall.probe.facts import clean
from torchinstall.probe.pci import bus_address
from torchinstall.probe.system import LibraryAnswer

__all__ = ["Nvml", "NvmlGpu", "cuda_text", "driver_number", "read_answer"]

_CUDA_INTS = range(1000, 100000)
"""Plausible answers; anything else is a library that answers nonsense."""

_DRIVER = re.compile(r"\d{1,4}(?:\.\d{1,4}){1,3}")

NOT_SUPPORTED = 3


class NvmlGpu(Struct, frozen=True, kw_only=True):
    """One GPU that NVML counts; `gpu` is None when its handle was refused with `code`."""

    index: int
    code: int
    text: str | None = None
    gpu: Gpu | None = None
    bus: str | None = None
    mig: bool = False


class Nvml(Struct):
    """The answer, with None for whatever was not said.

    Attributes:
        library: path of the NVML that was loaded.
        library_problem: why none could be loaded.
        init: NVML's error code of initialising, 0 when that worked; None when it did not get so far.
        cuda: as NVML gave it (13000), unchecked.
        libcuda: path of the libcuda that the loader takes; its name tells the driver it belongs to.
        problem: how the child ended badly.
    """

    library: str | None = None
    library_problem: str | None = None
    init: int | None = None
    init_text: str | None = None
    driver: str | None = None
    cuda: int | None = None
    cuda_code: int = 0
    count: int | None = None
    gpus: list[NvmlGpu] = field(default_factory=list)
    libcuda: str | None = None
    libcuda_problem: str | None = None
    libcuda_cuda: int | None = None
    cuda_gpus: list[Gpu] = field(default_factory=list)
    problem: str | None = None


def read_answer(answer: LibraryAnswer) -> Nvml:
    """Sort the rows; a row of the wrong shape says nothing."""
    out = Nvml(problem=answer.problem)
    for row in answer.rows:
        what = row.get("what")
        if what == "library":
            out.library, out.library_problem = _text(row, "path"), _text(row, "problem")
        elif what == "init":
            out.init, out.init_text = _int(row, "code"), _text(row, "text")
        elif what == "driver":
            out.driver = driver_number(_text(row, "version"))
        elif what == "cuda":
            out.cuda, out.cuda_code = _int(row, "value"), _int(row, "code") or 0
        elif what == "count":
            out.count = _int(row, "value")
        elif what == "gpu":
            out.gpus.append(_nvml_gpu(row, len(out.gpus)))
        elif what == "libcuda":
            out.libcuda, out.libcuda_problem = _text(row, "path"), _text(row, "problem")
            out.libcuda_cuda = _int(row, "value")
        elif what == "cuda-gpu":
            out.cuda_gpus.append(_cuda_gpu(row, len(out.cuda_gpus)))
    return out


def _nvml_gpu(row: Mapping[str, Any], position: int) -> NvmlGpu:
    index, code = _int(row, "index"), _int(row, "code")
    place = position if index is None else index
    if code != 0:
        return NvmlGpu(index=place, code=999 if code is None else code, text=_text(row, "text"))
    codes = row.get("codes")
    memory = _positive(row, "memory")
    # Unified-memory devices (GB10, Orin, Thor) answer "not supported" instead of a size.
    unified = memory is None and isinstance(codes, dict) and codes.get("memory") == NOT_SUPPORTED
    device = _int(row, "device")
    gpu = Gpu(
        vendor="nvidia",
        index=place,
        name=_text(row, "name"),
        compute_capability=_capability(row),
        memory_bytes=memory,
        pci_id=None
        if device is None or device <= 0xFFFF
        else f"{device & 0xFFFF:04x}:{device >> 16 & 0xFFFF:04x}",
        uuid=_text(row, "uuid"),
        integrated=unified,
        source="nvml",
    )
    return NvmlGpu(
        index=place, code=0, gpu=gpu, bus=bus_address(_text(row, "bus")), mig=_int(row, "mig") == 1
    )


def _cuda_gpu(row: Mapping[str, Any], position: int) -> Gpu:
    index = _int(row, "index")
    integrated = _int(row, "integrated")
    return Gpu(
        vendor="nvidia",
        index=position if index is None else index,
        name=_text(row, "name"),
        compute_capability=_capability(row),
        memory_bytes=_positive(row, "memory"),
        integrated=None if integrated is None else bool(integrated),
        source="libcuda",
    )


def _capability(row: Mapping[str, Any]) -> Capability | None:
    value = row.get("capability")
    if not isinstance(value, list | tuple) or len(value) != 2:
        return None
    major, minor = value
    if type(major) is int and type(minor) is int and 0 < major < 100 and 0 <= minor < 100:
        return major, minor
    return None


def _text(row: Mapping[str, Any], key: str) -> str | None:
    value = row.get(key)
    return clean(value) if isinstance(value, str) else None


def _int(row: Mapping[str, Any], key: str) -> int | None:
    value = row.get(key)
    return value if type(value) is int else None


def _positive(row: Mapping[str, Any], key: str) -> int | None:
    value = _int(row, key)
    return value if value is not None and 0 < value < 1 << 63 else None


def driver_number(text: str | None) -> str | None:
    """The first thing in a text that looks like a driver version, `580.95.05`."""
    match = _DRIVER.search(text or "")
    return match[0] if match else None


def cuda_text(number: int | None) -> str | None:
    """13000 as `13.0`; None for nonsense."""
    if number is None or number not in _CUDA_INTS:
        return None
    return f"{number // 1000}.{number % 1000 // 10}"
