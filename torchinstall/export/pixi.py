"""`--format pixi`: a `pixi.toml` that takes torch from the PyTorch index."""

from __future__ import annotations

from packaging.requirements import Requirement

from torchinstall.export.inputs import Given, Pin, no_way_to_say
from torchinstall.project.toml import array, quoted

__all__ = ["PLATFORMS", "render"]

PLATFORMS = {
    "linux_x86_64": "linux-64",
    "linux_aarch64": "linux-aarch64",
    "win_amd64": "win-64",
    "win_arm64": "win-arm64",
    "macos_arm64": "osx-arm64",
    "macos_x86_64": "osx-64",
}


def render(given: Given) -> str:
    """A workspace for the plan's platform.

    `system-requirements.cuda` is the major version of the toolkit: a driver that runs one toolkit of a major
    version runs them all.

    Raises:
        UsageError: `not-exportable`.
    """
    platform = PLATFORMS.get(given.target.platform)
    if platform is None:
        raise no_way_to_say(f"the platform {given.target.platform}", "pixi")
    if given.constraint_files:
        raise no_way_to_say("a constraints file", "pixi", "write its bounds into the requirements")
    lines = [
        *given.head("pixi install"),
        "[workspace]",
        'name = "your-project"',
        'channels = ["conda-forge"]',
        f"platforms = [{quoted(platform)}]",
    ]
    required = _system_requirements(given)
    if required:
        lines += ["", "[system-requirements]", *required]
    lines += ["", "[dependencies]", f'python = "{given.python}.*"', "", "[pypi-dependencies]"]
    lines += [f"{pin.name} = {_pinned(pin)}" for pin in given.pins]
    lines += [f"{row.name} = {_asked(row)}" for row in given.requirements()]
    return "\n".join(lines) + "\n"


def _system_requirements(given: Given) -> list[str]:
    lines: list[str] = []
    backend = given.backend
    if backend is not None and backend.kind.kind == "cuda" and backend.toolkit:
        lines += [
            "# A machine that builds or locks without a GPU needs: CONDA_OVERRIDE_CUDA="
            + ".".join(map(str, backend.toolkit)),
            f'cuda = "{backend.toolkit[0]}"',
        ]
    if given.target.os == "macos" and given.target.os_version:
        lines.append(f'macos = "{given.target.os_version}"')
    return lines


def _pinned(pin: Pin) -> str:
    if pin.url is not None and pin.index is None:
        if pin.url.startswith("file://"):
            from urllib.parse import unquote

            return f"{{ path = {quoted(unquote(pin.url.removeprefix('file://')))} }}"
        return f"{{ url = {quoted(pin.url)} }}"
    parts = [f"version = {quoted('*' if pin.version is None else f'=={pin.version}')}"]
    if extras := sorted(Requirement(pin.line).extras):
        parts.append(f"extras = {array(map(quoted, extras), multiline=False)}")
    if pin.index is not None:
        parts.append(f"index = {quoted(pin.index)}")
    return "{ " + ", ".join(parts) + " }"


def _asked(row: Requirement) -> str:
    if row.url is not None:
        return f"{{ url = {quoted(row.url)} }}"
    version = quoted(str(row.specifier) or "*")
    if row.extras:
        return (
            f"{{ version = {version}, extras = {array(map(quoted, sorted(row.extras)), multiline=False)} }}"
        )
    return version
