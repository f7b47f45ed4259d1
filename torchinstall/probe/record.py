"""Write down everything that a probe asks and hears, so that the machine can be looked at again elsewhere.

The result is a machine folder (`folder.py`) without anything that names the machine or its user.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torchinstall.core.machine import Finding
from torchinstall.probe.replay import RECORD, stored_path
from torchinstall.probe.system import Adapter, CommandResult, Disk, DiskRole, LibraryAnswer, System

__all__ = ["RecordingSystem", "scrub"]

_SHOWN_VARIABLES = (
    "CI",
    "HSA_OVERRIDE_GFX_VERSION",
    "ProgramFiles",
    "PROGRAMFILES",
    "SystemRoot",
    "SYSTEMROOT",
)
"""Of all other variables only the fact that they are set is kept."""

_UUID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", re.IGNORECASE)
_LONG_HEX = re.compile(r"\b[0-9a-f]{32,64}\b", re.IGNORECASE)
_HOME = re.compile(r"(/home/|/Users/|[A-Z]:[/\\]Users[/\\])[^/\\\s\"':;,]+")
_SERIAL = re.compile(r"(?im)^(\s*[\w .-]*serial[\w .-]*\s*[:=]\s*)\S.*$")


def scrub(text: str, names: Sequence[str] = ()) -> str:
    """The text without UUIDs, serial numbers, container ids, homes and the given names.

    Args:
        text: anything that was read.
        names: what the machine and its user are called; names of one or two letters are left, since they
            also occur inside words.
    """
    text = _UUID.sub("00000000-0000-0000-0000-000000000000", text)
    text = _LONG_HEX.sub(lambda match: "0" * len(match[0]), text)
    text = _SERIAL.sub(r"\g<1>0", text)
    text = _HOME.sub(r"\g<1>user", text)
    for name in names:
        if len(name) > 2:
            text = re.sub(rf"(?<![\w]){re.escape(name)}(?![\w])", "name", text)
    return text


class _Variables(Mapping[str, str]):
    """The environment, noting what is asked for."""

    def __init__(self, real: Mapping[str, str]) -> None:
        self.real = real
        self.asked: dict[str, str] = {}

    def __getitem__(self, key: str) -> str:
        value = self.real[key]
        self.asked[key] = value
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self.real)

    def __len__(self) -> int:
        return len(self.real)


class RecordingSystem:
    """A door that passes everything on and keeps it; `save` writes the folder."""

    def __init__(self, real: System) -> None:
        self.real = real
        self.env: _Variables = _Variables(real.env)
        self.platform = real.platform
        self.machine = real.machine
        self.complaints: tuple[Finding, ...] = real.complaints
        self.texts: dict[str, str | None] = {}
        self.there: set[str] = set()
        self.record: dict[str, Any] = {}

    def _note(self, table: str, key: str, value: object) -> None:
        self.record.setdefault(table, {})[key] = value

    def read_text(self, path: str) -> str | None:
        """Pass on and keep."""
        text = self.real.read_text(path)
        if text is not None:
            self.texts[path] = text
        elif self.real.exists(path):
            self.record.setdefault("denied", [])
            if path not in self.record["denied"]:
                self.record["denied"].append(path)
        return text

    def listdir(self, path: str) -> tuple[str, ...]:
        """Pass on; the names are kept through what is asked of them, or as empty files."""
        names = self.real.listdir(path)
        if path == "/opt":  # only ROCm's folders matter, the others are nobody's business
            names = tuple(name for name in names if name.startswith("rocm"))
        self.there.update(f"{path}/{name}" for name in names)
        return names

    def exists(self, path: str) -> bool:
        """Pass on and keep."""
        found = self.real.exists(path)
        if found:
            self.there.add(path)
        return found

    def readlink(self, path: str) -> str | None:
        """Pass on and keep."""
        target = self.real.readlink(path)
        if target is not None:
            self._note("links", path, target)
        return target

    def access(self, path: str) -> bool | None:
        """Pass on and keep."""
        allowed = self.real.access(path)
        if allowed is not None:
            self.there.add(path)
            self._note("access", path, allowed)
        return allowed

    def group(self, path: str) -> str | None:
        """Pass on and keep: names of groups are not those of people, except own ones, which are scrubbed."""
        name = self.real.group(path)
        if name is not None:
            self._note("groups", path, name)
        return name

    def run(self, argv: Sequence[str], timeout: float, env: Mapping[str, str] | None = None) -> CommandResult:
        """Pass on and keep."""
        result = self.real.run(argv, timeout, env)
        if result.problem != "not found":
            row = {"returncode": result.returncode, "stdout": result.stdout, "stderr": result.stderr}
            self._note("commands", shlex.join(argv), {**row, "problem": result.problem})
        return result

    def ask(self, question: str, timeout: float) -> LibraryAnswer:
        """Pass on and keep."""
        answer = self.real.ask(question, timeout)
        self._note("answers", question, {"rows": list(answer.rows), "problem": answer.problem})
        return answer

    def library(self, *names: str) -> str | None:
        """Pass on and keep."""
        path = self.real.library(*names)
        if path is not None:
            found = path.replace("\\", "/").rpartition("/")[2]
            self._note("libraries", found if found in names else names[0], path)
        return path

    def memory_bytes(self) -> int | None:
        """Pass on and keep."""
        self.record["memory_bytes"] = self.real.memory_bytes()
        return self.real.memory_bytes()

    def glibc(self) -> str | None:
        """Pass on and keep."""
        self.record["glibc"] = self.real.glibc()
        return self.real.glibc()

    def disk(self, role: DiskRole) -> Disk | None:
        """Pass on and keep."""
        disk = self.real.disk(role)
        if disk is not None:
            self._note("disks", role, {"free_bytes": disk.free_bytes, "device": disk.device})
        return disk

    def adapters(self) -> tuple[Adapter, ...]:
        """Pass on and keep."""
        adapters = self.real.adapters()
        self.record["adapters"] = [
            {"device_id": row.device_id, "name": row.name, "driver_version": row.driver_version}
            for row in adapters
        ]
        return adapters

    def registry(self, key: str, name: str) -> str | int | None:
        """Pass on and keep."""
        value = self.real.registry(key, name)
        if value is not None:
            self._note("registry", f"{key}\\{name}", value)
        return value

    def save(self, root: Path, source: str, names: Sequence[str] = ()) -> None:
        """Write the folder.

        Args:
            root: made if it is not there.
            source: where the recording comes from.
            names: of machine and user, to be scrubbed.
        """
        variables = {
            key: value if key in _SHOWN_VARIABLES else "set"
            for key, value in sorted(self.env.asked.items())
            if value
        }
        record = {
            "schema_version": 1,
            "source": source,
            "platform": self.platform,
            "machine": self.machine,
            "env": variables,
            # A probe that ran out of time may still be at work: write down a copy.
            **{
                key: dict(value) if isinstance(value, dict) else value
                for key, value in list(self.record.items())
            },
        }
        text = scrub(json.dumps(record, indent=1, ensure_ascii=False), names)
        root.mkdir(parents=True, exist_ok=True)
        (root / RECORD).write_text(text + "\n", encoding="utf-8")
        # A file that may not be read is an empty one here: its folder must still list it.
        paths = {*self.texts, *self.there, *self.record.get("denied", ())}
        folders = {parent for path in paths for parent in _parents(path)}
        for path in sorted(paths - folders):
            target = root / stored_path(scrub(path, names))
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(scrub(self.texts.get(path) or "", names).encode())


def _parents(path: str) -> Iterator[str]:
    """Every folder above a path."""
    while "/" in path.strip("/"):
        path = path.rpartition("/")[0]
        yield path
