"""What the tests of fleets share: a Python that reads YAML and checks schemas, made once."""

from __future__ import annotations

import pytest

from tests.exports.support import tool_environment


@pytest.fixture(scope="session")
def yaml_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("yaml") / "env"
    return str(tool_environment(folder, "pyyaml>=6,<7", "jsonschema>=4,<5") / "python")
