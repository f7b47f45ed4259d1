"""What `sync` and `run` have in common: choose the extra or group, say so in one line, hand over to uv."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from torchinstall.cli.projecting import project_folder, project_plan, project_python

if TYPE_CHECKING:
    from torchinstall.cli.session import Session
    from torchinstall.cli.settings import Settings

__all__ = ["uv_with_choice"]


def uv_with_choice(session: Session, settings: Settings, verb: str) -> int:
    """Run uv's verb with what fits this machine; its exit status.

    Raises:
        TorchInstallError: no project, nothing that it offers fits, or hardware that cannot be read.
    """
    from torchinstall.core.request import requirement
    from torchinstall.install.uv import run_uv
    from torchinstall.project.files import read_text
    from torchinstall.project.layouts import plan_platform
    from torchinstall.project.pyproject import project_view
    from torchinstall.project.sync import choose, locked_versions, sync_argv

    context, console = session.context, session.console
    folder = project_folder(session, settings)
    view = project_view(read_text(folder / "pyproject.toml"))
    python = project_python(folder, view, settings, context.python_version)
    made = project_plan(session, settings, python, (requirement("torch"),), offline=True)
    if made.plan.error is not None:
        raise made.plan.error
    locked = locked_versions(folder, view, made.catalog, plan_platform(made.plan), python)
    choice = choose(view, made.plan, made.catalog, locked=locked, require_gpu=settings.on("require_gpu"))
    for note in choice.notes:
        console.warn(note.slug, note.message)
    rest = settings.rest
    backend = choice.route.backend if choice.route else "default index"
    shown = shlex.join(sync_argv("uv", verb, choice.flags, rest, offline=settings.on("offline")))
    console.say(f"{backend} ({choice.reason}): {shown}")
    if settings.on("dry_run"):
        console.out(shown)
        return 0
    uv = context.find_uv(context.env)
    argv = sync_argv(uv.path, verb, choice.flags, rest, offline=settings.on("offline"))
    # A command runs where it was typed; uv finds the project from there, or is told.
    if verb == "run":
        project = () if folder in (context.cwd, *context.cwd.parents) else ("--project", str(folder))
        argv = (*argv[:2], *project, *argv[2:])
    cwd = context.cwd if verb == "run" else folder
    return run_uv(argv, env=context.env, project=True, cwd=cwd, inherit=True).returncode or 0
