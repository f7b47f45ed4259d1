"""Faults injected into `auto`: each ends with the old torch working or put back, shown by importing it."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.support import RunResult, run
from tests.support import faults
from tests.support.faults import Answer, Fault
from tests.support.index_server import IndexServer
from tests.support.index_tree import IndexTree
from tests.support.installing import Place, an_environment, here, uv_path
from tests.support.planning import linux
from tests.support.systems import LINUX_X86
from tests.support.wheelhouse import TinyWheel, torch_wheel, wheel, write_wheels
from torchinstall.core.machine import machine_to_json
from torchinstall.install.environment import STATE

pytestmark = [pytest.mark.e2e, pytest.mark.only_on(LINUX_X86, "the wheels that it installs are built for it")]

PYTHON = f"cp3{sys.version_info[1]}"
TAG = f"{PYTHON}-{PYTHON}-manylinux_2_17_x86_64"
BIG = {"torch/lib/libtorch_cpu.so": "x" * 400_000}
OLD = "2.8.0+cpu"
NEW = "2.9.1+cpu"
ROOT = Path(__file__).parents[2]


def a_torch(version: str) -> TinyWheel:
    return torch_wheel(version, TAG, requires=("filelock",), files=BIG)


def a_vision(version: str, torch: str) -> TinyWheel:
    return wheel("torchvision", version, TAG, requires=(f"torch=={torch}",))


WHEEL = f"/whl/cpu/{a_torch(NEW).filename}"


@pytest.fixture
def server() -> Iterator[IndexServer]:
    rows = [a_torch(OLD), a_vision("0.23.0+cpu", "2.8.0"), a_torch(NEW), a_vision("0.24.1+cpu", "2.9.1")]
    default = IndexTree({"": [wheel("filelock", "3.20.0"), wheel("six", "1.17.0")]}, kind="pypi")
    with IndexServer(IndexTree({"cpu": rows}), default=default) as running:
        yield running


@pytest.fixture
def place(tmp_path: Path, server: IndexServer) -> Place:
    """An environment with torch 2.8.0 and its torchvision, installed by `auto` itself."""
    env = an_environment(tmp_path, server, UV_HTTP_TIMEOUT="3", TORCHINSTALL_INDEX_BASE=server.index_base)
    made = here(tmp_path / ".venv", env)
    (tmp_path / "machine.json").write_text(json.dumps(machine_to_json(linux())), encoding="utf-8")
    said = auto(made, "torch==2.8.0", "torchvision")
    assert said.code == 0, said.err
    assert works(made) == OLD
    return made


def auto(place: Place, *requirements: str) -> RunResult:
    return run(place.folder.parent, *ARGV, *requirements, env=place.env)


ARGV = ("auto", "--machine", "machine.json", "--backend", "cpu", "--no-verify")


def upgrade(place: Place) -> RunResult:
    return auto(place, "torch==2.9.1", "torchvision")


def works(place: Place) -> str:
    """The version of a torch that imports and multiplies, beside a torchvision that imports."""
    return place.imports(
        "import torch, torchvision; a = torch.eye(2); assert (a @ a).tolist() == a.tolist(); "
        "print(torch.__version__)"
    )


def kept(place: Place) -> list[Path]:
    return list(place.folder.glob(STATE + "*"))


def misbehaving(place: Place, body: str) -> None:
    """A uv that does `body` in place of (or before) the real installation; all else is the real uv."""
    uv = shlex.quote(uv_path())
    script = place.folder.parent / "uv-with-a-fault"
    body = body.format(uv=uv, python=shlex.quote(place.python), venv=shlex.quote(str(place.folder)))
    script.write_text(
        f'#!/bin/sh\ncase " $* " in *" --dry-run "*) ;; *" pip install "*)\n{body}\n;; esac\nexec {uv} "$@"\n'
    )
    script.chmod(0o755)
    place.env["TORCHINSTALL_UV"] = str(script)


TAKEN_AWAY = "{uv} pip uninstall -q --python {python} torch torchvision"
HALF_TAKEN_AWAY = (
    "rm -r {venv}/lib/python3*/site-packages/torch/lib {venv}/lib/python3*/site-packages/torch/version.py"
)


def truncated(right: Answer) -> Answer:
    """A wheel that ends in its middle with an honest length."""
    return Answer(headers={"Content-Type": "binary/octet-stream"}, body=right.body[: len(right.body) // 2])


def other_bytes(_right: Answer) -> Answer:
    """A sound wheel, but another one than the page promised."""
    other = torch_wheel(NEW, TAG, files={"torch/extra.py": "x = 1\n"})
    return Answer(headers={"Content-Type": "binary/octet-stream"}, body=other.content())


@pytest.mark.parametrize(
    ("fault", "slug"),
    [
        (faults.cut_in_half(), "download-cut"),
        (truncated, "download-cut"),
        (other_bytes, "hash-mismatch"),
        (faults.drop(), "index-unreachable"),
        (faults.never(), "network-timeout"),
    ],
    ids=["network cut", "half a wheel", "another wheel", "connection dropped", "no answer"],
)
def test_a_download_that_fails_changes_nothing(
    place: Place, server: IndexServer, fault: Fault, slug: str
) -> None:
    server.fault(WHEEL, fault)
    before = place.versions()

    said = upgrade(place)

    assert said.code == 1, said.err
    assert f"error[{slug}]" in said.err
    assert "the environment is as it was before" in said.err
    assert place.versions() == before
    assert works(place) == OLD
    assert not kept(place)

    server.fault(WHEEL, None)
    assert upgrade(place).code == 0
    assert works(place) == NEW


@pytest.mark.parametrize(
    ("body", "slug"),
    [
        (TAKEN_AWAY + "; kill -9 $$", "uv-killed"),
        (HALF_TAKEN_AWAY + "; kill -9 $$", "uv-killed"),
        (TAKEN_AWAY + "; echo 'error: used by another process (os error 32)' >&2; exit 2", "file-in-use"),
        ('{uv} "$@" -q; rm -r {venv}/lib/python3*/site-packages/torchvision; kill -9 $$', "uv-killed"),
    ],
    ids=["killed after taking away", "killed while taking away", "a file in use", "killed while putting in"],
)
def test_what_uv_left_half_done_is_put_back(place: Place, body: str, slug: str) -> None:
    before = place.versions()
    misbehaving(place, body)

    said = upgrade(place)

    assert said.code == 1, said.err
    assert f"error[{slug}]" in said.err
    assert "the environment was put back as it was" in said.err
    assert place.versions() == before
    assert works(place) == OLD
    assert not kept(place)


def test_a_disk_that_fills_up_while_files_are_put_in(place: Place, tmp_path: Path) -> None:
    """The wheel is in the cache already; copying it into the environment meets the limit."""
    write_wheels(tmp_path / "house", [a_torch(NEW), a_vision("0.24.1+cpu", "2.9.1")])
    wanted = ("--find-links", "house", "torch==2.9.1", "torchvision")
    elsewhere = here(tmp_path / "other", place.env)
    fetched = run(tmp_path, *ARGV, "--venv", "other", *wanted, env=place.env)
    assert fetched.code == 0, fetched.err
    assert works(elsewhere) == NEW
    misbehaving(place, 'trap "" XFSZ; ulimit -f 100')
    before = place.versions()

    said = auto(place, *wanted)

    assert said.code == 1, said.err
    assert "error[disk-full]" in said.err
    assert "the environment was put back as it was" in said.err
    assert place.versions() == before
    assert works(place) == OLD


def test_an_environment_that_is_removed_under_us(place: Place) -> None:
    """There is nothing to put back into; the command that is printed recreates it."""
    misbehaving(place, "rm -rf {venv}")
    said = upgrade(place)
    assert said.code == 1, said.err
    assert "the environment is gone" in said.err
    (line,) = [line for line in said.err.splitlines() if line.startswith("hint: the environment is gone")]
    command = line.partition(": the environment is gone: its folder was removed during the install: ")[2]
    del place.env["TORCHINSTALL_UV"]

    for words in command.split(" && "):
        argv = shlex.split(words)
        program = [uv_path()] if argv[0] == "uv" else [sys.executable, "-m", "torchinstall"]
        more = ["--machine", "machine.json", "--backend", "cpu", "--no-verify", "torch==2.8.0", "torchvision"]
        done = subprocess.run(
            [*program, *argv[1:], *(more if argv[0] == "torchinstall" else [])],
            env={**place.env, "PYTHONPATH": str(ROOT)},
            cwd=place.folder.parent,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert works(place) == OLD


def test_another_process_that_installs_at_the_same_time(place: Place) -> None:
    """What the other one installed stays; what we half did is undone."""
    misbehaving(
        place,
        "{uv} pip install -q --python {python} six & " + TAKEN_AWAY + "; wait; kill -9 $$",
    )

    said = upgrade(place)

    assert said.code == 1, said.err
    assert "put back" in said.err
    assert place.imports("import six; print(six.__version__)") == "1.17.0"
    assert works(place) == OLD


def begun(place: Place) -> subprocess.Popen[str]:
    """An `auto` in a process of its own that has taken the old files away and now hangs."""
    marker = place.folder.parent / "begun"
    misbehaving(place, f"{TAKEN_AWAY}; touch {shlex.quote(str(marker))}; exec sleep 60")
    process = subprocess.Popen(
        [sys.executable, "-m", "torchinstall", *ARGV, "torch==2.9.1", "torchvision"],
        env={**place.env, "PYTHONPATH": str(ROOT)},
        cwd=place.folder.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not marker.exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return process


@pytest.mark.parametrize(
    ("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "terminated"]
)
def test_being_stopped_in_the_middle(place: Place, number: signal.Signals, exit_code: int) -> None:
    process = begun(place)
    os.killpg(process.pid, number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == exit_code, err
    assert "put back" in err
    assert works(place) == OLD
    assert not kept(place)


def test_being_killed_in_the_middle_is_fixed_by_the_doctor(place: Place) -> None:
    """Nobody is left to put things back: the files that were kept wait for the doctor."""
    process = begun(place)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    del place.env["TORCHINSTALL_UV"]
    assert len(kept(place)) == 1
    look = ("doctor", "--machine", "machine.json", "--json")

    found = run(place.folder.parent, *look, env=place.env)
    assert found.code == 7
    assert found.json["findings"][0]["slug"] == "interrupted-install"

    fixed = run(place.folder.parent, *look, "--fix", env=place.env)
    assert fixed.code == 0, fixed.err
    assert fixed.json["status"] == "healthy"
    assert works(place) == OLD
    assert not kept(place)
