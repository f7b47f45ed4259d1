"""`torchinstall sync` and `torchinstall run`: uv's verbs with the extra or group that fits this machine."""

from __future__ import annotations

import shlex

from torchinstall.cli.console import Session
from torchinstall.cli.projecting import ProjectOptions, project_folder, project_plan, project_python
from torchinstall.cli.verb import Verb
from torchinstall.core.errors import InstallFailedError, UsageError

__all__ = ["RUN", "SYNC"]


def sync(session: Session, options: ProjectOptions) -> int:
    """Choose and run.

    Raises:
        InstallFailedError: `sync-failed`: uv's words are on stderr already.
    """
    status = _uv_with_choice(session, options, "sync")
    if status != 0:
        raise InstallFailedError(
            "sync-failed",
            f"uv sync ended with exit status {status}",
            found="uv's own words above",
            hints=("torchinstall sync --dry-run shows the command",),
        )
    return 0


def run(session: Session, options: ProjectOptions) -> int:
    """Choose and run; the exit status is the command's.

    Raises:
        UsageError: `no-command`: nothing follows `--`.
    """
    if not options.rest:
        raise UsageError(
            "no-command",
            "there is no command to run",
            wanted="-- and a command",
            found="nothing after --",
            hints=("torchinstall run -- python train.py",),
        )
    return _uv_with_choice(session, options, "run")


def _uv_with_choice(session: Session, options: ProjectOptions, verb: str) -> int:
    """Run uv's verb with what fits this machine; its exit status.

    Raises:
        TorchInstallError: no project, nothing that it offers fits, or hardware that cannot be read.
    """
    from torchinstall.install.uv import run_uv
    from torchinstall.project.files import read_text
    from torchinstall.project.layouts import plan_platform
    from torchinstall.project.pyproject import project_view
    from torchinstall.project.sync import choose, locked_versions, sync_argv

    context, console = session.context, session.console
    folder = project_folder(context, options.project)
    view = project_view(read_text(folder / "pyproject.toml"))
    python = project_python(folder, view, options.python_version, context.python_version)
    made = project_plan(session, options, python, ("torch",), offline=True)
    if made.plan.error is not None:
        raise made.plan.error
    locked = locked_versions(folder, view, made.catalog, plan_platform(made.plan), python)
    choice = choose(view, made.plan, made.catalog, locked=locked, require_gpu=options.require_gpu)
    for note in choice.notes:
        console.warn(note.slug, note.message)
    rest = options.rest
    backend = choice.route.backend if choice.route else "default index"
    shown = shlex.join(sync_argv("uv", verb, choice.flags, rest, offline=options.offline))
    console.say(f"{backend} ({choice.reason}): {shown}")
    if options.dry_run:
        console.out(shown)
        return 0
    uv = context.find_uv(context.env)
    argv = sync_argv(uv.path, verb, choice.flags, rest, offline=options.offline)
    # A command runs where it was typed; uv finds the project from there, or is told.
    if verb == "run":
        project = () if folder in (context.cwd, *context.cwd.parents) else ("--project", str(folder))
        argv = (*argv[:2], *project, *argv[2:])
    cwd = context.cwd if verb == "run" else folder
    return run_uv(argv, env=context.env, project=True, cwd=cwd, inherit=True).returncode or 0


SYNC = Verb(
    "sync",
    sync,
    summary="Run uv sync with the extra or group of the project that fits this machine.",
    more="Without a GPU (in CI, say) the CPU one is taken. `torchinstall configure` writes such projects.",
    options=ProjectOptions,
    examples=(
        ("torchinstall sync", "the build for this machine, from the project's own lock"),
        ("torchinstall sync -- --locked --no-dev", "in CI: fail where the lock is stale"),
        ("torchinstall sync --backend cpu", "the CPU group, GPU or not"),
    ),
    passthrough="UV_ARGS",
)


RUN = Verb(
    "run",
    run,
    summary="Run a command in the project, with the extra or group that fits this machine.",
    more="As `uv run`, which takes no extra by itself and would put the default index's torch back.",
    options=ProjectOptions,
    examples=(
        ("torchinstall run -- python train.py", "train with the build for this machine"),
        ("torchinstall run --backend cpu -- pytest -q", "test with the CPU build"),
        ("torchinstall run --dry-run -- python -V", "which uv command would that be?"),
    ),
    passthrough="CMD",
)
