"""A proof that torch computes, kept in its environment and repeated only when something has changed.

A proof counts for one state: what was checked and with which checks, the interpreter, every file that it can
import, the GPUs with their drivers, and the variables that reach a driver or a library. If any of them is not
the same, or cannot be read, there is no proof.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
from msgspec import Struct, structs

from torchinstall import __version__
from torchinstall.core.errors import UsageError
from torchinstall.core.files import write_file
from torchinstall.core.machine import Machine
from torchinstall.install.interpreter import PythonEnvironment
from torchinstall.install.record import path_in
from torchinstall.install.verify import Checklist, Report

_VARIABLES = (
    *(
        "CUDA",
        "NVIDIA",
        "HIP_",
        "HSA_",
        "ROCR_",
        "ROCM",
        "GPU_",
        "ZE_",
        "SYCL",
        "ONEAPI",
        "PYTORCH",
        "TORCH_",
    ),
    *("LD_", "DYLD_", "MKL_", "OMP_", "KMP_"),
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
    config = Path(target.prefix) / "pyvenv.cfg"
    try:
        settings = config.read_text(encoding="utf-8") if config.exists() else ""
        if "true" in settings.partition("include-system-site-packages")[2].partition("\n")[0].lower():
            return None  # it imports from folders that are not its own
        python = os.stat(target.python)  # noqa: PTH116  as for the files
        script = Path(__file__).with_name("verify_script.py").read_bytes()
        facts = (
            (__version__, hashlib.sha256(script).hexdigest(), checklist),
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
        rows: list[tuple[object, ...]] = [(os.stat(folder).st_mtime_ns,)] if header else []  # noqa: PTH116
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
    try:
        proof = msgspec.json.decode(_path(prefix).read_bytes(), type=_Proof)
    except (OSError, ValueError):
        return None
    return proof.report if proof.state == state and proof.report.ok else None


def store_proof(prefix: str, state: str | None, report: Report, *, proved_at: str) -> None:
    """Keep a proof, in place of the one before; checks that failed leave none.

    An environment that cannot be written to is no fault: the checks are run again.
    """
    try:
        if state is None or not report.ok:
            _path(prefix).unlink(missing_ok=True)
            return
        _path(prefix).parent.mkdir(parents=True, exist_ok=True)
        proof = _Proof(state, structs.replace(report, proved_at=proved_at))
        write_file(_path(prefix), msgspec.json.encode(proof) + b"\n", durable=False)
    except (OSError, UsageError):
        pass


def _path(prefix: str) -> Path:
    return path_in(prefix).with_name("proof.json")
