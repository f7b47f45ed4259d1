"""The reference page names every table, column, invariant and family."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.test_catalog_verify import BREAKS
from torchinstall.catalog.tables import TABLES, Tables

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "catalog.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(TABLES))
def test_every_table_and_column_is_explained(name: str) -> None:
    line = next(line for line in PAGE.splitlines() if line.startswith("|") and f"`{name}`" in line)
    for column in TABLES[name].__struct_encode_fields__:
        if column not in ("confidence", "source", "assumed"):
            assert f"`{column}`" in line, column


def test_every_invariant_is_explained() -> None:
    for invariant in {name for name, _, _ in BREAKS} | {"byte-stable", "source-uncited", "source-unknown"}:
        assert f"`{invariant}`" in PAGE


def test_every_family_is_explained() -> None:
    section = PAGE.partition("### families.json")[2].partition("## Invariants")[0]
    listed = {
        name.strip(): cells[2].strip() == "yes"
        for line in section.splitlines()
        if line.startswith("|") and len(cells := line.split("|")) == 5
        for name in cells[1].split(",")
    }
    for family in Tables().rows("families.json"):
        assert listed[family.package] is family.routed
