"""Completion: the scripts, and what they ask us."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import torchinstall
from tests.cli.support import run

ROOT = Path(torchinstall.__file__).parents[1]


def complete(shell: str, *words: str) -> list[str]:
    """What a shell is offered for the last word."""
    env = {
        **os.environ,
        "_TORCHINSTALL_COMPLETE": f"{shell}_complete",
        "COMP_WORDS": " ".join(("torchinstall", *words)),
        "COMP_CWORD": str(len(words)) if shell != "fish" else words[-1],
    }
    done = subprocess.run(
        [sys.executable, "-m", "torchinstall"],
        env=env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    if shell == "zsh":
        return lines[1::3]
    return [line.partition(",")[2].partition("\t")[0] for line in lines]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_verbs_and_flags_are_offered(shell: str) -> None:
    assert complete(shell, "pl") == ["plan"]
    assert complete(shell, "catalog", "ver") == ["verify"]
    assert "--channel" in complete(shell, "plan", "--chan")
    assert complete(shell, "plan", "--channel", "night") == ["nightly"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts(tmp_path: Path, shell: str) -> None:
    said = run(tmp_path, "completion", shell)
    assert said.code == 0
    assert f"_TORCHINSTALL_COMPLETE={shell}_complete" in said.out
    if shutil.which(shell):
        done = subprocess.run([shell, "-n"], input=said.out, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_bash_takes_the_script(tmp_path: Path) -> None:
    script = run(tmp_path, "completion", "bash").out
    done = subprocess.run(
        ["bash", "-c", f"{script}\ncomplete -p torchinstall"], capture_output=True, text=True, check=False
    )
    assert "-F _torchinstall_completion torchinstall" in done.stdout, done.stderr
