"""Configuration files: who wins, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from torchinstall.cli.config import ConfigValue, read_config
from torchinstall.core.errors import UsageError


def settings(cwd: Path, env: dict[str, str]) -> dict[str, ConfigValue]:
    named = env.get("TORCHINSTALL_CONFIG_FILE")
    return {row.flag.name: row for row in read_config(cwd, env, Path(named) if named else None).values}


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_project_wins_over_user(tmp_path: Path) -> None:
    write(tmp_path / "xdg/torchinstall/torchinstall.toml", 'backend = "cpu"\noffline = true\n')
    write(tmp_path / "project/pyproject.toml", '[tool.torchinstall]\nbackend = "cu128"\n')
    found = settings(tmp_path / "project", {"XDG_CONFIG_HOME": str(tmp_path / "xdg")})
    assert {name: (row.value, row.source) for name, row in found.items()} == {
        "backend": ("cu128", "config pyproject.toml"),
        "offline": (True, "config torchinstall.toml"),
    }


def test_nearest_pyproject_decides_even_without_a_table(tmp_path: Path) -> None:
    write(tmp_path / "pyproject.toml", '[tool.torchinstall]\nbackend = "cu128"\n')
    write(tmp_path / "inner/pyproject.toml", "[project]\nname = 'x'\n")
    assert settings(tmp_path / "inner" / "deep", {}) == {}


def test_relative_folders_start_at_the_file(tmp_path: Path) -> None:
    write(tmp_path / "pyproject.toml", '[tool.torchinstall]\nconstraint = ["c.txt"]\n')
    write(tmp_path / "own.toml", 'find-links = "wheels"\n')
    (tmp_path / "deep").mkdir()
    found = settings(tmp_path / "deep", {"TORCHINSTALL_CONFIG_FILE": str(tmp_path / "own.toml")})
    assert found["constraint"].value == (str(tmp_path / "c.txt"),)
    assert found["find_links"].value == (str(tmp_path / "wheels"),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[tool.torchinstall]\nbackand = 'cpu'\n", "unknown key 'backand'"),
        ("[tool.torchinstall]\nfind_links = []\n", "unknown key 'find_links'"),
        ("[tool.torchinstall]\nbackend = 128\n", "backend in"),
        ("[tool.torchinstall]\noffline = 'yes'\n", "offline in"),
        ("[tool.torchinstall]\nprefer-gpu = true\n", "prefer-gpu in"),
        ("[tool.torchinstall]\ntarget-gpu = [9.0]\n", "target-gpu in"),
        ("[tool]\ntorchinstall = 3\n", "is not a table"),
        ("[tool.torchinstall\n", "is not valid TOML"),
    ],
)
def test_refused(tmp_path: Path, text: str, message: str) -> None:
    write(tmp_path / "pyproject.toml", text)
    with pytest.raises(UsageError, match=message) as caught:
        settings(tmp_path, {})
    assert caught.value.slug == "bad-config"


def test_unknown_key_names_the_close_one(tmp_path: Path) -> None:
    write(tmp_path / "pyproject.toml", "[tool.torchinstall]\nbackand = 'cpu'\n")
    with pytest.raises(UsageError) as caught:
        settings(tmp_path, {})
    assert caught.value.wanted == "backend"


def test_a_flag_of_one_verb_is_no_key_of_a_file(tmp_path: Path) -> None:
    """Another verb would refuse the file; `json` would make every verb speak JSON."""
    for key in ("json", "layout", "dry-run"):
        write(tmp_path / "pyproject.toml", f"[tool.torchinstall]\n{key} = true\n")
        with pytest.raises(UsageError, match="unknown key"):
            settings(tmp_path, {})
