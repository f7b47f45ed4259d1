"""`torchinstall fleet`: inventories in; the fewest builds that serve their machines, and their files, out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import PurePath
from typing import Any, ClassVar

import click
from msgspec import structs

from torchinstall.cli.console import Console, Session, envelope
from torchinstall.cli.text import counted, fields, heading, package_texts, wrapped
from torchinstall.cli.verb import Argument, Verb
from torchinstall.core.errors import InstallFailedError, NoCompatibleBuildError, UsageError
from torchinstall.core.machine import Machine, machine_to_json
from torchinstall.core.plan import Plan, plan_to_json
from torchinstall.core.request import canonical_name
from torchinstall.core.target import foreign_target
from torchinstall.export.containers import IMAGE_LIBC, container_machine
from torchinstall.export.formats import FORMATS
from torchinstall.export.inputs import export_input
from torchinstall.export.resolve import resolve
from torchinstall.fleet.classes import Fleet, Group, Kind, PlannedFleet, plan_machines
from torchinstall.fleet.inventories import INVENTORIES, read_inventories
from torchinstall.fleet.manifests import INDEX, affinity, slurm_conf, to_yaml, write_folder
from torchinstall.fleet.nodes import Assumption, Node, parse_assumed
from torchinstall.install.uv import Uv
from torchinstall.planner.selection import plan
from torchinstall.planning.context import Context, PlanOptions
from torchinstall.planning.inputs import Prepared, catalog_of, machine_of

_SUFFIXES = (".json", ".yaml", ".yml", ".csv", ".tsv", ".prom", ".txt", ".ndjson", ".jsonl", ".xml", ".log")

_SHOWN = 4
"""Of the names of machines."""


class _FleetOptions(PlanOptions, frozen=True, kw_only=True):
    omit: ClassVar = frozenset(
        {"dry_run", "upgrade", "machine", "root", "python", "venv", "system", "target_gpu", "target_driver"}
        | {"target_cuda", "reqs", "respect_visible_devices", "prefer_gpu", "fallback"}
    )
    words: tuple[str, ...] = ()
    format: str | None = None
    assume: tuple[str, ...] = ()
    export_dir: str | None = None


def run(session: Session, options: _FleetOptions) -> int:
    """Read, plan, print and write."""
    console, context = session.console, session.context
    inventories, reqs = _split(session, options.words)
    catalog = catalog_of(context)
    assumed = parse_assumed(options.assume, catalog)
    nodes = read_inventories(context, inventories, options.format, catalog, assumed, IMAGE_LIBC)
    machines = [(node.name, node.machine) for node in nodes if node.machine is not None]
    options = structs.replace(options, reqs=reqs)
    if not machines:
        raise _none(nodes)
    planned = plan_machines(context, options, machines, savings=True)
    fleet = planned.fleet
    console.warn_all(planned.warnings)
    _warn(console, fleet, "node")
    if fleet.groups and fleet.left_out:
        lost = counted("node", len(fleet.impossible))
        console.warn("nodes-left-out", f"no build serves {lost}; see Left out")
    console.partial = _to_json(fleet, nodes)
    if not fleet.groups:
        raise fleet.left_out[0][1].error or _none(nodes)
    if options.export_dir is not None:
        files = _files(session, options, planned, nodes)
        write_folder(context.path(options.export_dir), files)
        console.say(f"wrote {len(files)} files to {options.export_dir}")
    console.answer(console.partial, _text(fleet, nodes))
    return 0


def _split(session: Session, words: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Inventories and requirements: what comes first, is a file or is called like one is an inventory."""
    families = {row.package for row in catalog_of(session.context).families}
    inventories: list[str] = []
    reqs: list[str] = []
    for word in words:
        named = word == "-" or PurePath(word).suffix.lower() in _SUFFIXES or word.endswith("/")
        there = canonical_name(word) not in families and session.context.path(word).exists()
        wheel = word.endswith(".whl")
        (inventories if not wheel and (not inventories or named or there) else reqs).append(word)
    if not inventories:
        raise UsageError(
            "no-inventory",
            "no inventory was given",
            wanted="a file or folder, or - for stdin",
            found=" ".join(words) or "nothing",
            hints=("kubectl get nodes -o json | torchinstall fleet -",),
        )
    return tuple(inventories), tuple(reqs)


def _none(nodes: Sequence[Node]) -> NoCompatibleBuildError:
    reasons = dict.fromkeys(node.unusable or "" for node in nodes)
    missing = any("--assume" in reason for reason in reasons)
    hint = "say what is missing: --assume gpu=h100 --assume driver=580"
    return NoCompatibleBuildError(
        "no-usable-node",
        "nothing can be planned for any of these nodes",
        wanted="nodes whose GPUs are known",
        found="; ".join(reasons),
        hints=(hint if missing else "give nodes that PyTorch has builds for, and whose GPUs are described",),
    )


def several_machines(session: Session, options: PlanOptions) -> int:
    """`plan` for every `--machine`: who gets which build, one for all or the fewest that do."""
    context, console = session.context, session.console
    one_each = {name: structs.replace(options, machine=(name,)) for name in options.machine}
    machines = [(name, machine_of(context, one)) for name, one in one_each.items()]
    planned = plan_machines(context, options, machines)
    fleet = planned.fleet
    console.warn_all(planned.warnings)
    _warn(console, fleet, "machine")
    error = fleet.impossible[0][1].error if fleet.impossible else None
    rows = [
        {"torch": row.torch, "backend": row.backend, "machines": [*map(_planned, row.plans)]}
        for row in fleet.groups
    ]
    lost = [*map(_planned, fleet.impossible)]
    data = envelope("impossible" if error else "ready", groups=rows, impossible=lost)
    console.answer(data, "\n\n".join(_builds(fleet, "machine", _left_out(fleet))), error)
    return 0


def _planned(machine: tuple[str, Plan]) -> dict[str, Any]:
    return {"name": machine[0], "plan": plan_to_json(machine[1])}


def _warn(console: Console, fleet: Fleet, word: str) -> None:
    """Each warning once, with the machine or the number of machines that it is about."""
    names: dict[tuple[str, str], list[str]] = {}
    flag = "--assume driver=" if word == "node" else "--target-driver "
    for kind, made in [pair for group in fleet.groups for pair in group.kinds]:
        for row in made.warnings:
            text = row.message.replace("--target-driver ", flag)
            names.setdefault((row.slug, text), []).extend(kind.names)
    for (slug, message), about in names.items():
        console.warn(slug, f"{_one_or_count(word, about)}: {message}")


def _text(fleet: Fleet, nodes: Sequence[Node]) -> str:
    kinds = counted("kind", sum(len(group.kinds) for group in fleet.groups) + len(fleet.left_out))
    formats = ", ".join(dict.fromkeys(node.format for node in nodes))
    rows = [("inventory", f"{counted('node', len(nodes))} ({formats}), {kinds} of machines")]
    for row, count in _assumed(nodes).items():
        name, value = ("unknown", row.fact) if row.value is None else ("assumed", f"{row.fact} {row.value}")
        rows.append((name, f"{value} for {counted('node', count)} ({row.why})"))
    parts = [fields(rows), *_builds(fleet, "node", _left_out(fleet, nodes))]
    if fleet.savings:
        saved = [
            f"Drivers of {counted('node', len(row.names))} to {row.driver} or newer "
            f"(R{row.driver.partition('.')[0]}): {counted('build', row.builds)} instead of "
            f"{len(fleet.groups)} ({_names(row.names)})."
            for row in fleet.savings
        ]
        parts.append("\n".join((heading("What a driver update would save"), *map(wrapped, saved))))
    return "\n\n".join(parts)


def _builds(fleet: Fleet, word: str, left: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """How many builds serve the machines, each build with its machines, and which are left out, and why."""
    count, number = len(fleet.groups), sum(len(group.plans) for group in fleet.groups)
    bound = "fewer do not" if fleet.proven else f"at least {fleet.at_least} are needed"
    if count == 1:
        yield f"One build serves {'all ' * (number > 1 and not fleet.left_out)}{counted(word, number)}."
    elif count:
        yield f"{count} builds serve {counted(word, number)}; {bound}."
    for part in fleet.classes:
        backend = click.style(part.backend, fg="green", bold=True)
        rows = [("installs", text) for text in package_texts(part.kinds[0][1])]
        rows += [
            ("for", f"{_one_or_count(word, kind.names)}: {_machine(kind, made)}") for kind, made in part.kinds
        ]
        rows.append((f"{word}s", _names(part.names)))
        yield f"{heading(f'torch {part.torch}, backend {backend}, {part.platform}')}\n{fields(rows)}"
    if left:
        rows = [(counted(word, len(names)), f"{reason} ({_names(names)})") for reason, names in left.items()]
        yield f"{heading('Left out')}\n{fields(rows)}"


def _machine(kind: Kind, made: Plan) -> str:
    """`8 x NVIDIA H100 (sm_90), driver 580.95.05`."""
    gpus = [f"{gpu.label} ({gpu.by if gpu.covered else f'not used: {gpu.by}'})" for gpu in made.gpus]
    counts = {text: gpus.count(text) for text in gpus} or {"no GPU": 1}
    drivers = (f"driver {row.version or 'unknown'}" for row in kind.machine.drivers)
    return ", ".join(
        (*(f"{count} x {text}" if count > 1 else text for text, count in counts.items()), *drivers)
    )


def _one_or_count(word: str, names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else counted(word, len(names))


def _names(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else "")


def _left_out(fleet: Fleet, nodes: Iterable[Node] = ()) -> dict[str, list[str]]:
    """Reason -> the machines that it keeps out."""
    found: dict[str, list[str]] = {}
    for kind, made in fleet.left_out:
        found.setdefault(made.error.message if made.error else "no build", []).extend(kind.names)
    for node in nodes:
        if node.unusable is not None:
            found.setdefault(node.unusable, []).append(node.name)
    return found


def _assumed(nodes: Sequence[Node]) -> Counter[Assumption]:
    """What was assumed or stays unknown, and for how many nodes."""
    return Counter(row for node in nodes for row in node.assumed)


def _to_json(fleet: Fleet, nodes: Sequence[Node]) -> dict[str, Any]:
    left = _left_out(fleet, nodes)
    return envelope(
        "impossible" if not fleet.groups else "partial" if left else "ready",
        nodes=len(nodes),
        assumed=[{**structs.asdict(row), "nodes": count} for row, count in _assumed(nodes).items()],
        classes=[_class_to_json(row) for row in fleet.classes],
        builds=len(fleet.groups),
        proven=fleet.proven,
        at_least=fleet.at_least,
        left_out=[{"reason": reason, "nodes": names} for reason, names in left.items()],
        savings=[{**structs.asdict(row), "before": len(fleet.groups)} for row in fleet.savings],
    )


def _class_to_json(row: Group) -> dict[str, Any]:
    return {
        "name": row.name,
        "torch": row.torch,
        "backend": row.backend,
        "platform": row.platform,
        "nodes": list(row.names),
        "kinds": [
            {"nodes": list(kind.names), "machine": machine_to_json(kind.machine), "plan": plan_to_json(made)}
            for kind, made in row.kinds
        ],
    }


def _files(
    session: Session, options: _FleetOptions, planned: PlannedFleet, nodes: Sequence[Node]
) -> dict[str, str]:
    """Everything for `--export-dir`, by path; nothing is written before all of it is there."""
    context, fleet = session.context, planned.fleet
    uv = context.find_uv(context.env)
    files: dict[str, str] = {}
    rows = []
    for row in fleet.classes:
        session.console.working(f"resolving what {row.name} needs")
        mine = {"nodes.txt": "".join(f"{name}\n" for name in row.names)}
        kind = row.kinds[0][0]
        lock, name = ("constraints", "constraints.txt") if options.offline else ("pylock", "pylock.toml")
        mine[name] = _exported(context, planned, row, kind.machine, lock, uv)
        if kind.machine.os == "linux":
            image = container_machine(kind.machine)
            try:
                mine["Dockerfile"] = _exported(context, planned, row, image, "dockerfile", uv)
            except InstallFailedError as error:
                if not options.offline:
                    raise
                session.console.warn("file-left-out", f"{row.name}/Dockerfile: {error.message} (--offline)")
        names = set(row.names)
        for format_name in ("kubernetes", "slurm"):
            like = [node for node in nodes if node.format == format_name]
            inside = [node for node in like if node.name in names]
            outside = [node for node in like if node.name not in names]
            if inside and format_name == "slurm":
                mine["slurm.conf"] = slurm_conf(row.name, inside, outside)
            elif inside:
                head = f"# The nodes of {row.name}. It belongs below spec.affinity of a Pod.\n"
                mine["affinity.yaml"] = head + to_yaml(affinity(inside, outside))
        files |= {f"{row.name}/{name}": text for name, text in mine.items()}
        rows.append({**_class_to_json(row), "kinds": len(row.kinds), "files": list(mine)})
    index = {key: value for key, value in _to_json(fleet, nodes).items() if key != "error"}
    index |= {"classes": rows, "files": list(files)}
    return {**files, INDEX: json.dumps(index, indent=2, ensure_ascii=False) + "\n"}


def _exported(
    context: Context, planned: PlannedFleet, row: Group, machine: Machine, format_name: str, uv: Uv
) -> str:
    """The build of a class as one of the formats of `export`, for a machine."""
    inputs = planned.inputs
    target = foreign_target(machine, inputs.target.python_version + "t" * inputs.target.abi.endswith("t"))
    request = structs.replace(inputs.request, only=(row.torch, row.backend))
    made = plan(request, machine, target, inputs.catalog)
    if made.error is not None:
        raise made.error
    if format_name == "constraints":  # versions that only torch's own metadata names need uv and a network
        known_ones = tuple(row for row in made.packages if row.version is not None or not row.routed)
        made = structs.replace(made, packages=known_ones)
    known = {**structs.asdict(inputs), "machine": machine, "target": target, "request": request}
    prepared = Prepared(**known, plan=made)
    lock = partial(resolve, context, prepared, uv)
    return FORMATS[format_name](export_input(prepared, uv=uv, resolve=lock, base=context.cwd))


VERB = Verb(
    "fleet",
    run,
    _FleetOptions,
    Argument(
        "words", "INVENTORY... [REQ]...", "Inventories, then requirements such as torch or 'torch>=2.6'."
    ),
    more="INVENTORY is a file or folder, or - for stdin: nodes and resourceslices of kubectl, scontrol show "
    "node, facts of Ansible, nomad node status -json, metrics of a GPU exporter, what nvidia-smi, rocm-smi "
    "or lspci print, machine files, or a table with named columns. Without REQ: torch and torchvision.",
    examples="""
    kubectl get nodes -o json | torchinstall fleet -  # which builds does this cluster need?
    torchinstall fleet slurm.json --assume driver=570.124 --assume libc=2.34 torch  # no driver known
    torchinstall fleet nodes.json --export-dir images  # locks, Dockerfiles and node selectors
""",
    choices={"format": INVENTORIES},
)
