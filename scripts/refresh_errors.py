"""Print which error texts `doctor --explain` does not recognise, so that the collection grows.

    python -m scripts.refresh_errors new.jsonl

Each line of the input is a JSON object with `text`, and optionally `id`, `kind` and `source`; `-` is stdin.
A line whose `kind` is `none` is a look-alike, and is printed if it is recognised. Each line of the output is
the input with `found`: the causes that were recognised. Exit 1 if anything was printed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from torchinstall.catalog.catalog import Catalog, load_catalog
from torchinstall.doctor.rules import explain

__all__ = ["main", "unknown"]


def unknown(lines: Iterable[str], catalog: Catalog) -> Iterator[dict[str, Any]]:
    """The texts that are not recognised, and the look-alikes that are.

    Raises:
        ValueError: a line is not a JSON object with a text.
    """
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        row = json.loads(line)
        text = row.get("text") if isinstance(row, dict) else None
        if text is None:
            raise ValueError(f"line {number} is not an object with `text`")
        found = [match.slug for match in explain(text, catalog)]
        if bool(found) == (row.get("kind") == "none"):
            yield {**row, "found": found}


def main() -> int:
    """Read, judge, print; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", help="JSON lines, or - for stdin")
    name = parser.parse_args().file
    text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
    rows = list(unknown(text.split("\n"), load_catalog()))
    for row in rows:
        print(json.dumps(row, ensure_ascii=False))
    return 1 if rows else 0


if __name__ == "__main__":
    sys.exit(main())
