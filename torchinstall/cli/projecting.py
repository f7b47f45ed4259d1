"""What the project verbs have in common: which project, its Python, and a plan for it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from torchinstall.cli.console import Session
from torchinstall.core.files import read_text as read_bounded
from torchinstall.planning.assemble import Prepared, prepare
from torchinstall.planning.context import Context
from torchinstall.planning.options import MachineOptions, PlanOptions
from torchinstall.project.files import loads, read_text
from torchinstall.project.lock import read_lock
from torchinstall.project.pyproject import ProjectView, project_view, workspace_root


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


def open_project(context: Context, project: str | None, python: str | None) -> Project:
    """Read the project of `--project`, or the one at hand, for `--python-version` if that is given.

    Raises:
        UsageError: there is none, or its file is not TOML.
    """
    folder = project_folder(context, project)
    view = project_view(read_text(folder / "pyproject.toml"))
    return Project(folder, view, python or _python(folder, view, context.python_version))


def project_folder(context: Context, project: str | None) -> Path:
    """The folder of `--project`, else the nearest with a `pyproject.toml`, else here."""
    if project is not None:
        return context.path(project)
    folders = (context.cwd, *context.cwd.parents)
    return next((folder for folder in folders if (folder / "pyproject.toml").is_file()), context.cwd)


def project_would_undo(context: Context, prefix: str, torch: str | None) -> bool:
    """Whether uv keeps an environment for the project at hand, and its lock names no such torch."""
    folder = project_folder(context, None)
    root = workspace_root(folder)
    venv = root / (context.env.get("UV_PROJECT_ENVIRONMENT") or ".venv")
    text = _text(folder / "pyproject.toml")
    if venv.resolve() != Path(prefix).resolve() or not ProjectView(loads(text) or {}).project:
        return False
    lock = read_lock(root / "uv.lock", "")
    return lock is None or torch not in {
        row.get("version") for row in lock.packages if row["name"] == "torch"
    }


def _python(folder: Path, view: ProjectView, here: str) -> str:
    """The Python of `.python-version`, of the environment in `.venv`, or the one that runs torchinstall.

    Only one that the project allows; else the oldest that it allows.
    """
    pinned, venv = _text(folder / ".python-version"), _text(folder / ".venv" / "pyvenv.cfg")
    made_with = re.search(r"^version(?:_info)?\s*=\s*(\S+)", venv, re.MULTILINE)
    for text in (pinned.partition("\n")[0], made_with[1] if made_with else "", here):
        match = re.search(r"\b3\.\d+", text)
        if match and view.requires_python.contains(f"{match.group()}.99", prereleases=True):
            return match.group()
    return next(iter(view.pythons), "3.12")


def _text(path: Path) -> str:
    try:
        return read_bounded(path)
    except (OSError, ValueError):
        return ""


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
    return prepare(session.context, asked, detail=session.console.detail)
