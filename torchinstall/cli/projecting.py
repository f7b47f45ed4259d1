"""What the project verbs have in common: which project, its Python, and a plan for it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torchinstall.cli.console import Session
from torchinstall.planning.assemble import Prepared, prepare
from torchinstall.planning.context import Context
from torchinstall.planning.options import MachineOptions, PlanOptions

if TYPE_CHECKING:
    from torchinstall.project.pyproject import ProjectView

__all__ = ["ProjectOptions", "project_folder", "project_plan", "project_python"]


class ProjectOptions(MachineOptions, frozen=True, kw_only=True):
    """The options that the project verbs share."""

    project: str | None = None
    python_version: str | None = None
    offline: bool = False
    dry_run: bool = False


def project_folder(context: Context, project: str | None) -> Path:
    """The folder of `--project`, else the nearest with a `pyproject.toml`, else here."""
    if project is not None:
        return context.path(project)
    for folder in (context.cwd, *context.cwd.parents):
        if (folder / "pyproject.toml").is_file():
            return folder
    return context.cwd


def project_plan(
    session: Session,
    options: ProjectOptions,
    python: str,
    requirements: Sequence[object],
    *,
    offline: bool = False,
) -> Prepared:
    """Plan for a project.

    Args:
        session: of the run.
        options: of the verb.
        python: the project's Python, `3.12`.
        requirements: of the torch family.
        offline: ask no index, whatever the options say.

    Raises:
        TorchInstallError: as planning does; a plan that says "impossible" is returned.
    """
    asked = PlanOptions.of(
        options,
        reqs=tuple(map(str, requirements)),
        rest=(),  # not for `uv pip install`
        python_version=python,
        offline=options.offline or offline,
        dry_run=False,
    )
    return prepare(session.context, asked, detail=session.console.detail)


def project_python(folder: Path, view: ProjectView, version: str | None, here: str) -> str:
    """The Python that uv will most likely take for the project, as `3.12`.

    In this order: `version` (of `--python-version`), `.python-version`, the environment in `.venv`, the
    interpreter that runs torchinstall where the project allows it, else the oldest one that it allows.
    """
    if version is not None:
        return version
    allowed = view.requires_python
    for text in (_first_line(folder / ".python-version"), _of_venv(folder / ".venv" / "pyvenv.cfg"), here):
        match = re.search(r"\b3\.\d+", text)
        if match and allowed.contains(f"{match.group()}.99", prereleases=True):
            return match.group()
    return next(iter(view.pythons), "3.12")


def _first_line(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").partition("\n")[0]
    except (OSError, UnicodeDecodeError):
        return ""


def _of_venv(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
    match = re.search(r"^version(?:_info)?\s*=\s*(\S+)", text, re.MULTILINE)
    return match[1] if match else ""
