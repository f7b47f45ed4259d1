"""What lies around an environment: variables, the current folder, disks, and the project here."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from torchinstall.core.errors import ToolMissingError
from torchinstall.doctor.model import Disk, Project, Surroundings
from torchinstall.install.uv import run_uv

__all__ = ["surroundings"]

_VARIABLES = re.compile(
    r"UV_|PIP_|PYTHON(PATH|HOME)|LD_LIBRARY_PATH|LD_PRELOAD|VIRTUAL_ENV|CONDA_|CUDA_|HSA_|HIP_|ROCR_|ZE_|NVIDIA_"
)
_CUDA_LIBRARY = re.compile(
    r"lib(cudart|cublas|cublasLt|cudnn\w*|nvJitLink|cusparse\w*|cufft|nccl|cusolver)\.so"
)
_UV_ANSWERS_WITHIN = 20.0


def surroundings(
    *,
    env: Mapping[str, str],
    cwd: Path,
    prefix: str,
    uv: str,
    packages: Iterable[str],
) -> Surroundings:
    """Read what the checks need; what cannot be read is omitted.

    Args:
        env: of the process.
        cwd: the current folder.
        prefix: the environment.
        uv: path of uv, asked for its cache and for what it would do to this environment.
        packages: import names that must not be shadowed.
    """
    return Surroundings(
        env={name: value for name, value in env.items() if _VARIABLES.match(name)},
        path_python=_path_python(env),
        shadows=tuple(_shadows(env, cwd, packages)),
        libraries=tuple(_libraries(env)),
        disks=tuple(_disks(env, prefix, uv)),
        project=_project(env, cwd, prefix, uv),
    )


def _path_python(env: Mapping[str, str]) -> str | None:
    """The `python` on PATH; links out of its environment are not followed."""
    for name in ("python", "python3"):
        if found := shutil.which(name, path=env.get("PATH", "")):
            return found
    return None


def _shadows(env: Mapping[str, str], cwd: Path, packages: Iterable[str]) -> Iterable[str]:
    """What `python` in this folder would import instead of the installed packages."""
    folders = [cwd, *(Path(item) for item in env.get("PYTHONPATH", "").split(os.pathsep) if item)]
    for folder in dict.fromkeys(folders):
        for package in packages:
            for candidate in (folder / f"{package}.py", folder / package / "__init__.py"):
                if candidate.is_file():
                    yield str(candidate)


def _libraries(env: Mapping[str, str]) -> Iterable[tuple[str, tuple[str, ...]]]:
    for text in dict.fromkeys(env.get("LD_LIBRARY_PATH", "").split(os.pathsep)):
        names = tuple(name for name in _names(text) if _CUDA_LIBRARY.match(name)) if text else ()
        if names:
            yield text, names


def _names(folder: str) -> tuple[str, ...]:
    try:
        return tuple(sorted(entry.name for entry in Path(folder).iterdir()))
    except OSError:
        return ()


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def _disks(env: Mapping[str, str], prefix: str, uv: str) -> Iterable[Disk]:
    places = [("environment", prefix), ("temporary files", tempfile.gettempdir())]
    if cache := _ask_uv([uv, "cache", "dir"], env, None):
        places.insert(1, ("uv cache", cache.strip()))
    for what, text in places:
        path = Path(text)
        while not path.exists() and path.parent != path:
            path = path.parent
        try:
            yield Disk(what=what, path=text, device=path.stat().st_dev, free=shutil.disk_usage(path).free)
        except OSError:
            continue


def _project(env: Mapping[str, str], cwd: Path, prefix: str, uv: str) -> Project | None:
    """The nearest folder, here or above, with a `pyproject.toml` or `uv.toml`; else requirements here."""
    root = next(
        (
            folder
            for folder in (cwd, *cwd.parents)
            if any((folder / name).is_file() for name in _PROJECT_FILES)
        ),
        cwd,
    )
    wanted = (*_PROJECT_FILES, *(name for name in _names(str(root)) if _REQUIREMENTS.fullmatch(name)))
    files = {name: text for name in wanted if (text := _text(root / name)) is not None}
    if not files:
        return None
    own = Path(env.get("UV_PROJECT_ENVIRONMENT") or ".venv")
    uses_this = (root / own).resolve() == Path(prefix).resolve()
    changes = None
    if uses_this and (root / "uv.lock").is_file():
        changes = _would_change(uv, env, root)
    return Project(root=str(root), files=files, changes=changes)


_PROJECT_FILES = ("pyproject.toml", "uv.toml")
_REQUIREMENTS = re.compile(r"[\w.-]*requirements[\w.-]*\.(txt|in)")


def _would_change(uv: str, env: Mapping[str, str], root: Path) -> tuple[tuple[str, str, str], ...] | None:
    """What a bare `uv sync` would do, asked from uv itself: nothing is written, nothing is fetched."""
    said = _ask_uv([uv, "sync", "--dry-run", "--frozen", "--offline", "--output-format", "json"], env, root)
    if said is None:
        return None
    try:
        rows = json.loads(said)["sync"]["changes"]
        return tuple((row["name"], str(row.get("version") or ""), row["action"]) for row in rows)
    except (ValueError, KeyError, TypeError):
        return None


def _ask_uv(argv: list[str], env: Mapping[str, str], cwd: Path | None) -> str | None:
    try:
        done = run_uv(argv, env=env, project=True, cwd=cwd, timeout=_UV_ANSWERS_WITHIN)
    except ToolMissingError:
        return None
    return done.stdout if done.returncode == 0 else None
