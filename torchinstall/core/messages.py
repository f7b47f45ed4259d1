"""What is said to a person: one type for it, no credentials in it, and nothing that a terminal would obey."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Struct


class Message(Struct, frozen=True):
    """A warning or a note: a stable kebab-case slug, and one sentence without a full stop."""

    slug: str
    message: str


# Patterns are compiled when they are first used: all of them together would cost a tenth of an offline plan.
_URL = r"[A-Za-z][A-Za-z0-9+.-]+://"
_SCHEME_END = r"(:/{1,3}|//)"
_HOST = r"\[[^\]@]*\](:\d*)?[\"'`,.;)\]>}]*|[^:@]*(:\d{1,5}[\"'`,.;)\]>}]*)?"
"""What stands between scheme and path without credentials; punctuation of a sentence may follow."""

_SPACED = (
    r"(:/{1,3}|//)[^\s/?#@:]{0,200}:(?!\d{1,5}[\"'`,.;)\]>}]*(?:[/?#\s]|$))[^\s@]{0,200}[ \t]"
    r"(?:(?!://)[^\n]){0,200}@(?=\S)"
)
_SPACED_ALONE = (
    r"(?:\A|(?<==))([A-Za-z][A-Za-z0-9+.-]{0,20}:/{1,3})[^/?#@\n]{0,200}[ \t](?:(?!://)[^\n]){0,200}@(?=\S)"
)
"""User and password with spaces in them: in a sentence after a name and a colon, in a value alone always."""

_BARE = (
    r"(?<![\w.-])[\w.-]{1,64}(?::|%3[Aa])[^\s/@\\]{1,200}?(?:@|%40)"
    r"(?=localhost|\d{1,3}(?:\.\d{1,3}){3}|[\w-]+(?:\.[\w-]+)*\.[A-Za-z])"
)
"""User and password before a host, where nobody wrote a scheme or a path holds them."""

_PORT = r"((?i:\bport\b)[^'\"\n]{0,60}['\"])(?!\d+['\"])[^'\"\n]+"
"""What a library calls a bad port is a password, of a URL that nobody escaped."""

_QUERY = r"([?&;#][^=&;?#\s\"']{0,100}=)[^&;\s\"'`#\x1b]+"
_PRIVATE_NAME = r"(?i)token|key|sig|pass|pwd|pw=|secret|auth|cred|session|jwt|access|login"


def is_url(text: str) -> bool:
    """Whether a text begins as a URL; a Windows drive letter is no scheme."""
    return re.match(_URL, text) is not None


def redact(text: str) -> str:
    """A URL or any other text, with `****` for user names, passwords, and secrets in queries of URLs.

    Passwords that nobody escaped (`@`, `/` and quotes in them) are hidden too: what could be a part of one is
    left out, rather than a part of one shown.
    """
    if "@" in text:
        text = re.sub(_SPACED, r"\1****@", re.sub(_SPACED_ALONE, r"\1****@", text))
        text = "".join(map(_without_user, re.split(r"(\s+)", text)))
    if "@" in text or "%40" in text:
        text = re.sub(_BARE, "****@", text)
    if "ort" in text:
        text = re.sub(_PORT, r"\1****", text)
    return re.sub(_QUERY, _without_value, text) if "=" in text else text


def _without_user(word: str) -> str:
    """One word, which may hold several URLs, without what stands before a host."""
    shown, done = [], 0
    for mark in re.finditer(_SCHEME_END, word) if "@" in word else ():
        start = mark.end()
        authority = re.split("[/?#]", word[start:], maxsplit=1)[0]
        if start < done or re.fullmatch(_HOST, authority):
            continue
        # The password of user:password may hold anything: it ends at the last @.
        named = ":" in authority.partition("@")[0]
        end = word.rfind("@", start, len(word) if named else start + len(authority)) + 1
        if end > start:
            shown += [word[done:start], "****@"]
            done = end
    return "".join(shown) + word[done:]


def _without_value(match: re.Match[str]) -> str:
    return f"{match[1]}****" if re.search(_PRIVATE_NAME, match[1]) else match.group()


def redacted(value: Any) -> Any:
    """Plain JSON values with every text in them redacted."""
    if isinstance(value, str):
        return redact(value) if "@" in value or "=" in value else value
    if isinstance(value, dict):
        return {key: redacted(item) for key, item in value.items()}
    return [redacted(item) for item in value] if isinstance(value, list | tuple) else value


def is_on(text: str | None) -> bool:
    """Whether the text of a variable switches something on, as click and uv read it."""
    return (text or "").lower() in ("1", "true", "t", "yes", "y", "on")


def size_text(size: int) -> str:
    """`3.0 GB`, `192 MB`, `0.2 MB`."""
    if size >= 999_500_000:
        return f"{size / 1e9:.1f} GB"
    return f"{size / 1e6:.0f} MB" if size >= 9_500_000 else f"{size / 1e6:.1f} MB"


_INVISIBLE = "\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"
"""What reorders or hides text: marks of direction, spaces without width, tags."""

_SEQUENCE = (
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x90-\x9f\n]*(?:\x07|\x1b\\|\x9c)"
)
"""A whole control sequence (colour, cursor) or string (title, link, clipboard)."""

_OWN_COLOUR = r"\x1b\[(?:[0-2]|3[1-6])m"
_DRAWN = r"\x1b\[(?:[0-9;]*[A-GJKm]|\?25[hl])|\r"
_NO_TEXT = rf"[\x7f-\x9f\ud800-\udfff{_INVISIBLE}]"
_CONTROL = rf"\r(?!\n)|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f{_INVISIBLE}]"


def printable(text: str, *, colour: bool = False, drawing: bool = False) -> str:
    """The text without anything that a terminal obeys or that hides or reorders what is read.

    Names of GPUs, values of files and errors of imports come from anywhere.

    Args:
        text: what will be shown.
        colour: the colours that torchinstall itself uses stay.
        drawing: every colour stays, and what moves the cursor and clears lines: a progress bar.
    """
    if text.replace("\n", "").isprintable():  # then it has nothing of what the patterns below find
        return text
    if not (colour or drawing):
        return re.sub(_CONTROL, "", re.sub(_SEQUENCE, "", text))
    kept = _DRAWN if drawing else _OWN_COLOUR
    parts = re.split(kept, text)
    marks = iter(re.findall(kept, text))
    return "".join(printable(part) + next(marks, "") for part in parts)


def exit_name(code: int) -> str:
    """How a process ended: `exit status 1`, or the name of the signal that ended it."""
    if code >= 0:
        return f"exit status {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def json_text(data: Any, *, ascii_only: bool = False) -> str:
    """JSON for a terminal or a pipe: what is no plain text is escaped, and so still there."""
    try:
        text = msgspec.json.format(msgspec.json.encode(data), indent=2).decode()
    except (UnicodeEncodeError, OverflowError):  # half a character, or a number of more than 64 bits
        text = json.dumps(data, indent=2, ensure_ascii=False)
    if text.isascii() and "\x7f" not in text:
        return text
    return re.sub(
        r"[^\x00-\x7e]" if ascii_only else _NO_TEXT, lambda match: json.dumps(match.group())[1:-1], text
    )


def close_matches(word: str, names: Iterable[str], *, most: int = 3, cutoff: float = 0.6) -> list[str]:
    """The names that somebody may have meant, the nearest first."""
    import difflib  # only for what was mistyped

    return difflib.get_close_matches(word, list(names), n=most, cutoff=cutoff)
