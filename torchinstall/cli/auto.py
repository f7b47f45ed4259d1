"""`torchinstall auto`: probe, plan, install with uv, verify."""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from pathlib import Path
from typing import ClassVar

import click
from msgspec import structs, to_builtins

from torchinstall.cli.console import Session, envelope
from torchinstall.cli.text import (
    chosen_text,
    columns,
    download_text,
    heading,
    size_text,
    why_not_text,
    works_text,
    wrapped,
)
from torchinstall.cli.verb import REQS, Verb
from torchinstall.core.plan import Plan, plan_to_json
from torchinstall.install.distributions import broken
from torchinstall.install.early import EarlyRehearsal
from torchinstall.install.environment import STATE
from torchinstall.install.interpreter import inspect_python
from torchinstall.install.lock import EnvironmentLock
from torchinstall.install.proof import read_proof, state_of, store_proof
from torchinstall.install.transaction import Change, InstallResult, Job, Transaction
from torchinstall.install.verify import (
    Checklist,
    Report,
    checklist_of,
    failure,
    report_to_json,
    verify,
)
from torchinstall.planning.assemble import Prepared, prepare
from torchinstall.planning.options import PlanOptions


class AutoOptions(PlanOptions, frozen=True, kw_only=True):
    """The options of `auto`."""

    omit: ClassVar = frozenset({"python_version", "root"})
    verify: bool = True
    wait: bool = True


def run(session: Session, options: AutoOptions) -> int:
    """Plan, install, verify; what is printed on stdout is the outcome."""
    with contextlib.ExitStack() as stack:
        lock = None
        if not options.dry_run:
            lock = stack.enter_context(EnvironmentLock(wait=options.wait, tell=session.console.say))
        return _run(session, options, lock, stack.enter_context(EarlyRehearsal()))


def _run(session: Session, options: AutoOptions, lock: EnvironmentLock | None, early: EarlyRehearsal) -> int:
    console, context = session.console, session.context

    def begin(likely: Prepared) -> None:
        if likely.place is not None and likely.place.base is None and likely.asks_uv:
            scratch = None if lock is None else Path(str(likely.target.prefix), STATE)
            early.begin(likely.command(context.env, dry_run=True), context.env, context.cwd, scratch)

    prepared = prepare(context, options, purpose="install", detail=console.detail, lock=lock, early=begin)
    if console.json:
        console.partial["plan"] = plan_to_json(prepared.plan)
    console.say(
        f"target: Python {prepared.target.python_version} in {prepared.target.prefix} ({prepared.target.why})"
    )
    console.warn_all(prepared.plan.warnings)
    if prepared.plan.error is not None:
        console.say(why_not_text(prepared.plan))
        raise prepared.plan.error
    console.say(chosen_text(prepared.plan))
    if _project_would_undo(session, prepared):
        console.warn(
            "project-would-undo",
            "this environment belongs to a uv project whose lock does not name this build: the next uv "
            "sync or uv run undoes it. To keep it: torchinstall configure, then torchinstall sync",
        )
    console.detail(why_not_text(prepared.plan))
    console.say()
    if lock is None:
        return _finish(session, options, *_rehearse(session, options, prepared, early), None)
    done = _install_and_verify(session, options, prepared, lock, early)
    return _finish(session, options, *done)


def _project_would_undo(session: Session, prepared: Prepared) -> bool:
    cwd = session.context.cwd
    if not any((folder / "pyproject.toml").is_file() for folder in (cwd, *cwd.parents)):
        return False
    from torchinstall.cli.sync import project_would_undo  # it reads locks, with all that this needs

    return project_would_undo(session.context, prepared.target.prefix or "", prepared.plan.torch)


def _install_and_verify(
    session: Session,
    options: AutoOptions,
    prepared: Prepared,
    lock: EnvironmentLock,
    early: EarlyRehearsal | None,
) -> tuple[Prepared, InstallResult | None, Report | None]:
    """Install and verify; a build that does not compute on the device gives way to the next, once.

    Raises:
        VerifyFailedError: what is installed does not compute.
        TorchInstallError: it could not be installed.
    """
    console = session.console
    if not prepared.asks_uv and options.verify and not options.is_set("verify"):
        proved = read_proof(str(prepared.target.prefix), _state(session, options, prepared))
        if proved is not None:
            console.partial["verify"] = report_to_json(proved)
            return prepared, None, proved
    prepared, result = _install(session, options, prepared, lock, early)
    console.partial["plan"] = plan_to_json(prepared.plan)
    if not options.verify:
        return prepared, result, None
    report = _proof(session, options, prepared)
    if report.ok:
        return prepared, result, report
    console.say(_verify_text(report, full=True))
    other = _without(session, options, prepared, report) if early and report.blames_build else None
    if other is None:
        raise failure(report)
    return _install_and_verify(session, options, other, lock, None)


def _install(
    session: Session,
    options: AutoOptions,
    prepared: Prepared,
    lock: EnvironmentLock,
    early: EarlyRehearsal | None,
) -> tuple[Prepared, InstallResult | None]:
    """Carry the plan out; what was planned in the end, and what uv changed (None: nothing)."""
    prepared = _mended(session, prepared)
    if not prepared.asks_uv:
        return prepared, None
    planned = prepared

    def widen(names: Collection[str]) -> Job | None:
        nonlocal planned
        strays = planned.strays(names)
        if not strays:
            return None
        planned = _widened(session, options, planned, strays)
        return _job(session, planned)

    def announce(heard: InstallResult) -> None:
        nonlocal planned
        planned = _measured(session, planned, heard)

    transaction = structs.replace(_transaction(session, lock), announce=announce, early=early)
    result = transaction.install(_job(session, prepared), widen)
    return planned, result


def _measured(session: Session, prepared: Prepared, heard: InstallResult) -> Prepared:
    """The plan with what it brings down, which is said."""
    from torchinstall.export.downloads import measure  # nothing comes down where all is right

    console = session.console
    download = measure(session.context, prepared, heard)
    if download is None:
        return prepared
    console.say(download_text(download))
    for room in download.rooms:
        if room.bytes > room.free:
            console.warn(
                "disk-too-full",
                f"about {size_text(room.bytes)} go to {room.folder}, whose disk has {size_text(room.free)} "
                "left; what cannot be finished is undone",
            )
    return structs.replace(prepared, plan=structs.replace(prepared.plan, download=download))


def _mended(session: Session, prepared: Prepared) -> Prepared:
    """The plan, with an order to write the files of what is damaged again."""
    sites = prepared.place.interpreter.site_packages if prepared.place is not None else ()
    names = broken(map(Path, sites), {package.name for package in prepared.plan.packages})
    if not names:
        return prepared
    session.console.say(f"files are missing or there twice, so this is installed again: {', '.join(names)}")
    again = (item for name in names for item in ("--reinstall-package", name))
    return structs.replace(prepared, uv_args=(*prepared.uv_args, *again))


def _transaction(session: Session, lock: EnvironmentLock | None) -> Transaction:
    context, console = session.context, session.console
    return Transaction(
        lock=lock,
        env=context.env,
        cwd=context.cwd,
        sink=session.sink(),
        now=context.now,
        tell=console.say,
        warn=console.warn,
    )


def _job(session: Session, prepared: Prepared) -> Job:
    if prepared.place is None or prepared.uv is None:
        raise TypeError("what is installed has an environment and a uv")
    env, more = session.context.env, session.console.uv_flags()
    return Job(
        environment=prepared.place,
        uv=prepared.uv,
        machine=prepared.machine,
        plan=prepared.command(env, more=more),
        rehearsal=prepared.command(env, dry_run=True),
    )


def _widened(session: Session, options: AutoOptions, prepared: Prepared, names: tuple[str, ...]) -> Prepared:
    """The plan with packages of the torch family that something else turned out to need.

    Raises:
        TorchInstallError: no build has them all.
    """
    console = session.console
    console.say(f"planning again, since this is needed too: {', '.join(names)}")
    failed = prepared.request.failed
    wider = prepare(
        session.context, options, purpose="install", detail=console.detail, failed=failed, also=names
    )
    if wider.plan.error is not None:
        raise wider.plan.error
    return wider


def _without(session: Session, options: AutoOptions, prepared: Prepared, report: Report) -> Prepared | None:
    """The plan without the build that did not compute; None where the user named it or nothing is left.

    Where a library of its backend is at fault, the whole backend is left out: other releases bring it too.
    """
    console, chosen = session.console, prepared.plan.chosen
    if chosen is None or prepared.request.backend != "auto":
        return None
    build = (chosen.torch, chosen.backend)
    failed = (None if report.blames_backend else chosen.torch, chosen.backend)
    other = prepare(session.context, options, purpose="install", detail=console.detail, failed=(failed,))
    if other.plan.status == "impossible" or other.plan.backend is None:
        return None
    console.warn(
        "did-not-compute",
        f"torch {build[0]}+{build[1]} does not compute on this machine; trying {other.plan.torch} instead",
    )
    return other


def _rehearse(
    session: Session, options: AutoOptions, prepared: Prepared, early: EarlyRehearsal
) -> tuple[Prepared, InstallResult | None]:
    """Let uv say what it would do, where it can: the environment is there and so is the index."""
    if prepared.place is not None and prepared.place.base is not None:
        session.console.say(f"would create the environment {prepared.target.prefix} first")
        return prepared, None
    if prepared.index_down or not prepared.plan.command:
        return prepared, None
    rehearse = structs.replace(_transaction(session, None), early=early).rehearse
    result = rehearse(_job(session, prepared))
    if strays := prepared.strays(result.due or ()):
        prepared = _widened(session, options, prepared, strays)
        result = rehearse(_job(session, prepared))
    prepared = _measured(session, prepared, result)
    session.console.partial["plan"] = plan_to_json(prepared.plan)
    return prepared, result


def _checklist(options: AutoOptions, prepared: Prepared) -> tuple[Checklist, bool]:
    """What the checks compare with, and whether the GPUs were described: those need not be here."""
    plan, request = prepared.plan, prepared.request
    wanted = checklist_of(plan, prepared.catalog.backend(plan.backend) if plan.backend else None)
    declared = request.target_gpus or request.target_driver or request.target_cuda is not None
    if declared or options.machine:
        return structs.replace(wanted, device=None), True
    return wanted, False


def _state(session: Session, options: AutoOptions, prepared: Prepared) -> str | None:
    """What a proof of this installation rests on."""
    wanted, described = _checklist(options, prepared)
    place, env = prepared.place, session.context.env
    if described or place is None:
        return None
    found = place.interpreter
    if place.base is not None:  # it was made since the plan
        found = inspect_python(str(place.target.python), env=env, family=())
    return state_of(found, wanted, prepared.machine, env)


def _proof(session: Session, options: AutoOptions, prepared: Prepared) -> Report:
    """Run the checks on what is installed, and keep what they prove."""
    console, context = session.console, session.context
    console.working("checking that torch computes")
    state = _state(session, options, prepared)
    report = verify(str(prepared.plan.target.python), _checklist(options, prepared)[0], env=context.env)
    store_proof(str(prepared.target.prefix), state, report, proved_at=context.today().isoformat())
    console.partial["verify"] = report_to_json(report)
    return report


def _finish(
    session: Session,
    options: AutoOptions,
    prepared: Prepared,
    result: InstallResult | None,
    report: Report | None,
) -> int:
    console = session.console
    changes = result.changes if result is not None else ()
    if options.dry_run:
        status = "satisfied" if prepared.plan.status == "satisfied" and not changes else "dry-run"
    else:
        status = "satisfied" if changes == () else "installed"
    if console.json:
        console.out_json(envelope(status, **console.partial, changes=to_builtins(changes)))
        return 0
    console.out(_outcome_text(status, prepared.plan, changes))
    if report is not None:
        console.out(_verify_text(report, full=bool(console.verbose)))
        console.out(works_text(prepared.plan, report, session.context.env, session.context.cwd))
    elif options.dry_run:
        console.say("nothing was changed; the same command without --dry-run does it")
    else:
        console.say("whether torch computes was not checked; torchinstall doctor does that")
    return 0


def _verify_text(report: Report, *, full: bool) -> str:
    """The names of the checks that passed; every check on a line of its own where one failed or `full`."""
    if report.ok and not full:
        names = ", ".join(check.name for check in report.checks)
        when = f"verified on {report.proved_at}:" if report.proved_at else "verified:"
        since = "; nothing has changed since, --verify checks it again" if report.proved_at else ""
        return wrapped(f"{click.style(when, fg='green', bold=True)} {names}{since}", indent=2)
    rows = []
    for check in report.checks:
        mark = click.style("ok", fg="green") if check.ok else click.style("FAILED", fg="red", bold=True)
        found = check.found if check.ok else f"needed {check.wanted}; found {check.found}"
        rows.append((mark, check.name, found))
    return f"{heading('Verified' if report.ok else 'Verification failed')}\n{columns(rows)}"


def _outcome_text(status: str, plan: Plan, changes: tuple[Change, ...] | None) -> str:
    """One sentence for a status of `auto`: `installed`, `satisfied`, `dry-run`."""
    builds = ", ".join(f"{row.name} {row.version or ''}".strip() for row in plan.packages)
    if status == "satisfied":
        return _line("already installed:", f"{builds}; nothing was changed")
    if changes:
        planned = {row.name for row in plan.packages}
        coming = [f"{row.name} {row.version}" for row in changes if row.action != "uninstalled"]
        builds = ", ".join([text for text in coming if text.partition(" ")[0] in planned] or coming)
        others = len(coming) - builds.count(", ") - 1
        builds += f", and {others} other packages" if others > 0 else ""
    return _line("would install:" if status == "dry-run" else "installed:", builds)


def _line(head: str, text: str) -> str:
    return wrapped(f"{click.style(head, fg='green', bold=True)} {text}", indent=2)


VERB = Verb(
    "auto",
    run,
    AutoOptions,
    REQS,
    more="Without REQ: torch and torchvision. A build that already works is not changed.",
    examples="""
    torchinstall auto  # the newest torch that this machine can use
    torchinstall auto 'torch==2.9.*' torchaudio -r requirements.txt --venv .venv  # pins and a project
    torchinstall auto --backend cpu --dry-run  # what would a CPU build change?
""",
    passthrough="UV_ARGS",
)
