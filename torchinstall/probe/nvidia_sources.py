"""What NVIDIA's software says, as values: NVML, libcuda, the kernel module, nvidia-smi, Jetson's files."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct, field, structs

from torchinstall.core.decoding import convert
from torchinstall.core.machine import Capability, Driver, Gpu
from torchinstall.probe.system import LibraryAnswer, System, clean, pairs

_VERSION = r"\d{1,4}(?:\.\d{1,4}){1,3}"
_NOT_SUPPORTED = 3  # a return code of nvml.h


def driver_number(text: str | None) -> str | None:
    """The first thing in a text that looks like a driver version, `580.95.05`."""
    match = re.search(_VERSION, text or "")
    return match[0] if match else None


class Row(Struct):
    """A fact as `nvml_script.py` prints it; which keys are set depends on `what` it is about."""

    what: str = ""
    path: str | None = None
    problem: str | None = None
    code: int | None = None
    text: str | None = None
    version: str | None = None
    value: int | None = None
    index: int | None = None
    name: str | None = None
    capability: tuple[int | None, int | None] | None = None
    memory: int | None = None
    uuid: str | None = None
    bus: str | None = None
    device: int | None = None
    mig: int | None = None
    integrated: int | None = None
    codes: dict[str, int] = {}

    @property
    def driver(self) -> str | None:
        """The driver that a library belongs to, by its file's name."""
        _, mark, version = (self.path or "").rpartition(".so.")
        return driver_number(version) if mark else None

    @property
    def gpu(self) -> Gpu | None:
        """The GPU; None when NVML refused its handle with `code`."""
        if self.what == "gpu" and self.code != 0:
            return None
        capability: Capability | None = None
        major, minor = self.capability or (None, None)
        if major and minor is not None and 0 < major < 100 and 0 <= minor < 100:
            capability = (major, minor)
        memory = self.memory if self.memory is not None and 0 < self.memory < 1 << 63 else None
        integrated = None if self.integrated is None else bool(self.integrated)
        if self.what == "gpu":
            # Unified-memory devices (GB10, Orin, Thor) answer "not supported" instead of a size.
            integrated = memory is None and self.codes.get("memory") == _NOT_SUPPORTED
        device = self.device or 0
        return Gpu(
            vendor="nvidia",
            index=self.index,
            name=self.name,
            compute_capability=capability,
            memory_bytes=memory,
            pci_id=f"{device & 0xFFFF:04x}:{device >> 16 & 0xFFFF:04x}" if device > 0xFFFF else None,
            uuid=self.uuid,
            integrated=integrated,
            source="nvml" if self.what == "gpu" else "libcuda",
        )


class Nvml(Struct):
    """The answer of NVML and libcuda; an empty row for whatever was not answered.

    Attributes:
        library: the NVML that was loaded, or why none could be.
        init: with its error code, 0 when it worked.
        cuda: the driver CUDA version as NVML gave it (13000), unchecked.
        libcuda: the libcuda that the loader takes, and its CUDA version.
        cuda_gpus: the GPUs that libcuda counts; asked only where NVML could not be loaded.
        problem: how the child ended badly.
    """

    problem: str | None
    library: Row = field(default_factory=Row)
    init: Row = field(default_factory=Row)
    driver: Row = field(default_factory=Row)
    cuda: Row = field(default_factory=Row)
    count: Row = field(default_factory=Row)
    libcuda: Row = field(default_factory=Row)
    gpus: list[Row] = field(default_factory=list)
    cuda_gpus: list[Row] = field(default_factory=list)

    @property
    def library_driver(self) -> str | None:
        """The driver that NVML belongs to."""
        return driver_number(self.driver.version) or self.library.driver


def read_answer(answer: LibraryAnswer) -> Nvml:
    """Sort the rows; a row with a value of the wrong type says nothing."""
    out = Nvml(problem=answer.problem)
    for data in answer.rows:
        texts = {key: clean(value) if isinstance(value, str) else value for key, value in data.items()}
        try:
            row = convert(texts, Row)
        except msgspec.ValidationError:
            continue
        if row.what in ("library", "init", "driver", "cuda", "count", "libcuda"):
            setattr(out, row.what, row)
        elif row.what in ("gpu", "cuda-gpu"):
            rows = out.gpus if row.what == "gpu" else out.cuda_gpus
            rows.append(structs.replace(row, index=len(rows) if row.index is None else row.index))
    return out


CONTROL = "/dev/nvidiactl"
"""Every CUDA program opens this node; where it is missing, no GPU can be used."""

_MODULE_VERSION = re.compile(rf"NVRM version:.*?Kernel Module(?:\s+for\s+\S+)?\s+({_VERSION})")


def kernel_driver(system: System) -> Driver:
    """The loaded kernel module and the file that names it; these are the host's own, also in a container."""
    proc, sys = "/proc/driver/nvidia/version", "/sys/module/nvidia/version"
    if match := _MODULE_VERSION.search(system.read_text(proc) or ""):
        return Driver(vendor="nvidia", version=match[1], source=proc)
    number = driver_number(system.read_text(sys))
    return Driver(vendor="nvidia", version=number, source=sys if number else None)


def kernel_gpus(system: System) -> dict[str, tuple[str | None, str | None]]:
    """Name and UUID by bus address, from `/proc/driver/nvidia/gpus/*/information`."""
    found: dict[str, tuple[str | None, str | None]] = {}
    for address in system.listdir("/proc/driver/nvidia/gpus"):
        values = pairs(system.read_text(f"/proc/driver/nvidia/gpus/{address}/information"), ":")
        uuid = clean(values.get("GPU UUID"))
        # Before a GPU's first use the driver prints question marks instead of its UUID.
        found[address.lower()] = clean(values.get("Model")), None if uuid and "?" in uuid else uuid
    return found


_FIELDS = ("index", "name", "driver_version", "memory.total", "uuid", "pci.device_id", "compute_cap")
_OLD_FIELDS = _FIELDS[:-1]
"""nvidia-smi before R510 does not know `compute_cap` and refuses the whole query."""

_UNITS = {"MiB": 1 << 20, "GiB": 1 << 30, "KiB": 1 << 10}


class Smi(Struct, frozen=True, kw_only=True):
    """What nvidia-smi answered: GPUs and driver version, or `problem`."""

    driver: str | None = None
    gpus: tuple[Gpu, ...] = ()
    problem: str | None = None


def query_smi(system: System, timeout: float) -> Smi:
    """Ask `nvidia-smi --query-gpu` for every GPU; its banner is never read."""
    for fields in (_FIELDS, _OLD_FIELDS):
        argv = ("nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader")
        result = system.run(argv, timeout)
        if result.problem is not None:
            return Smi(problem=result.problem)
        if "not a valid field" in result.output:
            continue
        # The csv module refuses NUL and carriage returns.
        lines = re.sub("[\0\r]", "", result.stdout or "").split("\n")
        rows = [dict(zip(fields, row, strict=True)) for row in csv.reader(lines) if len(row) == len(fields)]
        gpus = tuple(gpu for gpu in map(_smi_gpu, rows) if gpu is not None)
        if gpus:
            driver = next(filter(None, (driver_number(row["driver_version"]) for row in rows)), None)
            return Smi(driver=driver, gpus=gpus)
        # Its errors come on stdout, some with exit status 0.
        return Smi(problem=clean(result.output) or f"exit status {result.returncode}")
    return Smi(problem="it refused the query")


def _smi_gpu(row: Mapping[str, str]) -> Gpu | None:
    def match(key: str, pattern: str) -> Any:
        return re.fullmatch(pattern, (row.get(key) or "").strip())

    name, index = _known(row["name"]), match("index", r"\d{1,4}")
    if name is None or index is None or driver_number(row["driver_version"]) is None:
        return None  # an error text that happens to contain enough commas
    capability = match("compute_cap", r"(\d{1,2})\.(\d{1,2})")
    size = match("memory.total", r"(\d{1,9}) ?(MiB|GiB|KiB)")
    memory = int(size[1]) * _UNITS[size[2]] if size else None
    device = match("pci.device_id", r"0x([0-9A-Fa-f]{4})([0-9A-Fa-f]{4})")  # device, then vendor
    return Gpu(
        vendor="nvidia",
        index=int(index[0]),
        name=name,
        compute_capability=(int(capability[1]), int(capability[2])) if capability else None,
        memory_bytes=memory,
        pci_id=f"{device[2]}:{device[1]}".lower() if device else None,
        uuid=_known(row["uuid"]),
        integrated=False if memory else None,
        source="nvidia-smi",
    )


def _known(value: str) -> str | None:
    """The value; None for `[N/A]`, `[Not Supported]`, `[Unknown Error]`."""
    text = clean(value)
    return None if text is None or text.startswith("[") or text == "N/A" else text


def smi_library_version(system: System, timeout: float) -> str | None:
    """After a mismatch nvidia-smi prints `NVML library version: 535.161`."""
    output = system.run(("nvidia-smi", "-L"), timeout).output
    match = re.search(rf"NVML library version:\s*({_VERSION})", output)
    return match[1] if match else None


_RELEASE_FILE, _COMPATIBLE_FILE = "/etc/nv_tegra_release", "/proc/device-tree/compatible"
_RELEASE = re.compile(r"#\s*R(\d{1,3})\s*\(release\),\s*REVISION:\s*(\d{1,3}(?:\.\d{1,3}){0,2})")


class Tegra(Struct, frozen=True, kw_only=True):
    """A Jetson: its Linux release (`36.4.3`), chip and name, as far as they can be read."""

    l4t: str | None
    chip: str | None
    name: str
    source: str


def tegra(system: System) -> Tegra | None:
    """What marks a Jetson (and not Grace or Spark): the release file, or a Tegra chip in the device tree."""
    release = _RELEASE.search(system.read_text(_RELEASE_FILE) or "")
    chip = re.search(r"nvidia,(tegra\d+)", system.read_text(_COMPATIBLE_FILE) or "")
    if release is None and chip is None:
        return None
    model = clean((system.read_text("/proc/device-tree/model") or "").replace("\0", " "))
    return Tegra(
        l4t=f"{release[1]}.{release[2]}" if release else None,
        chip=chip[1] if chip else None,
        name=model or (f"NVIDIA {chip[1]}" if chip else "Jetson"),
        source=_RELEASE_FILE if release else _COMPATIBLE_FILE,
    )
