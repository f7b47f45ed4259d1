"""`torchinstall plan`: what `auto` would install, why, and why nothing else; for one machine or several."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from msgspec import structs

from torchinstall.cli.console import Session
from torchinstall.cli.text import (
    build_text,
    chosen_text,
    fields,
    gpus_text,
    heading,
    names_text,
    plan_text,
    wrapped,
)
from torchinstall.cli.verb import REQS, Verb
from torchinstall.core.plan import SCHEMA_VERSION, Plan, plan_to_json
from torchinstall.install.command import command, shell
from torchinstall.planner.explain import explain, why_not
from torchinstall.planning.assemble import prepare
from torchinstall.planning.context import PlanOptions
from torchinstall.planning.inputs import machine_of

if TYPE_CHECKING:
    from torchinstall.fleet.classes import Fleet


class _PlanVerbOptions(PlanOptions, frozen=True, kw_only=True):
    omit: ClassVar = frozenset({"dry_run"})
    explain: str | None = None
    why_not: str | None = None
    format: str | None = None
    check_wheel: bool = False


def run(session: Session, options: _PlanVerbOptions) -> int:
    """Plan and print; an impossible plan is printed and then raised."""
    if len(options.machine) > 1 and not (options.check_wheel or options.format):  # those are for one
        return _several_machines(session, options)
    console = session.console
    prepared = prepare(session.context, options)
    plan = prepared.plan
    if options.check_wheel and plan.status == "ready":
        # The HTTP client is heavy, and few plans look into a wheel.
        from torchinstall.export.wheel_check import checked

        plan = checked(session.context, prepared, options.allow_insecure_host)
    console.warn_all(plan.warnings)
    explanation = _explanation(plan, options)
    if console.json:
        console.partial = plan_to_json(plan)
        if explanation is not None:
            console.partial["explanation"] = list(explanation)
        if plan.error is None:
            console.out_json(console.partial)
    elif explanation is not None:
        console.out("\n".join(map(wrapped, explanation)))
    elif options.format == "command":
        console.say(f"{chosen_text(plan)}\n")
        if plan.status == "ready":
            console.out_file(shell(plan if plan.command else command(plan, uv="uv")).rstrip())
    else:
        console.out(plan_text(plan, prepared.machine))
    if plan.error is not None:
        raise plan.error
    return 0


def _explanation(plan: Plan, options: _PlanVerbOptions) -> tuple[str, ...] | None:
    if options.explain is not None:
        return explain(plan, options.explain)
    return None if options.why_not is None else why_not(plan, options.why_not)


def _several_machines(session: Session, options: _PlanVerbOptions) -> int:
    """Plan for every `--machine` and print who gets which build: one for all, or the fewest that do."""
    from torchinstall.fleet.classes import plan_machines  # one machine is planned for without it

    context, console = session.context, session.console
    one_each = {name: structs.replace(options, machine=(name,)) for name in options.machine}
    machines = [(name, machine_of(context, one)) for name, one in one_each.items()]
    planned = plan_machines(context, options, machines)
    fleet = planned.fleet
    console.warn_all(planned.warnings)
    plans = [*(pair for group in fleet.groups for pair in group.plans), *fleet.impossible]
    warnings = [(row.slug, f"{name}: {row.message}") for name, plan in plans for row in plan.warnings]
    for slug, message in dict.fromkeys(warnings):
        console.warn(slug, message)
    console.partial = _fleet_to_json(fleet)
    failed = [plan.error for _, plan in fleet.impossible if plan.error is not None]
    if not (failed and console.json):
        console.answer(console.partial, _fleet_text(fleet))
    if failed:
        raise failed[0]
    return 0


def _fleet_text(fleet: Fleet) -> str:
    """Who gets which build: one part a build, one line for equal machines."""
    parts = []
    number = sum(len(group.plans) for group in fleet.groups)
    if len(fleet.groups) == 1 and number > 1:
        parts.append(f"One build serves all {number} machines.")
    elif fleet.groups:
        parts.append(f"{len(fleet.groups)} builds serve {number} machines; no smaller set does.")
    for group in fleet.groups:
        rows = [("for", f"{names_text(kind.names)}: {gpus_text(plan)}") for kind, plan in group.kinds]
        parts.append(build_text(group.torch, group.backend, group.plans[0][1], rows))
    if fleet.impossible:
        rows = [(name, plan.error.message if plan.error else "no build") for name, plan in fleet.impossible]
        parts.append(f"{heading('No build')}\n{fields(rows)}")
    return "\n\n".join(parts)


def _fleet_to_json(fleet: Fleet) -> dict[str, Any]:
    """Groups with the plan of each of their machines, and the machines that no build serves."""
    groups = [
        {"torch": group.torch, "backend": group.backend, "machines": [*map(_machine_to_json, group.plans)]}
        for group in fleet.groups
    ]
    error = fleet.impossible[0][1].error if fleet.impossible else None
    return {
        "schema_version": 1,
        "status": "impossible" if fleet.impossible else "ready",
        "groups": groups,
        "impossible": [*map(_machine_to_json, fleet.impossible)],
        "error": error and error.to_json(),
    }


def _machine_to_json(machine: tuple[str, Plan]) -> dict[str, Any]:
    return {"name": machine[0], "plan": plan_to_json(machine[1])}


def _blank() -> dict[str, Any]:
    """The keys of `plan --json` for a run that failed before there was a plan."""
    kinds = Plan.__annotations__
    empty: dict[str, Any] = {
        name: [] if kinds[name].startswith("tuple") else None for name in Plan.__struct_fields__
    }
    return {"schema_version": SCHEMA_VERSION, **empty, "status": "impossible", "env": {}}


VERB = Verb(
    "plan",
    run,
    _PlanVerbOptions,
    REQS,
    more="Nothing is changed. Without REQ: torch and torchvision.",
    examples="""
    torchinstall plan  # what would auto install here, and why?
    torchinstall plan --target-gpu 'NVIDIA H100' --target-driver 580  # for a server without its GPU
    torchinstall plan --format command | sh  # run the uv command yourself
    torchinstall plan --machine box.json --python-version 3.12 --json  # for a machine that was probed
""",
    choices={"format": ("text", "command")},
    passthrough="UV_ARGS",
    blank=_blank,
)
