"""Do hardware, variables, the current folder or the disks cause trouble?"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from torchinstall.doctor.model import Diagnosis, Environment
from torchinstall.doctor.remedies import by_hand

_GIB = 2**30
_ROOM = {"environment": 10 * _GIB, "uv cache": 10 * _GIB, "temporary files": 1 * _GIB}
"""The most that a CUDA build of torch needs: its wheels are 4 to 8 GB, and are unpacked beside themselves."""
_ROOM_CPU = 2 * _GIB
"""A CPU build unpacks to less than 1 GiB."""
_MEMORY = 2 * _GIB
"""Below this even the import of a GPU build may fail."""
_WINDOWS_PATH = 260
_DEEPEST = 171
"""The longest path below site-packages in a torch wheel, in characters (measured on 2.13.0)."""


def unreadable_hardware(seen: Environment) -> Iterator[Diagnosis]:
    """Hardware is there but cannot be read: driver and library differ, no permission, no driver.

    It is a warning where other GPUs of the same vendor work: one lost GPU among four.
    """
    served = {kind.vendor for kind in seen.catalog.tables.kinds}
    for finding in seen.machine.findings:
        vendor = finding.probe
        if finding.status not in ("denied", "broken") or vendor not in served:
            continue
        works = seen.machine.driver(vendor) and any(gpu.vendor == vendor for gpu in seen.machine.gpus)
        yield Diagnosis(
            slug="unreadable-hardware",
            severity="warning" if works else "error",
            message=finding.detail,
            evidence=tuple(
                text for text in (f"{vendor}: {finding.slug or finding.status}", finding.source) if text
            ),
            remedies=(by_hand(finding.hint or "torchinstall probe"),),
        )


def system_cuda_first(seen: Environment) -> Iterator[Diagnosis]:
    """`LD_LIBRARY_PATH` comes before the libraries in torch's wheels."""
    info = None if seen.backend is None else seen.catalog.backend(seen.backend)
    cuda = info is not None and info.kind.toolkit == "CUDA"
    if seen.surroundings.libraries:
        yield Diagnosis(
            slug="system-cuda-first",
            severity="error" if cuda else "info",
            message="LD_LIBRARY_PATH puts a system CUDA before the libraries in torch's wheels",
            evidence=tuple(
                f"{folder}: {', '.join(names[:4])}" for folder, names in seen.surroundings.libraries
            ),
            remedies=(by_hand("unset LD_LIBRARY_PATH"),),
            advice="torch's wheels need no system CUDA; set the variable only for the program that does",
        )


def compat_on_consumer_gpu(seen: Environment) -> Iterator[Diagnosis]:
    """Forward compatibility works on data-centre GPUs only; others end in error 804."""
    consumer = (
        gpu.label
        for gpu in seen.machine.gpus
        if gpu.vendor == "nvidia" and re.search(r"GeForce|TITAN", gpu.name or "")
    )
    loaded = tuple(item.source or item.detail for item in seen.machine.findings if item.slug == "cuda-compat")
    if loaded and (gpu := next(consumer, None)):
        yield Diagnosis(
            slug="compat-on-consumer-gpu",
            severity="error",
            message=f"programs load a cuda-compat library, which does not work on {gpu} (error 804)",
            evidence=loaded,
            remedies=(by_hand("unset LD_LIBRARY_PATH"),),
            advice="remove the package cuda-compat from the image, or update the host's driver",
        )


def hsa_override(seen: Environment) -> Iterator[Diagnosis]:
    """An override that was right for one GPU makes kernels crash on another one."""
    value = seen.surroundings.env.get("HSA_OVERRIDE_GFX_VERSION")
    if value:
        targets = [gpu.gfx_target for gpu in seen.machine.gpus if gpu.gfx_target]
        yield Diagnosis(
            slug="hsa-override",
            severity="warning",
            message=f"HSA_OVERRIDE_GFX_VERSION={value} makes ROCm treat every AMD GPU as another model",
            evidence=(f"found: {', '.join(targets) or 'no AMD GPU'}",),
            remedies=(by_hand("unset HSA_OVERRIDE_GFX_VERSION"),),
        )


def gpus_hidden(seen: Environment) -> Iterator[Diagnosis]:
    """A variable that hides every GPU; torch will report that there is none."""
    env = seen.surroundings.env
    for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"):
        if name in env and env[name].strip() in ("", "-1", "NoDevFiles") and seen.machine.gpus:
            yield Diagnosis(
                slug="gpus-hidden",
                severity="info",
                message=f"{name} hides every GPU from torch",
                evidence=(f"{name}={env[name]!r}",),
                remedies=(by_hand(f"unset {name}"),),
            )


def shadowed(seen: Environment) -> Iterator[Diagnosis]:
    """A file with the name of a package is imported instead of the package."""
    for path in seen.surroundings.shadows:
        place = PurePosixPath(path) if seen.target.os != "windows" else Path(path)
        own = place.parent if place.name == "__init__.py" else place
        renamed = own.with_name(f"my_{own.name}")
        move = "Move-Item" if seen.target.os == "windows" else "mv"
        yield Diagnosis(
            slug="shadowed-package",
            severity="error",
            message=f"{own.name} in {own.parent} would be imported instead of the installed package",
            evidence=(path,),
            remedies=(by_hand(f"{move} {shlex.quote(str(own))} {shlex.quote(str(renamed))}"),),
        )


def wrong_interpreter(seen: Environment) -> Iterator[Diagnosis]:
    """An environment is active, but `python` belongs to another one."""
    active = seen.surroundings.env.get("VIRTUAL_ENV") or seen.surroundings.env.get("CONDA_PREFIX")
    found, prefix = seen.surroundings.path_python, seen.target.prefix
    if not active or not prefix or found is None or Path(active) != Path(prefix):
        return
    if Path(prefix) not in Path(found).parents:
        folder = "Scripts\\activate" if seen.target.os == "windows" else "bin/activate"
        yield Diagnosis(
            slug="wrong-interpreter",
            severity="warning",
            message="this environment is active, but python on PATH is another interpreter",
            evidence=(f"environment: {prefix}", f"python: {found}"),
            remedies=(by_hand(f"source {shlex.quote(str(Path(prefix, folder)))}"),),
            advice="packages are installed into one, while programs run in the other",
        )


def low_disk(seen: Environment) -> Iterator[Diagnosis]:
    """Less space than the installation needs."""
    plan = seen.better
    if plan is None or plan.status == "satisfied" or plan.backend is None:
        rooms = dict.fromkeys(_ROOM, _GIB // 2)
    elif plan.backend == "cpu":
        rooms = dict.fromkeys(_ROOM, _ROOM_CPU)
    else:
        rooms = _ROOM
    for disk in seen.surroundings.disks:
        if disk.free < rooms.get(disk.what, 0):
            yield Diagnosis(
                slug="low-disk",
                severity="warning",
                message=f"only {disk.free / _GIB:.1f} GiB are free for the {disk.what}",
                evidence=(f"{disk.path}: {disk.free} bytes free",),
                remedies=(by_hand("uv cache prune"), by_hand("df -h")),
                advice="a CPU build is a tenth of the size: torchinstall auto --backend cpu",
            )


def separate_file_systems(seen: Environment) -> Iterator[Diagnosis]:
    """Hard links work only within one file system."""
    disks = {disk.what: disk for disk in seen.surroundings.disks}
    place, cache = disks.get("environment"), disks.get("uv cache")
    if place is None or cache is None or place.device == cache.device:
        return
    if seen.surroundings.env.get("UV_LINK_MODE"):
        return
    yield Diagnosis(
        slug="separate-file-systems",
        severity="info",
        message="uv's cache and the environment are on different file systems, so uv copies every file",
        evidence=(f"environment: {place.path}", f"uv cache: {cache.path}"),
        remedies=(by_hand("export UV_LINK_MODE=copy"),),
        advice="or set UV_CACHE_DIR to a folder beside the environment, so that uv can link files",
    )


def low_memory(seen: Environment) -> Iterator[Diagnosis]:
    """Too little memory to import torch safely."""
    size = seen.machine.memory_bytes
    if size is not None and size < _MEMORY:
        yield Diagnosis(
            slug="low-memory",
            severity="warning",
            message=f"this machine has only {size / _GIB:.1f} GiB of memory; the system may kill torch",
            evidence=(f"{size} bytes",),
            remedies=(by_hand("torchinstall auto --backend cpu"),),
        )


def long_path(seen: Environment) -> Iterator[Diagnosis]:
    """Windows allows 260 characters unless long paths are enabled."""
    prefix = seen.target.prefix or ""
    length = len(prefix) + len("\\Lib\\site-packages\\") + _DEEPEST
    if seen.target.os == "windows" and length > _WINDOWS_PATH:
        yield Diagnosis(
            slug="long-path",
            severity="warning",
            message="paths in this environment may exceed the 260 characters that Windows allows by default",
            evidence=(f"{prefix}: {len(prefix)} characters",),
            remedies=(by_hand("uv venv C:\\venv"),),
            advice="or enable long paths: set LongPathsEnabled to 1 in the registry and restart",
        )
