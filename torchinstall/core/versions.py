"""Dotted version numbers: drivers, toolkits, compute capabilities, macOS and libc versions.

They are compared as tuples of integers, never as text or floats, so `7.14` is newer than `7.2`.
Package versions (PEP 440) are `packaging.version.Version` instead.
"""

from __future__ import annotations

import operator
import re
from functools import lru_cache

Dotted = tuple[int, ...]

_LEADING_NUMBERS = r"\d+(?:\.\d+)*"


@lru_cache(maxsize=1024)
def dotted(text: str) -> Dotted:
    """Parse `580.95.05` as `(580, 95, 5)`; anything after the leading numbers is dropped (`6.4.0-47`).

    Raises:
        ValueError: the text does not begin with a number.
    """
    match = re.match(_LEADING_NUMBERS, text.strip())
    if match is None:
        raise ValueError(f"not a version: {text!r}")
    return tuple(int(part) for part in match.group().split("."))


def unprefixed(text: str) -> str:
    """A version without the letter in front: `R470` and `v580.95` are how NVIDIA and people write drivers."""
    return re.sub(r"^[RrVv](?=\d)", "", text.strip())


def driver_of_windows(text: str) -> str | None:
    """The NVIDIA driver that Windows counts as `32.0.15.6636`: 566.36; None: that is no such number."""
    match = re.fullmatch(r"\d{1,3}\.\d{1,3}\.\d{0,3}(\d)\.(\d{2})(\d{2})", text.strip())
    return f"{int(match[1] + match[2])}.{match[3]}" if match else None


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
    one, other = _aligned(found, wanted)
    return one >= other


def _aligned(one: Dotted, other: Dotted) -> tuple[Dotted, Dotted]:
    width = max(len(one), len(other))
    return one + (0,) * (width - len(one)), other + (0,) * (width - len(other))


RANGE = r"(?:(?:==|<=|>=|<|>)\d+(?:\.\d+)*[,|]?)*"
"""What `within` reads."""

_BOUND = r"(==|<=|>=|<|>)([\d.]+)"
_COMPARE = {"==": operator.eq, "<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt}


def within(found: Dotted, text: str) -> bool:
    """Whether a version lies in a range: `>=2.12,<2.14`; `|` joins alternatives; empty: any version does."""
    return not text or any(
        all(_COMPARE[sign](*_aligned(found, bound)) for sign, bound in bounds)
        for bounds in _alternatives(text)
    )


@lru_cache(maxsize=512)
def _alternatives(text: str) -> tuple[tuple[tuple[str, Dotted], ...], ...]:
    parts = (re.findall(_BOUND, part) for part in text.split("|"))
    return tuple(tuple((sign, dotted(version)) for sign, version in part) for part in parts)


def version_text(version: Dotted) -> str:
    """`(13, 2)` as `13.2`."""
    return ".".join(str(part) for part in version)
