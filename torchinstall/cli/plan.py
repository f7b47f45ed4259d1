"""`torchinstall plan`: what `auto` would install, why, and why nothing else; for one machine or several."""

from __future__ import annotations

from typing import Any, ClassVar

from torchinstall.cli.console import Session
from torchinstall.cli.text import chosen_text, plan_text, wrapped
from torchinstall.cli.verb import REQS, Verb
from torchinstall.core.plan import SCHEMA_VERSION, Plan, plan_to_json
from torchinstall.install.command import command, shell
from torchinstall.planner.explain import explain, why_not
from torchinstall.planner.situation import make_situation
from torchinstall.planning.assemble import prepare
from torchinstall.planning.context import PlanOptions


class _PlanVerbOptions(PlanOptions, frozen=True, kw_only=True):
    omit: ClassVar = frozenset({"dry_run"})
    explain: str | None = None
    why_not: str | None = None
    format: str | None = None
    check_wheel: bool = False


def run(session: Session, options: _PlanVerbOptions) -> int:
    """Plan and print; an impossible plan is printed and then raised."""
    if len(options.machine) > 1 and not (options.check_wheel or options.format):  # those are for one
        from torchinstall.cli.fleet import several_machines  # one machine is planned for without it

        return several_machines(session, options)
    console = session.console
    prepared = prepare(session.context, options)
    plan = prepared.plan
    if options.check_wheel and plan.status == "ready":
        # The HTTP client is heavy, and few plans look into a wheel.
        from torchinstall.export.wheel_check import checked

        plan = checked(session.context, prepared)
    console.warn_all(plan.warnings)
    explanation = None
    if options.explain is not None:
        explanation = explain(plan, options.explain)
    elif options.why_not is not None:
        explanation = tuple(why_not(plan, options.why_not))
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
        situation = make_situation(prepared.request, prepared.machine, prepared.target, prepared.catalog)
        console.out(plan_text(plan, situation, prepared.distribution))
    if plan.error is not None:
        raise plan.error
    return 0


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
