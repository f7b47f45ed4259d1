"""The page's answers beside the command line's: `python -m tests.site`; `--all` asks about 543 machines."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from scripts.build_site import build
from tests.site.parity import Page, compare, machines, plan_of

SHARE = 14


def main(argv: list[str] | None = None) -> int:
    """Compare; returns 1 where a byte differs."""
    parser = argparse.ArgumentParser(prog="python -m tests.site", description=__doc__)
    parser.add_argument("--all", action="store_true", help="every machine that is compared with uv")
    arguments = parser.parse_args(argv)
    cases = machines(1 if arguments.all else SHARE)
    with tempfile.TemporaryDirectory() as folder:
        errors = (Path(folder) / "errors").open("w+b")
        with errors, Page(build(), errors) as page:
            found = compare(page, Path(folder), [plan_of(case) for case in cases])
    for question in found.different[:5]:
        sys.stdout.write(f"differs: torchinstall {' '.join(question.words)} <<< {question.stdin}\n")
    sys.stdout.write(f"{found}\n")
    return 1 if found.different else 0


if __name__ == "__main__":
    sys.exit(main())
