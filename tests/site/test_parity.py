"""The page says what the command line says: the same bytes, the same warnings, the same exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.site.__main__ import SHARE
from tests.site.parity import Page, Question, compare, machines, plan_of

pytestmark = pytest.mark.xdist_group("site")

H100 = ("--target-gpu", "NVIDIA H100", "--target-driver", "580", "--machine", "-", "--python-version", "3.12")
LINUX = (
    '{"schema_version": 1, "os": "linux", "arch": "x86_64", "libc": {"family": "glibc", "version": "2.39"}}'
)
TEXTS = Path(__file__).parents[1] / "doctor" / "error_texts.txt"
EXPORTS = ("pip", "uv", "dockerfile", "poetry", "pixi", "conda", "constraints")


def test_machines_get_the_same_plan(page: Page, tmp_path: Path) -> None:
    found = compare(page, tmp_path, [plan_of(case) for case in machines(SHARE)])
    assert found.asked > 35
    assert not found.different


def test_other_verbs_and_errors_say_the_same(page: Page, tmp_path: Path) -> None:
    questions = [
        *(Question(("export", "--format", name, "--offline", *H100, "torch"), LINUX) for name in EXPORTS),
        Question(("plan", "--offline", *H100, "torch", "flash-attn"), LINUX),
        Question(("plan", "--offline", *H100, "--json", "--explain", "cu126", "torch"), LINUX),
        Question(("plan", "--offline", "--target-gpu", "RTX 9999", *H100[2:], "--json"), LINUX),
        Question(("plan", *H100[4:], "--offline", "--json"), "not a machine file"),
        Question(("doctor", "--json", "--explain", "-"), "CUDA error: no kernel image is available"),
        Question(("doctor", "--explain", "-"), "a text about the weather"),
        Question(
            ("plan", "--offline", *H100, "torch @ https://example.org/torch-2.9.0-py3-none-any.whl"), LINUX
        ),
        Question(("plan", "--no-such-flag")),
    ]
    assert compare(page, tmp_path, questions).different == ()


def test_error_texts_are_explained_the_same(page: Page, tmp_path: Path) -> None:
    texts = [text.partition("\n")[2] for text in TEXTS.read_text(encoding="utf-8").split("#### ")]
    texts = [*filter(None, texts[::5]), "ImportError: &lt;b&gt; No module named &#39;torch&#39;"]
    questions = [Question(("doctor", "--json", "--explain", "-"), text) for text in texts]
    assert len(questions) > 20
    assert compare(page, tmp_path, questions).different == ()


@pytest.mark.parametrize(
    "text", ["#", "x " * 100_000, "a\0b", '"', ",", "{", "[]", "null", "\ufeff", "node\n\n"]
)
def test_whatever_is_pasted_gets_an_answer(page: Page, text: str) -> None:
    answer, _ = page.ask("read", text, [])
    assert answer["error"]["slug"] != "internal-error"


def test_a_shell_says_the_same(page: Page, tmp_path: Path) -> None:
    question = plan_of(machines()[0])
    answer = page.run(question)
    shell = subprocess.run(
        [sys.executable, "-m", "torchinstall", *question.words],
        input=question.stdin.encode(),
        capture_output=True,
        check=False,
        cwd=tmp_path,
    )
    assert (shell.returncode, shell.stdout.decode(), shell.stderr.decode()) == (
        answer.code,
        answer.out,
        answer.err,
    )
    assert json.loads(answer.out)["packages"][0]["name"] == "torch"


def test_what_can_be_chosen_is_what_the_planner_knows(page: Page) -> None:
    facts, _ = page.ask("facts")
    assert facts["pythons"][-1] >= "3.14"
    assert "GeForce RTX 4090" in facts["gpus"]["nvidia"]
    assert "cu130" in facts["backends"]
    chosen = [
        Question(("plan", "--offline", "--target-gpu", name, *H100[2:]), LINUX)
        for vendor in facts["gpus"].values()
        for name in vendor[:: max(1, len(vendor) // 6)]
    ]
    assert [row.err for row in map(page.run, chosen) if "unknown-gpu" in row.err] == []
