"""What PyTorch publishes tomorrow works without a release of ours: channels, backends, pages that change."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from tests.cli.support import RunResult, run
from tests.cli.test_auto import TAG
from tests.support.index_server import IndexServer
from tests.support.index_tree import IndexTree
from tests.support.installing import an_environment, here
from tests.support.planning import amd, linux, nvidia, shipped
from tests.support.wheelhouse import torch_wheel, wheel
from torchinstall.core.machine import Machine, machine_to_json

ADA = linux(nvidia("NVIDIA GeForce RTX 4090", "8.9"), driver="615.36.02")
RADEON = linux(amd("gfx1100"))
LINUX = "cp312-cp312-manylinux_2_28_x86_64"


def doors_after(days: int) -> Mapping[str, Any]:
    """The doors of a run so many days after the shipped tables were made."""
    made = datetime.combine(date.fromisoformat(shipped().tables.snapshot), datetime.min.time(), timezone.utc)
    return {"now": lambda: made.timestamp() + days * 86400 + 3600}


def plan(folder: Path, machine: Machine, *argv: str, days: int = 0) -> RunResult:
    file = folder / "machine.json"
    file.write_text(json.dumps(machine_to_json(machine)), encoding="utf-8")
    env = {"TORCHINSTALL_CACHE_DIR": str(folder / "cache")}
    words = ("--machine", str(file), "--python-version", "3.12", "--json")
    return run(folder, "plan", "torch", *words, *argv, env=env, doors=doors_after(days))


def slugs(said: RunResult) -> set[str]:
    return {row["slug"] for row in said.json["warnings"]}


def test_the_nightly_channel_is_another_index(tmp_path: Path) -> None:
    tree = IndexTree({"cu132": [torch_wheel("2.15.0+cu132", LINUX)]})
    tree.add("cu150", torch_wheel("2.17.0.dev20261120+cu150", LINUX), channel="nightly")
    tree.add("cu132", torch_wheel("2.16.0.dev20261120+cu132", LINUX), channel="nightly")
    with IndexServer(tree) as server:
        said = plan(tmp_path, ADA, f"--index-base={server.index_base}", "--channel", "nightly")
    assert said.code == 0, said.err
    assert said.json["packages"][0]["version"] == "2.16.0.dev20261120+cu132"
    assert said.json["index_url"] == f"{server.index_base}/nightly/cu132"
    assert all("/nightly/" in path for path in server.paths())


def test_a_channel_that_cannot_be_read_is_not_guessed(tmp_path: Path) -> None:
    said = plan(tmp_path, ADA, "--offline", "--channel", "nightly")
    assert said.code == 3
    assert said.json["error"]["slug"] == "channel-not-read"


def test_a_backend_that_no_table_knows_is_found_and_its_code_assumed(tmp_path: Path) -> None:
    tree = IndexTree({name: [torch_wheel(f"2.15.0+{name}", LINUX)] for name in ("cu130", "cu132")})
    tree.add("cu134", torch_wheel("2.16.0+cu134", LINUX))
    tree.add("cu150", torch_wheel("2.17.0+cu150", LINUX))
    with IndexServer(tree) as server:
        said = plan(tmp_path, ADA, f"--index-base={server.index_base}", days=60)
    assert said.code == 0, said.err
    assert said.json["backend"] == "cu134"
    assert said.json["packages"][0]["version"] == "2.16.0+cu134"
    assert "code-list-assumed" in slugs(said)
    assert not [path for path in server.paths() if "/cu150/torch" in path], "no driver speaks CUDA 15"


def test_rocm_7_14_is_newer_than_rocm_7_2(tmp_path: Path) -> None:
    tree = IndexTree({name: [torch_wheel(f"2.16.0+{name}", LINUX)] for name in ("rocm7.14", "rocm7.2")})
    with IndexServer(tree) as server:
        said = plan(tmp_path, RADEON, f"--index-base={server.index_base}")
    assert said.code == 0, said.err
    assert said.json["backend"] == "rocm7.14"


def test_tables_of_ninety_days_are_called_old(tmp_path: Path) -> None:
    old = plan(tmp_path, ADA, "--offline", days=90)
    assert "catalog-old" in slugs(old)
    message = next(row["message"] for row in old.json["warnings"] if row["slug"] == "catalog-old")
    assert "--offline" in message
    assert "upgrade torchinstall" in message
    assert "catalog-old" not in slugs(plan(tmp_path, ADA, "--offline", days=89))


@pytest.mark.e2e
def test_an_index_that_changes_between_plan_and_install(tmp_path: Path) -> None:
    """The page that was read lists a build that is gone when uv asks: one clear error, nothing changed."""
    tree = IndexTree({"cpu": [torch_wheel("2.9.1+cpu", TAG)]})
    default = IndexTree({"": [wheel("filelock", "3.20.0")]}, kind="pypi")
    with IndexServer(tree, default=default) as server:
        place = here(tmp_path / ".venv", an_environment(tmp_path, server))
        base = f"--index-base={server.index_base}"
        env = {**place.env, "TORCHINSTALL_CACHE_DIR": str(tmp_path / "cache")}
        words = ("torch==2.9.1", base, "--backend", "cpu", "--json")
        assert run(tmp_path, "plan", *words, env=env).code == 0
        server.tree = IndexTree({"cpu": [torch_wheel("2.9.0+cpu", TAG)]})
        said = run(tmp_path, "auto", *words, "--no-verify", env=env)
        assert said.code == 1, said.err
        assert said.json["error"]["slug"] == "build-not-found"
        assert place.versions() == {}
        again = run(tmp_path, "auto", "torch", *words[1:], "--refresh", "--no-verify", env=env)
        assert again.code == 0, again.err
        assert place.versions() == {"torch": "2.9.0+cpu"}
