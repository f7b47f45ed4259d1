"""Carry out a plan, or a command of uv, so that the environment is right afterwards or as it was.

The only place that starts uv to change an environment.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import signal
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import msgspec
from msgspec import Struct, structs

from torchinstall.core.decoding import convert, decoder
from torchinstall.core.errors import InstallFailedError
from torchinstall.core.files import real_path
from torchinstall.core.machine import Machine
from torchinstall.core.plan import Package, Plan
from torchinstall.install.agreement import Agreement, check_age
from torchinstall.install.backup import Due
from torchinstall.install.command import before_builds, project_text
from torchinstall.install.distributions import distributions
from torchinstall.install.early import EarlyRehearsal, on_disk, to_rehearse
from torchinstall.install.environment import STATE, create, require_writable
from torchinstall.install.interpreter import PythonEnvironment
from torchinstall.install.journal import Journal, empty_environment, protected, remove_journal
from torchinstall.install.lock import EnvironmentLock
from torchinstall.install.record import decision_of
from torchinstall.install.signals import deferred_signals
from torchinstall.install.uv import Uv, install_failure, run_uv

if TYPE_CHECKING:
    from torchinstall.core.processes import Completed

_PATIENCE = 120.0
"""Seconds that uv may take to say what a command will change."""

_CACHED = re.compile(r"DEBUG.* already cached: ([a-z0-9-]+)")


class Change(Struct, frozen=True, kw_only=True):
    """What uv did to one package; `action` is uv's word: `installed`, `uninstalled`, `reinstalled`."""

    name: str
    version: str = ""
    action: str


class InstallResult(Struct, frozen=True, kw_only=True):
    """What uv changed or would change, in its order; empty: all was right already. None: uv did not say.

    `cached` are the names of packages that uv has in its cache already, where it was asked.
    """

    changes: tuple[Change, ...] | None = None
    cached: frozenset[str] = frozenset()

    @property
    def due(self) -> Due | None:
        """What will be there in the end, of what changes; None: uv did not say."""
        if self.changes is None:
            return None
        gone: Due = {row.name: None for row in self.changes}
        return gone | {row.name: row.version for row in self.changes if row.action != "uninstalled"}


class Job(Struct, frozen=True, kw_only=True):
    """A plan to carry out: what installs, where (it is created where it is missing), and for which machine.

    `rehearsal` is the plan with a command that only says what it would do.
    """

    environment: PythonEnvironment
    uv: Uv
    machine: Machine
    plan: Plan
    rehearsal: Plan

    @property
    def prefix(self) -> Path:
        """The environment."""
        return real_path(str(self.environment.target.prefix))


class Transaction(Struct, frozen=True, kw_only=True):
    """What surrounds every change of an environment.

    Attributes:
        lock: makes the environment ours; None: nothing is changed, only rehearsed.
        cwd: folder that uv finds the user's configuration from.
        sink: our stderr: what uv prints goes there.
        made_at: time of the run, ISO 8601 with offset.
        warn: is told (slug, message) what is wrong and does not matter enough to stop.
        announce: is told what will change, right before it does.
        early: what uv may have been asked already.
    """

    lock: EnvironmentLock | None
    env: Mapping[str, str]
    cwd: Path
    sink: BinaryIO
    made_at: str
    tell: Callable[[str], None]
    warn: Callable[[str, str], None]
    announce: Callable[[InstallResult], None] = lambda _: None
    early: EarlyRehearsal | None = None

    def install(self, job: Job, widen: Callable[[Collection[str]], Job | None]) -> InstallResult | None:
        """Install what a plan says; None where nothing is to change.

        uv is first asked what it would do: then it can be compared with the plan and said before it happens,
        nothing is touched where nothing is to change, and exactly what changes is backed up. `widen` is told
        the names of all packages that would change, and returns another job where that needs a wider plan.

        Raises:
            InstallFailedError: uv failed or did something else; the environment is as it was.
            TargetError: the environment could not be created, or cannot be changed.
        """
        if self.lock is None:
            raise TypeError("nobody may change an environment without its lock")
        if not job.environment.writable:
            structs.replace(self, lock=None).rehearse(job)
            return None  # nothing is to change
        prefix = job.prefix
        self.lock.take(prefix)
        with self._created(job) as environment:
            heard = self.rehearse(job, environment)
            if (wider := widen((heard.due or {}).keys())) is not None:
                job = wider
                heard = self.rehearse(job, environment)
            if (due := heard.due) == {}:
                return None
            self.announce(heard)
            sites = _sites(environment)
            coming = [f"{name} {version}" for name, version in (due or {}).items() if version is not None]
            if coming:
                self.tell(f"installing {len(coming)} packages: " + ", ".join(coming))
            agreement = Agreement(plan=job.plan, env=self.env, cwd=self.cwd)
            return protected(
                lambda inherited: self._apply(job.plan, inherited),
                sites=sites,
                prefix=prefix,
                due=None if job.plan.builds else due,
                created=job.environment.base is not None,
                check=lambda: agreement.check_installed(sites, due or {}, prefix / STATE),
                decision=decision_of(job.plan, job.machine, made_at=self.made_at, uv=job.uv.version),
                tell=self.tell,
                warn=self.warn,
            )

    def rehearse(self, job: Job, environment: PythonEnvironment | None = None) -> InstallResult:
        """What will change in `environment` (that of the job, as it was created).

        Raises:
            InstallFailedError: uv cannot do it (its words are shown), or would do something else.
            TargetError: `read-only-environment`: something is to change, and this user cannot.
        """
        rehearsal = to_rehearse(job.rehearsal)
        agreement = Agreement(plan=rehearsal, env=self.env, cwd=self.cwd)
        agreement.check_destination()
        heard = io.BytesIO()
        self.tell("asking uv what has to change")
        try:
            known = self.early.answer(rehearsal) if self.early is not None else None
            if known is not None:
                heard.write(known.stderr.encode())
            result = self._execute(rehearsal, heard) if known is None else _result(known)
            if result.due == {} and job.plan.builds:
                result = self._execute(job.rehearsal, heard)  # it can be built already, or was
        except InstallFailedError:
            self.sink.write(heard.getvalue())
            self.sink.flush()
            raise
        if (due := result.due) != {}:
            require_writable(job.environment)
        if due is not None:
            sites = _sites(environment or job.environment)
            agreement.check_rehearsal(sites, due)
            self._check_age(rehearsal, due, sites)
        found = _CACHED.findall(heard.getvalue().decode("utf-8", "replace"))
        return structs.replace(result, cached=frozenset(found))

    def _check_age(self, rehearsal: Plan, due: Due, sites: Collection[Path]) -> None:
        """Nothing that was named comes out far older than it could."""

        def ask(texts: Iterable[str], packages: tuple[Package, ...], more: tuple[str, ...]) -> Due | None:
            asked = structs.replace(rehearsal, requirements=tuple(texts), packages=packages)
            command = (*rehearsal.command, *(item for item in more if item not in rehearsal.command))
            asked = structs.replace(asked, project=project_text(asked), command=command)
            try:
                return self._execute(asked, io.BytesIO()).due
            except InstallFailedError:
                return None

        for message in check_age(rehearsal, due, distributions(sites), ask):
            self.warn(message.slug, message.message)

    def _apply(self, plan: Plan, inherited: tuple[int, ...]) -> InstallResult:
        """Run the plan's command; what is built from source comes after the torch that it is built for."""
        changes: tuple[Change, ...] = ()
        if plan.builds:
            changes = self._execute(before_builds(plan), self.sink, inherited).changes or ()
            self.tell(f"building from source: {', '.join(plan.builds)}")
        result = self._execute(plan, self.sink, inherited)
        return structs.replace(result, changes=(*changes, *(result.changes or ())))

    def _execute(self, plan: Plan, sink: BinaryIO, inherited: tuple[int, ...] = ()) -> InstallResult:
        # In an environment that is ours, whoever comes next clears up after a kill.
        scratch = None if self.lock is None else real_path(str(plan.target.prefix)) / STATE
        return execute(plan, env=self.env, sink=sink, cwd=self.cwd, inherited=inherited, scratch=scratch)

    @contextlib.contextmanager
    def _created(self, job: Job) -> Iterator[PythonEnvironment]:
        """The environment, created where it was missing and removed again if it is of no use."""
        environment, prefix = job.environment, job.prefix
        if environment.base is None:
            yield environment
            return
        self.tell(f"creating the environment {prefix} with {environment.base}")
        with Journal(prefix=prefix, created=True).open():
            try:
                yield create(environment, uv=job.uv.path, env=self.env)
            except BaseException:
                with deferred_signals():
                    empty_environment(prefix)
                raise
            with deferred_signals():
                remove_journal(prefix)


def _sites(environment: PythonEnvironment) -> list[Path]:
    return [real_path(site) for site in environment.site_packages]


def execute(
    plan: Plan,
    *,
    env: Mapping[str, str],
    sink: BinaryIO,
    cwd: Path | None = None,
    inherited: tuple[int, ...] = (),
    scratch: Path | None = None,
) -> InstallResult:
    """Run a plan's command, with its project file on disk for as long.

    uv reads our stdin, draws on `sink` and prints its list of changes to us, never to our stdout. It resolves
    and downloads everything before it touches the environment, and inherits `inherited`.

    Raises:
        InstallFailedError: uv failed; its words are on `sink` already, the slug and hint are ours.
        ToolMissingError: `uv-broken`: it could not be started.
        KeyboardInterrupt: Ctrl-C, after uv has ended.
    """
    with on_disk(plan, scratch) as argv:
        done = run_uv(argv, env=env, changes=plan.env, cwd=cwd, sink=sink, inherited=inherited)
    what = f"install torch {plan.torch}" if plan.torch else "install the packages"
    routed = [item.name for item in plan.packages if item.routed]
    _require_success(done, lambda: install_failure(done, what, routed))
    return _result(done)


def _result(done: Completed) -> InstallResult:
    try:
        return decoder(InstallResult).decode(done.stdout)
    except msgspec.MsgspecError:
        return InstallResult()  # uv calls the shape of this output a preview


def _require_success(done: Completed, failed: Callable[[], InstallFailedError]) -> None:
    if done.returncode == -signal.SIGINT:
        raise KeyboardInterrupt
    if done.returncode != 0:
        raise failed()


def change_with_uv(
    argv: Sequence[str],
    *,
    sites: Collection[Path],
    prefix: Path,
    env: Mapping[str, str],
    cwd: Path,
    tell: Callable[[str], None],
    sink: BinaryIO,
    failed: Callable[[Completed], InstallFailedError] | None = None,
) -> str:
    """Run a command of uv that somebody else planned (`uv pip`, `uv sync`): all of it, or nothing.

    The lock must be held. `failed` makes the error for a uv that failed.

    Returns:
        What uv printed on its stdout.

    Raises:
        InstallFailedError: uv failed, and the environment is as it was.
    """
    project = argv[1] != "pip"

    def work(inherited: tuple[int, ...]) -> str:
        done = run_uv(argv, env=env, cwd=cwd, sink=sink, inherited=inherited, project=project)
        _require_success(
            done,
            lambda: failed(done) if failed else install_failure(done, f"do this: {shlex.join(argv)}"),
        )
        return done.stdout

    if not sites:
        return work(())  # there is nothing yet that could be lost
    agreement = Agreement(env=env, cwd=cwd)
    if not project:
        agreement.check_destination()
    due = announced(argv, env, cwd, project=project)
    return protected(
        work,
        sites=sites,
        prefix=prefix,
        due=due,
        check=lambda: agreement.check_installed(sites, due or {}, prefix / STATE),
        tell=tell,
    )


def announced(argv: Sequence[str], env: Mapping[str, str], cwd: Path, *, project: bool) -> Due | None:
    """What uv says that a command will change; None where it does not say."""
    dry = [*argv, "--dry-run", "--output-format", "json"]
    done = run_uv(dry, env=env, cwd=cwd, timeout=_PATIENCE, project=project)
    try:
        data = msgspec.json.decode(done.stdout)
        return convert(data.get("sync", data), InstallResult).due if done.returncode == 0 else None
    except (msgspec.MsgspecError, AttributeError):
        return None
