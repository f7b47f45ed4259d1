"""The machine itself: system, C library, memory, disks, container, cluster, and who may open what."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache, partial
from typing import Any

from msgspec import Struct

from torchinstall.core.decoding import own_data
from torchinstall.core.machine import ARCHES, Finding, Libc, Status, machine_arch
from torchinstall.probe.system import Fact, HostFact, System, clean, pairs, version_number

_CI_VARIABLES = (
    "GITHUB_ACTIONS",
    "GITLAB_CI",
    "BUILDKITE",
    "CIRCLECI",
    "JENKINS_URL",
    "TEAMCITY_VERSION",
    "TF_BUILD",
)
_TIMEOUT_S = 1.0


class FindingText(Struct, frozen=True, kw_only=True):
    """A row of `findings.json`; its texts have `{}` for what was found."""

    status: Status
    detail: str
    source: str = ""
    hint: str | None = None
    container_hint: str | None = None


@cache
def finding_texts() -> dict[str, dict[str, FindingText]]:
    """The texts of all findings by probe and key: the slug, `/` and a variant of it."""
    return own_data(__file__, "findings.json", dict[str, dict[str, FindingText]])


def report(
    probe: str, system: System, key: str, *, source: str | None = None, hint: str | None = None, **values: Any
) -> Finding:
    """A finding with its text from `findings.json`, in which `values` are filled in.

    `source` and `hint` stand in place of those of the row, which may have another hint for containers.
    """
    text = finding_texts()[probe][key]
    if hint is None:
        own = text.container_hint if text.container_hint and container_engine(system) else text.hint
        hint = own.format(**values) if own else None
    return Finding(
        probe=probe,
        status=text.status,
        slug=key.partition("/")[0] or None,
        detail=text.detail.format(**values),
        source=source or text.source.format(**values),
        hint=hint,
    )


_host = partial(report, "host")


def probe_host(system: System) -> Iterator[Fact]:
    """Yield what the operating system says about itself."""
    yield from system.complaints
    if system.platform == "darwin":
        yield from _macos(system)
    elif system.platform == "win32":
        yield from _windows(system)
    else:
        yield from _linux(system)
    ci = system.env.get("CI", "").lower()
    if ci not in ("", "0", "false") or any(system.env.get(name) for name in _CI_VARIABLES):
        yield HostFact("environment", "ci")
    if memory := total_memory(system):
        yield HostFact("memory_bytes", memory)
    arch = machine_arch(system.machine)
    if arch not in ARCHES:
        yield _host(system, "unsupported-arch", arch=clean(arch) or "this architecture")
    if system.platform not in ("linux", "darwin", "win32"):
        yield _host(system, "unsupported-os", platform=clean(system.platform) or "this system")


def _linux(system: System) -> Iterator[Fact]:
    if version := _release(system, "VERSION_ID", "BUILD_ID"):
        yield HostFact("os_version", version)
    if libc := _libc(system):
        yield HostFact("libc", libc)
    if release_name := clean(system.read_text("/proc/sys/kernel/osrelease")):
        yield HostFact("kernel_version", release_name)
    if features := _words(_FEATURES.search(system.read_text("/proc/cpuinfo") or "")):
        yield HostFact("cpu_features", features)
    wsl = wsl_version(system)
    if wsl == 2:
        yield HostFact("environment", "wsl2")
    elif wsl == 1:
        yield _host(system, "wsl1")
    if name := container_engine(system):
        yield HostFact("environment", "container")
        yield _host(system, "/container", engine=name)


def distribution(system: System) -> str | None:
    """How a Linux distribution calls itself: `Debian GNU/Linux`."""
    return _release(system, "NAME", "ID") if system.platform == "linux" else None


def _release(system: System, *keys: str) -> str | None:
    known = pairs(system.read_text("/etc/os-release") or system.read_text("/usr/lib/os-release"), "=")
    said = (clean(known.get(key, "").strip("\"'")) for key in keys)
    return next(filter(None, said), None)


def _libc(system: System) -> Libc | None:
    if glibc := version_number(system.glibc):
        return Libc(family="glibc", version=glibc)
    loader = next((name for name in system.listdir("/lib") if name.startswith("ld-musl-")), None)
    if loader is None:
        return None
    # musl's loader prints its version when it is run without arguments (on stderr, exit status 1).
    match = re.search(r"Version\s+(\d.*)", system.run((f"/lib/{loader}",), _TIMEOUT_S).output)
    return Libc(family="musl", version=version_number(match[1]) if match else None)


def total_memory(system: System) -> int | None:
    """Physical memory in bytes."""
    if system.memory_bytes is not None:
        return system.memory_bytes if system.memory_bytes > 0 else None
    text = system.read_text("/proc/meminfo") or ""
    match = re.search(r"^MemTotal:\s+([0-9]{1,15}) kB$", text, re.MULTILINE)
    return int(match[1]) * 1024 if match else None


def wsl_version(system: System) -> int | None:
    """1 or 2; None outside of WSL. The kernel's name tells, also in a container under WSL."""
    release = system.read_text("/proc/sys/kernel/osrelease") or system.read_text("/proc/version") or ""
    if "microsoft" not in release.lower():
        return None
    return 1 if "-Microsoft" in release and "WSL2" not in release else 2


_FEATURES = re.compile(r"^(?:flags|Features)\s*:(.*)$", re.MULTILINE)
_SYSCTL_FEATURES = re.compile(
    r"^hw\.optional\.(?:arm\.)?(\w+): 1$|^machdep\.cpu\.\w*features: (.*)$", re.MULTILINE
)


def _words(match: re.Match[str] | None) -> tuple[str, ...]:
    """The features that a line names; those of the first processor count for all."""
    return tuple(dict.fromkeys(re.findall(r"[\w.]{1,40}", match[1].lower()))) if match else ()


def _macos(system: System) -> Iterator[Fact]:
    # Without this variable an old SDK makes `sw_vers` claim 10.16.
    result = system.run(("sw_vers", "-productVersion"), _TIMEOUT_S, {"SYSTEM_VERSION_COMPAT": "0"})
    version = version_number(result.stdout)
    if version is None:
        text = system.read_text("/System/Library/CoreServices/SystemVersion.plist") or ""
        match = re.search(r"<key>ProductVersion</key>\s*<string>([^<]+)</string>", text)
        version = version_number(match[1]) if match else None
    if version is not None:
        yield HostFact("os_version", version)
    # A Mac has the keys of its own kind of processor only; `-i` omits the others.
    keys = ("hw.optional", "machdep.cpu.features", "machdep.cpu.leaf7_features")
    listed = system.run(("sysctl", "-i", *keys), _TIMEOUT_S).stdout or ""
    words = " ".join(map(" ".join, _SYSCTL_FEATURES.findall(listed))).split()
    if words:
        yield HostFact("cpu_features", tuple(dict.fromkeys(words)))


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


_GROUP = re.compile(r"(?!(?:root|wheel|0)$)[\w.-]{1,64}")
"""A group that is not root's, and that one could type."""


def container_engine(system: System) -> str | None:
    """`docker`, `podman`, `kubernetes`, `apptainer`, `lxc` …; None outside of containers."""
    if system.platform != "linux":
        return None
    for variable, name in _VARIABLES:
        if system.env.get(variable):
            return name
    for path, name in _FILES:
        if system.exists(path):
            return name
    # systemd and similar tools write the engine's name down; WSL does too and is no container.
    name = system.env.get("container") or (system.read_text("/run/systemd/container") or "").strip()
    if re.fullmatch(r"[a-z0-9_-]{2,30}", name) and name not in _NOT_A_CONTAINER:
        return name
    cgroups = system.read_text("/proc/1/cgroup") or ""
    return next((name for mark, name in _CGROUPS if re.search(rf"[/:-]{mark}", cgroups)), None)


def group_hint(system: System, paths: Iterable[str], *usual: str) -> str | None:
    """How this user becomes a member of the groups that may open these nodes.

    `usual` are the groups where only root may; None: there is none either.
    """
    found = dict.fromkeys(map(system.group, paths))
    groups = [name for name in found if name and _GROUP.fullmatch(name)]
    if not (names := groups or usual):
        return None
    if container_engine(system):
        return " ".join(["start the container with", *(f"--group-add {name}" for name in names)])
    return f"sudo usermod -aG {','.join(names)} $USER, then log in again"


_GIB = 1 << 30

_LOW_DISK_BYTES = 10 * _GIB
"""A CUDA build of torch with its libraries takes five to eight GiB unpacked, and its wheels as much again."""

_VC_RUNTIME_MINOR = 40
"""torch 2.9 and newer are built with Visual C++ 14.42, which needs msvcp140.dll 14.40 (pytorch#169429)."""

_NETWORK_VARIABLES = (
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "UV_NATIVE_TLS",
    "UV_SYSTEM_CERTS",
)

_SLURM = ("/etc/slurm/slurm.conf", "/usr/bin/sbatch", "/etc/slurm-llnl/slurm.conf")


def probe_surroundings(system: System) -> Iterator[Fact]:
    """Yield findings of the host; none of them is about a GPU."""
    yield from _memory_limit(system)
    yield from _disks(system)
    names = [name for name in _NETWORK_VARIABLES if system.env.get(name) or system.env.get(name.lower())]
    if names:
        yield _host(system, "/network", names=", ".join(names))
    if system.platform == "win32":
        yield from _windows_runtime(system)


def _memory_limit(system: System) -> Iterator[Finding]:
    """A control group may allow far less memory than the machine has."""
    group = ""
    for line in (system.read_text("/proc/self/cgroup") or "").splitlines():
        if line.startswith("0::/"):
            group = line[3:].rstrip("/")
    paths = [f"/sys/fs/cgroup{group}/memory.max", "/sys/fs/cgroup/memory.max"]
    paths.append("/sys/fs/cgroup/memory/memory.limit_in_bytes")
    total = total_memory(system)
    for path in dict.fromkeys(paths):
        text = (system.read_text(path) or "").strip()
        if re.fullmatch(r"\d{1,18}", text) and total is not None and int(text) < total:
            yield _host(system, "memory-limit", limit=int(text) / _GIB, total=total / _GIB, path=path)
            return


def _disks(system: System) -> Iterator[Finding]:
    cache, target = system.disk("cache"), system.disk("target")
    for key, disk in (("low-disk", cache), ("low-disk/target", target)):
        if disk is not None and disk.free_bytes < _LOW_DISK_BYTES:
            yield _host(system, key, free=disk.free_bytes / _GIB)
    if cache is not None and target is not None and cache.device != target.device:
        yield _host(system, "separate-file-systems")


def _windows_runtime(system: System) -> Iterator[Finding]:
    if system.registry(r"SYSTEM\CurrentControlSet\Control\FileSystem", "LongPathsEnabled") != 1:
        yield _host(system, "long-paths-disabled")
    if system.library("vcruntime140_1.dll") is None or system.library("msvcp140.dll") is None:
        yield _host(system, "vc-runtime-missing")
        return
    arch = "ARM64" if machine_arch(system.machine) == "aarch64" else "X64"
    minor = system.registry(rf"SOFTWARE\Microsoft\VisualStudio\14.0\VC\Runtimes\{arch}", "Minor")
    if isinstance(minor, int) and minor < _VC_RUNTIME_MINOR:
        yield _host(system, "vc-runtime-old", found=f"14.{minor}", needed=f"14.{_VC_RUNTIME_MINOR}")


def without_gpu(system: System) -> Iterator[Finding]:
    """Where the GPUs of a machine without one may be: on a cluster's other nodes."""
    if (found := _scheduler(system)) is not None:
        name, inside, command = found
        key = "job-without-gpu" if inside else "hpc-login-node"
        yield _host(system, key, scheduler=name, command=command)


def _scheduler(system: System) -> tuple[str, bool, str] | None:
    """Its name, whether this runs in one of its jobs, and how to run a command on a GPU node."""
    env = system.env
    if env.get("SLURM_JOB_ID") or any(map(system.exists, _SLURM)):
        return "Slurm", bool(env.get("SLURM_JOB_ID")), "srun --gres=gpu:1"
    if env.get("PBS_JOBID") or system.exists("/etc/pbs.conf"):
        return "PBS", bool(env.get("PBS_JOBID")), "qsub -I -l select=1:ngpus=1 --"
    if env.get("LSB_JOBID") or env.get("LSF_ENVDIR"):
        return "LSF", bool(env.get("LSB_JOBID")), "bsub -I -gpu num=1"
    return None
