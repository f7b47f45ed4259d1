"""What a signal does: it ends the run as a person expects, and never in the middle of a rollback."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")


def _numbers() -> list[signal.Signals]:
    found = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
    # What the caller ignores (`nohup`) stays ignored.
    return [number for number in found if signal.getsignal(number) is not signal.SIG_IGN]


def _leave(number: int, _frame: object) -> None:
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + number)


@contextmanager
def leave_on_signals() -> Iterator[None]:
    """Make the signals that ask a process to end raise: SystemExit with 128 + number, as a shell reports it.

    Whatever has to be put back is put back on the way out. Outside the main thread nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _leave) for number in _numbers()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def deferred_signals() -> Iterator[None]:
    """Let a signal wait until the block is done: half a rollback is worse than a late end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {number: signal.signal(number, lambda seen, _frame: came.append(seen)) for number in _numbers()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])
