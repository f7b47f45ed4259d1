"""What every test lives under: a clean environment, no silent skips in CI, golden files on request."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.cli import support
from tests.support.systems import missing, systems

if TYPE_CHECKING:
    from collections.abc import Generator

    from tests.support.hints import Follower

_FOREIGN = ("TORCHINSTALL_", "UV_", "CUDA_", "HIP_", "ROCR_", "NVIDIA_", "CONDA_")
_FOREIGN_NAMES = ("VIRTUAL_ENV", "NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE", "COLUMNS", "PYTHONPATH")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite golden files; review the diff")
    parser.addoption(
        "--follow-hints", action="store_true", help="type the hints of every error that a test sees"
    )
    parser.addoption("--torch-python", help="the interpreter with the torch that the GPU tests use")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = systems()
    for item in items:
        why = missing(item.iter_markers("only_on"), getattr(item, "fixturenames", ()), here)
        if why is not None:
            item.add_marker(pytest.mark.skip(reason=why))
            item.add_marker(pytest.mark.may_skip(reason=why))


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


@pytest.fixture(scope="session")
def _follower() -> Follower:
    return support.follower()


@pytest.fixture(autouse=True)
def _hints_lead_on(request: pytest.FixtureRequest) -> Generator[None]:
    """With `--follow-hints`, and where a module is marked so, each hint of an error is typed as well."""
    if not (request.config.getoption("--follow-hints") or request.node.get_closest_marker("follow_hints")):
        yield
        return
    marked = request.node.get_closest_marker("follow_hints") is not None
    follower: Follower = support.follower() if marked else request.getfixturevalue("_follower")
    support.FOLLOWERS.append(follower)
    yield
    support.FOLLOWERS.pop()
    wrong, follower.wrong = follower.wrong, []
    followed, follower.followed = follower.followed, []
    if request.config.getoption("--follow-hints"):
        for line in (*(f"followed: {text}" for text in followed), *(f"wrong hint: {text}" for text in wrong)):
            print(line)  # noqa: T201  the harness counts them
    assert wrong == []


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
