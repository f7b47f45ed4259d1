"""Carry a plan out: make the environment, say what comes, install so that a failure leaves no trace."""

from __future__ import annotations

import contextlib
import io
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct, structs

from torchinstall.core.errors import InstallFailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torchinstall.core.plan import Plan
    from torchinstall.install.environment import PythonEnvironment
    from torchinstall.install.execute import Change, Result
    from torchinstall.planning.assemble import Prepared
    from torchinstall.planning.context import Context

__all__ = ["Done", "carry_out"]


class Done(Struct, frozen=True, kw_only=True):
    """What was done; `line` is the one whose plan was carried out, `result` None where nothing was to do."""

    line: Prepared
    result: Result | None


def carry_out(
    line: Prepared,
    context: Context,
    *,
    tell: Callable[[str], None],
    warn: Callable[[str, str], None],
    widen: Callable[[Prepared, tuple[str, ...]], Prepared],
    uv_talk: tuple[str, ...] = (),
) -> Done:
    """Install what the line plans.

    uv is first asked what it would do: then it can be said before it happens, nothing is touched where
    nothing is to change, and exactly the packages that change are kept until all went well.

    Args:
        line: with a plan that is not impossible.
        context: environment, folder and stderr.
        tell: hears what happens.
        warn: hears (slug, message) of what is wrong and does not matter enough to stop.
        widen: plans a line again with packages that turned out to be needed too.
        uv_talk: arguments that say how loud and how coloured uv is.

    Raises:
        InstallFailedError: uv failed; the environment is as it was, or the hints say what to type.
        TargetError: the environment could not be made.
    """
    if not line.asks_uv:
        return Done(line=line, result=None)
    if line.place is None or line.uv is None:
        raise TypeError("a line that is carried out has a place and a uv")
    with _made(line, line.place, context, tell) as (made, place):
        changes = _rehearsed(made, context, tell)
        if strays := made.strays(_names(changes)):
            made = structs.replace(widen(made, strays), place=place)
            changes = _rehearsed(made, context, tell)
        _announce(changes, tell)
        if changes == ():
            return Done(line=made, result=None)
        changing = None if changes is None else _names(changes)
        result = _installed(made.command(context.env, more=uv_talk), place, context, changing, tell)
    _stored(made, context, warn)
    return Done(line=made, result=result)


@contextlib.contextmanager
def _made(
    line: Prepared, place: PythonEnvironment, context: Context, tell: Callable[[str], None]
) -> Iterator[tuple[Prepared, PythonEnvironment]]:
    """The environment, made where it was missing and removed again if it is of no use."""
    from torchinstall.install.environment import create

    if place.base is None:
        yield line, place
        return
    tell(f"making the environment {place.target.prefix} with {place.base}")
    uv = line.uv.path if line.uv is not None else ""
    prefix = Path(str(place.target.prefix))
    was_there = prefix.exists()
    try:
        family = frozenset(row.package for row in line.catalog.families)
        fresh = create(place, uv=uv, env=context.env, family=family)
        yield structs.replace(line, place=fresh), fresh
    except BaseException:
        shutil.rmtree(prefix, ignore_errors=True)
        if was_there:
            prefix.mkdir(exist_ok=True)
        raise


def _rehearsed(line: Prepared, context: Context, tell: Callable[[str], None]) -> tuple[Change, ...] | None:
    """What will change; None where uv did not say. uv's words are shown only where it fails."""
    from torchinstall.install.execute import run

    heard = io.BytesIO()
    tell("asking uv what has to change")
    try:
        return run(
            line.command(context.env, dry_run=True), env=context.env, sink=heard, cwd=context.cwd
        ).changes
    except InstallFailedError:
        context.stderr_bytes.write(heard.getvalue())
        context.stderr_bytes.flush()
        raise


def _names(changes: tuple[Change, ...] | None) -> frozenset[str]:
    return frozenset(row.name for row in changes or ())


def _announce(changes: tuple[Change, ...] | None, tell: Callable[[str], None]) -> None:
    coming = [f"{row.name} {row.version}" for row in changes or () if row.action != "uninstalled"]
    if coming:
        tell(f"installing {len(coming)} packages: " + ", ".join(coming))


def _installed(
    plan: Plan,
    place: PythonEnvironment,
    context: Context,
    changing: frozenset[str] | None,
    tell: Callable[[str], None],
) -> Result:
    from torchinstall.install.execute import run
    from torchinstall.install.rollback import Reinstall, protected

    uv, python = plan.command[0], str(plan.target.python)
    places = tuple(item for folder in plan.find_links for item in ("--find-links", folder))
    if plan.index_url is not None:
        places += ("--index", plan.index_url)
    return protected(
        lambda: run(plan, env=context.env, sink=context.stderr_bytes, cwd=context.cwd),
        sites=[Path(folder) for folder in place.interpreter.site_packages],
        prefix=Path(str(place.target.prefix)),
        changing=changing,
        reinstall=Reinstall(uv=uv, python=python, env=context.env, places=places),
        tell=tell,
    )


def _stored(line: Prepared, context: Context, warn: Callable[[str, str], None]) -> None:
    """Keep the decision in the environment, for `doctor`."""
    import datetime as dt

    from torchinstall import __version__
    from torchinstall.install.record import decision_of, store_decision

    prefix = line.plan.target.prefix
    if prefix is None or line.uv is None:
        return
    made_at = dt.datetime.fromtimestamp(context.now(), tz=dt.timezone.utc).isoformat(timespec="seconds")
    versions = {"torchinstall": __version__, "uv": line.uv.version}
    if (
        store_decision(prefix, decision_of(line.plan, line.machine, made_at=made_at, versions=versions))
        is None
    ):
        warn("decision-not-stored", f"{prefix} does not take the record of this decision")
