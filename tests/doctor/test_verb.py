"""`torchinstall doctor` from the arguments to its report: real environments, tiny wheels, the real uv."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.cli.support import RunResult, run
from tests.support.index_server import IndexServer
from tests.support.index_tree import IndexTree
from tests.support.installing import Place, an_environment, here, uv_path
from tests.support.planning import linux, nvidia
from tests.support.systems import LINUX_X86
from tests.support.wheelhouse import TinyWheel, torch_wheel, wheel, write_wheels
from torchinstall.cli.doctor import piped
from torchinstall.core.machine import Machine, machine_to_json
from torchinstall.doctor.collect import surroundings
from torchinstall.install.interpreter import take_inventory
from torchinstall.probe.real import real_system
from torchinstall.probe.system import System

ROOT = Path(__file__).parents[2]
PYTHON = f"cp3{sys.version_info[1]}"
TAG = f"{PYTHON}-{PYTHON}-manylinux_2_17_x86_64"
ADA = linux(nvidia("NVIDIA GeForce RTX 4090", "8.9"), driver="580.95.05")
TOO_OLD = "RuntimeError: The NVIDIA driver on your system is too old (found version 12080)."


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = here(tmp_path / ".venv", an_environment(tmp_path))
    put(
        made,
        torch_wheel("2.9.1+cpu", TAG),
        wheel("torchvision", "0.24.1+cpu", TAG, requires=("torch==2.9.1",)),
    )
    return made


def put(place: Place, *wheels: TinyWheel) -> None:
    house = place.folder.parent / "house"
    write_wheels(house, wheels)
    pins = [f"{item.normalised}=={item.version}" for item in wheels]
    where = ["--python", place.python, "--no-index", "--no-deps", "--find-links", str(house)]
    subprocess.run([place.uv, "pip", "install", "-q", *where, *pins], env=place.env, check=True)


def doctor(place: Place, *argv: str, machine: Machine | None = None) -> RunResult:
    folder = place.folder.parent
    described = () if machine is None else ("--machine", "machine.json")
    if machine is not None:
        (folder / "machine.json").write_text(json.dumps(machine_to_json(machine)), encoding="utf-8")
    return run(folder, "doctor", *described, *argv, env=place.env)


@pytest.mark.e2e
@pytest.mark.only_on(LINUX_X86, "the wheels that it installs are built for it")
def test_a_healthy_environment(place: Place) -> None:
    said = doctor(place, machine=linux())
    assert said.code == 0, said.err
    assert said.out.startswith("torch 2.9.1+cpu: right for this machine, computes on the CPU\n")
    assert said.err.startswith(
        "examining this machine and its environment\nchecking that torch 2.9.1+cpu computes"
    )
    assert "recommended" not in said.out
    assert "computes     yes" in said.out
    assert "no problems found" in said.out
    assert "error" not in said.err


@pytest.mark.e2e
@pytest.mark.only_on(LINUX_X86, "the wheels that it installs are built for it")
def test_what_is_no_damage(place: Place) -> None:
    """Conda puts its own name over that of the installer, and an image that must be small has no tests."""
    put(place, wheel("networkx", "3.5", files={"networkx/tests/test_a.py": "", "networkx/a.py": ""}))
    put(
        place, torch_wheel("2.8.0+cpu", TAG, requires=("networkx",)), wheel("torchvision", "0.23.0a0+1b2c3d4")
    )
    (site,) = place.folder.glob("lib/python3*/site-packages")
    shutil.rmtree(site / "networkx/tests")
    for info in site.glob("torch*.dist-info"):
        (info / "INSTALLER").write_text("conda")
    said = doctor(place, "--no-verify", machine=linux())
    assert said.code == 0, said.out

    (site / "networkx/a.py").unlink()
    wiped = site / "networkx-3.5.dist-info/METADATA"
    wiped.write_bytes(b"\0" * wiped.stat().st_size)
    found = doctor(place, "--no-verify", machine=linux()).out
    assert "missing: networkx/a.py\n" in found
    assert "different size: networkx-3.5.dist-info/METADATA\n" in found


@pytest.mark.e2e
@pytest.mark.only_on(LINUX_X86, "the wheels that it installs are built for it")
def test_numpy_of_the_path_is_no_fault_where_none_is_installed(place: Place) -> None:
    folder = place.folder.parent / "modules/numpy"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    place.env["PYTHONPATH"] = str(folder.parent)
    assert doctor(place, "--no-verify", machine=linux()).code == 0
    put(place, wheel("numpy", "2.3.0"))
    assert "error[shadowed-package]: PYTHONPATH" in doctor(place, "--no-verify", machine=linux()).out


@pytest.mark.e2e
@pytest.mark.only_on(LINUX_X86, "the wheels that it installs are built for it")
def test_a_fault_is_exit_7_in_text_and_json(place: Place) -> None:
    text = doctor(place, "--no-verify", machine=ADA)
    assert text.code == 7
    assert text.out.startswith("torch 2.9.1+cpu: wrong for this machine\n")
    assert "recommended  torch 2.9.1+cu130" in text.out
    assert "error[cpu-build-on-gpu-machine]: this is a CPU build" in text.out
    assert "type: torchinstall auto --machine machine.json torch==2.9.1 torchvision" in text.out
    assert "error[faults-found]: the doctor found 1 fault: cpu-build-on-gpu-machine" in text.err

    data = doctor(place, "--no-verify", "--json", machine=ADA).json
    assert data["status"] == "faults"
    assert data["error"]["exit_code"] == 7
    assert data["choice"]["backend"] == "cu130"
    assert data["verify"] is None
    (finding,) = data["findings"]
    assert finding["slug"] == "cpu-build-on-gpu-machine"
    assert finding["severity"] == "error"
    assert finding["fixable"] is True
    assert finding["commands"] == [data["error"]["hint"]]


@pytest.mark.e2e
@pytest.mark.only_on(LINUX_X86, "the wheels that it installs are built for it")
def test_json_of_a_healthy_environment_is_one_envelope(place: Place) -> None:
    data = doctor(place, "--json", machine=linux()).json
    assert data["status"] == "healthy"
    assert data["error"] is None
    assert data["findings"] == []
    assert data["verify"]["ok"] is True
    torch = {"name": "torch", "version": "2.9.1+cpu", "backend": "cpu", "variant": None}
    assert data["installed"][0] == torch
    assert data["target"]["prefix"] == str(place.folder)


@pytest.mark.e2e
@pytest.mark.only_on(LINUX_X86, "the wheels that it installs are built for it")
def test_nothing_is_changed_without_fix(place: Place) -> None:
    (site,) = place.folder.glob("lib/python3*/site-packages")
    (site / "~orch").mkdir()
    assert doctor(place, "--no-verify", machine=linux()).code == 0
    assert (site / "~orch").is_dir()

    said = doctor(place, "--no-verify", "--fix", machine=linux())
    assert said.code == 0
    assert f"> rm -r '{site}/~orch'" in said.err
    assert not (site / "~orch").exists()
    assert "no problems found" in said.out

    again = doctor(place, "--no-verify", "--fix", machine=linux())
    assert "there is nothing that --fix can safely do" in again.err


@pytest.mark.e2e
@pytest.mark.only_on(LINUX_X86, "the wheels that it installs are built for it")
def test_fix_says_what_did_not_go_well(place: Place) -> None:
    """The index cannot be reached: the fault stays, and so does exit 7."""
    place.env["PYTHONPATH"] = str(ROOT)
    base = "--index-base=http://127.0.0.1:9/whl"
    said = doctor(place, "--no-verify", "--fix", base, machine=ADA)
    assert said.code == 7
    assert "warning[fix-failed]" in said.err
    assert base.partition("=")[2] in said.err


def test_no_environment(tmp_path: Path) -> None:
    said = run(tmp_path, "doctor", "--venv", "missing/../file", env={"PATH": "/usr/bin:/bin"})
    assert said.code == 6


def test_explain_a_text(tmp_path: Path) -> None:
    said = run(tmp_path, "doctor", "--explain", TOO_OLD)
    assert said.code == 0
    assert "the NVIDIA driver supports CUDA 12.8" in said.out.replace("\n  ", " ")
    assert "type: torchinstall auto" in said.out
    assert "pytorch/pytorch#162531" in said.out


def test_explain_as_json(tmp_path: Path) -> None:
    data = run(tmp_path, "doctor", "--explain", "-", "--json", stdin=TOO_OLD).json
    assert data["status"] == "explained"
    (match,) = data["matches"]
    assert match["slug"] == "driver-too-old"
    assert match["values"]["driver_cuda"] == "12.8"
    assert match["commands"] == ["torchinstall auto"]


@pytest.mark.parametrize("text", ["KeyError: 'price'", ""])
def test_a_text_that_nobody_knows(tmp_path: Path, text: str) -> None:
    said = run(tmp_path, "doctor", "--explain", text)
    assert said.code == 2
    assert "error[nothing-recognised]" in said.err
    same = run(tmp_path, "doctor", "--explain", text, "--json")
    assert same.code == 2
    assert (same.json["status"], same.json["matches"]) == ("unknown", [])
    assert same.json["error"]["slug"] == "nothing-recognised"


@pytest.mark.e2e
@pytest.mark.only_on(LINUX_X86, "the wheels that it installs are built for it")
def test_a_crash_shows_what_the_process_said_last(tmp_path: Path) -> None:
    """The import ends the process: the report carries its last lines."""
    made = here(tmp_path / ".venv", an_environment(tmp_path))
    put(made, torch_wheel("2.9.1+cpu", TAG))
    (site,) = made.folder.glob("lib/python3*/site-packages")
    (site / "torch/__init__.py").write_text(
        "import os, sys\nprint('terminate called: bad_alloc', file=sys.stderr, flush=True)\nos.abort()\n"
    )
    said = doctor(made, machine=linux())
    assert said.code == 7
    assert "does not compute" in said.out.partition("\n")[0]
    assert "it said: terminate called: bad_alloc" in said.out


def test_piped_text_is_explained(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "torchinstall", "doctor"],
        input=TOO_OLD,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("driver-too-old")


@pytest.mark.parametrize("kind", ["dev-null", "closed-pipe", "empty-file"])
def test_a_stdin_that_says_nothing_is_no_question(tmp_path: Path, kind: str) -> None:
    if kind == "closed-pipe":
        reader, writer = os.pipe()
        os.close(writer)
        stream = os.fdopen(reader)
    else:
        path = Path(os.devnull) if kind == "dev-null" else tmp_path / "empty"
        path.touch()
        stream = path.open(encoding="utf-8")
    with stream:
        assert piped(stream) is None


def test_a_file_is_a_question(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text(TOO_OLD)
    with path.open(encoding="utf-8") as stream:
        assert piped(stream) == TOO_OLD


@pytest.mark.e2e
@pytest.mark.only_on(LINUX_X86, "the wheels that it installs are built for it")
def test_what_extensions_were_built_for_is_read_from_their_files(place: Place) -> None:
    said = json.dumps({"version": {"torch": "2.8.0+cu128", "cuda": 1208, "python": "3.12.1"}})
    put(
        place,
        wheel("xformers", "0.0.32", files={"xformers/cpp_lib.json": said}),
        wheel(
            "bitsandbytes",
            "0.45.0",
            files={f"bitsandbytes/libbitsandbytes_cuda{n}.so": "" for n in (118, 124)},
        ),
        wheel("flash-attn", "2.8.3+cu12torch2.8cxx11abitrue"),
    )
    found = take_inventory(place.ask(), ["torch"])
    built = {item.name: dict(item.built_for) for item in found.dists if item.built_for}
    assert built == {
        "xformers": {"torch": "2.8.0+cu128", "cuda": "1208"},
        "bitsandbytes": {"cuda": "118,124"},
        "flash-attn": {"torch": "2.8", "cuda": "12"},
    }
    slugs = [
        item["slug"] for item in doctor(place, "--no-verify", "--json", machine=linux()).json["findings"]
    ]
    assert slugs.count("built-for-other-torch") == 2  # a CPU build has no CUDA that bitsandbytes could lack


def test_what_lies_around_is_read(tmp_path: Path) -> None:
    (tmp_path / "torch.py").touch()
    (tmp_path / "lib/torchvision").mkdir(parents=True)
    (tmp_path / "lib/torchvision/__init__.py").touch()
    # The prefix of a system's Python is /usr, and CUDA lies below it, too.
    cuda, own = tmp_path / ".venv/local/cuda/lib64", tmp_path / ".venv/site/nvidia/cudnn/lib"
    for folder, name in ((cuda, "libcublas.so.12"), (own, "libcudnn.so.9")):
        folder.mkdir(parents=True)
        (folder / name).touch()
    (tmp_path / "requirements.txt").write_text("torch\n")
    env = {
        "PATH": "",
        "PYTHONPATH": str(tmp_path / "lib"),
        "LD_LIBRARY_PATH": f"{own}:{cuda}:",
        "SECRET_TOKEN": "x",
    }
    seen = surroundings(
        env=env,
        cwd=tmp_path,
        prefix=str(tmp_path / ".venv"),
        uv="/none",
        names=["torch", "torchvision"],
        sites=[str(tmp_path / ".venv/site")],
    )
    assert seen.shadows == (str(tmp_path / "torch.py"),)
    assert seen.on_path == (str(tmp_path / "lib/torchvision/__init__.py"),)
    assert seen.own_libraries == {"libcudnn.so.9"}
    assert seen.libraries == ((str(cuda), ("libcublas.so.12",)),)
    assert seen.project is not None
    assert seen.project.files == {"requirements.txt": "torch\n"}
    assert "SECRET_TOKEN" not in seen.env


@pytest.fixture
def server() -> Iterator[IndexServer]:
    rows = [torch_wheel("2.9.1", TAG), torch_wheel("2.9.1+cpu", TAG)]
    with IndexServer(default=IndexTree({"": rows}, kind="pypi")) as running:
        yield running


@pytest.mark.e2e
@pytest.mark.only_on(LINUX_X86, "the wheels that it installs are built for it")
def test_a_project_that_would_undo_what_is_installed(tmp_path: Path, server: IndexServer) -> None:
    """The lock asks for the build of the default index; uv itself says what it would do about that."""
    env = an_environment(tmp_path, server)
    place = here(tmp_path / ".venv", env)
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    (tmp_path / "pyproject.toml").write_text(
        f'[project]\nname = "demo"\nversion = "1"\nrequires-python = "=={python}.*"\n'
        'dependencies = ["torch==2.9.1"]\n[tool.uv]\nenvironments = ["sys_platform == \'linux\'"]\n'
        "[tool.uv.pip]\ntorch-backend = 'auto'\n"
    )
    subprocess.run([uv_path(), "sync", "-q", "--python", place.python], env=env, cwd=tmp_path, check=True)
    assert "project-would-undo" not in slugs_of(doctor(place, "--no-verify", "--json", machine=linux()))

    put(place, torch_wheel("2.8.0+cpu", TAG))

    said = doctor(place, "--no-verify", "--json", machine=linux())
    assert {"project-would-undo", "torch-backend-ignored"} <= slugs_of(said)
    (undo,) = [item for item in said.json["findings"] if item["slug"] == "project-would-undo"]
    assert "torch 2.8.0+cpu -> 2.9.1" in undo["message"]
    assert undo["commands"] == ["torchinstall configure"]


def slugs_of(said: RunResult) -> set[str]:
    return {item["slug"] for item in said.json["findings"]}


@pytest.mark.e2e
def test_the_disk_is_that_of_the_environment_that_is_examined(place: Place, tmp_path: Path) -> None:
    """Not that of the active one, which may lie elsewhere."""
    asked: list[Mapping[str, str]] = []

    def system(env: Mapping[str, str]) -> System:
        asked.append(env)
        return real_system(env)

    env = {**place.env, "VIRTUAL_ENV": str(tmp_path / "another")}
    argv = ("doctor", "--venv", str(place.folder), "--no-verify")
    run(tmp_path, *argv, env=env, doors={"system": system})
    assert [env["VIRTUAL_ENV"] for env in asked] == [str(place.folder)]


@pytest.mark.e2e
@pytest.mark.only_on(LINUX_X86, "the wheels that it installs are built for it")
def test_a_judgement_is_the_same_without_a_network(place: Place) -> None:
    put(place, wheel("torchvision", "0.23.0+cpu", TAG, requires=("torch==2.8.0",)))
    said = [doctor(place, "--no-verify", *more, machine=linux()) for more in ((), ("--offline",))]
    assert [one.out.partition("\n")[0] for one in said] == [
        "torch 2.9.1+cpu: right for this machine; torchvision 0.23.0+cpu does not go with it"
    ] * 2


@pytest.mark.e2e
def test_the_gpu_that_was_described_is_shown(tmp_path: Path) -> None:
    place = here(tmp_path / ".venv", an_environment(tmp_path))
    said = doctor(place, "--target-gpu", "RTX 4090", "--target-driver", "550.54.14", machine=linux())
    assert "GPU          GeForce RTX 4090" in said.out
    assert "recommended  torch 2.14.1+cu126" in said.out
