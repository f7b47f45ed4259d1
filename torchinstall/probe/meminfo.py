"""`/proc/meminfo`."""

from __future__ import annotations

import re

__all__ = ["meminfo_total"]

_TOTAL = re.compile(r"^MemTotal:\s+([0-9]{1,15}) kB$", re.MULTILINE)


def meminfo_total(text: str | None) -> int | None:
    """Physical memory in bytes; None where the text does not say."""
    match = _TOTAL.search(text or "")
    return int(match[1]) * 1024 if match else None
