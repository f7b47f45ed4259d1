"""`auto` with packages that are built against torch: the real uv on loopback indexes, and no source build."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.support import RunResult, run
from tests.stack.machines import MACHINES
from tests.support.index_server import IndexServer
from tests.support.index_tree import IndexTree
from tests.support.installing import Place, an_environment, here, uv_path
from tests.support.sdists import sdist
from tests.support.systems import LINUX_X86
from tests.support.tables import Rows, changed, copied
from tests.support.wheelhouse import TinyWheel, torch_wheel, wheel
from torchinstall.core.machine import machine_to_json

pytestmark = [pytest.mark.e2e, pytest.mark.only_on(LINUX_X86, "the wheels that it installs are built for it")]


def _python() -> str:
    """A Python 3.12 where there is one, else the one that runs the tests."""
    found = sorted(Path.home().glob(".pyenv/versions/3.12.*/bin/python3.12"))
    asked = subprocess.run(
        [uv_path(), "python", "find", "--offline", "--no-project", "--system", "3.12"],
        capture_output=True,
        text=True,
        check=False,
    )
    return str(found[-1]) if found else asked.stdout.strip() or sys.executable


INTERPRETER = _python()
PYTHON = "cp312" if sys.executable != INTERPRETER else f"cp3{sys.version_info[1]}"
TAG = f"{PYTHON}-{PYTHON}-manylinux_2_28_x86_64"
TORCHES = {"2.11.0": "0.26.0", "2.12.1": "0.27.1", "2.14.0": "0.29.0", "2.15.0": "0.29.2"}
"""Releases of torch on the loopback index, each with its torchvision."""


def _family(backend: str) -> Iterator[TinyWheel]:
    for torch, vision in TORCHES.items():
        yield torch_wheel(f"{torch}+{backend}", TAG)
        yield wheel("torchvision", f"{vision}+{backend}", TAG, requires=(f"torch=={torch}",))
    yield wheel("torchaudio", f"2.11.0+{backend}", TAG)
    yield wheel("torchcodec", f"0.16.0+{backend}", TAG)


def _flash(torch: str) -> TinyWheel:
    version = f"2.8.3+cu.13.0.torch.{torch}"
    return wheel("flash_attn", version, TAG, requires=(f"torch=={torch}.*",))


def _vllm(version: str, torch: str, vision: str) -> TinyWheel:
    needs = (f"torch=={torch}", f"torchvision=={vision}", "torchaudio==2.11.0", "torchcodec>=0.14")
    return wheel("vllm", version, "cp38-abi3-manylinux_2_28_x86_64", requires=needs)


@pytest.fixture(scope="module")
def server() -> Iterator[IndexServer]:
    """PyTorch's index and Astral's in one tree; PyPI with traps: old versions that need no torch."""
    tree = IndexTree({"cu130": [*_family("cu130"), _flash("2.11"), _flash("2.12")], "cpu": [*_family("cpu")]})
    default = IndexTree(
        {
            "": [
                _vllm("0.33.0", "2.14.0", "0.29.0"),
                _vllm("0.26.0", "2.11.0", "0.26.0"),
                wheel("vllm", "0.2.5"),
                wheel("flash_attn", "0.2.0"),
                wheel("bitsandbytes", "0.50.2", "py3-none-manylinux_2_24_x86_64", requires=("torch>=2.4",)),
                torch_wheel("2.14.0", TAG),
                wheel("novelnet", "1.9.0", requires=("torch==2.14.0",)),
                wheel("novelnet", "0.2.5"),
                wheel("strict", "1.0", requires=("humble<2",)),
                wheel("humble", "3.0"),
                wheel("humble", "1.0"),
                wheel("binder", "1.0", requires=("novelnet<1",)),
                *(wheel(name, "1.0") for name in ("setuptools", "wheel", "packaging", "ninja")),
            ]
        },
        kind="pypi",
    )
    sources = [("vllm", "0.33.0"), ("vllm", "0.34.0"), ("flash_attn", "2.9.0"), ("bitsandbytes", "0.51.0")]
    sources += [("gptqmodel", "7.7.0"), ("ownops", "1.0")]
    default.add("", *(sdist(*item) for item in sources), described=False)
    with IndexServer(tree, default=default) as running:
        yield running


@pytest.fixture
def place(tmp_path: Path, server: IndexServer) -> Place:
    def loopback(rows: Rows) -> None:
        for row in rows:
            if row["id"] == "astral":
                row["url"] = f"{server.index_base}/{{backend}}"

    tables = copied(tmp_path)
    changed(tables, "places.json", loopback)
    env = {**an_environment(tmp_path, server), "TORCHINSTALL_CATALOG_DIR": str(tables)}
    return here(tmp_path / ".venv", env, INTERPRETER)


def auto(
    place: Place, server: IndexServer, *argv: str, machine: str = "h100", verb: str = "auto"
) -> RunResult:
    folder = place.folder.parent
    file = folder / "machine.json"
    file.write_text(json.dumps(machine_to_json(MACHINES[machine])), encoding="utf-8")
    base = f"--index-base={server.index_base}"
    check = ("--no-verify",) if verb == "auto" else ("--format", "requirements")
    return run(folder, verb, "--machine", str(file), base, *check, *argv, env=place.env)


def test_one_set_is_installed_and_nothing_is_built(place: Place, server: IndexServer) -> None:
    said = auto(place, server, "torch", "flash-attn", "vllm", "bitsandbytes", "--json")
    assert said.code == 0, said.err
    found = place.versions()
    assert found == {
        "torch": "2.11.0+cu130",
        "torchvision": "0.26.0+cu130",
        "torchaudio": "2.11.0+cu130",
        "torchcodec": "0.16.0+cu130",
        "flash-attn": "2.8.3+cu.13.0.torch.2.11",
        "vllm": "0.26.0",
        "bitsandbytes": "0.50.2",
    }
    command = said.json["plan"]["command"]
    for name in ("flash-attn", "vllm", "bitsandbytes", "mamba-ssm"):
        assert command[command.index(name) - 1] == "--only-binary"
    said = auto(place, server, "-U", "torch", "--json")
    assert said.code == 0, said.err
    assert place.versions() == found
    assert "vllm 0.26.0" in said.err + json.dumps(said.json)
    said = auto(place, server, "-U", "torch", "vllm", "--json")
    assert place.versions()["vllm"] == "0.26.0"  # flash-attn ends at torch 2.12


def test_a_gpu_without_code_is_refused_before_anything_is_touched(place: Place, server: IndexServer) -> None:
    said = auto(place, server, "torch", "flash-attn", machine="rtx2080")
    assert said.code == 3
    assert "flash-attn needs sm_80 or newer" in said.err
    assert "torchinstall auto torch  # without flash-attn: torch 2.15.0+cu130" in said.err
    assert place.versions() == {}


def test_a_machine_without_a_gpu_is_told_what_there_is(place: Place, server: IndexServer) -> None:
    said = auto(place, server, "torch", "vllm", "--dry-run", machine="no-gpu")
    assert "vllm" in said.err
    assert "2.13.0" in said.err, said.err


def test_what_an_index_lists_today_counts(place: Place, server: IndexServer) -> None:
    """A file for torch 2.14 that no table knows, and none for 2.12 any more."""
    new = _flash("2.14")
    server.tree.add("cu130", new)
    server.tree.remove(_flash("2.12").filename)
    try:
        said = auto(place, server, "torch", "flash-attn", "--dry-run", "--json")
        packages = {row["name"]: row["version"] for row in said.json["plan"]["packages"]}
        assert packages["flash-attn"] == "2.8.3+cu.13.0.torch.2.14"
        assert packages["torch"] == "2.14.0+cu130"
        allowed = next(row["allows"] for row in said.json["plan"]["companions"])
        assert not [torch for torch in allowed if torch.startswith("2.12")]
        before = len(server.paths())
        again = auto(place, server, "torch", "flash-attn", "--dry-run", "--json", "--offline")
        assert [path for path in server.paths()[before:] if "flash-attn/" in path] == []
        assert again.json["plan"]["packages"][-1]["version"] == "2.8.3+cu.13.0.torch.2.14"
    finally:
        server.tree.remove(new.filename)
        server.tree.add("cu130", _flash("2.12"))


def hints(said: RunResult) -> list[list[str]]:
    """The commands of an error's hints."""
    lines = (line.partition("hint: ")[2] or line.strip() for line in said.err.splitlines())
    commands = (line.partition("  #")[0] for line in lines if line.startswith("torchinstall auto "))
    return [shlex.split(command)[2:] for command in commands]


def test_a_package_that_torch_makes_far_too_old_is_an_error(place: Place, server: IndexServer) -> None:
    """No row knows novelnet: uv goes back to a release that does not say which torch it needs."""
    said = auto(place, server, "torch", "novelnet")
    assert said.code == 3, said.err
    assert "error[package-far-older]" in said.err
    assert "novelnet 1.9.0" in said.err
    assert "novelnet 0.2.5" in said.err
    assert place.versions() == {}
    newer, older = hints(said)
    assert auto(place, server, *newer).code == 0
    assert place.versions() == {"torch": "2.14.0+cu130", "novelnet": "1.9.0"}
    said = auto(place, server, "-U", "torch", "binder")
    assert said.code == 3, said.err
    assert "novelnet 0.2.5" in said.err
    assert place.versions()["novelnet"] == "1.9.0"
    assert auto(place, server, "-U", *older).code == 0
    assert place.versions() == {"torch": "2.15.0+cu130", "novelnet": "0.2.5"}


def test_what_another_package_holds_back_is_a_warning(place: Place, server: IndexServer) -> None:
    said = auto(place, server, "torch", "humble", "strict")
    assert said.code == 0, said.err
    assert "humble 1.0 and not 3.0" in said.err.replace("\n", " ")


@pytest.mark.parametrize("name", ["gptqmodel", "ownops"])
def test_a_build_from_source_comes_after_the_torch_that_it_is_for(
    place: Place, server: IndexServer, name: str
) -> None:
    """Its build imports torch; ownops is in no table."""
    said = auto(place, server, "torch", name, "--allow-build", name, "--json")
    assert said.code == 0, said.err
    torch = place.versions()["torch"]
    assert place.imports(f"import {name}; print({name}.built_for)") == torch
    plan = said.json["plan"]
    assert (plan["builds"], plan["build_tools"][0]) == ([name], "setuptools")
    again = auto(place, server, "torch", name, "--allow-build", name, "--json")
    assert again.json["status"] == "satisfied"


def test_an_export_asks_sources_what_they_need_though_no_torch_is_installed(
    place: Place, server: IndexServer
) -> None:
    server.default.add(
        "", sdist("toolops", "1.0", imports="novelnet", tools="novelnet==0.2.5"), described=False
    )
    said = auto(place, server, "torch", "toolops", "--allow-build", "toolops", verb="export")
    assert said.code == 0, said.err
    assert "toolops==1.0" in said.out


def test_a_build_that_fails_leaves_nothing(place: Place, server: IndexServer) -> None:
    server.default.add("", sdist("badops", "1.0", imports="nobody_has_this"), described=False)
    said = auto(place, server, "torch", "badops", "--allow-build", "badops")
    assert said.code == 1, said.err
    assert place.versions() == {}


@pytest.mark.parametrize("described", [True, False])
def test_a_release_that_no_table_knows_says_itself_which_torch_it_needs(
    place: Place, server: IndexServer, *, described: bool
) -> None:
    """From the metadata beside the wheel (PEP 658), or from within the wheel by parts."""
    new = _vllm("0.35.0", "2.15.0", "0.29.2")
    server.default.add("", new, described=described)
    try:
        asked = len(server.paths())
        said = auto(place, server, "torch", "vllm", "--dry-run", "--json")
        assert said.code == 0, said.err
        packages = {row["name"]: row["version"] for row in said.json["plan"]["packages"]}
        assert (packages["torch"], packages["vllm"]) == ("2.15.0+cu130", "0.35.0")
        assert packages["torchvision"] == "0.29.2+cu130"
        assert any(path.endswith(f"{new.filename}.metadata") for path in server.paths()[asked:])
        asked = len(server.paths())
        again = auto(place, server, "torch", "vllm", "--dry-run", "--json", "--offline")
        assert {row["name"]: row["version"] for row in again.json["plan"]["packages"]} == packages
        assert server.paths()[asked:] == []
    finally:
        server.default.remove(new.filename)


def test_what_such_a_release_needs_may_be_new_too(place: Place, server: IndexServer) -> None:
    kernel = wheel("sglang_kernel", "0.9.0", "cp310-abi3-manylinux_2_28_x86_64")
    needs = ("torch==2.14.0", "sglang-kernel==0.9.0", "torchaudio==2.11.0")
    server.default.add("", kernel, wheel("sglang", "0.9.0", requires=needs))
    said = auto(place, server, "torch", "sglang", "--dry-run", "--json")
    assert said.code == 0, said.err
    packages = {row["name"]: row["version"] for row in said.json["plan"]["packages"]}
    assert packages["sglang"] == packages["sglang-kernel"] == "0.9.0"
    assert packages["torch"] == "2.14.0+cu130"


@pytest.mark.parametrize(
    ("asked", "torch"),
    [("sglang==0.5.17.post3", "2.12.1"), ("sglang<0.5.9", "2.11.0"), ("unsloth==2025.9.1", "2.12.1")],
)
def test_a_release_between_or_before_those_of_the_tables_says_it_too(
    place: Place, server: IndexServer, asked: str, torch: str
) -> None:
    """Whatever else it needs that the tables know, but not this release of it, is left to uv."""
    files = [
        wheel("sglang_kernel", "0.4.5.post3", "cp310-abi3-manylinux_2_28_x86_64"),
        wheel(
            "sglang",
            "0.5.17.post3",
            requires=("torch==2.12.1", "sglang-kernel==0.4.5.post3", "flash-attn-4==4.0"),
        ),
        wheel("sglang", "0.5.2", requires=("torch==2.11.0", "ctranslate2<4.5")),
        *(wheel("sglang", f"0.5.{number}", requires=("torch==2.14.0",)) for number in (24, 25, 26, 27)),
        wheel("flash_attn_4", "4.0"),
        wheel("ctranslate2", "4.4.0"),
        wheel("unsloth", "2025.9.1", requires=("torch>=2.4,<=2.12.1",)),
    ]
    server.default.add("", *files)
    try:
        said = auto(place, server, asked, "--dry-run", "--json", machine="rtx4090")
        assert said.code == 0, said.err
        packages = {row["name"]: row["version"] for row in said.json["plan"]["packages"]}
        assert packages["torch"] == f"{torch}+cu130"
    finally:
        for file in files:
            server.default.remove(file.filename)


def test_a_release_that_the_index_lacks_is_not_planned(place: Place, server: IndexServer) -> None:
    newest = _vllm("0.33.0", "2.14.0", "0.29.0")
    server.default.remove(newest.filename)
    try:
        said = auto(place, server, "torch", "vllm", "--dry-run", "--json")
        packages = {row["name"]: row["version"] for row in said.json["plan"]["packages"]}
        assert packages["vllm"] == "0.26.0"
    finally:
        server.default.add("", newest)


def test_the_doctors_remedy_keeps_the_set_together(place: Place, server: IndexServer) -> None:
    """Somebody moved torch alone; the command that the doctor prints makes one set again."""
    assert auto(place, server, "torch", "flash-attn", "vllm").code == 0
    before, index = place.versions(), f"{server.index_base}/cu130"
    argv = [place.uv, "pip", "install", "--python", place.python, "--no-deps", "--default-index", index]
    subprocess.run([*argv, "torch==2.15.0+cu130"], check=True, env=place.env, capture_output=True)

    def doctor() -> RunResult:
        options = ("--machine", "machine.json", f"--index-base={server.index_base}", "--no-verify", "--json")
        return run(place.folder.parent, "doctor", *options, env=place.env)

    def foreign(said: RunResult) -> list[dict[str, Any]]:
        return [row for row in said.json["findings"] if row["slug"] == "built-for-other-torch"]

    said = doctor()
    assert {row["message"].split()[0] for row in foreign(said)} == {"vllm", "flash-attn"}
    command = foreign(said)[0]["commands"][0]
    done = run(place.folder.parent, *shlex.split(command)[1:], "--no-verify", env=place.env)
    assert done.code == 0, done.err
    assert place.versions() == before
    assert foreign(doctor()) == []


def test_the_environment_says_which_cuda_an_installed_jax_is_for(place: Place, server: IndexServer) -> None:
    (site,) = place.folder.glob("lib/python3*/site-packages")
    for name in ("jax", "jax_cuda12_plugin"):
        folder = site / f"{name}-0.11.2.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.11.2\n", "utf-8")
        (folder / "RECORD").write_text("", "utf-8")
    said = auto(place, server, "torch", "--dry-run", "--offline")
    assert "because of jax (what is installed goes with torch 2.14.1)" in said.err, said
