"""Let the real uv lock a project: the only place of this room that starts it for that."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torchinstall.core.errors import InstallFailedError
from torchinstall.install.uv import run_uv

__all__ = ["lock_project"]

_TELLING = 12
"""Lines of uv's words that go into our message; it explains a failure at the end."""


def lock_project(uv: str, directory: Path, env: Mapping[str, str], *, offline: bool = False) -> None:
    """Run `uv lock` in a project.

    Raises:
        InstallFailedError: `lock-failed`, with uv's own words.
        ToolMissingError: `uv-broken`.
    """
    argv = [uv, "lock", "--color", "never", *(["--offline"] if offline else [])]
    # The caller wants a new lock, whatever the user's variables say about the one that is there.
    changes = (("UV_FROZEN", None), ("UV_LOCKED", None))
    done = run_uv(argv, env=env, project=True, changes=changes, cwd=directory)
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        raise InstallFailedError(
            "lock-failed",
            "uv cannot resolve the project with these entries, so nothing was changed",
            wanted="a lock for every platform",
            found="\n".join(said[-_TELLING:]) or done.ending,
            hints=(
                "require fewer platforms: --require-platform linux_x86_64",
                "see the entries without locking: torchinstall configure --dry-run",
            ),
        )
