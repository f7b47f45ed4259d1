"""A table on disk: written the same way every time, read only when it is right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.invariants import render
from torchinstall.catalog.tables import DATA, TABLES, Table, Tables
from torchinstall.core.errors import CatalogError

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


def read(folder: Path, raw: object, name: str = "companions.json") -> Table:
    (folder / name).write_text(json.dumps(raw), encoding="utf-8")
    return Tables(folder).file(name)


def table(raw: dict[str, Any], name: str = "companions.json") -> Table:
    return Table(name=name, as_of=raw["as_of"], sources=raw["sources"], rows=tuple(raw["rows"]))


def with_row(**values: object) -> dict[str, Any]:
    return {**GOOD, "rows": [{**GOOD["rows"][0], **values}]}


def test_a_good_table_is_read(tmp_path: Path) -> None:
    assert read(tmp_path, GOOD) == table(GOOD)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ([], "companions.json: Expected `object`"),
        ({**GOOD, "schema_version": 0}, "companions.json ($.schema_version): Invalid enum value 0"),
        ({**GOOD, "schema_version": "1"}, "companions.json ($.schema_version): Expected `int`"),
        ({**GOOD, "as_of": "yesterday"}, "companions.json ($.as_of): "),
        ({**GOOD, "sources": {"docs": 1}}, "companions.json ($.sources[...]): Expected `str`, got `int`"),
        ({**GOOD, "rows": {}}, "companions.json ($.rows): Expected `array`"),
        ({**GOOD, "rows": ["x"]}, "companions.json, row 1 ($.rows[0]): Expected `object`"),
        (with_row(torch="new"), "row 1 ($.rows[0].torch): "),
        (with_row(exact=1), "row 1 ($.rows[0].exact): Expected `bool`, got `int`"),
        (with_row(confidence="certain"), "($.rows[0].confidence): Invalid enum value 'certain'"),
        (with_row(source="hearsay"), "row 1 ($.rows[0].source): 'hearsay' is not in sources"),
        (with_row(colour="red"), "row 1 ($.rows[0]): Object contains unknown field `colour`"),
        (
            {**GOOD, "rows": [GOOD["rows"][0], {"torch": "2.9.1"}]},
            "row 2 ($.rows[1]): Object missing required field `package`",
        ),
    ],
)
def test_a_wrong_table_names_file_row_and_path(tmp_path: Path, raw: object, said: str) -> None:
    with pytest.raises(CatalogError) as caught:
        read(tmp_path, raw)
    assert caught.value.slug == "catalog-invalid"
    assert caught.value.exit_code == 8
    assert said in (caught.value.found or "")
    assert "companions.json" in (caught.value.found or "")
    assert caught.value.hints


def test_a_kind_with_a_wrong_pattern_is_refused(tmp_path: Path) -> None:
    raw = json.loads((DATA / "backend_kinds.json").read_text(encoding="utf-8"))
    raw["rows"][1]["pattern"] = "rocm(("
    with pytest.raises(CatalogError) as caught:
        read(tmp_path, raw, "backend_kinds.json")
    assert "row 2 ($.rows[1]): pattern is not a regular expression" in (caught.value.found or "")


def test_a_later_schema_is_too_new(tmp_path: Path) -> None:
    with pytest.raises(CatalogError) as caught:
        read(tmp_path, {**GOOD, "schema_version": 2})
    assert caught.value.slug == "catalog-too-new"


def test_what_is_not_json_or_not_there_is_invalid(tmp_path: Path) -> None:
    (tmp_path / "code.json").write_text('{"schema_version": 1, "rows": [', encoding="utf-8")
    for name in ("code.json", "companions.json"):
        with pytest.raises(CatalogError) as caught:
            Tables(tmp_path).file(name)
        assert caught.value.slug == "catalog-invalid"
        assert name in (caught.value.found or "")


@pytest.mark.parametrize("name", sorted(TABLES))
def test_shipped_tables_are_byte_stable(name: str) -> None:
    assert render(Tables().file(name)) == (DATA / name).read_text(encoding="utf-8")


def test_every_shipped_file_has_a_row_class() -> None:
    assert {path.name for path in DATA.iterdir()} == set(TABLES)


def test_one_row_a_line_and_the_columns_in_order(tmp_path: Path) -> None:
    text = render(table({**GOOD, "rows": [dict(reversed(GOOD["rows"][0].items()))]}))
    assert text.splitlines()[-2].startswith('{"torch": "2.9.1", "package": "torchvision", ')
    assert json.loads(text) == GOOD


def test_a_default_is_not_written() -> None:
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
    text = render(table({**GOOD, "rows": [row, {**row, "channel": "test"}]}, "wheels.json"))
    first, second = text.splitlines()[-3:-1]
    assert "channel" not in first
    assert "build" not in first
    assert '"channel": "test"' in second


def test_a_wrong_row_is_not_written() -> None:
    with pytest.raises(CatalogError) as caught:
        render(table(with_row(exact="yes")))
    assert "companions.json, row 1 ($.rows[0].exact): " in (caught.value.found or "")


TEXTS = st.text(min_size=1, max_size=20)


@given(
    sources=st.dictionaries(TEXTS, TEXTS, min_size=1, max_size=4),
    package=TEXTS,
    exact=st.booleans(),
    pick=st.randoms(use_true_random=False),
)
def test_any_table_survives_writing_and_reading(
    tmp_path_factory: pytest.TempPathFactory, sources: dict[str, str], package: str, exact: bool, pick: Any
) -> None:
    row = {
        "torch": "2.9.1",
        "package": package,
        "version": "1",
        "exact": exact,
        "confidence": "low",
        "source": pick.choice(sorted(sources)),
    }
    text = render(table({"as_of": "2026-11-22", "sources": sources, "rows": [row]}))
    folder = tmp_path_factory.mktemp("tables")
    (folder / "companions.json").write_text(text, encoding="utf-8")
    again = Tables(folder).file("companions.json")
    assert again.rows == (row,)
    assert again.sources == sources
    assert render(again) == text


@pytest.mark.parametrize("indent", [None, 1], ids=["a row a line", "written otherwise"])
def test_single_hashes_are_found_as_reading_everything_finds_them(tmp_path: Path, indent: int | None) -> None:
    path = tmp_path / "hashes.json"
    path.write_bytes((DATA / "hashes.json").read_bytes())
    rows = Tables().hashes
    if indent is not None:
        path.write_text(json.dumps(json.loads(path.read_bytes()), indent=indent), encoding="utf-8")
    tables = Tables(tmp_path)
    for row in (rows[0], rows[len(rows) // 2], rows[-1]):
        assert tables.sha256(row.backend, row.file) == row.sha256
    assert tables.sha256("cpu", "torch-9.whl") is None


def test_a_single_hash_is_checked_too(tmp_path: Path) -> None:
    path = tmp_path / "hashes.json"
    path.write_text('{"rows": [\n{"backend": "cpu", "file": "a.whl", "sha256": "no"}\n]}\n', encoding="utf-8")
    with pytest.raises(CatalogError) as caught:
        Tables(tmp_path).sha256("cpu", "a.whl")
    assert caught.value.slug == "catalog-invalid"
    path.unlink()
    with pytest.raises(CatalogError):
        Tables(tmp_path).sha256("cpu", "a.whl")
