"""What every verb that plans has in common: its flags, its argument, how it warns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchinstall.cli.verb import Argument

if TYPE_CHECKING:
    from torchinstall.cli.console import Console
    from torchinstall.core.plan import Plan

__all__ = ["PLAN_OPTIONS", "REQS", "report_warnings"]

PLAN_OPTIONS = (
    "requirement",
    "constraint",
    "upgrade",
    "python",
    "venv",
    "system",
    "backend",
    "channel",
    "require_gpu",
    "allow_cpu",
    "prefer_gpu",
    "respect_visible_devices",
    "machine",
    "target_driver",
    "target_cuda",
    "target_gpu",
    "index_base",
    "find_links",
    "offline",
    "refresh",
    "allow_insecure_host",
)
"""The flags of a verb that makes a plan."""

REQS = Argument(
    name="reqs",
    metavar="[REQ]...",
    help="Requirements such as torch, 'torch>=2.6', torchaudio or any other package.",
    many=True,
)


def report_warnings(console: Console, plan: Plan) -> None:
    """Say each warning of a plan on stderr."""
    for warning in plan.warnings:
        console.warn(warning.slug, warning.message)
