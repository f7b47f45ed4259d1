"""On a terminal uv draws its progress bars, and we still know its last words."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.support.index_server import IndexServer
from tests.support.index_tree import IndexTree
from tests.support.installing import an_environment, here, pin
from tests.support.systems import POSIX
from tests.support.wheelhouse import torch_wheel
from torchinstall.core.errors import InstallFailedError
from torchinstall.install.command import command
from torchinstall.install.stream import stream
from torchinstall.install.transaction import execute

pytestmark = [pytest.mark.e2e, pytest.mark.only_on(POSIX, "it opens a pseudo-terminal")]


def test_uv_sees_a_terminal_and_stdout_stays_ours(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ours, uvs = os.openpty()
    with (
        IndexServer(IndexTree({"cpu": [torch_wheel("2.9.1+cpu", "py3-none-any")]})) as server,
        os.fdopen(uvs, "wb") as sink,
    ):
        place = here(tmp_path / "env", {**an_environment(tmp_path, server), "TERM": "xterm-256color"})
        index = f"{server.index_base}/cpu"
        good = command(place.plan(pin("torch", "2.9.1+cpu", index)), uv=place.uv)
        bad = command(place.plan(pin("torch", "2.9.2+cpu", index)), uv=place.uv)

        execute(good, env=place.env, sink=sink)
        shown = os.read(ours, 65536).decode()
        with pytest.raises(InstallFailedError) as caught:
            execute(bad, env=place.env, sink=sink)
    os.close(ours)

    assert "\x1b[" in shown, "colours"
    assert "Resolving" in shown, "a spinner"
    assert "torch" in shown
    assert caught.value.slug == "build-not-found"
    assert capfd.readouterr().out == ""


HOSTILE = r"""
import sys, time
for piece in (
    b"\x1b]0;tit", b"le\x07A", b"\x1b[6", b"n", b"\x1bc", b"B\x1b]52;c;c2VjcmV0\x1b\\",
    b"\x1b[?1049h\x1b[", b"1;32mC\x1b[0m", b"\x1b[2K\r", b"D\xe2\x80", b"\xaeE\x9b", b"F\x07\n", b"end \x1b[",
):
    sys.stderr.buffer.write(piece)
    sys.stderr.flush()
    time.sleep(0.02)
"""


def test_what_a_terminal_would_obey_is_left_out_of_uvs_talk(tmp_path: Path) -> None:
    """Titles, the clipboard, questions and direction marks go, in however many pieces; drawings stay."""
    talk = tmp_path / "talk"
    with talk.open("wb") as sink:
        done = stream([sys.executable, "-c", HOSTILE], env=dict(os.environ), sink=sink)
    drawn = "AcB\x1b[1;32mC\x1b[0m\x1b[2K\rDE\ufffdF\nend ["
    assert talk.read_bytes().decode() == drawn
    assert done.stderr == "DE\ufffdF\nend ["
