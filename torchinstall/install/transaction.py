"""Change an environment so that whatever happens it is right or as it was: lock, journal, backup, commit.

The only place that starts uv to change an environment.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import re
import shlex
import shutil
import signal
import tempfile
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, TypeVar

import msgspec
from msgspec import Struct

from torchinstall import __version__
from torchinstall.core.errors import InstallFailedError
from torchinstall.core.machine import Machine
from torchinstall.core.plan import Plan
from torchinstall.install.agreement import check_destination, check_installed, check_rehearsal
from torchinstall.install.backup import Backup, plan_backup
from torchinstall.install.distributions import distributions
from torchinstall.install.environment import PythonEnvironment, create
from torchinstall.install.journal import Journal, Owner, read_journal, real, remove_journal, state_folder
from torchinstall.install.lock import EnvironmentLock
from torchinstall.install.record import Decision, decision_of, path_in, store_decision
from torchinstall.install.signals import deferred_signals
from torchinstall.install.uv import Uv, install_failure, run_uv

__all__ = [
    "Change",
    "InstallResult",
    "Job",
    "Transaction",
    "change_with_uv",
    "execute",
    "protected",
    "recover",
    "recovering_lock",
]

Due = dict[str, str | None]
"""name -> version of what will be there in the end, None: gone."""

Work = TypeVar("Work")

_PATIENCE = 120.0
"""Seconds that uv may take to say what a command will change."""


class Change(Struct, frozen=True, kw_only=True):
    """What uv did to one package; `action` is uv's word: `installed`, `uninstalled`, `reinstalled`."""

    name: str
    version: str = ""
    action: str


class InstallResult(Struct, frozen=True, kw_only=True):
    """What a run of uv came to.

    Attributes:
        changes: in uv's order; empty: all was right already. None: uv did not say.
        dry_run: nothing was done, `changes` is what would be.
    """

    changes: tuple[Change, ...] | None
    dry_run: bool = False

    @property
    def satisfied(self) -> bool:
        """Whether there was nothing to do."""
        return self.changes == ()

    @property
    def due(self) -> Due | None:
        """What will be there in the end, of what changes; None: uv did not say."""
        if self.changes is None:
            return None
        gone: Due = {row.name: None for row in self.changes}
        return gone | {row.name: row.version for row in self.changes if row.action != "uninstalled"}


class Job(Struct, frozen=True, kw_only=True):
    """A plan to carry out.

    Attributes:
        environment: where; it is created first where it is missing.
        uv: what installs.
        machine: that the plan was made for; the record of the decision names it.
        plan: with its command.
        rehearsal: the plan with a command that only says what it would do.
    """

    environment: PythonEnvironment
    uv: Uv
    machine: Machine
    plan: Plan
    rehearsal: Plan


class Transaction(Struct, frozen=True, kw_only=True):
    """What surrounds every change of an environment.

    Attributes:
        env: of the user.
        cwd: folder that uv finds the user's configuration from.
        sink: our stderr: what uv prints goes there.
        family: names of the packages that move with torch.
        now: seconds since 1970.
        tell: is told what happens.
        warn: is told (slug, message) what is wrong and does not matter enough to stop.
        lock: makes the environment ours; None: nothing is changed, only rehearsed.
    """

    lock: EnvironmentLock | None
    env: Mapping[str, str]
    cwd: Path
    sink: BinaryIO
    family: Collection[str]
    now: Callable[[], float]
    tell: Callable[[str], None]
    warn: Callable[[str, str], None]

    def install(self, job: Job, widen: Callable[[Collection[str]], Job | None]) -> InstallResult | None:
        """Install what a plan says; None where nothing is to change.

        uv is first asked what it would do: then it can be compared with the plan and said before it happens,
        nothing is touched where nothing is to change, and exactly what changes is backed up.

        Args:
            job: the plan.
            widen: is told the names of all packages that would change; returns another job where more has to
                be planned for them.

        Raises:
            InstallFailedError: uv failed or did something else; the environment is as it was.
            TargetError: the environment could not be created.
        """
        prefix = real(str(job.environment.target.prefix))
        if self.lock is None:
            raise TypeError("nobody may change an environment without its lock")
        self.lock.take(prefix)
        with self._created(job) as environment:
            sites = _sites(environment)
            heard = self.rehearse(job, sites)
            if (wider := widen((heard.due or {}).keys())) is not None:
                job = wider
                heard = self.rehearse(job, sites)
            if heard.satisfied:
                return None
            due, plan = heard.due, job.plan
            coming = [f"{name} {version}" for name, version in (due or {}).items() if version is not None]
            if coming:
                self.tell(f"installing {len(coming)} packages: " + ", ".join(coming))
            return protected(
                lambda keep: execute(
                    plan,
                    env=self.env,
                    sink=self.sink,
                    cwd=self.cwd,
                    keep=keep,
                    scratch=self._scratch(job),
                ),
                sites=sites,
                prefix=prefix,
                due=due,
                created=job.environment.base is not None,
                check=lambda: check_installed(
                    plan, due or {}, sites, state_folder(prefix), self.env, self.cwd
                ),
                decision=self._decision(job),
                tell=self.tell,
                warn=self.warn,
            )

    def rehearse(self, job: Job, sites: Collection[Path] | None = None) -> InstallResult:
        """What will change; uv's words are shown only where it fails.

        Raises:
            InstallFailedError: uv cannot do it, or would do something else than was planned.
        """
        check_destination(self.env, self.cwd)
        heard = io.BytesIO()
        self.tell("asking uv what has to change")
        try:
            result = execute(
                job.rehearsal, env=self.env, sink=heard, cwd=self.cwd, scratch=self._scratch(job)
            )
        except InstallFailedError:
            self.sink.write(heard.getvalue())
            self.sink.flush()
            raise
        if (due := result.due) is not None:
            found = distributions(_sites(job.environment) if sites is None else sites)
            there = {dist.name: dist.version for dist in found}
            check_rehearsal(job.plan, there, due, self.env, self.cwd)
        return result

    def _scratch(self, job: Job) -> Path | None:
        """Our folder in the environment while that is ours: nobody else clears up after a kill."""
        return None if self.lock is None else state_folder(real(str(job.environment.target.prefix)))

    @contextlib.contextmanager
    def _created(self, job: Job) -> Iterator[PythonEnvironment]:
        """The environment, created where it was missing and removed again if it is of no use."""
        environment = job.environment
        if environment.base is None:
            yield environment
            return
        prefix = real(str(environment.target.prefix))
        self.tell(f"creating the environment {prefix} with {environment.base}")
        journal = Journal(owner=Owner.here(), begun=self.now(), prefix=prefix, created=True)
        with journal.open():
            try:
                yield create(environment, uv=job.uv.path, env=self.env, family=self.family)
            except BaseException:
                with deferred_signals():
                    _empty(prefix)
                raise
            with deferred_signals():
                remove_journal(prefix)

    def _decision(self, job: Job) -> Decision:
        """What is stored in the environment for `doctor`."""
        made_at = dt.datetime.fromtimestamp(self.now(), tz=dt.timezone.utc).isoformat(timespec="seconds")
        versions = {"torchinstall": __version__, "uv": job.uv.version}
        return decision_of(job.plan, job.machine, made_at=made_at, versions=versions)


def _sites(environment: PythonEnvironment) -> list[Path]:
    return list(map(real, environment.interpreter.site_packages))


def execute(
    plan: Plan,
    *,
    env: Mapping[str, str],
    sink: BinaryIO,
    cwd: Path | None = None,
    keep: tuple[int, ...] = (),
    scratch: Path | None = None,
) -> InstallResult:
    """Write the plan's project file to a private folder and run its command on it.

    uv reads our stdin, draws on `sink` and prints its list of changes to us, never to our stdout. It resolves
    and downloads everything before it touches the environment.

    Args:
        plan: filled by `command`.
        env: of the user.
        sink: where uv's talk goes: our stderr.
        cwd: folder that uv finds the user's configuration from.
        keep: what uv inherits.
        scratch: where the private folder is made; recovery empties it.

    Raises:
        InstallFailedError: uv failed; its words are on `sink` already, the slug and hint are ours.
        ToolMissingError: `uv-broken`: it could not be started.
        KeyboardInterrupt: Ctrl-C, after uv has ended.
    """
    argv = list(plan.command)
    # Only this user can read the folder; the project file may hold credentials.
    with tempfile.TemporaryDirectory(prefix="torchinstall-", dir=scratch) as folder:
        if plan.project is not None:
            path = Path(folder, "pyproject.toml")
            path.write_text(plan.project, encoding="utf-8")
            argv[argv.index("-r") + 1] = str(path)
        done = run_uv(argv, env=env, changes=plan.env, cwd=cwd, sink=sink, keep=keep)
    if done.returncode == -signal.SIGINT:
        raise KeyboardInterrupt
    if done.returncode != 0:
        what = f"install torch {plan.torch}" if plan.torch else "install the packages"
        raise install_failure(done, what, (item.name for item in plan.packages if item.routed))
    dry_run = "--dry-run" in plan.command
    try:
        result = msgspec.json.decode(done.stdout, type=InstallResult)
    except msgspec.MsgspecError:
        # uv calls the shape of this output a preview.
        return InstallResult(changes=None, dry_run=dry_run)
    return InstallResult(changes=result.changes, dry_run=dry_run or result.dry_run)


def protected(
    work: Callable[[tuple[int, ...]], Work],
    *,
    sites: Iterable[Path],
    prefix: Path,
    due: Due | None = None,
    created: bool = False,
    check: Callable[[], None] = lambda: None,
    decision: Decision | None = None,
    tell: Callable[[str], None] = lambda _text: None,
    warn: Callable[[str, str], None] = lambda _slug, _text: None,
) -> Work:
    """Run an install so that its failure leaves the environment as it was; the lock must be held.

    Args:
        work: runs uv; it gets what uv has to inherit.
        sites: the environment's site-packages folders.
        prefix: the environment.
        due: what changes; None: anything may.
        created: the environment itself is new.
        check: raises where the environment is not what it should be afterwards.
        decision: to be recorded in the environment.
        tell: is told, after a failure, what became of the environment.
        warn: is told what does not matter enough to stop.

    Returns:
        What `work` returned.

    Raises:
        InstallFailedError: of `work` or `check`, its hints led by what became of the environment; or
            `no-backup`: nothing was begun, because files could not be kept.
        BaseException: whatever else `work` raised (Ctrl-C), after putting things back.
    """
    store = state_folder(prefix) / f"backup-{uuid.uuid4().hex}"
    more = [path_in(str(prefix))] if decision is not None else []
    backup = plan_backup(sites, prefix, store, None if due is None else due.keys(), more)
    journal = Journal(
        owner=Owner.here(),
        begun=backup.begun,
        prefix=prefix,
        created=created,
        due=due,
        backup=backup,
        decision=decision,
    )
    base, done = _base_python(prefix), False
    with contextlib.ExitStack() as stack:
        try:
            with deferred_signals():
                keep = stack.enter_context(_begun(journal, backup))
            result = work(keep)
            with deferred_signals():
                check()
                if decision is not None and store_decision(str(prefix), decision) is None:
                    text = f"the record of this decision could not be written to {prefix}"
                    warn("decision-not-stored", text)
                _end(backup)
                done = True
        except BaseException as error:
            if done:
                raise
            with deferred_signals():
                message, command = _undo(backup, base)
                _say(tell, message)
            if not isinstance(error, InstallFailedError):
                raise
            state = f"{message}: {command}" if command else message
            raise InstallFailedError(
                error.slug, error.message, wanted=error.wanted, found=error.found, hints=(state, *error.hints)
            ) from error
    return result


def change_with_uv(
    argv: Sequence[str],
    *,
    sites: Collection[Path],
    prefix: Path,
    env: Mapping[str, str],
    cwd: Path,
    sink: BinaryIO,
    tell: Callable[[str], None],
    project: bool = False,
) -> None:
    """Run a command of uv that somebody else planned (`uv pip`, `uv sync`): all of it, or nothing.

    Args:
        argv: path of uv and its arguments; it knows `--dry-run`.
        sites: the environment's site-packages folders.
        prefix: the environment, whose lock is held.
        env: of the user.
        cwd: where uv looks for configuration.
        sink: our stderr.
        tell: is told, after a failure, what became of the environment.
        project: see `uv_env`.

    Raises:
        InstallFailedError: uv failed, and the environment is as it was.
    """
    what = shlex.join(["uv", *argv[1:]])

    def work(keep: tuple[int, ...]) -> None:
        done = run_uv(argv, env=env, cwd=cwd, sink=sink, keep=keep, project=project)
        if done.returncode == -signal.SIGINT:
            raise KeyboardInterrupt
        if done.returncode != 0:
            raise install_failure(done, f"do this: {what}")

    if list(argv[1:3]) == ["pip", "install"]:
        check_destination(env, cwd)
    due = _announced(argv, env, cwd, project=project)
    protected(
        work,
        sites=sites,
        prefix=prefix,
        due=due,
        check=lambda: check_installed(None, due or {}, sites, state_folder(prefix), env, cwd),
        tell=tell,
    )


def _announced(argv: Sequence[str], env: Mapping[str, str], cwd: Path, *, project: bool) -> Due | None:
    """What uv says that a command will change; None where it does not say."""
    dry = [*argv, "--dry-run", "--output-format", "json"]
    done = run_uv(dry, env=env, cwd=cwd, timeout=_PATIENCE, project=project)
    try:
        data = msgspec.json.decode(done.stdout)
        return msgspec.convert(data.get("sync", data), InstallResult).due if done.returncode == 0 else None
    except (msgspec.MsgspecError, AttributeError):
        return None


@contextlib.contextmanager
def _begun(journal: Journal, backup: Backup) -> Iterator[tuple[int, ...]]:
    """The journal on disk and the backup complete.

    Raises:
        InstallFailedError: `no-backup`.
    """
    with contextlib.ExitStack() as stack:
        try:
            state_folder(journal.prefix).mkdir(parents=True, exist_ok=True)
            keep = stack.enter_context(journal.open())
            backup.keep()
        except OSError as error:
            raise InstallFailedError(
                "no-backup",
                "the files of the installed packages could not be backed up, so nothing was begun",
                wanted=f"room and the right to write in {state_folder(journal.prefix)}",
                found=error.strerror or str(error),
                hints=("make room or change the owner of the environment, then run the same command again",),
            ) from error
        yield keep


def _end(backup: Backup) -> None:
    """The change is over: first the journal goes, then what nobody needs any more."""
    remove_journal(backup.prefix)
    backup.discard()


def _undo(backup: Backup, base: str | None) -> tuple[str, str | None]:
    """Put back what is different from before.

    Returns:
        What became of the environment, and what to type where it is broken; then the backup stays.
    """
    if not all(site.is_dir() for site in backup.sites):
        prefix = shlex.quote(str(backup.prefix))
        python = f"--python {shlex.quote(base)} " if base else ""
        command = f"uv venv {python}{prefix} && torchinstall auto --venv {prefix}"
        return "the environment is gone: its folder was removed during the install", command
    lost = backup.lost() if backup.complete else ()
    names = ", ".join(f"{dist.name} {dist.version}" for dist in lost)
    problem = None
    try:
        if backup.complete:
            backup.put_back()
    except OSError as error:
        problem = error.strerror or str(error)
    if problem is not None or (backup.complete and backup.lost()):
        message = f"the environment is broken, and {names or 'it'} could not be put back"
        return message + (f" ({problem})" if problem else ""), "torchinstall doctor --fix"
    _end(backup)
    return (
        f"the environment was put back as it was: {names}"
        if names
        else "the environment is as it was before",
        None,
    )


def recover(prefix: Path, tell: Callable[[str], None]) -> None:
    """Bring the change of a run that was killed to an end; the lock must be held.

    Where all that was to happen did, it is kept. Where somebody else has changed the same packages since, it
    is left to them. Otherwise the environment becomes what it was right before.
    """
    with deferred_signals():
        journal = read_journal(prefix)
        if journal is not None:
            _say(tell, _recovered(journal))
        if journal is None or read_journal(prefix) is None:
            # A backup without a journal belongs to nobody; releases before this one kept theirs here.
            remove_journal(prefix)
            ours = state_folder(prefix)
            old = (*ours.glob("backup-*"), *ours.glob("torchinstall-*"), *prefix.glob(".torchinstall-keep-*"))
            for folder in old:
                shutil.rmtree(folder, ignore_errors=True)
            for file in path_in(str(prefix)).parent.glob(".decision-*"):
                file.unlink(missing_ok=True)


def _recovered(journal: Journal) -> str:
    backup = journal.backup
    state = backup.state(journal.due) if backup is not None and backup.complete else "old"
    if backup is None or (journal.created and state in ("old", "broken")):
        _empty(journal.prefix)
        remove_journal(journal.prefix)
        return f"an earlier run was killed while it made {journal.prefix}; what it left was removed"
    if state == "new":
        if journal.decision is not None:
            store_decision(str(journal.prefix), journal.decision)
        _end(backup)
        return "an earlier run was killed when it had installed everything; its work is kept"
    if state == "foreign":
        _end(backup)
        return "an earlier run was killed, and its packages were changed since; they are kept as they are"
    message, command = _undo(backup, _base_python(journal.prefix))
    return f"an earlier run was killed before it finished; {message}" + (f": {command}" if command else "")


def recovering_lock(*, wait: bool, tell: Callable[[str], None]) -> EnvironmentLock:
    """The lock of everything that changes an environment."""
    return EnvironmentLock(wait=wait, tell=tell, recover=lambda prefix: recover(prefix, tell))


def _say(tell: Callable[[str], None], text: str) -> None:
    """A terminal that is gone is no reason to stop half-way."""
    with contextlib.suppress(OSError, ValueError):
        tell(text)


def _empty(prefix: Path) -> None:
    """Remove an environment that is of no use, but for our lock in it."""
    for path in prefix.iterdir() if prefix.is_dir() else ():
        if path != state_folder(prefix):
            shutil.rmtree(
                path, ignore_errors=True
            ) if path.is_dir() and not path.is_symlink() else path.unlink()
    remove_journal(prefix)


def _base_python(prefix: Path) -> str | None:
    """The interpreter that an environment was created with, as its `pyvenv.cfg` says."""
    try:
        text = (prefix / "pyvenv.cfg").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    pairs = dict(re.findall(r"^(\w+)[ \t]*=[ \t]*(.+?)[ \t]*$", text, re.MULTILINE))
    short = ".".join((pairs.get("version_info") or pairs.get("version", "")).split(".")[:2])
    names = (f"python{short}", "python3", "python", "python.exe") if "home" in pairs else ()
    found = (Path(pairs["home"], name) for name in names)
    return next((str(path) for path in found if path.exists()), short or None)
