"""The only door from the probe to the machine, and the values that pass through it.

Every probe takes a `System`, so that a test (or `probe --root DIR`) can hand it a recorded machine instead of
this one. No method raises for something that is merely missing.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct

from torchinstall.core.files import Disk, names_in
from torchinstall.core.machine import Driver, Finding, Gpu, Libc

NVML_VARIABLE = "TORCHINSTALL_NVML_LIBRARY"
"""Names the NVML library to load."""

LONGEST_READ = 1 << 20
"""No file or output that a probe reads is this long."""

DiskRole = Literal["cache", "target"]
"""Where free space matters: uv's cache, and the environment installed into."""


class CommandResult(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a command printed; no return code where it was not found or had to be stopped."""

    returncode: int | None = 0
    stdout: str | None = ""
    stderr: str | None = ""
    problem: str | None = None

    @property
    def output(self) -> str:
        """Both streams."""
        return f"{self.stdout or ''}\n{self.stderr or ''}"


class LibraryAnswer(Struct, frozen=True, kw_only=True):
    """What a vendor's library told the child process that asked it.

    Attributes:
        rows: facts in the order they were learnt; those before a crash or a hang are kept.
        problem: None when the child ended well, else `timeout`, `crash: SIGSEGV`, `unavailable: <why>`.
    """

    rows: tuple[dict[str, Any], ...] = ()
    problem: str | None = None


class Adapter(Struct, frozen=True, kw_only=True):
    r"""A display adapter as Windows lists it.

    Attributes:
        device_id: `PCI\VEN_10DE&DEV_2504&SUBSYS_...`.
        driver_version: Windows' own number, `32.0.15.6636`.
    """

    device_id: str
    name: str | None = None
    driver_version: str | None = None


class System(ABC):
    """What a probe may ask of the machine.

    Attributes:
        platform: as `sys.platform`: `linux`, `win32`, `darwin`.
        machine: its architecture as its system calls it: `x86_64`, `aarch64`, `arm64`, `AMD64`.
        glibc: the version that programs run on; None: another C library, or none.
        memory_bytes: physical memory, where `/proc/meminfo` does not tell.
        adapters: display adapters that are present (Windows).
        complaints: what the door itself has to report.
    """

    env: Mapping[str, str]
    platform: str
    machine: str
    glibc: str | None = None
    memory_bytes: int | None = None
    adapters: tuple[Adapter, ...] = ()
    complaints: tuple[Finding, ...] = ()

    def path_of(self, path: str) -> Path:
        """Where to find a path of the machine."""
        return Path(path)

    def read_text(self, path: str) -> str | None:
        """The text of a file; a runaway one costs no more than the longest read."""
        try:
            with self.path_of(path).open("rb") as file:
                return file.read(LONGEST_READ).decode("utf-8", "replace")
        except (OSError, ValueError):
            return None

    def listdir(self, path: str) -> tuple[str, ...]:
        """Names in a folder, sorted; empty where it cannot be read."""
        return names_in(self.path_of(path))

    def readlink(self, path: str) -> str | None:
        """Where a symbolic link points."""
        try:
            return str(self.path_of(path).readlink())
        except (OSError, ValueError):
            return None

    @abstractmethod
    def exists(self, path: str) -> bool:
        """Whether the path is there."""

    @abstractmethod
    def access(self, path: str) -> bool | None:
        """Whether this user may read and write the path; None where it is not there."""

    @abstractmethod
    def group(self, path: str) -> str | None:
        """The group that a path belongs to: its name, its number where it has no name, or None."""

    @abstractmethod
    def run(self, argv: Sequence[str], timeout: float, env: Mapping[str, str] | None = None) -> CommandResult:
        """Run a command from a fixed search path, never from the current folder.

        It never outlives `timeout` seconds; `env` is added to the environment.
        """

    @abstractmethod
    def ask_nvidia(self, timeout: float) -> LibraryAnswer:
        """Ask NVML and libcuda in a child process; the rows are those that `nvml_script.py` prints."""

    @abstractmethod
    def library(self, *names: str) -> str | None:
        """Where the loader would find the first of these shared libraries; nothing is loaded."""

    @abstractmethod
    def disk(self, role: DiskRole) -> Disk | None:
        """The file system of uv's cache, or of the environment installed into."""

    @abstractmethod
    def registry(self, key: str, name: str) -> str | int | None:
        r"""A value below `HKEY_LOCAL_MACHINE` (Windows), key as `SYSTEM\...`."""


class HostFact(Struct, frozen=True):
    """A value of a field of `Machine`. The first one of a name wins; `environment` collects all."""

    name: str
    value: str | int | bool | Libc | tuple[str, ...]


Fact = Driver | Gpu | Finding | HostFact
"""What probes yield, one at a time, so that a probe that hangs keeps what it has already found."""

Probe = Callable[[System], Iterator[Fact]]
"""Examines one thing and yields what it sees; the runner turns an exception into a finding."""


_LONGEST_TEXT = 160


def clean(text: str | None) -> str | None:
    """Text from a device, file or command as one printable line; None where nothing is left of it."""
    if text is None:
        return None
    printable = "".join(char if char.isprintable() else " " for char in text[: 4 * _LONGEST_TEXT])
    return " ".join(printable.split())[:_LONGEST_TEXT].strip() or None


def pairs(text: str | None, sign: str) -> dict[str, str]:
    """The lines `key = value` of a text, with another sign between them where that is given."""
    rows = (line.partition(sign) for line in (text or "").splitlines())
    return {key.strip(): value.strip() for key, found, value in rows if found}


def version_number(text: str | None) -> str | None:
    """The version at the start of a text: `6.4.0` of `6.4.0-47`."""
    match = re.match(r"\s*(\d{1,9}(?:\.\d{1,9}){0,4})", text or "")
    return match[1] if match else None


_LINUX_FOLDERS = (
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
"""Folders of driver libraries: distributions, RHEL, WSL, Jetson, containers, NixOS, Apptainer."""


def library_folders(system: System) -> tuple[str, ...]:
    """Where drivers put their libraries on this kind of system."""
    if system.platform != "win32":
        return _LINUX_FOLDERS
    root = windows_variable(system.env, "SystemRoot", "C:\\Windows").replace("\\", "/")
    programs = windows_variable(system.env, "ProgramFiles", "C:\\Program Files").replace("\\", "/")
    return (f"{root}/System32", f"{programs}/NVIDIA Corporation/NVSMI")


def windows_variable(env: Mapping[str, str], name: str, default: str) -> str:
    """A Windows variable; their names ignore case until they are copied into a mapping."""
    return env.get(name) or env.get(name.upper()) or default


def find_library(system: System, names: Sequence[str], loader_cache: bytes = b"") -> str | None:
    """The path of the first of `names` in `LD_LIBRARY_PATH`, the loader's cache or a usual folder."""
    own = [path for path in system.env.get("LD_LIBRARY_PATH", "").split(":") if path.startswith("/")]
    for name in names:
        paths = [f"{folder}/{name}" for folder in own]
        if cached := re.search(rb"(/[^\0]*/" + re.escape(name.encode()) + rb")\0", loader_cache):
            paths.append(cached[1].decode("utf-8", "replace"))
        paths.extend(f"{folder}/{name}" for folder in library_folders(system))
        if (found := next(filter(system.exists, paths), None)) is not None:
            return found
    return None
