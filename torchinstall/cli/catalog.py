"""`torchinstall catalog`: what we know, how old it is, where each fact comes from."""

from __future__ import annotations

from torchinstall.cli.app import LazyGroup
from torchinstall.cli.verb import GROUP_OPTIONS, global_flags

__all__ = ["TABLE", "VERB"]

TABLE = {
    "show": ("torchinstall.cli.catalog_show:VERB", "Print each table: its date, its rows, its sources."),
    "update": ("torchinstall.cli.catalog_update:VERB", "Read the index pages now and keep them for a day."),
    "verify": ("torchinstall.cli.catalog_verify:VERB", "Check the tables against the laws they keep."),
}

VERB = LazyGroup(
    "catalog",
    TABLE,
    params=global_flags(before_verb=False),
    help="What torchinstall knows about PyTorch's builds, how old that is, and where it comes from.",
    **GROUP_OPTIONS,
)
