"""A table on disk: written the same way every time, read only when it is right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchinstall.catalog.load import DATA
from torchinstall.catalog.schemas import SCHEMAS
from torchinstall.catalog.table_file import TableFile, find_rows, parse_table, read_table, render
from torchinstall.core.errors import CatalogError

COMPANIONS = SCHEMAS["companions.json"]

GOOD: dict[str, Any] = {
    "schema_version": 1,
    "as_of": "2026-11-22",
    "sources": {"docs": "somewhere"},
    "rows": [
        {
            "torch": "2.9.1",
            "package": "torchvision",
            "version": "0.24.1",
            "exact": True,
            "confidence": "high",
            "source": "docs",
        }
    ],
}


def with_row(**values: object) -> dict[str, Any]:
    return {**GOOD, "rows": [{**GOOD["rows"][0], **values}]}


def test_a_good_table_is_read() -> None:
    table = parse_table("companions.json", GOOD, COMPANIONS)
    assert table.rows[0]["package"] == "torchvision"
    assert table.sources == {"docs": "somewhere"}


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ([], "not a JSON object"),
        ({**GOOD, "schema_version": 0}, "schema_version is 0"),
        ({**GOOD, "schema_version": "1"}, "schema_version is '1'"),
        ({**GOOD, "as_of": "yesterday"}, "as_of"),
        ({**GOOD, "sources": {"docs": 1}}, "sources"),
        ({**GOOD, "rows": {}}, "rows is not a list"),
        ({**GOOD, "rows": ["x"]}, "companions.json, row 1: a row is an object"),
        (with_row(torch="new"), "row 1: torch is 'new', wanted a dotted version"),
        (with_row(exact=1), "exact is 1, wanted true or false"),
        (with_row(confidence="certain"), "confidence is 'certain', wanted high or medium or low"),
        (with_row(source="hearsay"), "source 'hearsay' is not among"),
        (with_row(colour="red"), "'colour' is not a column"),
        ({**GOOD, "rows": [GOOD["rows"][0], {"torch": "2.9.1"}]}, "row 2: package is missing"),
    ],
)
def test_a_wrong_table_names_file_row_and_fault(raw: object, said: str) -> None:
    with pytest.raises(CatalogError) as caught:
        parse_table("companions.json", raw, COMPANIONS)
    assert caught.value.slug == "catalog-invalid"
    assert caught.value.exit_code == 8
    assert said in (caught.value.found or "")
    assert "companions.json" in (caught.value.found or "")
    assert caught.value.hints


def test_a_number_beside_a_truth_value_is_still_noticed() -> None:
    rows = [GOOD["rows"][0], {**GOOD["rows"][0], "exact": 1}]
    with pytest.raises(CatalogError) as caught:
        parse_table("companions.json", {**GOOD, "rows": rows}, COMPANIONS)
    assert "row 2: exact is 1" in (caught.value.found or "")


def test_a_later_schema_is_too_new() -> None:
    with pytest.raises(CatalogError) as caught:
        parse_table("companions.json", {**GOOD, "schema_version": 2}, COMPANIONS)
    assert caught.value.slug == "catalog-too-new"


def test_what_is_not_json_or_not_there_is_invalid(tmp_path: Path) -> None:
    (tmp_path / "torn.json").write_text('{"schema_version": 1, "rows": [', encoding="utf-8")
    for name in ("torn.json", "missing.json"):
        with pytest.raises(CatalogError) as caught:
            read_table(tmp_path / name, COMPANIONS)
        assert caught.value.slug == "catalog-invalid"
        assert name in (caught.value.found or "")


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_shipped_tables_are_byte_stable(name: str) -> None:
    path = DATA / name
    assert render(read_table(path, SCHEMAS[name]), SCHEMAS[name]) == path.read_text(encoding="utf-8")


def test_every_shipped_file_has_a_schema() -> None:
    assert {path.name for path in DATA.iterdir()} == set(SCHEMAS)


def test_one_row_a_line_and_the_columns_of_the_schema_in_order() -> None:
    shuffled = {**GOOD, "rows": [dict(reversed(GOOD["rows"][0].items()))]}
    text = render(parse_table("companions.json", shuffled, COMPANIONS), COMPANIONS)
    assert text.splitlines()[-2].startswith('{"torch": "2.9.1", "package": "torchvision", ')
    assert json.loads(text) == GOOD


def test_a_default_is_not_written() -> None:
    schema = SCHEMAS["wheels.json"]
    row = {
        "package": "torch",
        "version": "2.9.1",
        "local": "cu128",
        "backend": "cu128",
        "platform_tag": "win_amd64",
        "tags": "cp312-cp312",
        "origin": "index",
        "channel": "stable",
        "build": "",
        "confidence": "high",
        "source": "docs",
    }
    table = parse_table("wheels.json", {**GOOD, "rows": [row, {**row, "channel": "test"}]}, schema)
    first, second = render(table, schema).splitlines()[-3:-1]
    assert "channel" not in first
    assert "build" not in first
    assert '"channel": "test"' in second


TEXTS = st.text(min_size=1, max_size=20)


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(max_size=3),
    st.lists(st.text()),
)


@given(
    rows=st.lists(
        st.dictionaries(st.sampled_from(["torch", "package", "exact", "colour"]), JUNK).map(
            lambda junk: {**GOOD["rows"][0], **junk}
        ),
        max_size=4,
    ),
    drop=st.sampled_from(["", "torch", "source"]),
)
def test_the_quick_look_and_the_slow_one_agree(rows: list[dict[str, Any]], drop: str) -> None:
    for row in rows[:1]:
        row.pop(drop, None)
    assert COMPANIONS.fits(rows) is all(COMPANIONS.problem(row) is None for row in rows)


@given(
    sources=st.dictionaries(TEXTS, TEXTS, min_size=1, max_size=4),
    package=TEXTS,
    exact=st.booleans(),
    pick=st.randoms(use_true_random=False),
)
def test_any_table_survives_writing_and_reading(
    sources: dict[str, str], package: str, exact: bool, pick: Any
) -> None:
    row = {
        "torch": "2.9.1",
        "package": package,
        "version": "1",
        "exact": exact,
        "confidence": "low",
        "source": pick.choice(sorted(sources)),
    }
    table = TableFile(name="companions.json", as_of="2026-11-22", sources=sources, rows=(row,))
    text = render(table, COMPANIONS)
    again = parse_table("companions.json", json.loads(text), COMPANIONS)
    assert again == table
    assert render(again, COMPANIONS) == text


HASHES = SCHEMAS["hashes.json"]


@pytest.mark.parametrize("indent", [None, 1], ids=["a row a line", "written otherwise"])
def test_single_rows_are_found_as_reading_everything_finds_them(tmp_path: Path, indent: int | None) -> None:
    path = tmp_path / "hashes.json"
    path.write_bytes((DATA / "hashes.json").read_bytes())
    rows = read_table(path, HASHES).rows
    if indent is not None:
        path.write_text(json.dumps(json.loads(path.read_bytes()), indent=indent), encoding="utf-8")
    for row in (rows[0], rows[len(rows) // 2], rows[-1]):
        wanted = tuple(item for item in rows if item["file"] == row["file"])
        assert find_rows(path, HASHES, row["file"]) == wanted
    assert find_rows(path, HASHES, "torch-9.whl") == ()


def test_a_single_row_is_checked_too(tmp_path: Path) -> None:
    path = tmp_path / "hashes.json"
    path.write_text('{"rows": [\n{"backend": "cpu", "file": "a.whl", "sha256": "no"}\n]}\n', encoding="utf-8")
    with pytest.raises(CatalogError) as caught:
        find_rows(path, HASHES, "a.whl")
    assert caught.value.slug == "catalog-invalid"
    assert "sha256" in (caught.value.found or "")
    with pytest.raises(CatalogError):
        find_rows(tmp_path / "none.json", HASHES, "a.whl")
