"""Why uv failed, in a slug and a way on: the table `hints.json` read against uv's last words."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

__all__ = ["explain"]


def explain(said: str, returncode: int, routed: Iterable[str] = ()) -> tuple[str, str, str]:
    """Slug, hint and the telling line of a failure.

    Args:
        said: uv's stderr, without terminal codes.
        returncode: its exit status; negative: the signal that killed it.
        routed: packages that come from one index only; `{routed}` in a pattern is any of them.

    Returns:
        The first row of the table whose pattern occurs, or `uv-failed` / `uv-killed`.
    """
    words = re.sub(r"\s+", " ", said)
    if returncode < 0:
        return (
            "uv-killed",
            "something ended uv, often for lack of memory: free some and run the same command again",
            f"uv was ended by signal {-returncode}",
        )
    table = json.loads((Path(__file__).parent / "hints.json").read_text(encoding="utf-8"))
    names = "(?:" + ("|".join(re.escape(name) for name in routed) or "(?!)") + ")"
    for row in table["rows"]:
        pattern = row["pattern"].replace("{routed}", names)
        if re.search(pattern, words):
            return row["slug"], row["hint"], _telling_line(said, pattern)
    return "uv-failed", "uv's own words above say why; -v shows more of them", _telling_line(said, r"error: ")


def _telling_line(said: str, pattern: str) -> str:
    """The line of uv's that the pattern fits, else its first error, else its last line."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    for wanted in (pattern, r"^error\b"):
        for line in lines:
            # uv says that there is no solution first, and why on the next line.
            if re.search(wanted, line) and "No solution found when" not in line:
                return re.sub(r"^(error|cause): ", "", line)[:300]
    return re.sub(r"^(error|cause): ", "", lines[-1])[:300] if lines else "uv said nothing"
