"""Exports for tools that do not come from PyPI: held to the parts of their published schemas that they use.

The schemas are our own compact copies: they allow only keys that the tools document, so that a key which we
misspelt or made up fails.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.exports.pure import rendered
from tests.exports.support import call
from tests.support.planning import amd, intel, linux, mac, nvidia, windows
from torchinstall.core.machine import Machine

SCHEMAS = Path(__file__).with_name("schemas")

MACHINES: dict[str, tuple[Machine, str]] = {
    "linux-cuda": (linux(nvidia("NVIDIA H100", "9.0"), driver="580.95.05"), "torch==2.9.1"),
    "linux-arm-cuda": (
        linux(nvidia("NVIDIA GB10", "12.1"), driver="580.95.05", arch="aarch64"),
        "torch==2.9.1",
    ),
    "linux-rocm": (linux(amd("gfx1100")), "torch==2.9.1"),
    "linux-xpu": (linux(intel("8086:e20b", integrated=False)), "torch==2.9.1"),
    "linux-cpu": (linux(), "torch==2.9.1"),
    "windows-cuda": (windows(nvidia("NVIDIA GeForce RTX 4090", "8.9"), driver="581.15"), "torch==2.9.1"),
    "mac": (mac(), "torch==2.9.1"),
}
READ = """
import json, sys, jsonschema, tomli, yaml
kind, schema, text = sys.argv[1], json.load(open(sys.argv[2])), open(sys.argv[3]).read()
readers = {"json": json.loads, "toml": tomli.loads, "yaml": lambda text: yaml.load(text, yaml.BaseLoader)}
data = readers[kind](text)
jsonschema.Draft202012Validator.check_schema(schema)
jsonschema.Draft202012Validator(schema).validate(data)
print(json.dumps(data))
"""
KINDS = {"pixi": "toml", "conda": "yaml", "devcontainer": "json", "github-actions": "yaml"}


def read(readers: str, tmp_path: Path, name: str, text: str) -> Any:
    """The export as its reader sees it, after the schema has let it through."""
    file = tmp_path / "export"
    file.write_text(text, encoding="utf-8")
    schema = SCHEMAS / f"{name}.json"
    done = call([readers, "-c", READ, KINDS[name], str(schema), str(file)], {}, tmp_path)
    return json.loads(done.stdout)


@pytest.mark.parametrize("machine", MACHINES)
def test_pixi(readers: str, tmp_path: Path, machine: str) -> None:
    there, asked = MACHINES[machine]
    data = read(readers, tmp_path, "pixi", rendered("pixi", there, asked, "torchvision", "einops>=0.8"))
    torch = data["pypi-dependencies"]["torch"]
    assert torch["version"].startswith("==2.9.1")
    cuda = "cuda" in machine
    assert ("cuda" in data.get("system-requirements", {})) is cuda
    assert ("index" in torch) is (machine != "mac")
    assert data["pypi-dependencies"]["einops"] == ">=0.8"


@pytest.mark.parametrize("machine", ["linux-cuda", "linux-arm-cuda", "linux-cpu", "windows-cuda", "mac"])
def test_conda(readers: str, tmp_path: Path, machine: str) -> None:
    there, asked = MACHINES[machine]
    data = read(readers, tmp_path, "conda", rendered("conda", there, asked, "torchvision", "einops>=0.8"))
    specs = [row for row in data["dependencies"] if isinstance(row, str)]
    build = "=*cuda*" if "cuda" in machine else "=cpu*"
    assert f"pytorch=2.9.1{build}" in specs
    assert any(spec.startswith("__cuda>=") for spec in specs) is ("cuda" in machine)
    assert data["dependencies"][-1] == {"pip": ["einops>=0.8"]}


@pytest.mark.parametrize("machine", MACHINES)
def test_devcontainer(readers: str, tmp_path: Path, machine: str) -> None:
    there, asked = MACHINES[machine]
    if there.os != "linux":
        there = MACHINES["linux-cpu"][0]
    data = read(readers, tmp_path, "devcontainer", rendered("devcontainer", there, asked))
    assert ("hostRequirements" in data) is ("cuda" in machine and machine.startswith("linux"))
    assert ("--device=/dev/kfd" in data.get("runArgs", [])) is (machine == "linux-rocm")


@pytest.mark.parametrize("machine", MACHINES)
def test_github_actions(readers: str, tmp_path: Path, machine: str) -> None:
    there, asked = MACHINES[machine]
    data = read(readers, tmp_path, "github-actions", rendered("github-actions", there, asked))
    runner = data["jobs"]["tests"]["runs-on"]
    hosted = {"linux-cpu": "ubuntu-latest", "mac": "macos-latest"}
    assert runner == hosted.get(machine, runner)
    assert isinstance(runner, list) is (machine not in hosted)
