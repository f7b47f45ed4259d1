"""A torch asked for by path or URL: read, planned around, warned about, and handed to uv as asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.support import RunResult, run
from tests.support.planning import linux, nvidia
from tests.support.wheelhouse import TinyWheel, torch_wheel, wheel, write_wheels
from torchinstall.core.machine import Machine, machine_to_json
from torchinstall.project.files import loads

TAG = "cp312-cp312-manylinux_2_28_x86_64"
RTX_4090 = linux(nvidia("NVIDIA GeForce RTX 4090", "8.9"), driver="580.95.05")
OLD_DRIVER = linux(nvidia("NVIDIA GeForce RTX 4090", "8.9"), driver="550.54.14")


def placed(folder: Path, item: TinyWheel) -> Path:
    (path,) = write_wheels(folder / "dist", [item])
    return path


def plan(folder: Path, *argv: str, machine: Machine = RTX_4090) -> RunResult:
    (folder / "machine.json").write_text(json.dumps(machine_to_json(machine)), encoding="utf-8")
    where = ("--machine", "machine.json", "--python-version", "3.12", "--offline", "--json")
    return run(folder, "plan", *where, *argv)


def versions(data: Any) -> dict[str, str | None]:
    return {row["name"]: row["version"] for row in data["packages"]}


def slugs(data: Any) -> list[str]:
    return [row["slug"] for row in data["warnings"]]


@pytest.mark.parametrize("spelled", ["torch @ {url}", "torch @ file:dist/{name}", "dist/{name}", "{path}"])
def test_companions_follow_the_wheel_however_it_is_spelled(tmp_path: Path, spelled: str) -> None:
    path = placed(tmp_path, torch_wheel("2.9.1+cu126", TAG))
    asked = spelled.format(url=path.as_uri(), name=path.name, path=path)
    said = plan(tmp_path, asked, "torchvision")
    assert said.code == 0, said.err
    assert said.json["backend"] == "cu126"
    assert versions(said.json) == {"torch": "2.9.1+cu126", "torchvision": "0.24.1+cu126"}
    torch, torchvision = said.json["packages"]
    assert (torch["wheel"], torch["index_url"]) == (path.name, None)
    assert torchvision["index_url"].endswith("/cu126")
    assert said.json["gpus"][0]["covered"] is True
    assert said.json["requirements"][0] == f"torch @ {path.as_uri()}"


def test_uv_gets_the_wheel_as_asked(tmp_path: Path) -> None:
    path = placed(tmp_path, torch_wheel("2.9.1+cu126", TAG))
    (tmp_path / "machine.json").write_text(json.dumps(machine_to_json(RTX_4090)), encoding="utf-8")
    where = ("--machine", "machine.json", "--python-version", "3.12", "--offline", "--format", "uv")
    said = run(tmp_path, "export", *where, f"torch @ {path.as_uri()}", "torchvision")
    assert said.code == 0, said.err
    data = loads(said.out) or {}
    assert data["project"]["dependencies"] == [f"torch @ {path.as_uri()}", "torchvision==0.24.1+cu126"]
    assert list(data["tool"]["uv"]["sources"]) == ["torchvision"]


def test_a_wheel_that_cannot_run_here_is_obeyed_with_a_warning(tmp_path: Path) -> None:
    path = placed(tmp_path, torch_wheel("2.9.1+cu130", TAG))
    said = plan(tmp_path, str(path), machine=OLD_DRIVER)
    assert said.code == 0, said.err
    (warning,) = [row for row in said.json["warnings"] if row["slug"] == "backend-cannot-run"]
    assert path.as_uri() in warning["message"]
    assert "550.54.14" in warning["message"]


def test_a_cpu_wheel_is_obeyed_on_a_machine_with_a_gpu(tmp_path: Path) -> None:
    path = placed(tmp_path, torch_wheel("2.9.1+cpu", TAG))
    said = plan(tmp_path, str(path))
    assert said.code == 0, said.err
    assert said.json["backend"] == "cpu"
    assert "gpu-not-used" in slugs(said.json)


def test_a_build_of_ones_own_is_looked_into(tmp_path: Path) -> None:
    path = placed(tmp_path, torch_wheel("2.9.0a0+git1234567", TAG, cuda="12.8"))
    said = plan(tmp_path, str(path), "torchvision")
    assert said.code == 0, said.err
    assert said.json["backend"] == "cu128"
    assert versions(said.json) == {"torch": "2.9.0a0+git1234567", "torchvision": None}


def test_a_companion_of_ones_own_decides_the_torch(tmp_path: Path) -> None:
    path = placed(tmp_path, wheel("torchvision", "0.24.1+cu128", TAG, requires=("torch==2.9.1",)))
    said = plan(tmp_path, "torch", str(path))
    assert said.code == 0, said.err
    assert versions(said.json)["torch"] == "2.9.1+cu128"


def test_a_source_that_nobody_can_read_is_said_to_be_unknown(tmp_path: Path) -> None:
    said = plan(tmp_path, "torch @ git+https://example.org/pytorch@main")
    assert said.code == 0, said.err
    assert versions(said.json)["torch"] is None
    assert "named-build-unknown" in slugs(said.json)


def test_another_backend_than_the_wheel_has_is_a_contradiction(tmp_path: Path) -> None:
    path = placed(tmp_path, torch_wheel("2.9.1+cu126", TAG))
    said = plan(tmp_path, str(path), "--backend", "cu128")
    assert said.code == 3
    assert said.json["status"] == "impossible"


def test_a_wheel_for_another_python_is_refused(tmp_path: Path) -> None:
    path = placed(tmp_path, torch_wheel("2.9.1+cu126", TAG.replace("312", "311")))
    said = plan(tmp_path, str(path))
    assert (said.code, said.json["error"]["slug"]) == (3, "python-not-published")


def test_a_wheel_that_is_not_there(tmp_path: Path) -> None:
    said = plan(tmp_path, "torch @ file:///nowhere/torch-2.9.1+cu126-cp312-cp312-linux_x86_64.whl")
    assert (said.code, said.json["error"]["slug"]) == (2, "wheel-not-found")
