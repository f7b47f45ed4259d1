"""`torchinstall sync` and `torchinstall run`: uv's verbs with the extra or group that fits this machine."""

from __future__ import annotations

import shlex
from pathlib import Path

from msgspec import structs

from torchinstall.cli.console import Session
from torchinstall.cli.projecting import ProjectOptions, open_project, project_plan
from torchinstall.cli.verb import Argument, Verb
from torchinstall.core.errors import InstallFailedError, UsageError
from torchinstall.install.journal import real
from torchinstall.install.protection import recovering_lock
from torchinstall.install.transaction import change_with_uv
from torchinstall.install.uv import run_uv
from torchinstall.project.sync import choose_locked, environment_of, sites_of


class SyncOptions(ProjectOptions, frozen=True, kw_only=True):
    """The options of `sync`."""

    wait: bool = True


def sync(session: Session, options: SyncOptions) -> int:
    """Choose and run.

    Raises:
        InstallFailedError: `sync-failed`: uv's words are on stderr already, and the environment is as it was.
    """
    return _uv_with_choice(session, options, "sync")


class RunOptions(SyncOptions, frozen=True, kw_only=True):
    """The options of `run`."""

    command: tuple[str, ...] = ()


def run(session: Session, options: RunOptions) -> int:
    """Choose and run; the exit status is the command's.

    Raises:
        UsageError: `no-command`: there is none.
    """
    if options.command:
        rest = ("--", *options.rest) if options.rest else ()
        options = structs.replace(options, rest=(*options.command, *rest))
    if not options.rest:
        raise UsageError(
            "no-command",
            "there is no command to run",
            wanted="a command",
            found="none",
            hints=("torchinstall run python train.py",),
        )
    return _uv_with_choice(session, options, "run")


def _uv_with_choice(session: Session, options: SyncOptions, verb: str) -> int:
    """Run uv's verb with what fits this machine; its exit status.

    Raises:
        TorchInstallError: no project, nothing that it offers fits, or hardware that cannot be read.
    """
    context, console = session.context, session.console
    project = open_project(context, options.project, options.python_version)
    prepared = project_plan(session, options, project, offline=True)
    if prepared.plan.error is not None:
        raise prepared.plan.error
    choice = choose_locked(
        project.folder,
        project.view,
        prepared.plan,
        prepared.catalog,
        require_gpu=options.require_gpu,
    )
    console.warn_all(choice.notes)
    backend = choice.route.backend if choice.route else "default index"
    argv = [verb, *choice.flags, *(["--offline"] if options.offline else [])]
    argv += ["--", *options.rest] if verb == "run" else options.rest
    shown = shlex.join(["uv", *argv])
    console.say(f"{backend} ({choice.reason}): {shown}")
    if options.dry_run:
        console.out(shown)
        return 0
    uv = context.find_uv(context.env).path
    offline = ["--offline"] if options.offline else []
    # What uv run would do first: nothing that is there and that the project does not need is removed.
    words = options.rest if verb == "sync" else ("--inexact",)
    _sync(session, options, [uv, "sync", *choice.flags, *offline, *words], project.folder)
    if verb == "sync":
        return 0
    argv[1:1] = ["--no-sync"]
    cwd = context.cwd  # where it was typed; uv finds the project from there, or is told
    if project.folder not in (cwd, *cwd.parents):
        argv[1:1] = ["--project", str(project.folder)]
    return run_uv([uv, *argv], env=context.env, project=True, cwd=cwd, inherit=True).returncode or 0


def _sync(session: Session, options: SyncOptions, argv: list[str], folder: Path) -> None:
    """Bring the project's environment up to date, or leave it as it was; uv makes one that is missing."""
    context, console = session.context, session.console
    prefix = real(environment_of(folder, context.env, active="--active" in argv))
    with recovering_lock(wait=options.wait, tell=console.say) as lock:
        if (prefix / "pyvenv.cfg").is_file():
            lock.take(prefix)
        change_with_uv(
            argv,
            sites=sites_of(prefix),
            prefix=prefix,
            env=context.env,
            cwd=folder,
            tell=console.say,
            failed=lambda done: InstallFailedError(
                "sync-failed",
                f"uv sync ended with {done.ending}",
                found="uv's own output above",
                hints=("torchinstall sync --dry-run shows the command",),
            ),
        )


SYNC = Verb(
    "sync",
    sync,
    summary="Run uv sync with the extra or group of the project that fits this machine.",
    more="Without a GPU (in CI, for example) it takes the CPU build. `torchinstall configure` writes such "
    "projects.",
    options=SyncOptions,
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
    more="Like `uv run`, which takes no extra by itself and would reinstall torch from the default index.",
    options=RunOptions,
    arguments=(
        Argument(
            name="command",
            metavar="[CMD]...",
            help="The command; everything after its first word is its own, so `--` is not needed.",
            many=True,
        ),
    ),
    examples=(
        ("torchinstall run python train.py", "train with the build for this machine"),
        ("torchinstall run --backend cpu pytest", "test with the CPU build"),
        ("torchinstall run --dry-run python main.py", "which uv command would that be?"),
    ),
    passthrough="CMD",
)
RUN.allow_interspersed_args = False
