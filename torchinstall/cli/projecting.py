"""What the project verbs have in common: which project, its Python, and a plan for it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct, structs

from torchinstall.cli.options import Declared, declare
from torchinstall.core.request import DEFAULT_INDEX_BASE

if TYPE_CHECKING:
    from torchinstall.catalog.catalog import Catalog
    from torchinstall.cli.session import Session
    from torchinstall.cli.settings import Settings
    from torchinstall.core.machine import Machine
    from torchinstall.core.plan import Plan
    from torchinstall.core.request import Requirement
    from torchinstall.project.pyproject import ProjectView

__all__ = ["MACHINE_OPTIONS", "ProjectPlan", "project_folder", "project_plan", "project_python"]

MACHINE_OPTIONS = (
    "backend",
    "require_gpu",
    "allow_cpu",
    "prefer_gpu",
    "respect_visible_devices",
    "machine",
    "root",
    "target_driver",
    "target_cuda",
    "target_gpu",
)

declare(
    Declared(
        name="project",
        decls=("--project",),
        metavar="DIR",
        section="Where",
        config=False,
        help="The project's folder; else the nearest one with a pyproject.toml.",
    ),
)


class ProjectPlan(Struct, frozen=True, kw_only=True):
    """A plan for a project's Python on a machine, and what it was made from."""

    plan: Plan
    machine: Machine
    catalog: Catalog


def project_folder(session: Session, settings: Settings) -> Path:
    """The folder of `--project`, else the nearest with a `pyproject.toml`, else here."""
    context = session.context
    named = settings.text("project")
    if named is not None:
        return context.path(named)
    for folder in (context.cwd, *context.cwd.parents):
        if (folder / "pyproject.toml").is_file():
            return folder
    return context.cwd


def project_plan(
    session: Session,
    settings: Settings,
    python: str,
    requirements: tuple[Requirement, ...],
    *,
    offline: bool = False,
) -> ProjectPlan:
    """Plan for a project.

    Args:
        session: of the run.
        settings: of the verb.
        python: the project's Python, `3.12`.
        requirements: of the torch family.
        offline: ask no index, whatever the settings say.

    Raises:
        TorchInstallError: as planning does; a plan that says "impossible" is returned.
    """
    from torchinstall.core.tags import foreign_target
    from torchinstall.planning.assemble import catalog_of, machine_of
    from torchinstall.planning.online import fresh_plan
    from torchinstall.planning.request import order_of

    context, detail = session.context, session.console.detail
    catalog = catalog_of(context)
    machine = machine_of(context, settings)
    order = order_of(_without_requirements(settings), context, machine, catalog)
    request = structs.replace(
        order.request, requirements=requirements, offline=order.request.offline or offline
    )
    target = foreign_target(machine, python)
    detail(f"target: Python {python} on {target.platform}")
    fresh = fresh_plan(
        request,
        machine,
        target,
        catalog,
        context=context,
        must_reach=False,
        refresh=settings.on("refresh"),
        allow_insecure=settings.texts("allow_insecure_host"),
        detail=detail,
    )
    return ProjectPlan(plan=fresh.plan, machine=machine, catalog=fresh.catalog)


def _without_requirements(settings: Settings) -> Settings:
    """The arguments of these verbs are no requirements to install, and what follows `--` is no flag of uv."""
    values = {name: value for name, value in settings.values.items() if name != "reqs"}
    values.setdefault("index_base", DEFAULT_INDEX_BASE)
    return structs.replace(settings, values=values, rest=())


def project_python(folder: Path, view: ProjectView, settings: Settings, here: str) -> str:
    """The Python that uv will most likely take for the project, as `3.12`.

    In this order: `--python-version`, `.python-version`, the environment in `.venv`, the interpreter that
    runs torchinstall where the project allows it, else the oldest one that the project allows.
    """
    named = settings.text("python_version")
    if named is not None:
        return named
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
