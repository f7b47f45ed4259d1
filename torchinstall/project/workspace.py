"""Find the root of a uv workspace: some keys are read there and nowhere else, and the lock lies there."""

from __future__ import annotations

import fnmatch
from pathlib import Path

from torchinstall.project.toml import loads
from torchinstall.project.view import ProjectView

__all__ = ["workspace_root"]


def workspace_root(directory: Path) -> Path:
    """The folder of the workspace that a project is a member of; the project's own where it is in none."""
    own = directory.resolve()
    for parent in own.parents:
        try:
            text = (parent / "pyproject.toml").read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        table = ProjectView(loads(text) or {}).uv.get("workspace")
        if not isinstance(table, dict):
            continue
        relative = own.relative_to(parent).as_posix()
        members, left_out = table.get("members", []), table.get("exclude", [])
        if _matches(relative, members) and not _matches(relative, left_out):
            return parent
    return own


def _matches(relative: str, patterns: object) -> bool:
    """As uv matches: a star stays within one folder name."""
    if not isinstance(patterns, list):
        return False
    parts = relative.split("/")
    return any(
        len(pieces := str(pattern).rstrip("/").removeprefix("./").split("/")) == len(parts)
        and all(fnmatch.fnmatchcase(part, piece) for part, piece in zip(parts, pieces, strict=True))
        for pattern in patterns
    )
