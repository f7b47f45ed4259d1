"""Ways in which an index misbehaves; hand one to `IndexServer.fault(path, …)`."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the server is about to send.

    Attributes:
        stream: sent instead of `body`, piece by piece, without a length.
        send_only: stop after this many bytes of `body` although its whole length was declared.
        declare_length: without it the end of the connection ends the body.
        wait: seconds before anything is sent; ends early when the server stops.
        hang_up: close the connection without a word.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    stream: Iterator[bytes] | None = None
    send_only: int | None = None
    declare_length: bool = True
    wait: float = 0.0
    hang_up: bool = False


Fault = Callable[[Answer], Answer]
"""Gets the right answer and gives the wrong one; it may count."""


def unavailable(times: int, status: int = 503, headers: Mapping[str, str] | None = None) -> Fault:
    """Answer `status` the first `times` times, then well."""
    left = iter(range(times))
    lock = threading.Lock()

    def fault(answer: Answer) -> Answer:
        with lock:
            failing = next(left, None) is not None
        return (
            Answer(status=status, headers=headers or {}, body=b"Service Unavailable") if failing else answer
        )

    return fault


def cut_in_half(times: int = 1_000_000, *, declared: bool = True) -> Fault:
    """Send half of the page; `declared` keeps the whole Content-Length, else the half looks complete."""
    left = iter(range(times))

    def fault(answer: Answer) -> Answer:
        if next(left, None) is None:
            return answer
        half = len(answer.body) // 2
        if declared:
            return dataclasses.replace(answer, send_only=half)
        return dataclasses.replace(answer, body=answer.body[:half])

    return fault


def huge(megabytes: int = 60, *, declared: bool = True) -> Fault:
    """A page of well-formed anchors that does not end before `megabytes`."""
    line = b'<a href="/whl/cpu/torch-9.9.9%2Bcpu-cp312-cp312-manylinux_2_28_x86_64.whl">x</a><br/>\n'
    block = line * (1_000_000 // len(line))

    def fault(answer: Answer) -> Answer:
        blocks = megabytes * 1_000_000 // len(block) + 1
        headers = {**answer.headers}
        if declared:
            headers["Content-Length"] = str(blocks * len(block))
        return Answer(headers=headers, stream=(block for _ in range(blocks)), declare_length=False)

    return fault


def endless(piece: bytes = b"<!-- -->\n", pause: float = 0.05) -> Fault:
    """Drip bytes for ever."""
    stop = threading.Event()

    def drip() -> Iterator[bytes]:
        while not stop.wait(pause):
            yield piece

    return lambda right: Answer(headers=right.headers, stream=drip(), declare_length=False)


def garbage(body: bytes = b"<html><body><h1>Please sign in to the guest network</h1></body></html>") -> Fault:
    """A page that is HTML and no index page, as a captive portal sends it."""
    return lambda _right: Answer(headers={"Content-Type": "text/html"}, body=body)


def instead(body: str, content_type: str = "text/html") -> Fault:
    """This page instead of the real one."""
    return lambda _right: Answer(headers={"Content-Type": content_type}, body=body.encode())


def redirect(location: str, status: int = 302) -> Fault:
    """Send the client elsewhere."""
    return lambda _right: Answer(status=status, headers={"Location": location})


def never(seconds: float = 60.0) -> Fault:
    """Accept the request and say nothing."""
    return lambda answer: dataclasses.replace(answer, wait=seconds)


def slow(seconds: float) -> Fault:
    """Answer well, late."""
    return lambda answer: dataclasses.replace(answer, wait=seconds)


def drop(times: int = 1_000_000) -> Fault:
    """Close the connection without an answer."""
    left = iter(range(times))
    return lambda answer: answer if next(left, None) is None else Answer(hang_up=True)


def both(first: Fault, second: Fault) -> Fault:
    """Two faults, one after the other."""
    return lambda answer: second(first(answer))
