"""`torchinstall auto`: probe, plan, install with uv, verify."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import structs

from torchinstall.cli.planning import PLAN_OPTIONS, REQS, report_warnings
from torchinstall.cli.session import Session
from torchinstall.cli.settings import Settings
from torchinstall.cli.verb import Verb

if TYPE_CHECKING:
    from torchinstall.cli.console import Console
    from torchinstall.install.execute import Result
    from torchinstall.install.transaction import Done
    from torchinstall.install.verify import Report
    from torchinstall.planning.assemble import Line

__all__ = ["VERB"]


def run(session: Session, settings: Settings) -> int:
    """Walk the whole line; what is printed on stdout is the outcome."""
    from torchinstall.cli.plan_text import chosen_text, why_not_text
    from torchinstall.core.plan import plan_to_json
    from torchinstall.planning.assemble import prepare

    console = session.console
    line = prepare(session.context, settings, here=True, detail=console.detail)
    if console.json:
        console.partial["plan"] = plan_to_json(line.plan)
    console.say(f"target: Python {line.target.python_version} in {line.target.prefix} ({line.target.why})")
    report_warnings(console, line.plan)
    if line.plan.error is not None:
        console.say(why_not_text(line.plan))
        raise line.plan.error
    console.say(chosen_text(line.plan))
    console.detail(why_not_text(line.plan))
    console.say()
    if settings.on("dry_run"):
        return _finish(session, settings, line, _rehearse(session, settings, line), None)
    done, report = _carried_out(session, settings, line, again=True)
    return _finish(session, settings, done.line, done.result, report)


def _carried_out(
    session: Session, settings: Settings, line: Line, *, again: bool
) -> tuple[Done, Report | None]:
    """Install and prove; a build that does not compute on the device gives way to the next, once.

    Raises:
        VerifyFailedError: what is installed does not compute.
        TorchInstallError: it could not be installed.
    """
    from torchinstall.cli.plan_text import verify_text
    from torchinstall.core.plan import plan_to_json
    from torchinstall.install.transaction import carry_out
    from torchinstall.install.verify import failure

    console = session.console
    done = carry_out(
        line,
        session.context,
        tell=console.say,
        warn=console.warn,
        widen=lambda before, names: _widened(session, settings, before, names),
        uv_talk=_uv_talk(console),
    )
    console.partial["plan"] = plan_to_json(done.line.plan)
    if not settings.on("verify"):
        return done, None
    report = _proof(session, settings, done.line)
    if report.ok:
        return done, report
    console.say(verify_text(report, full=True))
    other = _without(session, settings, done.line) if again and report.blames_build else None
    if other is None:
        raise failure(report)
    return _carried_out(session, settings, other, again=False)


def _widened(session: Session, settings: Settings, line: Line, names: tuple[str, ...]) -> Line:
    """The line with packages of the torch family that something else turned out to need.

    Raises:
        TorchInstallError: no build has them all.
    """
    from torchinstall.planning.assemble import prepare

    console = session.console
    console.say(f"planning again, since this is needed too: {', '.join(names)}")
    failed = line.order.request.failed
    wider = prepare(session.context, settings, here=True, detail=console.detail, failed=failed, also=names)
    if wider.plan.error is not None:
        raise wider.plan.error
    return wider


def _without(session: Session, settings: Settings, line: Line) -> Line | None:
    """The line without the build that did not compute; None where the user named it or nothing is left."""
    from torchinstall.planning.assemble import prepare

    console, chosen = session.console, line.plan.chosen
    if chosen is None or line.order.request.backend != "auto":
        return None
    build = (chosen.torch, chosen.backend)
    other = prepare(session.context, settings, here=True, detail=console.detail, failed=(build,))
    if other.plan.status == "impossible" or other.plan.backend is None:
        return None
    console.warn(
        "did-not-compute",
        f"torch {build[0]}+{build[1]} does not compute on this machine; trying {other.plan.torch} instead",
    )
    return other


def _uv_talk(console: Console) -> tuple[str, ...]:
    """How loud and how coloured uv is: as loud and as coloured as we are."""
    colour = ("--color", console.color) if console.color != "auto" else ()
    loud = ("--quiet",) if console.quiet else ("--verbose",) if console.verbose > 1 else ()
    return (*colour, *loud)


def _rehearse(session: Session, settings: Settings, line: Line) -> Result | None:
    """Let uv say what it would do, where it can: the environment is there and so is the index."""
    from torchinstall.install.execute import run as run_uv

    if line.place is not None and line.place.base is not None:
        session.console.say(f"would make the environment {line.target.prefix} first")
        return None
    if line.index_down or not line.plan.command:
        return None
    context = session.context
    result = run_uv(line.plan, env=context.env, sink=context.stderr_bytes, cwd=context.cwd)
    strays = line.strays(row.name for row in result.changes or ())
    if not strays:
        return result
    wider = _widened(session, settings, line, strays)
    return run_uv(wider.plan, env=context.env, sink=context.stderr_bytes, cwd=context.cwd)


def _proof(session: Session, settings: Settings, line: Line) -> Report:
    """Run the checks on what is installed."""
    from torchinstall.install.verify import report_to_json, verify, wanted_of

    console, plan = session.console, line.plan
    backend = line.catalog.backend(plan.backend) if plan.backend else None
    console.detail("checking that torch computes")
    wanted = wanted_of(plan, backend)
    request = line.order.request
    declared = request.target_gpus or request.target_driver or request.target_cuda is not None
    if declared or settings.given("machine"):
        # The GPU that was described need not be here.
        wanted = structs.replace(wanted, device=None)
    report = verify(str(plan.target.python), wanted, env=session.context.env)
    console.partial["verify"] = report_to_json(report)
    return report


def _finish(
    session: Session, settings: Settings, line: Line, result: Result | None, report: Report | None
) -> int:
    from torchinstall.cli.as_json import envelope
    from torchinstall.cli.plan_text import outcome_text, verify_text

    console = session.console
    changes = result.changes if result is not None else ()
    if settings.on("dry_run"):
        status = "satisfied" if line.plan.status == "satisfied" and not changes else "dry-run"
    else:
        status = "satisfied" if changes == () else "installed"
    if settings.on("json"):
        console.out_json(envelope(status, **console.partial, changes=_rows(changes)))
        return 0
    console.out(outcome_text(status, line.plan, changes))
    if report is not None:
        console.out(verify_text(report, full=bool(console.verbose)))
    return 0


def _rows(changes: Any) -> list[dict[str, str]] | None:
    if changes is None:
        return None
    return [{"name": row.name, "version": row.version, "action": row.action} for row in changes]


VERB = Verb(
    "auto",
    run,
    summary="Install the PyTorch build that works on this machine, and prove that it does.",
    more="Without REQ: torch and torchvision. A build that is right already is left alone.",
    arguments=(REQS,),
    options=(*PLAN_OPTIONS, "dry_run", "verify", "json"),
    examples=(
        ("torchinstall auto", "the newest torch that this machine can use"),
        (
            "torchinstall auto 'torch==2.9.*' torchaudio -r requirements.txt --venv .venv",
            "pins and a project",
        ),
        ("torchinstall auto --backend cpu --dry-run", "what would a CPU build change?"),
    ),
    passthrough="UV_ARGS",
)
