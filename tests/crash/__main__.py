"""Many kills: `python -m tests.crash --kills 300`; ten more with a real wheel of `PIP_FIND_LINKS`."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.crash.harness import SIGNALS, Harness, Kill, Next, Operation


def kills(harness: Harness, count: int, operations: tuple[Operation, ...]) -> Iterator[Kill]:
    """Every operation, signal and next command in turn, at random moments."""
    for number in range(count):
        # The doctor would miss what the real torch depends on.
        then: Next = "auto" if number % 2 == 0 or harness.wheels is not None else "doctor"
        yield harness.kill(
            operations[number // 2 % len(operations)],
            SIGNALS[harness.random.randrange(len(SIGNALS))],
            group=harness.random.random() < 0.5,
            then=then,
        )


def _series(title: str, harness: Harness, count: int) -> int:
    began, wrong = time.monotonic(), 0
    for done, row in enumerate(kills(harness, count, tuple(harness.span)), start=1):
        if row.problem:
            wrong += 1
            _say(f"WRONG {row}: {row.problem}")
        if done % 25 == 0:
            _say(f"{title}: {done} of {count}, {wrong} wrong")
    took = time.monotonic() - began
    states = ", ".join(f"{name} {number}" for name, number in sorted(harness.counts.items()))
    _say(f"{title}: {count - wrong} of {count} right in {took:.0f} s; {states}")
    return wrong


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    """Run the series; the exit status is 1 where one kill ended wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--real", type=int, default=10, help="kills with the real wheel, where there is one")
    asked = parser.parse_args()
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="crash-") as folder:
        wrong += _series("tiny wheels", Harness(Path(folder), seed=asked.seed), asked.kills)
    house = Path(os.environ.get("PIP_FIND_LINKS", ""))
    if asked.real and os.environ.get("PIP_FIND_LINKS") and list(house.glob("torch-*+cpu-*.whl")):
        with tempfile.TemporaryDirectory(prefix="crash-") as folder:
            real = Harness(Path(folder), seed=asked.seed, wheels=house.absolute())
            wrong += _series("the real wheel", real, asked.real)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
