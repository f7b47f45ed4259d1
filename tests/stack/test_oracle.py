"""A few questions of `python -m tests.stack_oracle`, which asks two thousand."""

from __future__ import annotations

from pathlib import Path

from tests.stack_oracle import compare


def test_the_planned_set_is_the_newest_that_brute_force_finds(tmp_path: Path) -> None:
    wrong, found = compare(16, seed=12, indexes=1, folder=tmp_path)
    assert wrong == []
    assert 4 < found < 16
