"""Values as a person reads them, in 80 columns: the machine, the plan, and why nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from msgspec import structs

from torchinstall.core.machine import OS_LABELS, VENDOR_NAMES, Driver, Finding, Gpu, Machine, capability_text
from torchinstall.core.messages import redact, size_text
from torchinstall.core.plan import Candidate, Download, GpuVerdict, Plan
from torchinstall.core.request import extras_text
from torchinstall.core.versions import version_text
from torchinstall.planner.explain import why_second

if TYPE_CHECKING:
    from torchinstall.install.verify import Report
    from torchinstall.planner.situation import Situation

WIDTH = 80


def heading(text: str) -> str:
    """The title of a part."""
    return click.style(text, bold=True)


def fields(rows: Sequence[tuple[str, str]]) -> str:
    """Names in one column, values wrapped in the other; a name that repeats is shown once."""
    before = [None, *(name for name, _ in rows)]
    return columns(
        [("" if name == last else name, value) for (name, value), last in zip(rows, before, strict=False)], 0
    )


def columns(rows: Sequence[Sequence[str]], indent: int = 2) -> str:
    """A table without rules; the last column is wrapped, the others are as wide as they must be."""
    if not rows:
        return ""
    widths = [max(len(click.unstyle(row[number])) for row in rows) + 2 for number in range(len(rows[0]) - 1)]
    lines = []
    for row in rows:
        cells = [
            text + " " * (width - len(click.unstyle(text))) for text, width in zip(row, widths, strict=False)
        ]
        lines.append(wrapped(" " * indent + "".join(cells) + row[-1], indent + sum(widths)).rstrip())
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


def machine_text(machine: Machine, name: str | None = None) -> str:
    """What the probe saw, with the `name` of the distribution: host, drivers, GPUs, then what went wrong."""
    rows = [("machine", _host(machine, name))]
    rows += [("driver", _driver(driver)) for driver in machine.drivers]
    rows += [("GPU", _gpu(gpu)) for gpu in machine.gpus] or [("GPU", "none found")]
    faults = [_finding(row) for row in machine.findings if row.status in ("denied", "broken", "overridden")]
    return "\n".join([fields(rows), *([""] if faults else []), *faults])


def _joined(*parts: str | None, by: str = ", ") -> str:
    return by.join(filter(None, parts))


def _host(machine: Machine, name: str | None) -> str:
    libc = machine.libc
    return _joined(
        _joined(name or OS_LABELS[machine.os], machine.os_version, by=" "),
        machine.arch,
        _joined(libc.family, libc.version, by=" ") if libc is not None else None,
        f"{_gib(machine.memory_bytes)} memory" if machine.memory_bytes else None,
        f"L4T {machine.l4t}" if machine.l4t else None,
        "under Rosetta" if machine.rosetta else None,
        *machine.environment,
    )


def _driver(driver: Driver) -> str:
    text = _joined(
        f"{VENDOR_NAMES[driver.vendor]} {driver.version or '(version unknown)'}",
        f"supports CUDA {driver.cuda_version}" if driver.cuda_version else None,
        f"ROCm userland {driver.rocm_version}" if driver.rocm_version else None,
    )
    return _with_source(text, driver.source)


def _gpu(gpu: Gpu) -> str:
    code = gpu.compute_capability
    text = _joined(
        gpu.label,
        f"compute capability {capability_text(code)}" if code else None,
        gpu.gfx_target if (gpu.gfx_target or "") not in gpu.label else None,
        _gib(gpu.memory_bytes) if gpu.memory_bytes else None,
        "integrated" if gpu.integrated else None,
    )
    return _with_source(f"{_number(gpu.index)}{text}", gpu.source)


def _number(index: int | None) -> str:
    return "" if index is None else f"{index}: "


def _finding(finding: Finding) -> str:
    colour = "cyan" if finding.status == "overridden" else "yellow"
    head = click.style(f"{finding.probe}: {finding.slug or finding.status}:", fg=colour, bold=True)
    text = wrapped(f"{head} {_with_source(finding.detail, finding.source)}", indent=2)
    hint = f"{click.style('hint:', fg='cyan', bold=True)} {finding.hint}" if finding.hint else ""
    return _joined(text, wrapped(hint, indent=6), by="\n")


def _with_source(text: str, source: str | None) -> str:
    return text + (click.style(f" ({source})", dim=True) if source else "")


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"


_OF_MANY = ("no-gpu-of-vendor", "python-not-published", "backend-not-asked")
"""Rules that say the same of many backends, which then share a line."""


def plan_text(plan: Plan, situation: Situation, name: str | None) -> str:
    """The whole plan but its warnings and its error, which go to stderr."""
    about = machine_text(_as_described(plan, situation), name)
    parts = [about, fields(_target(plan)), chosen_text(plan), why_not_text(plan)]
    return "\n\n".join(part for part in parts if part)


def _as_described(plan: Plan, situation: Situation) -> Machine:
    """The machine with the GPUs and the driver that were described in place of its own."""
    machine = situation.machine
    said = {row.name: row.source for row in plan.settings if row.source != "default" and row.value}
    gpus, source = said.get("target_gpu"), said.get("target_driver") or said.get("target_cuda")
    if not (gpus or source):
        return machine
    drivers = []
    for vendor, facts in situation.drivers.items():
        own, speaks = machine.driver(vendor), version_text(facts.cuda or ()) or None
        if own is not None and own.version == facts.text and "target_cuda" not in said:
            drivers.append(own)
        elif facts.text or speaks:
            drivers.append(Driver(vendor=vendor, version=facts.text, cuda_version=speaks, source=source))
    findings = () if gpus else machine.findings
    return structs.replace(machine, gpus=situation.gpus, drivers=tuple(drivers), findings=findings)


def chosen_text(plan: Plan) -> str:
    """What will be installed, from where, and what it does with each GPU."""
    if plan.status == "impossible":
        return ""
    there = plan.status == "satisfied"
    stay = {f"{item.name} {item.version}" for item in plan.target.installed if plan.kept}
    rows = [("installed" if there or text in stay else "installs", text) for text in package_texts(plan)]
    rows.append(("from", _origin(plan)))
    for gpu in plan.gpus:
        verdict = f"runs on {gpu.by}" if gpu.covered else f"not used: {gpu.by}"
        verdict = "assumed to run" if gpu.covered and gpu.by == "assumed" else verdict
        verdict = click.style(verdict, fg="green" if gpu.covered else "yellow")
        rows.append(("on GPU", f"{_number(gpu.index)}{gpu.label} {verdict}"))
    title = f"Chosen: backend {click.style(plan.backend or '?', fg='green', bold=True)}"
    return f"{heading(title + ', already installed' * there)}\n{fields(rows)}"


def package_texts(plan: Plan) -> list[str]:
    """One text a package; those whose version only torch's own metadata names are counted in one."""
    open_ones = [package for package in plan.packages if package.routed and package.version is None]
    texts = [
        f"{package.name}{extras_text(package.extras)} {package.version or '(uv chooses)'}"
        for package in plan.packages
        if package not in open_ones or len(open_ones) == 1
    ]
    if len(open_ones) > 1:
        texts.append(f"{open_ones[0].name} and {len(open_ones) - 1} more of torch's runtime (uv chooses)")
    return texts


def why_not_text(plan: Plan) -> str:
    """One line for each other backend: why its newest release was not chosen."""
    newest: dict[str, Candidate] = {}
    for candidate in plan.candidates:
        newest.setdefault(candidate.backend, candidate)
    chosen = plan.chosen
    rows = []
    others: dict[str, list[str]] = {}
    for backend, candidate in newest.items():
        if chosen is not None and backend == chosen.backend:
            continue
        if candidate.rule in _OF_MANY:
            others.setdefault(f"{candidate.rule}: needs {candidate.wanted}", []).append(backend)
        else:
            found = f"; found {candidate.found}" if candidate.found else ""
            refused = f"{candidate.rule}: needs {candidate.wanted}{found}"
            reason = refused if candidate.verdict == "rejected" else why_second(plan, candidate)
            rows.append((backend, candidate.torch, reason))
    for reason, names in others.items():
        rows.append((f"{names[0]} … {names[-1]}" if len(names) > 2 else ", ".join(names), "", reason))
    return f"{heading('Why not')}\n{columns(rows)}" if rows else ""


def _target(plan: Plan) -> list[tuple[str, str]]:
    target = plan.target
    place = f" in {target.prefix}" if target.prefix else ""
    why = click.style(f" ({target.why})", dim=True) if target.why else ""
    rows = [("target", f"Python {target.python_version}{place}{why}")]
    rows += [
        ("setting", f"{setting.name.replace('_', '-')} = {setting.value} ({setting.source})")
        for setting in plan.settings
        if setting.source != "default"
    ]
    live = f", {len(plan.catalog.live)} index pages read now" if plan.catalog.live else ""
    return [*rows, ("catalog", f"of {plan.catalog.snapshot}{live}")]


def _origin(plan: Plan) -> str:
    if plan.index_url is not None:
        return redact(plan.index_url)
    if any(package.routed for package in plan.packages):
        return ", ".join(plan.find_links)
    return "your default index (PyPI unless you chose another)"


def gpu_used(plan: Plan | None, backend: str | None, report: Report) -> GpuVerdict | None:
    """The GPU that checks ran on; None: they ran on the CPU alone."""
    used = [gpu for gpu in plan.gpus if gpu.covered] if plan is not None else []
    return used[0] if used and backend != "cpu" and any(row.about_device for row in report.checks) else None


_TRY = {
    None: "import torch; print(torch.rand(2, 3))",
    "intel": "import torch; print(torch.xpu.get_device_name())",
    "apple": "import torch; print(torch.ones(3, device='mps'))",
}
_TRY_CUDA = "import torch; print(torch.cuda.get_device_name())"
"""What shows that torch computes on a vendor's GPU, or without one; ROCm builds say `cuda` too."""


def works_text(plan: Plan, report: Report, env: Mapping[str, str], cwd: Path) -> str:
    """What works where, as checks showed, and what to type to see it."""
    gpu = gpu_used(plan, plan.backend, report)
    shown = ("CPU" if gpu is None else gpu.label).removeprefix("NVIDIA ").removeprefix("GeForce ")
    took = f"proved on {report.proved_at}" if report.proved_at else f"{report.seconds:.1f} s"
    python = Path(plan.target.python or "python")
    if plan.target.prefix in (env.get("VIRTUAL_ENV"), env.get("CONDA_PREFIX")):
        python = Path("python")
    elif python.is_relative_to(cwd):
        python = python.relative_to(cwd)
    typed = f'"{python}"' if " " in str(python) else str(python)
    code = _TRY.get(gpu.vendor if gpu is not None else None, _TRY_CUDA)
    works = click.style(f"torch {plan.torch} works on the {shown} ({took}).", bold=True)
    return f'{works} Try: {typed} -c "{code}"'


def counted(word: str, number: int) -> str:
    """`1 node`, `1,200 nodes`."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"


_HARDLY_ANY = 50_000
"""Bytes; less is shown as 0.0 MB."""


def download_text(download: Download) -> str:
    """What comes down, where it goes, and whether there is room."""
    files, taken = counted("file", download.files), sum(room.bytes for room in download.rooms)
    known = download.bytes or len(download.unknown) < download.files
    parts = [f"{size_text(download.bytes)} ({files})" if known else files]
    if download.unknown:
        parts = [f"{' '.join(parts)} and what nobody says the size of: {', '.join(download.unknown)}"]
    place = " and ".join(
        f"about {size_text(room.bytes)} in {room.folder} ({size_text(room.free)} free)"
        for room in download.rooms
        if room.bytes >= _HARDLY_ANY or taken < _HARDLY_ANY
    )
    if not download.files and taken < _HARDLY_ANY and len(download.rooms) == 1:
        folder = download.rooms[0].folder
        return f"downloads: nothing, uv has all of it; takes hardly any disk, for {folder} shares uv's files"
    what = parts[0] if download.files else "nothing, all of it is on this machine"
    return f"downloads: {what}" + (f"; takes {place}" if place else "")
