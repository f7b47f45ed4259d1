"""The reference page names every table, column, law and family."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.test_catalog_verify import BREAKS
from torchinstall.catalog.load import ShippedTables
from torchinstall.catalog.schemas import SCHEMAS

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "catalog.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_every_table_and_column_is_explained(name: str) -> None:
    line = next(line for line in PAGE.splitlines() if line.startswith("|") and f"`{name}`" in line)
    for column in SCHEMAS[name].columns:
        if column.name not in ("confidence", "source"):
            assert f"`{column.name}`" in line, column.name


def test_every_law_is_explained() -> None:
    for law in {law for law, _, _ in BREAKS} | {"byte-stable", "source-uncited"}:
        assert f"`{law}`" in PAGE


def test_every_family_is_explained() -> None:
    section = PAGE.partition("### families.json")[2].partition("## Laws")[0]
    listed = {
        name.strip(): cells[2].strip() == "yes"
        for line in section.splitlines()
        if line.startswith("|") and len(cells := line.split("|")) == 5
        for name in cells[1].split(",")
    }
    for family in ShippedTables().families:
        assert listed[family.package] is family.routed
