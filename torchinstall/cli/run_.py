"""`torchinstall run -- CMD`: `uv run` with the extra or group that fits this machine."""

from __future__ import annotations

from torchinstall.cli.projecting import MACHINE_OPTIONS
from torchinstall.cli.session import Session
from torchinstall.cli.settings import Settings
from torchinstall.cli.syncing import uv_with_choice
from torchinstall.cli.verb import Verb

__all__ = ["VERB"]


def run(session: Session, settings: Settings) -> int:
    """Choose and run; the exit status is the command's.

    Raises:
        UsageError: `no-command`: nothing follows `--`.
    """
    from torchinstall.core.errors import UsageError

    if not settings.rest:
        raise UsageError(
            "no-command",
            "there is no command to run",
            wanted="-- and a command",
            found="nothing after --",
            hints=("torchinstall run -- python train.py",),
        )
    return uv_with_choice(session, settings, "run")


VERB = Verb(
    "run",
    run,
    summary="Run a command in the project, with the extra or group that fits this machine.",
    more="As `uv run`, which takes no extra by itself and would put the default index's torch back.",
    options=("project", *MACHINE_OPTIONS, "python_version", "offline", "dry_run"),
    examples=(
        ("torchinstall run -- python train.py", "train with the build for this machine"),
        ("torchinstall run --backend cpu -- pytest -q", "test with the CPU build"),
        ("torchinstall run --dry-run -- python -V", "which uv command would that be?"),
    ),
    passthrough="CMD",
)
