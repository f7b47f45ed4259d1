"""Keep an environment from harm while it changes: journal and backup first, then the work, then their end.

What a run that was killed leaves is brought to an end by the next one (`recover`).
"""

from __future__ import annotations

import contextlib
import re
import shlex
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from torchinstall.core.errors import InstallFailedError
from torchinstall.install.backup import Backup, plan_backup
from torchinstall.install.journal import Journal, Owner, read_journal, remove_journal, state_folder
from torchinstall.install.lock import EnvironmentLock
from torchinstall.install.record import Decision, path_in, store_decision
from torchinstall.install.signals import deferred_signals

Due = dict[str, str | None]
"""name -> version of what will be there in the end, None: gone."""

Work = TypeVar("Work")


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
    base, begun, done = _base_python(prefix), False, False
    with contextlib.ExitStack() as stack:
        try:
            with deferred_signals():
                keep = stack.enter_context(_begun(journal, backup))
                begun = True
            result = work(keep)
            with deferred_signals():
                if backup.complete:  # otherwise uv has made the environment anew
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
                message, command = _undo(backup, base, gone=begun and not backup.complete)
                _say(tell, message)
            if not isinstance(error, InstallFailedError):
                raise
            state = f"{message}: {command}" if command else message
            raise InstallFailedError(
                error.slug, error.message, wanted=error.wanted, found=error.found, hints=(state, *error.hints)
            ) from error
    return result


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


def _undo(backup: Backup, base: str | None, *, gone: bool = False) -> tuple[str, str | None]:
    """Put back what is different from before.

    Returns:
        What became of the environment, and what to type where it is broken; then the backup stays.
    """
    if gone or not all(site.is_dir() for site in backup.sites):
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
        empty_environment(journal.prefix)
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


def empty_environment(prefix: Path) -> None:
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
