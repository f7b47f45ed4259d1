"""A plan written down for the tools of others: one file a format, each with `render(given) -> str`. Pure.

`FORMATS` is the table; a new format is its file and one row.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from torchinstall.export.inputs import Given

__all__ = ["FORMATS", "Format", "render"]


class Format(Struct, frozen=True, kw_only=True):
    """One format.

    Attributes:
        module: below this package.
        file: the name that its readers expect; empty: it is no file but a command.
        container: it describes a Linux container, whatever the machine is that it is written on.
        locked: where a project with a lock is at hand, it is what is installed.
    """

    module: str
    file: str
    container: bool = False
    locked: bool = False


FORMATS: dict[str, Format] = {
    "pip": Format(module="pip", file=""),
    "requirements": Format(module="requirements", file="requirements.txt"),
    "constraints": Format(module="constraints", file="constraints.txt"),
    "uv": Format(module="uv", file="pyproject.toml"),
    "pylock": Format(module="pylock", file="pylock.toml"),
    "poetry": Format(module="poetry", file="pyproject.toml"),
    "pdm": Format(module="pdm", file="pyproject.toml"),
    "pixi": Format(module="pixi", file="pixi.toml"),
    "conda": Format(module="conda", file="environment.yml"),
    "dockerfile": Format(module="dockerfile", file="Dockerfile", container=True, locked=True),
    "devcontainer": Format(
        module="devcontainer", file=".devcontainer/devcontainer.json", container=True, locked=True
    ),
    "github-actions": Format(module="github_actions", file=".github/workflows/tests.yml", locked=True),
}
"""By the name that `--format` takes."""


def render(name: str, given: Given) -> str:
    """The text of one format, with a line end at its end.

    Raises:
        UsageError: the plan holds something that the format cannot say.
        InstallFailedError: the format needs uv to resolve, and uv cannot.
    """
    module = importlib.import_module(f"{__name__}.{FORMATS[name].module}")
    text: str = module.render(given)
    return text
