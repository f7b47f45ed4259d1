"""Explanations: every rule has words, and they say what a person needs."""

from __future__ import annotations

from tests.support.planning import decide, linux, nvidia, shipped
from torchinstall.planner.explain import RULE_WORDS, explain, why_not
from torchinstall.planner.rules import RULES

PASCAL = linux(nvidia("NVIDIA GeForce GTX 1080 Ti", "6.1"), driver="580.95.05")


def test_every_rule_has_words() -> None:
    assert {slug for slug, _ in RULES} <= set(RULE_WORDS)


def test_every_rule_that_can_be_named_has_words() -> None:
    for python in ("3.8", "3.12", "3.15"):
        for item in decide(PASCAL, python=python).candidates:
            assert item.rule is None or item.rule in RULE_WORDS


def test_why_not_names_the_missing_code() -> None:
    text = " ".join(why_not(decide(PASCAL), "cu130"))
    assert "code for compute capability 6.1" in text
    assert "no kernel image" in text


def test_the_chosen_one_is_explained() -> None:
    text = " ".join(explain(decide(PASCAL), "cu126"))
    assert "2.14.1+cu126 was chosen" in text
    assert "GTX 1080 Ti" in text


def test_the_second_best_is_not_called_rejected() -> None:
    plan = decide(linux(nvidia("NVIDIA GeForce RTX 4090", "8.9"), driver="615.10"))
    text = " ".join(explain(plan, "cu126"))
    assert "would run here too" in text
    assert "newer torch" in text


def test_an_unknown_backend_is_said_to_be_unknown() -> None:
    assert "not considered" in explain(decide(PASCAL), "cu999")[0]
    assert shipped().backend("cu999") is not None
