"""`--format uv`: a project file for `uv sync` and `uv pip install -r`."""

from __future__ import annotations

from torchinstall.export.inputs import Given
from torchinstall.project.platforms import CELLS, marker_of
from torchinstall.project.toml import array, inline, quoted

__all__ = ["render"]


def render(given: Given) -> str:
    """A `pyproject.toml` in which each decided package may come from one index and nothing else may."""
    lines = [
        *given.head("uv sync, or: uv pip install -r pyproject.toml"),
        "[project]",
        'name = "your-project"',
        'version = "0"',
        f'requires-python = "=={given.python}.*"',
        f"dependencies = {array(map(quoted, _dependencies(given)))}",
        "",
        "[tool.uv]",
        "package = false",
    ]
    if given.target.platform in CELLS:
        lines.append(f"environments = [{quoted(str(marker_of([given.target.platform])))}]")
    if given.plan.channel != "stable":
        lines.append('prerelease = "if-necessary-or-explicit"')
    sources = {}
    for name, url in given.indexes.items():
        lines += [
            "",
            "[[tool.uv.index]]",
            f"name = {quoted(name)}",
            f"url = {quoted(url)}",
            "explicit = true",
        ]
    for pin in given.pins:
        if (index := given.index_name(pin)) is not None:
            sources[pin.name] = inline({"index": index})
    if sources:
        lines += ["", "[tool.uv.sources]", *(f"{name} = {row}" for name, row in sources.items())]
    return "\n".join(lines) + "\n"


def _dependencies(given: Given) -> list[str]:
    return [*(pin.by_file for pin in given.pins), *given.others]
