"""Undo what terminals, containers, chats and trackers do to an error text before anybody reads it.

The text is searched without spaces (`Cleaned.tight`), so that it does not matter where a line was wrapped;
what is shown and captured comes from the readable text (`Cleaned.flat`).
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from html import unescape
from itertools import islice
from typing import Any

from torchinstall.core.messages import printable

_LONGEST = 600_000
"""Characters that are read whole; of a longer text, the ends and the places that speak of a fault."""
_END = 150_000
_AROUND = 3_000
_SIGNS = (
    "Error",
    "ERROR",
    "error:",
    "cannot open shared",
    "undefined symbol",
    "not compatible",
    "unsatisfiable",
    "WARNING",
    "Warning",
    "not found",
    "failed",
    "Failed",
    "No matching",
    "CUDA",
    "ptxas",
    "NVML",
    "HIP",
)
_OF_EACH_SIGN = 12

_ESC = re.compile(r"\\u001[bB]|\\x1[bB]|\\033|\\e(?=\[)|\^\[(?=\[)|␛")
_BARE_COLOUR = re.compile(r"\[\d{1,3}(?:;\d{1,3}){0,4}m|\[m(?![a-z])")
_TAGS = re.compile(
    r"</?(?:br|p|pre|code|span|div|b|i|em|strong|a|li|ul|ol|td|tr|table|tbody|blockquote|font|details|summary)"
    r"(?:\s[^<>]{0,300})?\s*/?>",
    re.IGNORECASE,
)
# In `C:\new\torch` these two characters are no line end; a new line begins with a space, a quote, a capital …
_ESCAPED_NEWLINE = re.compile(
    r"(?<!\\)(?:\\r)?\\n(?=[\s\"'A-Z\\\[(>*+=~^\-]|$|(?:error|warning|hint|help)\b"
    r"|[\w.]{1,80}(?:Error|Exception|Warning):)"
)
_ESCAPED_TAB = re.compile(r"(?<!\\)\\t(?=[\s\"'A-Z\\-])")
_MESSAGE_KEYS = ("log", "message", "msg", "MESSAGE", "text", "error", "stderr", "output", "body", "traceback")
_UNICODE_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")
# What rich, miette (uv), pip and progress bars draw around and between the lines of a message.
_DRAWN = re.compile(r"[\u2500-\u259f\u25b6\u2771\u00d7\u2022\u2713\u2717\u274c\u26a0\u2139\ufe0f]+")
_SIGNS_ALIKE = str.maketrans(
    {
        **dict.fromkeys('\u2018\u2019\u201a\u201c\u201d\u201e\u00ab\u00bb\u2039\u203a`"\u00b4', "'"),
        **dict.fromkeys("\u00a0\u2002\u2003\u2009\u202f\u3000\t", " "),
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-"),
        **dict.fromkeys("\u00ad\u200c\u200d"),
        "\uff1a": ":",
        "\uff08": "(",
        "\uff09": ")",
    }
)
_LEVEL = r"(?:TRACE|DEBUG|INFO|NOTICE|WARN(?:ING)?|ERROR|CRITICAL|FATAL|ERR)"
_TIME = (
    r"(?:\d{4}[-/]\d\d[-/]\d\d[T ]?)?\d\d:\d\d:\d\d(?:[.,-]\d{1,9})?(?:Z|\s?[+-]\d\d:?\d\d)?|\d{4}-\d\d-\d\d"
)
_PREFIXES = re.compile(
    r"(?:\s*(?:"
    r"(?:>\s?)+(?!>)"
    r"|[\w.@/-]{1,60}(?:\[\d+\])?\s+\|(?:\s|$)"
    rf"|\[?(?:{_TIME})\]?(?:\s+(?:stdout|stderr)\s+[FP])?(?:\s*[|:-]\s|\s+|$)"
    r"|[A-Z][a-z]{2}\s+\d{1,2}\s\d\d:\d\d:\d\d\s[\w.-]+\s[\w./-]+(?:\[\d+\])?:\s"
    rf"|\[?{_LEVEL}\]?(?:\s*[|:-]\s|\s{{2,}}|\s+(?=\[|\d))"
    r"|\((?:[\w.]+\s)?pid=\d+(?:,[^)]{0,60})?\)\s?"
    r"|\[(?:default\d*|rank\d+|\d+,\d+|\d+)\](?:<std\w+>)?:?\s"
    r"|E\s{3}|#\d+\s+\d+\.\d+\s|(?:\d\.\d{3}|\d\d\.\d\d|\d{3}\.\d)\s"
    r")){0,4}"
)
# A line of code that failed, and the code around it, as pytest prints them and as notebooks and rich do.
_IN_A_TEST = re.compile(r">\s{3}"), re.compile(r"\s{4}|\s*$")
_IN_A_NOTEBOOK = re.compile(r"-+> ?\d{1,5} "), re.compile(r"\d{1,5}(?: |$)|\(\.\.\.\)")
_NEW_MESSAGE = re.compile(
    r"[\w.]*(?:Error|Exception|Warning)\b\s*:|ERROR|WARN|INFO|Traceback|File '|hint:|help:|note:|error:|"
    r"warning:|Collecting|Downloading|Using cached|\[notice|During handling|\$ |PS "
)


class Cleaned:
    """A text in two forms.

    Attributes:
        flat: as a person would have typed it: no decoration, wrapped lines joined, one kind of quote.
        tight: `flat` in small letters and without spaces; a line end is kept where one was meant.
    """

    def __init__(self, flat: str) -> None:
        self.flat = flat
        # The capital I with a dot is the only letter that is longer in small letters.
        self.small = flat.replace("\u0130", "i").lower()
        self.tight = self.small.replace(" ", "")

    @cached_property
    def _places(self) -> list[int]:
        return [place for place, char in enumerate(self.flat) if char != " "]

    def place(self, start: int) -> int:
        """Where in `flat` a place of `tight` is."""
        places = self._places
        return places[start] if start < len(places) else len(self.flat)

    def text(self, start: int, end: int) -> str:
        """The readable text of a part of `tight`."""
        return self.flat[self.place(start) : self.place(end - 1) + 1] if end > start else ""


def clean(text: str) -> Cleaned:
    """Clean a text of any length and origin."""
    text = _unescaped(_excerpt(text).replace("\r\n", "\n").replace("\r", "\n"))
    text = _DRAWN.sub(" ", text.replace("\u2771", "-->")).translate(_SIGNS_ALIKE)
    text = re.sub(r"\\+(?=')", "", text)
    text = printable(re.sub(r"\\+", "/", text))
    lines = [line.rstrip() for line in text.split("\n")]
    # Without such a line it is a quotation, and what is indented below it an answer.
    tested = any(line.startswith("E   ") for line in lines)
    joined = _joined(_without_code(lines, *_IN_A_TEST) if tested else lines)
    return Cleaned("\n".join(_without_code(joined.split("\n"), *_IN_A_NOTEBOOK)))


def _excerpt(text: str) -> str:
    """All of a text, or its ends and the first and last places where it speaks of a fault."""
    if len(text) <= _LONGEST:
        return text
    spans = [(0, _END), (len(text) - _END, len(text))]
    for sign in _SIGNS:
        ends = (islice(_places_of(text, sign, last=last), _OF_EACH_SIGN) for last in (False, True))
        spans += [(max(0, place - _AROUND), place + _AROUND) for places in ends for place in places]
    parts, end = [], 0
    for start, stop in sorted(spans):
        if stop > end:
            parts.append(text[max(start, end) : stop])
            end = stop
    return "\n".join(parts)


def _places_of(text: str, sign: str, *, last: bool) -> Iterator[int]:
    """Where a sign is, from one end; places near the one before are left out."""
    place = text.rfind(sign) if last else text.find(sign)
    while place >= 0:
        yield place
        near = max(0, place - _AROUND)
        place = text.rfind(sign, 0, near) if last else text.find(sign, place + _AROUND)


def _unescaped(text: str) -> str:
    """Without JSON, HTML and terminal escapes."""
    if text.lstrip()[:1] in ('"', "{", "["):
        text = _of_json(text)
    text = printable(_ESC.sub("\x1b", text))
    if "&" in text or "<" in text:
        text = _of_html(text)
    if "\\n" in text:
        text = _ESCAPED_TAB.sub(" ", _ESCAPED_NEWLINE.sub("\n", text))
    if "\\u" in text:
        text = _UNICODE_ESCAPE.sub(lambda code: chr(int(code[1], 16)), text)
    return _BARE_COLOUR.sub("", text)


def _of_html(text: str) -> str:
    text = re.sub(r"<br\s*/?>|</(?:p|div|li|tr)>", "\n", text, flags=re.IGNORECASE)
    return unescape(unescape(_TAGS.sub("", text)))


def _of_json(text: str) -> str:
    """The texts in a JSON document, or in lines of JSON as Docker and loggers write them."""
    whole = _decoded(text)
    if whole is not None:
        return "\n".join(_strings(whole))
    decoded = ((line, _decoded(line)) for line in text.split("\n"))
    return "\n".join(
        line if value is None else "\n".join(_strings(value)).rstrip("\n") for line, value in decoded
    )


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        spoken = [value[name] for name in _MESSAGE_KEYS if isinstance(value.get(name), str)]
        for item in spoken or value.values():
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
    elif value is not None:
        yield str(value)


def _joined(raw: Sequence[str]) -> str:
    """The lines without their prefixes in one text; where a line was wrapped, its halves belong together."""
    lines = [_PREFIXES.sub("", line, count=1).rstrip() for line in raw]
    texts = [" ".join(line.split()) for line in lines]
    wrapped = _wrapped(raw, texts) | _wrapped(lines, texts)
    parts = [wrapped.get(number, "\n" if number else "") + text for number, text in enumerate(texts)]
    return re.sub(r"\n{2,}", "\n", "".join(parts))


def _without_code(lines: Sequence[str], failed: re.Pattern[str], code: re.Pattern[str]) -> list[str]:
    """Without the code that is printed around a line that failed: what it could have said did not happen."""
    around: set[int] = set()
    for number in (number for number, line in enumerate(lines) if failed.match(line)):
        for near in (range(number - 1, -1, -1), range(number + 1, len(lines))):
            around.update(itertools.takewhile(lambda place: code.match(lines[place]), near))
    return [line for number, line in enumerate(lines) if number not in around]


def _wrapped(lines: Sequence[str], texts: Sequence[str]) -> dict[int, str]:
    """The lines that go on with the one before: number -> what belongs between, a space or nothing.

    A line was wrapped if the next word would not have fitted in the width that no line exceeds. A word that
    was cut in two fills its line to that width.
    """
    width = max(map(len, lines), default=0)
    if not 40 <= width <= 250:
        return {}
    wrapped = [
        number
        for number, (before, line) in enumerate(itertools.pairwise(lines), 1)
        if texts[number - 1]
        and texts[number]
        and len(before) + 1 + len(line.lstrip().partition(" ")[0]) > width
        and not _NEW_MESSAGE.match(texts[number])
    ]
    cut = {number for number in wrapped if len(lines[number - 1]) == width and lines[number][:1] != " "}
    words_are_cut = len(cut) > 1 and len(cut) > 0.6 * len(wrapped)
    return {
        number: ""
        if number in cut and (words_are_cut or "/" in lines[number - 1].rpartition(" ")[2])
        else " "
        for number in wrapped
    }
