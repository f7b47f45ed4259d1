"""Follow the hints of every error that the tests provoke, one step each.

    python -m tests.hints [what pytest takes]

Tests whose own assertions mind what was typed beside them are not counted: only hints that lead back, or that
cannot be typed.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

WHERE = (
    "tests/cli",
    "tests/fleet",
    "tests/exports",
    "tests/project",
    "tests/stack",
    "tests/doctor/test_verb.py",
)


def main(argv: Sequence[str]) -> int:
    """Print each hint that is wrong, and their number; 1 where there is one."""
    where = () if any(Path(word.partition("::")[0]).exists() for word in argv) else WHERE
    flags = ("-q", "-rA", "--follow-hints", "-p", "no:cacheprovider")
    words = [sys.executable, "-m", "pytest", *flags, *argv, *where]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False)
    wrong = sorted(set(re.findall(r"^wrong hint: (.*)$", done.stdout, re.MULTILINE)))
    followed = set(re.findall(r"^followed: (.*)$", done.stdout, re.MULTILINE))
    for line in (*sorted(followed), *wrong):
        print(line)  # noqa: T201  a program prints its result
    print(f"{len(followed)} hints followed, {len(wrong)} wrong")  # noqa: T201  a program prints its result
    return 1 if wrong or not followed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
