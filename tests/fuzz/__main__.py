"""`python -m tests.fuzz --all`: every kind in its full number; `--kind machine --count 100` one of them."""

from __future__ import annotations

import argparse
import sys
import time

from hypothesis import HealthCheck, Phase, given, settings

from tests.fuzz.trying import KINDS


def main() -> int:
    """Try, count and say; the exit code is 1 where one input was not borne."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--all", action="store_true", help="every kind, thousands of inputs")
    parser.add_argument("--kind", choices=tuple(KINDS))
    parser.add_argument("--count", type=int)
    asked = parser.parse_args()
    failed = 0
    for kind, (strategy, attempt, many, few) in KINDS.items():
        if asked.kind not in (None, kind):
            continue
        count = asked.count or (many if asked.all else few)
        done = 0

        @settings(
            max_examples=count,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate, Phase.shrink),
            report_multiple_bugs=False,
        )
        @given(strategy)
        def one(text: str) -> None:
            nonlocal done
            done += 1
            attempt(text)  # noqa: B023  # called before the loop goes on

        start = time.monotonic()
        try:
            one()
            print(f"{kind}: {done} tried, all borne, {time.monotonic() - start:.0f} s", flush=True)  # noqa: T201  a program prints its result
        except BaseException as error:  # whatever it is, it is said
            failed += 1
            text = f"{type(error).__name__}: {error}"[:3000]
            print(f"{kind}: FAILED after {done}: {text}", file=sys.stderr, flush=True)  # noqa: T201  a program prints its result
            if isinstance(error, KeyboardInterrupt):
                raise
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
