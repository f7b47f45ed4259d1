"""Run the command of a plan: the only place that starts uv to change an environment."""

from __future__ import annotations

import json
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct

from torchinstall.core.plan import Plan
from torchinstall.install.uv import install_failure, run_uv

__all__ = ["Change", "Result", "run"]


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
    """

    changes: tuple[Change, ...] | None
    dry_run: bool

    @property
    def satisfied(self) -> bool:
        """Whether there was nothing to do."""
        return self.changes == ()


def run(
    plan: Plan,
    *,
    env: Mapping[str, str],
    sink: BinaryIO | None = None,
    cwd: Path | None = None,
) -> Result:
    """Write the plan's project file to a private folder and run its command on it.

    uv reads our stdin, draws on `sink` and prints its list of changes to us, never to our stdout. uv resolves
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
    with _project(plan) as argv:
        done = run_uv(argv, env=env, changes=plan.env, cwd=cwd, sink=sink or sys.stderr.buffer)
    if done.returncode == -signal.SIGINT:
        raise KeyboardInterrupt
    if done.returncode != 0:
        what = f"install torch {plan.torch}" if plan.torch else "install the packages"
        raise install_failure(done, what, (item.name for item in plan.packages if item.routed))
    changes, dry = _changes(done.stdout)
    return Result(changes=changes, dry_run=dry or "--dry-run" in plan.command)


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


def _changes(printed: str) -> tuple[tuple[Change, ...] | None, bool]:
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
