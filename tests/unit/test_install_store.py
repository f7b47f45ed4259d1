"""The stored decision, and what it says about drift."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from msgspec import structs

from tests.support.installing import a_plan, pin
from torchinstall.core.machine import Driver, Finding, Gpu, Machine
from torchinstall.core.target import Installed, Target
from torchinstall.install.record import (
    Decision,
    decision_of,
    drift,
    machine_digest,
    path_in,
    read_decision,
    store_decision,
)

MACHINE = Machine(
    os="linux",
    arch="x86_64",
    drivers=(Driver(vendor="nvidia", version="580.95.05", cuda_version="13.0"),),
    gpus=(Gpu(vendor="nvidia", index=0, name="RTX 4090", compute_capability=(8, 9), uuid="GPU-1"),),
)
TARGET = Target(
    python_version="3.12.1",
    abi="cp312",
    os="linux",
    arch="x86_64",
    installed=(Installed(name="torch", version="2.9.1+cu128"),),
)


def decided() -> Decision:
    url = "https://me:secret@mirror.example/whl/cu128"
    plan = a_plan(
        pin("torch", "2.9.1+cu128", url), pin("triton", None), requirements=("torch",), backend="cu128"
    )
    return decision_of(plan, MACHINE, made_at="2026-11-23T01:02:03+00:00", uv="0.13.9")


def test_a_decision_is_read_back_as_it_was_stored(tmp_path: Path) -> None:
    decision = decided()

    assert store_decision(str(tmp_path), decision)
    assert read_decision(str(tmp_path)) == decision
    assert [item.name for item in path_in(str(tmp_path)).parent.iterdir()] == ["decision.json"]


def test_a_decision_names_no_secret_and_no_single_machine(tmp_path: Path) -> None:
    store_decision(str(tmp_path), decided())

    text = path_in(str(tmp_path)).read_text("utf-8")
    assert "secret" not in text
    assert "GPU-1" not in text
    assert json.loads(text)["packages"] == {"torch": "2.9.1+cu128"}


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"schema_version": 2}', '{"schema_version": 1}', "\x00"])
def test_a_file_that_is_no_decision_is_none(tmp_path: Path, text: str) -> None:
    path = path_in(str(tmp_path))
    path.parent.mkdir(parents=True)
    path.write_text(text)

    assert read_decision(str(tmp_path)) is None


def test_a_place_that_takes_no_file_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "share").write_text("in the way")

    assert not store_decision(str(tmp_path), decided())
    assert read_decision(str(tmp_path)) is None


def test_the_digest_follows_the_hardware_only() -> None:
    same = structs.replace(
        MACHINE, memory_bytes=1, findings=(Finding(probe="amd", status="absent", detail=""),)
    ).anonymous()
    other = structs.replace(MACHINE, gpus=())

    assert machine_digest(same) == machine_digest(MACHINE)
    assert machine_digest(other) != machine_digest(MACHINE)


def test_nothing_drifted() -> None:
    assert drift(decided(), TARGET) == ()


def test_a_replaced_and_a_missing_torch_are_drift() -> None:
    target = structs.replace(TARGET, installed=(Installed(name="torch", version="2.9.1"),))
    assert drift(decided(), target) == ("torch was installed as 2.9.1+cu128 and is now 2.9.1",)
    gone = structs.replace(TARGET, installed=())
    assert drift(decided(), gone) == ("torch was installed as 2.9.1+cu128 and is now gone",)


def test_a_new_driver_and_another_gpu_make_another_machine() -> None:
    driver = structs.replace(MACHINE.drivers[0], version="590.1")
    other = (Gpu(vendor="nvidia", name="RTX 5090"),)
    for machine in (structs.replace(MACHINE, drivers=(driver,)), structs.replace(MACHINE, gpus=other)):
        assert machine_digest(machine) != decided().machine.digest
