"""`--format poetry`: a `pyproject.toml` for Poetry 2 with an explicit source."""

from __future__ import annotations

from torchinstall.export.inputs import Given
from torchinstall.project.toml import array, inline, quoted

__all__ = ["render"]


def render(given: Given) -> str:
    """Poetry takes nothing from an explicit source but what names it; everything else stays where it was."""
    minor = int(given.python.partition(".")[2])
    lines = [
        *given.head("poetry install"),
        "[project]",
        'name = "your-project"',
        'version = "0"',
        f'requires-python = ">={given.python},<3.{minor + 1}"',
        f"dependencies = {array(map(quoted, [*(pin.by_file for pin in given.pins), *given.others]))}",
        "",
        "[tool.poetry]",
        "package-mode = false",
    ]
    sourced = {pin.name: given.index_name(pin) for pin in given.pins if pin.index is not None}
    if sourced:
        lines += ["", "[tool.poetry.dependencies]"]
        lines += [f"{name} = {inline({'source': str(index)})}" for name, index in sourced.items()]
    for name, url in given.indexes.items():
        lines += ["", "[[tool.poetry.source]]", f"name = {quoted(name)}", f"url = {quoted(url)}"]
        lines.append('priority = "explicit"')
    return "\n".join(lines) + "\n"
