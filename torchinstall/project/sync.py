"""Run `uv sync` or `uv run` with the extra or group that fits this machine."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torchinstall.core.errors import ToolMissingError
from torchinstall.project.files import workspace_root
from torchinstall.project.held import offers
from torchinstall.project.lock import read_lock
from torchinstall.project.uvlock import child_env

if TYPE_CHECKING:
    from torchinstall.catalog.catalog import Catalog
    from torchinstall.project.view import ProjectView

__all__ = ["hand_over", "locked_versions", "sync_argv"]


def locked_versions(
    directory: Path, view: ProjectView, catalog: Catalog, cell: str | None, python: str
) -> dict[str, str]:
    """Backend -> the torch version that the lock holds for it on a platform; empty without a lock."""
    path = workspace_root(directory) / "uv.lock"
    try:
        lock = read_lock(path.read_text(encoding="utf-8"), view.name)
    except (OSError, UnicodeDecodeError):
        return {}
    if lock is None or cell is None:
        return {}
    found = {}
    for offer in offers(view, catalog):
        select = (offer.place,) if offer.place is not None else ()
        torch = lock.tree(cell, python, select).get("torch")
        if torch is not None:
            found[offer.backend] = torch.version
    return found


def sync_argv(
    uv: str, verb: str, flags: Sequence[str], rest: Sequence[str], *, offline: bool = False
) -> tuple[str, ...]:
    """The command: `uv sync FLAGS REST`, or `uv run FLAGS -- REST`."""
    head = (uv, verb, *flags, *(("--offline",) if offline else ()))
    return (*head, "--", *rest) if verb == "run" else (*head, *rest)


def hand_over(argv: Sequence[str], directory: Path | None, env: Mapping[str, str]) -> int:
    """Run a command on our own streams and wait for it; its exit status.

    A Ctrl-C reaches the child too: it is waited for, so that it can clean up.

    Raises:
        ToolMissingError: `uv-broken`: it does not start.
        KeyboardInterrupt: after the child has ended.
    """
    try:
        process = subprocess.Popen(list(argv), cwd=directory, env=child_env(env))
    except OSError as error:
        raise ToolMissingError(
            "uv-broken",
            f"{argv[0]} does not start",
            wanted="a uv that runs",
            found=str(error),
            hints=("uv pip install --reinstall uv",),
        ) from error
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.wait()
        raise
