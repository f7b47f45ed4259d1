"""`--format pdm`: a `pyproject.toml` for PDM with a source that only decided packages come from."""

from __future__ import annotations

from torchinstall.export.inputs import Given
from torchinstall.project.toml import array, quoted

__all__ = ["render"]


def render(given: Given) -> str:
    """PDM asks no other source for what `include_packages` names, and this one for nothing else."""
    lines = [
        *given.head("pdm install"),
        "[project]",
        'name = "your-project"',
        'version = "0"',
        f'requires-python = "=={given.python}.*"',
        f"dependencies = {array(map(quoted, [*(pin.by_file for pin in given.pins), *given.others]))}",
        "",
        "[tool.pdm]",
        "distribution = false",
    ]
    for name, url in given.indexes.items():
        packages = [quoted(pin.name) for pin in given.pins if given.index_name(pin) == name]
        lines += ["", "[[tool.pdm.source]]", f"name = {quoted(name)}", f"url = {quoted(url)}"]
        lines.append(f"include_packages = {array(packages, multiline=False)}")
        lines.append('exclude_packages = ["*"]')
    return "\n".join(lines) + "\n"
