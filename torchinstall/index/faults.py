"""What goes wrong when an index, or a server of files, is asked: slugs, what helps, and asking again."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from torchinstall.core.errors import CatalogError

T = TypeVar("T")

MOST_BYTES = 1 << 50
"""A file that is said to be larger is not believed."""

NOT_THERE = frozenset({"index-forbidden", "index-not-found"})
"""Slugs that say that the index answered and has no such page."""

ON_THE_WAY = frozenset(
    {"index-unreachable", "index-timeout", "index-unavailable", "index-certificate", "index-redirect"}
    | {"index-garbage"}
)
"""Slugs that may mean that something on the way keeps this machine from the index."""

_HINTS = {
    "index-unauthorized": (
        "--index-base https://USER:PASSWORD@HOST/whl logs in, and so does a line for its host in ~/.netrc",
    ),
    "index-certificate": (
        "SSL_CERT_FILE=FILE trusts your company's certificate, UV_SYSTEM_CERTS=1 those of this system",
    ),
}
"""What helps against one fault, before what helps against all."""


class FetchError(CatalogError):
    """A page that cannot be used, or something that cannot be fetched.

    Attributes:
        retry: whether asking again may help.
        after: seconds that the server asked to wait before that.
    """

    def __init__(self, slug: str, message: str, *, retry: bool = False, after: float = 0.0) -> None:
        super().__init__(slug, message, hints=_HINTS.get(slug, ()))
        self.retry = retry
        self.after = after


def with_retries(
    ask: Callable[[], T],
    retries: int,
    pause: float,
    stop: threading.Event,
    deadline: float = math.inf,
) -> T:
    """What `ask` answers, asked again after a fault that may pass.

    Args:
        ask: one attempt.
        retries: how often at most; two are enough for a host that cannot be reached, if there is a deadline.
        pause: seconds before the first retry, doubled for each further one.
        stop: ends the waiting.
        deadline: on `time.monotonic()`; a retry that would come later is none.

    Raises:
        FetchError: the last one.
    """
    while True:
        try:
            return ask()
        except FetchError as error:
            wait = max(pause, error.after)
            late = time.monotonic() + wait >= deadline
            if not retries or not error.retry or late or stop.wait(wait):
                raise
            if error.slug == "index-unreachable" and deadline < math.inf:
                retries = min(retries, 2)  # other sources may serve
        pause, retries = pause * 2, retries - 1
