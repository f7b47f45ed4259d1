"""The `--json` envelopes: plain values, versioned, with an `error` key in every one."""

from __future__ import annotations

from typing import Any

from msgspec import structs

from torchinstall.core.plan import SCHEMA_VERSION, Plan

__all__ = ["ENVELOPE_VERSION", "blank_plan", "envelope"]

ENVELOPE_VERSION = 1


def envelope(status: str, **parts: Any) -> dict[str, Any]:
    """The object of a verb that has no contract of its own; `status` is one word."""
    return {"schema_version": ENVELOPE_VERSION, "status": status, **parts, "error": None}


def blank_plan() -> dict[str, Any]:
    """The keys of `plan --json` for a run that failed before there was a plan."""
    empty: dict[str, Any] = {"schema_version": SCHEMA_VERSION}
    for field in structs.fields(Plan):
        empty[field.name] = [] if str(field.type).startswith("tuple") else None
    return {**empty, "status": "impossible", "env": {}}
