"""On a terminal uv draws its progress bars, and we still know its last words."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.support.index_server import IndexServer
from tests.support.index_tree import IndexTree
from tests.support.installing import an_environment, here, pin
from tests.support.wheelhouse import torch_wheel
from torchinstall.core.errors import InstallFailedError
from torchinstall.install.command import command
from torchinstall.install.transaction import execute

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")]


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
