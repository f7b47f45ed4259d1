"""Where vendors' libraries lie, without loading any of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from torchinstall.probe.system import System

__all__ = ["FOLDERS", "NVML_VARIABLE", "cuda_names", "find", "nvml_names", "windows_variable"]

NVML_VARIABLE = "TORCHINSTALL_NVML_LIBRARY"

FOLDERS = (
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu/nvidia",
    "/usr/lib/aarch64-linux-gnu/tegra",
    "/usr/lib64",
    "/usr/lib64/nvidia",
    "/usr/lib",
    "/usr/lib/wsl/lib",
    "/usr/local/lib",
    "/usr/local/nvidia/lib64",
    "/usr/local/nvidia/lib",
    "/run/opengl-driver/lib",
    "/.singularity.d/libs",
)
"""Linux folders of driver libraries: distributions, RHEL, WSL, Jetson, containers, NixOS, Apptainer."""


def find(system: System, names: Sequence[str], loader_cache: bytes = b"") -> str | None:
    """The path of the first of `names` in `LD_LIBRARY_PATH`, the loader's cache or a usual folder."""
    own = [path for path in system.env.get("LD_LIBRARY_PATH", "").split(":") if path.startswith("/")]
    folders = _windows_folders(system) if system.platform == "win32" else FOLDERS
    for name in names:
        for folder in own:
            if system.exists(f"{folder}/{name}"):
                return f"{folder}/{name}"
        if cached := re.search(rb"(/[^\0]*/" + re.escape(name.encode()) + rb")\0", loader_cache):
            path = cached[1].decode("utf-8", "replace")
            if system.exists(path):
                return path
        for folder in folders:
            if system.exists(f"{folder}/{name}"):
                return f"{folder}/{name}"
    return None


def _windows_folders(system: System) -> tuple[str, ...]:
    root = windows_variable(system.env, "SystemRoot", "C:\\Windows").replace("\\", "/")
    programs = windows_variable(system.env, "ProgramFiles", "C:\\Program Files").replace("\\", "/")
    return (f"{root}/System32", f"{programs}/NVIDIA Corporation/NVSMI")


def windows_variable(env: Mapping[str, str], name: str, otherwise: str) -> str:
    """A variable of Windows, whose names know no case until they are copied into a mapping."""
    return env.get(name) or env.get(name.upper()) or otherwise


def nvml_names(system: System) -> tuple[str, ...]:
    """What to try as NVML: the loader's own choice first, then where it lies when the loader cannot know."""
    if system.platform == "win32":
        return tuple(f"{folder}/nvml.dll" for folder in _windows_folders(system))
    return ("libnvidia-ml.so.1", *_below(system, "libnvidia-ml.so.1"))


def cuda_names(system: System) -> tuple[str, ...]:
    """What to try as libcuda."""
    if system.platform == "win32":
        return (f"{_windows_folders(system)[0]}/nvcuda.dll",)
    return ("libcuda.so.1", *_below(system, "libcuda.so.1"))


def _below(system: System, name: str) -> tuple[str, ...]:
    paths = [f"{folder}/{name}" for folder in FOLDERS]
    return tuple(path for path in paths if system.exists(path))
