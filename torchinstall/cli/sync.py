"""`torchinstall sync`: `uv sync` with the extra or group that fits this machine."""

from __future__ import annotations

from torchinstall.cli.projecting import MACHINE_OPTIONS
from torchinstall.cli.session import Session
from torchinstall.cli.settings import Settings
from torchinstall.cli.syncing import uv_with_choice
from torchinstall.cli.verb import Verb

__all__ = ["VERB"]


def run(session: Session, settings: Settings) -> int:
    """Choose and run.

    Raises:
        InstallFailedError: `sync-failed`: uv's words are on stderr already.
    """
    from torchinstall.core.errors import InstallFailedError

    status = uv_with_choice(session, settings, "sync")
    if status != 0:
        raise InstallFailedError(
            "sync-failed",
            f"uv sync ended with exit status {status}",
            found="uv's own words above",
            hints=("torchinstall sync --dry-run shows the command",),
        )
    return 0


VERB = Verb(
    "sync",
    run,
    summary="Run uv sync with the extra or group of the project that fits this machine.",
    more="Without a GPU (in CI, say) the CPU one is taken. `torchinstall configure` writes such projects.",
    options=("project", *MACHINE_OPTIONS, "python_version", "offline", "dry_run"),
    examples=(
        ("torchinstall sync", "the build for this machine, from the project's own lock"),
        ("torchinstall sync -- --locked --no-dev", "in CI: fail where the lock is stale"),
        ("torchinstall sync --backend cpu", "the CPU group, GPU or not"),
    ),
    passthrough="UV_ARGS",
)
