"""What happens to an error text on its way to us: wraps, prefixes, quotes, escapes, colours, other paths."""

from __future__ import annotations

import html
import json
import re
import textwrap
from collections.abc import Callable, Mapping

Dress = Callable[[str], str]


def _lines(text: str, change: Callable[[str], str]) -> str:
    return "\n".join(map(change, text.rstrip("\n").split("\n")))


def _cut(width: int) -> Dress:
    """As a terminal wraps: in the middle of a word."""
    return lambda text: "\n".join(
        line[start : start + width]
        for line in text.split("\n")
        for start in range(0, max(1, len(line)), width)
    )


def _wrapped(width: int) -> Dress:
    """As an editor wraps: between words."""
    return lambda text: "\n".join(
        part
        for line in text.split("\n")
        for part in textwrap.wrap(line, width, break_on_hyphens=False) or [""]
    )


def _coloured(line: str) -> str:
    return f"\x1b[1m\x1b[38;5;203m{line[:9]}\x1b[0m\x1b]8;;https://e.org\x1b\\{line[9:]}\x1b]8;;\x1b\\"


def _in_a_box(text: str) -> str:
    return _lines(_wrapped(90)(text), lambda line: f"│ {line:<90} │")


def _windows(text: str) -> str:
    path = re.compile(r"(?<![\w:/.])/(?:[\w.+-]+/)+[\w.+-]*")
    return path.sub(lambda found: "D:\\work" + found[0].replace("/", "\\"), text)


DRESSES: Mapping[str, Dress] = {
    "as-printed": lambda text: text,
    "crlf": lambda text: text.replace("\n", "\r\n"),
    **{f"cut-at-{width}": _cut(width) for width in (72, 80, 100)},
    **{f"wrapped-at-{width}": _wrapped(width) for width in (72, 80, 100)},
    "compose": lambda text: _lines(text, lambda line: f"trainer-1  | {line}"),
    "timestamps": lambda text: _lines(text, lambda line: f"2026-10-02T08:15:00.123456Z {line}"),
    "logging": lambda text: _lines(text, lambda line: f"2026-10-02 08:15:00,123 - ERROR - {line}"),
    "quoted": lambda text: _lines(text, lambda line: f"> {line}"),
    "quoted-and-wrapped": lambda text: _lines(_wrapped(78)(text), lambda line: f"> {line}"),
    "html": html.escape,
    "html-page": lambda text: f"<pre><code>{html.escape(text)}</code></pre>".replace("\n", "<br>\n"),
    "json": json.dumps,
    "json-lines": lambda text: _lines(
        text,
        lambda line: json.dumps({"log": line + "\n", "stream": "stderr", "time": "2026-10-02T08:15:00Z"}),
    ),
    "json-inside": lambda text: f'{{"status": 500, "detail": {json.dumps(text)}, ',
    "colours": lambda text: _lines(text, _coloured),
    "box": _in_a_box,
    "windows-paths": _windows,
}
