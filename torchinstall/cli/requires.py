"""`torchinstall requires`: what a machine must have for a lock, or a build, to run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, ClassVar

import click
from msgspec import structs, to_builtins

from torchinstall.catalog.catalog import Catalog
from torchinstall.cli.console import Session, envelope
from torchinstall.cli.text import fields, heading
from torchinstall.cli.verb import Argument, Verb
from torchinstall.core.errors import NoCompatibleBuildError, UsageError
from torchinstall.core.machine import Driver, Machine
from torchinstall.core.plan import Plan
from torchinstall.core.target import Target, foreign_target
from torchinstall.core.versions import dotted_or_none
from torchinstall.fleet.locked import Pinned, builds_of, pinned_in
from torchinstall.fleet.manifests import driver_windows, needs_affinity, needs_filter, needs_slurm, to_yaml
from torchinstall.fleet.requires import Build, PlatformNeed, needs_of, runs_on
from torchinstall.planning.inputs import catalog_of, collect_inputs, machine_of
from torchinstall.planning.options import PlanOptions

FORMATS = ("text", "node-affinity", "slurm", "filter")
_SYSTEMS = {"linux": "Linux", "windows": "Windows", "macos": "macOS"}


class RequiresOptions(PlanOptions, frozen=True, kw_only=True):
    """The options of `requires`."""

    omit: ClassVar = frozenset(
        {"dry_run", "upgrade", "machine", "root", "target_gpu", "target_driver", "target_cuda", "constraint"}
        | {"respect_visible_devices", "prefer_gpu", "require_gpu", "allow_cpu", "offline", "refresh"}
        | {"index_base", "find_links", "allow_insecure_host", "channel", "need", "vendor_index"}
        | {"allow_build", "companion_source", "fallback"}
    )
    installed: bool = False
    on_machine: str | None = None
    if_: tuple[str, ...] = ()
    format: str | None = None


def run(session: Session, options: RequiresOptions) -> int:
    """Say what is needed, or whether one machine has it."""
    console, catalog = session.console, catalog_of(session.context)
    builds = _builds(session, options, catalog)
    needs = {build: needs_of(build, catalog) for build in builds}
    if not any(needs.values()):
        raise _unknown(builds)
    driver = _driver(options.if_)
    console.partial = envelope("ready", builds=[_to_json(build, rows) for build, rows in needs.items()])
    if options.on_machine is not None:
        return _answer(session, options, builds, catalog, driver)
    everything = [row for rows in needs.values() for row in rows]
    if driver is not None:
        console.partial["if"] = {
            "driver": driver,
            "platforms": [_if_json(row, driver, catalog) for row in everything],
        }
    if session.console.json:
        console.out_json(console.partial)
    elif driver is not None:
        console.out(
            "\n\n".join(_if_text(build, rows, driver, catalog) for build, rows in needs.items() if rows)
        )
    elif options.format in (None, "text"):
        console.out("\n\n".join(_text(build, rows, catalog) for build, rows in needs.items() if rows))
    else:
        console.out(_written(options.format or "", everything, catalog))
    return 0


def _builds(session: Session, options: RequiresOptions, catalog: Catalog) -> list[Build]:
    """The builds that a lock, requirements or an environment ask for.

    Raises:
        UsageError: `not-one-build`: they leave it open; `bad-lock`.
    """
    context = session.context
    pinned: list[Pinned] = []
    wanted: list[str] = []
    for word in options.reqs:
        path = context.path(word)
        if path.suffix in (".lock", ".toml", ".txt") and (path.is_file() or "/" in word):
            pinned += pinned_in(_read(path.name, path), word, catalog)
        else:
            wanted.append(word)
    for name in options.requirement:
        pinned += pinned_in(_read(name, context.path(name)), name, catalog)
    if options.installed:
        plain = PlanOptions.of(options, reqs=(), requirement=())
        target = collect_inputs(context, plain, detail=session.console.detail, purpose="examine").target
        pinned += [Pinned(row.name, row.version, row.backend) for row in target.installed]
    pinned += pinned_in("\n".join(wanted), "the command line", catalog) if _pins(wanted) else []
    backend = None if options.backend == "auto" else options.backend
    found = builds_of(pinned, catalog, backend)
    if not found and backend is not None and not pinned:
        found = _newest(backend, catalog)
    if not found:
        raise UsageError(
            "not-one-build",
            "what was given does not say which build of torch it is",
            wanted="a lock, a version such as torch==2.9.1+cu128, or --backend cu128",
            found=" ".join(options.reqs) or "no lock and no version of torch",
            hints=("torchinstall requires uv.lock", "torchinstall requires torch==2.9.1+cu128"),
        )
    return found


def _pins(words: Sequence[str]) -> bool:
    return any("==" in word or "@" in word for word in words)


def _read(name: str, path: Any) -> str:
    try:
        return str(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            "bad-lock",
            f"{name} cannot be read",
            wanted="a lock in UTF-8",
            found=getattr(error, "strerror", None) or str(error),
            hints=("uv lock",),
        ) from error


def _newest(backend: str, catalog: Catalog) -> list[Build]:
    rows = [row for row in catalog.tables.wheels if row.package == "torch" and row.backend == backend]
    newest = max((row.version for row in rows if row.confidence != "low"), key=_order, default=None)
    return [Build(newest, backend)] if newest else []


def _order(version: str) -> tuple[int, ...]:
    return dotted_or_none(version) or ()


def _unknown(builds: Sequence[Build]) -> NoCompatibleBuildError:
    return NoCompatibleBuildError(
        "build-unknown",
        f"nothing is known of {', '.join(build.name for build in builds)}",
        wanted="a build of the tables: torchinstall catalog show wheels",
        found=", ".join(build.name for build in builds),
        hints=("torchinstall inspect WHEEL says what a wheel contains",),
    )


def _driver(conditions: Sequence[str]) -> str | None:
    """The version of `--if driver=470.256.02`.

    Raises:
        UsageError: another condition, or no version.
    """
    found = None
    for text in conditions:
        key, _, value = text.partition("=")
        if key.strip() != "driver" or dotted_or_none(value) is None:
            raise UsageError(
                "bad-value",
                f"--if {text} is no condition",
                wanted="--if driver=470.256.02",
                found=text,
                hints=("--if driver=470.256.02",),
            )
        found = value.strip()
    return found


def _answer(
    session: Session, options: RequiresOptions, builds: Sequence[Build], catalog: Catalog, driver: str | None
) -> int:
    """Yes or no for one machine: what the planner says of the build that its platform gets.

    Raises:
        TorchInstallError: no: the planner's own reason.
    """
    context, console = session.context, session.console
    name = options.on_machine or ""
    machine = machine_of(context, structs.replace(options, machine=(name,)))
    if driver is not None:
        machine = _with_driver(machine, driver)
    target = foreign_target(machine, options.python_version or context.python_version)
    mine = [build for build in builds if not build.platforms or target.platform in build.platforms]
    plans = [(build, runs_on(build, machine, target, catalog)) for build in mine or builds]
    build, made = next((pair for pair in plans if pair[1].error is None), plans[0])
    console.partial |= {
        "on": {"machine": name, "build": build.name, "runs": made.error is None, "by": _by(made)}
    }
    if made.error is not None:
        if not session.console.json:
            console.out(f"no: {build.name} does not run on {name}")
        raise made.error
    if session.console.json:
        console.out_json(console.partial)
    else:
        console.out(f"yes: {build.name} runs on {name} ({_by(made) or 'on the processor'}), {_for(target)}")
    return 0


def _for(target: Target) -> str:
    return f"Python {target.python_version}"


def _by(made: Plan) -> str:
    """The code that runs there."""
    return ", ".join(dict.fromkeys(gpu.by for gpu in made.gpus if gpu.covered))


def _with_driver(machine: Machine, version: str) -> Machine:
    others = tuple(row for row in machine.drivers if row.vendor != "nvidia")
    return structs.replace(machine, drivers=(*others, Driver(vendor="nvidia", version=version)))


def _written(name: str, needs: Sequence[PlatformNeed], catalog: Catalog) -> str:
    if name == "node-affinity":
        return to_yaml(needs_affinity(needs, catalog)).rstrip()
    if name == "slurm":
        return f"#SBATCH --constraint={needs_slurm(needs, catalog)}"
    return "\n".join(needs_filter(needs, catalog))


def _title(need: PlatformNeed) -> str:
    return f"{_SYSTEMS[need.os]} {need.arch}" + (", WSL 2" if need.wsl else "")


def _text(build: Build, needs: Sequence[PlatformNeed], catalog: Catalog) -> str:
    beside = f" with {', '.join(build.packages)}" if build.packages else ""
    parts = [f"{click.style(f'torch {build.name}', bold=True)}{beside} needs one of:"]
    for need in needs:
        rows = [("Python", _pythons(need))]
        rows += [("glibc" if need.os == "linux" else "macOS", text) for text in _floors(need)]
        rows += [("CPU", f"with {', '.join(need.cpu)}")] if need.cpu else []
        rows += [("Jetson", f"Jetson Linux {need.l4t} or newer")] if need.l4t else []
        for row in need.gpus:
            codes = " ".join(row.codes)
            drivers = " or ".join(window.text for window in driver_windows(row, catalog))
            rows.append(("GPU", f"{codes}: driver {drivers}" if drivers else codes))
        rows += [("set by", text) for text in _facts(need)]
        parts.append(f"{heading(_title(need))}\n{fields(rows)}")
    return "\n\n".join(parts)


def _pythons(need: PlatformNeed) -> str:
    names = [re.sub(r"cp3(\d+)m?", r"3.\1", abi) for abi in need.systems]
    return ", ".join(names)


def _floors(need: PlatformNeed) -> list[str]:
    floors = list(dict.fromkeys(need.systems.values()))
    if floors == [None]:
        return ["any"] if need.os == "linux" else []
    return [f"{floor or 'any version'}{' or newer' if floor else ''}" for floor in floors]


def _facts(need: PlatformNeed) -> list[str]:
    rows = (f"{row.bound} {row.value} ({row.table}: {row.source}, {row.confidence})" for row in need.facts)
    return list(dict.fromkeys(rows))


def _to_json(build: Build, needs: Sequence[PlatformNeed]) -> dict[str, Any]:
    return {"name": build.name, **to_builtins(build), "platforms": [to_builtins(need) for need in needs]}


def _if_json(need: PlatformNeed, driver: str, catalog: Catalog) -> dict[str, Any]:
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


def _if_text(build: Build, needs: Sequence[PlatformNeed], driver: str, catalog: Catalog) -> str:
    parts = [f"torch {build.name} with driver {driver}:"]
    for need in needs:
        row = _if_json(need, driver, catalog)
        by_reason: dict[str, list[str]] = {}
        for code, reason in row["breaks"].items():
            by_reason.setdefault(reason, []).append(code)
        rows = [
            ("breaks", f"{' '.join(codes)}: driver {reason} is needed") for reason, codes in by_reason.items()
        ]
        rows.append(("runs", " ".join(row["runs"]) or ("nothing" if need.gpus else "it needs no GPU")))
        parts.append(f"{heading(_title(need))}\n{fields(rows)}")
    return "\n\n".join(parts)


VERB = Verb(
    "requires",
    run,
    RequiresOptions,
    Argument("reqs", "[LOCK|REQ]...", "A lock, or torch==2.9.1+cu128."),
    more="The opposite of plan: drivers, GPUs, system and Python, each with the fact that sets it. LOCK is "
    "uv.lock, pylock.toml, poetry.lock, or requirements with versions.",
    examples="""
    torchinstall requires uv.lock  # where does this project run?
    torchinstall requires torch==2.9.1+cu128 --on box.json  # does it run on that machine?
    torchinstall requires --installed --if driver=470.256.02  # what breaks with an older driver?
    torchinstall requires uv.lock --format node-affinity  # a selector for Kubernetes
""",
    choices={"format": FORMATS},
)
