"""Every link between the pages leads somewhere, and every page can be reached from the index."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


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
    index = ROOT / "docs" / "README.md"
    assert {page for page in PAGES if ROOT / "docs" in page.parents} - links(index) == {index}
