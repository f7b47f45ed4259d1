"""The texts of findings: each is used, with the values it names, and its slug is on the findings page."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from string import Formatter

from torchinstall.probe.host import FindingText, finding_texts

ROOT = Path(__file__).parents[2]
STATUSES = {"found", "absent", "broken", "denied", "overridden"}
PROBES = {"_host": "host", "_complain": "host", "finding": "nvidia", "_amd": "amd", "_intel": "intel"}
PROBES["_apple"] = "apple"
"""The functions that make a finding, each bound to its probe."""


def findings_made() -> Iterator[tuple[str, str, set[str] | None]]:
    """Probe, key and values of each finding that is made; no values where they come from a mapping."""
    for path in (ROOT / "torchinstall" / "probe").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            probe = "host" if name == "report" else PROBES.get(name)
            values = {keyword.arg or "**" for keyword in node.keywords} - {"source", "hint"}
            for argument in node.args if probe else ():
                for part in ast.walk(argument):
                    if isinstance(part, ast.Constant) and isinstance(part.value, str):
                        yield str(probe), part.value, None if "**" in values else values


def names_in(text: FindingText) -> set[str]:
    """The values that a row names."""
    parts = Formatter().parse(f"{text.detail}{text.source}{text.hint}{text.container_hint}")
    return {name for _, name, _, _ in parts if name}


def test_each_text_gets_the_values_that_it_names() -> None:
    texts, checked = finding_texts(), 0
    for probe, key, values in findings_made():
        if key in texts[probe] and values is not None:
            assert names_in(texts[probe][key]) <= values, (probe, key)
            checked += 1
    assert checked > 40


def test_each_text_is_used() -> None:
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "torchinstall" / "probe").glob("*.py")]
    used = "".join(sources)
    unused = {key for rows in finding_texts().values() for key in rows if f'"{key}"' not in used}
    assert unused == set()


def test_what_is_wrong_has_a_slug_and_plain_words() -> None:
    for probe, rows in finding_texts().items():
        for key, text in rows.items():
            assert not text.detail.endswith("."), (probe, key)
            assert text.status not in ("broken", "denied") or not key.startswith("/"), (probe, key)


def test_the_page_lists_every_slug_and_no_other() -> None:
    slugs = {key.partition("/")[0] for rows in finding_texts().values() for key in rows} - {""}
    page = (ROOT / "docs" / "reference" / "findings.md").read_text(encoding="utf-8")
    listed = {match for match in re.findall(r"(?m)^\| `([^`]+)` \|", page) if match not in STATUSES}
    assert listed == slugs
