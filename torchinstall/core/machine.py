"""What a machine is: the values that the probe produces and the planner reads. No I/O."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any, Literal, get_args

from msgspec import Struct, structs, to_builtins

from torchinstall.core.errors import UsageError
from torchinstall.core.versions import dotted

__all__ = [
    "SCHEMA_VERSION",
    "Capability",
    "Driver",
    "Finding",
    "Gpu",
    "Libc",
    "Machine",
    "Os",
    "Status",
    "Vendor",
    "capability",
    "capability_text",
    "machine_from_json",
    "machine_to_json",
    "parse_machine",
]


Os = Literal["linux", "windows", "macos"]
Vendor = Literal["nvidia", "amd", "intel", "apple"]
Status = Literal["found", "absent", "denied", "broken", "overridden"]

Capability = tuple[int, int]
"""A CUDA compute capability, `(8, 9)` for text `8.9`; never a float."""


@lru_cache(maxsize=256)
def capability(text: str) -> Capability:
    """Parse `8.9`.

    Raises:
        ValueError: not two integers with a dot between them.
    """
    major, dot, minor = text.partition(".")
    if not (dot and major.isdigit() and minor.isdigit()):
        raise ValueError(f"not a compute capability: {text!r}")
    return int(major), int(minor)


def capability_text(value: Capability) -> str:
    """`(8, 9)` as `8.9`."""
    return f"{value[0]}.{value[1]}"


class Libc(Struct, frozen=True, kw_only=True):
    """The C library of a Linux machine; wheels name the lowest glibc they run on."""

    family: Literal["glibc", "musl"]
    version: str | None = None


class Driver(Struct, frozen=True, kw_only=True):
    """A GPU driver. `cuda_version` is the newest CUDA it speaks; `rocm_version` is the ROCm userland."""

    vendor: Vendor
    version: str | None = None
    cuda_version: str | None = None
    rocm_version: str | None = None
    source: str | None = None


class Gpu(Struct, frozen=True, kw_only=True):
    """One GPU. Everything but the vendor may be unknown (None); unknown is not absent.

    Attributes:
        index: position among the GPUs of its vendor.
        compute_capability: NVIDIA only.
        gfx_target: AMD only, `gfx1100`.
        pci_id: `vendor:device` in lower-case hex, `10de:2684`.
        integrated: whether it shares the processor's memory; None where nobody said.
        source: how this was learnt: `nvml`, `kfd`, `pci`, `--target-gpu` …
    """

    vendor: Vendor
    index: int | None = None
    name: str | None = None
    compute_capability: Capability | None = None
    gfx_target: str | None = None
    memory_bytes: int | None = None
    pci_id: str | None = None
    uuid: str | None = None
    integrated: bool | None = None
    source: str | None = None

    @property
    def label(self) -> str:
        """What to call it in a sentence."""
        if self.name:
            return self.name
        code = capability_text(self.compute_capability) if self.compute_capability else self.gfx_target
        return f"{self.vendor} GPU {code or self.pci_id or ''}".strip()


class Finding(Struct, frozen=True, kw_only=True):
    """What one probe has to say.

    Attributes:
        probe: `nvidia`, `amd`, `intel`, `apple`, `host` …
        status: absent is not broken; denied and broken mean hardware may be there and cannot be read.
        detail: one sentence for a person.
        source: which file, library or command said so.
        slug: stable name of a fault (`driver-library-mismatch`), None for plain news.
        hint: what to type to mend it.
    """

    probe: str
    status: Status
    detail: str
    source: str | None = None
    slug: str | None = None
    hint: str | None = None


class Machine(Struct, frozen=True, kw_only=True):
    """A machine as the probe saw it, or as a machine file describes it.

    Attributes:
        os_version: distribution version, Windows build, macOS product version.
        arch: of the machine, `x86_64` or `aarch64` (Apple Silicon and Windows on ARM are `aarch64`).
        libc: None where it has no meaning.
        environment: any of `wsl2`, `container`, `ci`, `jetson` and what later probes add.
        rosetta: an x86-64 Python runs on Apple Silicon.
        l4t: Jetson Linux release, `36.4.3`.
    """

    os: Os
    arch: str
    os_version: str | None = None
    libc: Libc | None = None
    environment: tuple[str, ...] = ()
    memory_bytes: int | None = None
    drivers: tuple[Driver, ...] = ()
    gpus: tuple[Gpu, ...] = ()
    findings: tuple[Finding, ...] = ()
    rosetta: bool = False
    l4t: str | None = None

    def driver(self, vendor: str) -> Driver | None:
        """The driver of that vendor, or None."""
        return next((driver for driver in self.drivers if driver.vendor == vendor), None)

    def anonymous(self) -> Machine:
        """The same machine without anything that names it (UUIDs)."""
        return structs.replace(self, gpus=tuple(structs.replace(gpu, uuid=None) for gpu in self.gpus))


SCHEMA_VERSION = 1

_OMIT_WHEN_NONE = {
    "name",
    "index",
    "compute_capability",
    "gfx_target",
    "memory_bytes",
    "pci_id",
    "uuid",
    "integrated",
    "slug",
    "hint",
    "cuda_version",
    "rocm_version",
}


def machine_to_json(machine: Machine) -> dict[str, Any]:
    """The machine file as plain JSON values; keys that say nothing are left out of the rows."""

    def row(value: Driver | Gpu | Finding) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for field in structs.fields(value):
            item = getattr(value, field.name)
            if item is None and field.name in _OMIT_WHEN_NONE:
                continue
            out[field.name] = capability_text(item) if field.name == "compute_capability" else item
        return out

    data: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "os": machine.os,
        "os_version": machine.os_version,
        "arch": machine.arch,
        "libc": to_builtins(machine.libc) if machine.libc else None,
        "environment": list(machine.environment),
        "memory_bytes": machine.memory_bytes,
        "drivers": [row(driver) for driver in machine.drivers],
        "gpus": [row(gpu) for gpu in machine.gpus],
        "findings": [row(finding) for finding in machine.findings],
    }
    if machine.rosetta:
        data["rosetta"] = True
    if machine.l4t is not None:
        data["l4t"] = machine.l4t
    return data


def parse_machine(text: str, source: str) -> Machine:
    """Read a machine file's text; `source` names it in messages.

    Raises:
        UsageError: not JSON, not a machine file, or of a newer schema.
    """
    try:
        data = json.loads(text)
    except ValueError as error:
        raise UsageError(
            "bad-machine-file",
            f"{source} is not a machine file: {error}",
            wanted="the JSON that `torchinstall probe --json` prints",
            found="nothing" if not text.strip() else text.strip()[:60],
            hints=("torchinstall probe --json > machine.json",),
        ) from error
    return machine_from_json(data, source)


def machine_from_json(data: object, source: str = "the machine file") -> Machine:
    """Build a machine from parsed JSON.

    Raises:
        UsageError: a key is missing, has the wrong type, or the schema is newer than ours.
    """
    reader = _Reader(source)
    top = reader.mapping(data, "the file")
    version = top.get("schema_version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise reader.bad("schema_version", "a positive integer", version)
    if version > SCHEMA_VERSION:
        raise UsageError(
            "machine-file-too-new",
            f"{source} has schema_version {version}",
            wanted=f"schema_version {SCHEMA_VERSION} or lower",
            found=str(version),
            hints=("upgrade torchinstall on this machine: uv pip install --upgrade torchinstall",),
        )
    libc = top.get("libc")
    return Machine(
        os=reader.choice(top, "os", get_args(Os)),
        arch=reader.choice(top, "arch", ("x86_64", "aarch64")),
        os_version=reader.text(top, "os_version"),
        libc=None if libc is None else _libc(reader, libc),
        environment=tuple(reader.texts(top, "environment")),
        memory_bytes=reader.integer(top, "memory_bytes"),
        drivers=tuple(_driver(reader, row) for row in reader.rows(top, "drivers")),
        gpus=tuple(_gpu(reader, row) for row in reader.rows(top, "gpus")),
        findings=tuple(_finding(reader, row) for row in reader.rows(top, "findings")),
        rosetta=reader.boolean(top, "rosetta") or False,
        l4t=reader.text(top, "l4t"),
    )


def _libc(reader: _Reader, data: object) -> Libc:
    row = reader.mapping(data, "libc")
    return Libc(
        family=reader.choice(row, "family", ("glibc", "musl")), version=reader.version(row, "version")
    )


def _driver(reader: _Reader, row: dict[str, Any]) -> Driver:
    return Driver(
        vendor=reader.choice(row, "vendor", get_args(Vendor)),
        version=reader.version(row, "version"),
        cuda_version=reader.version(row, "cuda_version"),
        rocm_version=reader.version(row, "rocm_version"),
        source=reader.text(row, "source"),
    )


def _gpu(reader: _Reader, row: dict[str, Any]) -> Gpu:
    code = reader.text(row, "compute_capability")
    try:
        parsed = None if code is None else capability(code)
    except ValueError:
        raise reader.bad("gpus[].compute_capability", 'text such as "8.9"', code) from None
    return Gpu(
        vendor=reader.choice(row, "vendor", get_args(Vendor)),
        index=reader.integer(row, "index"),
        name=reader.text(row, "name"),
        compute_capability=parsed,
        gfx_target=reader.text(row, "gfx_target"),
        memory_bytes=reader.integer(row, "memory_bytes"),
        pci_id=reader.text(row, "pci_id"),
        uuid=reader.text(row, "uuid"),
        integrated=reader.boolean(row, "integrated"),
        source=reader.text(row, "source"),
    )


def _finding(reader: _Reader, row: dict[str, Any]) -> Finding:
    return Finding(
        probe=reader.text(row, "probe") or "unknown",
        status=reader.choice(row, "status", get_args(Status)),
        detail=reader.text(row, "detail") or "",
        source=reader.text(row, "source"),
        slug=reader.text(row, "slug"),
        hint=reader.text(row, "hint"),
    )


class _Reader:
    """Typed access to parsed JSON with one kind of complaint."""

    def __init__(self, source: str) -> None:
        self.source = source

    def bad(self, key: str, wanted: str, found: object) -> UsageError:
        return UsageError(
            "bad-machine-file",
            f"{self.source}: {key} is not right",
            wanted=wanted,
            found=json.dumps(found, default=str)[:80],
            hints=("torchinstall probe --json shows the shape of a machine file",),
        )

    def mapping(self, data: object, key: str) -> dict[str, Any]:
        if not isinstance(data, dict):
            raise self.bad(key, "an object", data)
        return data

    def rows(self, data: dict[str, Any], key: str) -> list[dict[str, Any]]:
        value = data.get(key, [])
        if not isinstance(value, list):
            raise self.bad(key, "a list", value)
        return [self.mapping(item, f"{key}[]") for item in value]

    def texts(self, data: dict[str, Any], key: str) -> list[str]:
        value = data.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.bad(key, "a list of texts", value)
        return value

    def choice(self, data: dict[str, Any], key: str, allowed: tuple[str, ...]) -> Any:
        value = data.get(key)
        if value not in allowed:
            raise self.bad(key, "one of " + ", ".join(allowed), value)
        return value

    def text(self, data: dict[str, Any], key: str) -> str | None:
        value = data.get(key)
        if value is not None and not isinstance(value, str):
            raise self.bad(key, "text or null", value)
        return value

    def version(self, data: dict[str, Any], key: str) -> str | None:
        value = self.text(data, key)
        try:
            if value is not None:
                dotted(value)
        except ValueError:
            raise self.bad(key, 'a version such as "580.95.05"', value) from None
        return value

    def integer(self, data: dict[str, Any], key: str) -> int | None:
        value = data.get(key)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
            raise self.bad(key, "an integer or null", value)
        return value

    def boolean(self, data: dict[str, Any], key: str) -> bool | None:
        value = data.get(key)
        if value is not None and not isinstance(value, bool):
            raise self.bad(key, "true, false or null", value)
        return value
