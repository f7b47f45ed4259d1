"""`torchinstall requires`: what a machine must have for a lock, or a build, to run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import click
from msgspec import structs, to_builtins

from torchinstall.catalog.catalog import Catalog
from torchinstall.cli.console import Session, envelope
from torchinstall.cli.text import fields, heading
from torchinstall.cli.verb import Argument, Verb
from torchinstall.core.errors import NoCompatibleBuildError, UsageError
from torchinstall.core.files import read_named
from torchinstall.core.machine import OS_LABELS, Driver
from torchinstall.core.target import foreign_target
from torchinstall.core.versions import dotted_or_none, unprefixed
from torchinstall.fleet.locked import Pinned, builds_of, pinned_in
from torchinstall.fleet.manifests import driver_windows, needs_affinity, needs_filter, needs_slurm, to_yaml
from torchinstall.fleet.requires import PinnedBuild, PlatformNeed, needs_of, runs_on
from torchinstall.planning.context import Options, PlanOptions
from torchinstall.planning.inputs import catalog_of, collect_inputs, machine_of

_MOST_BYTES = 64 * 1024 * 1024
"""Of a lock, which a program writes."""


class _RequiresOptions(Options, frozen=True, kw_only=True):
    reqs: tuple[str, ...] = ()
    requirement: tuple[str, ...] = ()
    python: str | None = None
    venv: str | None = None
    system: bool = False
    python_version: str | None = None
    backend: str = "auto"
    installed: bool = False
    on_machine: str | None = None
    if_: tuple[str, ...] = ()
    format: str | None = None


def run(session: Session, options: _RequiresOptions) -> int:
    """Say what is needed, or whether one machine has it."""
    console, catalog = session.console, catalog_of(session.context)
    builds = _builds(session, options, catalog)
    needs = {build: needs_of(build, catalog) for build in builds}
    everything = [row for rows in needs.values() for row in rows]
    if not everything:
        names = ", ".join(build.name for build in builds)
        raise NoCompatibleBuildError(
            "build-unknown",
            f"nothing is known of {names}",
            wanted="a build of the tables: torchinstall catalog show wheels",
            found=names,
            hints=("torchinstall inspect WHEEL says what a wheel contains",),
        )
    driver = _driver(options.if_)
    rows = [
        {"name": build.name, **to_builtins(build), "platforms": to_builtins(needs[build])} for build in needs
    ]
    console.partial = envelope("ready", builds=rows)
    if options.on_machine is not None:
        return _answer(session, options, builds, catalog, driver)
    if driver is not None:
        broken = [_with(need, driver, catalog) for need in everything]
        console.partial["if"] = {"driver": driver, "platforms": broken}
    console.answer(console.partial, _shown(options, needs, driver, catalog))
    return 0


def _shown(
    options: _RequiresOptions,
    needs: Mapping[PinnedBuild, Sequence[PlatformNeed]],
    driver: str | None,
    catalog: Catalog,
) -> str:
    everything = [row for rows in needs.values() for row in rows]
    if driver is not None or options.format in (None, "text"):
        parts = []
        for build, rows in needs.items():
            beside = f" with {', '.join(build.packages)}" if build.packages else ""
            head = f"{click.style(f'torch {build.name}', bold=True)}{beside} needs one of:"
            parts += [f"torch {build.name} with driver {driver}:" if driver else head] * bool(rows)
            for need in rows:
                title = f"{OS_LABELS[need.os]} {need.arch}" + (", WSL 2" if need.wsl else "")
                lines = _need(need, catalog) if driver is None else _effect(need, driver, catalog)
                parts.append(f"{heading(title)}\n{fields(lines)}")
        return "\n\n".join(parts)
    if options.format == "node-affinity":
        return to_yaml(needs_affinity(everything, catalog)).rstrip()
    if options.format == "slurm":
        constraint = needs_slurm(everything, catalog)
        return f"#SBATCH --constraint={constraint}" if constraint else "# any node will do: it needs no GPU"
    return "\n".join(needs_filter(everything, catalog))


def _builds(session: Session, options: _RequiresOptions, catalog: Catalog) -> list[PinnedBuild]:
    """The builds that a lock, requirements or an environment ask for."""
    context = session.context
    files = list(options.requirement)
    wanted: list[str] = []
    for word in options.reqs:
        lock = context.path(word).suffix in (".lock", ".toml", ".txt")
        (files if lock else wanted).append(word)
    hints = "in a project: uv lock", "without a lock: torchinstall requires torch==2.9.1+cu128"
    pinned = list[Pinned]()
    for name in files:
        path, kind = context.path(name), "a lock in UTF-8"
        text = read_named(path, "bad-lock", name, kind, *hints, most=_MOST_BYTES)
        pinned += pinned_in(text, name, catalog)
    if options.installed:
        plain = PlanOptions.of(options, reqs=(), requirement=())
        target = collect_inputs(context, plain, purpose="examine").target
        pinned += [Pinned(row.name, row.version, row.backend) for row in target.installed]
    if any("==" in word or "@" in word for word in wanted):
        pinned += pinned_in("\n".join(wanted), "the command line", catalog)
    backend = None if options.backend == "auto" else options.backend
    found = builds_of(pinned, catalog, backend)
    if not found and backend is not None and not pinned:
        found = _newest(backend, catalog)
    if not found:
        raise UsageError(
            "not-one-build",
            "what was given does not say which build of torch it is",
            wanted="a lock, a version such as torch==2.9.1+cu128, or --backend cu128",
            found=" ".join((*options.reqs, *(("--backend", backend) if backend and options.reqs else ())))
            or ("no torch in the environment" if options.installed else "no lock and no version of torch"),
            hints=("torchinstall requires uv.lock", "torchinstall requires torch==2.9.1+cu128"),
        )
    return found


def _newest(backend: str, catalog: Catalog) -> list[PinnedBuild]:
    rows = [row for row in catalog.tables.wheels if row.package == "torch" and row.backend == backend]
    versions = [row.version for row in rows if row.confidence != "low"]
    newest = max(versions, key=lambda version: dotted_or_none(version) or (), default=None)
    return [PinnedBuild(newest, backend)] if newest else []


def _driver(conditions: Sequence[str]) -> str | None:
    """The version of `--if driver=470.256.02`."""
    wanted, value = "--if driver=470.256.02", None
    for text in conditions:
        key, _, said = text.partition("=")
        value = unprefixed(said)
        if key.strip() != "driver" or dotted_or_none(value) is None:
            what = f"--if {text} is not a condition"
            raise UsageError("bad-value", what, wanted=wanted, found=text, hints=(wanted,))
    return value


def _answer(
    session: Session,
    options: _RequiresOptions,
    builds: Sequence[PinnedBuild],
    catalog: Catalog,
    driver: str | None,
) -> int:
    """Yes or no for one machine: what the planner says of the build that its platform gets."""
    context, console = session.context, session.console
    name = options.on_machine or ""
    machine = machine_of(context, PlanOptions.of(options, machine=(name,)))
    if driver is not None:
        others = (row for row in machine.drivers if row.vendor != "nvidia")
        machine = structs.replace(machine, drivers=(*others, Driver(vendor="nvidia", version=driver)))
    target = foreign_target(machine, options.python_version or context.python_version)
    mine = [build for build in builds if not build.platforms or target.platform in build.platforms]
    plans = [(build, runs_on(build, machine, target, catalog)) for build in mine or builds]
    build, made = next((pair for pair in plans if pair[1].error is None), plans[0])
    by = ", ".join(dict.fromkeys(gpu.by for gpu in made.gpus if gpu.covered))
    on = {"machine": name, "build": build.name, "runs": made.error is None, "by": by}
    text = f"no: {build.name} does not run on {name}"
    if made.error is None:
        how = by or "on the processor"
        text = f"yes: {build.name} runs on {name} ({how}), Python {target.python_version}"
    console.answer({**console.partial, "on": on}, text, made.error)
    return 0


def _need(need: PlatformNeed, catalog: Catalog) -> list[tuple[str, str]]:
    """What one platform needs, and the facts that set each bound."""
    rows = [("Python", ", ".join(re.sub(r"cp3(\d+)m?", r"3.\1", abi) for abi in need.systems))]
    floors = list(dict.fromkeys(need.systems.values()))
    if floors != [None] or need.os == "linux":
        system = "glibc" if need.os == "linux" else "macOS"
        some = "any" if floors == [None] else "any version"
        rows += [(system, f"{floor} or newer" if floor else some) for floor in floors]
    rows += [("CPU", f"with {', '.join(need.cpu)}")] if need.cpu else []
    rows += [("Jetson", f"Jetson Linux {need.l4t} or newer")] if need.l4t else []
    for row in need.gpus:
        drivers = " or ".join(window.text for window in driver_windows(row, catalog))
        rows.append(("GPU", " ".join(row.codes) + (f": driver {drivers}" if drivers else "")))
    facts = (f"{row.bound} {row.value} ({row.table}: {row.source}, {row.confidence})" for row in need.facts)
    return [*rows, *(("set by", text) for text in dict.fromkeys(facts))]


def _with(need: PlatformNeed, driver: str, catalog: Catalog) -> dict[str, Any]:
    """What runs there with a driver, and what breaks: its code, and the driver that it needs."""
    version = dotted_or_none(driver) or ()
    runs: list[str] = []
    breaks: dict[str, str] = {}
    for row in need.gpus:
        windows = driver_windows(row, catalog)
        if not row.drivers or any(window.holds(version) for window in windows):
            runs += row.codes
        else:
            breaks |= dict.fromkeys(row.codes, " or ".join(window.text for window in windows))
    return {"platform": need.platform, "wsl": need.wsl, "runs": runs, "breaks": breaks}


def _effect(need: PlatformNeed, driver: str, catalog: Catalog) -> list[tuple[str, str]]:
    row = _with(need, driver, catalog)
    by_reason: dict[str, list[str]] = {}
    for code, reason in row["breaks"].items():
        by_reason.setdefault(f"driver {reason} is needed", []).append(code)
    lines = [("breaks", f"{' '.join(codes)}: {reason}") for reason, codes in by_reason.items()]
    return [*lines, ("runs", " ".join(row["runs"]) or ("nothing" if need.gpus else "it needs no GPU"))]


VERB = Verb(
    "requires",
    run,
    _RequiresOptions,
    Argument("reqs", "[LOCK|REQ]...", "A lock, or torch==2.9.1+cu128."),
    more="The opposite of plan: drivers, GPUs, system and Python, each with the fact that sets it. LOCK is "
    "uv.lock, pylock.toml, poetry.lock, or requirements with versions.",
    examples="""
    torchinstall requires uv.lock  # where does this project run?
    torchinstall requires torch==2.9.1+cu128 --on box.json  # does it run on that machine?
    torchinstall requires --installed --if driver=470.256.02  # what breaks with an older driver?
    torchinstall requires uv.lock --format node-affinity  # a selector for Kubernetes
""",
    choices={"format": ("text", "node-affinity", "slurm", "filter")},
)
