"""The only door from the probe to the machine: files, environment, commands, libraries, platform.

Every probe takes a `System`, so that a test (or `probe --root DIR`) hands it a recorded folder instead of
this machine. No method raises for what is merely not there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

from msgspec import Struct

from torchinstall.core.machine import Finding

__all__ = ["Adapter", "CommandResult", "Disk", "DiskRole", "LibraryAnswer", "System"]

DiskRole = Literal["cache", "target"]
"""Where free space matters: uv's cache, and the environment installed into."""


class CommandResult(Struct, frozen=True, kw_only=True):
    """What a command said. `returncode` is None when it was not found or had to be stopped."""

    returncode: int | None
    stdout: str = ""
    stderr: str = ""
    problem: str | None = None


class LibraryAnswer(Struct, frozen=True, kw_only=True):
    """What a vendor's library told a child process that asked it.

    Attributes:
        rows: facts in the order they were learnt; those before a crash or a hang are kept.
        problem: None when the child ended well, else `timeout`, `crash: SIGSEGV`, `unavailable: <why>`.
    """

    rows: tuple[Mapping[str, Any], ...] = ()
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


class Disk(Struct, frozen=True, kw_only=True):
    """A file system: free bytes for this user, and a number that tells one file system from another."""

    free_bytes: int
    device: int


class System(Protocol):
    """What a probe may ask of the machine."""

    @property
    def env(self) -> Mapping[str, str]:
        """Environment variables."""

    @property
    def platform(self) -> str:
        """As `sys.platform`: `linux`, `win32`, `darwin`."""

    @property
    def machine(self) -> str:
        """The machine's architecture as its system calls it: `x86_64`, `aarch64`, `arm64`, `AMD64`."""

    @property
    def complaints(self) -> tuple[Finding, ...]:
        """What the door itself has to report."""

    def read_text(self, path: str) -> str | None:
        """The text of a file given by its absolute path; None where it cannot be read."""

    def listdir(self, path: str) -> tuple[str, ...]:
        """Names in a folder, sorted; empty where it cannot be read."""

    def exists(self, path: str) -> bool:
        """Whether the path is there."""

    def readlink(self, path: str) -> str | None:
        """Where a symbolic link points, or None."""

    def access(self, path: str) -> bool | None:
        """Whether this user may read and write the path; None where it is not there."""

    def group(self, path: str) -> str | None:
        """The group that a path belongs to: its name, its number where it has no name, or None."""

    def run(self, argv: Sequence[str], timeout: float, env: Mapping[str, str] | None = None) -> CommandResult:
        """Run a command from a fixed search path, never from the current folder.

        Args:
            argv: name (or absolute path) and arguments.
            timeout: seconds; the command never outlives it.
            env: variables laid over the environment.
        """

    def ask(self, question: str, timeout: float) -> LibraryAnswer:
        """Ask a vendor's library in a child process; `nvidia` is the only question so far."""

    def library(self, *names: str) -> str | None:
        """Where the loader would find the first of these shared libraries; nothing is loaded."""

    def memory_bytes(self) -> int | None:
        """Physical memory."""

    def glibc(self) -> str | None:
        """The version of glibc that programs run on here; None: another C library, or none."""

    def disk(self, role: DiskRole) -> Disk | None:
        """The file system of uv's cache, or of the environment installed into."""

    def adapters(self) -> tuple[Adapter, ...]:
        """Display adapters that are present (Windows)."""

    def registry(self, key: str, name: str) -> str | int | None:
        r"""A value below `HKEY_LOCAL_MACHINE` (Windows), key as `SYSTEM\...`."""
