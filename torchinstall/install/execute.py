"""Run the command of a plan: the only place that starts uv to change an environment."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from msgspec import Struct

from torchinstall.core.errors import InstallFailedError, ToolMissingError
from torchinstall.install.stream import Tee, stop

if TYPE_CHECKING:
    from types import FrameType

    from torchinstall.core.plan import Plan

__all__ = ["Change", "Result", "child_env", "explain", "run"]


_GRACE = 10.0
"""Seconds that uv may take to end after a Ctrl-C before it is made to."""


class Change(Struct, frozen=True, kw_only=True):
    """What uv did to one package; `action` is uv's word: `installed`, `uninstalled`, `reinstalled`."""

    name: str
    version: str
    action: str


class Result(Struct, frozen=True, kw_only=True):
    """What a run of uv came to.

    Attributes:
        changes: in uv's order; empty: all was right already. None: uv did not say.
        dry_run: nothing was done, `changes` is what would be.
        said: uv's last words, without terminal codes.
    """

    changes: tuple[Change, ...] | None
    dry_run: bool
    said: str

    @property
    def satisfied(self) -> bool:
        """Whether there was nothing to do."""
        return self.changes == ()


def child_env(plan: Plan, env: Mapping[str, str]) -> dict[str, str]:
    """The user's environment with what the plan sets and unsets."""
    out = dict(env)
    for name, value in plan.env:
        if value is None:
            out.pop(name, None)
        else:
            out[name] = value
    return out


def run(
    plan: Plan,
    *,
    env: Mapping[str, str],
    sink: BinaryIO | None = None,
    cwd: Path | None = None,
    grace: float = _GRACE,
) -> Result:
    """Write the plan's project file to a private folder and run its command on it.

    uv reads our stdin, draws on `sink` and prints its list of changes to us, never to our stdout. uv resolves
    and downloads everything before it touches the environment.

    Args:
        plan: filled by `command`.
        env: of the user.
        sink: where uv's talk goes: our stderr.
        cwd: folder that uv finds the user's configuration from.
        grace: seconds that uv may take to end after a Ctrl-C.

    Raises:
        InstallFailedError: uv failed; its words are on `sink` already, the slug and hint are ours.
        ToolMissingError: `uv-broken`: it could not be started.
        KeyboardInterrupt: Ctrl-C, after uv has ended.
    """
    tee = Tee(sink if sink is not None else sys.stderr.buffer)
    with _project(plan) as argv, _interruptible():
        try:
            process = subprocess.Popen(
                argv, stdout=subprocess.PIPE, stderr=tee.child_end, env=child_env(plan, env), cwd=cwd
            )
        except OSError as error:
            tee.finish()
            raise ToolMissingError(
                "uv-broken",
                f"uv at {argv[0]} does not start",
                wanted="a uv that runs",
                found=str(error),
                hints=("uv pip install --reinstall uv",),
            ) from error
        try:
            tee.start()
            printed = process.stdout.read() if process.stdout else b""
            returncode = process.wait()
        except BaseException:
            stop(process, grace=grace)
            tee.finish()
            raise
        finally:
            if process.stdout is not None:
                process.stdout.close()
        said = tee.finish()
    if returncode != 0:
        raise _failure(plan, returncode, said)
    changes, dry = _changes(printed)
    return Result(changes=changes, dry_run=dry or "--dry-run" in plan.command, said=said)


@contextmanager
def _project(plan: Plan) -> Iterator[list[str]]:
    """The command's arguments, its project file written to a folder that only this user can read."""
    argv = list(plan.command)
    with tempfile.TemporaryDirectory(prefix="torchinstall-") as folder:
        if plan.project is not None:
            path = Path(folder, "pyproject.toml")
            path.write_text(plan.project, encoding="utf-8")
            argv[argv.index("-r") + 1] = str(path)
        yield argv


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let a request to terminate end uv as Ctrl-C does, instead of leaving it behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, frame: FrameType | None) -> None:
        del frame
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _changes(printed: bytes) -> tuple[tuple[Change, ...] | None, bool]:
    """The rows of `--output-format json`; uv calls its shape a preview, so anything else is "not said"."""
    try:
        data = json.loads(printed)
        rows = tuple(
            Change(name=row["name"], version=str(row.get("version", "")), action=row["action"])
            for row in data["changes"]
        )
        return rows, bool(data.get("dry_run"))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None, False


def _failure(plan: Plan, returncode: int, said: str) -> InstallFailedError:
    if returncode == -signal.SIGINT:
        raise KeyboardInterrupt
    slug, hint, words = explain(said, returncode, (item.name for item in plan.packages if item.routed))
    what = f"torch {plan.torch}" if plan.torch else "the packages"
    return InstallFailedError(
        slug,
        f"uv could not install {what}",
        found=words,
        hints=(hint,),
    )


def explain(said: str, returncode: int, routed: Iterable[str] = ()) -> tuple[str, str, str]:
    """Slug, hint and the telling line of a failure.

    Args:
        said: uv's stderr, without terminal codes.
        returncode: its exit status; negative: the signal that killed it.
        routed: packages that come from one index only; `{routed}` in a pattern is any of them.

    Returns:
        The first row of the table whose pattern occurs, or `uv-failed` / `uv-killed`.
    """
    words = re.sub(r"\s+", " ", said)
    if returncode < 0:
        return (
            "uv-killed",
            "something ended uv, often for lack of memory: free some and run the same command again",
            f"uv was ended by signal {-returncode}",
        )
    table = json.loads((Path(__file__).parent / "hints.json").read_text(encoding="utf-8"))
    names = "(?:" + ("|".join(re.escape(name) for name in routed) or "(?!)") + ")"
    for row in table["rows"]:
        pattern = row["pattern"].replace("{routed}", names)
        if re.search(pattern, words):
            return row["slug"], row["hint"], _telling_line(said, pattern)
    return "uv-failed", "uv's own words above say why; -v shows more of them", _telling_line(said, r"error: ")


def _telling_line(said: str, pattern: str) -> str:
    """The line of uv's that the pattern fits, else its first error, else its last line."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    for wanted in (pattern, r"^error\b"):
        for line in lines:
            # uv says that there is no solution first, and why on the next line.
            if re.search(wanted, line) and "No solution found when" not in line:
                return re.sub(r"^(error|cause): ", "", line)[:300]
    return re.sub(r"^(error|cause): ", "", lines[-1])[:300] if lines else "uv said nothing"
