"""The machine file: a machine as JSON, and back.

The format is a contract (`schema_version` 1, `docs/reference/machine-file.md`): a reader ignores keys
that it does not know and refuses a higher version.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any, get_args

from torchinstall.errors import UsageError
from torchinstall.machine import (
    Driver,
    Finding,
    Gpu,
    Libc,
    Machine,
    Os,
    Status,
    Vendor,
    capability,
    capability_text,
)
from torchinstall.versions import dotted

__all__ = ["SCHEMA_VERSION", "machine_from_json", "machine_to_json", "parse_machine"]

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
        for field in dataclasses.fields(value):
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
        "libc": dataclasses.asdict(machine.libc) if machine.libc else None,
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
