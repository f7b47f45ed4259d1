"""uv is asked what a plan would change while the index is read; the answer counts for that plan only."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import structs

from tests.cli.support import RunResult, run
from tests.cli.test_auto import TAG
from tests.support.faults import Answer
from tests.support.index_server import IndexServer
from tests.support.index_tree import IndexTree
from tests.support.installing import Place, a_plan, an_environment, here, pin, uv_path
from tests.support.wheelhouse import torch_wheel
from torchinstall.core.plan import Plan
from torchinstall.install.command import command
from torchinstall.install.early import EarlyRehearsal, to_rehearse
from torchinstall.probe.recording import folder_system

NO_GPU = Path(__file__).parents[1] / "machines" / "docker-ci-no-gpu"
PAGE = "/whl/cpu/torch/"


@pytest.fixture
def server() -> Iterator[IndexServer]:
    tree = IndexTree({"cpu": [torch_wheel("2.9.1+cpu", TAG), torch_wheel("2.9.0+cpu", TAG)]})
    with IndexServer(tree, default=IndexTree({"": []}, kind="pypi")) as running:
        yield running


@pytest.fixture
def place(tmp_path: Path, server: IndexServer) -> Place:
    return here(tmp_path / ".venv", an_environment(tmp_path, server))


def auto(place: Place, server: IndexServer, *argv: str) -> RunResult:
    doors = {"system": lambda _env: folder_system(NO_GPU)}
    base = f"--index-base={server.index_base}"
    return run(place.folder.parent, "auto", *argv, base, env=place.env, doors=doors)


@pytest.mark.e2e
@pytest.mark.parametrize("argv", [("--dry-run",), ("--no-verify",)])
def test_both_ask_at_once_and_nobody_twice(place: Place, server: IndexServer, argv: tuple[str, ...]) -> None:
    """The page is served only when two have asked for it."""
    both = threading.Barrier(2)

    def together(right: Answer) -> Answer:
        both.wait(30)
        server.fault(PAGE, None)
        return right

    server.fault(PAGE, together)
    said = auto(place, server, "torch==2.9.1", *argv)
    assert said.code == 0, said.err
    assert not both.broken
    assert "2.9.1+cpu" in said.out
    assert server.paths().count(PAGE) == 2


@pytest.mark.e2e
def test_another_plan_is_asked_about_anew(place: Place, server: IndexServer) -> None:
    """The tables know newer releases than this index has: what uv said of those is of no use."""
    said = auto(place, server, "torch", "--dry-run")
    assert said.code == 0, said.err
    assert "would install: torch 2.9.1+cpu" in said.out
    assert "error" not in said.err


def test_an_answer_is_of_one_command_and_counts_once(place: Place, server: IndexServer) -> None:
    def rehearsal(version: str) -> Plan:
        plan = a_plan(pin("torch", version, f"{server.index_base}/cpu"), python=place.python)
        return command(plan, uv=uv_path(), dry_run=True)

    asked, other = rehearsal("2.9.1+cpu"), rehearsal("2.9.0+cpu")
    for wanted, answered in ((other, False), (structs.replace(asked, channel="test"), True), (asked, True)):
        with EarlyRehearsal() as early:
            assert early.answer(to_rehearse(asked)) is None, "nobody was asked"
            early.begin(asked, place.env, place.folder.parent, None)
            done = early.answer(to_rehearse(wanted))
            assert (done is not None) is answered
            assert done is None or "2.9.1+cpu" in done.stdout
            assert early.answer(to_rehearse(asked)) is None
    with EarlyRehearsal() as early:
        nowhere = rehearsal("2.8.0+cpu")
        early.begin(nowhere, place.env, place.folder.parent, None)
        assert early.answer(to_rehearse(nowhere)) is None, "that uv could not do it, uv has to say itself"
