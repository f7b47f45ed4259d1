"""A plan written down for other tools. A new format is one function `ExportInput -> str` and one row."""

from __future__ import annotations

from collections.abc import Callable

from torchinstall.export.containers import devcontainer, dockerfile, github_actions
from torchinstall.export.inputs import ExportInput
from torchinstall.export.projects import conda, pdm, pixi, poetry, uv
from torchinstall.export.requirements import constraints, pip, pylock, requirements, uv_pip

FORMATS: dict[str, Callable[[ExportInput], str]] = {
    "pip": pip,
    "uv-pip": uv_pip,
    "requirements": requirements,
    "constraints": constraints,
    "uv": uv,
    "pylock": pylock,
    "poetry": poetry,
    "pdm": pdm,
    "pixi": pixi,
    "conda": conda,
    "dockerfile": dockerfile,
    "devcontainer": devcontainer,
    "github-actions": github_actions,
}
"""What `--format` takes -> what makes the text of the file, which ends with a newline.

Each raises UsageError `not-exportable` where the format cannot hold something of the plan, and
InstallFailedError where uv was needed to resolve and could not.
"""

CONTAINERS = frozenset({"dockerfile", "devcontainer"})
"""Formats that describe a Linux container, whatever machine they are written on."""

LOCKED = CONTAINERS | {"github-actions", "requirements", "constraints", "pylock"}
"""Formats that say what the lock of the project at hand says, where it has one."""
