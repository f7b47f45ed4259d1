"""Will the project here keep what is installed, or undo it at the next `uv run`?"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from torchinstall.doctor.checks.remedies import by_hand
from torchinstall.doctor.model import Diagnosis, Environment
from torchinstall.index.urls import pytorch_index
from torchinstall.project.view import ProjectView

__all__ = [
    "index_not_explicit",
    "project_would_undo",
    "source_without_dependency",
    "torch_backend_ignored",
    "unsafe_best_match",
]

_CONFIGURE = by_hand("torchinstall configure")


def project_would_undo(seen: Environment) -> Iterator[Diagnosis]:
    """The lock says something else than what is installed: uv itself was asked what it would do."""
    project = seen.surroundings.project
    if project is None or not project.changes:
        return
    family = {item.name for item in seen.target.installed} | {"torch"}
    ours = [row for row in project.changes if row[0] in family]
    gone = {name for name, _, action in ours if action == "uninstalled"}
    came = {name: version for name, version, action in ours if action != "uninstalled"}
    if came:
        told = ", ".join(f"{name} {seen.installed(name) or 'nothing'} -> {came[name]}" for name in came)
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
            message=f"uv sync in this project would remove {', '.join(sorted(gone))}: it is not in the lock",
            evidence=(f"uv sync --dry-run in {project.root}",),
            remedies=(_CONFIGURE,),
            advice="uv run leaves it alone; configure makes it a dependency of the project",
        )


def torch_backend_ignored(seen: Environment) -> Iterator[Diagnosis]:
    """`torch-backend` is a setting of `uv pip`; `uv sync`, `uv run` and `uv lock` do not look at it."""
    project = seen.surroundings.project
    if project is None or "project" not in _toml(project.files.get("pyproject.toml", "")):
        return
    places = [f"{place}: {key}" for place, key, _ in _settings(seen, "torch-backend")]
    if value := seen.surroundings.env.get("UV_TORCH_BACKEND"):
        places.append(f"environment: UV_TORCH_BACKEND={value}")
    if places:
        yield Diagnosis(
            slug="torch-backend-ignored",
            severity="warning",
            message="torch-backend is set, and uv sync, uv run and uv lock ignore it",
            evidence=tuple(places),
            remedies=(_CONFIGURE,),
        )


def unsafe_best_match(seen: Environment) -> Iterator[Diagnosis]:
    """With this strategy every index may supply every package."""
    places = [
        f"{place}: {key} = {value}"
        for place, key, value in _settings(seen, "index-strategy")
        if value == "unsafe-best-match"
    ]
    if seen.surroundings.env.get("UV_INDEX_STRATEGY") == "unsafe-best-match":
        places.append("environment: UV_INDEX_STRATEGY")
    if places:
        yield Diagnosis(
            slug="unsafe-best-match",
            severity="warning",
            message="unsafe-best-match lets any index supply any package, under a name that it does not own",
            evidence=tuple(places),
            remedies=(_CONFIGURE,),
            advice="an explicit index with sources needs no such strategy; take the setting out afterwards",
        )


def index_not_explicit(seen: Environment) -> Iterator[Diagnosis]:
    """A PyTorch index that is asked for every package: it has old copies of many."""
    places = []
    project = seen.surroundings.project
    for name, text in (project.files if project is not None else {}).items():
        if name.endswith((".txt", ".in")):
            found = re.findall(r"^\s*--(?:extra-)?index-url[ =](\S+)", text, re.MULTILINE)
            places += [f"{name}: {url}" for url in found if _of_pytorch(seen, url)]
            continue
        data = _toml(text)
        uv = ProjectView(data).uv if name == "pyproject.toml" else data
        view = ProjectView({"tool": {"uv": uv}})
        places += [
            f"{name}: index {row.name or row.url}"
            for row in view.indexes
            if not row.explicit and _of_pytorch(seen, row.url)
        ]
        for table in (uv, uv.get("pip") if isinstance(uv.get("pip"), Mapping) else {}):
            places += [
                f"{name}: {key}" for key in _URL_KEYS if _of_pytorch(seen, str((table or {}).get(key)))
            ]
    for key in _URL_VARIABLES:
        if _of_pytorch(seen, seen.surroundings.env.get(key, "")):
            places.append(f"environment: {key}")
    if places:
        yield Diagnosis(
            slug="index-not-explicit",
            severity="warning",
            message="a PyTorch index is asked for every package, not for torch's own alone",
            evidence=tuple(places),
            remedies=(_CONFIGURE,),
            advice="explicit = true, and sources for torch's own packages",
        )


_URL_KEYS = ("extra-index-url", "index-url")
_URL_VARIABLES = (
    "UV_EXTRA_INDEX_URL",
    "UV_INDEX",
    "UV_INDEX_URL",
    "UV_DEFAULT_INDEX",
    "PIP_EXTRA_INDEX_URL",
    "PIP_INDEX_URL",
)


def _of_pytorch(seen: Environment, text: str) -> bool:
    """Whether one of the URLs in a text is an index of PyTorch's, or a mirror of one."""
    urls = re.findall(r"https?://[^\s'\",\]]+", text)
    return any(pytorch_index(url, seen.catalog.backend) for url in urls)


def source_without_dependency(seen: Environment) -> Iterator[Diagnosis]:
    """`[tool.uv.sources]` counts for direct dependencies only; for others uv skips it without a word."""
    project = seen.surroundings.project
    if project is None:
        return
    view = ProjectView(_toml(project.files.get("pyproject.toml", "")))
    direct = {item.package for item in view.listed}
    idle = [name for name in view.sources if seen.catalog.family(name) is not None and name not in direct]
    if idle and view.project and not view.dynamic_dependencies:
        yield Diagnosis(
            slug="source-without-dependency",
            severity="warning",
            message=f"the source of {', '.join(idle)} is ignored: sources count for direct dependencies only",
            evidence=("pyproject.toml: tool.uv.sources",),
            remedies=(by_hand(f"uv add {' '.join(idle)}"), _CONFIGURE),
        )


def _settings(seen: Environment, key: str) -> Iterator[tuple[str, str, str]]:
    """(file, dotted key, value) wherever a uv setting is written in the project's files."""
    project = seen.surroundings.project
    for name, text in (project.files if project is not None else {}).items():
        if not name.endswith(".toml"):
            continue
        data = _toml(text)
        uv = ProjectView(data).uv if name == "pyproject.toml" else data
        head = "tool.uv." if name == "pyproject.toml" else ""
        if isinstance(uv.get(key), str):
            yield name, head + key, str(uv[key])
        pip = uv.get("pip")
        if isinstance(pip, Mapping) and isinstance(pip.get(key), str):
            yield name, f"{head}pip.{key}", str(pip[key])


def _toml(text: str) -> Mapping[str, Any]:
    """A parsed file; empty where it is no TOML: uv itself will say so."""
    from torchinstall.project.toml import loads

    return loads(text) or {}
