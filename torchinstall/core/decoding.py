"""Turn JSON and plain values into typed ones, in several threads at once; keep some of them on disk.

msgspec keeps what it learns about a type on the type itself; two threads that learn about one at once
can end the interpreter (a segmentation fault). So one thread learns at a time, and the others wait.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, TypeVar, overload

import msgspec

from torchinstall.core.errors import UsageError
from torchinstall.core.files import write_file

T = TypeVar("T")

_MOST_BYTES = 64_000_000
"""Of a stored value, of which half is none; the largest page of an index has a tenth of it."""

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


def convert(value: object, kind: type[T]) -> T:
    """As `msgspec.convert`.

    Raises:
        msgspec.ValidationError: the value is not of that type; the message holds the path of the fault.
    """
    decoder(kind)
    return msgspec.convert(value, kind)


def own_data(module: str, name: str, kind: type[T]) -> T:
    """What a JSON file that comes with torchinstall holds: beside a module (its `__file__`), or below."""
    return decoder(kind).decode((Path(module).parent / name).read_bytes())


def load(path: Path, kind: type[T]) -> T | None:
    """The value that `store` kept in a file; None where there is none of this type."""
    try:
        with path.open("rb") as file:
            return decoder(kind).decode(file.read(_MOST_BYTES))
    except (OSError, ValueError, RecursionError):  # msgspec's errors are ValueErrors
        return None


def store(path: Path, value: object, *, durable: bool = False) -> str | None:
    """Keep a value in a file; why that cannot be, which is no fault: it is only what saves work later."""
    try:
        write_file(path, msgspec.json.encode(value), durable=durable)
    except UsageError as error:
        return error.message
    return None
