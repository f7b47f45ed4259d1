"""The only door from the probe to the machine: files, environment, commands, libraries, platform.

Every probe takes a `System`, so that a test (or `probe --root DIR`) hands it a recorded folder instead of
this machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

__all__ = ["CommandResult", "System"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandResult:
    """What a command said. `returncode` is None when it was not found or had to be stopped."""

    returncode: int | None
    stdout: str = ""
    stderr: str = ""
    problem: str | None = None


class System(Protocol):
    """What a probe may ask of the machine; no method raises for what is merely not there."""

    env: Mapping[str, str]
    platform: str
    """As `sys.platform`: `linux`, `win32`, `darwin`."""
    machine: str
    """As `platform.machine()`, untranslated: `x86_64`, `aarch64`, `arm64`, `AMD64`."""

    def read_text(self, path: str) -> str | None:
        """The text of a file given by its absolute POSIX path; None where it cannot be read."""

    def listdir(self, path: str) -> tuple[str, ...]:
        """Names in a folder, sorted; empty where it cannot be read."""

    def exists(self, path: str) -> bool:
        """Whether the path is there."""

    def readlink(self, path: str) -> str | None:
        """Where a symbolic link points, or None."""

    def access(self, path: str) -> bool | None:
        """Whether this user may read and write the path; None where it is not there."""

    def run(self, argv: Sequence[str], timeout: float) -> CommandResult:
        """Run a command found on a fixed, absolute search path; never raises, never outlives `timeout`."""

    def load_library(self, names: Sequence[str]) -> Any:
        """The first of these libraries that loads, or None."""
