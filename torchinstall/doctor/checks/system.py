"""Do hardware, variables, folders, disks or the project here cause trouble?"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from torchinstall.core.messages import Message, size_text
from torchinstall.doctor.model import Diagnosis, Environment, Project, Remedy, Severity, auto
from torchinstall.planning.gpus import visible_gpus
from torchinstall.project.choices import routed_in
from torchinstall.project.files import loads
from torchinstall.project.pyproject import check_requirements, check_uv, check_variables, unused_sources

_LOW_MEMORY = 2_000_000_000
"""Bytes; below this even the import of a GPU build may fail."""

_LONGEST_PREFIX = 260 - len("\\Lib\\site-packages\\") - 171
"""Windows allows 260 characters, and a torch wheel has paths of 171 (measured on 2.13.0)."""


_VC_RUNTIME = "winget install --id Microsoft.VCRedist.2015+.x64"
_FINDINGS: Mapping[str, tuple[Severity, str]] = {
    "hsa-override": ("warning", "unset HSA_OVERRIDE_GFX_VERSION"),
    "low-disk": ("warning", "uv cache prune"),
    "separate-file-systems": ("info", "export UV_LINK_MODE=copy"),
    "long-paths-disabled": ("warning", "uv venv C:\\venv"),
    "vc-runtime-missing": ("warning", _VC_RUNTIME),
    "vc-runtime-old": ("warning", _VC_RUNTIME),
}
"""Findings of the probe that matter to an environment, each with what to type."""


def found_by_probe(seen: Environment) -> Iterator[Diagnosis]:
    """Hardware that is there but cannot be read, and what the probe says of disks, paths and variables.

    Unreadable hardware is a warning where other GPUs of the same vendor work: one lost GPU among four.
    """
    served = {kind.vendor for kind in seen.catalog.tables.kinds}
    for finding in seen.machine.findings:
        vendor, slug = finding.probe, finding.slug or ""
        evidence = tuple(filter(None, (f"{vendor}: {slug or finding.status}", finding.source)))
        if finding.status in ("denied", "broken") and vendor in served:
            works = seen.machine.driver(vendor) and any(gpu.vendor == vendor for gpu in seen.machine.gpus)
            remedies = (Remedy(finding.hint or "torchinstall probe"),)
            severity: Severity = "warning" if works else "error"
            yield Diagnosis("unreadable-hardware", severity, finding.detail, evidence, remedies)
        elif slug in _FINDINGS and not _of_no_account(slug, seen):
            severity, command = _FINDINGS[slug]
            better = seen.better
            if slug == "low-disk" and (better is None or better.status != "ready" or better.backend == "cpu"):
                severity = "info"  # nothing large will be installed
            yield Diagnosis(slug, severity, finding.detail, evidence, (Remedy(command),), finding.hint)


def _of_no_account(slug: str, seen: Environment) -> bool:
    if slug == "separate-file-systems":
        return bool(seen.surroundings.env.get("UV_LINK_MODE"))
    return slug == "long-paths-disabled" and len(seen.target.prefix or "") <= _LONGEST_PREFIX


def system_cuda_first(seen: Environment) -> Iterator[Diagnosis]:
    """`LD_LIBRARY_PATH` comes before the libraries in torch's wheels."""
    folders = seen.surroundings.libraries
    if folders:
        # A library of another name, such as one of another major version, is not taken for torch's.
        taken = seen.surroundings.own_libraries.intersection(name for _, names in folders for name in names)
        yield Diagnosis(
            "system-cuda-first",
            "error" if taken else "info",
            "LD_LIBRARY_PATH puts a system CUDA before the libraries in torch's wheels",
            tuple(f"{folder}: {', '.join(sorted(taken.intersection(n)) or n[:4])}" for folder, n in folders),
            (Remedy("unset LD_LIBRARY_PATH"),),
            "torch's wheels need no system CUDA; set the variable only for the program that does",
        )


def compat_on_consumer_gpu(seen: Environment) -> Iterator[Diagnosis]:
    """Forward compatibility works on data-centre GPUs only; others end in error 804."""
    nvidia = (gpu for gpu in seen.machine.gpus if gpu.vendor == "nvidia")
    consumer = next((gpu.label for gpu in nvidia if re.search(r"GeForce|TITAN", gpu.name or "")), None)
    loaded = tuple(item.source or item.detail for item in seen.machine.findings if item.slug == "cuda-compat")
    if loaded and consumer:
        message = f"programs load a cuda-compat library, which does not work on {consumer} (error 804)"
        remedies = (Remedy("unset LD_LIBRARY_PATH"),)
        advice = "remove the package cuda-compat from the image, or update the host's driver"
        yield Diagnosis("compat-on-consumer-gpu", "error", message, loaded, remedies, advice)


def gpus_hidden(seen: Environment) -> Iterator[Diagnosis]:
    """Variables that hide every GPU; torch will report that there is none."""
    hiding = re.compile(r"(CUDA|HIP|ROCR)_VISIBLE_DEVICES")
    env = {name: value for name, value in seen.surroundings.env.items() if hiding.fullmatch(name)}
    if env and seen.machine.gpus and visible_gpus(env, seen.machine) == ():
        evidence = tuple(f"{name}={value!r}" for name, value in env.items())
        message = f"torch sees no GPU, because of {' and '.join(env)}"
        yield Diagnosis("gpus-hidden", "info", message, evidence, (Remedy(f"unset {' '.join(env)}"),))


def shadowed(seen: Environment) -> Iterator[Diagnosis]:
    """A file with the name of a package is imported instead of the package."""
    windows, slug, around = seen.target.os == "windows", "shadowed-package", seen.surroundings
    for path in around.shadows:
        place = Path(path) if windows else PurePosixPath(path)
        own = place.parent if place.name == "__init__.py" else place
        message = f"{own.name} in {own.parent} would be imported instead of the installed package"
        names = (shlex.quote(str(name)) for name in (own, own.with_name(f"my_{own.name}")))
        move = Remedy(" ".join(("Move-Item" if windows else "mv", *names)))
        advice = "or start Python in another folder, where this is the source code of the package"
        yield Diagnosis(slug, "error", message, (path,), (move,), advice)
    if around.on_path:
        message = "PYTHONPATH names a folder whose packages would be imported instead of the installed ones"
        unset = Remedy("Remove-Item Env:PYTHONPATH" if windows else "unset PYTHONPATH")
        yield Diagnosis(slug, "error", message, around.on_path, (unset,))


def wrong_interpreter(seen: Environment) -> Iterator[Diagnosis]:
    """An environment is active, but `python` belongs to another one."""
    active = seen.surroundings.env.get("VIRTUAL_ENV") or seen.surroundings.env.get("CONDA_PREFIX")
    found, prefix = seen.surroundings.path_python, seen.target.prefix
    if not active or not prefix or found is None or Path(active) != Path(prefix):
        return
    if Path(prefix) not in Path(found).parents:
        folder = "Scripts\\activate" if seen.target.os == "windows" else "bin/activate"
        yield Diagnosis(
            "wrong-interpreter",
            "warning",
            "this environment is active, but python on PATH is another interpreter",
            (f"environment: {prefix}", f"python: {found}"),
            (Remedy(f"source {shlex.quote(str(Path(prefix, folder)))}"),),
            "packages are installed into one, while programs run in the other",
        )


def low_memory(seen: Environment) -> Iterator[Diagnosis]:
    """Too little memory to import torch safely."""
    size = seen.machine.memory_bytes
    if size is not None and size < _LOW_MEMORY:
        message = f"this machine has only {size_text(size)} of memory; the system may kill torch"
        remedies = (Remedy(auto(seen, "--backend", "cpu").command),)  # not for --fix: it is a choice
        yield Diagnosis("low-memory", "warning", message, (f"{size} bytes",), remedies)


_CONFIGURE = Remedy("torchinstall configure")


def would_undo(seen: Environment) -> Iterator[Diagnosis]:
    """The lock names something else than what is installed; uv itself says what it would change."""
    project = seen.surroundings.project
    if project is None:
        return
    asked = f"uv sync --dry-run in {project.root}"
    if project.choice:
        flags = " ".join(project.choice)
        yield Diagnosis(
            "project-choice",
            "warning",
            f"a bare uv run or uv sync would replace what is installed: the choice {flags}",
            (asked, f"uv sync --dry-run {flags} changes no torch"),
            (Remedy("torchinstall sync"), Remedy(f"uv sync {flags}")),
            "use torchinstall run and torchinstall sync in this project: they add the flags",
        )
    family = {item.name for item in seen.target.installed} | {"torch"}
    ours = {name: version for name, version in (project.changes or {}).items() if name in family}
    new = {name: version for name, version in ours.items() if version is not None}
    if new:
        replaced = ", ".join(f"{name} {seen.installed(name) or 'nothing'} -> {new[name]}" for name in new)
        message = f"the next uv run or uv sync in this project would replace what is installed: {replaced}"
        advice = "configure writes this build into the project, so that the lock asks for it too"
        remedy = _CONFIGURE
        if routed_in(project.view, seen.catalog) or not any(map(seen.installed, new)):
            advice, remedy = "sync installs what the project chose", Remedy("torchinstall sync")
        evidence = (asked, *(f"{name} {version or 'removed'}" for name, version in ours.items()))
        yield Diagnosis("project-would-undo", "error", message, evidence, (remedy,), advice)
    elif ours:
        message = f"uv sync in this project would remove {', '.join(sorted(ours))}: not in the lock"
        advice = "uv run keeps what is installed; configure adds it to the project's dependencies"
        yield Diagnosis("project-would-undo", "warning", message, (asked,), (_CONFIGURE,), advice)


def settings(seen: Environment) -> Iterator[Diagnosis]:
    """Settings of uv and pip that have no effect or do harm, in files and variables."""
    project = seen.surroundings.project or Project(root="")
    view = project.view
    told: list[tuple[str, Message]] = []
    for name, text in project.files.items():
        if name == "pyproject.toml":
            messages = check_uv(view.uv, seen.catalog)
        elif name.endswith(".toml"):
            messages = check_uv(loads(text) or {}, seen.catalog, prefix="")
        else:
            messages = check_requirements(text, seen.catalog)
        told += [(f"{name} in {project.root}", item) for item in messages]
    told += [("the environment", item) for item in check_variables(seen.surroundings.env, seen.catalog)]
    # Where torch has a source already, configure has nothing to write: the message is what is left.
    remedies = () if "torch" in view.sources else (_CONFIGURE,)
    for place, item in told:
        # Without a `[project]` there is nothing to sync, and `uv pip` does read `torch-backend`.
        if view.project or item.slug != "torch-backend-ignored":
            yield Diagnosis(item.slug, "warning", item.message, (place,), remedies)


def source_without_dependency(seen: Environment) -> Iterator[Diagnosis]:
    """A source of a package that the project does not ask for itself."""
    if idle := unused_sources((seen.surroundings.project or Project(root="")).view, seen.catalog):
        message = f"the source of {', '.join(idle)} is ignored: sources count for direct dependencies only"
        remedies = (Remedy(f"uv add {' '.join(idle)}"), _CONFIGURE)
        evidence = ("pyproject.toml: tool.uv.sources",)
        yield Diagnosis("source-without-dependency", "warning", message, evidence, remedies)
