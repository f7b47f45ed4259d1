r"""A captured machine behind the door: files below a folder, and everything else from `_recorded.json`.

Layout of a captured folder (`docs/reference/machine-folder.md` shows one)::

    proc/... sys/... dev/... etc/... opt/... usr/...     files; device nodes are empty files
    C/Windows/System32/...                              Windows: `C:` becomes `C`
    _recorded.json                                      what is not a file

`:` in a name may be written `%3A`, since Windows cannot store it. `_recorded.json` has these keys, each of
which may be missing: `schema_version` (1), `source` (where the folder comes from), `platform`
(`sys.platform`), `machine`, `env`, `glibc`, `memory_bytes`, `links` (path -> target), `access` (path ->
whether it may be read and written), `groups` (path -> group), `denied` (paths that are there and cannot be
read), `commands` (command line -> `returncode`, `stdout`, `stderr`, `problem`), `answers` (question ->
`rows`, `problem`), `libraries` (name -> path), `disks` (role -> `free_bytes`, `device`), `adapters` (list of
`device_id`, `name`, `driver_version`), `registry` (`key\name` -> value).
"""

from __future__ import annotations

import json
import os
import platform
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torchinstall.core.errors import UsageError
from torchinstall.core.machine import Finding
from torchinstall.probe import libraries
from torchinstall.probe.meminfo import meminfo_total
from torchinstall.probe.system import Adapter, CommandResult, Disk, DiskRole, LibraryAnswer

__all__ = ["RECORD", "FolderSystem", "stored_path"]

RECORD = "_recorded.json"
_SCHEMA_VERSION = 1
_MOST_BYTES = 1 << 20


def stored_path(path: str) -> str:
    """Where a path lies below the folder: `/sys/x:y` in `sys/x%3Ay`, `C:/Windows` in `C/Windows`."""
    plain = path.replace("\\", "/")
    if plain[1:3] == ":/":
        plain = plain[0].upper() + plain[2:]
    parts = [part for part in plain.split("/") if part not in ("", ".", "..")]
    return "/".join(parts).replace(":", "%3A")


class FolderSystem:
    """A folder that `scripts/capture_machine.py` wrote, or one made in the same shape.

    Raises:
        UsageError: there is no such folder.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise UsageError(
                "no-machine-folder",
                f"{root} is not a folder",
                wanted="a folder written by scripts/capture_machine.py",
                hints=("torchinstall probe without --root looks at this machine",),
            )
        self.root = root
        self._complaints: list[Finding] = []
        self._record = self._load()
        self.env: Mapping[str, str] = {
            key: value for key, value in self._table("env").items() if isinstance(value, str)
        }
        self.platform = self._text("platform") or self._guess_platform()
        self.machine = self._text("machine") or self._guess_machine()
        self.complaints = tuple(self._complaints)

    def _load(self) -> Mapping[str, Any]:
        try:
            text = (self.root / RECORD).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return {}
        try:
            data = json.loads(text)
        except (ValueError, RecursionError):
            data = None
        if isinstance(data, dict) and data.get("schema_version", _SCHEMA_VERSION) == _SCHEMA_VERSION:
            return data
        self._complain(
            "bad-recording", f"{RECORD} cannot be used: not JSON of schema version {_SCHEMA_VERSION}"
        )
        return {}

    def _complain(self, slug: str, detail: str) -> None:
        self._complaints.append(
            Finding(
                probe="host",
                status="broken",
                detail=detail,
                source=RECORD,
                slug=slug,
                hint="capture the machine again with scripts/capture_machine.py",
            )
        )

    def _table(self, key: str) -> Mapping[str, Any]:
        value = self._record.get(key)
        return value if isinstance(value, dict) else {}

    def _text(self, key: str) -> str | None:
        value = self._record.get(key)
        return value if isinstance(value, str) else None

    def _guess_platform(self) -> str:
        if (self.root / "C" / "Windows").is_dir():
            return "win32"
        return "darwin" if (self.root / "System" / "Library").is_dir() else "linux"

    def _guess_machine(self) -> str:
        """The architecture from the names of library folders; else this machine's, said aloud."""
        for name, places in (
            ("x86_64", ("lib64/ld-linux-x86-64.so.2", "usr/lib/x86_64-linux-gnu")),
            ("aarch64", ("lib/ld-linux-aarch64.so.1", "usr/lib/aarch64-linux-gnu", "proc/device-tree")),
        ):
            if any((self.root / place).exists() for place in places):
                return name
        guess = platform.machine()
        self._complain("machine-assumed", f"the folder does not say its architecture; {guess} is assumed")
        return guess

    def _path(self, path: str) -> Path:
        stored = self.root / stored_path(path)
        if ":" in path[2:] and not os.path.lexists(stored):
            plain = self.root / stored_path(path).replace("%3A", ":")
            return plain if os.path.lexists(plain) else stored
        return stored

    def read_text(self, path: str) -> str | None:
        """The text of a stored file."""
        if path in self._denied():
            return None
        try:
            with self._path(path).open("rb") as file:
                return file.read(_MOST_BYTES).decode("utf-8", "replace")
        except (OSError, ValueError):
            return None

    def _denied(self) -> Sequence[Any]:
        value = self._record.get("denied")
        return value if isinstance(value, list) else ()

    def listdir(self, path: str) -> tuple[str, ...]:
        """Names in a stored folder."""
        try:
            return tuple(sorted(entry.name.replace("%3A", ":") for entry in self._path(path).iterdir()))
        except (OSError, ValueError):
            return ()

    def exists(self, path: str) -> bool:
        """Whether the path is stored, or recorded as a link."""
        return os.path.lexists(self._path(path)) or path in self._table("links") or path in self._denied()

    def readlink(self, path: str) -> str | None:
        """Where a recorded link points, or a real one in the folder."""
        target = self._table("links").get(path)
        if isinstance(target, str):
            return target
        try:
            return str(self._path(path).readlink())
        except (OSError, ValueError):
            return None

    def access(self, path: str) -> bool | None:
        """As recorded; what is stored without a record may be used."""
        if not self.exists(path):
            return None
        return self._table("access").get(path) is not False

    def group(self, path: str) -> str | None:
        """As recorded."""
        value = self._table("groups").get(path)
        return value if isinstance(value, str) else None

    def run(self, argv: Sequence[str], timeout: float, env: Mapping[str, str] | None = None) -> CommandResult:
        """As recorded under the whole command line, else under the command's name; nothing is run."""
        del timeout, env
        commands = self._table("commands")
        row = commands.get(shlex.join(argv), commands.get(argv[0]))
        if not isinstance(row, dict):
            return CommandResult(returncode=None, problem="not found")
        code = row.get("returncode", 0)
        return CommandResult(
            returncode=code if isinstance(code, int) else None,
            stdout=str(row.get("stdout") or ""),
            stderr=str(row.get("stderr") or ""),
            problem=None if row.get("problem") is None else str(row["problem"]),
        )

    def ask(self, question: str, timeout: float) -> LibraryAnswer:
        """As recorded."""
        del timeout
        row = self._table("answers").get(question)
        if not isinstance(row, dict):
            return LibraryAnswer(rows=({"what": "library", "problem": "not recorded"},))
        rows = row.get("rows")
        return LibraryAnswer(
            rows=tuple(item for item in rows if isinstance(item, dict)) if isinstance(rows, list) else (),
            problem=None if row.get("problem") is None else str(row["problem"]),
        )

    def library(self, *names: str) -> str | None:
        """As recorded, else where it is stored."""
        recorded = self._table("libraries")
        for name in names:
            if isinstance(path := recorded.get(name), str):
                return path
        return libraries.find(self, names)

    def memory_bytes(self) -> int | None:
        """As recorded, else from the stored `/proc/meminfo`."""
        value = self._record.get("memory_bytes")
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        return meminfo_total(self.read_text("/proc/meminfo"))

    def glibc(self) -> str | None:
        """As recorded."""
        return self._text("glibc")

    def disk(self, role: DiskRole) -> Disk | None:
        """As recorded."""
        row = self._table("disks").get(role)
        if not isinstance(row, dict):
            return None
        free, device = row.get("free_bytes"), row.get("device")
        if isinstance(free, int) and isinstance(device, int):
            return Disk(free_bytes=free, device=device)
        return None

    def adapters(self) -> tuple[Adapter, ...]:
        """As recorded."""
        rows = self._record.get("adapters")
        found = []
        for row in rows if isinstance(rows, list) else ():
            if isinstance(row, dict) and isinstance(device_id := row.get("device_id"), str):
                name, version = row.get("name"), row.get("driver_version")
                found.append(
                    Adapter(
                        device_id=device_id,
                        name=name if isinstance(name, str) else None,
                        driver_version=version if isinstance(version, str) else None,
                    )
                )
        return tuple(found)

    def registry(self, key: str, name: str) -> str | int | None:
        """As recorded."""
        value = self._table("registry").get(f"{key}\\{name}")
        return value if isinstance(value, str | int) else None
