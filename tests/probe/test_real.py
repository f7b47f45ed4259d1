"""The door to this machine: processes that cannot outlive their time, a search path without surprises."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.systems import POSIX
from torchinstall.core.machine import Finding
from torchinstall.probe.detect import collect, probe_machine
from torchinstall.probe.real import library_answer, real_system, run_command
from torchinstall.probe.recording import folder_system
from torchinstall.probe.system import CommandResult, Fact, System

SMI = "0, NVIDIA GeForce RTX 3090, 535.54.03, 24576 MiB, GPU-0, 0x220410DE, 8.6"


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_this_machine_is_answered_quickly() -> None:
    start = time.monotonic()
    machine = probe_machine(real_system({}))
    assert time.monotonic() - start < 3
    assert machine.os in ("linux", "macos", "windows")
    assert machine.memory_bytes
    assert not [finding for finding in machine.findings if finding.slug == "probe-crashed"]


def test_a_probe_of_nothing_starts_no_process(tmp_path: Path) -> None:
    """Only a sign of hardware is worth a child process."""
    code = (
        "import sys; from pathlib import Path\n"
        "from torchinstall.probe.detect import probe_machine\n"
        "from torchinstall.probe.recording import folder_system\n"
        f"probe_machine(folder_system(Path({str(tmp_path)!r})))\n"
        "print(' '.join(m for m in ('subprocess', 'pynvml', 'psutil', 'httpx', 'rich', 'packaging')"
        " if m in sys.modules))"
    )
    (tmp_path / "_recorded.json").write_text('{"platform": "linux", "machine": "x86_64"}')
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    # The standard library's own `platform` brings subprocess along before Python 3.11.
    brought = {"subprocess"} if sys.version_info < (3, 11) else set()
    assert set(done.stdout.split()) <= brought


@pytest.mark.only_on(POSIX, "a shell script stands in for a program")
def test_a_command_in_the_current_folder_is_never_run(tmp_path: Path) -> None:
    """Neither by an empty or relative entry of PATH, nor by an entry that is this folder."""
    trap = script(tmp_path / "nvidia-smi", f"touch {tmp_path}/sprung")
    assert os.access(trap, os.X_OK)
    code = (
        "import os\n"
        "from torchinstall.probe.detect import probe_machine\n"
        "from torchinstall.probe.real import real_system\n"
        "system = real_system(dict(os.environ))\n"
        "print(system.run(('nvidia-smi', '-L'), 5).problem)\n"
        "probe_machine(system)\n"
    )
    path = os.pathsep.join(["", ".", "bin/..", str(tmp_path), f"{tmp_path}/."])
    root = Path(__file__).parents[2]
    env = {"PATH": path, "PYTHONPATH": str(root), "TORCHINSTALL_NVML_LIBRARY": "/nowhere/libnvidia-ml.so.1"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.strip() == "not found"
    assert not (tmp_path / "sprung").exists()


def test_a_module_in_the_current_folder_is_never_imported(tmp_path: Path, fake_nvml: Path) -> None:
    for name in ("pynvml", "json", "ctypes"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')")
    root = Path(__file__).parents[2]
    code = (
        f"import sys; sys.path[:] = [p for p in sys.path if p] + [{str(root)!r}]\n"
        "import os\n"
        "from torchinstall.probe.detect import probe_machine\n"
        "from torchinstall.probe.real import real_system\n"
        "print(len(probe_machine(real_system(dict(os.environ))).gpus))"
    )
    env = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(root),
        "TORCHINSTALL_NVML_LIBRARY": str(fake_nvml),
        "FAKE_NVML_GPUS": "NVIDIA L4;8.9;1000;0",
        "LD_LIBRARY_PATH": "",
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.strip() == "1"
    assert not (tmp_path / "sprung").exists()


@pytest.mark.only_on(POSIX, "a shell script stands in for a program")
def test_a_command_from_the_users_path_is_found(tmp_path: Path) -> None:
    script(tmp_path / "our-tool", "echo said; exit 3")
    result = real_system({"PATH": str(tmp_path)}).run(("our-tool",), 5)
    assert (result.returncode, result.stdout, result.problem) == (3, "said\n", None)


@pytest.mark.only_on(POSIX, "a shell script stands in for a program")
def test_the_smi_rung_with_a_real_process(tmp_path: Path) -> None:
    script(tmp_path / "nvidia-smi", f"echo '{SMI}'; echo '{SMI.replace('0, NV', '1, NV')}'")
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "TORCHINSTALL_NVML_LIBRARY": "/nowhere/lib.so"}
    machine = probe_machine(real_system(env))
    assert [(gpu.index, gpu.compute_capability) for gpu in machine.gpus] == [(0, (8, 6)), (1, (8, 6))]
    assert machine.drivers[0].source == "nvidia-smi"


@pytest.mark.only_on(POSIX, "a shell script stands in for a program")
def test_a_command_that_hangs_is_stopped_and_heard(tmp_path: Path) -> None:
    tool = script(tmp_path / "slow", "echo first; sleep 60")
    start = time.monotonic()
    result = run_command([str(tool)], 0.5, {"PATH": os.environ["PATH"]})
    assert time.monotonic() - start < 2
    assert (result.returncode, result.stdout, result.problem) == (None, "first\n", "timeout")


@pytest.mark.only_on(POSIX, "a shell script stands in for a program")
def test_a_command_that_cannot_start(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x7fELF nonsense")
    broken.chmod(0o755)
    result = run_command([str(broken)], 1, {})
    assert result.returncode is None
    assert result.problem is not None
    assert result.problem.startswith("cannot start")


def test_rows_of_a_child_that_talks_nonsense() -> None:
    text = '{"what": "count"}\nnonsense\n[1]\n{"what": "end"}\n{"cut'
    answer = library_answer(CommandResult(returncode=-6, stdout=text, stderr="a\nlast words"))
    assert [row["what"] for row in answer.rows] == ["count", "end"]
    assert answer.problem == "crash: SIGABRT (last words)"


def test_a_probe_that_hangs_keeps_what_it_said(tmp_path: Path) -> None:
    held = threading.Event()
    news = Finding(probe="amd", status="found", detail="early")

    def stuck(system: System) -> Iterator[Fact]:
        yield news
        held.wait(30)

    def quick(system: System) -> Iterator[Fact]:
        yield Finding(probe="intel", status="absent", detail="nothing")

    start = time.monotonic()
    facts = collect({"amd": stuck, "intel": quick}, folder_system(tmp_path), budget=0.3)
    held.set()
    assert time.monotonic() - start < 2
    assert facts[0] == news
    slugs = [fact.slug for fact in facts if isinstance(fact, Finding)]
    assert slugs == [None, "probe-timeout", None]


def test_a_probe_that_fails_is_a_finding(tmp_path: Path) -> None:
    def failing(system: System) -> Iterator[Fact]:
        yield Finding(probe="amd", status="found", detail="early")
        raise RuntimeError("out of its depth")

    facts = collect({"amd": failing}, folder_system(tmp_path))
    last = facts[-1]
    assert isinstance(last, Finding)
    assert (last.slug, last.probe) == ("probe-crashed", "host")
    assert "out of its depth" in last.detail


@pytest.mark.only_on(POSIX, "device files")
def test_files_that_are_not_files(tmp_path: Path) -> None:
    system = real_system({})
    assert system.read_text(str(tmp_path)) is None
    assert system.read_text("/dev/null") == ""
    assert system.listdir(str(tmp_path / "none")) == ()
    assert system.access(str(tmp_path / "none")) is None
    assert system.group(str(tmp_path / "none")) is None
    assert system.readlink(str(tmp_path)) is None
    assert system.read_text("bad\0path") is None


def test_where_the_loader_would_look(tmp_path: Path) -> None:
    (tmp_path / "libze_loader.so.1").touch()
    assert real_system({}).library("libze_no_such.so.1") is None
    found = real_system({"LD_LIBRARY_PATH": f":relative:{tmp_path}"}).library("libze_loader.so.1")
    assert found == str(tmp_path / "libze_loader.so.1")


def test_disks_are_those_of_the_roles(tmp_path: Path) -> None:
    env = {"UV_CACHE_DIR": str(tmp_path / "not" / "yet"), "VIRTUAL_ENV": str(tmp_path)}
    system = real_system(env)
    cache, target = system.disk("cache"), system.disk("target")
    assert cache is not None
    assert target is not None
    assert cache.device == target.device == tmp_path.stat().st_dev
    assert real_system({}).disk("cache") is None
