"""Run `uv sync` or `uv run` with the extra or group that fits this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torchinstall.install.uv import run_uv
from torchinstall.project.files import workspace_root
from torchinstall.project.held import offers
from torchinstall.project.lock import read_lock

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
    """Run uv on our own streams and wait for it; its exit status.

    Raises:
        ToolMissingError: `uv-broken`: it does not start.
        KeyboardInterrupt: after the child has ended.
    """
    return run_uv(argv, env=env, project=True, cwd=directory, inherit=True).returncode or 0
