"""Dotted version numbers: drivers, toolkits, compute capabilities, macOS and libc versions.

They are compared as tuples of integers, never as text or floats, so `7.14` is newer than `7.2`.
Package versions (PEP 440) are `packaging.version.Version` instead.
"""

from __future__ import annotations

import re
from functools import lru_cache

__all__ = ["Dotted", "at_least", "dotted", "dotted_or_none", "version_text"]

Dotted = tuple[int, ...]

_LEADING_NUMBERS = re.compile(r"\d+(?:\.\d+)*")


@lru_cache(maxsize=1024)
def dotted(text: str) -> Dotted:
    """Parse `580.95.05` as `(580, 95, 5)`; anything after the leading numbers is dropped (`6.4.0-47`).

    Raises:
        ValueError: the text does not begin with a number.
    """
    match = _LEADING_NUMBERS.match(text.strip())
    if match is None:
        raise ValueError(f"not a version: {text!r}")
    return tuple(int(part) for part in match.group().split("."))


def dotted_or_none(text: str | None) -> Dotted | None:
    """`dotted`, with None for what is missing or does not parse."""
    if text is None:
        return None
    try:
        return dotted(text)
    except ValueError:
        return None


def at_least(found: Dotted, wanted: Dotted) -> bool:
    """Whether `found` is `wanted` or newer; missing trailing parts count as zero (`580` >= `580.0`)."""
    width = max(len(found), len(wanted))
    return found + (0,) * (width - len(found)) >= wanted + (0,) * (width - len(wanted))


def version_text(version: Dotted) -> str:
    """`(13, 2)` as `13.2`."""
    return ".".join(str(part) for part in version)
