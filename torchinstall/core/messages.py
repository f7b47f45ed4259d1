"""What is said to a person: one type for it, no credentials in it, and nothing that a terminal would obey."""

from __future__ import annotations

import json
import re
from typing import Any

from msgspec import Struct


class Message(Struct, frozen=True):
    """A warning or a note: a stable kebab-case slug, and one sentence without a full stop."""

    slug: str
    message: str


_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_SCHEME_END = re.compile(r"(:/{1,3}|//)")
_AUTHORITY = re.compile(r"[^/?#]*")
_HOST = re.compile(r"\[[^\]@]*\](:\d*)?[\"'`,.;)\]>}]*|[^:@]*(:\d{1,5}[\"'`,.;)\]>}]*)?")
"""What stands between scheme and path without credentials; punctuation of a sentence may follow."""

_SPACED = re.compile(
    r"(:/{1,3}|//)[^\s/?#@:]{0,200}:(?!\d{1,5}[\"'`,.;)\]>}]*(?:[/?#\s]|$))[^\s@]{0,200}[ \t]"
    r"(?:(?!://)[^\n]){0,200}@(?=\S)"
)
_SPACED_ALONE = re.compile(r"\A([A-Za-z][A-Za-z0-9+.-]*:/{1,3})[^/?#@\n]*[ \t](?:(?!://)[^\n])*@(?=\S)")
"""User and password with spaces in them: in a sentence after a name and a colon, in a URL alone always."""

_QUERY = re.compile(r"([?&;][^=&;?\s\"']{0,100}=)[^&;\s\"'`#]+")
_SECRET_NAME = re.compile(r"token|key|sig|pass|pwd|secret|auth|cred|session|jwt|access|login", re.IGNORECASE)


def is_url(text: str) -> bool:
    """Whether a text begins as a URL; a Windows drive letter is no scheme."""
    return _URL.match(text) is not None


def redact(text: str) -> str:
    """A URL or any other text, with `****` for user names, passwords, and secrets in queries of URLs.

    Passwords that nobody escaped (`@`, `/` and quotes in them) are hidden too: what could be a part of one is
    left out, rather than a part of one shown.
    """
    if "@" in text:
        text = _SPACED.sub(r"\1****@", _SPACED_ALONE.sub(r"\1****@", text))
        text = "".join(map(_without_user, re.split(r"(\s+)", text)))
    return _QUERY.sub(_without_value, text) if "=" in text else text


def _without_user(word: str) -> str:
    """One word, which may hold several URLs, without what stands before a host."""
    shown, done = [], 0
    for mark in _SCHEME_END.finditer(word) if "@" in word else ():
        start = mark.end()
        authority = _AUTHORITY.match(word, start)
        if authority is None or start < done or _HOST.fullmatch(authority.group()):
            continue
        # The password of user:password may hold anything: it ends at the last @.
        named = ":" in authority.group().partition("@")[0]
        end = word.rfind("@", start, len(word) if named else authority.end()) + 1
        if end > start:
            shown += [word[done:start], "****@"]
            done = end
    return "".join(shown) + word[done:]


def _without_value(match: re.Match[str]) -> str:
    return f"{match[1]}****" if _SECRET_NAME.search(match[1]) else match.group()


def redacted(value: Any) -> Any:
    """Plain JSON values with every text in them redacted."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {key: redacted(item) for key, item in value.items()}
    return [redacted(item) for item in value] if isinstance(value, list | tuple) else value


_INVISIBLE = "\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"
"""What reorders or hides text: marks of direction, spaces without width, tags."""

_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x90-\x9f\n]*(?:\x07|\x1b\\|\x9c)"
)
"""A whole control sequence (colour, cursor) or string (title, link, clipboard)."""

_OWN_COLOUR = re.compile(r"\x1b\[(?:[0-2]|3[1-6])m")
_DRAWN = re.compile(r"\x1b\[(?:[0-9;]*[A-GJKm]|\?25[hl])|\r")
_NO_TEXT = re.compile(rf"[\x7f-\x9f\ud800-\udfff{_INVISIBLE}]")
_CONTROL = re.compile(rf"\r(?!\n)|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f{_INVISIBLE}]")


def printable(text: str, *, colour: bool = False, drawing: bool = False) -> str:
    """The text without anything that a terminal obeys or that hides or reorders what is read.

    Names of GPUs, values of files and errors of imports come from anywhere.

    Args:
        text: what will be shown.
        colour: the colours that torchinstall itself uses stay.
        drawing: every colour stays, and what moves the cursor and clears lines: a progress bar.
    """
    if text.isascii() and text.isprintable():
        return text
    if not (colour or drawing):
        return _CONTROL.sub("", _SEQUENCE.sub("", text))
    kept = _DRAWN if drawing else _OWN_COLOUR
    parts = kept.split(text)
    marks = iter(kept.findall(text))
    return "".join(printable(part) + next(marks, "") for part in parts)


def json_text(data: Any, *, ascii_only: bool = False) -> str:
    """JSON for a terminal or a pipe: what is no plain text is escaped, and so still there."""
    text = json.dumps(data, indent=2, ensure_ascii=ascii_only)
    return _NO_TEXT.sub(lambda match: json.dumps(match.group())[1:-1], text)
