"""Finding uv: scripts that play a uv lie in folders, and one real uv answers."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.support.systems import POSIX
from torchinstall.core.errors import ToolMissingError
from torchinstall.install.uv import UV_FLOOR, find_uv, recorded_version, uv_beside_us, uv_env

pytestmark = pytest.mark.only_on(POSIX, "a shell script stands in for a program")

ROOT = Path(__file__).parents[2]


def a_uv(folder: Path, does: str) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "uv"
    path.write_text(f"#!/bin/sh\n{does}\n")
    path.chmod(0o755)
    return str(path)


def nothing_beside() -> None:
    return None


def slug(env: dict[str, str], beside: str | None = None, timeout: float = 10.0) -> str:
    with pytest.raises(ToolMissingError) as caught:
        find_uv({"PATH": "", **env}, beside=lambda: beside, timeout=timeout)
    assert caught.value.exit_code == 5
    assert caught.value.hints
    return caught.value.slug


def test_the_floor_is_the_one_of_the_package() -> None:
    text = (ROOT / "pyproject.toml").read_text("utf-8")

    assert re.findall(r'"uv>=([^"]+)"', text) == [UV_FLOOR]


def test_the_real_uv_lies_beside_us_and_answers() -> None:
    found = find_uv({"PATH": ""})

    assert found.source == "beside torchinstall"
    assert found.path == uv_beside_us()


def test_our_packages_uv_is_known_by_its_metadata(tmp_path: Path) -> None:
    path = uv_beside_us()
    assert path is not None
    version = recorded_version(path)
    answered = find_uv({"PATH": "", "TORCHINSTALL_UV": path})

    assert version == answered.version
    assert recorded_version(a_uv(tmp_path, "echo uv 0.99.1")) is None


def test_beside_us_wins_over_path(tmp_path: Path) -> None:
    ours = a_uv(tmp_path / "ours", "echo uv 0.99.1")
    a_uv(tmp_path / "path", "echo uv 0.98.0")

    found = find_uv({"PATH": str(tmp_path / "path")}, beside=lambda: ours)

    assert (found.path, found.version) == (ours, "0.99.1")


@pytest.mark.parametrize("ours", ["echo uv 0.4.0", "exit 3", "echo hello"])
def test_a_bad_one_beside_us_is_passed_over(tmp_path: Path, ours: str) -> None:
    bad = a_uv(tmp_path / "ours", ours)
    good = a_uv(tmp_path / "path", "echo 'uv 0.98.0 (abc 2026-01-01)'")

    found = find_uv({"PATH": str(tmp_path / "path")}, beside=lambda: bad)

    assert (found.path, found.version, found.source) == (good, "0.98.0", "PATH")


def test_a_named_one_wins_and_is_not_replaced(tmp_path: Path) -> None:
    named = a_uv(tmp_path / "named", "echo uv 0.97.0")
    a_uv(tmp_path / "path", "echo uv 0.98.0")
    env = {"PATH": str(tmp_path / "path"), "TORCHINSTALL_UV": named}

    assert find_uv(env).version == "0.97.0"

    a_uv(tmp_path / "named", "echo uv 0.1.0")
    assert slug(env) == "uv-too-old"
    assert slug({**env, "TORCHINSTALL_UV": str(tmp_path / "gone")}) == "uv-not-found"
    assert find_uv({**env, "TORCHINSTALL_UV": ""}, beside=nothing_beside).version == "0.98.0"


def test_a_uv_that_was_named_is_not_made_newer_by_an_installation(tmp_path: Path) -> None:
    path = a_uv(tmp_path, "echo uv 0.1.0")
    with pytest.raises(ToolMissingError) as caught:
        find_uv({"PATH": "", "TORCHINSTALL_UV": path}, beside=nothing_beside)
    assert caught.value.slug == "uv-too-old"
    assert "unset TORCHINSTALL_UV" in caught.value.hints[0]


def test_none_at_all() -> None:
    assert slug({}) == "uv-not-found"


@pytest.mark.parametrize(
    ("does", "wanted"),
    [
        ("echo uv 0.12.99", "uv-too-old"),
        ("echo uv 0.13.0", None),
        ("echo uv 1.0.0-alpha.1", None),
        ("echo 'pip 25.0 from here'", "uv-broken"),
        ("echo cannot >&2; exit 127", "uv-broken"),
        ("exec sleep 20", "uv-broken"),
    ],
)
def test_what_a_uv_may_answer(tmp_path: Path, does: str, wanted: str | None) -> None:
    path = a_uv(tmp_path, does)
    if wanted is None:
        assert find_uv({"PATH": os.defpath}, beside=lambda: path).path == path
    else:
        assert slug({"PATH": "/nowhere", "TORCHINSTALL_UV": path}, timeout=1.0) == wanted


def test_a_file_that_is_no_program(tmp_path: Path) -> None:
    path = tmp_path / "uv"
    path.write_bytes(b"\x7fELF not really")
    path.chmod(0o755)

    assert slug({}, beside=str(path)) == "uv-broken"


def test_a_child_keeps_the_users_network_and_loses_what_undoes_the_plan() -> None:
    user = {"UV_DEFAULT_INDEX": "https://mirror", "HTTPS_PROXY": "http://proxy", "UV_CACHE_DIR": "/cache"}
    undoing = {"UV_NO_SOURCES": "1", "UV_NO_SOURCES_PACKAGE": "torch", "UV_TORCH_BACKEND": "cpu"}
    elsewhere = {"UV_PROJECT": "/other", "UV_WORKING_DIR": "/other", "UV_NO_PROJECT": "1"}

    assert uv_env({**user, **undoing, **elsewhere}) == {**user, **elsewhere}
    assert uv_env({**user, **undoing, **elsewhere}, project=True) == user
    assert uv_env({"A": "1", "B": "2"}, changes=(("A", None), ("NO_COLOR", "1"))) == {
        "B": "2",
        "NO_COLOR": "1",
    }
