"""The page's answers beside the command line's.

python -m tests.site                           # some 40 of the machines that are compared with uv
python -m tests.site --all                     # all 543
python -m tests.site --pictures docs/images    # use the page in a browser, and draw it
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from scripts.build_site import build
from tests.site.browsing import browsed
from tests.site.parity import Page, compare, machines, plan_of

SHARE = 14


def main(argv: list[str] | None = None) -> int:
    """Compare; returns 1 where a byte differs."""
    parser = argparse.ArgumentParser(prog="python -m tests.site", description=__doc__)
    parser.add_argument("--all", action="store_true", help="every machine that is compared with uv")
    parser.add_argument("--pictures", type=Path, help="a folder for pictures of the page")
    arguments = parser.parse_args(argv)
    if arguments.pictures is not None:
        arguments.pictures.mkdir(parents=True, exist_ok=True)
        report = browsed(build(), arguments.pictures)
        later = ", ".join(f"{time:.0f}" for time in report["next"])
        sys.stdout.write(f"first plan {report['first']:.0f} ms after opening, the next {later} ms\n")
        return 0
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
