"""What is kept in an environment: the decision behind it, to tell drift later, and a proof that it computes.

A proof counts for one state: what was checked and with which checks, the interpreter, every file that it can
import, the GPUs with their drivers, and the variables that reach a driver or a library. If any of them is not
the same, or cannot be read, there is no proof.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
from msgspec import Struct, field, structs

from torchinstall import __version__
from torchinstall.core.decoding import load, store
from torchinstall.core.files import sha256, venv_settings
from torchinstall.core.machine import Machine
from torchinstall.core.messages import redact
from torchinstall.core.plan import Plan
from torchinstall.core.target import Target
from torchinstall.install.distributions import distributions
from torchinstall.install.interpreter import PythonEnvironment
from torchinstall.install.verify import Checklist, Report

SCHEMA_VERSION = 1


class DecidedMachine(Struct, frozen=True, kw_only=True):
    """The machine that a decision was made for; nothing that names this one machine."""

    digest: str = ""
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
    drivers = [(row.vendor, row.version, row.cuda_version, row.rocm_version) for row in machine.drivers]
    gpus = ((gpu.vendor, gpu.name, gpu.compute_capability, gpu.gfx_target) for gpu in machine.gpus)
    platform = (machine.os, machine.arch, machine.rosetta, machine.l4t)
    return sha256(msgspec.json.encode((platform, drivers, sorted(gpus, key=repr))))


def decision_of(plan: Plan, machine: Machine, *, made_at: str, uv: str) -> Decision:
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
            gpus=tuple(gpu.label for gpu in machine.gpus),
        ),
        catalog=plan.catalog.snapshot,
        versions={"torchinstall": __version__, "uv": uv},
    )


def path_in(prefix: str) -> Path:
    """Where an environment keeps its decision; `share` is left alone by uv and pip."""
    return Path(prefix) / "share" / "torchinstall" / "decision.json"


def store_decision(prefix: str, decision: Decision) -> bool:
    """Write the decision; False where that cannot be: an installation that works does not fail for it."""
    return store(path_in(prefix), decision, durable=True) is None


def read_decision(prefix: str) -> Decision | None:
    """The stored decision; None where there is none that this release can read."""
    decision = load(path_in(prefix), Decision)
    return decision if decision is not None and decision.schema_version == SCHEMA_VERSION else None


def drift(decision: Decision, target: Target) -> tuple[str, ...]:
    """What is installed otherwise than it was decided for this target, one sentence each."""
    now = {item.name: item.version for item in target.installed}
    return tuple(
        f"{name} was installed as {version} and is now {now.get(name, 'gone')}"
        for name, version in sorted(decision.packages.items())
        if now.get(name) != version
    )


_VARIABLES = (
    *("CUDA", "NVIDIA", "HIP_", "HSA_", "ROCR_", "ROCM", "GPU_", "ZE_", "SYCL", "ONEAPI"),
    *("PYTORCH", "TORCH_", "LD_", "DYLD_", "MKL_", "OMP_", "KMP_"),
)
"""Beginnings of the variables that change what torch loads, sees or computes."""


class _Proof(Struct, frozen=True):
    """The checks that passed in the state with this digest."""

    state: str
    report: Report


def state_of(
    interpreter: PythonEnvironment, checklist: Checklist, machine: Machine, env: Mapping[str, str]
) -> str | None:
    """The digest of all that a proof rests on; None where a part of it cannot be seen."""
    target = interpreter.target
    if target.python is None or target.prefix is None or not interpreter.site_packages:
        return None
    settings = venv_settings(Path(target.prefix))
    checked = distributions(map(Path, interpreter.site_packages), checklist.packages)
    system = settings.get("include-system-site-packages", "").lower() == "true"
    if system or any(dist.editable for dist in checked):
        return None  # it imports from folders that are not its own
    try:
        python = os.stat(target.python)  # noqa: PTH116  as for the files
        script = Path(__file__).with_name("verify_script.py").read_bytes()
        facts = (
            (__version__, sha256(script), checklist),
            (target.python, target.python_version, settings, python.st_size, python.st_mtime_ns),
            (machine.os, machine.arch, machine.kernel_version, machine.libc, machine.environment),
            (machine.drivers, machine.gpus),
            sorted(item for item in env.items() if item[0].startswith(_VARIABLES)),
        )
        digest = hashlib.sha256(msgspec.json.encode(facts))
        for site in interpreter.site_packages:
            for row in _files(site):
                digest.update(row)
    except (OSError, ValueError):
        return None
    return digest.hexdigest()


def _files(site: str) -> Iterator[bytes]:
    """Name, size and times of every file below a folder, a row for each folder.

    Bytecode is Python's own affair. Of torch's ten thousand headers only their folders are looked at: none
    was added or removed.

    Raises:
        OSError: a folder cannot be read, or leads elsewhere.
    """
    headers = os.path.join(site, "torch", "include")  # noqa: PTH118  pathlib takes a tenth of a second
    folders = [site]
    for folder in folders:
        header = folder.startswith(headers)
        rows: list[tuple[object, ...]] = [(os.stat(folder).st_mtime_ns,)] if header else []  # noqa: PTH116  as above
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir():
                    if entry.is_symlink():
                        raise OSError(f"{entry.path} leads elsewhere")
                    if entry.name != "__pycache__":
                        folders.append(entry.path)
                elif not header:
                    found = entry.stat()
                    rows.append((entry.name, found.st_size, found.st_mtime_ns, found.st_ctime_ns))
        yield repr((folder, rows)).encode("utf-8", "surrogateescape")


def read_proof(prefix: str, state: str | None) -> Report | None:
    """What was proved for this state in an environment, with the time of that."""
    proof = load(_proof_in(prefix), _Proof)
    return proof.report if proof is not None and proof.state == state and proof.report.ok else None


def store_proof(prefix: str, state: str | None, report: Report, *, proved_at: str) -> None:
    """Keep a proof, in place of the one before; checks that failed leave none."""
    if state is not None and report.ok:
        store(_proof_in(prefix), _Proof(state, structs.replace(report, proved_at=proved_at)))
    else:
        with contextlib.suppress(OSError):
            _proof_in(prefix).unlink(missing_ok=True)


def _proof_in(prefix: str) -> Path:
    return path_in(prefix).with_name("proof.json")
