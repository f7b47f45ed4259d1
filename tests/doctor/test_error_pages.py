"""The pages of causes are what their script renders, and the refresher finds what is unknown."""

from __future__ import annotations

import json

import pytest

from scripts.refresh_errors import unknown
from scripts.render_error_docs import PAGES, TOPICS, render
from tests.support.planning import shipped
from torchinstall.doctor.rules import rules


def test_pages_are_up_to_date() -> None:
    """`python -m scripts.render_error_docs --write` writes them."""
    assert {path.name: path.read_text("utf-8") for path in PAGES.glob("*.md")} == render()


def test_every_topic_has_a_heading() -> None:
    assert {rule.topic.partition("-")[0] for rule in rules()} == set(TOPICS)


def test_the_refresher_prints_what_is_unknown_and_false_alarms() -> None:
    known = "AssertionError: Torch not compiled with CUDA enabled"
    lines = [
        json.dumps({"id": 1, "text": known}),
        json.dumps({"id": 2, "text": "RuntimeError: the flux capacitor of torch is cold"}),
        "",
        json.dumps({"id": 3, "text": known, "kind": "none"}),
        json.dumps({"id": 4, "text": "KeyError: 'price'", "kind": "none"}),
    ]
    rows = list(unknown(lines, shipped()))
    assert [(row["id"], row["found"]) for row in rows] == [(2, []), (3, ["not-compiled-with-cuda"])]


def test_the_refresher_refuses_a_line_without_text() -> None:
    with pytest.raises(ValueError, match="line 1"):
        list(unknown(["[]"], shipped()))
