"""Change an environment so that a failure leaves no trace: create, ask uv, back up, install, record.

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
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Literal, TypeVar

import msgspec
from msgspec import Struct

from torchinstall import __version__
from torchinstall.core.errors import InstallFailedError, ToolMissingError
from torchinstall.core.machine import Machine
from torchinstall.core.plan import Plan
from torchinstall.install.backup import Backup, DistInfo, take_backup
from torchinstall.install.environment import PythonEnvironment, create
from torchinstall.install.record import decision_of, store_decision
from torchinstall.install.uv import Uv, install_failure, run_uv

__all__ = [
    "Change",
    "InstallResult",
    "Job",
    "Outcome",
    "Reinstall",
    "Transaction",
    "execute",
    "protected",
    "restore",
]


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
    """

    env: Mapping[str, str]
    cwd: Path
    sink: BinaryIO
    family: Collection[str]
    now: Callable[[], float]
    tell: Callable[[str], None]
    warn: Callable[[str, str], None]

    def install(self, job: Job, widen: Callable[[Collection[str]], Job | None]) -> InstallResult | None:
        """Install what a plan says; None where nothing is to change.

        uv is first asked what it would do: then it can be said before it happens, nothing is touched where
        nothing is to change, and exactly the packages that change are backed up until all went well.

        Args:
            job: the plan.
            widen: is told the names of all packages that would change; returns another job where more has to
                be planned for them.

        Raises:
            InstallFailedError: uv failed; the environment is as it was, or the hints say what to type.
            TargetError: the environment could not be created.
        """
        with self._created(job) as environment:
            changes = self._rehearse(job)
            if (wider := widen(_names(changes))) is not None:
                job = wider
                changes = self._rehearse(job)
            if changes == ():
                return None
            coming = [f"{row.name} {row.version}" for row in changes or () if row.action != "uninstalled"]
            if coming:
                self.tell(f"installing {len(coming)} packages: " + ", ".join(coming))
            plan = job.plan
            result = protected(
                lambda: execute(plan, env=self.env, sink=self.sink, cwd=self.cwd),
                sites=[Path(folder) for folder in environment.interpreter.site_packages],
                prefix=Path(str(environment.target.prefix)),
                changing=None if changes is None else _names(changes),
                reinstall=Reinstall.of(plan, self.env),
                tell=self.tell,
            )
        self._record(job)
        return result

    @contextlib.contextmanager
    def _created(self, job: Job) -> Iterator[PythonEnvironment]:
        """The environment, created where it was missing and removed again if it is of no use."""
        environment = job.environment
        if environment.base is None:
            yield environment
            return
        prefix = Path(str(environment.target.prefix))
        existed = prefix.exists()
        self.tell(f"creating the environment {prefix} with {environment.base}")
        try:
            yield create(environment, uv=job.uv.path, env=self.env, family=self.family)
        except BaseException:
            shutil.rmtree(prefix, ignore_errors=True)
            if existed:
                prefix.mkdir(exist_ok=True)
            raise

    def _rehearse(self, job: Job) -> tuple[Change, ...] | None:
        """What will change; None where uv did not say. uv's words are shown only where it fails."""
        heard = io.BytesIO()
        self.tell("asking uv what has to change")
        try:
            return execute(job.rehearsal, env=self.env, sink=heard, cwd=self.cwd).changes
        except InstallFailedError:
            self.sink.write(heard.getvalue())
            self.sink.flush()
            raise

    def _record(self, job: Job) -> None:
        """Store the decision in the environment, for `doctor`."""
        made_at = dt.datetime.fromtimestamp(self.now(), tz=dt.timezone.utc).isoformat(timespec="seconds")
        versions = {"torchinstall": __version__, "uv": job.uv.version}
        prefix = str(job.plan.target.prefix)
        decision = decision_of(job.plan, job.machine, made_at=made_at, versions=versions)
        if store_decision(prefix, decision) is None:
            self.warn("decision-not-stored", f"the record of this decision could not be written to {prefix}")


def _names(changes: tuple[Change, ...] | None) -> frozenset[str]:
    return frozenset(row.name for row in changes or ())


def execute(plan: Plan, *, env: Mapping[str, str], sink: BinaryIO, cwd: Path | None = None) -> InstallResult:
    """Write the plan's project file to a private folder and run its command on it.

    uv reads our stdin, draws on `sink` and prints its list of changes to us, never to our stdout. It resolves
    and downloads everything before it touches the environment.

    Args:
        plan: filled by `command`.
        env: of the user.
        sink: where uv's talk goes: our stderr.
        cwd: folder that uv finds the user's configuration from.

    Raises:
        InstallFailedError: uv failed; its words are on `sink` already, the slug and hint are ours.
        ToolMissingError: `uv-broken`: it could not be started.
        KeyboardInterrupt: Ctrl-C, after uv has ended.
    """
    argv = list(plan.command)
    # Only this user can read the folder; the project file may hold credentials.
    with tempfile.TemporaryDirectory(prefix="torchinstall-") as folder:
        if plan.project is not None:
            path = Path(folder, "pyproject.toml")
            path.write_text(plan.project, encoding="utf-8")
            argv[argv.index("-r") + 1] = str(path)
        done = run_uv(argv, env=env, changes=plan.env, cwd=cwd, sink=sink)
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


class Outcome(Struct, frozen=True, kw_only=True):
    """What became of the environment after a failure.

    Attributes:
        status: as it was all along, put back, or broken.
        message: one sentence.
        command: what to type where it is broken.
    """

    status: Literal["untouched", "restored", "broken"]
    message: str
    command: str | None = None


class Reinstall(Struct, frozen=True, kw_only=True):
    """How uv can put packages back without a network.

    Attributes:
        uv: path of uv.
        python: interpreter of the environment.
        env: of the user.
        sources: arguments that say where packages come from (`--find-links`, `--index` …).
    """

    uv: str
    python: str
    env: Mapping[str, str]
    sources: tuple[str, ...] = ()

    @classmethod
    def of(cls, plan: Plan, env: Mapping[str, str]) -> Reinstall:
        """From where the plan takes packages."""
        folders = tuple(item for folder in plan.find_links for item in ("--find-links", folder))
        index = () if plan.index_url is None else ("--index", plan.index_url)
        return cls(uv=plan.command[0], python=str(plan.target.python), env=env, sources=(*folders, *index))

    def argv(self, dists: Iterable[DistInfo], *, offline: bool = True) -> list[str]:
        """The command that installs exactly these again, and nothing else."""
        wanted = [dist.requirement for dist in dists]
        names = [item for dist in dists for item in ("--reinstall-package", dist.name)]
        mode = ["--offline"] if offline else []
        head = [self.uv, "pip", "install", "--python", self.python]
        return [*head, *mode, "--no-deps", *names, *self.sources, *wanted]


Work = TypeVar("Work")


def protected(
    work: Callable[[], Work],
    *,
    sites: Iterable[Path],
    prefix: Path,
    changing: Collection[str] | None = None,
    reinstall: Reinstall | None = None,
    tell: Callable[[str], None] = lambda _text: None,
) -> Work:
    """Run an install so that its failure leaves the environment as it was.

    Args:
        work: runs uv.
        sites: the environment's site-packages folders.
        prefix: the environment.
        changing: names of packages about to change; None: all.
        reinstall: how uv puts packages back where links could not be made.
        tell: is told, after a failure, what became of the environment.

    Returns:
        What `work` returned.

    Raises:
        InstallFailedError: of `work`, its hints led by what became of the environment.
        BaseException: whatever else `work` raised (Ctrl-C), after putting things back.
    """
    backup = take_backup(sites, prefix, changing)
    base = _base_python(prefix)
    try:
        result = work()
    except BaseException as error:
        outcome = restore(backup, reinstall, base=base)
        tell(outcome.message)
        if not isinstance(error, InstallFailedError):
            raise
        state = f"{outcome.message}: {outcome.command}" if outcome.command else outcome.message
        raise InstallFailedError(
            error.slug, error.message, wanted=error.wanted, found=error.found, hints=(state, *error.hints)
        ) from error
    backup.discard()
    return result


def restore(backup: Backup, reinstall: Reinstall | None = None, *, base: str | None = None) -> Outcome:
    """Put back what is different from before; the links are given up unless that failed.

    Args:
        backup: taken before the install.
        reinstall: how uv does it where there are no links.
        base: the Python that the environment was created with, for recreating it.
    """
    if not all(site.is_dir() for site in backup.sites):
        prefix = shlex.quote(str(backup.prefix))
        python = f"--python {shlex.quote(base)} " if base else ""
        return Outcome(
            status="broken",
            message="the environment is gone: its folder was removed during the install",
            command=f"uv venv {python}{prefix} && torchinstall auto --venv {prefix}",
        )
    lost, strays = backup.changed(), backup.strays()
    if not lost and not strays:
        backup.discard()
        return Outcome(status="untouched", message="the environment is as it was before")
    problem = None
    try:
        if backup.links is not None:
            backup.put_back(lost)
        elif lost:
            problem = _put_back_by_uv(lost, reinstall)
        if problem is None:
            backup.remove(strays)
    except OSError as error:
        problem = error.strerror or str(error)
    names = ", ".join(f"{dist.name} {dist.version}" for dist in lost)
    if problem is not None or backup.changed():
        message = f"the environment is broken, and {names or 'it'} could not be put back"
        return Outcome(
            status="broken",
            message=message + (f" ({problem})" if problem else ""),
            command=_again(backup, reinstall),
        )
    backup.discard()
    message = (
        f"the environment was put back as it was: {names}" if names else "half-installed files were removed"
    )
    return Outcome(status="restored", message=message)


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


def _put_back_by_uv(lost: Collection[DistInfo], reinstall: Reinstall | None) -> str | None:
    if reinstall is None:
        return "there is no backup of its files"
    try:
        done = run_uv(reinstall.argv(lost), env=reinstall.env)
    except ToolMissingError as error:
        return error.message
    return None if done.returncode == 0 else "uv's cache does not have them"


def _again(backup: Backup, reinstall: Reinstall | None) -> str:
    """What to type where nothing helped."""
    if reinstall is None:
        return "uv pip install " + shlex.join(dist.requirement for dist in backup.saved)
    return shlex.join(["uv", *reinstall.argv(backup.saved, offline=False)[1:]])
