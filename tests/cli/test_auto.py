"""`auto` from the arguments to the environment: the real uv, a loopback index, real environments."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import torchinstall
from tests.cli.support import RunResult, run
from tests.support import faults
from tests.support.index_server import IndexServer
from tests.support.index_tree import IndexTree
from tests.support.installing import Place, an_environment, here
from tests.support.planning import linux, nvidia
from tests.support.systems import LINUX_X86
from tests.support.wheelhouse import TinyWheel, torch_wheel, wheel, write_wheels
from torchinstall.core.machine import Machine, machine_to_json

pytestmark = [pytest.mark.e2e, pytest.mark.only_on(LINUX_X86, "the wheels that it installs are built for it")]

PYTHON = f"cp3{sys.version_info[1]}"
TAG = f"{PYTHON}-{PYTHON}-manylinux_2_17_x86_64"
RTX_4090 = linux(nvidia("NVIDIA GeForce RTX 4090", "8.9"), driver="550.54.14")
GTX_1080_TI = linux(nvidia("NVIDIA GeForce GTX 1080 Ti", "6.1"), driver="580.95.05")
NO_GPU = linux()


def a_torch(version: str) -> TinyWheel:
    return torch_wheel(version, TAG, requires=("filelock",))


@pytest.fixture
def server() -> Iterator[IndexServer]:
    """Torch 2.9.1 on five backends, with a stale `filelock` that must not be taken."""
    tree = IndexTree(
        {
            backend: [
                a_torch(f"2.9.1+{backend}"),
                wheel("torchvision", f"0.24.1+{backend}", TAG, requires=("torch==2.9.1",)),
                wheel("filelock", "0.0.1"),
            ]
            for backend in ("cpu", "cu126", "cu128", "cu130", "rocm6.4")
        }
    )
    default = IndexTree({"": [wheel("filelock", "3.20.0"), a_torch("2.9.1")]}, kind="pypi")
    with IndexServer(tree, default=default) as running:
        yield running


@pytest.fixture
def place(tmp_path: Path, server: IndexServer) -> Place:
    return here(tmp_path / ".venv", an_environment(tmp_path, server))


def auto(place: Place, *argv: str, machine: Machine = NO_GPU) -> RunResult:
    """Run `auto` in the folder of the environment, for a machine that was described."""
    folder = place.folder.parent
    file = folder / "machine.json"
    file.write_text(json.dumps(machine_to_json(machine)), encoding="utf-8")
    return run(folder, "auto", "--machine", str(file), *argv, env=place.env)


def at(server: IndexServer) -> str:
    return f"--index-base={server.index_base}"


def test_the_build_for_the_gpu_and_nothing_else_is_asked_for(place: Place, server: IndexServer) -> None:
    said = auto(place, "torch", at(server), "--no-verify", "--json", machine=RTX_4090)

    assert said.code == 0, said.err
    assert said.json["status"] == "installed"
    assert place.versions() == {"torch": "2.9.1+cu126", "filelock": "3.20.0"}
    asked = {path.split("/")[2] for path in server.paths() if path.startswith("/whl/")}
    assert not asked & {"cu130", "rocm6.4", "cpu"}, "backends that this machine cannot run"
    assert not [path for path in server.paths() if path.startswith("/whl/") and "/filelock" in path]


def test_a_second_run_changes_nothing_and_says_so(place: Place, server: IndexServer) -> None:
    first = auto(place, "torch", at(server))
    assert first.code == 0, first.err
    assert "installed: torch 2.9.1+cpu" in first.out
    assert "verified:" in first.out
    before = len(server.log)

    again = auto(place, "torch", at(server), "--json")

    assert again.code == 0, again.err
    assert again.json["status"] == "satisfied"
    assert again.json["plan"]["status"] == "satisfied"
    assert again.json["verify"]["ok"] is True
    assert again.json["error"] is None
    assert len(server.log) == before, "nothing had to be asked"


def test_satisfied_torch_does_not_hide_another_package(place: Place, server: IndexServer) -> None:
    assert auto(place, "torch", at(server), "--no-verify").code == 0
    server.default.add("", wheel("einops", "0.8"))
    said = auto(place, "torch", "einops", at(server), "--no-verify")
    assert said.code == 0, said.err
    assert place.versions()["einops"] == "0.8"


def test_old_gpu_gets_the_backend_that_has_code_for_it(place: Place, server: IndexServer) -> None:
    said = auto(place, "torch==2.9.1", at(server), "--no-verify", machine=GTX_1080_TI)
    assert said.code == 0, said.err
    assert place.versions()["torch"] == "2.9.1+cu126"


def test_dry_run_changes_nothing(place: Place, server: IndexServer) -> None:
    said = auto(place, "torch", at(server), "--dry-run")
    assert said.code == 0, said.err
    assert "would install: torch 2.9.1+cpu" in said.out
    assert place.versions() == {}


def test_a_dry_run_says_of_a_missing_environment_what_the_run_says(place: Place, server: IndexServer) -> None:
    words = ("torch", at(server), "--venv", "new", "-p", sys.executable, "--no-verify")
    dry = auto(place, *words, "--dry-run")
    assert dry.code == 0, dry.err
    assert not (place.folder.parent / "new").exists()
    said = auto(place, *words)
    assert said.code == 0, said.err
    told = [re.sub(r"\([^()]* free\)", "", row.err) for row in (dry, said)]  # others use the disk too
    sizes = [re.findall(r"downloads: (.*) in .*/new", text) for text in told]
    assert sizes[0] == sizes[1] != []
    assert dry.out.replace("would install", "installed") == said.out


def test_missing_environment_is_made(place: Place, server: IndexServer) -> None:
    said = auto(place, "torch", at(server), "--venv", "new", "-p", sys.executable, "--no-verify")
    assert said.code == 0, said.err
    new = place.folder.parent / "new"
    assert (new / "pyvenv.cfg").is_file()
    assert (new / "share" / "torchinstall" / "decision.json").is_file()


def test_environment_made_in_vain_is_removed(place: Place, server: IndexServer) -> None:
    said = auto(place, "torch", "no-such-thing", at(server), "--venv", "new", "-p", sys.executable)
    assert said.code == 1
    assert not (place.folder.parent / "new").exists()


def test_arguments_after_two_dashes_reach_uv(place: Place, server: IndexServer) -> None:
    said = auto(place, "torch", at(server), "--no-verify", "--", "--no-deps")
    assert said.code == 0, said.err
    assert place.versions() == {"torch": "2.9.1+cpu"}


def test_arguments_that_would_undo_the_plan_are_refused(place: Place, server: IndexServer) -> None:
    said = auto(place, "torch", at(server), "--", "--torch-backend=cu118")
    assert said.code == 2
    assert "error[bad-uv-argument]" in said.err


def closed_port() -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listener.getsockname()[1]}/whl"


def test_no_index_is_exit_8_soon_with_three_ways_on(place: Place) -> None:
    base = closed_port()
    begin = time.monotonic()
    said = auto(place, "torch", "--index-base", base, "--no-fallback", "--json")
    assert time.monotonic() - begin < 20
    assert said.code == 8
    assert said.json["error"]["exit_code"] == 8
    assert base in said.err
    for way in ("--find-links", "--index-base", "omit --no-fallback"):
        assert way in said.err
    assert place.versions() == {}


def test_folder_that_serves_everything_needs_no_index(place: Place, tmp_path: Path) -> None:
    write_wheels(tmp_path / "wheels", [a_torch("2.9.1+cpu")])
    said = auto(place, "torch==2.9.1", "-f", "wheels", "--index-base", closed_port(), "--no-verify")
    assert said.code == 0, said.err
    assert place.versions()["torch"] == "2.9.1+cpu"


def test_folder_stands_in_for_an_index_that_is_down(place: Place, tmp_path: Path) -> None:
    """The tables know a newer torch on the index; the index is down, and the folder has an older one."""
    write_wheels(tmp_path / "wheels", [a_torch("2.9.1+cpu")])
    said = auto(place, "torch", "-f", "wheels", "--index-base", closed_port(), "--no-verify")
    assert said.code == 0, said.err
    assert place.versions()["torch"] == "2.9.1+cpu"
    assert "warning[index-unreachable]" in said.err


def test_plan_serves_the_tables_when_the_index_is_down(place: Place) -> None:
    said = run(place.folder.parent, "plan", "torch", "--index-base", closed_port(), "--json", env=place.env)
    assert said.code == 0
    assert "index-unreachable" in {row["slug"] for row in said.json["warnings"]}


def test_offline_asks_nothing(place: Place, server: IndexServer) -> None:
    said = run(place.folder.parent, "plan", "torch", at(server), "--offline", "--json", env=place.env)
    assert said.code == 0, said.err
    assert server.log == []


@pytest.mark.parametrize(
    "fault",
    [
        faults.unavailable(99, status=403),
        faults.unavailable(99, status=404),
        faults.unavailable(99, status=500),
        faults.garbage(),
        faults.drop(),
    ],
    ids=["403", "404", "500", "garbage", "drop"],
)
def test_index_that_misbehaves(place: Place, server: IndexServer, fault: faults.Fault) -> None:
    server.fault("*", fault)
    begin = time.monotonic()
    said = auto(place, "torch", at(server), "--json")
    assert time.monotonic() - begin < 20
    assert said.code == 8, said.err
    assert said.json["error"]["slug"].startswith("index-")
    assert said.err.count("error[") == 1
    assert place.versions() == {}


def test_index_that_never_answers(place: Place, server: IndexServer) -> None:
    server.fault("*", faults.never(30))
    begin = time.monotonic()
    said = auto(place, "torch", at(server))
    assert time.monotonic() - begin < 20
    assert said.code == 8, said.err


@pytest.mark.follow_hints
@pytest.mark.parametrize(
    ("argv", "code", "slug"),
    [
        (("torch", "--backend", "cu9999x"), 2, "unknown-backend"),
        (("torch=>2",), 2, "bad-requirement"),
        (("torch", "-r", "missing.txt"), 2, "bad-requirements-file"),
        (("torch", "--target-gpu", "NVIDIA H1000"), 2, "unknown-gpu"),
        (("torch", "--target-driver", "new"), 2, "bad-value"),
        (("torch", "--index-base", "example.org"), 2, "bad-index-base"),
        (("torch", "-f", "missing"), 2, "find-links-not-a-folder"),
        (("torch", "--python", "missing/python"), 6, "python-not-found"),
        (("torch", "--python", "3.99"), 6, "python-not-found"),
        (("torch", "--venv", "full"), 6, "not-an-environment"),
        (("torch==0.0.1",), 3, None),
    ],
)
def test_bad_input(
    place: Place, server: IndexServer, argv: tuple[str, ...], code: int, slug: str | None
) -> None:
    full = place.folder.parent / "full"
    full.mkdir()
    (full / "file").touch()
    base = () if "--index-base" in argv else (at(server),)
    said = auto(place, *base, *argv, "--json")
    assert said.code == code, said.err
    assert said.err.count("error[") == 1
    if slug is not None:
        assert f"error[{slug}]:" in said.err
        assert said.json["error"]["slug"] == slug
    assert said.json["error"]["exit_code"] == code
    assert place.versions() == {}


@pytest.mark.parametrize(
    ("text", "slug"),
    [
        ("", "bad-machine-file"),
        ("not json", "bad-machine-file"),
        ("[]", "bad-machine-file"),
        ('{"schema_version": 99}', "machine-file-too-new"),
        ('{"schema_version": 1, "os": "beos", "arch": "x86_64"}', "bad-machine-file"),
        ('{"schema_version": 1, "os": "windows", "arch": "x86_64"}', "machine-elsewhere"),
    ],
)
def test_machine_file_that_is_not_right(place: Place, text: str, slug: str) -> None:
    said = run(place.folder.parent, "auto", "--machine", "-", env=place.env, stdin=text)
    assert said.code == 2
    assert f"error[{slug}]:" in said.err


def test_uv_that_is_missing(place: Place) -> None:
    said = run(place.folder.parent, "auto", "torch", env={**place.env, "TORCHINSTALL_UV": "no-such-uv"})
    assert said.code == 5
    assert "error[uv-not-found]:" in said.err


def test_uv_that_is_ancient(place: Place, tmp_path: Path) -> None:
    old = tmp_path / "uv"
    old.write_text("#!/bin/sh\necho uv 0.1.0\n")
    old.chmod(0o755)
    said = run(place.folder.parent, "auto", "torch", env={**place.env, "TORCHINSTALL_UV": str(old)})
    assert said.code == 5
    assert "error[uv-too-old]:" in said.err


def test_package_that_no_index_has(place: Place, server: IndexServer) -> None:
    said = auto(place, "torch", "no-such-package-at-all", at(server))
    assert said.code == 1
    assert "error[package-not-found]:" in said.err
    assert said.err.index("No solution") < said.err.index("error[package-not-found]"), "uv's words come first"
    assert place.versions() == {}


def test_install_that_does_not_compute_is_exit_7(place: Place, server: IndexServer) -> None:
    server.tree.remove(a_torch("2.9.1+cpu").filename)
    broken = torch_wheel("2.9.1+cpu", TAG, files={"torch/__init__.py": "raise ImportError('libfoo.so.1')\n"})
    server.tree.add("cpu", broken)
    said = auto(place, "torch", at(server), "--json")
    assert said.code == 7, said.err
    assert said.json["error"]["slug"] == "import-failed"
    assert said.json["verify"]["ok"] is False
    assert said.json["plan"]["backend"] == "cpu"


def test_a_mirror_that_has_less_than_the_tables_say(place: Place, server: IndexServer) -> None:
    """The tables know newer builds on backends that this mirror does not have; what it has is taken."""
    for backend in ("cu126", "cu130"):
        server.tree.remove(a_torch(f"2.9.1+{backend}").filename)
    said = auto(place, "torch", at(server), "--no-verify", machine=RTX_4090)
    assert said.code == 0, said.err
    assert place.versions()["torch"] == "2.9.1+cu128"


def test_quiet_says_nothing_but_the_outcome(place: Place, server: IndexServer) -> None:
    said = auto(place, "torch", at(server), "--no-verify", "-qq")
    assert said.code == 0
    assert said.err == ""
    assert said.out.startswith("installed: torch 2.9.1+cpu")


def interrupted(place: Place, server: IndexServer, path: str) -> tuple[int, str]:
    """Run `auto` as a process of its own, and press Ctrl-C while the index keeps `path` to itself."""
    server.fault(path, faults.never(30))
    process = subprocess.Popen(
        [sys.executable, "-m", "torchinstall", "auto", "torch", at(server), "--venv", str(place.folder)],
        env={**place.env, "PYTHONPATH": str(Path(torchinstall.__file__).parents[1])},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        cwd=place.folder.parent,
        start_new_session=True,
        text=True,
    )
    deadline = time.monotonic() + 20
    while path not in server.paths() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert path in server.paths(), server.paths()
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=15)
    return process.returncode, said


@pytest.mark.parametrize("path", ["/whl/cpu/torch/", "/simple/filelock/"], ids=["our-reading", "uv"])
def test_ctrl_c_is_130_and_leaves_no_trace(place: Place, server: IndexServer, path: str) -> None:
    code, said = interrupted(place, server, path)
    assert code == 130, said
    assert "error[interrupted]" in said
    assert "Traceback" not in said
    assert place.versions() == {}
