"""Turn JSON and plain values into typed ones, in several threads at once.

msgspec keeps what it learns about a type on the type itself; two threads that learn about one at once
can end the interpreter (a segmentation fault). So one thread learns at a time, and the others wait.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar, overload

import msgspec

T = TypeVar("T")

_LOCK = threading.Lock()
_DECODERS: dict[Any, msgspec.json.Decoder[Any]] = {}


@overload
def decoder(kind: type[T]) -> msgspec.json.Decoder[T]: ...


@overload
def decoder(kind: Any) -> msgspec.json.Decoder[Any]: ...


def decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    """The decoder of JSON of a type; once it is there, every thread may use the type."""
    with _LOCK:
        if kind not in _DECODERS:
            _DECODERS[kind] = msgspec.json.Decoder(kind)
        return _DECODERS[kind]


def convert(value: object, kind: type[T], *, dec_hook: Callable[[Any, Any], Any] | None = None) -> T:
    """As `msgspec.convert`.

    Raises:
        msgspec.ValidationError: the value is not of that type; the message holds the path of the fault.
    """
    decoder(kind)
    return msgspec.convert(value, kind, dec_hook=dec_hook)
