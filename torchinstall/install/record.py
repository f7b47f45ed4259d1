"""The decision, kept in the environment that it was made for, so that drift can be told later."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct, to_builtins

from torchinstall.core.redact import redact

if TYPE_CHECKING:
    from torchinstall.core.machine import Machine
    from torchinstall.core.plan import Plan
    from torchinstall.core.target import Target

__all__ = ["Decision", "decision_of", "drift", "machine_digest", "path_in", "read_decision", "store_decision"]

SCHEMA_VERSION = 1


class Decision(Struct, frozen=True, kw_only=True):
    """What was decided for an environment.

    Attributes:
        made_at: time of the installation, ISO 8601 with offset.
        packages: name -> version with local segment, of the packages that the plan pinned.
        machine: `digest`, `drivers` and `gpus` of the machine that it was decided for; nothing that names it.
        catalog: date of the tables.
        versions: of `torchinstall` and `uv`.
    """

    made_at: str
    backend: str | None
    channel: str
    index_url: str | None
    requirements: tuple[str, ...]
    packages: Mapping[str, str]
    machine: Mapping[str, Any]
    catalog: str
    versions: Mapping[str, str]


def machine_digest(machine: Machine) -> str:
    """SHA-256 in hex of what a decision depends on: platform, drivers and GPUs, without what names them."""
    return hashlib.sha256(json.dumps(_essence(machine), sort_keys=True).encode()).hexdigest()


def _essence(machine: Machine) -> dict[str, Any]:
    return {
        "os": machine.os,
        "arch": machine.arch,
        "rosetta": machine.rosetta,
        "l4t": machine.l4t,
        "drivers": [
            [driver.vendor, driver.version, driver.cuda_version, driver.rocm_version]
            for driver in machine.drivers
        ],
        "gpus": sorted(
            [gpu.vendor, gpu.name or "", list(gpu.compute_capability or ()), gpu.gfx_target or ""]
            for gpu in machine.gpus
        ),
    }


def decision_of(plan: Plan, machine: Machine, *, made_at: str, versions: Mapping[str, str]) -> Decision:
    """The decision behind a plan that was carried out; credentials in URLs are left out."""
    essence = _essence(machine)
    return Decision(
        made_at=made_at,
        backend=plan.backend,
        channel=plan.channel,
        index_url=None if plan.index_url is None else redact(plan.index_url),
        requirements=tuple(redact(line) for line in plan.requirements),
        packages={item.name: item.version for item in plan.packages if item.version is not None},
        machine={
            "digest": machine_digest(machine),
            "drivers": essence["drivers"],
            "gpus": [gpu.label for gpu in machine.gpus],
        },
        catalog=plan.catalog.snapshot,
        versions=dict(versions),
    )


def path_in(prefix: str) -> Path:
    """Where an environment keeps its decision; `share` is left alone by uv and pip."""
    return Path(prefix) / "share" / "torchinstall" / "decision.json"


def store_decision(prefix: str, decision: Decision) -> Path | None:
    """Write the decision, whole or not at all.

    Returns:
        The path, or None where it cannot be written: an installation that works does not fail for that.
    """
    path = path_in(prefix)
    text = json.dumps({"schema_version": SCHEMA_VERSION, **to_builtins(decision)}, indent=1) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".decision-", dir=path.parent)
    except OSError:
        return None
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).replace(path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        return None
    return path


def read_decision(prefix: str) -> Decision | None:
    """The stored decision; None where there is none that this release can read."""
    try:
        data = json.loads(path_in(prefix).read_text(encoding="utf-8"))
        if data["schema_version"] != SCHEMA_VERSION:
            return None
        fields = {name: data[name] for name in Decision.__struct_fields__}
        return Decision(**{**fields, "requirements": tuple(fields["requirements"])})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def drift(decision: Decision, target: Target, machine: Machine | None = None) -> tuple[str, ...]:
    """What changed since the decision, one sentence each; empty: nothing.

    Args:
        decision: as stored in the target's environment.
        target: as it is now.
        machine: as it is now; None: do not compare.
    """
    there = {item.name: item.version for item in target.installed}
    out = [
        f"{name} was installed as {wanted} and is now {there.get(name, 'gone')}"
        for name, wanted in sorted(decision.packages.items())
        if there.get(name) != wanted
    ]
    if machine is not None and decision.machine.get("digest") != machine_digest(machine):
        before = ", ".join(decision.machine.get("gpus", ())) or "no GPU"
        now = ", ".join(gpu.label for gpu in machine.gpus) or "no GPU"
        changed = f"{before} then, {now} now" if before != now else "another driver or platform"
        out.append(f"it was decided for another machine: {changed}")
    return tuple(out)
