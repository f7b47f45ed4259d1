"""Will the project here keep what is installed, or undo it at the next `uv run`?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torchinstall.core.messages import Message
from torchinstall.doctor.model import Diagnosis, Environment, Project
from torchinstall.doctor.remedies import by_hand
from torchinstall.project.checks import check_requirements, check_uv, check_variables, unused_sources
from torchinstall.project.files import loads
from torchinstall.project.pyproject import ProjectView

_CONFIGURE = by_hand("torchinstall configure")

SETTINGS: Mapping[str, tuple[str, str | None]] = {
    "torch-backend-ignored": ("torch-backend is set, but uv sync, uv run and uv lock ignore it", None),
    "unsafe-index-strategy": (
        "any index may supply any package, even under a name that belongs to another index",
        "explicit indexes with sources make this setting unnecessary; remove it afterwards",
    ),
    "index-not-explicit": (
        "a PyTorch index is searched for every package, not only for torch and its companions",
        "set `explicit = true` on the index, and name it in [tool.uv.sources] for torch's packages",
    ),
}
"""Slug -> message and advice of the settings that `configure` warns of too."""


def would_undo(seen: Environment) -> Iterator[Diagnosis]:
    """The lock names something else than what is installed; uv itself says what it would change."""
    project = seen.surroundings.project
    if project is not None and project.choice:
        flags = " ".join(project.choice)
        yield Diagnosis(
            slug="project-choice",
            severity="warning",
            message=f"a bare uv run or uv sync would replace what is installed: the choice {flags}",
            evidence=(f"uv sync --dry-run in {project.root}", f"uv sync --dry-run {flags} changes no torch"),
            remedies=(by_hand("torchinstall sync"), by_hand(f"uv sync {flags}")),
            advice="use torchinstall run and torchinstall sync in this project: they add the flags",
        )
    if project is None or not project.changes:
        return
    family = {item.name for item in seen.target.installed} | {"torch"}
    ours = [row for row in project.changes if row[0] in family]
    gone = {name for name, _, action in ours if action == "uninstalled"}
    new = {name: version for name, version, action in ours if action != "uninstalled"}
    if new:
        told = ", ".join(f"{name} {seen.installed(name) or 'nothing'} -> {new[name]}" for name in new)
        yield Diagnosis(
            slug="project-would-undo",
            severity="error",
            message=f"the next uv run or uv sync in this project would replace what is installed: {told}",
            evidence=(f"uv sync --dry-run in {project.root}", *(" ".join(row) for row in ours)),
            remedies=(_CONFIGURE,),
            advice="configure writes this build into the project, so that the lock asks for it too",
        )
    elif gone:
        yield Diagnosis(
            slug="project-would-undo",
            severity="warning",
            message=f"uv sync in this project would remove {', '.join(sorted(gone))}: not in the lock",
            evidence=(f"uv sync --dry-run in {project.root}",),
            remedies=(_CONFIGURE,),
            advice="uv run keeps what is installed; configure adds it to the project's dependencies",
        )


def settings(seen: Environment) -> Iterator[Diagnosis]:
    """Settings of uv and pip that have no effect or do harm, in files and variables."""
    found: dict[str, list[str]] = {}
    for place, message in _messages(seen):
        found.setdefault(message.slug, []).append(f"{place}: {message.message}")
    for slug, (summary, advice) in SETTINGS.items():
        if slug in found:
            yield Diagnosis(
                slug=slug,
                severity="warning",
                message=summary,
                evidence=tuple(found[slug]),
                remedies=(_CONFIGURE,),
                advice=advice,
            )


def _messages(seen: Environment) -> Iterator[tuple[str, Message]]:
    """(where it is set, what is wrong with it)."""
    project = seen.surroundings.project or Project(root="")
    view = _view(project)
    for name, text in project.files.items():
        if name == "pyproject.toml":
            messages = check_uv(view.uv, seen.catalog)
        elif name.endswith(".toml"):
            messages = check_uv(loads(text) or {}, seen.catalog, prefix="")
        else:
            messages = check_requirements(text, seen.catalog)
        yield from ((name, item) for item in messages if _matters(item, view))
    for item in check_variables(seen.surroundings.env, seen.catalog):
        if _matters(item, view):
            yield "environment", item


def _matters(item: Message, view: ProjectView) -> bool:
    """Without a `[project]` there is nothing to sync, and `uv pip` does read `torch-backend`."""
    return bool(view.project) or item.slug != "torch-backend-ignored"


def _view(project: Project) -> ProjectView:
    """`pyproject.toml`; empty where it is not TOML: uv itself reports that."""
    return ProjectView(loads(project.files.get("pyproject.toml", "")) or {})


def source_without_dependency(seen: Environment) -> Iterator[Diagnosis]:
    """A source of a package that the project does not ask for itself."""
    view = _view(seen.surroundings.project or Project(root=""))
    if idle := unused_sources(view, seen.catalog):
        yield Diagnosis(
            slug="source-without-dependency",
            severity="warning",
            message=f"the source of {', '.join(idle)} is ignored: sources count for direct dependencies only",
            evidence=("pyproject.toml: tool.uv.sources",),
            remedies=(by_hand(f"uv add {' '.join(idle)}"), _CONFIGURE),
        )
