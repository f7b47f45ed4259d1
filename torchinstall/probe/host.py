"""The machine itself: release of the system, C library, memory, WSL, container, CI."""

from __future__ import annotations

import re
from collections.abc import Iterator

from torchinstall.core.machine import Finding, Libc
from torchinstall.probe.facts import Fact, HostFact, Word, clean
from torchinstall.probe.system import System

__all__ = ["engine", "joinable_group", "machine_arch", "probe_host", "wsl_version"]


_ARCHES = {"x86_64": "x86_64", "amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64", "aarch64": "aarch64"}

_CI_VARIABLES = (
    "GITHUB_ACTIONS",
    "GITLAB_CI",
    "BUILDKITE",
    "CIRCLECI",
    "JENKINS_URL",
    "TEAMCITY_VERSION",
    "TF_BUILD",
)
_VERSION = re.compile(r"\d{1,9}(?:\.\d{1,9}){0,4}")
_COMMAND_TIMEOUT_S = 1.0


def machine_arch(machine: str) -> str:
    """`AMD64` as `x86_64`, `arm64` as `aarch64`; others by their own name."""
    plain = machine.strip().lower()
    return _ARCHES.get(plain, plain or "unknown")


def probe_host(system: System) -> Iterator[Fact]:
    """Yield what the operating system says of itself."""
    yield from system.complaints
    if system.platform == "darwin":
        yield from _macos(system)
    elif system.platform == "win32":
        yield from _windows(system)
    else:
        yield from _linux(system)
    if _is_ci(system):
        yield Word("ci")
    memory = system.memory_bytes()
    if memory is not None and memory > 0:
        yield HostFact("memory_bytes", memory)
    arch = machine_arch(system.machine)
    if arch not in _ARCHES.values():
        yield _unsupported("arch", f"PyTorch publishes no builds for {clean(arch) or 'this architecture'}")
    if system.platform not in ("linux", "darwin", "win32"):
        yield _unsupported("os", f"PyTorch publishes no builds for {clean(system.platform) or 'this system'}")


def _unsupported(what: str, detail: str) -> Finding:
    return Finding(
        probe="host",
        status="broken",
        slug=f"unsupported-{what}",
        detail=detail,
        source="platform",
        hint="use a machine with Linux, Windows or macOS on x86-64 or 64-bit ARM",
    )


def _is_ci(system: System) -> bool:
    said = system.env.get("CI", "").lower()
    return said not in ("", "0", "false") or any(system.env.get(name) for name in _CI_VARIABLES)


def _linux(system: System) -> Iterator[Fact]:
    release = _os_release(system)
    if version := clean(release.get("VERSION_ID") or release.get("BUILD_ID")):
        yield HostFact("os_version", version)
    libc = _libc(system)
    if libc is not None:
        yield HostFact("libc", libc)
    wsl = wsl_version(system)
    if wsl == 2:
        yield Word("wsl2")
    elif wsl == 1:
        yield Finding(
            probe="host",
            status="found",
            slug="wsl1",
            detail="this is WSL 1, which passes no GPU through",
            source="/proc/sys/kernel/osrelease",
            hint="wsl --set-version <distribution> 2 (in Windows)",
        )
    if name := engine(system):
        yield Word("container")
        yield Finding(
            probe="host", status="found", detail=f"inside a container ({name})", source="container marks"
        )


def _os_release(system: System) -> dict[str, str]:
    text = system.read_text("/etc/os-release") or system.read_text("/usr/lib/os-release") or ""
    pairs = (line.partition("=") for line in text.splitlines() if not line.startswith("#"))
    return {key.strip(): value.strip().strip("\"'") for key, _, value in pairs}


def _libc(system: System) -> Libc | None:
    if glibc := _first_version(system.glibc()):
        return Libc(family="glibc", version=glibc)
    loader = next((name for name in system.listdir("/lib") if name.startswith("ld-musl-")), None)
    if loader is None:
        return None
    # musl's loader says its version when it is run without arguments (on stderr, exit status 1).
    result = system.run((f"/lib/{loader}",), _COMMAND_TIMEOUT_S)
    return Libc(family="musl", version=_after("Version", f"{result.stdout}\n{result.stderr}"))


def _after(word: str, text: str) -> str | None:
    match = re.search(rf"{word}\s+({_VERSION.pattern})", text)
    return match[1] if match else None


def _first_version(text: str | None) -> str | None:
    match = _VERSION.match((text or "").strip())
    return match[0] if match else None


def wsl_version(system: System) -> int | None:
    """1 or 2; None outside of WSL. The kernel's name tells, also in a container under WSL."""
    release = system.read_text("/proc/sys/kernel/osrelease") or system.read_text("/proc/version") or ""
    if "microsoft" not in release.lower():
        return None
    return 1 if "-Microsoft" in release and "WSL2" not in release else 2


def _macos(system: System) -> Iterator[Fact]:
    # Without this variable an old SDK makes `sw_vers` claim 10.16.
    result = system.run(("sw_vers", "-productVersion"), _COMMAND_TIMEOUT_S, {"SYSTEM_VERSION_COMPAT": "0"})
    version = _first_version(result.stdout)
    if version is None:
        text = system.read_text("/System/Library/CoreServices/SystemVersion.plist") or ""
        match = re.search(r"<key>ProductVersion</key>\s*<string>([^<]+)</string>", text)
        version = _first_version(match[1]) if match else None
    if version is not None:
        yield HostFact("os_version", version)


def _windows(system: System) -> Iterator[Fact]:
    key = r"SOFTWARE\Microsoft\Windows NT\CurrentVersion"
    build = system.registry(key, "CurrentBuildNumber")
    major, minor = (system.registry(key, f"Current{part}VersionNumber") for part in ("Major", "Minor"))
    if isinstance(build, str) and re.fullmatch(r"\d{1,6}", build):
        major, minor = (major if type(major) is int else 10), (minor if type(minor) is int else 0)
        yield HostFact("os_version", f"{major}.{minor}.{build}")


_FILES = (
    ("/.dockerenv", "docker"),
    ("/run/.containerenv", "podman"),
    ("/.singularity.d", "apptainer"),
)

_VARIABLES = (
    ("KUBERNETES_SERVICE_HOST", "kubernetes"),
    ("APPTAINER_CONTAINER", "apptainer"),
    ("SINGULARITY_CONTAINER", "apptainer"),
    ("ENROOT_ROOTFS", "enroot"),
)

_CGROUPS = (("kubepods", "kubernetes"), ("docker", "docker"), ("libpod", "podman"), ("lxc", "lxc"))

_NOT_A_CONTAINER = ("wsl", "vm")


def engine(system: System) -> str | None:
    """`docker`, `podman`, `kubernetes`, `apptainer`, `lxc` …; None outside of containers."""
    if system.platform != "linux":
        return None
    for variable, name in _VARIABLES:
        if system.env.get(variable):
            return name
    for path, name in _FILES:
        if system.exists(path):
            return name
    # systemd and its kin write their name down; WSL does too and is none.
    said = system.env.get("container") or (system.read_text("/run/systemd/container") or "").strip()
    if re.fullmatch(r"[a-z0-9_-]{2,30}", said) and said not in _NOT_A_CONTAINER:
        return said
    cgroups = system.read_text("/proc/1/cgroup") or ""
    return next((name for mark, name in _CGROUPS if re.search(rf"[/:-]{mark}", cgroups)), None)


def joinable_group(system: System, path: str) -> str | None:
    """The group of a node by name or number; None where it is root's, or no name that one could type."""
    group = system.group(path)
    if group is None or group in ("root", "wheel", "0") or re.fullmatch(r"[\w.-]{1,64}", group) is None:
        return None
    return group
