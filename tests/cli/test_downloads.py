"""What comes down is said before it does: how much, how much disk it takes, and where."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.support import RunResult, run
from tests.support import faults
from tests.support.faults import Answer
from tests.support.index_server import IndexServer
from tests.support.index_tree import IndexTree
from tests.support.installing import Place, an_environment, here
from tests.support.planning import linux
from tests.support.wheelhouse import torch_wheel, wheel, write_wheels
from torchinstall.core.machine import machine_to_json

PYTHON = f"cp3{sys.version_info[1]}"
TAG = f"{PYTHON}-{PYTHON}-manylinux_2_28_x86_64"
LARGE = {"torch/lib/one.bin": os.urandom(6_000_000), "torch/lib/two.bin": b"\0" * 20_000_000}
TORCH = torch_wheel("2.9.1+cpu", TAG, requires=("filelock",), files=LARGE)


@pytest.fixture
def server() -> Iterator[IndexServer]:
    """The PyTorch index says no sizes, PyPI does."""
    default = IndexTree({"": [wheel("filelock", "3.20.0")]}, kind="pypi")
    with IndexServer(IndexTree({"cpu": [TORCH]}), default=default, json_pages=True, dated=True) as running:
        yield running


@pytest.fixture
def place(tmp_path: Path, server: IndexServer) -> Place:
    env = an_environment(tmp_path, server, UV_LINK_MODE="hardlink", TORCHINSTALL_INDEX_BASE=server.index_base)
    return here(tmp_path / ".venv", env)


def auto(place: Place, *argv: str) -> RunResult:
    file = place.folder.parent / "machine.json"
    file.write_text(json.dumps(machine_to_json(linux())), encoding="utf-8")
    return run(file.parent, "auto", "torch", "--machine", str(file), "--no-verify", *argv, env=place.env)


def came_down(server: IndexServer) -> int:
    """Bytes of the wheels that were asked for as a whole."""
    whole = [
        path
        for path in set(server.paths())
        for row in server.sent_headers(path)
        if path.endswith(".whl") and "range" not in map(str.lower, row)
    ]
    return sum(len(server.answer(path, "").body) for path in whole)


def test_what_is_said_is_what_comes_down(place: Place, server: IndexServer) -> None:
    dry = auto(place, "--dry-run", "--json").json["plan"]["download"]
    assert came_down(server) == 0
    said = auto(place)
    assert said.code == 0, said.err
    assert abs(dry["bytes"] - came_down(server)) < 0.01 * dry["bytes"]
    assert (dry["files"], dry["unknown"]) == (2, [])
    assert said.err.index("downloads: 26 MB (2 files); takes about 26 MB in") < said.err.index("Installed 2")

    (room,) = dry["rooms"]
    on_disk = sum(path.stat().st_size for path in place.folder.rglob("torch/lib/*"))
    assert abs(room["bytes"] - on_disk) < 0.05 * on_disk
    assert (room["folder"], room["free"] > 0) == (str(place.folder), True)


def test_sizes_are_asked_for_while_uv_looks(place: Place, server: IndexServer) -> None:
    """It gets the metadata only when the size of the wheel was asked for, too."""
    path = next(path for path in server.tree.stored if path.endswith(".whl"))
    both = threading.Barrier(2)

    def together(right: Answer) -> Answer:
        both.wait(30)
        server.fault(path, None)
        server.fault(f"{path}.metadata", None)
        return right

    server.fault(path, together)
    server.fault(f"{path}.metadata", together)
    said = auto(place, "torch==2.9.1", "--dry-run")
    assert said.code == 0, said.err
    assert not both.broken
    assert "downloads: 26 MB (2 files)" in said.err


def test_what_uv_has_already_does_not_come_down_again(place: Place, tmp_path: Path) -> None:
    assert auto(place).code == 0
    again = here(tmp_path / "other", place.env)
    said = auto(again, "--python", str(again.folder), "--dry-run", "--json")
    assert (said.json["plan"]["download"]["bytes"], said.json["plan"]["download"]["files"]) == (0, 0)
    assert "downloads: nothing" in said.err
    again.env["UV_LINK_MODE"] = "copy"
    copied = auto(again, "--python", str(again.folder), "--dry-run", "--json").json["plan"]["download"]
    assert [row["bytes"] > 20_000_000 for row in copied["rooms"]] == [False, True], (
        "the cache, the environment"
    )


def test_a_folder_is_no_download(place: Place, tmp_path: Path) -> None:
    write_wheels(tmp_path / "house", [TORCH])
    data = auto(place, "-f", "house", "--dry-run", "--json").json["plan"]["download"]
    assert (data["files"], data["bytes"] < 5000, data["disk_bytes"] > 26_000_000) == (1, True, True)


def test_a_size_that_nobody_says_is_unknown(place: Place, server: IndexServer) -> None:
    """The metadata is on a page of its own, so uv never asks for the wheel before it is installed."""
    path = next(path for path in server.tree.stored if path.endswith(".whl"))
    server.fault(path, faults.unavailable(99, status=404))
    said = auto(place, "--dry-run", "--json")
    assert said.code == 0, said.err
    assert said.json["plan"]["download"]["unknown"] == ["torch"]
    assert "and what nobody says the size of: torch" in said.err


def test_a_disk_without_room_is_said_first(place: Place, server: IndexServer) -> None:
    page: dict[str, Any] = json.loads(server.default.json_page("/simple/filelock/", server.origin) or "")
    page["files"][0]["size"] = 10**14
    server.fault("/simple/filelock/", faults.instead(json.dumps(page), "application/vnd.pypi.simple.v1+json"))
    said = auto(place, "--dry-run")
    assert said.code == 0, said.err
    assert "warning[disk-too-full]: about" in said.err


def test_nothing_to_change_says_nothing(place: Place) -> None:
    assert auto(place).code == 0
    again = auto(place, "--json")
    assert (again.json["plan"]["download"], "downloads" in again.err) == (None, False)


@pytest.mark.parametrize("size", [-1, 10**400, True, "many", None])
def test_a_size_that_cannot_be_is_not_believed(place: Place, server: IndexServer, size: Any) -> None:
    page: dict[str, Any] = json.loads(server.default.json_page("/simple/filelock/", server.origin) or "")
    page["files"][0]["size"] = size
    server.fault("/simple/filelock/", faults.instead(json.dumps(page), "application/vnd.pypi.simple.v1+json"))
    said = auto(place, "--dry-run", "--json")
    assert said.code in (0, 1), said.err
