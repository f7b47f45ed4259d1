"""`--format github-actions`: a workflow that tests with the plan's build."""

from __future__ import annotations

import json

from torchinstall.export.inputs import Given, no_way_to_say
from torchinstall.export.steps import joined, steps, words

__all__ = ["render"]

_HOSTED = {
    ("linux", "x86_64"): "ubuntu-latest",
    ("linux", "aarch64"): "ubuntu-24.04-arm",
    ("windows", "x86_64"): "windows-latest",
    ("windows", "aarch64"): "windows-11-arm",
    ("macos", "aarch64"): "macos-latest",
    ("macos", "x86_64"): "macos-15-intel",
}
_LABELS = {"linux": "Linux", "windows": "Windows", "macos": "macOS", "x86_64": "X64", "aarch64": "ARM64"}
"""Labels that a self-hosted runner has by itself."""


def render(given: Given) -> str:
    """A workflow; a build for a GPU runs on a self-hosted runner with the label `gpu`.

    Raises:
        UsageError: `not-exportable`: a local wheel or a constraints file is not on the runner.
    """
    vendor = given.backend.kind.vendor if given.backend is not None else None
    os, arch = given.target.os, given.target.arch
    if vendor is None:
        runner = _HOSTED[os, arch]
    else:
        runner = json.dumps(["self-hosted", _LABELS[os], _LABELS[arch], "gpu"])
    lines = [
        *given.head(),
        "name: tests",
        "on: [push, pull_request]",
        "permissions:",
        "  contents: read",
        "jobs:",
        "  tests:",
        f"    runs-on: {runner}",
        "    steps:",
        "      - uses: actions/checkout@v5",
        "      - uses: astral-sh/setup-uv@v7",
        "        with:",
        f"          version: {json.dumps(given.uv)}",
        f"          python-version: {json.dumps(given.python)}",
        "          enable-cache: true",
        *(f"      - run: {json.dumps(command)}" for command in _commands(given)),
    ]
    return "\n".join(lines) + "\n"


def _commands(given: Given) -> list[str]:
    smoke = "import torch; print(torch.__version__)"
    if given.lock is not None:
        sync = joined(("uv", "sync", "--frozen", *given.lock.flags), given.target.os)
        return [
            "uv lock --check",
            sync,
            joined(("uv", "run", "--no-sync", "python", "-c", smoke), given.target.os),
        ]
    if (
        any((pin.url or "").startswith("file:") or pin.folders for pin in given.pins)
        or given.constraint_files
    ):
        raise no_way_to_say(
            "a file that is not on the runner",
            "a workflow",
            "torchinstall configure, uv lock, and export again: the project's lock knows the file",
        )
    runs = [
        joined(("uv", "pip", "install", *words(step, given, "uv")), given.target.os) for step in steps(given)
    ]
    return ["uv venv", *runs, joined(("uv", "run", "--no-project", "python", "-c", smoke), given.target.os)]
