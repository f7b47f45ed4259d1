"""`python -m tests.stack_oracle`: is each planned set the newest that exists, and is each refusal right?"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from pathlib import Path

from tests.stack.oracle import ask, questions, worlds


def compare(pairs: int, seed: int, indexes: int, folder: Path) -> tuple[list[str], int]:
    """Ask planner and brute force the same; what they disagree about, and how often both found a set."""
    wrong: list[str] = []
    found = 0
    with contextlib.ExitStack() as stack:
        made = [(world, stack.enter_context(server)) for world, server in worlds(indexes, seed, folder)]
        for number, question in enumerate(questions(pairs, seed)):
            planner, oracle = ask(question, made[number % indexes][0])
            found += oracle is not None
            if planner != oracle:
                wrong.append(
                    f"{question} on index {number % indexes}: planned {planner}, brute force {oracle}"
                )
    return wrong, found


def main(argv: list[str] | None = None) -> int:
    """Run it; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.stack_oracle", description=__doc__)
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=20261126)
    parser.add_argument("--indexes", type=int, default=8)
    arguments = parser.parse_args(argv)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        wrong, found = compare(arguments.pairs, arguments.seed, arguments.indexes, Path(folder))
    for text in wrong[:20]:
        sys.stdout.write(f"WRONG {text}\n")
    sys.stdout.write(
        f"{arguments.pairs} pairs on {arguments.indexes} indexes, {time.perf_counter() - start:.0f} s: "
        f"{found} sets, {arguments.pairs - found} refusals, wrong {len(wrong)}\n"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
