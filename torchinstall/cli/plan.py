"""`torchinstall plan`: what `auto` would install, why, and why nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torchinstall.cli.planning import PLAN_OPTIONS, REQS, report_warnings
from torchinstall.cli.session import Session
from torchinstall.cli.settings import Settings
from torchinstall.cli.verb import Verb

if TYPE_CHECKING:
    from torchinstall.core.plan import Plan

__all__ = ["VERB"]


def run(session: Session, settings: Settings) -> int:
    """Plan and print; an impossible plan is printed and then raised."""
    from torchinstall.core.plan import plan_to_json
    from torchinstall.planning.assemble import prepare

    if len(settings.texts("machine")) > 1:
        from torchinstall.cli.fleet import run_fleet

        return run_fleet(session, settings)
    console = session.console
    line = prepare(session.context, settings, here=False, detail=console.detail)
    if settings.on("json"):
        console.partial = plan_to_json(line.plan)
    error = line.plan.error
    report_warnings(console, line.plan)
    said = _words(line.plan, settings)
    if settings.on("json"):
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


def _words(plan: Plan, settings: Settings) -> tuple[str, ...] | None:
    """What `--explain` or `--why-not` asks for."""
    from torchinstall.planner.explain import explain, why_not

    if (backend := settings.text("explain")) is not None:
        return explain(plan, backend)
    if (backend := settings.text("why_not")) is not None:
        return why_not(plan, backend)
    return None


def _blank() -> dict[str, Any]:
    from torchinstall.cli.as_json import blank_plan

    return blank_plan()


VERB = Verb(
    "plan",
    run,
    summary="Say what auto would install on this machine, why, and why nothing else.",
    more="Nothing is changed. Without REQ: torch and torchvision.",
    arguments=(REQS,),
    options=(*PLAN_OPTIONS, "python_version", "root", "explain", "why_not", "json"),
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
