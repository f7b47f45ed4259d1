"""This machine behind the door: real files, commands from fixed folders, libraries asked in a child."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from torchinstall.core.machine import Finding
from torchinstall.probe import libraries, processes
from torchinstall.probe.meminfo import meminfo_total
from torchinstall.probe.system import Adapter, CommandResult, Disk, DiskRole, LibraryAnswer

__all__ = ["RealSystem", "disk_paths"]

_MOST_BYTES = 1 << 20
"""More than any file that a probe reads is long; a runaway file costs no more than this."""

_FIXED_PATH = (
    "/usr/bin",
    "/bin",
    "/usr/sbin",
    "/sbin",
    "/usr/local/bin",
    "/usr/lib/wsl/lib",
    "/opt/rocm/bin",
    "/run/current-system/sw/bin",
)


class RealSystem:
    """The machine that this process runs on.

    Args:
        env: environment variables; the probe reads no others, and children get these.
    """

    def __init__(self, env: Mapping[str, str]) -> None:
        self.env = env
        self.platform = sys.platform
        self.complaints: tuple[Finding, ...] = ()

    @cached_property
    def machine(self) -> str:
        """What the kernel says, not what a translated process is told."""
        if sys.platform == "win32":
            from torchinstall.probe import windows_door

            return windows_door.machine() or self.env.get("PROCESSOR_ARCHITECTURE", "")
        return os.uname().machine

    def read_text(self, path: str) -> str | None:
        """The text of a file, undecodable bytes replaced."""
        try:
            with Path(path).open("rb") as file:
                return file.read(_MOST_BYTES).decode("utf-8", "replace")
        except (OSError, ValueError):
            return None

    def listdir(self, path: str) -> tuple[str, ...]:
        """Names in a folder, sorted."""
        try:
            return tuple(sorted(entry.name for entry in Path(path).iterdir()))
        except (OSError, ValueError):
            return ()

    def exists(self, path: str) -> bool:
        """Whether the path is there."""
        return os.path.lexists(path)

    def readlink(self, path: str) -> str | None:
        """Where a symbolic link points."""
        try:
            return str(Path(path).readlink())
        except (OSError, ValueError):
            return None

    def access(self, path: str) -> bool | None:
        """Whether this user may read and write the path."""
        if not self.exists(path):
            return None
        return os.access(path, os.R_OK | os.W_OK)

    def group(self, path: str) -> str | None:
        """Name (or number) of the group that a path belongs to."""
        if sys.platform == "win32":
            return None
        import grp

        try:
            number = Path(path).stat().st_gid
        except OSError:
            return None
        try:
            return grp.getgrgid(number).gr_name
        except KeyError:
            return str(number)

    def run(self, argv: Sequence[str], timeout: float, env: Mapping[str, str] | None = None) -> CommandResult:
        """Run a command found on the search path."""
        path = self._find(argv[0])
        if path is None:
            return CommandResult(returncode=None, problem="not found")
        return processes.run([path, *argv[1:]], timeout, {**self.env, **(env or {})})

    def _find(self, name: str) -> str | None:
        """The command's absolute path: system folders first, then the user's PATH without this folder."""
        if Path(name).is_absolute():
            return name if os.access(name, os.X_OK) else None
        here = os.path.realpath(os.curdir)
        own = [
            folder
            for folder in self.env.get("PATH", "").split(os.pathsep)
            if Path(folder).is_absolute() and os.path.realpath(folder) != here
        ]
        if sys.platform == "win32":
            windows = libraries.windows_variable(self.env, "SystemRoot", r"C:\Windows")
            own.insert(0, str(Path(windows) / "System32"))
        for folder in (*_FIXED_PATH, *own):
            for ending in (".exe", "") if sys.platform == "win32" else ("",):
                path = str(Path(folder) / f"{name}{ending}")
                if Path(path).is_file() and os.access(path, os.X_OK):
                    return path
        return None

    def ask(self, question: str, timeout: float) -> LibraryAnswer:
        """Ask NVIDIA's libraries with `nvml_script.py` in a child of this interpreter."""
        if question != "nvidia":
            return LibraryAnswer(problem=f"unavailable: nobody knows how to ask {question}")
        import importlib.util

        module = importlib.util.find_spec("pynvml")
        if module is None or module.origin is None or not sys.executable:
            missing = "pynvml is not installed" if sys.executable else "no interpreter to run a child"
            return LibraryAnswer(problem=f"unavailable: {missing}")
        folder = Path(module.origin).parent
        if module.submodule_search_locations:
            folder = folder.parent
        script = str(Path(__file__).with_name("nvml_script.py"))
        named = self.env.get(libraries.NVML_VARIABLE)
        if named and os.path.dirname(named):  # noqa: PTH120 - a bare name is the loader's to find
            named = os.path.abspath(named)  # noqa: PTH100 - the child runs elsewhere; links must stay
        nvml = (named,) if named else libraries.nvml_names(self)
        argv = [sys.executable, "-I", "-S", script, str(folder), *nvml, "--", *libraries.cuda_names(self)]
        # NVML ignores these; libcuda does not, and an installation serves the machine, not one process.
        hidden = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "NVIDIA_TF32_OVERRIDE")
        env = {key: value for key, value in self.env.items() if key not in hidden}
        return processes.answer_of(processes.run(argv, timeout, env))

    def library(self, *names: str) -> str | None:
        """Where the loader would find the first of these libraries."""
        return libraries.find(self, names, self._loader_cache)

    @cached_property
    def _loader_cache(self) -> bytes:
        try:
            with Path("/etc/ld.so.cache").open("rb") as file:
                return file.read(8 * _MOST_BYTES)
        except OSError:
            return b""

    def memory_bytes(self) -> int | None:
        """Physical memory; on Linux from the file that psutil would read, which saves importing it."""
        if (known := meminfo_total(self.read_text("/proc/meminfo"))) is not None:
            return known
        import psutil

        return int(psutil.virtual_memory().total)

    def glibc(self) -> str | None:
        """What the C library says of itself."""
        if sys.platform == "win32":
            return None
        try:
            text = os.confstr("CS_GNU_LIBC_VERSION")
        except (OSError, ValueError):
            return None
        return text.partition(" ")[2] or None if text else None

    def disk(self, role: DiskRole) -> Disk | None:
        """The file system of the nearest existing folder of that role."""
        for path in disk_paths(role, self.env, sys.prefix):
            for folder in (path, *path.parents):
                if folder.exists():
                    return Disk(free_bytes=_free_bytes(folder), device=folder.stat().st_dev)
        return None

    def adapters(self) -> tuple[Adapter, ...]:
        """Display adapters that are present."""
        if sys.platform == "win32":
            from torchinstall.probe import windows_door

            return windows_door.adapters()
        return ()

    def registry(self, key: str, name: str) -> str | int | None:
        """A value below `HKEY_LOCAL_MACHINE`."""
        if sys.platform == "win32":
            from torchinstall.probe import windows_door

            value = windows_door.registry(key, name)
            return value if isinstance(value, str | int) else None
        return None


def _free_bytes(folder: Path) -> int:
    """Bytes that this user may still write; `shutil` would import compression modules on the way."""
    if sys.platform == "win32":
        import shutil

        return shutil.disk_usage(folder).free
    volume = os.statvfs(folder)
    return volume.f_bavail * volume.f_frsize


def disk_paths(role: DiskRole, env: Mapping[str, str], prefix: str) -> tuple[Path, ...]:
    """Where uv keeps its cache, or where the active environment is; the first is the one used."""
    if role == "target":
        return tuple(
            Path(value) for value in (env.get("VIRTUAL_ENV"), env.get("CONDA_PREFIX"), prefix) if value
        )
    if named := env.get("UV_CACHE_DIR"):
        return (Path(named),)
    if local := env.get("LOCALAPPDATA"):
        return (Path(local) / "uv" / "cache",)
    if xdg := env.get("XDG_CACHE_HOME"):
        return (Path(xdg) / "uv",)
    home = env.get("HOME") or env.get("USERPROFILE")
    return (Path(home) / ".cache" / "uv",) if home else ()
