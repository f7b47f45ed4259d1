"""A project folder, the small index on a loopback port, and the real uv."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.project.small import default_tree, pytorch_tree
from tests.support.index_server import IndexServer
from torchinstall.install.uv import find_uv
from torchinstall.project.lock import lock_project


@pytest.fixture(scope="session")
def index() -> Iterator[IndexServer]:
    with IndexServer(pytorch_tree(), default=default_tree()) as server:
        yield server


@dataclass(frozen=True, slots=True)
class Place:
    """Where a test works: its folder, the index, and an environment in which uv sees nothing else."""

    folder: Path
    index: IndexServer
    env: dict[str, str]
    uv: str

    def lock(self, directory: Path) -> None:
        lock_project(self.uv, directory, self.env)

    def project(self, text: str, name: str = "demo") -> Path:
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "pyproject.toml").write_text(text, encoding="utf-8")
        return folder


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("uv-cache")


@pytest.fixture
def place(tmp_path: Path, index: IndexServer, cache: Path) -> Place:
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("UV_", "PIP_", "VIRTUAL_ENV"))
    }
    env |= {
        "UV_CACHE_DIR": str(cache),
        "UV_DEFAULT_INDEX": index.default_index,
        "UV_HTTP_RETRIES": "0",
        "UV_NO_CONFIG": "1",
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_PYTHON": _python(),
        "NO_PROXY": "127.0.0.1",
    }
    return Place(tmp_path, index, env, find_uv(env).path)


def _python() -> str:
    """The running interpreter's own base: uv makes the project's environment from it."""
    import sys

    return getattr(sys, "_base_executable", sys.executable)
