"""`docs/reference/findings.md` lists exactly the slugs that the probes can give."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
STATUSES = {"found", "absent", "broken", "denied", "overridden"}
SLUG = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)+|nouveau|mig|wsl1|rosetta")
SLUG_POSITIONS = {
    "finding": 2,
    "_nvidia": 1,
    "_amd": 1,
    "_intel": 1,
    "_apple": 1,
    "_complain": 0,
}
"""Where the functions that make a finding take its slug; `_host` of surroundings.py fixes the status too."""


def slugs_of(path: Path) -> set[str]:
    """The literal slugs in the calls of a module, both of a conditional one."""
    positions = SLUG_POSITIONS | {"_host": 0 if path.name == "surroundings.py" else 1}
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        position = positions.get(name, len(node.args))
        for argument in node.args[position : position + 1]:
            constants = [part.value for part in ast.walk(argument) if isinstance(part, ast.Constant)]
            found |= {text for text in constants if isinstance(text, str) and SLUG.fullmatch(text)}
    return found


def test_the_page_lists_every_slug_and_no_other() -> None:
    source = set[str]()
    for path in (ROOT / "torchinstall" / "probe").glob("*.py"):
        source |= slugs_of(path)
    page = (ROOT / "docs" / "reference" / "findings.md").read_text(encoding="utf-8")
    listed = {match for match in re.findall(r"(?m)^\| `([^`]+)` \|", page) if match not in STATUSES}
    assert listed == source
