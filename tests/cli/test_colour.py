"""When a stream is coloured."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from tests.cli.support import Terminal, run
from torchinstall.cli.console import Console

PLAIN = io.TextIOWrapper(io.BytesIO())
TTY = Terminal(io.BytesIO())


@pytest.mark.parametrize(
    ("stream", "choice", "env", "wanted"),
    [
        (PLAIN, "auto", {}, False),
        (TTY, "auto", {}, True),
        (TTY, "auto", {"TERM": "dumb"}, False),
        (TTY, "auto", {"NO_COLOR": "1"}, False),
        (TTY, "auto", {"NO_COLOR": ""}, True),
        (PLAIN, "auto", {"FORCE_COLOR": "1"}, True),
        (PLAIN, "auto", {"FORCE_COLOR": ""}, False),
        (PLAIN, "auto", {"CLICOLOR_FORCE": "1"}, True),
        (PLAIN, "auto", {"CLICOLOR_FORCE": "0"}, False),
        (PLAIN, "auto", {"NO_COLOR": "1", "CLICOLOR_FORCE": "1"}, False),
        (PLAIN, "auto", {"NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
        (TTY, "never", {"FORCE_COLOR": "1"}, False),
        (PLAIN, "always", {"NO_COLOR": "1"}, True),
    ],
)
def test_rule(stream: io.TextIOWrapper, choice: str, env: dict[str, str], wanted: bool) -> None:
    console = Console(stream, stream, env)
    console.color = choice
    assert console.colour(stream) is wanted


@pytest.mark.parametrize("argv", [("--color", "always", "nope"), ("completion", "--color", "always", "nope")])
def test_flag_before_and_after_the_verb(tmp_path: Path, argv: tuple[str, ...]) -> None:
    assert "\x1b[31m" in run(tmp_path, *argv).err


def test_error_is_coloured_only_where_asked(tmp_path: Path) -> None:
    assert "\x1b" not in run(tmp_path, "nope").err
    assert "\x1b" in run(tmp_path, "nope", terminal=True).err
    assert "\x1b" not in run(tmp_path, "nope", env={"NO_COLOR": "1"}, terminal=True).err
    assert "\x1b" in run(tmp_path, "nope", env={"FORCE_COLOR": "1"}).err
    assert "\x1b" in run(tmp_path, "nope", env={"TORCHINSTALL_COLOR": "always"}).err
