"""The page about projects names every slug of the project package and its verbs, and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import torchinstall
from torchinstall.project.migrate import NOT_READ

HOUSE = Path(torchinstall.__path__[0])
PAGE = HOUSE.parent / "docs" / "how-to" / "projects.md"
VERBS = ("configure", "sync")


def files() -> list[Path]:
    # Exports and bundles have pages of their own.
    rooms = [path for path in (HOUSE / "project").glob("*.py") if not path.stem.startswith("bundle")]
    return [*rooms, *(HOUSE / "cli" / f"{name}.py" for name in VERBS)]


def said() -> Iterator[str]:
    yield from NOT_READ
    for path in files():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "id", "")
            if name == "Message":
                words = [word.value for word in node.keywords if word.arg == "slug"]
            elif name.endswith("Error") and node.args:
                words = [node.args[0]]
            else:
                continue
            for word in words:
                if isinstance(word, ast.Constant) and re.fullmatch(r"[a-z]+(-[a-z0-9]+)*", str(word.value)):
                    yield str(word.value)


def test_every_slug_is_on_the_page_and_no_other() -> None:
    table = PAGE.read_text(encoding="utf-8").partition("## Messages")[2]
    rows = [line for line in table.splitlines() if line.startswith("| `")]
    listed = {slug for row in rows for slug in re.findall(r"`([a-z-]+)`", row.split("|")[1])}
    assert set(said()) == listed
