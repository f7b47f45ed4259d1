"""The page about the choice lists every rule and every warning that the planner can name."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import torchinstall.planner
from torchinstall.planner.explain import RULE_WORDS

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "how-a-build-is-chosen.md"


def slugs_of_page() -> set[str]:
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    return {slug for row in rows for slug in re.findall(r"`([a-z-]+)`", row.split("|")[1])}


def warning_slugs() -> set[str]:
    """Every literal slug of a `Message` in the planner."""
    found: set[str] = set()
    for path in Path(torchinstall.planner.__path__[0]).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Message":
                slugs = [word.value for word in node.keywords if word.arg == "slug"] or node.args[:1]
                found |= {str(slug.value) for slug in slugs if isinstance(slug, ast.Constant)}
    return found


def test_every_rule_has_its_example() -> None:
    assert set(RULE_WORDS) <= slugs_of_page()


def test_every_warning_is_listed() -> None:
    assert warning_slugs() <= slugs_of_page()
