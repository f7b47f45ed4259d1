"""Completion: the scripts, and what they ask us."""

from __future__ import annotations

import os
import re
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
        "COMP_CWORD": words[-1] if shell in ("fish", "powershell") else str(len(words)),
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
    if shell == "powershell":
        return [line.partition("\t")[0] for line in lines]
    return [line.partition(",")[2].partition("\t")[0] for line in lines]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "powershell"])
def test_verbs_and_flags_are_offered(shell: str) -> None:
    assert complete(shell, "pl") == ["plan"]
    assert complete(shell, "catalog", "ver") == ["verify"]
    assert "--channel" in complete(shell, "plan", "--chan")
    assert complete(shell, "plan", "--channel", "night") == ["nightly"]


def test_backends_gpus_packages_and_files_are_offered() -> None:
    assert {"cu126", "cu128"} <= set(complete("bash", "plan", "--backend", "cu1"))
    assert complete("bash", "configure", "--with", "xp") == ["xpu"]
    assert "rocm6.4" in complete("fish", "plan", "--why-not", "rocm6")
    assert {"sm_86", "sm_89"} <= set(complete("bash", "auto", "--target-gpu", "sm_8"))
    assert "gfx1100" in complete("zsh", "plan", "--target-gpu", "gfx11")
    (name,) = complete("bash", "plan", "--target-gpu", "h100-p")
    assert name == "H100-PCIe"
    assert {"torch", "torchvision"} <= set(complete("powershell", "auto", "torch"))
    assert complete("bash", "export", "--format", "docker") == ["dockerfile"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "powershell"])
def test_scripts(tmp_path: Path, shell: str) -> None:
    said = run(tmp_path, "completion", shell)
    assert said.code == 0
    assert re.search(rf"_TORCHINSTALL_COMPLETE ?= ?\"?{shell}_complete", said.out)
    if shell != "powershell" and shutil.which(shell):
        done = subprocess.run([shell, "-n"], input=said.out, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_bash_takes_the_script(tmp_path: Path) -> None:
    script = run(tmp_path, "completion", "bash").out
    done = subprocess.run(
        ["bash", "-c", f"{script}\ncomplete -p torchinstall"], capture_output=True, text=True, check=False
    )
    assert "-F _torchinstall_completion torchinstall" in done.stdout, done.stderr
