"""Text that is piped in, told apart from a stdin that merely is no terminal."""

from __future__ import annotations

import os
import stat
from typing import TextIO

__all__ = ["piped"]

_MOMENT = 2.0


def piped(stream: TextIO) -> str | None:
    """What was piped or redirected into `stream`; None where nobody did.

    CI systems and services run with a stdin that is closed, empty or `/dev/null`; a doctor that took those
    for a question would never look at the environment there. A pipe that somebody holds open without a word
    is waited for a moment only; `--explain -` waits as long as it takes.
    """
    try:
        number = stream.fileno()
        mode = os.fstat(number).st_mode
    except (OSError, ValueError, AttributeError):
        return None
    if stat.S_ISREG(mode):
        return stream.read() or None
    if not stat.S_ISFIFO(mode) or not _ready(number):
        return None
    return stream.read() or None


def _ready(number: int) -> bool:
    """Whether something (or the end) is there to read within a moment."""
    if os.name == "nt":
        return True
    import select

    ready, _, _ = select.select([number], [], [], _MOMENT)
    return bool(ready)
