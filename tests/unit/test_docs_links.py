"""Every link between the pages leads somewhere, and every page can be reached from the index."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "tests" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
HOUSE = [ROOT / "CONTRIBUTING.md", ROOT / "tests" / "README.md", ROOT / "docs/explanation/architecture.md"]


def links(page: Path) -> set[Path]:
    text = page.read_text(encoding="utf-8")
    found = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text)
    return {(page.parent / link).resolve() for link in found if "://" not in link}


def test_no_link_leads_nowhere() -> None:
    broken = {
        f"{page.relative_to(ROOT)} -> {link}" for page in PAGES for link in links(page) if not link.exists()
    }
    assert broken == set()


def test_the_index_names_every_page() -> None:
    """The pages of error causes have an index of their own, which this one names."""
    index, causes = ROOT / "docs" / "README.md", ROOT / "docs" / "errors" / "README.md"
    assert causes in links(index)
    named = links(index) | links(causes)
    assert {page for page in PAGES if ROOT / "docs" in page.parents} - named == {index}


def test_every_module_that_the_pages_for_contributors_name_is_there() -> None:
    named = {
        (page.name, path)
        for page in HOUSE
        for path in re.findall(r"`([\w./*-]+/[\w./*-]*)`", page.read_text(encoding="utf-8"))
    }
    assert len(named) > 40
    assert {
        (page, path)
        for page, path in named
        if not any(ROOT.glob(path)) and not any((ROOT / "torchinstall").glob(path))
    } == set()
