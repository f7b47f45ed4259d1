"""What the tests of exports share: one index, one environment a test, and each heavy tool once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.exports.support import index, tool_environment
from tests.support.index_server import IndexServer
from tests.support.installing import Place, an_environment, here


@pytest.fixture
def server() -> Iterator[IndexServer]:
    with index() as running:
        yield running


@pytest.fixture
def env(tmp_path: Path, server: IndexServer) -> dict[str, str]:
    """A user's environment: an own cache, and the default index of the server."""
    return an_environment(tmp_path, server)


@pytest.fixture
def place(tmp_path: Path, env: dict[str, str]) -> Place:
    """An empty virtual environment."""
    return here(tmp_path / "env", env)


@pytest.fixture(scope="session")
def pip(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Python that has a pip of today (those of the tests need not)."""
    return str(tool_environment(tmp_path_factory.mktemp("pip") / "env", "pip>=26.3,<28") / "python")


@pytest.fixture(scope="session")
def poetry(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tool_environment(tmp_path_factory.mktemp("poetry") / "env", "poetry>=2.1,<3") / "poetry")


@pytest.fixture(scope="session")
def pdm(tmp_path_factory: pytest.TempPathFactory) -> str:
    # `locked`: the versions that PDM was released with; it does not run with the newest of everything.
    folder = tmp_path_factory.mktemp("pdm") / "env"
    return str(tool_environment(folder, "pdm[locked]>=2.22,<3") / "pdm")


@pytest.fixture(scope="session")
def readers(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Python that reads YAML and checks JSON schemas."""
    folder = tmp_path_factory.mktemp("readers") / "env"
    return str(tool_environment(folder, "pyyaml>=6,<7", "jsonschema>=4,<5", "tomli>=2,<3") / "python")
