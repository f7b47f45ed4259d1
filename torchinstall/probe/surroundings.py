"""What surrounds the GPUs and affects an installation: cluster, memory limit, disks, network settings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial

from torchinstall.core.machine import Finding
from torchinstall.probe.host import machine_arch, report, total_memory
from torchinstall.probe.system import Fact, System

_host = partial(report, "host")

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
        yield from _windows(system)


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


def _windows(system: System) -> Iterator[Finding]:
    if system.registry(r"SYSTEM\CurrentControlSet\Control\FileSystem", "LongPathsEnabled") != 1:
        yield _host(system, "long-paths-disabled")
    if system.library("vcruntime140_1.dll") is None or system.library("msvcp140.dll") is None:
        yield _host(system, "vc-runtime-missing")
        return
    key = r"SOFTWARE\Microsoft\VisualStudio\14.0\VC\Runtimes" + ("\\ARM64" if _on_arm(system) else "\\X64")
    minor = system.registry(key, "Minor")
    if isinstance(minor, int) and minor < _VC_RUNTIME_MINOR:
        yield _host(system, "vc-runtime-old", found=f"14.{minor}", needed=f"14.{_VC_RUNTIME_MINOR}")


def _on_arm(system: System) -> bool:
    return machine_arch(system.machine) == "aarch64"


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
