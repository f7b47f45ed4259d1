"""Exports that Poetry and PDM read: each locks the project and installs from its lock.

Both are told of the loopback index instead of PyPI: PDM by a variable, Poetry by a source of its own, since
it has no variable for that.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.exports.support import BACKEND, call, export
from tests.support.index_server import IndexServer
from tests.support.installing import Place
from torchinstall.project.files import loads

pytestmark = pytest.mark.e2e

RIGHT = {"torch": f"2.9.1+{BACKEND}", "torchvision": f"0.24.1+{BACKEND}", "filelock": "3.20.0"}
ASKED = ("torch", "torchvision", "einops>=0.8")


def project(tmp_path: Path, server: IndexServer, env: dict[str, str], name: str, python: str) -> Path:
    """A folder with the export as its project file."""
    folder = tmp_path / "project"
    said = export(tmp_path, server, env, name, *ASKED, "-p", python, "-o", "project/pyproject.toml")
    assert said.code == 0, said.err
    return folder


def activated(env: dict[str, str], place: Place) -> dict[str, str]:
    """The environment of a shell in which the place is active."""
    return {**env, "VIRTUAL_ENV": str(place.folder), "PATH": f"{Path(place.python).parent}:{env['PATH']}"}


def test_poetry(tmp_path: Path, server: IndexServer, env: dict[str, str], place: Place, poetry: str) -> None:
    folder = project(tmp_path, server, env, "poetry", place.python)
    path = folder / "pyproject.toml"
    source = (
        f'\n[[tool.poetry.source]]\nname = "local"\nurl = "{server.default_index}/"\npriority = "primary"\n'
    )
    path.write_text(path.read_text(encoding="utf-8") + source, encoding="utf-8")
    there = {
        **activated(env, place),
        "POETRY_CACHE_DIR": str(tmp_path / "poetry-cache"),
        "POETRY_KEYRING_ENABLED": "false",
        "POETRY_INSTALLER_MAX_WORKERS": "2",
    }
    call([poetry, "check", "--no-interaction"], there, folder)
    call([poetry, "install", "--no-interaction"], there, folder)
    lock = loads((folder / "poetry.lock").read_text(encoding="utf-8")) or {}
    locked = {row["name"]: row.get("source", {}).get("reference") for row in lock["package"]}
    assert locked == {
        "torch": f"pytorch-{BACKEND}",
        "torchvision": f"pytorch-{BACKEND}",
        "filelock": "local",
        "einops": "local",
    }
    assert place.versions() == {**RIGHT, "einops": "0.8.1"}


def test_pdm(tmp_path: Path, server: IndexServer, env: dict[str, str], place: Place, pdm: str) -> None:
    folder = project(tmp_path, server, env, "pdm", place.python)
    there = {
        **activated(env, place),
        "PDM_PYPI_URL": server.default_index,
        "PDM_CACHE_DIR": str(tmp_path / "pdm-cache"),
        "PDM_CHECK_UPDATE": "false",
        "PDM_NON_INTERACTIVE": "1",
        "PDM_IGNORE_SAVED_PYTHON": "1",
    }
    call([pdm, "install"], there, folder)
    assert place.versions() == {**RIGHT, "einops": "0.8.1"}
    assert not [path for path in server.paths() if path.startswith("/whl/") and "/filelock" in path]
    assert not [path for path in server.paths() if path.startswith("/simple/torch")]
