"""This machine behind the door: real files, commands from fixed folders, libraries asked in a child."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path

from torchinstall.core.files import Disk, disk_of
from torchinstall.core.messages import exit_name
from torchinstall.core.processes import capture
from torchinstall.probe.system import (
    LONGEST_READ,
    NVML_VARIABLE,
    Adapter,
    CommandResult,
    DiskRole,
    LibraryAnswer,
    System,
    find_library,
    library_folders,
    windows_variable,
)

if sys.platform == "win32":
    import ctypes
    import winreg
else:
    import grp

    def _glibc() -> str | None:
        try:
            text = os.confstr("CS_GNU_LIBC_VERSION") or ""
        except (OSError, ValueError):
            return None
        return text.partition(" ")[2] or None


_COMMAND_FOLDERS = (
    "/usr/bin",
    "/bin",
    "/usr/sbin",
    "/sbin",
    "/usr/local/bin",
    "/usr/lib/wsl/lib",
    "/opt/rocm/bin",
    "/run/current-system/sw/bin",
)


def real_system(env: Mapping[str, str]) -> System:
    """The machine that this process runs on; `env` is all of the environment that it reads and hands on."""
    return _RealSystem(env)


class _RealSystem(System):
    def __init__(self, env: Mapping[str, str]) -> None:
        self.env = env
        self.platform = sys.platform
        if sys.platform == "win32":
            self.machine = _windows_machine() or env.get("PROCESSOR_ARCHITECTURE", "")
            self.adapters = _windows_adapters()
        else:
            self.machine = os.uname().machine
            self.glibc = _glibc()
        if sys.platform != "linux":  # there `/proc/meminfo` tells, and psutil need not be imported
            import psutil

            self.memory_bytes = psutil.virtual_memory().total

    def exists(self, path: str) -> bool:
        return os.path.lexists(path)

    def access(self, path: str) -> bool | None:
        return os.access(path, os.R_OK | os.W_OK) if self.exists(path) else None

    def group(self, path: str) -> str | None:
        name = None
        if sys.platform != "win32":
            with suppress(OSError):
                number = Path(path).stat().st_gid
                name = str(number)
                with suppress(KeyError):
                    name = grp.getgrgid(number).gr_name
        return name

    def run(self, argv: Sequence[str], timeout: float, env: Mapping[str, str] | None = None) -> CommandResult:
        path = self._find_command(argv[0])
        if path is None:
            return CommandResult(returncode=None, problem="not found")
        return run_command([path, *argv[1:]], timeout, {**self.env, **(env or {})})

    def _find_command(self, name: str) -> str | None:
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
            own.insert(0, str(Path(windows_variable(self.env, "SystemRoot", r"C:\Windows")) / "System32"))
        for folder in (*_COMMAND_FOLDERS, *own):
            for suffix in (".exe", "") if sys.platform == "win32" else ("",):
                path = str(Path(folder) / f"{name}{suffix}")
                if Path(path).is_file() and os.access(path, os.X_OK):
                    return path
        return None

    def ask_nvidia(self, timeout: float) -> LibraryAnswer:
        """Run `nvml_script.py` in a child of this interpreter."""
        module = importlib.util.find_spec("pynvml")
        if module is None or module.origin is None or not sys.executable:
            missing = "pynvml is not installed" if sys.executable else "there is no interpreter to start"
            return LibraryAnswer(problem=f"unavailable: {missing}")
        folder = Path(module.origin).parent
        if module.submodule_search_locations:
            folder = folder.parent
        script = str(Path(__file__).with_name("nvml_script.py"))
        argv = [sys.executable, "-I", "-S", script, str(folder), *self._nvml_names(), "--"]
        if sys.platform == "win32":
            argv.append(f"{library_folders(self)[0]}/nvcuda.dll")
        else:
            argv.extend(self._loadable("libcuda.so.1"))
        # NVML ignores these; libcuda does not, and an installation serves the machine, not one process.
        hidden = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "NVIDIA_TF32_OVERRIDE")
        env = {key: value for key, value in self.env.items() if key not in hidden}
        return library_answer(run_command(argv, timeout, env))

    def _nvml_names(self) -> tuple[str, ...]:
        if named := self.env.get(NVML_VARIABLE):
            if os.path.dirname(named):  # noqa: PTH120 - a bare name is the loader's to find
                named = os.path.abspath(named)  # noqa: PTH100 - the child runs elsewhere; links must stay
            return (named,)
        if sys.platform == "win32":
            return tuple(f"{folder}/nvml.dll" for folder in library_folders(self))
        return self._loadable("libnvidia-ml.so.1")

    def _loadable(self, name: str) -> tuple[str, ...]:
        """The loader's own choice first, then where the library lies when the loader does not know it."""
        paths = (f"{folder}/{name}" for folder in library_folders(self))
        return (name, *filter(self.exists, paths))

    def library(self, *names: str) -> str | None:
        return find_library(self, names, self._loader_cache)

    @cached_property
    def _loader_cache(self) -> bytes:
        try:
            with Path("/etc/ld.so.cache").open("rb") as file:
                return file.read(8 * LONGEST_READ)
        except OSError:
            return b""

    def disk(self, role: DiskRole) -> Disk | None:
        path = self._disk_path(role)
        return disk_of(path) if path is not None else None

    def _disk_path(self, role: DiskRole) -> Path | None:
        env = self.env
        if role == "target":
            return Path(env.get("VIRTUAL_ENV") or env.get("CONDA_PREFIX") or sys.prefix)
        if named := env.get("UV_CACHE_DIR"):
            return Path(named)
        if local := env.get("LOCALAPPDATA"):
            return Path(local) / "uv" / "cache"
        if cache := env.get("XDG_CACHE_HOME"):
            return Path(cache) / "uv"
        home = env.get("HOME") or env.get("USERPROFILE")
        return Path(home) / ".cache" / "uv" if home else None

    def registry(self, key: str, name: str) -> str | int | None:
        if sys.platform == "win32":
            value = _registry_value(key, name)
            return value if isinstance(value, str | int) else None
        return None


def run_command(argv: Sequence[str], timeout: float, env: Mapping[str, str]) -> CommandResult:
    """Run `argv[0]` (an absolute path) and give up after `timeout` seconds; what it printed is kept.

    It runs in the root folder: an empty entry in a loader path means the current one, which must not matter.
    """
    root = Path(os.path.abspath(os.sep))  # noqa: PTH100 - `/`, or the drive that Windows calls current
    try:
        done = capture(argv, env=env, cwd=root, timeout=timeout)
    except (OSError, ValueError) as error:
        return CommandResult(returncode=None, problem=f"cannot start: {error}")
    return CommandResult(
        returncode=done.returncode,
        stdout=done.stdout[:LONGEST_READ],
        stderr=done.stderr[:LONGEST_READ],
        problem="timeout" if done.returncode is None else None,
    )


def library_answer(result: CommandResult) -> LibraryAnswer:
    """The rows that a child printed, and how it ended."""
    rows = []
    for line in (result.stdout or "").splitlines():
        with contextlib.suppress(ValueError, RecursionError):
            row = json.loads(line)
            if isinstance(row, dict):
                rows.append(row)
    problem = result.problem
    if problem is not None and problem != "timeout":
        problem = f"unavailable: {problem}"
    elif problem is None and result.returncode != 0:
        last = ((result.stderr or "").strip().splitlines() or ["no message"])[-1]
        problem = f"crash: {exit_name(result.returncode or 0)} ({last[:120]})"
    return LibraryAnswer(rows=tuple(rows), problem=problem)


if sys.platform == "win32":
    _DISPLAY_CLASS = "{4d36e968-e325-11ce-bfc1-08002be10318}"
    _CONTROL = r"SYSTEM\CurrentControlSet\Control\Class"
    _ENUM = r"SYSTEM\CurrentControlSet\Enum"
    _PRESENT_OF_CLASS = 0x300  # CM_GETIDLIST_FILTER_CLASS | CM_GETIDLIST_FILTER_PRESENT of cfgmgr32.h
    _ARM64, _AMD64 = 0xAA64, 0x8664  # IMAGE_FILE_MACHINE_* of winnt.h

    def _registry_value(key: str, name: str) -> object:
        try:
            with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, key) as handle:
                value: object = winreg.QueryValueEx(handle, name)[0]
        except OSError:
            return None
        return value

    def _windows_adapters() -> tuple[Adapter, ...]:
        """Display adapters that are plugged in now; the registry alone also remembers those of long ago."""
        manager = ctypes.WinDLL("cfgmgr32")
        size = ctypes.c_ulong()
        if manager.CM_Get_Device_ID_List_SizeW(ctypes.byref(size), _DISPLAY_CLASS, _PRESENT_OF_CLASS):
            return ()
        buffer = ctypes.create_unicode_buffer(size.value)
        if manager.CM_Get_Device_ID_ListW(_DISPLAY_CLASS, buffer, size, _PRESENT_OF_CLASS):
            return ()
        found = []
        for device_id in filter(None, "".join(buffer[:]).split("\0")):
            driver = _registry_value(rf"{_ENUM}\{device_id}", "Driver")
            key = rf"{_CONTROL}\{driver}"
            name, version = _registry_value(key, "DriverDesc"), _registry_value(key, "DriverVersion")
            found.append(
                Adapter(
                    device_id=device_id,
                    name=name if isinstance(name, str) else None,
                    driver_version=version if isinstance(version, str) else None,
                )
            )
        return tuple(found)

    def _windows_machine() -> str | None:
        """The machine's architecture, also for a process that runs emulated."""
        kernel = ctypes.WinDLL("kernel32")
        process, native = ctypes.c_ushort(), ctypes.c_ushort()
        kernel.GetCurrentProcess.restype = ctypes.c_void_p
        try:
            ask = kernel.IsWow64Process2
        except AttributeError:  # before Windows 10 1709 there was no Windows on ARM for PCs
            return None
        ask.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
        if not ask(kernel.GetCurrentProcess(), ctypes.byref(process), ctypes.byref(native)):
            return None
        return {_ARM64: "ARM64", _AMD64: "AMD64"}.get(native.value)
