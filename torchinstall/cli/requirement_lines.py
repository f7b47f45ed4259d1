"""The lines of a requirements file, before anybody knows what they mean."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from torchinstall.errors import UsageError

__all__ = ["URL", "is_path", "lines", "read_text", "split_option", "wheel_name"]

_COMMENT = re.compile(r"(^|\s)#.*$")
URL = re.compile(r"(?:[a-z]+\+)?[a-z]+://", re.IGNORECASE)


def read_text(path: Path) -> str:
    """The text of a file.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            "bad-requirements-file",
            f"the requirements file {path} cannot be read",
            wanted="a text file in UTF-8",
            found=getattr(error, "strerror", None) or str(error),
        ) from error


def lines(text: str) -> list[tuple[int, str]]:
    """Logical lines with the number of their first physical line: continued ones joined, comments gone."""
    found: list[tuple[int, str]] = []
    joined, start = "", 0
    for number, physical in enumerate(text.splitlines(), 1):
        start = start or number
        if physical.endswith("\\") and not physical.lstrip().startswith("#"):
            joined += physical[:-1] + " "
            continue
        line = _COMMENT.sub("", joined + physical).strip()
        if line:
            found.append((start, line))
        joined, start = "", 0
    if joined.strip():
        found.append((start, joined.strip()))
    return found


def split_option(line: str) -> tuple[str, str]:
    """`--index-url=URL`, `--index-url URL`, `-rfile` and `-r file` as (option, value)."""
    first, *rest = shlex.split(line)
    if first.startswith("--"):
        option, equals, value = first.partition("=")
        return option, value if equals else " ".join(rest)
    return first[:2], first[2:].lstrip("=") or " ".join(rest)


def is_path(text: str) -> bool:
    """Whether a requirement is a path and no name."""
    return (
        text.startswith((".", "/", "~"))
        or text.endswith(".whl")
        or re.match(r"[A-Za-z]:[\\/]", text) is not None
    )


def wheel_name(place: str) -> str | None:
    """The project that a path or URL of a wheel names; None where it is no wheel."""
    from urllib.parse import unquote, urlsplit

    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    file = unquote(urlsplit(place).path if URL.match(place) else place).replace("\\", "/").rpartition("/")[2]
    try:
        return parse_wheel_filename(file)[0] if file.endswith(".whl") else None
    except InvalidWheelFilename:
        return None
