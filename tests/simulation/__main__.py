"""`python -m tests.simulation`: thousands of machines, each plan judged; exits 1 where one is wrong."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from tests.simulation.machines import all_cases
from tests.simulation.run import Answer, reduced, simulate


def main(argv: list[str] | None = None) -> int:
    """Run the simulation; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--count", type=int, default=20_500, help="questions: the slices, then sampled ones")
    parser.add_argument("--pick", type=int, help="judge only about this many of them, from every group")
    parser.add_argument("--seed", type=int, default=20261122, help="of the sample (default: %(default)s)")
    parser.add_argument("--group", action="append", help="only this group (repeatable)")
    parser.add_argument("--jobs", type=int, help="processes (default: one per core)")
    parser.add_argument("--show", type=int, default=3, help="failures shown per kind and group")
    arguments = parser.parse_args(argv)

    start = time.perf_counter()
    cases = all_cases(arguments.count, arguments.seed)
    if arguments.group:
        cases = [case for case in cases if case.group in arguments.group]
    if arguments.pick:
        cases = reduced(cases, arguments.pick, arguments.seed)
    totals = simulate(cases, arguments.jobs)
    _failures(totals.failed, arguments.show)
    sys.stdout.write(totals.table() + "\n\n")
    emitted = [item for item in totals.answers if item.outcome in ("GPU", "CPU")]
    right = sum(1 for item in emitted if not item.failures)
    share = 100 * right / len(emitted) if emitted else 0
    sys.stdout.write(
        f"{len(cases)} questions on {totals.machines} machines, seed {arguments.seed}, "
        f"{time.perf_counter() - start:.0f} s; {totals.timing()}\n"
        f"plans emitted: {len(emitted)}; exist, run and are the newest that would: {right} ({share:.2f} %); "
        f"refusals: {len(totals.answers) - len(emitted)}; wrong in all: {len(totals.failed)}\n"
    )
    return 1 if totals.failed else 0


def _failures(failed: list[Answer], show: int) -> None:
    shown: Counter[tuple[str, str]] = Counter()
    for item in failed:
        for rule, sentence in item.failures:
            shown[rule, item.case.group] += 1
            if shown[rule, item.case.group] <= show:
                case = item.case
                sys.stdout.write(
                    f"WRONG [{rule}] {case.group}: {sentence}\n"
                    f"  {', '.join(part.name for part in case.parts) or 'no GPU'}; driver {case.driver}; "
                    f"{case.system.platform}; Python {case.python}; answer: {item.chosen}\n"
                    f"  {case.reproduce()}\n"
                )
    for (rule, group), count in sorted(shown.items()):
        sys.stdout.write(f"{count:6} x [{rule}] in {group}\n")


if __name__ == "__main__":
    sys.exit(main())
