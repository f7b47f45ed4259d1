"""Rebuilding wheels.json from an index: shown by default, written only when asked, never against a law."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scripts import refresh_wheels
from scripts.invariants import verify
from scripts.refreshing import backend_order, code_order, hash_order, wheel_order
from tests.support.faults import unavailable
from tests.support.index_server import IndexServer
from tests.support.index_tree import IndexTree
from tests.support.tables import copied
from tests.support.wheelhouse import wheel_of_name
from torchinstall.catalog.tables import Tables
from torchinstall.index.fetch import LiveResult

NEW = "torch-2.16.0+cu134-cp312-cp312-manylinux_2_28_x86_64.whl"
CU126 = "torch-2.14.1+cu126-cp313-cp313-manylinux_2_28_x86_64.whl"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return copied(tmp_path)


def tree(*names: str) -> IndexTree:
    found = IndexTree()
    for name in names:
        found.add(name.split("+")[1].split("-")[0], wheel_of_name(name))
    return found


def run(server: IndexServer, folder: Path, *more: str) -> int:
    return refresh_wheels.main(
        ["--index", server.index_base, "--data", str(folder), "--as-of", "2027-01-02", *more]
    )


def torch_rows(folder: Path, backend: str) -> list[dict[str, Any]]:
    rows = json.loads((folder / "wheels.json").read_text(encoding="utf-8"))["rows"]
    return [row for row in rows if row["package"] == "torch" and row["backend"] == backend]


def snapshot(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("name", "order"),
    [
        ("backends.json", backend_order),
        ("wheels.json", wheel_order),
        ("hashes.json", hash_order),
        ("code.json", code_order),
    ],
)
def test_shipped_tables_lie_in_the_order_that_the_refreshers_write(name: str, order: Any) -> None:
    tables = Tables()
    rows = list(tables.file(name).rows)
    assert sorted(rows, key=order(tables)) == rows


def test_without_write_only_a_diff_is_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = snapshot(folder)
    with IndexServer(tree(NEW)) as server:
        assert run(server, folder, "--backend", "cu134", "--package", "torch") == 0
    shown = capsys.readouterr().out
    assert snapshot(folder) == before
    assert '+{"package": "torch", "version": "2.16.0", "local": "cu134"' in shown
    assert "--- a/wheels.json" in shown
    assert "--write writes them" in shown
    assert '-{"package"' not in shown


def test_a_new_backend_gets_wheels_hashes_and_a_row(folder: Path) -> None:
    with IndexServer(tree(NEW)) as server:
        assert run(server, folder, "--backend", "cu134", "--package", "torch", "--write") == 0
    tables = Tables(folder)
    (row,) = torch_rows(folder, "cu134")
    assert (row["tags"], row["confidence"], row["source"]) == ("cp312-cp312", "high", "index-page")
    assert tables.sha256("cu134", NEW) == wheel_of_name(NEW).sha256
    assert tables.retired["cu134"] is None
    assert tables.snapshot == "2027-01-02"
    assert verify(tables) == ()


def test_a_page_replaces_what_the_table_said_of_it(folder: Path) -> None:
    assert len({row["version"] for row in torch_rows(folder, "cu126")}) > 5
    untouched = torch_rows(folder, "cu128")
    with IndexServer(tree(CU126)) as server:
        assert run(server, folder, "--backend", "cu126", "--package", "torch", "--write") == 0
    rows = [row for row in torch_rows(folder, "cu126") if row["origin"] == "index"]
    assert [(row["version"], row["tags"]) for row in rows] == [("2.14.1", "cp313-cp313")]
    assert torch_rows(folder, "cu128") == untouched


def test_a_second_run_changes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with IndexServer(tree(NEW)) as server:
        run(server, folder, "--backend", "cu134", "--package", "torch", "--write")
        once = snapshot(folder)
        capsys.readouterr()
        assert run(server, folder, "--backend", "cu134", "--package", "torch", "--write") == 0
    assert snapshot(folder) == once
    assert capsys.readouterr().out == "nothing changed\n"


def test_reading_every_page_renews_the_date_even_if_nothing_changed(folder: Path) -> None:
    """A plan says when its facts are old; facts that were looked at today are not."""
    tables = Tables(folder)
    result = LiveResult(index_base="")
    partly = refresh_wheels.refreshed(tables, result, "2027-01-02")
    wholly = refresh_wheels.refreshed(tables, result, "2027-01-02", complete=True)
    assert partly[0] == tables.file("wheels.json")
    assert wholly[0].as_of == "2027-01-02"
    assert wholly[0].rows == partly[0].rows
    assert wholly[1:] == partly[1:]


def test_backends_are_discovered_on_the_root_page(folder: Path) -> None:
    with IndexServer(tree(NEW)) as server:
        run(server, folder, "--package", "torch")
        assert "/whl/cu134/torch/" in server.paths()


def test_hashes_that_a_page_lacks_are_kept(folder: Path) -> None:
    name = "torch-2.9.1+cu128-cp312-cp312-manylinux_2_28_x86_64.whl"
    known = Tables(folder).sha256("cu128", name)
    assert known is not None
    index = IndexTree()
    index.add("cu128", wheel_of_name(name), hashed=False)
    with IndexServer(index) as server:
        run(server, folder, "--backend", "cu128", "--package", "torch", "--write")
    assert Tables(folder).sha256("cu128", name) == known


def test_tables_that_would_break_a_law_are_not_written(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The index lost the triton that companions.json names for a torch: a person has to look."""
    before = snapshot(folder)
    index = tree(NEW)
    index.add("", wheel_of_name("triton_rocm-9.9.9-cp312-cp312-linux_x86_64.whl"))
    index.add("rocm7.2", wheel_of_name("torch-2.14.1+rocm7.2-cp312-cp312-manylinux_2_28_x86_64.whl"))
    rocm = [name for name in Tables(folder).retired if name.startswith("rocm7")]
    with IndexServer(index) as server:
        backends = [part for name in rocm for part in ("--backend", name)]
        code = run(server, folder, *backends, "--package", "triton-rocm", "--write")
    assert code == 1
    assert snapshot(folder) == before
    assert "broken law companion-unpublished" in capsys.readouterr().out


def test_an_index_that_does_not_answer_is_an_error(folder: Path) -> None:
    with IndexServer(tree(NEW)) as server:
        server.fault("*", unavailable(1000, status=404))
        with pytest.raises(SystemExit, match="index-not-found"):
            run(server, folder, "--backend", "cu134", "--package", "torch")
