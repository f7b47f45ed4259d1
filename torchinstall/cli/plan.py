"""`torchinstall plan`: what `auto` would install, why, and why nothing else."""

from __future__ import annotations

from typing import Any, ClassVar

from msgspec import structs

from torchinstall.cli.console import Session
from torchinstall.cli.verb import REQS, Verb
from torchinstall.core.plan import SCHEMA_VERSION, Plan, plan_to_json
from torchinstall.planning.assemble import prepare
from torchinstall.planning.options import PlanOptions

__all__ = ["VERB", "PlanVerbOptions"]


class PlanVerbOptions(PlanOptions, frozen=True, kw_only=True):
    """The options of `plan`."""

    omit: ClassVar = frozenset({"dry_run"})
    explain: str | None = None
    why_not: str | None = None
    json: bool = False


def run(session: Session, options: PlanVerbOptions) -> int:
    """Plan and print; an impossible plan is printed and then raised."""
    if len(options.machine) > 1:
        from torchinstall.cli.fleet import run_fleet

        return run_fleet(session, options)
    console = session.console
    line = prepare(session.context, options, detail=console.detail)
    if options.json:
        console.partial = plan_to_json(line.plan)
    error = line.plan.error
    console.warn_all(line.plan.warnings)
    said = _words(line.plan, options)
    if options.json:
        if said is not None:
            console.partial["explanation"] = list(said)
        if error is None:
            console.out_json(console.partial)
    elif said is not None:
        from torchinstall.cli.text import wrapped

        console.out("\n".join(wrapped(sentence) for sentence in said))
    else:
        from torchinstall.cli.plan_text import plan_text

        console.out(plan_text(line.plan, line.machine))
    if error is not None:
        raise error
    return 0


def _words(plan: Plan, options: PlanVerbOptions) -> tuple[str, ...] | None:
    """What `--explain` or `--why-not` asks for."""
    from torchinstall.planner.explain import explain, why_not

    if (backend := options.explain) is not None:
        return explain(plan, backend)
    if (backend := options.why_not) is not None:
        return why_not(plan, backend)
    return None


def _blank() -> dict[str, Any]:
    """The keys of `plan --json` for a run that failed before there was a plan."""
    empty: dict[str, Any] = {"schema_version": SCHEMA_VERSION}
    for field in structs.fields(Plan):
        empty[field.name] = [] if str(field.type).startswith("tuple") else None
    return {**empty, "status": "impossible", "env": {}}


VERB = Verb(
    "plan",
    run,
    summary="Say what auto would install on this machine, why, and why nothing else.",
    more="Nothing is changed. Without REQ: torch and torchvision.",
    arguments=(REQS,),
    options=PlanVerbOptions,
    examples=(
        ("torchinstall plan", "what would auto install here, and why?"),
        ("torchinstall plan --target-gpu 'NVIDIA H100' --target-driver 580", "for a server without its GPU"),
        (
            "torchinstall plan --machine box.json --python-version 3.12 --json",
            "for a machine that was probed",
        ),
    ),
    passthrough="UV_ARGS",
    blank=_blank,
)
