"""The decision behind an installation, stored in its environment, so that drift can be told later."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct, field

from torchinstall.core.errors import UsageError
from torchinstall.core.files import write_file
from torchinstall.core.machine import Machine
from torchinstall.core.messages import redact
from torchinstall.core.plan import Plan
from torchinstall.core.target import Target

SCHEMA_VERSION = 1


class DecidedMachine(Struct, frozen=True, kw_only=True):
    """The machine that a decision was made for; nothing that names this one machine.

    Of each driver its vendor, version, CUDA version and ROCm version.
    """

    digest: str = ""
    drivers: tuple[tuple[str | None, ...], ...] = ()
    gpus: tuple[str, ...] = ()


class Decision(Struct, frozen=True, kw_only=True):
    """What was decided for an environment.

    Attributes:
        made_at: time of the installation, ISO 8601 with offset.
        packages: name -> version with local segment, of the packages that the plan pinned.
        catalog: date of the tables.
        versions: of `torchinstall` and `uv`.
    """

    schema_version: int = SCHEMA_VERSION
    made_at: str
    backend: str | None
    channel: str
    index_url: str | None
    requirements: tuple[str, ...]
    packages: Mapping[str, str]
    machine: DecidedMachine
    catalog: str
    versions: Mapping[str, str] = field(default_factory=dict)


def machine_digest(machine: Machine) -> str:
    """SHA-256 in hex of what a decision depends on: platform, drivers and GPUs, without what names them."""
    gpus = (
        [gpu.vendor, gpu.name or "", list(gpu.compute_capability or ()), gpu.gfx_target or ""]
        for gpu in machine.gpus
    )
    essence: dict[str, Any] = {
        "os": machine.os,
        "arch": machine.arch,
        "rosetta": machine.rosetta,
        "l4t": machine.l4t,
        "drivers": _drivers(machine),
        "gpus": sorted(gpus),
    }
    # Decisions of every release so far have the digest of this form.
    return hashlib.sha256(json.dumps(essence, sort_keys=True).encode()).hexdigest()


def _drivers(machine: Machine) -> tuple[tuple[str | None, ...], ...]:
    return tuple((row.vendor, row.version, row.cuda_version, row.rocm_version) for row in machine.drivers)


def decision_of(plan: Plan, machine: Machine, *, made_at: str, versions: Mapping[str, str]) -> Decision:
    """The decision behind a plan that was carried out, without credentials in URLs."""
    return Decision(
        made_at=made_at,
        backend=plan.backend,
        channel=plan.channel,
        index_url=None if plan.index_url is None else redact(plan.index_url),
        requirements=tuple(redact(text) for text in plan.requirements),
        packages={item.name: item.version for item in plan.packages if item.version is not None},
        machine=DecidedMachine(
            digest=machine_digest(machine),
            drivers=_drivers(machine),
            gpus=tuple(gpu.label for gpu in machine.gpus),
        ),
        catalog=plan.catalog.snapshot,
        versions=dict(versions),
    )


def path_in(prefix: str) -> Path:
    """Where an environment keeps its decision; `share` is left alone by uv and pip."""
    return Path(prefix) / "share" / "torchinstall" / "decision.json"


def store_decision(prefix: str, decision: Decision) -> Path | None:
    """Write the decision; None where that cannot be: an installation that works does not fail for it."""
    path = path_in(prefix)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, msgspec.json.format(msgspec.json.encode(decision), indent=1) + b"\n")
    except (OSError, UsageError):
        return None
    return path


def read_decision(prefix: str) -> Decision | None:
    """The stored decision; None where there is none that this release can read."""
    try:
        decision = msgspec.json.decode(path_in(prefix).read_bytes(), type=Decision)
    except (OSError, ValueError):
        return None
    return decision if decision.schema_version == SCHEMA_VERSION else None


def drift(decision: Decision, target: Target) -> tuple[str, ...]:
    """What is installed otherwise than it was decided for this target, one sentence each."""
    now = {item.name: item.version for item in target.installed}
    return tuple(
        f"{name} was installed as {version} and is now {now.get(name, 'gone')}"
        for name, version in sorted(decision.packages.items())
        if now.get(name) != version
    )
