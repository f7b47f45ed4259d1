"""Where a test can run: `@pytest.mark.only_on(POSIX, "why")`. Elsewhere it is skipped, in CI too."""

from __future__ import annotations

import platform
import sys
from collections.abc import Collection, Iterable
from typing import Any

POSIX, LINUX, LINUX_X86 = "Linux or macOS", "Linux", "Linux on x86-64"

_OF_LINUX = ("fake_nvml", "old_nvml")
"""Fixtures that compile a library which only Linux loads."""


def systems(name: str = sys.platform, machine: str = "") -> frozenset[str]:
    """Which of the three a system is (`sys.platform`, `platform.machine()`)."""
    if name != "linux":
        return frozenset({POSIX} if name == "darwin" else ())
    x86 = (machine or platform.machine()) == "x86_64"
    return frozenset({POSIX, LINUX, *([LINUX_X86] if x86 else [])})


def missing(marks: Iterable[Any], fixtures: Collection[str], here: Collection[str]) -> str | None:
    """Why a test with these `only_on` marks and fixtures cannot run on a system; None: it can."""
    for wanted, reason in (mark.args for mark in marks):
        if wanted not in here:
            return f"only on {wanted}: {reason}"
    if LINUX not in here and not set(_OF_LINUX).isdisjoint(fixtures):
        return f"only on {LINUX}: the fake driver is a library of Linux"
    return None
