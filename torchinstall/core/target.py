"""Where a build is installed into, and which wheels fit there (PEP 425, PEP 600). Pure."""

from __future__ import annotations

import re
from functools import lru_cache

from msgspec import Struct

from torchinstall.core.errors import UsageError
from torchinstall.core.machine import Libc, Machine, Os
from torchinstall.core.versions import Dotted, at_least, dotted_or_none, version_text


class Installed(Struct, frozen=True, kw_only=True):
    """A torch-family package that is already there.

    Attributes:
        name: normalised project name, `torchvision`.
        version: as its metadata says, local segment included (`2.9.1+cu128`).
        backend: the backend its files were built for, where that could be read (`cu128`); torch from PyPI
            has no local version, so `torch/version.py` is asked.
        variant: label of the wheel variant that was installed; None for an ordinary wheel.
    """

    name: str
    version: str
    backend: str | None = None
    variant: str | None = None


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
    python: str | None = None
    prefix: str | None = None
    why: str = ""
    installed: tuple[Installed, ...] = ()

    @property
    def platform_tags(self) -> tuple[str, ...]:
        """Wheel platform tags that fit, the most specific first; none where macOS' version is unknown."""
        return _platform_tags(self.os, self.arch, self.libc, self.os_version)

    @property
    def platform(self) -> str:
        """The key under which tables keep this platform: `linux_x86_64`, `win_amd64`, `macos_arm64`."""
        return {
            ("windows", "x86_64"): "win_amd64",
            ("windows", "aarch64"): "win_arm64",
            ("macos", "aarch64"): "macos_arm64",
        }.get((self.os, self.arch), f"{self.os}_{self.arch}")

    @property
    def python_minor(self) -> str:
        """`3.12`, whatever its patch release."""
        return ".".join(self.python_version.split(".")[:2])

    def marker_environment(self) -> dict[str, str]:
        """The environment for markers (PEP 508), as far as requirements of a person use it."""
        full = self.python_version if self.python_version.count(".") > 1 else f"{self.python_minor}.0"
        machine = {"windows": {"x86_64": "AMD64", "aarch64": "ARM64"}, "macos": {"aarch64": "arm64"}}
        return {
            "python_version": self.python_minor,
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


_LEGACY_MANYLINUX = {"manylinux2014": (2, 17), "manylinux2010": (2, 12), "manylinux1": (2, 5)}
"""PEP 600: each old name is an alias of a glibc version."""

_FIRST_GLIBC_TAG = {"x86_64": 5, "aarch64": 17}
"""PEP 599: wheels for aarch64 begin with glibc 2.17."""

_OLDEST_SYSTEM = r"(?:manylinux|macosx)_(\d+)_(\d+)_"
_PYTHON = r"3\.(\d+)(?:\.\d+)?(t?)"


@lru_cache(maxsize=256)
def _platform_tags(os: Os, arch: str, libc: Libc | None, os_version: str | None) -> tuple[str, ...]:
    if os == "windows":
        return ("win_arm64" if arch == "aarch64" else "win_amd64",)
    if os == "macos":
        return _macos_tags(arch, os_version)
    version = dotted_or_none(libc.version) if libc else None
    if libc is None or version is None or len(version) < 2:
        return (f"linux_{arch}",)
    if libc.family == "musl":
        return (*(f"musllinux_1_{minor}_{arch}" for minor in range(version[1], -1, -1)), f"linux_{arch}")
    aliases = {minor: name for name, (_, minor) in _LEGACY_MANYLINUX.items()}
    tags: list[str] = []
    for minor in range(version[1], _FIRST_GLIBC_TAG.get(arch, 17) - 1, -1):
        tags.append(f"manylinux_2_{minor}_{arch}")
        if minor in aliases:
            tags.append(f"{aliases[minor]}_{arch}")
    return (*tags, f"linux_{arch}")


def _macos_tags(arch: str, os_version: str | None) -> tuple[str, ...]:
    version = dotted_or_none(os_version)
    if version is None:
        return ()
    from packaging.tags import mac_platforms

    minor = version[1] if len(version) > 1 else 0
    return tuple(mac_platforms((version[0], minor), "arm64" if arch == "aarch64" else arch))


@lru_cache(maxsize=64)
def python_tags(abi: str) -> frozenset[str]:
    """`python-abi` pairs that an interpreter with this ABI takes: `cp312-cp312`, `py3-none` and so on."""
    match = re.fullmatch(r"cp3(\d+)(t?)m?", abi)
    if match is None:
        return frozenset()
    minor, threaded = int(match[1]), bool(match[2])
    own = f"cp3{minor}"
    tags = {f"{own}-{abi}", f"{own}-none", "py3-none", "py2.py3-none"}
    for older in range(minor, 1, -1):
        tags.add(f"py3{older}-none")
        if not threaded:
            tags.add(f"cp3{older}-abi3")
    return frozenset(tags)


@lru_cache(maxsize=256)
def oldest_system(platform_tag: str) -> Dotted | None:
    """The lowest glibc of a manylinux tag or macOS of a macosx tag; None where a tag names neither."""
    if match := re.match(_OLDEST_SYSTEM, platform_tag):
        return int(match[1]), int(match[2])
    return next((floor for name, floor in _LEGACY_MANYLINUX.items() if platform_tag.startswith(name)), None)


def wheel_fits(platform_tag: str, target: Target) -> tuple[str, str, str] | None:
    """Whether a wheel of the right platform key runs on the target's system version.

    Returns:
        None when it does, else (rule, wanted, found) with rule `musl`, `glibc-too-old` or `macos-too-old`.
    """
    if platform_tag == "any":
        return None
    libc = target.libc
    if target.os == "linux" and libc is not None and libc.family == "musl":
        needed = "glibc (PyTorch publishes no wheels for musl)"
        return "musl", needed, f"musl {libc.version or ''}".strip()
    name, found = "macOS", target.os_version
    if target.os == "linux":
        name, found = "glibc", libc.version if libc else None
    floor, version = oldest_system(platform_tag), dotted_or_none(found)
    if floor is None or version is None or at_least(version, floor):
        return None
    rule, oldest = f"{name.lower()}-too-old", version_text(floor)
    return rule, f"{name} {oldest} or newer", f"{name} {version_text(version)}"


def foreign_target(machine: Machine, python_version: str, why: str = "--python-version") -> Target:
    """The target on a machine that is not this one: CPython `3.12`, `3.12.4`, or `3.14t` (free-threaded).

    Raises:
        UsageError: not a Python 3 version.
    """
    match = re.fullmatch(_PYTHON, python_version.strip())
    if match is None:
        raise UsageError(
            "bad-python-version",
            f"{python_version!r} is not a Python version",
            wanted="3.12, 3.12.4 or 3.14t",
            found=python_version,
            hints=("--python-version 3.12",),
        )
    minor, threaded = int(match[1]), match[2]
    arch = "x86_64" if machine.rosetta else machine.arch
    abi = f"cp3{minor}{threaded}" if minor >= 8 else f"cp3{minor}m"
    return Target(
        python_version=python_version.strip().rstrip("t"),
        abi=abi,
        os=machine.os,
        arch=arch,
        os_version=machine.os_version,
        libc=machine.libc,
        why=why,
    )
