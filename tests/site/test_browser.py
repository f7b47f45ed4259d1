"""The page in a real browser without a network: what a person chooses, pastes and copies, and the answers."""

from __future__ import annotations

import json
import platform
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.support import run
from tests.site.browsing import browsed

pytestmark = [pytest.mark.xdist_group("site")]
if sys.platform == "linux" and platform.machine() == "aarch64":
    pytestmark.append(pytest.mark.may_skip("not every runner on Arm has a browser"))

FIRST, NEXT = 10_000, 200
"""Milliseconds that a plan may take: the first one from the opening of the page on, and each later one."""


@pytest.fixture(scope="module")
def report(site: Path) -> Any:
    """What a person met."""
    return browsed(site)


def said(folder: Path, shown: Any, machine: str) -> str:
    """What the command that the page shows prints, given the machine file that it saves."""
    words = shlex.split(shown["typed"].removesuffix(" < machine.json"))
    return run(folder, *words[1:], stdin=machine).out.rstrip("\n")


def test_what_was_chosen_is_answered_as_on_the_command_line(report: Any, tmp_path: Path) -> None:
    picked = report["picked"]
    assert picked["state"] == "Runs on the H100"
    assert picked["verdict"] == "torch 2.14.1+cu126", "driver 550 starts no CUDA 13 build"
    assert "--target-driver 550.54.15" in picked["typed"]
    assert picked["json"] == said(tmp_path, picked, report["machine"])
    assert picked["reasons"][0] == "torch 2.14.1+cu126 was chosen."


def test_every_form_is_that_of_export(report: Any, tmp_path: Path) -> None:
    words = shlex.split(report["picked"]["typed"].removesuffix(" < machine.json"))[3:]
    formats = {"pip": "pip", "uv": "uv-pip", "pyproject.toml": "uv", "Dockerfile": "dockerfile"}
    for name, form in formats.items():
        exported = run(tmp_path, "export", "--format", form, *words, stdin=report["machine"])
        assert report["forms"][name] == exported.out.rstrip("\n"), name
    assert report["forms"]["torchinstall"] == "torchinstall auto torch torchvision torchaudio"
    assert report["copied"] == report["forms"]["pip"]


def test_a_link_opens_the_same_answer(report: Any) -> None:
    assert report["linked"] == report["picked"]
    assert "#os=linux" in report["link"]
    another = "torchinstall plan --json --offline --machine - --target-gpu 'RTX 40900' --python-version 3.12 "
    assert report["another"]["typed"] == another + "torch torchvision < machine.json", (
        "nothing of an older link"
    )
    assert "machine=" in report["pasted_link"]


def test_an_unknown_gpu_is_named_with_those_that_are_like_it(report: Any) -> None:
    assert report["unknown"]["state"] == "This GPU is not known"
    assert json.loads(report["unknown"]["json"])["error"]["slug"] == "unknown-gpu"
    assert report["mended"]["state"] == "Runs on the GeForce RTX 4090", "the nearest name comes first"


def test_pasted_texts_are_read(report: Any) -> None:
    pastes = report["pastes"]
    assert pastes["nvidia-smi"]["verdict"] == "torch 2.14.1+cu126"
    assert "driver 550.54.15, NVIDIA GeForce RTX 4090" in pastes["nvidia-smi"]["said"]
    assert "2 \N{MULTIPLICATION SIGN} Tesla-T4" in pastes["labels"]["said"]
    assert pastes["nodes"]["state"] == "Runs on the Tesla-T4"
    assert report["node"]["state"] == "Runs on the NVIDIA-L4", "the second of two nodes"
    assert "NVIDIA-L4" not in report["by_hand"]["state"]
    assert pastes["machine file"]["state"] == "Runs on the Radeon RX 7900 XTX"
    assert pastes["error text"]["said"].startswith("no kernel image")
    assert "No known fault was recognised" in pastes["error of nothing"]["said"]


def test_what_is_entered_stays_what_it_is(report: Any) -> None:
    """Neither a link nor a paste chooses options, becomes shell code or markup."""
    odd = report["odd"]
    assert json.loads(odd["option"]["json"])["error"]["slug"] == "bad-requirement"
    assert "elsewhere" not in odd["option"]["code"]
    assert json.loads(odd["url"]["json"])["error"] is None
    words = shlex.split(odd["quoted"]["typed"].removesuffix(" < machine.json"))
    assert words[words.index("--target-gpu") + 1] == "it's $(x) <img src=x onerror=alert(1)>"
    assert odd["markup"] == 0


def test_the_newest_question_is_answered(report: Any) -> None:
    odd = report["odd"]
    assert odd["race"]["state"] == "Runs on the Radeon RX 7900 XTX"
    assert odd["race"]["said"] == "", "the explanation of the text before"
    assert "too deeply nested" in odd["deep"]
    assert odd["after"]["verdict"] == "torch 2.14.1+cu126", "it goes on after a text that ended Python"


def test_a_link_that_this_page_cannot_read_says_so(report: Any) -> None:
    odd, broken, good = report["links"].values()
    assert "(toString, sparc)" in odd
    assert "(its machine)" in broken
    assert good == ""


def test_a_page_that_cannot_start_says_so(report: Any) -> None:
    assert set(report["broken"]) == {"packages.zip", "pyodide/pyodide.asm.wasm", "worker.js", "page.js"}
    assert all("did not" in text or "cannot run" in text for text in report["broken"].values())
    assert "JavaScript is off" in report["plain"]
    assert "Loading" not in report["plain"]


def test_it_fits_on_paper(report: Any) -> None:
    assert report["printed"] == {"width": 720, "buttons": [report["tab"]]}, "the form that was chosen"


def test_the_keyboard_is_enough(report: Any) -> None:
    stops = report["stops"]
    assert stops[:5] == ["skip", "os", "arch", "version", "gpu"]
    assert {"tab-0", "copy", "link", "chosen", "text", "summary"} <= set(stops)
    assert "--python-version" in report["arrows"]["typed"]
    assert '"windows"' not in report["arrows"]["json"]
    assert "win_amd64" in report["arrows"]["json"]
    assert report["tab"] == "uv"
    assert report["cell"]
    assert report["focused"].endswith(report["cell"])


def test_it_is_fast_enough(report: Any) -> None:
    assert report["first"] < FIRST
    assert min(report["next"]) < NEXT, "the slower ones tell of whatever else this machine does"


def test_nothing_is_asked_of_anybody_else(report: Any) -> None:
    assert report["foreign"] == []
    assert report["problems"] == []


def test_everybody_can_use_it(report: Any) -> None:
    assert report["axe"] == {"light": [], "dark": [], "narrow": [], "error": []}
    assert report["narrow"] <= 360, "no sideways scrolling on a narrow screen"
