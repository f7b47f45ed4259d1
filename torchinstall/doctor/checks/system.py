"""Do hardware, variables, folders, disks or the project here cause trouble?"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from torchinstall.core.machine import Finding
from torchinstall.core.messages import Message, size_text
from torchinstall.doctor.model import Diagnosis, Environment, Project, Remedy, Severity
from torchinstall.project.checks import check_requirements, check_uv, check_variables, unused_sources
from torchinstall.project.files import loads
from torchinstall.project.pyproject import ProjectView

_LOW_MEMORY = 2_000_000_000
"""Bytes; below this even the import of a GPU build may fail."""

_LONGEST_PREFIX = 260 - len("\\Lib\\site-packages\\") - 171
"""Windows allows 260 characters, and a torch wheel has paths of 171 (measured on 2.13.0)."""


def unreadable_hardware(seen: Environment) -> Iterator[Diagnosis]:
    """Hardware is there but cannot be read: driver and library differ, no permission, no driver.

    It is a warning where other GPUs of the same vendor work: one lost GPU among four.
    """
    served = {kind.vendor for kind in seen.catalog.tables.kinds}
    for finding in seen.machine.findings:
        vendor = finding.probe
        if finding.status in ("denied", "broken") and vendor in served:
            works = seen.machine.driver(vendor) and any(gpu.vendor == vendor for gpu in seen.machine.gpus)
            remedies = (Remedy(finding.hint or "torchinstall probe"),)
            severity: Severity = "warning" if works else "error"
            yield Diagnosis("unreadable-hardware", severity, finding.detail, _seen_at(finding), remedies)


def _seen_at(finding: Finding) -> tuple[str, ...]:
    return tuple(filter(None, (f"{finding.probe}: {finding.slug or finding.status}", finding.source)))


def system_cuda_first(seen: Environment) -> Iterator[Diagnosis]:
    """`LD_LIBRARY_PATH` comes before the libraries in torch's wheels."""
    folders = seen.surroundings.libraries
    if folders:
        cuda = seen.build is not None and seen.build.kind.toolkit == "CUDA"
        yield Diagnosis(
            "system-cuda-first",
            "error" if cuda else "info",
            "LD_LIBRARY_PATH puts a system CUDA before the libraries in torch's wheels",
            tuple(f"{folder}: {', '.join(names[:4])}" for folder, names in folders),
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


def hsa_override(seen: Environment) -> Iterator[Diagnosis]:
    """An override that was right for one GPU makes kernels crash on another one."""
    name = "HSA_OVERRIDE_GFX_VERSION"
    if value := seen.surroundings.env.get(name):
        targets = [gpu.gfx_target for gpu in seen.machine.gpus if gpu.gfx_target]
        message = f"{name}={value} makes ROCm treat every AMD GPU as another model"
        evidence = (f"found: {', '.join(targets) or 'no AMD GPU'}",)
        yield Diagnosis("hsa-override", "warning", message, evidence, (Remedy(f"unset {name}"),))


def gpus_hidden(seen: Environment) -> Iterator[Diagnosis]:
    """A variable that hides every GPU; torch will report that there is none."""
    env = seen.surroundings.env
    for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"):
        if name in env and env[name].strip() in ("", "-1", "NoDevFiles") and seen.machine.gpus:
            message, evidence = f"{name} hides every GPU from torch", (f"{name}={env[name]!r}",)
            yield Diagnosis("gpus-hidden", "info", message, evidence, (Remedy(f"unset {name}"),))


def shadowed(seen: Environment) -> Iterator[Diagnosis]:
    """A file with the name of a package is imported instead of the package."""
    windows = seen.target.os == "windows"
    for path in seen.surroundings.shadows:
        place = Path(path) if windows else PurePosixPath(path)
        own = place.parent if place.name == "__init__.py" else place
        message = f"{own.name} in {own.parent} would be imported instead of the installed package"
        names = (shlex.quote(str(name)) for name in (own, own.with_name(f"my_{own.name}")))
        move = Remedy(" ".join(("Move-Item" if windows else "mv", *names)))
        yield Diagnosis("shadowed-package", "error", message, (path,), (move,))


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


_VC_RUNTIME = "winget install --id Microsoft.VCRedist.2015+.x64"
_OF_HOST: Mapping[str, tuple[Severity, str]] = {
    "low-disk": ("warning", "uv cache prune"),
    "separate-file-systems": ("info", "export UV_LINK_MODE=copy"),
    "long-paths-disabled": ("warning", "uv venv C:\\venv"),
    "vc-runtime-missing": ("warning", _VC_RUNTIME),
    "vc-runtime-old": ("warning", _VC_RUNTIME),
}
"""Findings of the probe about the host that matter to an environment, each with what to type."""


def of_host(seen: Environment) -> Iterator[Diagnosis]:
    """What the probe has to say of disks, long paths and libraries of Windows, where it matters here."""
    better = seen.better
    large = better is not None and better.status == "ready" and better.backend != "cpu"
    for finding in seen.machine.findings:
        slug = finding.slug or ""
        linked = slug == "separate-file-systems" and seen.surroundings.env.get("UV_LINK_MODE")
        short = slug == "long-paths-disabled" and len(seen.target.prefix or "") <= _LONGEST_PREFIX
        if slug in _OF_HOST and not linked and not short:
            severity, command = _OF_HOST[slug]
            severity = "info" if slug == "low-disk" and not large else severity
            yield Diagnosis(
                slug, severity, finding.detail, _seen_at(finding), (Remedy(command),), finding.hint
            )


def low_memory(seen: Environment) -> Iterator[Diagnosis]:
    """Too little memory to import torch safely."""
    size = seen.machine.memory_bytes
    if size is not None and size < _LOW_MEMORY:
        message = f"this machine has only {size_text(size)} of memory; the system may kill torch"
        remedies = (Remedy("torchinstall auto --backend cpu"),)
        yield Diagnosis("low-memory", "warning", message, (f"{size} bytes",), remedies)


_CONFIGURE = Remedy("torchinstall configure")

_SETTINGS: Mapping[str, tuple[str, str | None]] = {
    "torch-backend-ignored": ("torch-backend is set, but uv sync, uv run and uv lock ignore it", None),
    "unsafe-index-strategy": (
        "any index may supply any package, even under a name that belongs to another index",
        "explicit indexes with sources make this setting unnecessary; remove it afterwards",
    ),
    "index-not-explicit": (
        "a PyTorch index is searched for every package, not only for torch and its companions",
        "set `explicit = true` on the index, and name it in [tool.uv.sources] for torch's packages",
    ),
}
"""Slug -> message and advice of the settings that `configure` warns of too."""


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
    ours = [row for row in project.changes or () if row[0] in family]
    gone = {name for name, _, action in ours if action == "uninstalled"}
    new = {name: version for name, version, action in ours if action != "uninstalled"}
    if new:
        replaced = ", ".join(f"{name} {seen.installed(name) or 'nothing'} -> {new[name]}" for name in new)
        message = f"the next uv run or uv sync in this project would replace what is installed: {replaced}"
        advice = "configure writes this build into the project, so that the lock asks for it too"
        evidence = (asked, *(" ".join(row) for row in ours))
        yield Diagnosis("project-would-undo", "error", message, evidence, (_CONFIGURE,), advice)
    elif gone:
        message = f"uv sync in this project would remove {', '.join(sorted(gone))}: not in the lock"
        advice = "uv run keeps what is installed; configure adds it to the project's dependencies"
        yield Diagnosis("project-would-undo", "warning", message, (asked,), (_CONFIGURE,), advice)


def settings(seen: Environment) -> Iterator[Diagnosis]:
    """Settings of uv and pip that have no effect or do harm, in files and variables."""
    project = seen.surroundings.project or Project(root="")
    view = _view(project)
    told: list[tuple[str, Message]] = []
    for name, text in project.files.items():
        if name == "pyproject.toml":
            messages = check_uv(view.uv, seen.catalog)
        elif name.endswith(".toml"):
            messages = check_uv(loads(text) or {}, seen.catalog, prefix="")
        else:
            messages = check_requirements(text, seen.catalog)
        told += [(name, item) for item in messages]
    told += [("environment", item) for item in check_variables(seen.surroundings.env, seen.catalog)]
    for slug, (summary, advice) in _SETTINGS.items():
        evidence = tuple(f"{place}: {message.message}" for place, message in told if message.slug == slug)
        # Without a `[project]` there is nothing to sync, and `uv pip` does read `torch-backend`.
        if evidence and (view.project or slug != "torch-backend-ignored"):
            # Where torch has a source already, configure has nothing to write: the advice is what is left.
            remedies = () if advice and "torch" in view.sources else (_CONFIGURE,)
            yield Diagnosis(slug, "warning", summary, evidence, remedies, advice)


def _view(project: Project) -> ProjectView:
    """`pyproject.toml`; empty where it is not TOML: uv itself reports that."""
    return ProjectView(loads(project.files.get("pyproject.toml", "")) or {})


def source_without_dependency(seen: Environment) -> Iterator[Diagnosis]:
    """A source of a package that the project does not ask for itself."""
    if idle := unused_sources(_view(seen.surroundings.project or Project(root="")), seen.catalog):
        message = f"the source of {', '.join(idle)} is ignored: sources count for direct dependencies only"
        remedies = (Remedy(f"uv add {' '.join(idle)}"), _CONFIGURE)
        evidence = ("pyproject.toml: tool.uv.sources",)
        yield Diagnosis("source-without-dependency", "warning", message, evidence, remedies)
