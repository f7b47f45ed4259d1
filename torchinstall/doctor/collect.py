"""Collect what the checks need: the machine, what is installed, what lies around, what the planner says."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from msgspec import structs

from torchinstall.core.errors import TargetError, ToolMissingError
from torchinstall.core.files import MOST_BYTES_OF_TOOLS, names_in, read_text, upward
from torchinstall.core.plan import Plan
from torchinstall.core.request import requirement
from torchinstall.doctor.model import Environment, Project, Surroundings
from torchinstall.install.backup import Due
from torchinstall.install.interpreter import take_inventory
from torchinstall.install.journal import unfinished
from torchinstall.install.lock import EnvironmentLock
from torchinstall.install.record import read_decision
from torchinstall.install.transaction import announced
from torchinstall.install.verify import Checklist, checklist_of
from torchinstall.install.verify import verify as verify_installed
from torchinstall.planner.selection import plan
from torchinstall.planning.context import Context, PlanOptions
from torchinstall.planning.inputs import Inputs, collect_inputs
from torchinstall.planning.sources import catalog_of_installed
from torchinstall.project.files import loads
from torchinstall.project.pyproject import ProjectView
from torchinstall.project.sync import environment_of, scope_flags

_PLACE_FLAGS = (
    "python",
    "venv",
    "system",
    "backend",
    "channel",
    "allow_cpu",
    "prefer_gpu",
    "machine",
    "target_driver",
    "target_cuda",
    "target_gpu",
    "index_base",
    "find_links",
    "offline",
)
"""Flags of the doctor that its commands repeat, so that they mean the same environment and machine."""


def collect(
    context: Context,
    options: PlanOptions,
    *,
    verify: bool,
    lock: EnvironmentLock | None = None,
) -> Environment:
    """Read everything; nothing is changed, and nothing is fetched.

    `lock` makes the environment ours first, if it will be changed.

    Raises:
        TorchInstallError: there is no environment, no uv, or a bad flag.
    """
    context.working("examining this machine and its environment")
    inputs = collect_inputs(context, options, purpose="examine", lock=lock)
    target, decision = inputs.target, read_decision(str(inputs.target.prefix))
    index_url = decision.index_url if decision is not None else None
    catalog = catalog_of_installed(inputs.catalog, target, index_url)
    inputs = structs.replace(inputs, catalog=catalog)
    if inputs.place is None or inputs.uv is None:
        raise TypeError("what is examined has an environment and a uv")
    if inputs.created_with is not None:
        raise TargetError(
            "no-environment",
            f"there is no environment {target.prefix} yet",
            wanted="an environment to examine",
            found=f"nothing there ({target.why})",
            hints=(f"torchinstall auto --venv {shlex.quote(str(options.venv))}",),
        )
    uv = inputs.uv.path
    context.detail(f"examining Python {target.python_version} in {target.prefix} ({target.why})")
    python, prefix = str(target.python), str(target.prefix)
    inventory = take_inventory(inputs.place, [row.package for row in catalog.families])
    # torch imports NumPy, too.
    names = {dist.name for dist in inventory.dists if dist.name == "numpy"}
    names |= {"torch", *(item.name.replace("-", "_") for item in target.installed)}
    seen = Environment(
        machine=inputs.machine,
        target=target,
        inventory=inventory,
        surroundings=surroundings(
            env=context.env,
            cwd=context.cwd,
            prefix=prefix,
            uv=uv,
            names=names,
            sites=inputs.place.site_packages,
        ),
        catalog=catalog,
        free=_plan(inputs, "torch", upgrade=True),
        decision=decision,
        flags=flags_of(options),
        uv=uv,
        unfinished=unfinished(Path(prefix)),
    )
    if seen.release is None:
        return seen
    choice = _plan(inputs, f"torch=={seen.release}", *seen.companions)
    seen = structs.replace(seen, choice=choice)
    if not verify:
        return seen
    context.working(f"checking that torch {seen.installed('torch')} computes; this takes some seconds")
    promised = _promised(seen, described=inputs.elsewhere)
    return structs.replace(seen, report=verify_installed(python, promised, env=context.env))


def _plan(inputs: Inputs, *texts: str, upgrade: bool = False) -> Plan:
    requirements = tuple(map(requirement, texts))
    # What is installed is judged in the same way without a network.
    changes = {"requirements": requirements, "constraints": (), "upgrade": upgrade, "offline": False}
    asked = structs.replace(inputs.request, **changes)
    return plan(asked, inputs.machine, inputs.target, inputs.catalog)


def _promised(seen: Environment, *, described: bool) -> Checklist:
    """What the installed build promises; a device only where the build fits."""
    choice = seen.choice
    if choice is None or choice.error is not None or choice.backend != seen.backend:
        return Checklist()
    return checklist_of(structs.replace(choice, packages=()), seen.build, described=described)


def flags_of(options: PlanOptions) -> tuple[str, ...]:
    """What was typed, as it has to be typed again."""
    words: list[str] = []
    for name in _PLACE_FLAGS:
        source, value = options.source(name), getattr(options, name)
        if source.startswith("flag "):
            flag = source.removeprefix("flag ")
            values = value if isinstance(value, tuple) else (value,)
            words += [flag] if value is True else [word for item in values for word in (flag, str(item))]
    return tuple(words)


_VARIABLES = re.compile(
    r"UV_|PIP_|PYTHON(PATH|HOME)|LD_LIBRARY_PATH|LD_PRELOAD|VIRTUAL_ENV|CONDA_|CUDA_|HSA_|HIP_|ROCR_|ZE_|NVIDIA_"
)
_CUDA_LIBRARY = re.compile(
    r"lib(cudart|cublas|cublasLt|cudnn\w*|nvJitLink|cusparse\w*|cufft|nccl|cusolver)\.so"
)
_PROJECT_FILES = ("pyproject.toml", "uv.toml")
_REQUIREMENTS = re.compile(r"[\w.-]*requirements[\w.-]*\.(txt|in)")


def surroundings(
    *, env: Mapping[str, str], cwd: Path, prefix: str, uv: str, names: Collection[str], sites: Iterable[str]
) -> Surroundings:
    """Read what the checks need; what cannot be read is omitted.

    uv is asked for what it would do to this environment (`prefix`, whose packages are in `sites`); `names` of
    imports must not be shadowed.
    """
    path, ours = env.get("PATH", ""), set(map(Path, sites))
    on_path = dict.fromkeys(Path(cwd, item) for item in env.get("PYTHONPATH", "").split(os.pathsep) if item)
    others = (folder for folder in on_path if folder not in {*ours, cwd})
    own = (folder for site in ours for folder in (site / "torch/lib", *site.glob("nvidia/*/lib")))
    return Surroundings(
        env={name: value for name, value in env.items() if _VARIABLES.match(name)},
        path_python=shutil.which("python", path=path) or shutil.which("python3", path=path),
        shadows=tuple(_shadows(cwd, names)),
        on_path=tuple(row for folder in others for row in _shadows(folder, names)),
        libraries=tuple(_libraries(env, {*ours, Path(prefix, "lib")})),
        own_libraries=frozenset(name for folder in own for name in names_in(folder)),
        project=_project(env, cwd, prefix, uv),
    )


def _shadows(folder: Path, packages: Iterable[str]) -> Iterable[str]:
    """What `python` would import from a folder instead of the installed packages."""
    for package in packages:
        for candidate in (folder / f"{package}.py", folder / package / "__init__.py"):
            if candidate.is_file():
                yield str(candidate)


def _libraries(env: Mapping[str, str], ours: set[Path]) -> Iterable[tuple[str, tuple[str, ...]]]:
    """CUDA libraries in `LD_LIBRARY_PATH` that are not the environment's own."""
    for text in dict.fromkeys(filter(None, env.get("LD_LIBRARY_PATH", "").split(os.pathsep))):
        place = Path(text)
        names = tuple(name for name in names_in(place) if _CUDA_LIBRARY.match(name))
        if names and ours.isdisjoint((place, *place.parents)):
            yield text, names


def _project(env: Mapping[str, str], cwd: Path, prefix: str, uv: str) -> Project | None:
    """The nearest folder, here or above, with a `pyproject.toml` or `uv.toml`; else requirements here."""
    root = next((file.parent for file in upward(cwd, *_PROJECT_FILES)), cwd)
    names = (*_PROJECT_FILES, *(name for name in names_in(root) if _REQUIREMENTS.fullmatch(name)))
    files: dict[str, str] = {}
    for name in names:
        with contextlib.suppress(OSError, ValueError):
            files[name] = read_text(root / name, MOST_BYTES_OF_TOOLS)
    if not files:
        return None
    uses_this = environment_of(root, env).resolve() == Path(prefix).resolve() and (root / "uv.lock").is_file()
    changes = _sync_changes(uv, env, root) if uses_this else None
    choice: tuple[str, ...] = ()
    if changes and "torch" in changes:
        view = ProjectView(loads(files.get("pyproject.toml", "")) or {})
        # What the extra or group whose torch is installed would do.
        for flags in filter(None, (scope_flags(scope, view) for scope in view.scopes_of("torch"))):
            there = _sync_changes(uv, env, root, flags)
            if there is not None and "torch" not in there:
                choice, changes = flags, there
                break
    return Project(root=str(root), files=files, changes=changes, choice=choice)


def _sync_changes(uv: str, env: Mapping[str, str], root: Path, flags: tuple[str, ...] = ()) -> Due | None:
    """What `uv sync` would do, by uv's own word: nothing is written, nothing is fetched."""
    with contextlib.suppress(ToolMissingError):
        return announced([uv, "sync", "--frozen", "--offline", *flags], env, root, project=True)
    return None
