"""Installing in steps, for tools whose command line cannot tie a package to an index. Pure.

First each decided package alone (`--no-deps`) from the one index that has it, then everything from the user's
own indexes: what is there already stays, and nothing else can come from the PyTorch index.
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable
from typing import Literal

from msgspec import Struct

from torchinstall.export.inputs import Given, Pin, no_way_to_say
from torchinstall.export.resolve import decided

__all__ = ["Step", "joined", "steps", "words"]

_PIP = {
    "--default-index": "--index-url",
    "--index": "--extra-index-url",
    "--no-binary": "--no-binary",
    "--only-binary": "--only-binary",
    "--find-links": "--find-links",
    "--allow-insecure-host": "--trusted-host",
    "--keyring-provider": "--keyring-provider",
}
"""Options of uv that the user gave, and pip's word for each."""


class Step(Struct, frozen=True):
    """One call: where the packages come from (None: the user's own indexes), and what."""

    what: tuple[str, ...]
    index: str | None = None
    folders: tuple[str, ...] = ()
    alone: bool = True


def steps(given: Given, place: Callable[[str], str] = str) -> tuple[Step, ...]:
    """The calls, in order.

    Args:
        given: the plan.
        place: where a folder or a file's URL lies for the reader (in a container, say).
    """
    found: list[Step] = []
    groups: dict[tuple[str | None, tuple[str, ...], bool], list[str]] = {}
    pins = decided(given)
    for pin in pins:
        if pin.version is None:
            continue
        file = pin.url if pin.index is None else None
        if file is None and pin.index is None and not pin.folders:
            continue  # the default index has it: the last step takes it from there
        key = (pin.index, pin.folders if file is None else (), file is not None)
        groups.setdefault(key, []).append(pin.exact if file is None else f"{pin.name} @ {place(file)}")
    for (index, folders, _), what in groups.items():
        found.append(Step(tuple(what), index, tuple(map(place, folders))))
    last = (_again(pin, place) for pin in pins)
    return (*found, Step((*last, *given.others), alone=False))


def _again(pin: Pin, place: Callable[[str], str]) -> str:
    """A pin in the last step: nothing to do where an earlier one installed it."""
    if pin.version is None:
        return f"{pin.name} @ {place(pin.url or '')}"
    return pin.exact if " @ " in pin.line else pin.line


def words(
    step: Step, given: Given, tool: Literal["pip", "uv"], constraints: tuple[str, ...] | None = None
) -> tuple[str, ...]:
    """The arguments after `pip install`.

    Args:
        step: of `steps`.
        given: the plan.
        tool: whose words.
        constraints: where the constraints files lie for the reader; None: where the user named them.

    Raises:
        UsageError: `not-exportable`: pip has no word for a switch that was meant for uv.
    """
    out: list[str] = []
    if step.folders:
        out += ["--no-index", *(word for folder in step.folders for word in ("--find-links", folder))]
    elif step.index is not None:
        out += ["--index-url" if tool == "pip" else "--default-index", step.index]
    if step.alone:
        return (*out, "--no-deps", *step.what)
    out += _own(given, tool)
    out += [word for path in _files(given, constraints) for word in ("-c", path)]
    return (*out, *step.what)


def _files(given: Given, constraints: tuple[str, ...] | None) -> tuple[str, ...]:
    return given.constraint_files if constraints is None else constraints


def _own(given: Given, tool: Literal["pip", "uv"]) -> list[str]:
    if tool == "uv":
        return list(given.uv_args)
    out: list[str] = []
    rest = list(given.uv_args)
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        if name == "--no-index":
            out.append(name)
            continue
        value = value if equals else (rest.pop(0) if rest else "")
        if name == "--prerelease" and value == "allow":
            out.append("--pre")
        elif name in _PIP:
            out += [_PIP[name], value]
        else:
            raise no_way_to_say(name, "pip")
    return out


def joined(argv: tuple[str, ...], os: str) -> str:
    """A command line for the shell of a platform."""
    return subprocess.list2cmdline(argv) if os == "windows" else shlex.join(argv)
