"""The comparison with uv: how a choice is judged, what uv's answers mean, and a few machines put to it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from scripts.compare_with_uv import main
from tests.simulation.case import Case
from tests.simulation.field import Choice, field, verdict
from tests.simulation.hardware import AMD, INTEL, NVIDIA, NVIDIA_ARM
from tests.simulation.questions import ARM, LINUX, WINDOWS
from tests.simulation.real_uv import RealUv, choice_in, trees
from torchinstall.catalog.catalog import load_catalog

_BY_CODE = {part.code: part for part in (*NVIDIA, *AMD, *INTEL)}
_PASCAL = Case("", LINUX, (_BY_CODE["6.1"],), driver="580.126.09")


@pytest.mark.parametrize(
    ("case", "choice", "why", "newest"),
    [
        (_PASCAL, Choice("2.14.1", "cu126"), "", True),
        (_PASCAL, Choice("2.13.0", "cu126"), "", False),
        (_PASCAL, Choice("2.15.0", "cu130"), "uses no GPU", False),
        (_PASCAL, Choice("2.15.0", "cpu"), "GPU lost to a CPU build", False),
        (_PASCAL, None, "nothing chosen", False),
        (Case("", LINUX, (_BY_CODE["gfx1031"],)), Choice("2.15.0", "cpu"), "", True),
        (Case("", LINUX, (_BY_CODE["gfx1031"],)), Choice("2.14.1", "rocm7.2"), "uses no GPU", False),
        (Case("", LINUX), Choice("2.15.0", "cpu"), "", True),
        (Case("", WINDOWS, python="3.8", packages=("torch", "torchaudio")), Choice("2.4.1", "cpu"), "", True),
        (
            Case("", LINUX, (_BY_CODE["6.1"], _BY_CODE["12.0"]), driver="580.126.09"),
            Choice("2.14.1", "cu126"),
            "a lesser GPU",
            False,
        ),
    ],
)
def test_a_choice_is_judged_by_what_the_machine_could_have_had(
    case: Case, choice: Choice | None, why: str, newest: bool
) -> None:
    found = verdict(case, choice)
    assert (found.why, found.runs, found.newest) == (why, why == "", newest)


def test_what_uv_writes_is_read_with_its_index() -> None:
    index = (
        "torch==2.14.1+cu126\n    # from https://download.pytorch.org/whl/cu126\ntorchvision==0.29.1+cu126\n"
    )
    assert choice_in(index, _PASCAL) == Choice("2.14.1", "cu126")
    nameless = "torch==2.5.1\n    # via torchvision\n    # from https://download.pytorch.org/whl/cpu\n"
    assert choice_in(nameless, Case("", ARM)) == Choice("2.5.1", "cpu")
    pypi = "torch==2.15.0\n    # from https://127.0.0.1:1/simple\n"
    assert choice_in(pypi, _PASCAL) == Choice("2.15.0", "cu132")
    assert choice_in("numpy==2.0.0\n", _PASCAL) is None


def test_the_index_shown_to_uv_holds_what_is_known_and_no_guess() -> None:
    pytorch, default = trees(load_catalog())
    names = {item.wheel.filename: item.wheel for item in pytorch.stored.values()}
    assert "torch-2.14.1+cu126-cp312-cp312-manylinux_2_28_x86_64.whl" in names
    assert not any("2.15.0+rocm7.14" in name for name in names)
    vision = names["torchvision-0.24.1+cu130-cp312-cp312-manylinux_2_28_x86_64.whl"]
    assert vision.requires == ("torch==2.9.1",)
    assert any("cpu/torch-2.15.0-cp312-cp312-macosx_14_0_arm64.whl" in path for path in pytorch.stored)
    assert any("torch-2.15.0-cp315-cp315-" in path for path in default.stored)


def test_the_field_is_large_different_and_repeatable() -> None:
    cases = field(540, 20261122)
    assert len(cases) == len(set(cases)) >= 500
    assert len({case.group for case in cases}) >= 10
    assert cases == field(540, 20261122) != field(540, 1)


@pytest.mark.e2e
def test_a_few_machines_with_the_real_uv(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    details = tmp_path / "details.jsonl"
    assert main(["--machines", "15", "--jobs", "2", "--details", str(details)]) == 0
    out = capsys.readouterr().out
    assert "| NVIDIA, Linux |" in out
    assert "torchinstall: always runs." in out
    rows = [json.loads(line) for line in details.read_text("utf-8").splitlines()]
    assert len(rows) >= 15
    assert all(row["uv"] for row in rows if row["group"].startswith("NVIDIA, "))


@pytest.mark.e2e
def test_uv_takes_the_machine_from_its_variables() -> None:
    uv = str(Path(sys.executable).with_name("uv"))
    with RealUv.serving(uv, load_catalog()) as real:
        chosen = {
            driver: real.choose(Case("", LINUX, (_BY_CODE["8.6"],), driver=driver))[0]
            for driver in ("470.256.02", "615.36.02")
        }
        pascal, _ = real.choose(_PASCAL)
        mi300, said = real.choose(Case("", LINUX, (_BY_CODE["gfx942"],)))
        unknown, _ = real.choose(Case("", LINUX, (_BY_CODE["gfx1035"],)))
        spark, _ = real.choose(Case("", ARM, (NVIDIA_ARM[3],), driver="580.126.09"))
    assert chosen["470.256.02"] == Choice("2.7.1", "cu118")
    assert chosen["615.36.02"] is not None
    assert chosen["615.36.02"].backend == "cu132"
    assert pascal is not None
    assert pascal.backend == "cu132"  # as the README says: no code for it
    assert mi300 is not None, said
    assert mi300.backend.startswith("rocm")
    assert unknown is not None
    assert unknown.backend == "cpu"
    assert spark is not None
    assert spark.backend.startswith("cu13")
