"""What surrounds the GPUs and affects an installation: cluster, memory limit, disks, network settings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial

from torchinstall.core.machine import Finding
from torchinstall.probe.host import total_memory
from torchinstall.probe.system import Fact, System, finding

__all__ = ["probe_surroundings", "without_gpu"]

_host = partial(finding, "host", "found")

_GIB = 1 << 30

_LOW_DISK_BYTES = 10 * _GIB
"""A CUDA build of torch with its libraries takes five to eight GiB unpacked, and its wheels as much again."""

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
        yield _host(None, f"network settings are taken from {', '.join(names)}", "environment")
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
            limit = f"{int(text) / _GIB:.1f} GiB of {total / _GIB:.1f} GiB"
            yield _host("memory-limit", f"a control group limits memory to {limit}", path)
            return


def _disks(system: System) -> Iterator[Finding]:
    cache, target = system.disk("cache"), system.disk("target")
    for what, disk, hint in (
        ("uv's cache", cache, "uv cache prune, or set UV_CACHE_DIR to a folder on a larger disk"),
        ("the environment", target, "free some space, or use --venv with a folder on a larger disk"),
    ):
        if disk is not None and disk.free_bytes < _LOW_DISK_BYTES:
            detail = f"only {disk.free_bytes / _GIB:.1f} GiB are free for {what}"
            yield _host("low-disk", detail, "statvfs", hint)
    if cache is not None and target is not None and cache.device != target.device:
        yield _host(
            "separate-file-systems",
            "uv's cache and the environment are on different file systems; uv will copy, not link",
            "statvfs",
            "set UV_CACHE_DIR to the environment's file system, or UV_LINK_MODE=copy to silence uv's warning",
        )


def _windows(system: System) -> Iterator[Finding]:
    if system.registry(r"SYSTEM\CurrentControlSet\Control\FileSystem", "LongPathsEnabled") != 1:
        yield _host(
            "long-paths-disabled",
            "Windows limits paths to 260 characters; some of torch's files do not fit in a deep folder",
            "registry LongPathsEnabled",
            "set LongPathsEnabled to 1 as administrator, or put the environment near the drive's root",
        )
    if system.library("vcruntime140_1.dll") is None or system.library("msvcp140.dll") is None:
        yield _host(
            "vc-runtime-missing",
            "the Visual C++ runtime is missing; torch's libraries will not load",
            "System32",
            "install Microsoft's Visual C++ Redistributable (x64 or ARM64, 2015 or later)",
        )


def without_gpu(system: System) -> Iterator[Finding]:
    """Where the GPUs of a machine without one may be: on a cluster's other nodes."""
    scheduler = _scheduler(system)
    if scheduler is None:
        return
    name, inside, command = scheduler
    if inside:
        hint = f"request one: {command} nvidia-smi"
        yield _host("job-without-gpu", f"this {name} job has no GPU", "environment", hint)
        return
    yield _host(
        "hpc-login-node",
        f"this is a {name} login node; the GPUs are on other nodes",
        f"{name}'s client",
        f"{command} torchinstall probe --json > machine.json; here: torchinstall auto --machine machine.json",
    )


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
