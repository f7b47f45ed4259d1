"""What a plan costs, counted: modules imported, processes started, files read, pages asked for."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import torchinstall
from tests.cli.support import RunResult, run
from tests.support.faults import Answer
from tests.support.index_server import IndexServer
from tests.support.index_tree import IndexTree
from tests.support.installing import Place, an_environment, here
from tests.support.planning import linux, nvidia
from tests.support.systems import LINUX_X86
from tests.support.wheelhouse import torch_wheel, wheel
from torchinstall.catalog.tables import DATA
from torchinstall.core.machine import machine_to_json

ROOT = Path(torchinstall.__file__).parents[1]

WATCH = """
import json, sys
seen = {"open": [], "process": [], "socket": []}
def hook(event, args):
    if event == "open" and isinstance(args[0], str):
        seen["open"].append(args[0])
    # Not os.posix_spawn and os.fork: Popen uses the one or the other, by the version of Python.
    elif event in ("subprocess.Popen", "os.exec", "os.system"):
        seen["process"].append([str(part) for part in args[1]] if len(args) > 1 else [event])
    elif event in ("socket.connect", "socket.getaddrinfo"):
        seen["socket"].append(event)
before = set(sys.modules)
sys.addaudithook(hook)
from torchinstall.cli import main
code = main(sys.argv[2:])
with open(sys.argv[1], "w") as file:
    json.dump({**seen, "code": code, "modules": sorted(set(sys.modules) - before)}, file)
"""

HEAVY = frozenset({"asyncio", "httpx", "httpcore", "pynvml", "psutil", "rich", "ssl", "tomlkit"})
"""What a plan from the tables for this machine has no use for; each costs milliseconds."""


def watched(folder: Path, *argv: str, **env: str) -> Any:
    """Run the command line in a process of its own and say what it did."""
    report = folder / "watched.json"
    done = subprocess.run(
        [sys.executable, "-c", WATCH, str(report), *argv],
        env={"HOME": str(folder), "PATH": "", "PYTHONPATH": str(ROOT), **env},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert report.exists(), done.stderr
    found = json.loads(report.read_text("utf-8"))
    assert found["code"] == 0, done.stderr
    return found


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """`plan --offline` into the interpreter that runs it, without any cache."""
    folder = tmp_path_factory.mktemp("plan")
    return watched(folder, "plan", "--offline", "--python", sys.executable)


@pytest.mark.parametrize("argv", ["--version", "--help"])
def test_a_bare_start_imports_nothing_heavy_and_no_verb(tmp_path: Path, argv: str) -> None:
    modules = set(watched(tmp_path, argv)["modules"])
    assert "torchinstall.cli.app" in modules, "the measurement itself must see something"
    assert not (HEAVY | {"packaging", "importlib.metadata"}) & modules
    assert not {name for name in modules if name.startswith(("torchinstall.planner", "torchinstall.probe"))}
    assert not {"torchinstall.cli.auto", "torchinstall.cli.plan", "torchinstall.cli.show"} & modules


def test_a_plan_imports_nothing_heavy(plan: Any) -> None:
    assert "torchinstall.planner.selection" in plan["modules"], "the measurement itself must see something"
    assert not (HEAVY | {"packaging.requirements", "packaging.specifiers"}) & set(plan["modules"])


def test_a_plan_starts_no_process_but_an_unknown_uv(plan: Any) -> None:
    """Uv tells its version where the metadata of its package does not."""
    assert all(argv[-1:] == ["--version"] for argv in plan["process"])
    assert len(plan["process"]) <= 1


def test_a_plan_for_another_interpreter_asks_only_that_one(tmp_path: Path) -> None:
    place = here(tmp_path / ".venv", an_environment(tmp_path))
    found = watched(tmp_path, "plan", "--offline")
    asked = [argv for argv in found["process"] if argv[-1:] != ["--version"]]
    assert [argv[0] for argv in asked] == [str(place.python)]


def test_a_plan_reads_a_table_once_and_those_of_gpus_only_for_gpus(plan: Any) -> None:
    tables = Counter(Path(name).name for name in plan["open"] if Path(name).parent == DATA)
    assert tables["wheels.json"] == 1
    assert {name for name, times in tables.items() if times > 1} <= {"hashes.json"}, "rows of hashes.json"
    assert not [name for name in tables if name.startswith("gpus_")] or _has_gpu()
    assert len(tables) <= 12


def _has_gpu() -> bool:
    return any(Path("/sys/class/drm").glob("card*")) or Path("/proc/driver/nvidia").exists()


def test_a_plan_offline_opens_no_connection(plan: Any) -> None:
    assert plan["socket"] == []


PYTHON = f"cp3{sys.version_info[1]}"
TAG = f"{PYTHON}-{PYTHON}-manylinux_2_17_x86_64"
RTX_4090 = linux(nvidia("NVIDIA GeForce RTX 4090", "8.9"), driver="550.54.14")


@pytest.fixture
def server() -> Iterator[IndexServer]:
    tree = IndexTree(
        {
            backend: [
                torch_wheel(f"2.9.1+{backend}", TAG),
                wheel("torchvision", f"0.24.1+{backend}", TAG, requires=("torch==2.9.1",)),
            ]
            for backend in ("cpu", "cu118", "cu126", "cu128", "cu130", "rocm6.4", "xpu")
        }
    )
    with IndexServer(tree, default=IndexTree(kind="pypi"), dated=True) as running:
        yield running


@pytest.fixture
def place(tmp_path: Path, server: IndexServer) -> Place:
    return here(tmp_path / ".venv", an_environment(tmp_path, server))


def rehearse(place: Place, server: IndexServer, *argv: str) -> RunResult:
    folder = place.folder.parent
    file = folder / "machine.json"
    file.write_text(json.dumps(machine_to_json(RTX_4090)), encoding="utf-8")
    base = f"--index-base={server.index_base}"
    said = run(folder, "auto", "--dry-run", "--machine", str(file), base, *argv, env=place.env)
    assert said.code == 0, said.err
    return said


def asked_by(server: IndexServer, who: str) -> set[tuple[str, str]]:
    """(backend, package or file) of every request that uv, or that we made of the PyTorch index."""
    found = set()
    for path in server.paths():
        for headers in server.sent_headers(path):
            is_uv = headers.get("User-Agent", headers.get("user-agent", "")).startswith("uv/")
            if path.startswith("/whl/") and is_uv == (who == "uv"):
                _, _, backend, name, *_ = path.split("/")
                found.add((backend, name))
    return found


@pytest.mark.e2e
@pytest.mark.only_on(LINUX_X86, "the wheels that it installs are built for it")
def test_cold_only_pages_that_can_matter_are_asked_for(place: Place, server: IndexServer) -> None:
    said = rehearse(place, server, "torch", "torchvision", "--json")
    chosen = said.json["plan"]["backend"]

    asked = asked_by(server, "us")
    pages = {row for row in asked if not row[1].endswith(".whl")}
    assert {name for _, name in pages} == {"torch", "torchvision"}
    assert {backend for backend, _ in asked - pages} == {chosen}, "how large the chosen wheels are"
    assert (chosen, "torch") in pages
    assert not {backend for backend, _ in pages} & {"cpu", "cu130", "rocm6.4", "xpu"}, "cannot run here"
    by_uv = {backend for backend, _ in asked_by(server, "uv")}
    machine = str(place.folder.parent / "machine.json")
    tables = run(place.folder.parent, "plan", "--offline", "--json", "--machine", machine, env=place.env)
    assert chosen in by_uv
    assert by_uv <= {chosen, tables.json["backend"]}, "what the tables come to is asked about already"
    once = Counter(path for path in server.paths() if path.endswith("/"))
    assert max(once.values()) <= 3, (
        "once by us, once by uv, and by one that was asked about the tables' build"
    )


@pytest.mark.e2e
@pytest.mark.only_on(LINUX_X86, "the wheels that it installs are built for it")
def test_warm_we_ask_for_nothing(place: Place, server: IndexServer) -> None:
    rehearse(place, server, "torch", "torchvision")
    server.log.clear()
    rehearse(place, server, "torch", "torchvision")

    assert asked_by(server, "us") == set()
    assert server.paths() == [], "uv keeps what it was given, too"


@pytest.mark.e2e
@pytest.mark.only_on(LINUX_X86, "the wheels that it installs are built for it")
def test_pages_are_asked_for_all_at_once(place: Place, server: IndexServer) -> None:
    rehearse(place, server, "torch", "torchvision")
    # Pages may be asked for in more than one turn; those of the first are asked for together.
    together = min(len(asked_by(server, "us")), 4)
    assert together > 1
    lock, everybody, waiting = threading.Lock(), threading.Event(), []

    def gate(answer: Answer) -> Answer:
        with lock:
            waiting.append(1)
            if len(waiting) == together:
                everybody.set()
        assert everybody.wait(10)
        return answer

    server.fault("*", gate)
    said = rehearse(place, server, "torch", "torchvision", "--refresh", "--json")
    assert everybody.is_set()
    assert said.json["plan"]["catalog"]["live"]
