"""Put every case to the planner, judge the answers, and add up."""

from __future__ import annotations

import os
import random
import statistics
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

from tests.simulation.case import Case
from tests.simulation.judge import Failure, judge
from torchinstall.catalog.catalog import load_catalog
from torchinstall.planner.selection import plan

if TYPE_CHECKING:
    from torchinstall.catalog.catalog import Catalog
    from torchinstall.core.plan import Plan


@dataclass(frozen=True, slots=True)
class Answer:
    """What came out for one case.

    Attributes:
        outcome: `GPU` (the plan uses one), `CPU`, `exit 3`, `exit 4`, or `crash`.
        chosen: `2.14.1+cu126`, or the slug of the refusal.
        milliseconds: of processor time that `plan()` took.
    """

    case: Case
    outcome: str
    chosen: str
    milliseconds: float
    failures: tuple[Failure, ...]


@dataclass(slots=True)
class Totals:
    """The sum of many answers."""

    answers: list[Answer] = field(default_factory=list)

    @property
    def failed(self) -> list[Answer]:
        """The answers that something is wrong with."""
        return [item for item in self.answers if item.failures]

    @property
    def machines(self) -> int:
        """How many different machines (with an interpreter) were described."""
        return len(
            {
                (c.system, c.parts, c.python, c.driver, c.cuda, c.l4t, c.bare, c.unreadable, c.declared)
                for c in (item.case for item in self.answers)
            }
        )

    def table(self) -> str:
        """Markdown: one line per group of machines."""
        groups: dict[str, list[Answer]] = {}
        for item in self.answers:
            groups.setdefault(item.case.group, []).append(item)
        outcomes = ("GPU", "CPU", "exit 3", "exit 4")
        lines = [
            "| group | questions | uses a GPU | CPU only | refused (3) | refused (4) | wrong |",
            "|---|--:|--:|--:|--:|--:|--:|",
        ]
        for name, items in [*sorted(groups.items()), ("**all**", self.answers)]:
            counts = Counter(item.outcome for item in items)
            wrong = sum(1 for item in items if item.failures)
            cells = [name, len(items), *(counts[outcome] for outcome in outcomes), wrong]
            lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
        return "\n".join(lines)

    def timing(self) -> str:
        """How long `plan()` took."""
        times = sorted(item.milliseconds for item in self.answers)
        high = times[int(len(times) * 0.99)]
        middle = statistics.median(times)
        return f"plan(): median {middle:.1f} ms of processor time, 99 of 100 within {high:.1f} ms"


@cache
def _catalog() -> Catalog:
    return load_catalog()


def plan_for(case: Case) -> Plan:
    """The planner's answer."""
    return plan(case.request(), case.machine(), case.target(), _catalog())


def answer(case: Case) -> Answer:
    """Plan and judge one case."""
    request, machine, target, catalog = case.request(), case.machine(), case.target(), _catalog()
    start = time.process_time()
    try:
        found = plan(request, machine, target, catalog)
    except Exception as error:  # noqa: BLE001  a planner that breaks is a finding, with its machine beside it
        return Answer(case, "crash", type(error).__name__, 0.0, (("crash", f"plan() raised {error!r}"),))
    milliseconds = (time.process_time() - start) * 1000
    failures = tuple(judge(case, found))
    if found.error is not None:
        outcome, chosen = f"exit {found.error.exit_code}", found.error.slug
    else:
        outcome = "GPU" if any(gpu.covered for gpu in found.gpus) else "CPU"
        chosen = found.torch or "?"
    return Answer(case, outcome, chosen, milliseconds, failures)


def _answers(cases: Sequence[Case]) -> list[Answer]:
    return [answer(case) for case in cases]


def _chunks(cases: Sequence[Case], size: int) -> Iterator[Sequence[Case]]:
    for start in range(0, len(cases), size):
        yield cases[start : start + size]


def simulate(cases: Sequence[Case], jobs: int | None = None) -> Totals:
    """All answers, in order; `jobs` processes (as many as there are cores)."""
    jobs = jobs or os.cpu_count() or 1
    if jobs == 1:
        return Totals(_answers(cases))
    totals = Totals()
    with ProcessPoolExecutor(jobs) as pool:
        for answers in pool.map(_answers, _chunks(cases, 500)):
            totals.answers += answers
    return totals


def reduced(cases: Iterable[Case], count: int, seed: int) -> list[Case]:
    """A fair pick: the same share of every group, at least twenty of each."""
    groups: dict[str, list[Case]] = {}
    for case in cases:
        groups.setdefault(case.group, []).append(case)
    share = count / sum(len(items) for items in groups.values())
    chance = random.Random(seed)  # noqa: S311  reproducible on purpose
    picked: list[Case] = []
    for items in groups.values():
        picked += chance.sample(items, min(len(items), max(20, round(len(items) * share))))
    return picked
