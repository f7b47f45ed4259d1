"""What every test lives under: a clean environment, no silent skips in CI, golden files on request."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

_FOREIGN = ("TORCHINSTALL_", "UV_", "CUDA_", "HIP_", "ROCR_", "NVIDIA_", "CONDA_")
_FOREIGN_NAMES = ("VIRTUAL_ENV", "NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE", "COLUMNS", "PYTHONPATH")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite golden files; review the diff")
    parser.addoption("--torch-python", help="the interpreter with the torch that the GPU tests use")


@pytest.fixture(scope="session", autouse=True)
def _clean_environment() -> Generator[None]:
    """Nothing that the person running the tests has set may steer what is tested."""
    saved = dict(os.environ)
    for name in list(os.environ):
        if name.startswith(_FOREIGN) or name in _FOREIGN_NAMES:
            del os.environ[name]
    # Children never download a Python: the tests use those that are there.
    os.environ["UV_PYTHON_DOWNLOADS"] = "never"
    yield
    os.environ.clear()
    os.environ.update(saved)


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    """Whether golden files are to be rewritten instead of compared."""
    return bool(request.config.getoption("--update-golden"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a skip is a failure: a check that nobody ran proves nothing.

    A test that can only run on some machines says so with `@pytest.mark.may_skip("why")`.
    """
    report = yield
    if (
        report.skipped
        and os.environ.get("CI")
        and not hasattr(report, "wasxfail")
        and not item.get_closest_marker("may_skip")
    ):
        report.outcome = "failed"
        report.longrepr = (
            f"skipped in CI, where nothing may be missing: {call.excinfo and call.excinfo.value}"
        )
    return report
