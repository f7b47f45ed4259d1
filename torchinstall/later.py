"""Begin something slow now and take its result when it is needed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Later"]

Value = TypeVar("Value")


class Later(Generic[Value]):
    """A call that runs in a thread of its own; most of its time must be waiting for a child process.

    `concurrent.futures` would do as well, but importing it costs more than is won here.
    """

    def __init__(self, work: Callable[[], Value]) -> None:
        self._work = work
        self._value: list[Value] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._value.append(self._work())
        except BaseException as error:  # noqa: BLE001  # it is raised again where the result is taken
            self._error = error

    def result(self) -> Value:
        """Wait for it; what it raised is raised here."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._value[0]
