"""A machine as text a person understands."""

from __future__ import annotations

import click

from torchinstall.machine import Driver, Finding, Gpu, Machine, capability_text
from torchinstall.report.layout import fields, wrapped

__all__ = ["machine_text"]

_OS = {"linux": "Linux", "windows": "Windows", "macos": "macOS"}
_VENDOR = {"nvidia": "NVIDIA", "amd": "AMD", "intel": "Intel", "apple": "Apple"}


def machine_text(machine: Machine) -> str:
    """What the probe saw: host, drivers, GPUs, then everything that went wrong."""
    rows = [("machine", _host(machine))]
    rows += [("driver", _driver(driver)) for driver in machine.drivers]
    rows += [("GPU", _gpu(gpu)) for gpu in machine.gpus]
    if not machine.gpus:
        rows.append(("GPU", "none found"))
    lines = [fields(rows)]
    faults = [finding for finding in machine.findings if finding.status in ("denied", "broken", "overridden")]
    if faults:
        lines.append("")
        lines.extend(_finding(finding) for finding in faults)
    return "\n".join(lines)


def _host(machine: Machine) -> str:
    parts = [" ".join(filter(None, (_OS[machine.os], machine.os_version))), machine.arch]
    if machine.libc is not None:
        parts.append(" ".join(filter(None, (machine.libc.family, machine.libc.version))))
    if machine.memory_bytes:
        parts.append(f"{_gib(machine.memory_bytes)} memory")
    if machine.l4t:
        parts.append(f"L4T {machine.l4t}")
    if machine.rosetta:
        parts.append("under Rosetta")
    parts.extend(machine.environment)
    return ", ".join(parts)


def _driver(driver: Driver) -> str:
    parts = [f"{_VENDOR[driver.vendor]} {driver.version or '(version unknown)'}"]
    if driver.cuda_version:
        parts.append(f"speaks CUDA {driver.cuda_version}")
    if driver.rocm_version:
        parts.append(f"ROCm userland {driver.rocm_version}")
    return _with_source(", ".join(parts), driver.source)


def _gpu(gpu: Gpu) -> str:
    parts = [gpu.label]
    if gpu.compute_capability:
        parts.append(f"compute capability {capability_text(gpu.compute_capability)}")
    if gpu.gfx_target and gpu.gfx_target not in gpu.label:
        parts.append(gpu.gfx_target)
    if gpu.memory_bytes:
        parts.append(_gib(gpu.memory_bytes))
    if gpu.integrated:
        parts.append("integrated")
    head = "" if gpu.index is None else f"{gpu.index}: "
    return _with_source(head + ", ".join(parts), gpu.source)


def _finding(finding: Finding) -> str:
    colour = "cyan" if finding.status == "overridden" else "yellow"
    name = f"{finding.probe}: {finding.slug}" if finding.slug else f"{finding.probe}: {finding.status}"
    text = click.style(f"{name}:", fg=colour, bold=True) + f" {_with_source(finding.detail, finding.source)}"
    lines = [wrapped(text, indent=2)]
    if finding.hint:
        lines.append(wrapped(click.style("hint:", fg="cyan", bold=True) + f" {finding.hint}", indent=6))
    return "\n".join(lines)


def _with_source(text: str, source: str | None) -> str:
    return text + (click.style(f" ({source})", dim=True) if source else "")


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
