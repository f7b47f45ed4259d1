"""Wheels in folders as a source of builds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.wheelhouse import torch_wheel, wheel, write_wheels
from torchinstall.core.errors import UsageError
from torchinstall.index.wheels import local_wheels

TAG = "cp312-cp312-manylinux_2_28_x86_64"


@pytest.mark.parametrize(
    ("item", "backend"),
    [
        (torch_wheel("2.9.1+cu128", TAG), "cu128"),
        (torch_wheel("2.9.1+cpu", TAG), "cpu"),
        (torch_wheel("2.9.1+rocm6.4", TAG), "rocm6.4"),
        (torch_wheel("2.9.1+cpu.cxx11.abi", TAG), "cpu"),
        (torch_wheel("2.9.1", TAG, cuda="12.8"), "cu128"),
        (torch_wheel("2.9.1", TAG, cuda="13.0"), "cu130"),
        (torch_wheel("2.9.1", TAG, hip="6.4.43483-a187df25c"), "rocm6.4"),
        (torch_wheel("2.9.1", TAG, xpu="20250302"), "xpu"),
        (torch_wheel("2.9.1", TAG), "cpu"),
        (torch_wheel("2.9.1+git1234", TAG, cuda="12.6"), "cu126"),
        (wheel("torch", "2.9.1", TAG), "cpu"),
    ],
)
def test_a_wheel_says_what_it_was_built_for(tmp_path: Path, item: object, backend: str) -> None:
    write_wheels(tmp_path, [item])  # type: ignore[list-item]  # parametrised wheel
    (row,) = local_wheels([tmp_path])
    assert (row.package, row.backend, row.origin) == ("torch", backend, "find-links")
    assert row.source == str(tmp_path)


def test_companions_follow_the_torch_beside_them(tmp_path: Path) -> None:
    write_wheels(tmp_path, [torch_wheel("2.9.1", TAG, cuda="12.8"), wheel("torchvision", "0.24.1", TAG)])
    rows = {row.package: row for row in local_wheels([tmp_path])}
    assert (rows["torchvision"].backend, rows["torchvision"].confidence) == ("cu128", "high")


def test_beside_two_builds_a_companion_counts_for_both_with_low_confidence(tmp_path: Path) -> None:
    write_wheels(
        tmp_path,
        [
            torch_wheel("2.9.1+cu128", TAG),
            torch_wheel("2.9.1+cpu", TAG),
            wheel("torchvision", "0.24.1", TAG),
            wheel("torchvision", "0.24.0+cu128", TAG),
        ],
    )
    rows = [row for row in local_wheels([tmp_path]) if row.package == "torchvision"]
    assert {(row.version, row.backend, row.confidence) for row in rows} == {
        ("0.24.1", "cu128", "low"),
        ("0.24.1", "cpu", "low"),
        ("0.24.0", "cu128", "high"),
    }


def test_python_tags_of_one_build_are_one_row(tmp_path: Path) -> None:
    write_wheels(
        tmp_path, [torch_wheel("2.9.1+cpu", TAG), torch_wheel("2.9.1+cpu", TAG.replace("312", "313"))]
    )
    (row,) = local_wheels([tmp_path])
    assert row.tags == {"cp312-cp312", "cp313-cp313"}


def test_what_is_no_wheel_is_noted_and_a_broken_one_counts_as_cpu(tmp_path: Path) -> None:
    (tmp_path / "torch-2.9.1 (1).whl").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / f"torch-2.9.1-{TAG}.whl").write_bytes(b"not a zip")
    notes: list[str] = []
    assert [row.backend for row in local_wheels([tmp_path], note=notes.append)] == ["cpu"]
    assert len(notes) == 2


def test_several_folders_keep_their_source(tmp_path: Path) -> None:
    write_wheels(tmp_path / "a", [torch_wheel("2.9.1+cpu", TAG)])
    write_wheels(tmp_path / "b", [torch_wheel("2.9.1+cpu", TAG)])
    found = local_wheels([tmp_path / "a", str(tmp_path / "b")])
    assert {row.source for row in found} == {str(tmp_path / "a"), str(tmp_path / "b")}


@pytest.mark.parametrize("folder", ["https://m.example/links.html", "http://m.example/", "missing"])
def test_only_folders_are_taken(tmp_path: Path, folder: str) -> None:
    with pytest.raises(UsageError) as caught:
        local_wheels([folder if "://" in folder else tmp_path / folder])
    assert caught.value.slug == "find-links-not-a-folder"
    assert caught.value.hints
