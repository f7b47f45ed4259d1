"""`--format devcontainer`: a development container with the plan installed when it is first made."""

from __future__ import annotations

import json
from typing import Any

from torchinstall.export.dockerfile import DEBIAN
from torchinstall.export.inputs import Given, no_way_to_say
from torchinstall.export.steps import joined, steps, words

__all__ = ["render"]

_DEVICES = {
    "amd": ["--device=/dev/kfd", "--device=/dev/dri", "--group-add=video"],
    "intel": ["--device=/dev/dri"],
}
"""What the container is given besides what `hostRequirements.gpu` does (that is for NVIDIA alone)."""


def render(given: Given) -> str:
    """A `devcontainer.json`; the container is used also where the host has no GPU.

    Raises:
        UsageError: `not-exportable`: a local wheel is not in the container.
    """
    vendor = given.backend.kind.vendor if given.backend is not None else None
    data: dict[str, Any] = {
        "name": given.title,
        "image": f"python:{given.python}-{DEBIAN}",
    }
    if vendor == "nvidia":
        data["hostRequirements"] = {"gpu": "optional"}
    elif vendor in _DEVICES:
        data["runArgs"] = _DEVICES[vendor]
    data["containerEnv"] = {"UV_LINK_MODE": "copy", "UV_PYTHON_DOWNLOADS": "never"}
    data["postCreateCommand"] = " && ".join(_commands(given))
    data["customizations"] = {
        "vscode": {
            "settings": {"python.defaultInterpreterPath": "${containerWorkspaceFolder}/.venv/bin/python"}
        }
    }
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"


def _commands(given: Given) -> list[str]:
    get_uv = f"pip install uv=={given.uv}"
    if given.lock is not None:
        return [get_uv, joined(("uv", "sync", "--frozen", *given.lock.flags), "linux")]
    if (
        any((pin.url or "").startswith("file:") or pin.folders for pin in given.pins)
        or given.constraint_files
    ):
        raise no_way_to_say(
            "a file that lies outside of the container",
            "a development container",
            "torchinstall configure, uv lock, and export again: the project's lock knows the file",
        )
    runs = [joined(("uv", "pip", "install", *words(step, given, "uv")), "linux") for step in steps(given)]
    return [get_uv, "uv venv --allow-existing", *runs]
