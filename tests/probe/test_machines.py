"""Every recorded machine gives its golden machine file, and none can crash the probe."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.machines.golden import GOLDEN, MACHINES, seen
from torchinstall.core.machine import decode_machine, machine_to_json
from torchinstall.probe.detect import PROBES, probe_machine
from torchinstall.probe.recording import RECORD, folder_system, record_machine

each_machine = pytest.mark.parametrize("folder", MACHINES, ids=lambda folder: folder.name)


@each_machine
def test_golden(folder: Path) -> None:
    assert seen(folder) == (folder / GOLDEN).read_text(encoding="utf-8")


def test_there_are_enough_and_each_says_where_it_comes_from() -> None:
    assert len(MACHINES) >= 40
    for folder in MACHINES:
        source = json.loads((folder / RECORD).read_text(encoding="utf-8"))["source"]
        assert source.startswith(("recorded", "built from ")), folder.name


@each_machine
def test_golden_machines_are_machine_files(folder: Path) -> None:
    machine = decode_machine((folder / GOLDEN).read_text(encoding="utf-8"), folder.name)
    assert decode_machine(json.dumps(machine_to_json(machine)), folder.name) == machine


@each_machine
def test_any_file_may_be_missing(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "machine"
    shutil.copytree(folder, copy)
    (copy / GOLDEN).unlink()
    files = [path for path in copy.rglob("*") if path.is_file()]
    assert files
    for path in files:
        data = path.read_bytes()
        path.unlink()
        machine = probe_machine(folder_system(copy))
        assert not [finding for finding in machine.findings if finding.slug == "probe-crashed"], path
        path.write_bytes(data)


@each_machine
def test_a_recorded_machine_is_that_machine(folder: Path, tmp_path: Path) -> None:
    """The recorder loses nothing that a probe reads: what it writes is seen the same way."""
    first = record_machine(folder_system(folder), tmp_path / "copy")
    second = probe_machine(folder_system(tmp_path / "copy"))
    assert machine_to_json(second.anonymous()) == machine_to_json(first.anonymous())


@each_machine
def test_a_fault_says_how_to_fix_it(folder: Path) -> None:
    machine = probe_machine(folder_system(folder))
    for finding in machine.findings:
        if finding.status in ("broken", "denied"):
            assert finding.slug, finding
            assert finding.hint, finding
        assert finding.source, finding
        assert not finding.detail.endswith("."), finding


@each_machine
def test_hardware_out_of_reach_is_not_listed_as_usable(folder: Path) -> None:
    """The planner's contract: denied and broken count where no GPU of the vendor is listed with a driver."""
    machine = probe_machine(folder_system(folder))
    slugs = {finding.slug for finding in machine.findings}
    for slug, vendor in (
        ("driver-library-mismatch", "nvidia"),
        ("kfd-permission", "amd"),
        ("render-permission", "intel"),
    ):
        if slug in slugs:
            assert not [gpu for gpu in machine.gpus if gpu.vendor == vendor]
    if "no-device-node" in slugs:
        assert machine.gpus == ()


def test_nothing_at_all_is_a_clean_report(tmp_path: Path) -> None:
    (tmp_path / RECORD).write_text('{"platform": "linux", "machine": "x86_64"}')
    machine = probe_machine(folder_system(tmp_path))
    assert (machine.gpus, machine.drivers, machine.environment) == ((), (), ())
    said = {finding.probe: finding for finding in machine.findings}
    assert set(said) == {"nvidia", "amd", "intel"}
    for finding in said.values():
        assert (finding.status, finding.slug) == ("absent", None)
        assert finding.source


def test_an_empty_folder_and_a_broken_record_are_answered(tmp_path: Path) -> None:
    assert probe_machine(folder_system(tmp_path)).os == "linux"
    (tmp_path / RECORD).write_text("{")
    machine = probe_machine(folder_system(tmp_path))
    assert "bad-recording" in {finding.slug for finding in machine.findings}


def test_every_probe_is_at_work_somewhere() -> None:
    said = {finding.probe for folder in MACHINES for finding in probe_machine(folder_system(folder)).findings}
    assert said >= set(PROBES) - {"surroundings"}
