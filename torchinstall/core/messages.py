"""What is said to a person: one type for it, and no credentials in it."""

from __future__ import annotations

import re

from msgspec import Struct

__all__ = ["Message", "is_url", "redact"]


class Message(Struct, frozen=True):
    """A warning or a note: a stable kebab-case slug, and one sentence without a full stop."""

    slug: str
    message: str


_SCHEME = r"[A-Za-z][A-Za-z0-9+.-]+://"
_URL = re.compile(_SCHEME)
_CREDENTIALS = re.compile(rf"({_SCHEME})[^/?#\s\"']*@")
_SECRET_QUERY = re.compile(
    r"([?&][^=&\s\"']*(?:token|key|sig|passw|secret|auth|credential)[^=&\s\"']*=)[^&\s\"']+", re.IGNORECASE
)


def is_url(text: str) -> bool:
    """Whether a text begins as a URL; a Windows drive letter is no scheme."""
    return _URL.match(text) is not None


def redact(text: str) -> str:
    """A URL or any other text, with `****` for user names, passwords, and tokens in queries of URLs."""
    return _SECRET_QUERY.sub(r"\1****", _CREDENTIALS.sub(r"\1****@", text))
