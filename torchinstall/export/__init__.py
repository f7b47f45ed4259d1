"""A plan written down for other tools: `FORMATS` is the table, `render` makes the text of one format.

A new format is one function `(export: ExportInput) -> str` and one row.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:  # the command line reads the table at every start; what it needs besides is heavy
    from torchinstall.export.inputs import ExportInput

__all__ = ["FORMATS", "Format", "render"]


class Format(Struct, frozen=True, kw_only=True):
    """One format.

    Attributes:
        function: renders it: `module:name` below this package.
        file: the file name that its tool expects; empty: it is not a file but a command.
        container: it describes a Linux container, whatever machine it is written on.
        locked: in a project with a lock, the lock is installed.
    """

    function: str
    file: str = ""
    container: bool = False
    locked: bool = False


FORMATS: dict[str, Format] = {
    "pip": Format(function="requirements:pip"),
    "requirements": Format(function="requirements:requirements", file="requirements.txt"),
    "constraints": Format(function="requirements:constraints", file="constraints.txt"),
    "uv": Format(function="projects:uv", file="pyproject.toml"),
    "pylock": Format(function="requirements:pylock", file="pylock.toml"),
    "poetry": Format(function="projects:poetry", file="pyproject.toml"),
    "pdm": Format(function="projects:pdm", file="pyproject.toml"),
    "pixi": Format(function="environments:pixi", file="pixi.toml"),
    "conda": Format(function="environments:conda", file="environment.yml"),
    "dockerfile": Format(function="containers:dockerfile", file="Dockerfile", container=True, locked=True),
    "devcontainer": Format(
        function="containers:devcontainer",
        file=".devcontainer/devcontainer.json",
        container=True,
        locked=True,
    ),
    "github-actions": Format(
        function="containers:github_actions", file=".github/workflows/tests.yml", locked=True
    ),
}
"""By the name that `--format` takes."""


def render(name: str, export: ExportInput) -> str:
    """The text of one format; it ends with a newline.

    Raises:
        UsageError: `not-exportable`: the format cannot hold something of the plan.
        InstallFailedError: uv was needed to resolve, and it could not.
    """
    module, _, function = FORMATS[name].function.partition(":")
    text: str = getattr(importlib.import_module(f"{__name__}.{module}"), function)(export)
    return text
