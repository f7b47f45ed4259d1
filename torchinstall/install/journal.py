"""What a change of an environment writes down before it begins, and what becomes of one that was cut off.

Lock, journal and backup lie in `.torchinstall` in the environment, on the file system of its packages. A
wheel could name files there; one that does is refused, and a journal speaks of its own environment only.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec
from msgspec import Struct, field

from torchinstall.core.decoding import decoder
from torchinstall.core.errors import InstallFailedError, UsageError
from torchinstall.core.files import real_path, reason, venv_python, write_file
from torchinstall.core.messages import Message, redact
from torchinstall.install.backup import Backup, Due, plan_backup
from torchinstall.install.distributions import distributions, sites_of
from torchinstall.install.environment import STATE, is_empty
from torchinstall.install.record import Decision, path_in, store_decision
from torchinstall.install.signals import deferred_signals

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from psutil import Process

_NAME = "journal.json"

_SEED = ("pip", "setuptools", "wheel")
"""What uv puts into a new environment where it is told to."""

_CLOCKS = 60.0
"""Seconds by which the clock of a file system may lag behind ours."""

Work = TypeVar("Work")


class Owner(Struct, frozen=True):
    """A process, and what it was started with, without secrets."""

    pid: int
    command: str

    @classmethod
    def here(cls) -> Owner:
        """This process."""
        process = _process(os.getpid())
        words = process.cmdline() if process is not None else []
        ours = next((at for at, word in enumerate(words) if "torchinstall" in Path(word).parts[-2:]), 0)
        command = shlex.join(["torchinstall", *map(redact, words[ours + 1 :])])
        return cls(os.getpid(), command.encode(errors="replace").decode())

    def lives(self, since: float) -> bool:
        """Whether it still runs, as it did then (seconds since 1970): its number may be another's by now."""
        process = _process(self.pid)
        return process is not None and process.create_time() < since + _CLOCKS

    def __str__(self) -> str:
        return f"process {self.pid}, {self.command}"


def _process(pid: int) -> Process | None:
    import psutil  # only who changes an environment, or meets somebody who does, asks

    try:
        return psutil.Process(pid)
    except psutil.Error:
        return None


class Journal(Struct, frozen=True, kw_only=True):
    """What is about to happen to an environment; written before it does.

    Attributes:
        created: the environment itself is new.
        due: None: nobody knows yet.
        decision: to be recorded in the environment with the end of the change.
    """

    prefix: Path
    owner: Owner = field(default_factory=Owner.here)
    created: bool = False
    due: Due | None = None
    backup: Backup | None = None
    decision: Decision | None = None

    @property
    def sites(self) -> tuple[Path, ...]:
        """The site folders that it has a backup of."""
        return self.backup.sites if self.backup is not None else ()

    @contextlib.contextmanager
    def open(self) -> Iterator[tuple[int, ...]]:
        """Write it to disk (OSError, UsageError); a uv inherits what it yields, so that it is waited for.

        What lies in the environment is named from there: it may be moved before somebody reads this. Names
        need not be UTF-8, as JSON must: each byte is a letter of Latin-1.
        """
        path, inside = self.prefix / STATE / _NAME, f"{self.prefix}{os.sep}"

        def name(at: Path) -> str:
            return os.fsencode(f"{at}{os.sep}".removeprefix(inside)).decode("latin-1")

        write_file(path, msgspec.json.encode(self, enc_hook=name))
        with path.open("r+b") as file:  # NFS locks only what may be written
            if sys.platform == "win32":
                yield ()
            else:
                with contextlib.suppress(OSError):  # a file system without locks
                    fcntl.flock(file, fcntl.LOCK_EX)
                yield (file.fileno(),)


def read_journal(prefix: Path) -> Journal | None:
    """The journal of a change that is under way or was cut off; None where there is none.

    One that a package brought, or that leads out of its environment, is none.
    """
    path = prefix / STATE / _NAME
    try:
        decoder(Journal)
        data = path.read_bytes()
        journal = msgspec.json.decode(
            data, type=Journal, dec_hook=lambda _, name: prefix / os.fsdecode(name.encode("latin-1"))
        )
    except (OSError, ValueError, TypeError):
        return None
    backup = journal.backup
    if journal.prefix != prefix or (backup is not None and not backup.stays_in(prefix)):
        return None
    there = distributions(dict.fromkeys((*journal.sites, *sites_of(prefix))))
    if backup is None and any(dist.name not in _SEED for dist in there):
        return None  # what is made for the first time has no packages yet
    return None if any(dist.brings(path) for dist in there) else journal


def remove_journal(prefix: Path) -> None:
    """The change has come to its end."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        (prefix / STATE / _NAME).unlink()


def unfinished(prefix: Path) -> Message | None:
    """What somebody who only reads has to be told of a change that has not come to its end."""
    prefix = real_path(prefix)
    journal = read_journal(prefix)
    if journal is None:
        return None
    if not ended(prefix):
        return Message("environment-busy", f"the environment is being changed right now: {journal.owner}")
    text = (
        f"a run that changed this environment was killed ({journal.owner}); torchinstall auto or "
        "torchinstall doctor --fix puts that right first"
    )
    return Message("interrupted-install", text)


def free(path: Path) -> bool | None:
    """Whether nobody has locked a file; None: its file system, or Windows, does not tell.

    Raises:
        OSError: it cannot be opened.
    """
    idle: bool | None = None
    with path.open("rb") as file, contextlib.suppress(OSError):
        if sys.platform != "win32":
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                idle = True
            except BlockingIOError:
                idle = False
    return idle


def ended(prefix: Path) -> bool:
    """Whether nobody works for this journal any more: a uv may outlive the run that started it.

    Without locks only the run itself is looked for. On Windows an ended run takes its uv with it.
    """
    path = prefix / STATE / _NAME
    try:
        idle = free(path)
        if idle is None:
            journal = read_journal(prefix)
            idle = journal is None or not journal.owner.lives(path.stat().st_mtime)
    except OSError:
        return True
    return idle


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
    """What `work` (it runs uv) returns; its failure leaves the environment as it was. The lock must be held.

    `work` gets what uv has to inherit; `check` raises where the environment is not what it should be
    afterwards; `tell` is told after a failure what became of it; `due` None: anything may change.

    Raises:
        InstallFailedError: of `work` or `check`, its hints led by what became of the environment; or
            `no-backup`: nothing was begun, because files could not be kept.
        BaseException: whatever else `work` raised (Ctrl-C), after putting things back.
    """
    store = prefix / STATE / f"backup-{uuid.uuid4().hex}"
    more = [path_in(str(prefix))] if decision is not None else []
    backup = plan_backup(sites, prefix, store, None if due is None else due.keys(), more)
    journal = Journal(prefix=prefix, created=created, due=due, backup=backup, decision=decision)
    python, begun, done = _python_of(prefix), False, False
    with contextlib.ExitStack() as stack:
        try:
            with deferred_signals():
                inherited = _begin(stack, journal, backup)
                begun = True
            result = work(inherited)
            with deferred_signals():
                if backup.complete:  # otherwise uv has made the environment anew
                    check()
                if decision is not None and not store_decision(str(prefix), decision):
                    text = f"the record of this decision could not be written to {prefix}"
                    warn("decision-not-stored", text)
                _end(backup)
                done = True
        except BaseException as error:
            if done:
                raise
            with deferred_signals():
                message = _undo(backup, python, gone=begun and not backup.complete)
                _say(tell, message)
            if isinstance(error, InstallFailedError):
                error.hints = (message, *error.hints)
            raise
    return result


def _begin(stack: contextlib.ExitStack, journal: Journal, backup: Backup) -> tuple[int, ...]:
    """The journal on disk and the backup complete.

    Raises:
        InstallFailedError: `no-backup`.
    """
    try:
        inherited = stack.enter_context(journal.open())
        backup.save()
    except (OSError, UsageError) as error:
        raise InstallFailedError(
            "no-backup",
            "the files of the installed packages could not be backed up, so nothing was begun",
            wanted=f"room and the right to write in {journal.prefix / STATE}",
            found=reason(error),
            hints=("make room or change the owner of the environment, then run the same command again",),
        ) from error
    return inherited


def _end(backup: Backup) -> None:
    """The change is over: first the journal goes, then what nobody needs any more."""
    remove_journal(backup.prefix)
    shutil.rmtree(backup.store, ignore_errors=True)


def _undo(backup: Backup, python: str, *, gone: bool = False) -> str:
    """Put back what is different from before, and say what became of the environment.

    Where it is broken, with what to type; then the backup stays.
    """
    if gone or not all(site.is_dir() for site in backup.sites):
        prefix = shlex.quote(str(backup.prefix))
        command = f"uv venv {python}{prefix} && torchinstall auto --venv {prefix}"
        return f"the environment is gone: its folder was removed during the install: {command}"
    lost = backup.lost() if backup.complete else ()
    names = ", ".join(f"{dist.name} {dist.version}" for dist in lost)
    problem = ""
    try:
        if backup.complete:
            backup.put_back()
            problem = " (it still differs)" if backup.lost() else ""
    except OSError as error:
        problem = f" ({error.filename or 'files'}: {error.strerror or error})"
    if problem:
        message = f"the environment is broken, and {names or 'it'} could not be put back{problem}"
        return f"{message}: torchinstall doctor --fix"
    _end(backup)
    return "the environment " + (f"was put back as it was: {names}" if names else "is as it was before")


def recover(prefix: Path, tell: Callable[[str], None]) -> None:
    """Bring the change of a run that was killed to an end; the lock must be held.

    Where all that was to happen did, it is kept. Where somebody else has changed the same packages since, it
    is left to them. Otherwise the environment becomes what it was right before.

    Raises:
        InstallFailedError: `not-put-back`: it cannot yet; journal and backup stay for the next run.
    """
    with deferred_signals():
        journal = read_journal(prefix)
        if journal is not None:
            text = f"an earlier run was killed {_recovered(journal)}"
            journal = read_journal(prefix)  # none where it came to its end
            if journal is not None and all(map(Path.is_dir, journal.sites)):
                raise _not_put_back(prefix, text)
            _say(tell, text)
        if journal is None or is_empty(prefix):
            # A backup without a journal belongs to nobody, nor does that of an environment that was emptied.
            remove_journal(prefix)
            ours = prefix / STATE
            left = [*ours.glob("backup-*"), *ours.glob("torchinstall-*"), *ours.glob(".*.tmp")]
            for path in (*left, *path_in(str(prefix)).parent.glob(".*.tmp")):
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)


def _not_put_back(prefix: Path, text: str) -> InstallFailedError:
    place = shlex.quote(str(prefix))
    return InstallFailedError(
        "not-put-back",
        text.removesuffix(": torchinstall doctor --fix"),
        wanted=f"the right to replace every file in {prefix}, and nothing that uses it",
        hints=(
            "close the programs that use this environment, free that file, and run the same command again",
            f"uv venv --clear {_python_of(prefix)}{place} && torchinstall auto --venv {place}",
        ),
    )


def _recovered(journal: Journal) -> str:
    backup = journal.backup
    state = backup.settled(journal.due) if backup is not None and backup.complete else None
    if backup is None or (journal.created and state is None):
        empty_environment(journal.prefix)
        return f"while it made {journal.prefix}; what it left was removed"
    if state is None:
        return f"before it finished; {_undo(backup, _python_of(journal.prefix))}"
    if state == "new" and journal.decision is not None:
        store_decision(str(journal.prefix), journal.decision)
    _end(backup)
    if state == "new":
        return "when it had installed everything; its work is kept"
    return "and its packages were changed since; they are kept as they are"


def _say(tell: Callable[[str], None], text: str) -> None:
    """A terminal that is gone is no reason to stop half-way."""
    with contextlib.suppress(OSError, ValueError, UsageError):
        tell(text)


def empty_environment(prefix: Path) -> None:
    """Remove an environment that is of no use, but for our lock in it."""
    for path in prefix.iterdir() if prefix.is_dir() else ():
        if path.is_dir() and not path.is_symlink():
            if path != prefix / STATE:
                shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()
    remove_journal(prefix)


def _python_of(prefix: Path) -> str:
    """What makes an environment with the same Python again, as its `pyvenv.cfg` says: `--python 3.12 `."""
    version = venv_python(prefix)
    return f"--python {version} " if version else ""
