"""Leave credentials out of what is shown or stored."""

from __future__ import annotations

import re

__all__ = ["is_url", "redacted"]

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_CREDENTIALS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+://)[^/@\s\"']+@")
_SECRET_QUERY = re.compile(
    r"([?&](?:token|access_token|key|sig|signature|password)=)[^&\s\"']+", re.IGNORECASE
)


def is_url(place: str) -> bool:
    """Whether a place is a URL; a Windows drive letter is none."""
    return _URL.match(place) is not None


def redacted(text: str) -> str:
    """The text with `****` for user names and passwords in URLs and for tokens in their queries."""
    return _SECRET_QUERY.sub(r"\1****", _CREDENTIALS.sub(r"\1****@", text))
