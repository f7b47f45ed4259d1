"""`docs/reference/findings.md` lists exactly the slugs that the probes can give."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
STATUSES = {"found", "absent", "broken", "denied", "overridden"}
SLUG = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)+|nouveau|mig|wsl1|rosetta")


def texts(node: ast.expr | None) -> set[str]:
    """Literal texts of an expression; both of a conditional one, all cases of an f-string's ending."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return {node.value}
    if isinstance(node, ast.IfExp):
        return texts(node.body) | texts(node.orelse)
    return set()


def slugs_of(tree: ast.AST) -> set[str]:
    """`slug=` of any call, and the second or third argument of the helpers that take slugs by position."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        for keyword in node.keywords:
            if keyword.arg == "slug":
                found |= texts(keyword.value)
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        position = {"fault": 1, "_found": 2, "_complain": 0}.get(name)
        if position is not None and len(node.args) > position:
            found |= texts(node.args[position])
        if name == "_unsupported":
            found |= {f"unsupported-{text}" for text in texts(node.args[0])}
    return found


def test_the_page_lists_every_slug_and_no_other() -> None:
    source = set[str]()
    for path in (ROOT / "torchinstall" / "probe").glob("*.py"):
        source |= slugs_of(ast.parse(path.read_text(encoding="utf-8")))
    source.discard("no-machine-folder")
    page = (ROOT / "docs" / "reference" / "findings.md").read_text(encoding="utf-8")
    listed = {match for match in re.findall(r"(?m)^\| `([^`]+)` \|", page) if match not in STATUSES}
    assert {slug for slug in source if not SLUG.fullmatch(slug)} == set()
    assert listed == source
