"""`plan --check-wheel`: the file that uv would take is looked into before it is downloaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.cli.support import RunResult, run
from tests.exports.support import H100, MINOR, TAG
from tests.support.binaries import elf, fatbin
from tests.support.index_server import IndexServer
from tests.support.index_tree import IndexTree
from tests.support.wheelhouse import TinyWheel, torch_wheel, write_wheels

CONFIG = "torch/include/ATen/cuda/CUDAConfig.h"


def build(backend: str, targets: str, files: Mapping[str, str | bytes] | None = None) -> TinyWheel:
    """A torch whose header lists these targets (an empty text: it has no such header)."""
    flags = " ".join(f"arch=x,code={name}" for name in targets.split())
    return torch_wheel(f"2.9.1+{backend}", TAG, files={**({CONFIG: flags} if flags else {}), **(files or {})})


def check(folder: Path, env: Mapping[str, str], wheels: list[TinyWheel], *argv: str) -> RunResult:
    """Plan for the H100 from a loopback index with these wheels."""
    tree: dict[str, list[TinyWheel]] = {}
    for item in wheels:
        tree.setdefault(item.version.partition("+")[2], []).append(item)
    with IndexServer(IndexTree(tree)) as server:
        where = (f"--index-base={server.index_base}", "--python-version", MINOR, *H100)
        return run(folder, "plan", "--check-wheel", *where, "torch", *argv, env=env)


@pytest.mark.parametrize("targets", ["sm_80 sm_90", "sm_90a", "sm_80 compute_80"])
def test_a_wheel_that_has_the_code_passes(targets: str, tmp_path: Path, env: dict[str, str]) -> None:
    result = check(tmp_path, env, [build("cu128", targets)], "--json", "-v")
    assert result.code == 0, result.err
    assert result.json["status"] == "ready"
    assert "bytes were read" in result.err
    assert "lacks" not in result.err


def test_a_wheel_without_the_code_is_refused(tmp_path: Path, env: dict[str, str]) -> None:
    result = check(tmp_path, env, [build("cu128", "sm_75 sm_120"), build("cu126", "sm_90")], "--json")
    assert result.code == 3
    error = result.json["error"]
    assert (error["slug"], result.json["status"]) == ("wheel-lacks-gpu", "impossible")
    assert "sm_75 sm_120" in error["found"]
    assert error["hint"] == "torchinstall plan --check-wheel --backend cu126"


def test_a_library_that_lacks_the_gpu_is_a_warning(tmp_path: Path, env: dict[str, str]) -> None:
    files = {"torch/lib/libtorch_cuda_linalg.so": elf(fatbin((100, 120)))}
    result = check(tmp_path, env, [build("cu128", "sm_90", files)])
    assert result.code == 0
    assert "warning[library-lacks-gpu]: libtorch_cuda_linalg.so" in result.err


def test_a_wheel_that_does_not_tell_is_a_warning(tmp_path: Path, env: dict[str, str]) -> None:
    result = check(tmp_path, env, [build("cu128", "")])
    assert result.code == 0
    assert "warning[wheel-not-checked]" in result.err


def test_a_cpu_build_has_nothing_to_check(tmp_path: Path, env: dict[str, str]) -> None:
    result = check(tmp_path, env, [build("cpu", "")], "--backend", "cpu")
    assert result.code == 0
    assert "wheel-" not in result.err


def test_a_wheel_in_a_folder_is_looked_into_too(tmp_path: Path, env: dict[str, str]) -> None:
    write_wheels(tmp_path / "wheels", [build("cu128", "sm_75")])
    argv = ("--check-wheel", "--offline", "--find-links", "wheels", "--python-version", MINOR, *H100)
    result = run(tmp_path, "plan", *argv, "torch", env=env)
    assert result.code == 3
    assert "error[wheel-lacks-gpu]" in result.err
