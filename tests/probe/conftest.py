"""Shared by the tests of the probe: the compiled fake NVML, once a session."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.nvml import build_fake_nvml


@pytest.fixture(scope="session")
def fake_nvml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_fake_nvml(tmp_path_factory.mktemp("nvml"))


@pytest.fixture(scope="session")
def old_nvml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_fake_nvml(tmp_path_factory.mktemp("old-nvml"), old=True)
