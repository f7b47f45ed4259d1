"""The same question to the command line and to the page's Python in Node: the same bytes must come back."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

from tests.cli.support import run
from tests.simulation.case import Case
from tests.simulation.field import field
from torchinstall.core.machine import machine_to_json

if TYPE_CHECKING:
    from typing_extensions import Self

HERE = Path(__file__).parent
SEED = 20261122
"""That of `scripts/compare_with_uv.py`: the same machines."""

MACHINES = 540


@dataclass(frozen=True, slots=True)
class Question:
    """What is typed after `torchinstall`, and what is piped into it."""

    words: tuple[str, ...]
    stdin: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the page's Python answered, and how long it took in Node."""

    code: int
    out: str
    err: str
    milliseconds: float


def machines(share: int = 1) -> list[Case]:
    """Every `share`th of the machines that are compared with uv's choice."""
    return field(MACHINES, SEED)[::share]


def plan_of(case: Case) -> Question:
    """`torchinstall plan --json` for a machine."""
    return Question(("plan", "--json", *case.words()), json.dumps(machine_to_json(case.machine())))


class Page:
    """The page's Python in a Node process that lives as long as the `with` block.

    Args:
        site: the folder that `scripts/build_site` wrote.
        errors: a file for what Node says when it fails.
    """

    def __init__(self, site: Path, errors: IO[bytes]) -> None:
        node = shutil.which("node")
        assert node is not None, "Node.js is needed to run the page's Python"
        argv = [node, str(HERE / "answers.mjs"), str(site)]
        self._errors = errors
        self._process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, encoding="utf-8"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def ask(self, name: str, *values: Any) -> tuple[Any, float]:
        """What a function of `site/entry.py` answers, and the milliseconds that it took."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([name, *values]) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"node ended with {self._process.wait()}:\n{self._said()}"
        row = json.loads(line)
        return row["answer"], row["ms"]

    def run(self, question: Question) -> Answer:
        """What the page's Python says to a command line."""
        answer, milliseconds = self.ask("run", question.words, question.stdin)
        return Answer(**answer, milliseconds=milliseconds)

    def _said(self) -> str:
        """The end of what Node said; Pyodide's JavaScript is one line of a megabyte, which it quotes."""
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").splitlines()
        return "\n".join(line[:300] for line in lines if line.strip())[-3000:]


@dataclass(frozen=True, slots=True)
class Comparison:
    """How many were asked, those that were answered otherwise, and the milliseconds of each but the first."""

    asked: int
    different: tuple[Question, ...]
    milliseconds: tuple[float, ...]

    def __str__(self) -> str:
        """In one line."""
        times = sorted(self.milliseconds)
        slowest = times[int(len(times) * 0.99)]
        return (
            f"{self.asked} answers, {len(self.different)} different; after the first one "
            f"median {statistics.median(times):.0f} ms, 99 of 100 within {slowest:.0f} ms"
        )


def compare(page: Page, folder: Path, questions: Sequence[Question]) -> Comparison:
    """Ask both; stdout, stderr and exit code must be the same bytes."""
    different, times = [], []
    for question in questions:
        answer = page.run(question)
        times.append(answer.milliseconds)
        said = run(folder, *question.words, stdin=question.stdin)
        if (said.code, said.out, said.err) != (answer.code, answer.out, answer.err):
            different.append(question)
    return Comparison(len(questions), tuple(different), tuple(times[1:]))
