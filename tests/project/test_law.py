"""The laws of `law.py` on a few generated projects; `python -m tests.project.law` tries 200 with uv."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.project.law import check, projects


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(projects(), st.booleans())
def test_no_choice_is_lost(text: str, member: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        check(text, Path(folder), member=member)
