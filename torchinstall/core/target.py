"""Where a build is installed into: the values that `install/interpreter.py` reads from it."""

from __future__ import annotations

from msgspec import Struct

from torchinstall.core.machine import Libc, Os

__all__ = ["Installed", "Target"]


class Installed(Struct, frozen=True, kw_only=True):
    """A torch-family package that is already there.

    Attributes:
        name: normalised project name, `torchvision`.
        version: as its metadata says, local segment included (`2.9.1+cu128`).
        backend: the backend its files were built for, where that could be read (`cu128`); torch from PyPI
            has no local version, so `torch/version.py` is asked.
    """

    name: str
    version: str
    backend: str | None = None


class Target(Struct, frozen=True, kw_only=True):
    """The interpreter and platform installed into.

    Attributes:
        python_version: `3.12.4`, or `3.12` for a foreign target.
        implementation: `cpython`; PyTorch publishes for no other.
        abi: the wheel ABI tag, `cp312` or `cp313t`.
        os: of the interpreter.
        arch: of the interpreter: an x86-64 Python on Windows for ARM installs x86-64 wheels.
        os_version: macOS product version, where wheels ask for one.
        libc: of the interpreter; None where it has no meaning.
        platform_tags: wheel platform tags that fit, the most specific first.
        python: path of the interpreter; None for a foreign target.
        prefix: the environment's root; None for a foreign target.
        why: how this place was chosen, one clause for a person.
        installed: torch-family packages already there.
    """

    python_version: str
    abi: str
    os: Os
    arch: str
    implementation: str = "cpython"
    os_version: str | None = None
    libc: Libc | None = None
    platform_tags: tuple[str, ...] = ()
    python: str | None = None
    prefix: str | None = None
    why: str = ""
    installed: tuple[Installed, ...] = ()

    @property
    def platform(self) -> str:
        """The key under which tables keep this platform: `linux_x86_64`, `win_amd64`, `macos_arm64`."""
        return {
            ("windows", "x86_64"): "win_amd64",
            ("windows", "aarch64"): "win_arm64",
            ("macos", "aarch64"): "macos_arm64",
        }.get((self.os, self.arch), f"{self.os}_{self.arch}")

    def marker_environment(self) -> dict[str, str]:
        """The environment for markers (PEP 508), as far as requirements of a person use it."""
        short = ".".join(self.python_version.split(".")[:2])
        full = self.python_version if self.python_version.count(".") > 1 else f"{short}.0"
        machine = {"windows": {"x86_64": "AMD64", "aarch64": "ARM64"}, "macos": {"aarch64": "arm64"}}
        return {
            "python_version": short,
            "python_full_version": full,
            "implementation_name": self.implementation,
            "implementation_version": self.python_version,
            "platform_python_implementation": "CPython",
            "os_name": "nt" if self.os == "windows" else "posix",
            "sys_platform": {"linux": "linux", "windows": "win32", "macos": "darwin"}[self.os],
            "platform_system": {"linux": "Linux", "windows": "Windows", "macos": "Darwin"}[self.os],
            "platform_machine": machine.get(self.os, {}).get(self.arch, self.arch),
            "platform_release": "",
            "platform_version": "",
            "extra": "",
        }
