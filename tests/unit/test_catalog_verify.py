"""Invariants: the shipped tables keep them, and each one notices what breaks it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scripts.invariants import INVARIANTS, main, verify
from tests.cli.support import run
from tests.support.tables import Rows, changed, copied, edit, row_of
from torchinstall.catalog.tables import Tables


def test_the_shipped_tables_keep_every_law() -> None:
    assert verify(Tables()) == ()


def again(rows: Rows) -> None:
    rows.append(dict(rows[0]))


def drop(**values: object) -> Callable[[Rows], None]:
    return lambda rows: rows.remove(row_of(rows, **values))


def put(where: dict[str, object], **values: object) -> Callable[[Rows], None]:
    return lambda rows: row_of(rows, **where).update(values)


def without(**values: object) -> Callable[[Rows], None]:
    def change(rows: Rows) -> None:
        rows[:] = [row for row in rows if any(row[key] != value for key, value in values.items())]

    return change


BREAKS: list[tuple[str, str, Callable[[Rows], None]]] = [
    ("duplicate", "companions.json", again),
    ("duplicate", "wheels.json", again),
    ("duplicate", "gpus_amd.json", again),
    ("orphan-backend", "backend_kinds.json", drop(kind="xpu")),
    ("orphan-backend", "backends.json", drop(backend="cu128")),
    ("orphan-backend", "wheels.json", put({"backend": "cu128"}, backend="tpu1")),
    ("bad-tags", "wheels.json", put({"backend": "cu128"}, tags="cp312")),
    ("retired-too-early", "backends.json", put({"backend": "cu128"}, retired="2.8.0")),
    ("unknown-platform", "wheels.json", put({"platform_tag": "win_amd64"}, platform_tag="linux_s390x")),
    (
        "macos-from-default",
        "wheels.json",
        put({"platform_tag": "macosx_14_0_arm64", "package": "torch"}, origin="index"),
    ),
    ("branch-steps-back", "driver_branches.json", put({"branch": 580}, cuda="12.5")),
    ("floor-unknown", "driver_floors.json", drop(major=13)),
    ("code-unknown", "code.json", without(platform="linux_aarch64")),
    ("unserved-target", "driver_gpus.json", drop(capability="7.5")),
    ("bad-target", "code.json", put({"torch": "2.9", "backend": "cu128"}, native=["sm_90"])),
    (
        "companion-unpublished",
        "companions.json",
        put({"torch": "2.9.1", "package": "torchvision"}, version="9.9.9"),
    ),
    ("companion-of-nothing", "companions.json", put({"torch": "2.9.1"}, torch="2.9.7")),
    ("no-family", "families.json", drop(package="torchaudio")),
    ("no-kind", "families.json", put({"package": "triton-rocm"}, runtime_of=["rcom"])),
    ("hash-of-nothing", "hashes.json", put({"backend": "cu128"}, file="torch-9-py3-none-any.whl")),
    ("bad-advice", "vendor_indexes.json", put({"match": "gfx1151"}, url="http://example.org")),
    ("bad-advice", "vendor_indexes.json", put({"match": "l4t36"}, match="orin")),
    ("bad-limit", "limits.json", put({"id": "rocblas-6.4"}, kind="cuda")),
    ("bad-limit", "limits.json", put({"id": "rocblas-6.4"}, wanted="")),
]


@pytest.mark.parametrize(("name", "table", "change"), BREAKS)
def test_each_invariant_notices_what_breaks_it(
    tmp_path: Path, name: str, table: str, change: Callable[[Rows], None]
) -> None:
    folder = copied(tmp_path)
    changed(folder, table, change)
    found = {problem.invariant for problem in verify(Tables(folder))}
    assert name in found


def test_other_spacing_is_not_byte_stable(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    path = folder / "families.json"
    path.write_text(path.read_text(encoding="utf-8").replace(": ", ":"), encoding="utf-8")
    problems = verify(Tables(folder))
    assert [(problem.invariant, problem.table) for problem in problems] == [("byte-stable", "families.json")]


def test_an_uncited_source_is_noticed(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    edit(folder, "code.json", lambda raw: raw["sources"].update(nobody="cites me"))
    assert "source-uncited" in {problem.invariant for problem in verify(Tables(folder))}


def test_unreadable_tables_are_all_named(tmp_path: Path) -> None:
    folder = copied(tmp_path)

    def later(raw: dict[str, Any]) -> None:
        raw["schema_version"] = 9

    edit(folder, "code.json", later)
    (folder / "hashes.json").write_text("{", encoding="utf-8")
    found = {(problem.invariant, problem.table) for problem in verify(Tables(folder))}
    assert found == {("catalog-too-new", "code.json"), ("catalog-invalid", "hashes.json")}


def test_the_verb_reads_every_table(tmp_path: Path) -> None:
    assert run(tmp_path, "catalog", "verify").code == 0
    folder = copied(tmp_path)
    edit(folder, "code.json", lambda raw: raw["rows"][0].update(source="nobody"))
    (folder / "hashes.json").write_text("{", encoding="utf-8")
    said = run(tmp_path, "catalog", "verify", "--json", env={"TORCHINSTALL_CATALOG_DIR": str(folder)})
    assert (said.code, said.json["error"]["slug"]) == (8, "catalog-unlawful")
    assert [row["table"] for row in said.json["problems"]] == ["code.json", "hashes.json"]


def test_a_folder_of_tables_is_checked_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = copied(tmp_path)
    changed(folder, "driver_floors.json", drop(major=13))
    assert main([str(folder)]) == 1
    assert "driver_floors.json: floor-unknown: no driver floor for cu130" in capsys.readouterr().out


def test_every_invariant_has_a_case_here() -> None:
    names = {name for name, _, _ in BREAKS} | {"byte-stable", "source-uncited", "source-unknown"}
    source = Path(INVARIANTS[0].__code__.co_filename).read_text(encoding="utf-8")
    raised = set(re.findall(r'Problem\("([a-z-]+)"', source))
    assert raised == names
