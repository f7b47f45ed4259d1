"""Does anything around the environment stand in the way: hardware, variables, the current folder, disks?"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from torchinstall.doctor.checks.remedies import by_hand
from torchinstall.doctor.model import Diagnosis, Environment

__all__ = [
    "compat_on_consumer_gpu",
    "gfx_override",
    "gpus_hidden",
    "long_path",
    "low_disk",
    "low_memory",
    "other_filesystem",
    "shadowed",
    "system_cuda_first",
    "unreadable_hardware",
    "wrong_interpreter",
]

_GIB = 2**30
_ROOM = {"environment": 10 * _GIB, "uv cache": 10 * _GIB, "temporary files": 1 * _GIB}
"""What a CUDA build of torch takes at most: its wheels are 4 to 8 GB and are unpacked beside themselves."""
_ROOM_CPU = 2 * _GIB
"""A CPU build unpacks to less than 1 GiB."""
_MEMORY = 2 * _GIB
"""Below this even importing a GPU build of torch is a matter of luck."""
_WINDOWS_PATH = 260
_DEEPEST = 171
"""The longest path below site-packages in a torch wheel, in characters (measured on 2.13.0)."""


def unreadable_hardware(seen: Environment) -> Iterator[Diagnosis]:
    """Hardware is there and cannot be read: driver and library differ, no permission, no driver.

    Beside GPUs of the same vendor that work it is a warning: one lost GPU among four.
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
    """`LD_LIBRARY_PATH` comes before the libraries that torch's wheels bring along."""
    info = None if seen.backend is None else seen.catalog.backend(seen.backend)
    cuda = info is not None and info.kind.toolkit == "CUDA"
    if seen.surroundings.libraries:
        yield Diagnosis(
            slug="system-cuda-first",
            severity="error" if cuda else "info",
            message="LD_LIBRARY_PATH puts a system CUDA before the libraries that come with torch",
            evidence=tuple(
                f"{folder}: {', '.join(names[:4])}" for folder, names in seen.surroundings.libraries
            ),
            remedies=(by_hand("unset LD_LIBRARY_PATH"),),
            advice="torch's wheels need no system CUDA; set the variable only for the program that does",
        )


def compat_on_consumer_gpu(seen: Environment) -> Iterator[Diagnosis]:
    """Forward compatibility serves data-centre GPUs; others end in error 804."""
    consumer = [
        gpu.label
        for gpu in seen.machine.gpus
        if gpu.vendor == "nvidia" and re.search(r"GeForce|TITAN", gpu.name or "")
    ]
    probed = [item.source or item.detail for item in seen.machine.findings if item.slug == "cuda-compat"]
    places = (*seen.surroundings.compat, *probed)
    if places and consumer:
        yield Diagnosis(
            slug="compat-on-consumer-gpu",
            severity="error",
            message=f"a cuda-compat library would be loaded, and it does not serve {consumer[0]} (error 804)",
            evidence=places,
            remedies=(by_hand("unset LD_LIBRARY_PATH"),),
            advice="remove the package cuda-compat from the image, or update the driver of the host",
        )


def gfx_override(seen: Environment) -> Iterator[Diagnosis]:
    """An override that was right for one card makes kernels of another one crash."""
    value = seen.surroundings.env.get("HSA_OVERRIDE_GFX_VERSION")
    if value:
        targets = [gpu.gfx_target for gpu in seen.machine.gpus if gpu.gfx_target]
        yield Diagnosis(
            slug="gfx-override",
            severity="warning",
            message=f"HSA_OVERRIDE_GFX_VERSION={value} makes every AMD GPU pass for another one",
            evidence=(f"found: {', '.join(targets) or 'no AMD GPU'}",),
            remedies=(by_hand("unset HSA_OVERRIDE_GFX_VERSION"),),
        )


def gpus_hidden(seen: Environment) -> Iterator[Diagnosis]:
    """A mask that leaves no GPU: torch will say that there is none."""
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
    """A file of one's own that is called like a package is imported in its place."""
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
    """An environment is active, and `python` is somebody else's."""
    active = seen.surroundings.env.get("VIRTUAL_ENV") or seen.surroundings.env.get("CONDA_PREFIX")
    found, prefix = seen.surroundings.path_python, seen.target.prefix
    if not active or not prefix or found is None or Path(active) != Path(prefix):
        return
    if Path(prefix) not in Path(found).parents:
        folder = "Scripts\\activate" if seen.target.os == "windows" else "bin/activate"
        yield Diagnosis(
            slug="wrong-interpreter",
            severity="warning",
            message="this environment is active, and python on PATH is another interpreter",
            evidence=(f"environment: {prefix}", f"python: {found}"),
            remedies=(by_hand(f"source {shlex.quote(str(Path(prefix, folder)))}"),),
            advice="packages that go to one and programs that run in the other never meet",
        )


def low_disk(seen: Environment) -> Iterator[Diagnosis]:
    """Less room than what would be installed takes."""
    plan = seen.choice if seen.choice is not None and seen.choice.error is None else seen.free
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


def other_filesystem(seen: Environment) -> Iterator[Diagnosis]:
    """Uv can link files only within one filesystem."""
    disks = {disk.what: disk for disk in seen.surroundings.disks}
    place, cache = disks.get("environment"), disks.get("uv cache")
    if place is None or cache is None or place.device == cache.device:
        return
    if seen.surroundings.env.get("UV_LINK_MODE"):
        return
    yield Diagnosis(
        slug="cache-on-another-filesystem",
        severity="info",
        message="uv's cache and the environment lie on different filesystems, so every file is copied",
        evidence=(f"environment: {place.path}", f"uv cache: {cache.path}"),
        remedies=(by_hand("export UV_LINK_MODE=copy"),),
        advice="or set UV_CACHE_DIR to a folder beside the environment: then files are linked",
    )


def low_memory(seen: Environment) -> Iterator[Diagnosis]:
    """Too little memory to import torch with ease."""
    size = seen.machine.memory_bytes
    if size is not None and size < _MEMORY:
        yield Diagnosis(
            slug="low-memory",
            severity="warning",
            message=f"{size / _GIB:.1f} GiB of memory is little: torch may be killed for lack of it",
            evidence=(f"{size} bytes",),
            remedies=(by_hand("torchinstall auto --backend cpu"),),
        )


def long_path(seen: Environment) -> Iterator[Diagnosis]:
    """Windows stops at 260 characters unless long paths are allowed."""
    prefix = seen.target.prefix or ""
    length = len(prefix) + len("\\Lib\\site-packages\\") + _DEEPEST
    if seen.target.os == "windows" and length > _WINDOWS_PATH:
        yield Diagnosis(
            slug="long-path",
            severity="warning",
            message="paths in this environment may pass the 260 characters that Windows allows by default",
            evidence=(f"{prefix}: {len(prefix)} characters",),
            remedies=(by_hand("uv venv C:\\venv"),),
            advice="or allow long paths: set LongPathsEnabled to 1 in the registry and restart",
        )
