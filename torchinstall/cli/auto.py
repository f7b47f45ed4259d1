"""`torchinstall auto`: probe, plan, install with uv, verify."""

from __future__ import annotations

import contextlib
import shlex
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, ClassVar

import click
from msgspec import structs, to_builtins

from torchinstall.cli.console import Session, envelope
from torchinstall.cli.text import (
    chosen_text,
    columns,
    download_text,
    heading,
    why_not_text,
    works_text,
    wrapped,
)
from torchinstall.cli.verb import REQS, Verb
from torchinstall.core.errors import InstallFailedError
from torchinstall.core.files import upward
from torchinstall.core.messages import size_text
from torchinstall.core.plan import Plan, plan_to_json
from torchinstall.export.downloads import look_ahead, measure
from torchinstall.install.distributions import broken
from torchinstall.install.early import EarlyRehearsal
from torchinstall.install.environment import STATE
from torchinstall.install.interpreter import inspect_python
from torchinstall.install.lock import EnvironmentLock
from torchinstall.install.record import read_proof, state_of, store_proof
from torchinstall.install.transaction import Change, InstallResult, Job, Transaction
from torchinstall.install.verify import (
    Checklist,
    Report,
    checklist_of,
    failure,
    report_to_json,
    verify,
)
from torchinstall.planning.assemble import prepare
from torchinstall.planning.configured import configured_folders
from torchinstall.planning.context import PlanOptions
from torchinstall.planning.inputs import Prepared
from torchinstall.planning.request import package_meant


class _AutoOptions(PlanOptions, frozen=True, kw_only=True):
    omit: ClassVar = frozenset({"python_version", "root"})
    verify: bool = True
    wait: bool = True


def run(session: Session, options: _AutoOptions) -> int:
    """Plan, install, verify; what is printed on stdout is the outcome."""
    with contextlib.ExitStack() as stack:
        lock = None
        if not options.dry_run:
            lock = stack.enter_context(EnvironmentLock(wait=options.wait, tell=session.console.say))
        work = _Run(session, options, lock, stack.enter_context(EarlyRehearsal()))
        try:
            return work()
        except InstallFailedError as error:
            if error.slug in ("offline", "index-unreachable"):
                error.hints = (*work.folders_of_wheels(), *error.hints)
            if error.slug == "package-not-found":
                error.hints = (*work.spelled_otherwise(), *error.hints)
            raise


class _Run:
    """One run. The plan may change on the way: something else is needed too, or a build does not compute.

    Attributes:
        lock: makes the environment ours; None: nothing is changed.
        early: asks uv while the index is still read.
        prepared: the plan as it stands.
    """

    def __init__(
        self, session: Session, options: _AutoOptions, lock: EnvironmentLock | None, early: EarlyRehearsal
    ) -> None:
        self.session, self.options, self.lock, self.early = session, options, lock, early
        self.console, self.context = session.console, session.context
        self.prepared = self._prepare(lock=lock, early=self._begin)

    def spelled_otherwise(self) -> Iterator[str]:
        """What takes a package that goes with torch for a name that is nearly its own."""
        requirements = self.prepared.request.requirements
        for asked in requirements:
            if meant := package_meant(asked.name, self.prepared.catalog, guess=True):
                words = (meant if row is asked else str(row) for row in requirements)
                yield shlex.join(["torchinstall", "auto", *words])

    def folders_of_wheels(self) -> Iterator[str]:
        """What takes all that is still to come from a folder that pip or uv are configured with."""
        context, plan, target = self.context, self.prepared.plan, self.prepared.target
        there = {(item.name, item.version) for item in target.installed}
        names = [item.name for item in plan.packages if (item.name, item.version) not in there]
        needed = [name.replace("-", "_") for name in names if name not in self.prepared.request.wanted]
        for folder in configured_folders(context.env, context.cwd, target.prefix):
            used = any(context.path(row) == Path(folder.place) for row in self.options.find_links)
            if not used and all(any(Path(folder.place).glob(f"{name}-*.whl")) for name in needed):
                yield f"add --find-links {shlex.quote(folder.place)}"

    def _begin(self, likely: Prepared) -> None:
        """Ask uv about the plan that the tables make."""
        if likely.created_with is None and likely.asks_uv:
            scratch = None if self.lock is None else Path(str(likely.target.prefix), STATE)
            rehearsal = likely.command(self.context.env, dry_run=True)
            self.early.begin(rehearsal, self.context.env, self.context.cwd, scratch)

    def _prepare(self, **more: Any) -> Prepared:
        return prepare(self.context, self.options, purpose="install", **more)

    def __call__(self) -> int:
        """Say what is planned, do it, and say what it came to; the exit code."""
        console, plan, target = self.console, self.prepared.plan, self.prepared.target
        console.partial["plan"] = plan_to_json(plan)
        console.say(f"target: Python {target.python_version} in {target.prefix} ({target.why})")
        console.warn_all(plan.warnings)
        if plan.error is not None:
            console.say(why_not_text(plan))
            raise plan.error
        console.say(chosen_text(plan))
        if self._project_would_undo():
            console.warn(
                "project-would-undo",
                "this environment belongs to a uv project whose lock does not name this build: the next uv "
                "sync or uv run undoes it. To keep it: torchinstall configure, then torchinstall sync",
            )
        console.detail(why_not_text(plan))
        console.say()
        if self.lock is None:
            return self._finish(self._rehearse(), None)
        proved = self._proved()
        return self._finish(*((None, proved) if proved is not None else self._install_and_verify()))

    def _project_would_undo(self) -> bool:
        if not any(upward(self.context.cwd, "pyproject.toml")):
            return False
        from torchinstall.cli.sync import project_would_undo  # it reads locks, with all that this needs

        return project_would_undo(self.context, self.prepared.target.prefix or "", self.prepared.plan.torch)

    def _install_and_verify(self) -> tuple[InstallResult | None, Report | None]:
        """Install and verify; a build that does not compute on the device gives way to the next, once."""
        console = self.console
        self._mend()
        result = None
        if self.prepared.asks_uv:
            look_ahead(self.context, self.options, self.prepared)
            transaction = structs.replace(self._transaction(), announce=self._measure)
            result = transaction.install(self._job(), self._widen)
        console.partial["plan"] = plan_to_json(self.prepared.plan)
        if not self.options.verify:
            return result, None
        report = self._prove()
        if report.ok:
            return result, report
        console.say(_verify_text(report, full=True))
        if self.prepared.request.failed or not report.blames_build or not self._leave_out(report):
            raise failure(report)
        return self._install_and_verify()

    def _rehearse(self) -> InstallResult | None:
        """Let uv say what it would do, where the index answered; also in an environment yet to be created."""
        prepared = self.prepared
        if prepared.created_with is not None:
            self.console.say(f"would create the environment {prepared.target.prefix} first")
        if prepared.index_down or not prepared.plan.command:
            return None
        look_ahead(self.context, self.options, prepared)
        with tempfile.TemporaryDirectory(prefix="torchinstall-") as empty:

            def rehearse(job: Job) -> InstallResult:
                argv = list(job.rehearsal.command)
                if prepared.created_with is not None:
                    argv[argv.index("--python") + 1] = prepared.created_with
                    argv += ["--target", empty]
                rehearsal = structs.replace(job.rehearsal, command=tuple(argv))
                return self._transaction().rehearse(structs.replace(job, rehearsal=rehearsal))

            result = rehearse(self._job())
            if (wider := self._widen(result.due or ())) is not None:
                result = rehearse(wider)
        self._measure(result)
        self.console.partial["plan"] = plan_to_json(self.prepared.plan)
        return result

    def _transaction(self) -> Transaction:
        return Transaction(
            lock=self.lock,
            env=self.context.env,
            cwd=self.context.cwd,
            sink=self.session.sink(),
            early=self.early,
            made_at=self.context.moment(),
            tell=self.console.say,
            warn=self.console.warn,
        )

    def _job(self) -> Job:
        prepared, env = self.prepared, self.context.env
        if prepared.place is None or prepared.uv is None:
            raise TypeError("what is installed has an environment and a uv")
        return Job(
            environment=prepared.place,
            uv=prepared.uv,
            machine=prepared.machine,
            plan=prepared.command(env, more=self.console.uv_flags()),
            rehearsal=prepared.command(env, dry_run=True),
        )

    def _mend(self) -> None:
        """Order to write the files of what is damaged again."""
        prepared = self.prepared
        sites = prepared.place.site_packages if prepared.place is not None else ()
        names = broken(map(Path, sites), {package.name for package in prepared.plan.packages})
        if names:
            self.console.say(
                f"files are missing or there twice, so this is installed again: {', '.join(names)}"
            )
        again = (item for name in names for item in ("--reinstall-package", name))
        self.prepared = structs.replace(prepared, uv_args=(*prepared.uv_args, *again))

    def _measure(self, heard: InstallResult) -> None:
        """Say what comes down, and keep it in the plan."""
        download = measure(self.context, self.prepared, heard)
        if download is None:
            return
        self.console.say(download_text(download))
        for room in download.rooms:
            if room.bytes > room.free:
                self.console.warn(
                    "disk-too-full",
                    f"about {size_text(room.bytes)} go to {room.folder}, whose disk has "
                    f"{size_text(room.free)} left; what cannot be finished is undone",
                )
        plan = structs.replace(self.prepared.plan, download=download)
        self.prepared = structs.replace(self.prepared, plan=plan)

    def _widen(self, names: Collection[str]) -> Job | None:
        """Plan again with packages of the torch family that something else turned out to need."""
        strays = self.prepared.strays(names)
        if not strays:
            return None
        self.console.say(f"planning again, since this is needed too: {', '.join(strays)}")
        wider = self._prepare(failed=self.prepared.request.failed, also=strays)
        if wider.plan.error is not None:
            raise wider.plan.error
        self.prepared = wider
        return self._job()

    def _leave_out(self, report: Report) -> bool:
        """Plan without the build that did not compute; no: the user named it, or nothing is left.

        Where a library of its backend is at fault, all of the backend is left out: every release brings it.
        """
        chosen = self.prepared.plan.chosen
        if chosen is None or self.prepared.request.backend != "auto":
            return False
        failed = (None if report.blames_backend else chosen.torch, chosen.backend)
        other = self._prepare(failed=(failed,))
        if other.plan.status == "impossible" or other.plan.backend is None:
            return False
        what = f"torch {chosen.torch}+{chosen.backend} does not compute on this machine"
        self.console.warn("did-not-compute", f"{what}; trying {other.plan.torch} instead")
        self.prepared = other
        return True

    def _checklist(self) -> Checklist:
        plan, catalog = self.prepared.plan, self.prepared.catalog
        return checklist_of(plan, catalog.backend(plan.backend or ""), described=self.prepared.elsewhere)

    def _state(self) -> str | None:
        """What a proof of this installation rests on; None where it would not speak of this machine."""
        place, env = self.prepared.place, self.context.env
        if self.prepared.elsewhere or place is None:
            return None
        if place.base is not None:  # it was made since the plan
            place = inspect_python(str(place.target.python), env=env, family=())
        return state_of(place, self._checklist(), self.prepared.machine, env)

    def _proved(self) -> Report | None:
        """What was proved before of all that is there, unless it was asked to check, or not to."""
        if self.prepared.asks_uv or not self.options.verify or self.options.is_set("verify"):
            return None
        proved = read_proof(str(self.prepared.target.prefix), self._state())
        if proved is not None:
            self.console.partial["verify"] = report_to_json(proved)
        return proved

    def _prove(self) -> Report:
        """Run the checks on what is installed, and keep what they prove."""
        self.console.working("checking that torch computes")
        state, target = self._state(), self.prepared.target
        report = verify(str(self.prepared.plan.target.python), self._checklist(), env=self.context.env)
        store_proof(str(target.prefix), state, report, proved_at=self.context.today().isoformat())
        self.console.partial["verify"] = report_to_json(report)
        return report

    def _finish(self, result: InstallResult | None, report: Report | None) -> int:
        console, plan = self.console, self.prepared.plan
        changes = result.changes if result is not None else ()
        if self.options.dry_run:
            status = "satisfied" if plan.status == "satisfied" and not changes else "dry-run"
        else:
            status = "satisfied" if changes == () else "installed"
        if console.json:
            console.out_json(envelope(status, **console.partial, changes=to_builtins(changes)))
            return 0
        console.out(_outcome_text(status, plan, changes))
        if report is not None:
            console.out(_verify_text(report, full=console.loudness > 0))
            console.out(works_text(plan, report, self.context.env, self.context.cwd))
        elif self.options.dry_run:
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
        return _sentence("already installed:", f"{builds}; nothing was changed")
    if changes:
        planned = {row.name for row in plan.packages}
        coming = [f"{row.name} {row.version}" for row in changes if row.action != "uninstalled"]
        builds = ", ".join([text for text in coming if text.partition(" ")[0] in planned] or coming)
        others = len(coming) - builds.count(", ") - 1
        builds += f", and {others} other packages" if others > 0 else ""
    return _sentence("would install:" if status == "dry-run" else "installed:", builds)


def _sentence(head: str, text: str) -> str:
    return wrapped(f"{click.style(head, fg='green', bold=True)} {text}", indent=2)


VERB = Verb(
    "auto",
    run,
    _AutoOptions,
    REQS,
    more="Without REQ: torch and torchvision. A build that already works is not changed.",
    examples="""
    torchinstall auto  # the newest torch that this machine can use
    torchinstall auto 'torch==2.9.*' torchaudio -r requirements.txt --venv .venv  # pins and a project
    torchinstall auto --backend cpu --dry-run  # what would a CPU build change?
""",
    passthrough="UV_ARGS",
)
