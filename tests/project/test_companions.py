"""Packages that are built against torch, in a project: chosen with it, each locked from its own place."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.cli.support import RunResult
from tests.project.conftest import Place
from tests.project.test_cases import text_of
from tests.project.test_sync import HEAD, typed, uv
from tests.stack.machines import MACHINES
from tests.support.index_server import IndexServer
from tests.support.index_tree import IndexTree
from tests.support.systems import LINUX_X86
from tests.support.tables import Rows, changed, copied
from tests.support.wheelhouse import TinyWheel, torch_wheel, wheel
from torchinstall.core.machine import machine_to_json
from torchinstall.project.lock import read_lock
from torchinstall.project.model import Scope

pytestmark = [pytest.mark.e2e, pytest.mark.only_on(LINUX_X86, "the wheels that it installs are built for it")]

if sys.platform != "linux" or sys.version_info[:2] not in ((3, 11), (3, 12), (3, 13)):
    pytest.skip("the tables have files for CPython 3.11 to 3.13 on Linux", allow_module_level=True)

PYTHON = f"3.{sys.version_info[1]}"
CP = "cp" + PYTHON.replace(".", "")
TAG = f"{CP}-{CP}-manylinux_2_28_x86_64"
TORCHES = {"2.10.0": "0.25.0", "2.11.0": "0.26.0", "2.12.1": "0.27.1"}
ASSET = "2.10cxx11abiTRUE"


def _family(local: str) -> Iterator[TinyWheel]:
    for torch, vision in TORCHES.items():
        yield torch_wheel(f"{torch}{local}", TAG)
        yield wheel("torchvision", f"{vision}{local}", TAG, requires=(f"torch=={torch}",))
    yield wheel("torchaudio", f"2.11.0{local}", TAG)
    yield wheel("torchcodec", f"0.16.0{local}", TAG)


def _flash(torch: str) -> TinyWheel:
    return wheel("flash_attn", f"2.8.3+cu.13.0.torch.{torch}", TAG, requires=(f"torch=={torch}.*",))


@pytest.fixture(scope="module")
def server() -> Iterator[IndexServer]:
    """PyTorch's index, Astral's, and release files in one tree; PyPI with old versions as traps."""
    conv = wheel("causal_conv1d", f"1.7.0+cu13torch{ASSET}", f"{CP}-{CP}-linux_x86_64")
    scatter = wheel("torch_scatter", "2.1.2+pt211cu130", f"{CP}-{CP}-linux_x86_64")
    tree = IndexTree(
        {
            "cu130": [*_family("+cu130"), _flash("2.11"), _flash("2.12"), conv],
            "cpu": [*_family("+cpu")],
            "torch-2.11.0+cu130.html": [scatter],
        }
    )
    needs = ("torch==2.11.0", "torchvision==0.26.0", "torchaudio==2.11.0", "torchcodec>=0.14")
    default = IndexTree(
        {
            "": [
                *_family(""),
                wheel("vllm", "0.26.0", "cp38-abi3-manylinux_2_28_x86_64", requires=needs),
                wheel("vllm", "0.2.5"),
                wheel("flash_attn", "0.2.0"),
                wheel("causal_conv1d", "0.1.0"),
            ]
        },
        kind="pypi",
    )
    with IndexServer(tree, default=default) as running:
        yield running


@pytest.fixture
def here(place: Place, server: IndexServer, tmp_path: Path) -> Place:
    def loopback(rows: Rows) -> None:
        for row in rows:
            if row["id"] == "astral":
                row["url"] = f"{server.index_base}/{{backend}}"
            elif row["id"] == "causal-conv1d":
                row["url"] = f"{server.index_base}/cu130/{{file}}"

    tables = copied(tmp_path)
    changed(tables, "places.json", loopback)
    more = {"TORCHINSTALL_CATALOG_DIR": str(tables), "UV_DEFAULT_INDEX": server.default_index}
    return replace(place, env={**place.env, **more})


def command(place: Place, server: IndexServer, *argv: str, machine: str = "h100") -> RunResult:
    folder = place.folder / "demo"
    file = place.folder / "machine.json"
    file.write_text(json.dumps(machine_to_json(MACHINES[machine])), encoding="utf-8")
    verb, *rest = argv
    base = () if verb in ("sync", "run") else (f"--index-base={server.index_base}",)
    return typed(place, folder, verb, *base, "--machine", str(file), *rest)


def project(place: Place) -> Path:
    linux = "sys_platform == 'linux' and platform_machine == 'x86_64'"
    return place.project(HEAD + f'dependencies = []\n\n[tool.uv]\nenvironments = ["{linux}"]\n')


def locked(folder: Path, *scopes: Scope) -> dict[str, str]:
    lock = read_lock(folder / "uv.lock", "demo")
    assert lock is not None
    return {name: item.version for name, item in lock.tree("linux_x86_64", PYTHON, scopes).items()}


def installed(place: Place, folder: Path) -> str:
    return uv(place, folder, "pip", "freeze", "--python", str(folder / ".venv"))


def test_one_set_from_an_index_of_its_own_and_from_metadata(here: Place, server: IndexServer) -> None:
    folder = project(here)
    said = command(here, server, "configure", "flash-attn", "vllm")
    assert said.code == 0, said.err
    found = locked(folder)
    assert found["torch"] == "2.11.0+cu130"
    assert found["flash-attn"] == "2.8.3+cu.13.0.torch.2.11"
    assert (found["vllm"], found["torchvision"]) == ("0.26.0", "0.26.0+cu130")
    once = text_of(folder)
    assert "explicit = true" in once
    said = command(here, server, "configure")
    assert said.code == 0, said.err
    assert text_of(folder) == once
    said = command(here, server, "sync")
    assert said.code == 0, said.err
    listed = installed(here, folder)
    assert "flash-attn==2.8.3+cu.13.0.torch.2.11" in listed
    said = command(here, server, "export", "--format", "dockerfile")
    assert said.code == 0, said.err
    assert "torch 2.11.0+cu130" in said.out
    said = command(here, server, "configure", "--remove")
    assert said.code == 0, said.err
    assert "flash" not in text_of(folder)


def test_a_release_file_by_its_url(here: Place, server: IndexServer) -> None:
    folder = project(here)
    said = command(
        here, server, "configure", "causal-conv1d", "--layout", "groups", "--with", "cpu", "--with", "cu130"
    )
    assert said.code == 0, said.err
    gpu = locked(folder, Scope("group", "cu130"))
    assert gpu["torch"] == "2.10.0+cu130"
    assert gpu["causal-conv1d"] == f"1.7.0+cu13torch{ASSET.lower()}"
    assert "causal-conv1d" not in locked(folder, Scope("group", "cpu"))
    assert f"python_version < '{PYTHON[:2]}{int(PYTHON[2:]) + 1}'" in text_of(folder)
    said = command(here, server, "sync")
    assert said.code == 0, said.err
    assert "causal_conv1d-1.7.0+cu13torch" in installed(here, folder)


def test_a_bundle_holds_the_whole_set(here: Place, server: IndexServer) -> None:
    (here.folder / "demo").mkdir()
    bundle = ("bundle", "--python-version", PYTHON, "-o")
    said = command(here, server, *bundle, "out", "torch", "flash-attn", "vllm")
    assert said.code == 0, said.err
    names = {path.name.partition("-")[0] for path in (here.folder / "demo" / "out").glob("*.whl")}
    assert names >= {"torch", "flash_attn", "vllm", "torchvision"}
    said = command(here, server, *bundle, "b", "torch", "causal-conv1d")
    assert said.code == 0, said.err
    manifest = json.loads((here.folder / "demo" / "b" / "bundle.json").read_text("utf-8"))
    files = {row["name"]: row["version"] for row in manifest["files"]}
    assert files == {"torch": "2.10.0+cu130", "causal-conv1d": f"1.7.0+cu13torch{ASSET.lower()}"}
