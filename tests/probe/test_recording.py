"""`record_machine`: a folder that tells what the machine is, and not whose it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.machine_folder import MachineFolder, nvml_gpu, nvml_rows
from tests.support.nvml import FakeGpu, fake_nvml_env
from torchinstall.core.errors import UsageError
from torchinstall.core.machine import decode_machine
from torchinstall.probe.detect import probe_machine
from torchinstall.probe.real import real_system
from torchinstall.probe.recording import RECORD, folder_system, record_machine, scrub


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        (
            "GPU UUID: \t GPU-8a56a4bc-e184-a047-2620-be19fdf913d5",
            "GPU UUID: \t GPU-00000000-0000-0000-0000-000000000000",
        ),
        ("Serial Number: 1320221012345", "Serial Number: 0"),
        ("0::/docker/" + "ab12" * 16, "0::/docker/" + "0" * 64),
        ("LD_LIBRARY_PATH=/home/ada/lib:/opt", "LD_LIBRARY_PATH=/home/user/lib:/opt"),
        ("C:\\Users\\Ada\\AppData", "C:\\Users\\user\\AppData"),
        ("on lovelace as ada", "on name as name"),
        ("NVIDIA RTX 6000 Ada Generation, adaptive", "NVIDIA RTX 6000 Ada Generation, adaptive"),
        ("580.95.05 10de:2684 gfx1100", "580.95.05 10de:2684 gfx1100"),
    ],
)
def test_scrub(text: str, clean: str) -> None:
    assert scrub(text, ("lovelace", "ada")) == clean


def test_what_a_recording_keeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = nvml_rows("580.95.05", 13000, [nvml_gpu(0, "NVIDIA L4", (8, 9), "10de:27b8")])
    uuid = "8a56a4bc-e184-a047-2620-be19fdf913d5"
    rows[5]["uuid"] = f"GPU-{uuid}"
    folder = MachineFolder(
        tmp_path / "real",
        "built from a test",
        platform="linux",
        machine="x86_64",
        env={"HTTPS_PROXY": "http://ada:hush@proxy", "SECRET": "hush", "CI": "true", "USER": "ada"},
        libraries={"libcuda.so.1": "/opt/of ada on lovelace/libcuda.so.1"},
    )
    folder.nvidia_module("580.95.05").nvidia_nodes().nvml(rows)
    folder.file("/etc/hostname", "lovelace\n").file("/opt/secret-project/plan", "hush")
    monkeypatch.setattr("platform.node", lambda: "lovelace")
    machine = record_machine(folder_system(folder.write()), tmp_path / "copy")
    stored = [path for path in (tmp_path / "copy").rglob("*") if path.is_file()]
    text = "".join(f"{path}\n{path.read_text()}" for path in stored)
    for private in ("hush", "lovelace", "ada ", uuid, "SECRET", "secret-project"):
        assert private not in text.replace(str(tmp_path), "")
    again = probe_machine(folder_system(tmp_path / "copy"))
    assert again.anonymous() == machine.anonymous()
    assert again.gpus[0].uuid == "GPU-00000000-0000-0000-0000-000000000000"


def test_recording_this_machine(tmp_path: Path, fake_nvml: Path) -> None:
    target = tmp_path / "new" / "recorded"
    system = real_system(fake_nvml_env(fake_nvml, [FakeGpu()]))
    machine = record_machine(system, target)
    assert machine.gpus[0].name == FakeGpu().name
    recorded = probe_machine(folder_system(target))
    assert recorded.anonymous() == machine.anonymous()
    stored = decode_machine((target / "machine.json").read_text(), "machine.json")
    assert stored == machine.anonymous()
    with pytest.raises(UsageError, match="not empty"):
        record_machine(system, target)
    with pytest.raises(UsageError, match="cannot be written"):
        record_machine(system, target / "machine.json")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"env": {"CI": 1}}', "$.env"),
        ('{"schema_version": 2, "machine": "x86_64"}', "$.schema_version"),
        ("[]", "object"),
        ("nonsense", RECORD),
    ],
)
def test_a_broken_record_says_where(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / RECORD).write_text(text)
    findings = probe_machine(folder_system(tmp_path)).findings
    (finding,) = [row for row in findings if row.slug == "bad-recording"]
    assert reason in finding.detail
    assert "torchinstall probe --record" in (finding.hint or "")
