"""Formats for project managers, each a `pyproject.toml`: `uv`, `poetry`, `pdm`.

In each of them a decided package may come from its one index only, and nothing else may come from there.
"""

from __future__ import annotations

from torchinstall.core.messages import is_url
from torchinstall.export.inputs import ExportInput
from torchinstall.project.files import array, inline, quoted
from torchinstall.project.model import PLATFORMS, marker_of


def uv(export: ExportInput) -> str:
    """For `uv sync` and `uv pip install -r`: explicit indexes, and a source for each decided package."""
    lines = _project(export, "uv sync, or: uv pip install -r pyproject.toml", f"=={export.python}.*")
    lines += ["[tool.uv]", "package = false"]
    if export.target.platform in PLATFORMS:
        lines.append(f"environments = [{quoted(str(marker_of([export.target.platform])))}]")
    if export.plan.channel != "stable":
        lines.append('prerelease = "if-necessary-or-explicit"')
    for name, url in export.indexes.items():
        lines += _index("[[tool.uv.index]]", name, url, "explicit = true")
    pages = {pin.name: pin.folders[0] for pin in export.pins if pin.folders and is_url(pin.folders[0])}
    names = {url: f"links-{number}" for number, url in enumerate(dict.fromkeys(pages.values()), 1)}
    for url, name in names.items():  # pages of links, not indexes
        lines += _index("[[tool.uv.index]]", name, url, 'format = "flat"', "explicit = true")
    lines += _sources(export, "[tool.uv.sources]", "index")
    lines += [f"{package} = {inline({'index': names[url]})}" for package, url in pages.items()]
    return "\n".join(lines) + "\n"


def poetry(export: ExportInput) -> str:
    """For Poetry 2: an explicit source serves only the packages that name it."""
    minor = int(export.python.partition(".")[2])
    lines = _project(export, "poetry install", f">={export.python},<3.{minor + 1}")
    lines += ["[tool.poetry]", "package-mode = false"]
    lines += _sources(export, "[tool.poetry.dependencies]", "source")
    for name, url in export.indexes.items():
        lines += _index("[[tool.poetry.source]]", name, url, 'priority = "explicit"')
    return "\n".join(lines) + "\n"


def pdm(export: ExportInput) -> str:
    """For PDM: it asks no other source for `include_packages`, and this source for nothing else."""
    lines = _project(export, "pdm install", f"=={export.python}.*")
    lines += ["[tool.pdm]", "distribution = false"]
    for name, url in export.indexes.items():
        packages = [quoted(pin.name) for pin in export.pins if export.index_name(pin) == name]
        included = f"include_packages = {array(packages, multiline=False)}"
        lines += _index("[[tool.pdm.source]]", name, url, included, 'exclude_packages = ["*"]')
    return "\n".join(lines) + "\n"


def _project(export: ExportInput, usage: str, requires_python: str) -> list[str]:
    dependencies = [*(pin.by_file for pin in export.pins), *export.others]
    return [
        *export.head(usage),
        "[project]",
        'name = "your-project"',
        'version = "0"',
        f"requires-python = {quoted(requires_python)}",
        f"dependencies = {array(map(quoted, dependencies))}",
        "",
    ]


def _index(table: str, name: str, url: str, *more: str) -> list[str]:
    return ["", table, f"name = {quoted(name)}", f"url = {quoted(url)}", *more]


def _sources(export: ExportInput, table: str, key: str) -> list[str]:
    rows = [
        f"{pin.name} = {inline({key: name})}"
        for pin in export.pins
        if (name := export.index_name(pin)) is not None
    ]
    return ["", table, *rows] if rows else []
