"""A machine as a folder: `record_machine` writes it, `folder_system` reads it elsewhere.

Files lie below the folder where the machine has them (`C:` becomes `C`; device nodes are empty files), and
everything that is not a file is in `_recorded.json`; `docs/reference/machine-folder.md` describes its keys.
A `:` in a name may be written `%3A`, since Windows cannot store it.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Struct

from torchinstall.core.decoding import decoder
from torchinstall.core.errors import UsageError
from torchinstall.core.files import Disk, make_folder, write_file
from torchinstall.core.machine import Machine, machine_to_json
from torchinstall.probe.detect import probe_machine
from torchinstall.probe.host import report
from torchinstall.probe.system import (
    Adapter,
    CommandResult,
    DiskRole,
    LibraryAnswer,
    System,
    find_library,
)

if sys.platform != "win32":
    import pwd

K = TypeVar("K")
V = TypeVar("V")

RECORD = "_recorded.json"


class Recording(Struct, kw_only=True, omit_defaults=True):
    """The contents of `_recorded.json`; every key may be missing."""

    schema_version: Literal[1] | None = None
    source: str | None = None
    platform: str | None = None
    machine: str | None = None
    env: dict[str, str] = {}
    glibc: str | None = None
    memory_bytes: int | None = None
    links: dict[str, str] = {}
    access: dict[str, bool] = {}
    groups: dict[str, str] = {}
    denied: list[str] = []
    commands: dict[str, CommandResult] = {}
    answers: dict[str, LibraryAnswer] = {}
    libraries: dict[str, str] = {}
    disks: dict[DiskRole, Disk] = {}
    adapters: tuple[Adapter, ...] = ()
    registry: dict[str, str | int] = {}


def stored_path(path: str) -> str:
    """Where a path lies below the folder: `/sys/x:y` in `sys/x%3Ay`, `C:/Windows` in `C/Windows`."""
    plain = path.replace("\\", "/")
    if plain[1:3] == ":/":
        plain = plain[0].upper() + plain[2:]
    parts = [part for part in plain.split("/") if part not in ("", ".", "..")]
    return "/".join(parts).replace(":", "%3A")


def folder_system(root: Path) -> System:
    """The machine that was recorded in a folder.

    Raises:
        UsageError: there is no such folder.
    """
    if not root.is_dir():
        raise UsageError(
            "no-machine-folder",
            f"{root} is not a folder",
            wanted="a folder written by torchinstall probe --record DIR",
            hints=("torchinstall probe without --root looks at this machine",),
        )
    return _FolderSystem(root)


class _FolderSystem(System):
    def __init__(self, root: Path) -> None:
        self.root = root
        self.record = self._load()
        self.env = self.record.env
        self.platform = self.record.platform or "linux"
        self.machine = self.record.machine or self._guess_machine()
        self.glibc, self.memory_bytes = self.record.glibc, self.record.memory_bytes
        self.adapters = self.record.adapters

    def _load(self) -> Recording:
        try:
            data = (self.root / RECORD).read_bytes()
        except OSError:
            return Recording()
        try:
            return decoder(Recording).decode(data)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            self._complain("bad-recording", error=error)
            return Recording()

    def _complain(self, key: str, **values: Any) -> None:
        self.complaints += (report("host", self, key, **values),)

    def _guess_machine(self) -> str:
        """The architecture from the names of library folders; else this machine's, with a complaint."""
        for name, places in (
            ("x86_64", ("lib64/ld-linux-x86-64.so.2", "usr/lib/x86_64-linux-gnu")),
            ("aarch64", ("lib/ld-linux-aarch64.so.1", "usr/lib/aarch64-linux-gnu", "proc/device-tree")),
        ):
            if any((self.root / place).exists() for place in places):
                return name
        guess = platform.machine()
        self._complain("machine-assumed", arch=guess)
        return guess

    def path_of(self, path: str) -> Path:
        stored = self.root / stored_path(path)
        if ":" in path[2:] and not os.path.lexists(stored):
            plain = self.root / stored_path(path).replace("%3A", ":")
            return plain if os.path.lexists(plain) else stored
        return stored

    def read_text(self, path: str) -> str | None:
        return None if path in self.record.denied else super().read_text(path)

    def listdir(self, path: str) -> tuple[str, ...]:
        return tuple(sorted(name.replace("%3A", ":") for name in super().listdir(path)))

    def exists(self, path: str) -> bool:
        return os.path.lexists(self.path_of(path)) or path in self.record.links or path in self.record.denied

    def readlink(self, path: str) -> str | None:
        return self.record.links.get(path) or super().readlink(path)

    def access(self, path: str) -> bool | None:
        """As recorded; what is stored without a record may be used."""
        return self.record.access.get(path, True) if self.exists(path) else None

    def group(self, path: str) -> str | None:
        return self.record.groups.get(path)

    def run(self, argv: Sequence[str], timeout: float, env: Mapping[str, str] | None = None) -> CommandResult:
        """The result recorded for the whole command line, else for the command's name; nothing is run."""
        del timeout, env
        commands = self.record.commands
        result = commands.get(shlex.join(argv), commands.get(argv[0]))
        return result or CommandResult(returncode=None, problem="not found")

    def ask_nvidia(self, timeout: float) -> LibraryAnswer:
        del timeout
        return self.record.answers.get("nvidia") or LibraryAnswer(
            rows=({"what": "library", "problem": "not recorded"},)
        )

    def library(self, *names: str) -> str | None:
        recorded = next(filter(None, map(self.record.libraries.get, names)), None)
        return recorded or find_library(self, names)

    def disk(self, role: DiskRole) -> Disk | None:
        return self.record.disks.get(role)

    def registry(self, key: str, name: str) -> str | int | None:
        return self.record.registry.get(f"{key}\\{name}")


def record_machine(system: System, folder: Path) -> Machine:
    """Probe a machine and write down everything that was asked and answered, in a new or empty folder.

    UUIDs, serial numbers, container ids, home folders and the names of machine and user are replaced.

    Raises:
        UsageError: `record-folder`: it is not empty; `cannot-write`.
    """
    make_folder(folder)
    if any(folder.iterdir()):
        raise UsageError("record-folder", f"{folder} is not empty", wanted="a new or an empty folder")
    recorder = _Recorder(system)
    machine = probe_machine(recorder)
    recorder.save(folder, _own_names(system.env))
    text = json.dumps(machine_to_json(machine.anonymous()), indent=1, ensure_ascii=False)
    write_file(folder / "machine.json", text + "\n")
    return machine


def _own_names(env: Mapping[str, str]) -> tuple[str, ...]:
    """What this machine and its user are called."""
    host = platform.node()
    variables = ("USER", "LOGNAME", "USERNAME", "COMPUTERNAME")
    names = [host, host.partition(".")[0], *(env.get(name, "") for name in variables)]
    if sys.platform != "win32":
        with contextlib.suppress(KeyError):  # a user without a name, as in many containers
            names.append(pwd.getpwuid(os.getuid()).pw_name)
    return tuple(name for name in dict.fromkeys(names) if name and name != "root")


_UUID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", re.IGNORECASE)
_LONG_HEX = re.compile(r"\b[0-9a-f]{32,64}\b", re.IGNORECASE)
_HOME = re.compile(r"(/home/|/Users/|[A-Z]:[/\\]Users[/\\])[^/\\\s\"':;,]+")
_SERIAL = re.compile(r"(?im)^(\s*[\w .-]*serial[\w .-]*\s*[:=]\s*)\S.*$")


def scrub(text: str, names: Sequence[str] = ()) -> str:
    """The text without UUIDs, serial numbers, container ids, home folders and these names.

    Names of one or two letters stay, since they also occur inside words.
    """
    text = _UUID.sub("00000000-0000-0000-0000-000000000000", text)
    text = _LONG_HEX.sub(lambda match: "0" * len(match[0]), text)
    text = _SERIAL.sub(r"\g<1>0", text)
    text = _HOME.sub(r"\g<1>user", text)
    for name in names:
        if len(name) > 2:
            text = re.sub(rf"(?<![\w]){re.escape(name)}(?![\w])", "name", text)
    return text


_SHOWN_VARIABLES = (
    "CI",
    "HSA_OVERRIDE_GFX_VERSION",
    "ProgramFiles",
    "PROGRAMFILES",
    "SystemRoot",
    "SYSTEMROOT",
)
"""Of all other variables only the fact that they are set is kept."""


class _Variables(Mapping[str, str]):
    """The environment, noting what is asked for."""

    def __init__(self, real: Mapping[str, str], asked: dict[str, str]) -> None:
        self.real = real
        self.asked = asked

    def __getitem__(self, key: str) -> str:
        value = self.real[key]
        if value:
            self.asked[key] = value if key in _SHOWN_VARIABLES else "set"
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self.real)

    def __len__(self) -> int:
        return len(self.real)


def _noted(table: dict[K, V], key: K, value: V | None) -> V | None:
    if value is not None:
        table[key] = value
    return value


class _Recorder(System):
    """A door that passes every question on and notes the answer."""

    def __init__(self, real: System) -> None:
        self.real = real
        self.platform, self.machine, self.complaints = real.platform, real.machine, real.complaints
        self.glibc, self.memory_bytes, self.adapters = real.glibc, real.memory_bytes, real.adapters
        self.record = Recording(
            schema_version=1,
            source="recorded",
            platform=real.platform,
            machine=real.machine,
            glibc=real.glibc,
            memory_bytes=real.memory_bytes,
            adapters=real.adapters,
        )
        self.env = _Variables(real.env, self.record.env)
        self.texts: dict[str, str] = {}
        self.paths: set[str] = set()

    def read_text(self, path: str) -> str | None:
        text = self.real.read_text(path)
        if text is not None:
            self.texts[path] = text
        elif self.real.exists(path) and path not in self.record.denied:
            self.record.denied.append(path)
        return text

    def listdir(self, path: str) -> tuple[str, ...]:
        names = self.real.listdir(path)
        if path == "/opt":  # only ROCm's folders matter, the others are private
            names = tuple(name for name in names if name.startswith("rocm"))
        self.paths.update(f"{path}/{name}" for name in names)
        return names

    def exists(self, path: str) -> bool:
        found = self.real.exists(path)
        if found:
            self.paths.add(path)
        return found

    def readlink(self, path: str) -> str | None:
        return _noted(self.record.links, path, self.real.readlink(path))

    def access(self, path: str) -> bool | None:
        self.exists(path)
        return _noted(self.record.access, path, self.real.access(path))

    def group(self, path: str) -> str | None:
        return _noted(self.record.groups, path, self.real.group(path))

    def run(self, argv: Sequence[str], timeout: float, env: Mapping[str, str] | None = None) -> CommandResult:
        result = self.real.run(argv, timeout, env)
        if result.problem != "not found":
            self.record.commands[shlex.join(argv)] = result
        return result

    def ask_nvidia(self, timeout: float) -> LibraryAnswer:
        answer = self.record.answers["nvidia"] = self.real.ask_nvidia(timeout)
        return answer

    def library(self, *names: str) -> str | None:
        path = self.real.library(*names)
        if path is not None:
            name = path.replace("\\", "/").rpartition("/")[2]
            self.record.libraries[name if name in names else names[0]] = path
        return path

    def disk(self, role: DiskRole) -> Disk | None:
        return _noted(self.record.disks, role, self.real.disk(role))

    def registry(self, key: str, name: str) -> str | int | None:
        return _noted(self.record.registry, f"{key}\\{name}", self.real.registry(key, name))

    def save(self, root: Path, names: Sequence[str]) -> None:
        """Write the folder, without these names of machine and user."""
        # Encoding happens in one step, so that a probe that ran out of time cannot change it half-way.
        text = msgspec.json.format(msgspec.json.encode(self.record), indent=1).decode()
        write_file(root / RECORD, scrub(text, names) + "\n")
        # A file that may not be read is stored as an empty one: its folder must still list it.
        paths = {*self.texts, *self.paths, *self.record.denied}
        folders = {path[:end] for path in paths for end in range(1, len(path)) if path[end] == "/"}
        for path in sorted(paths - folders):
            target = root / stored_path(scrub(path, names))
            write_file(target, scrub(self.texts.get(path, ""), names), durable=False)
