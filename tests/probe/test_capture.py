"""`scripts/capture_machine.py`: a folder that says what the machine is, and not whose it is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.machine_folder import MachineFolder, nvml_gpu, nvml_rows
from tests.support.nvml import FakeGpu, fake_nvml_env
from torchinstall.core.machine import decode_machine
from torchinstall.probe import folder_system, probe_machine
from torchinstall.probe.record import RecordingSystem, scrub

ROOT = Path(__file__).parents[2]


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


def test_what_a_recording_keeps(tmp_path: Path) -> None:
    rows = nvml_rows("580.95.05", 13000, [nvml_gpu(0, "NVIDIA L4", (8, 9), "10de:27b8")])
    uuid = "8a56a4bc-e184-a047-2620-be19fdf913d5"
    rows[5]["uuid"] = f"GPU-{uuid}"
    folder = MachineFolder(
        tmp_path / "real",
        "built from a test",
        platform="linux",
        machine="x86_64",
        env={"HTTPS_PROXY": "http://ada:hush@proxy", "SECRET": "hush", "CI": "true"},
    )
    folder.nvidia_module("580.95.05").nvidia_nodes().nvml(rows)
    folder.file("/etc/hostname", "lovelace\n").file("/opt/secret-project/plan", "hush")
    system = RecordingSystem(folder_system(folder.write()))
    machine = probe_machine(system)
    system.save(tmp_path / "copy", "recorded", ("lovelace", "ada"))
    stored = [path for path in (tmp_path / "copy").rglob("*") if path.is_file()]
    text = "".join(f"{path}\n{path.read_text()}" for path in stored)
    for private in ("hush", "lovelace", uuid, "SECRET", "secret-project"):
        assert private not in text.replace(str(tmp_path), "")
    again = probe_machine(folder_system(tmp_path / "copy"))
    assert again.anonymous() == machine.anonymous()
    assert again.gpus[0].uuid == "GPU-00000000-0000-0000-0000-000000000000"


def test_the_script(tmp_path: Path, fake_nvml: Path) -> None:
    env = {**os.environ, **fake_nvml_env(fake_nvml, [FakeGpu()]), "PYTHONPATH": str(ROOT)}
    script = str(ROOT / "scripts" / "capture_machine.py")
    target = tmp_path / "captured"
    argv = [sys.executable, script, str(target)]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=True, timeout=60)
    assert "1 GPUs" in done.stderr
    captured = probe_machine(folder_system(target))
    assert captured.gpus[0].name == FakeGpu().name
    said = decode_machine((target / "machine.json").read_text(), "machine.json")
    assert said.gpus[0].compute_capability == captured.gpus[0].compute_capability
    again = subprocess.run(argv, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert again.returncode == 2
    assert "is not empty" in again.stderr
