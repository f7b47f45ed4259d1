"""What a node selector selects, evaluated as Kubernetes does; what a constraint does, as Slurm does."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any


def selects(affinity: Mapping[str, Any], name: str, labels: Mapping[str, str]) -> bool:
    """Any of the terms holds; every rule of a term must, and a term without rules selects nothing."""
    required = affinity["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    return any(_term(term, name, labels) for term in required["nodeSelectorTerms"])


def _term(term: Mapping[str, Any], name: str, labels: Mapping[str, str]) -> bool:
    rules = term.get("matchExpressions", [])
    fields = term.get("matchFields", [])
    if not rules and not fields:
        return False
    named = all(name in field["values"] for field in fields)
    return named and all(_rule(rule, labels.get(rule["key"])) for rule in rules)


def _rule(rule: Mapping[str, Any], value: str | None) -> bool:
    operator, values = rule["operator"], rule.get("values", [])
    if operator == "In":
        return value in values
    if operator == "DoesNotExist":
        return value is None
    if value is None or not re.fullmatch(r"-?\d+", value):
        return False
    return int(value) > int(values[0]) if operator == "Gt" else int(value) < int(values[0])


def constraint_holds(text: str, features: set[str]) -> bool:
    """Slurm's `&`, `|` and parentheses over the features of a node."""
    words = re.findall(r"[()&|]|[^()&|]+", text)
    signs = {"&": " and ", "|": " or ", "(": "(", ")": ")"}
    return bool(eval("".join(signs.get(word, str(word in features)) for word in words)))  # noqa: S307  of True, False, and, or, not alone
