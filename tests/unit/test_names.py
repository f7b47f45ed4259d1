"""Names that were given up: each said something else than a reader of pip, uv or packaging expects."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import torchinstall

PACKAGE = Path(torchinstall.__file__).parent
GIVEN_UP = """
where fresh later keep held stock given expect visit look tee carry_out judged wants shape everywhere
laws cell way World Said Scene Word
"""


def names_in(source: str) -> Iterator[str]:
    """Functions, classes, parameters, fields and variables that are defined."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def test_no_name_is_one_that_was_given_up() -> None:
    found = {
        f"{path.relative_to(PACKAGE)}: {name}"
        for path in PACKAGE.rglob("*.py")
        for name in (path.stem, *names_in(path.read_text(encoding="utf-8")))
        if name.strip("_") in GIVEN_UP.split()
    }
    assert not found


def test_each_kind_of_name_is_seen() -> None:
    source = "class Said:\n    way: str = ''\n\ndef _keep(where):\n    held = where\n"
    assert set(names_in(source)) == {"Said", "way", "_keep", "where", "held"}
