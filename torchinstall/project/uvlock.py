"""Let the real uv lock a project: the only place of this room that starts it for that."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from torchinstall.core.errors import InstallFailedError, ToolMissingError

__all__ = ["child_env", "lock_project"]

_TELLING = 12
"""Lines of uv's words that go into our message; it explains a failure at the end."""


def child_env(env: Mapping[str, str]) -> dict[str, str]:
    """The user's environment without what uv does not read in projects and would only mislead a reader."""
    return {name: value for name, value in env.items() if name != "UV_TORCH_BACKEND"}


def lock_project(uv: str, directory: Path, env: Mapping[str, str], *, offline: bool = False) -> None:
    """Run `uv lock` in a project.

    Raises:
        InstallFailedError: `lock-failed`, with uv's own words.
        ToolMissingError: `uv-broken`.
    """
    argv = [uv, "lock", "--color", "never", *(["--offline"] if offline else [])]
    try:
        done = subprocess.run(
            argv,
            cwd=directory,
            env=child_env(env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            encoding="utf-8",
            errors="replace",
        )
    except OSError as error:
        raise ToolMissingError(
            "uv-broken",
            f"uv at {uv} does not start",
            found=str(error),
            hints=("uv pip install --reinstall uv",),
        ) from error
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        raise InstallFailedError(
            "lock-failed",
            "uv cannot resolve the project with these entries, so nothing was changed",
            wanted="a lock for every platform",
            found="\n".join(said[-_TELLING:]) or f"exit status {done.returncode}",
            hints=(
                "require fewer platforms: --require-platform linux_x86_64",
                "see the entries without locking: torchinstall configure --dry-run",
            ),
        )
