"""A build that does not compute gives way to the next one, once; hints of images; several machines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.support import RunResult, run
from tests.cli.test_auto import TAG
from tests.support.index_server import IndexServer
from tests.support.index_tree import IndexTree
from tests.support.installing import Place, an_environment, here
from tests.support.planning import linux
from tests.support.wheelhouse import torch_wheel, wheel
from torchinstall.core.machine import machine_to_json
from torchinstall.probe.recording import folder_system

MACHINES = Path(__file__).parents[1] / "machines"
GOLDEN = Path(__file__).parents[1] / "golden" / "machines"


@pytest.fixture
def server() -> Iterator[IndexServer]:
    tree = IndexTree({name: [torch_wheel(f"2.9.1+{name}", TAG)] for name in ("cpu", "cu126", "cu128")})
    with IndexServer(tree, default=IndexTree({"": []}, kind="pypi")) as running:
        yield running


@pytest.fixture
def place(tmp_path: Path, server: IndexServer) -> Place:
    return here(tmp_path / ".venv", an_environment(tmp_path, server))


def auto(place: Place, server: IndexServer, *argv: str, machine: str) -> RunResult:
    """Run `auto` as if this were a recorded machine."""
    base = f"--index-base={server.index_base}"
    doors = {"system": lambda _env: folder_system(MACHINES / machine)}
    return run(place.folder.parent, "auto", "torch==2.9.1", base, *argv, env=place.env, doors=doors)


@pytest.mark.e2e
def test_a_build_that_does_not_see_the_gpu_gives_way_once(place: Place, server: IndexServer) -> None:
    """None of the tiny builds sees a GPU: the first is left for the second, and then it is said."""
    said = auto(place, server, machine="linux-ubuntu2204-rtx4090")
    assert said.code == 7
    assert "warning[did-not-compute]: torch 2.9.1+cu126 does not compute" in said.err
    assert "trying 2.9.1+cu128 instead" in said.err
    assert said.err.count("did-not-compute") == 1
    assert place.versions() == {"torch": "2.9.1+cu128"}


@pytest.mark.e2e
def test_a_library_at_fault_leaves_out_its_whole_backend(tmp_path: Path) -> None:
    """Another release of the backend would bring the same library: the next backend is tried."""
    plain = str(torch_wheel("2.9.1+cu128", TAG).files["torch/__init__.py"])
    aborting = f"""{plain}
class Device(_Absent):
    is_available = staticmethod(lambda: True)
    device_count = staticmethod(lambda: 1)
    get_device_capability = staticmethod(lambda index: (8, 9))
    get_arch_list = staticmethod(lambda: ["sm_86"])
cuda = Device()
def to(self, where="cpu", *_, **__):
    import os
    if where != "cpu":
        os.abort()
    return self
Tensor.to = to
"""
    broken = {"torch/__init__.py": aborting}
    builds = {
        "cpu": [torch_wheel("2.9.1+cpu", TAG)],
        "cu126": [torch_wheel("2.8.0+cu126", TAG)],
        "cu128": [torch_wheel(f"{torch}+cu128", TAG, files=broken) for torch in ("2.9.1", "2.9.0")],
    }
    with IndexServer(IndexTree(builds), default=IndexTree({"": []}, kind="pypi")) as server:
        place = here(tmp_path / ".venv", an_environment(tmp_path, server))
        base = f"--index-base={server.index_base}"
        doors = {"system": lambda _env: folder_system(MACHINES / "linux-ubuntu2204-rtx4090")}
        said = run(place.folder.parent, "auto", "torch", base, env=place.env, doors=doors)
    assert "torch 2.9.1+cu128 does not compute on this machine; trying 2.8.0+cu126 instead" in said.err, (
        said.err
    )


@pytest.mark.e2e
def test_a_companion_that_only_another_package_needs_comes_from_the_same_index(tmp_path: Path) -> None:
    """Left to the default index it would be built for another backend."""
    builds = {
        name: [torch_wheel(f"2.9.1+{name}", TAG), wheel("torchvision", f"0.24.1+{name}", TAG)]
        for name in ("cpu", "cu126")
    }
    default = IndexTree(
        {"": [wheel("detector", "1.0", requires=("torchvision",)), wheel("torchvision", "0.29.2")]},
        kind="pypi",
    )
    with IndexServer(IndexTree(builds), default=default) as server:
        place = here(tmp_path / ".venv", an_environment(tmp_path, server))
        said = auto(place, server, "detector", "--no-verify", machine="linux-ubuntu2204-rtx4090")
        assert said.code == 0, said.err
    assert place.versions() == {"torch": "2.9.1+cu126", "torchvision": "0.24.1+cu126", "detector": "1.0"}
    assert "needed too: torchvision" in said.err


@pytest.mark.e2e
def test_a_backend_that_was_named_is_not_given_up(place: Place, server: IndexServer) -> None:
    said = auto(place, server, "--backend", "cu126", machine="linux-ubuntu2204-rtx4090")
    assert said.code == 7
    assert "did-not-compute" not in said.err
    assert place.versions() == {"torch": "2.9.1+cu126"}


def plan(folder: Path, *argv: str, **env: str) -> RunResult:
    """Run `plan` in a container without a GPU."""
    doors = {"system": lambda _env: folder_system(MACHINES / "docker-ci-no-gpu")}
    return run(folder, "plan", "--offline", "--json", *argv, env=env, doors=doors)


def test_the_image_hints_at_its_machines(tmp_path: Path) -> None:
    hinted = plan(tmp_path, "torch", CUDA_VERSION="12.8.1")
    assert hinted.code == 0, hinted.err
    assert hinted.json["backend"].startswith("cu12")
    slugs = {row["slug"] for row in hinted.json["warnings"]}
    assert {"target-from-image", "capability-unknown"} <= slugs
    plain = plan(tmp_path, "torch")
    assert plain.json["backend"] == "cpu"
    assert "no-gpu-here" in {row["slug"] for row in plain.json["warnings"]}
    named = plan(tmp_path, "torch", "--backend", "cpu", CUDA_VERSION="12.8.1")
    assert named.json["backend"] == "cpu"


def test_several_machines_share_a_build(tmp_path: Path) -> None:
    names = ("linux-gtx1080ti-580", "linux-rtx4090-550", "windows-rtx3060-581")
    files = [item for name in names for item in ("--machine", str(GOLDEN / f"{name}.json"))]
    said = run(tmp_path, "plan", "torch", "--offline", "--python-version", "3.12", "--json", *files)
    assert said.code == 0, said.err
    assert [(group["torch"], group["backend"]) for group in said.json["groups"]] == [("2.14.1", "cu126")]
    text = run(tmp_path, "plan", "torch", "--offline", "--python-version", "3.12", *files)
    assert "One build serves all 3 machines." in text.out
    for name, gpu in ((files[1], "GTX 1080"), (files[3], "RTX 4090"), (files[5], "RTX 3060")):
        assert f"{name}: NVIDIA GeForce {gpu}" in " ".join(text.out.split())
    assert f"warning[toolkit-newer-than-driver]: {files[3]}: cu126" in text.err


def test_a_machine_that_nothing_serves_is_exit_3_and_named(tmp_path: Path) -> None:
    files = [str(GOLDEN / f"{name}.json") for name in ("linux-rtx4090-550", "linux-alpine")]
    argv = ["--machine", files[0], "--machine", files[1], "--python-version", "3.12", "--offline"]
    said = run(tmp_path, "plan", "torch", *argv, "--json")
    assert said.code == 3
    assert said.json["error"]["slug"] == "musl"
    assert said.json["impossible"][0]["name"] == files[1]
    assert len(said.json["groups"]) == 1


def test_other_verbs_take_one_machine(tmp_path: Path) -> None:
    file = tmp_path / "m.json"
    file.write_text(json.dumps(machine_to_json(linux())), encoding="utf-8")
    said = run(tmp_path, "auto", "--machine", str(file), "--machine", str(file))
    assert said.code == 2
    assert "error[several-machines]" in said.err
