"""Packages that a configuration file adds to those that move with torch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.support import RunResult, run
from tests.support.index_server import IndexServer
from tests.support.index_tree import IndexTree
from tests.support.planning import linux, nvidia
from tests.support.wheelhouse import torch_wheel, wheel
from torchinstall.core.machine import machine_to_json

ADA = linux(nvidia("NVIDIA GeForce RTX 4090", "8.9"), driver="550.54.14")
TAG = "cp312-cp312-manylinux_2_28_x86_64"


def plan(folder: Path, config: str, base: str, *argv: str) -> RunResult:
    (folder / "pyproject.toml").write_text(config, encoding="utf-8")
    (folder / "machine.json").write_text(json.dumps(machine_to_json(ADA)), encoding="utf-8")
    words = ("--machine", "machine.json", "--python-version", "3.12", "--json", f"--index-base={base}")
    env = {"TORCHINSTALL_CACHE_DIR": str(folder / "cache")}
    return run(folder, "plan", "torch==2.9.1", "my-extension", *words, *argv, env=env)


@pytest.mark.parametrize("routed", [True, False])
def test_a_package_of_ones_own(tmp_path: Path, routed: bool) -> None:
    tree = IndexTree({"cu128": [torch_wheel("2.9.1+cu128", TAG), wheel("my_extension", "1.2+cu128", TAG)]})
    config = f"[tool.torchinstall.families]\nmy-extension = {{ routed = {str(routed).lower()} }}\n"
    with IndexServer(tree) as server:
        said = plan(tmp_path, config, server.index_base, "--backend", "cu128")
    assert said.code == 0, said.err
    (mine,) = [row for row in said.json["packages"] if row["name"] == "my-extension"]
    assert mine["routed"] is routed
    assert mine["version"] == ("1.2+cu128" if routed else None)


def test_without_configuration_it_is_left_to_uv(tmp_path: Path) -> None:
    tree = IndexTree({"cu128": [torch_wheel("2.9.1+cu128", TAG), wheel("my_extension", "1.2+cu128", TAG)]})
    config = "[tool.torchinstall.families]\nmy-extension = { routed = true }\n"
    with IndexServer(tree) as server:
        said = plan(tmp_path, config, server.index_base, "--backend", "cu128", "--no-config")
    assert said.code == 0, said.err
    assert [row["name"] for row in said.json["packages"]] == ["torch"]


@pytest.mark.parametrize(
    "table", ["my-extension = true", "my-extension = { rooted = true }", "my-extension = { routed = 1 }"]
)
def test_a_table_that_is_not_right(tmp_path: Path, table: str) -> None:
    said = plan(tmp_path, f"[tool.torchinstall.families]\n{table}\n", "http://127.0.0.1:9/whl", "--offline")
    assert said.code == 2
    assert said.json["error"]["slug"] == "bad-config"
    assert "my-extension" in said.json["error"]["message"]
