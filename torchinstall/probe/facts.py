"""What probes yield, one fact at a time, so that a probe that hangs keeps what it had already said."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Literal

from msgspec import Struct

from torchinstall.core.machine import Driver, Finding, Gpu, Libc
from torchinstall.probe.system import System

__all__ = ["Fact", "HostFact", "Probe", "Word", "clean", "version_number"]


class HostFact(Struct, frozen=True):
    """A value of the machine itself; the first one of a name wins."""

    name: Literal["os_version", "libc", "memory_bytes", "rosetta", "l4t"]
    value: str | int | bool | Libc


class Word(Struct, frozen=True):
    """A word of the machine file's `environment`."""

    text: Literal["wsl2", "container", "ci", "jetson"]


Fact = Driver | Gpu | Finding | HostFact | Word

Probe = Callable[[System], Iterator[Fact]]
"""Looks at one thing and yields what it sees; the runner turns an exception into a finding."""

_LONGEST = 160


def clean(text: str | None) -> str | None:
    """Text from a device, file or command as one printable line; None where nothing is left of it."""
    if text is None:
        return None
    kept = "".join(char if char.isprintable() else " " for char in text[: 4 * _LONGEST])
    return " ".join(kept.split())[:_LONGEST].strip() or None


def version_number(text: str | None) -> str | None:
    """The version at the start of a text: `6.4.0` of `6.4.0-47`."""
    match = re.match(r"\s*(\d{1,6}(?:\.\d{1,6}){0,4})", text or "")
    return match[1] if match else None
