"""What is around the GPUs and decides how an installation goes: cluster, limits, disks, network settings."""

from __future__ import annotations

import re
from collections.abc import Iterator

from torchinstall.core.machine import Finding
from torchinstall.probe.facts import Fact
from torchinstall.probe.system import System

__all__ = ["probe_surroundings", "without_gpu"]

GIB = 1 << 30

LOW_DISK_BYTES = 10 * GIB
"""A CUDA build of torch with its libraries takes five to eight GiB unpacked, and its wheels as much again."""

_PROXIES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY")
_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "UV_NATIVE_TLS", "UV_SYSTEM_CERTS")


_SLURM = ("/etc/slurm/slurm.conf", "/etc/slurm-llnl/slurm.conf", "/usr/bin/sbatch")


def probe_surroundings(system: System) -> Iterator[Fact]:
    """Yield findings of the host; none of them is a GPU's."""
    yield from _memory_limit(system)
    yield from _disks(system)
    yield from _network(system)
    if system.platform == "win32":
        yield from _windows(system)


def _found(detail: str, source: str, slug: str | None = None, hint: str | None = None) -> Finding:
    return Finding(probe="host", status="found", detail=detail, source=source, slug=slug, hint=hint)


def _memory_limit(system: System) -> Iterator[Finding]:
    """A control group may allow far less memory than the machine has."""
    group = ""
    for line in (system.read_text("/proc/self/cgroup") or "").splitlines():
        if line.startswith("0::/"):
            group = line[3:].rstrip("/")
    paths = [f"/sys/fs/cgroup{group}/memory.max", "/sys/fs/cgroup/memory.max"]
    paths.append("/sys/fs/cgroup/memory/memory.limit_in_bytes")
    total = system.memory_bytes()
    for path in dict.fromkeys(paths):
        said = (system.read_text(path) or "").strip()
        if re.fullmatch(r"\d{1,18}", said) and total is not None and int(said) < total:
            yield _found(
                f"a control group limits memory to {int(said) / GIB:.1f} GiB of {total / GIB:.1f} GiB",
                path,
                "memory-limit",
            )
            return


def _disks(system: System) -> Iterator[Finding]:
    cache, target = system.disk("cache"), system.disk("target")
    for what, disk, way in (
        ("uv's cache", cache, "uv cache prune, or UV_CACHE_DIR on a larger disk"),
        ("the environment", target, "free some space, or --venv on a larger disk"),
    ):
        if disk is not None and disk.free_bytes < LOW_DISK_BYTES:
            yield _found(f"{disk.free_bytes / GIB:.1f} GiB are free for {what}", "statvfs", "low-disk", way)
    if cache is not None and target is not None and cache.device != target.device:
        yield _found(
            "uv's cache and the environment are on different file systems: files are copied, not linked",
            "statvfs",
            "separate-file-systems",
            "UV_CACHE_DIR on the file system of the environment, or UV_LINK_MODE=copy to silence uv",
        )


def _network(system: System) -> Iterator[Finding]:
    names = [
        name for name in (*_PROXIES, *_CERTIFICATES) if system.env.get(name) or system.env.get(name.lower())
    ]
    if names:
        yield _found(f"network settings are taken from {', '.join(names)}", "environment")


def _windows(system: System) -> Iterator[Finding]:
    if system.registry(r"SYSTEM\CurrentControlSet\Control\FileSystem", "LongPathsEnabled") != 1:
        yield _found(
            "Windows cuts paths at 260 characters; torch's files may not fit below a deep folder",
            "registry LongPathsEnabled",
            "long-paths-disabled",
            "set LongPathsEnabled to 1 as administrator, or keep the environment near the drive's root",
        )
    if system.library("vcruntime140_1.dll") is None or system.library("msvcp140.dll") is None:
        yield _found(
            "the Visual C++ runtime is missing; torch's libraries will not load",
            "System32",
            "vc-runtime-missing",
            "install Microsoft's Visual C++ Redistributable (x64 or ARM64, 2015 or later)",
        )


def without_gpu(system: System) -> Iterator[Finding]:
    """Where the GPUs of a machine without one may be: a cluster's login node."""
    cluster = _cluster(system)
    if cluster is None:
        return
    name, inside, command = cluster
    if inside:
        yield _found(
            f"this {name} job has no GPU",
            "environment",
            "job-without-gpu",
            f"ask for one: {command} nvidia-smi",
        )
        return
    yield _found(
        f"a {name} login node: the GPUs are on other nodes",
        f"{name}'s client",
        "hpc-login-node",
        f"{command} torchinstall probe --json > machine.json; here: torchinstall auto --machine machine.json",
    )


def _cluster(system: System) -> tuple[str, bool, str] | None:
    """Scheduler, whether this runs in one of its jobs, and how to run a command on a GPU node."""
    env = system.env
    if env.get("SLURM_JOB_ID") or any(
        system.exists(path)
        for path in ("/etc/slurm/slurm.conf", "/usr/bin/sbatch", "/etc/slurm-llnl/slurm.conf")
    ):
        return "Slurm", bool(env.get("SLURM_JOB_ID")), "srun --gres=gpu:1"
    if env.get("PBS_JOBID") or system.exists("/etc/pbs.conf"):
        return "PBS", bool(env.get("PBS_JOBID")), "qsub -I -l select=1:ngpus=1 --"
    if env.get("LSB_JOBID") or env.get("LSF_ENVDIR"):
        return "LSF", bool(env.get("LSB_JOBID")), "bsub -I -gpu num=1"
    return None
