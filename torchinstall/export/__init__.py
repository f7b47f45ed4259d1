"""A plan written down for other tools. A new format is one function `ExportInput -> str` and one row."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the command line reads the table at every start, and what formats need is heavy
    from torchinstall.export.inputs import ExportInput

__all__ = ["CONTAINERS", "FORMATS", "LOCKED", "render"]

FORMATS = {
    "pip": "requirements:pip",
    "requirements": "requirements:requirements",
    "constraints": "requirements:constraints",
    "uv": "projects:uv",
    "pylock": "requirements:pylock",
    "poetry": "projects:poetry",
    "pdm": "projects:pdm",
    "pixi": "environments:pixi",
    "conda": "environments:conda",
    "dockerfile": "containers:dockerfile",
    "devcontainer": "containers:devcontainer",
    "github-actions": "containers:github_actions",
}
"""What `--format` takes -> the function that renders it, as `module:name` below this package."""

CONTAINERS = frozenset({"dockerfile", "devcontainer"})
"""Formats that describe a Linux container, whatever machine they are written on."""

LOCKED = CONTAINERS | {"github-actions"}
"""Formats that install from the lock of the project at hand, where it has one."""


def render(name: str, export: ExportInput) -> str:
    """The text of one format; it ends with a newline.

    Raises:
        UsageError: `not-exportable`: the format cannot hold something of the plan.
        InstallFailedError: uv was needed to resolve, and it could not.
    """
    module, _, function = FORMATS[name].partition(":")
    text: str = getattr(importlib.import_module(f"{__name__}.{module}"), function)(export)
    return text
