"""What starting up imports: names, not milliseconds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import torchinstall

COSTLY = {"httpx", "rich", "pynvml", "psutil", "packaging", "tomlkit", "asyncio", "importlib.metadata"}


def imported(*argv: str) -> set[str]:
    """Top-level and dotted names that a run imports."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "torchinstall", *argv],
        capture_output=True,
        text=True,
        cwd=Path(torchinstall.__file__).parents[1],
        check=False,
    )
    rows = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip() for line in rows}


@pytest.mark.parametrize("argv", [("--version",), ("--help",), ("plan", "--help"), ("completion", "zsh")])
def test_nothing_costly_is_imported(argv: tuple[str, ...]) -> None:
    names = imported(*argv)
    assert "torchinstall.cli.app" in names, "the measurement itself must see something"
    assert not COSTLY & names


def test_version_imports_no_verb() -> None:
    names = imported("--version")
    assert not names & {"torchinstall.cli.auto", "torchinstall.cli.plan", "torchinstall.cli.probe"}


def test_help_of_the_table_imports_no_verb() -> None:
    assert not {name for name in imported("--help") if name.startswith("torchinstall.planner")}
