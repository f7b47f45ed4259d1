"""`torchinstall sync` and `run`: uv's verbs with the extra or group that fits; a project and its plan."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct, structs

from torchinstall.cli.console import Session, envelope
from torchinstall.cli.verb import Argument, Verb
from torchinstall.core.errors import InstallFailedError, UsageError
from torchinstall.core.files import real_path, text_in, upward, venv_python
from torchinstall.install.distributions import sites_of
from torchinstall.install.lock import EnvironmentLock
from torchinstall.install.transaction import change_with_uv
from torchinstall.install.uv import install_failure, run_uv
from torchinstall.planning.assemble import prepare
from torchinstall.planning.context import Context, MachineOptions, PlanOptions
from torchinstall.planning.inputs import Prepared
from torchinstall.project.files import read_text
from torchinstall.project.lock import read_lock
from torchinstall.project.pyproject import ProjectView, project_view, view_in, workspace_root
from torchinstall.project.sync import choose_locked, environment_of

if TYPE_CHECKING:
    from torchinstall.core.processes import Completed


class ProjectOptions(MachineOptions, frozen=True, kw_only=True):
    """The options that the project verbs share."""

    project: str | None = None
    python_version: str | None = None
    offline: bool = False
    dry_run: bool = False


class Project(Struct, frozen=True):
    """A project folder, what its file says, and the Python (`3.12`) that uv will most likely take for it."""

    folder: Path
    view: ProjectView
    python: str


def open_project(
    context: Context, project: str | None, python: str | None, *, may_be_missing: bool = False
) -> Project:
    """Read the project of `--project`, or the one at hand, for `--python-version` if that is given.

    `may_be_missing`: a folder with `requirements.txt` may become one.

    Raises:
        UsageError: there is none, or its file is not TOML.
    """
    folder = project_folder(context, project)
    path = folder / "pyproject.toml"
    if may_be_missing and not path.exists() and (folder / "requirements.txt").is_file():
        return Project(folder, ProjectView({}), python or context.python_version)
    view = project_view(read_text(path))
    return Project(folder, view, python or _python(folder, view, context))


def project_folder(context: Context, project: str | None) -> Path:
    """The folder of `--project`, else the nearest with a `pyproject.toml`, else here."""
    if project is not None:
        return context.path(project)
    return next((file.parent for file in upward(context.cwd, "pyproject.toml")), context.cwd)


def project_would_undo(context: Context, prefix: str, torch: str | None) -> bool:
    """Whether uv keeps an environment for the project at hand, and its lock names no such torch.

    uv keeps it where the project has a lock or settings of uv, or needs torch itself.
    """
    folder = project_folder(context, None)
    root = workspace_root(folder)
    venv = environment_of(folder, context.env)
    view = view_in(folder)
    if venv.resolve() != Path(prefix).resolve() or not view.project:
        return False
    lock = read_lock(root / "uv.lock", "")
    if lock is None:
        return bool(view.uv or view.scopes_of("torch"))
    return torch not in {row.get("version") for row in lock.packages if row["name"] == "torch"}


def _python(folder: Path, view: ProjectView, context: Context) -> str:
    """The Python of `.python-version`, of the project's environment, or the one that runs torchinstall.

    Only one that the project allows; else the oldest that it allows.
    """
    pinned = text_in(folder / ".python-version").partition("\n")[0]
    for text in (pinned, venv_python(environment_of(folder, context.env)), context.python_version):
        match = re.search(r"\b3\.\d+", text)
        if match and view.requires_python.contains(f"{match.group()}.99", prereleases=True):
            return match.group()
    return next(iter(view.pythons), "3.12")


def project_plan(
    session: Session,
    options: ProjectOptions,
    project: Project,
    requirements: Sequence[str] = ("torch",),
    *,
    offline: bool = False,
) -> Prepared:
    """Plan for a project's Python; `offline`: ask no index, whatever the options say.

    Raises:
        TorchInstallError: as planning does; a plan that says "impossible" is returned.
    """
    asked = PlanOptions.of(
        options,
        reqs=tuple(requirements),
        rest=(),  # not for `uv pip install`
        python_version=project.python,
        offline=options.offline or offline,
        dry_run=False,
    )
    return prepare(session.context, asked)


class _SyncOptions(ProjectOptions, frozen=True, kw_only=True):
    wait: bool = True


class _RunOptions(_SyncOptions, frozen=True, kw_only=True):
    command: tuple[str, ...] = ()


def run(session: Session, options: _RunOptions) -> int:
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
    return sync(session, options)


def sync(session: Session, options: _SyncOptions) -> int:
    """Run uv's verb with what fits this machine; its exit status.

    Raises:
        TorchInstallError: no project, nothing that it offers fits, hardware that cannot be read, or
            `sync-failed`: uv's words are on stderr already, and the environment is as it was.
    """
    context, console = session.context, session.console
    project = open_project(context, options.project, options.python_version)
    plan = (prepared := project_plan(session, options, project, offline=True)).plan
    if plan.error is not None:
        raise plan.error
    choice = choose_locked(
        project.folder, project.view, plan, prepared.catalog, require_gpu=options.require_gpu
    )
    console.warn_all(choice.notes)
    backend = choice.route.backend if choice.route else "default index"
    running = isinstance(options, _RunOptions)
    flags = [*console.uv_flags(), *choice.flags, *(["--offline"] if options.offline else [])]
    words = ["--", *options.rest] if running else [*options.rest]
    shown = ["uv", "run" if running else "sync", *flags, *words]
    console.say(f"{backend} ({choice.reason}): {shlex.join(shown)}")
    about = {"backend": backend, "reason": choice.reason, "command": shown}
    if options.dry_run:
        console.answer(envelope("dry-run", **about), shlex.join(shown))
        return 0
    uv = context.find_uv(context.env).path
    # What uv run would do first: nothing that is there and that the project does not need is removed.
    _sync(session, options, [uv, "sync", *flags, *(["--inexact"] if running else words)], project.folder)
    if not running:
        return _ended(session, envelope("synced", **about))
    cwd = context.cwd  # where it was typed; uv finds the project from there, or is told
    place = [] if project.folder in (cwd, *cwd.parents) else ["--project", str(project.folder)]
    argv = [uv, "run", *place, "--no-sync", *flags, *words]
    sink = session.sink() if console.json else None
    done = run_uv(argv, env=context.env, project=True, cwd=cwd, sink=sink, inherit=sink is None)
    code = done.returncode or 0
    return _ended(session, envelope("ran", **about, exit_code=code, stdout=done.stdout), code)


def _sync_failed(done: Completed) -> InstallFailedError:
    why = install_failure(done, "sync the project", project=True)
    hints = (*why.hints, "torchinstall sync --dry-run shows the command")
    return InstallFailedError(
        "sync-failed", f"uv sync ended with {done.ending}", found=why.found, hints=hints
    )


def _ended(session: Session, data: dict[str, Any], code: int = 0) -> int:
    if session.console.json:
        session.console.out_json(data)
    return code


def _sync(session: Session, options: _SyncOptions, argv: list[str], folder: Path) -> None:
    """Bring the project's environment up to date, or leave it as it was; uv makes one that is missing."""
    context, console = session.context, session.console
    prefix = real_path(environment_of(folder, context.env, active="--active" in argv))
    with EnvironmentLock(wait=options.wait, tell=console.say) as lock:
        if (prefix / "pyvenv.cfg").is_file():
            lock.take(prefix)
        said = change_with_uv(
            argv,
            sites=sites_of(prefix),
            prefix=prefix,
            env=context.env,
            cwd=folder,
            tell=console.say,
            sink=session.sink(),
            failed=_sync_failed,
        )
    if said:
        console.out(said.rstrip("\n"))


SYNC = Verb(
    "sync",
    sync,
    _SyncOptions,
    more="Without a GPU (in CI, for example) it takes the CPU build. `torchinstall configure` writes such "
    "projects.",
    examples="""
    torchinstall sync  # the build for this machine, from the project's own lock
    torchinstall sync -- --locked --no-dev  # in CI: fail where the lock is stale
    torchinstall sync --backend cpu  # the CPU group, GPU or not
""",
    passthrough="UV_ARGS",
)


RUN = Verb(
    "run",
    run,
    _RunOptions,
    Argument(
        "command",
        "[CMD]...",
        "The command; everything after its first word is its own, so `--` is not needed.",
    ),
    more="Like `uv run`, which takes no extra by itself and would reinstall torch from the default index.",
    examples="""
    torchinstall run python train.py  # train with the build for this machine
    torchinstall run --backend cpu pytest  # test with the CPU build
    torchinstall run --dry-run python main.py  # which uv command would that be?
""",
    passthrough="CMD",
)
RUN.allow_interspersed_args = False
