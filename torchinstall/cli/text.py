"""Laying text out in 80 columns; colour codes take no room."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import click

from torchinstall.core.machine import Driver, Finding, Gpu, Machine, capability_text

WIDTH = 80


def heading(text: str) -> str:
    """The title of a part."""
    return click.style(text, bold=True)


def fields(rows: Sequence[tuple[str, str]]) -> str:
    """Names in one column, values wrapped in the other; a name that repeats is shown once."""
    width = max((len(name) for name, _ in rows), default=0) + 2
    lines = []
    before = None
    for name, value in rows:
        shown = "" if name == before else name
        lines.append(wrapped(f"{shown:<{width}}{value}", indent=width))
        before = name
    return "\n".join(lines)


def columns(rows: Sequence[Sequence[str]], indent: int = 2) -> str:
    """A table without rules; the last column is wrapped, the others are as wide as they must be."""
    if not rows:
        return ""
    widths = [max(len(click.unstyle(row[number])) for row in rows) + 2 for number in range(len(rows[0]) - 1)]
    lines = []
    for row in rows:
        cells = [
            cell + " " * (width - len(click.unstyle(cell))) for cell, width in zip(row, widths, strict=False)
        ]
        lines.append(wrapped(" " * indent + "".join(cells) + row[-1], indent=indent + sum(widths)).rstrip())
    return "\n".join(lines)


def wrapped(text: str, indent: int = 0, width: int = WIDTH) -> str:
    """Break lines at spaces; lines after the first begin with `indent` spaces.

    A word that is longer than a line stays whole: paths and URLs must be copyable.
    """
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line, *words = paragraph.split(" ")
        for word in words:
            longer = f"{line} {word}"
            if line.strip() and len(click.unstyle(longer)) > width:
                lines.append(line.rstrip())
                line = " " * indent + word
            else:
                line = longer
        lines.append(line.rstrip())
    return "\n".join(lines)


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
        parts.append(f"supports CUDA {driver.cuda_version}")
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


def tables_text(snapshot: str, tables: Mapping[str, Mapping[str, Any]]) -> str:
    """One part for each table; `rows` is their number, or the rows themselves."""
    parts = [f"{heading('Catalog')} of {snapshot}"]
    for name, table in tables.items():
        rows = table["rows"]
        count = rows if isinstance(rows, int) else len(rows)
        parts.append(f"{heading(name)}  {count} rows, of {table['as_of']}")
        if not isinstance(rows, int):
            parts += ["  " + json.dumps(row, ensure_ascii=False) for row in rows]
        parts.append(columns(list(table["sources"].items())))
    return "\n".join(part for part in parts if part)
