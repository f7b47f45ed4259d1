"""`--format pylock`: everything that will be installed, with URLs and hashes (PEP 751), as uv resolves it."""

from __future__ import annotations

from torchinstall.export.inputs import Given

__all__ = ["render"]


def render(given: Given) -> str:
    """A `pylock.toml`; its reader needs no index configured, since every file has its URL."""
    how = "uv pip sync pylock.toml; pip 26.3 reads it too: pip install -r pylock.toml"
    return "\n".join([*given.head(how), given.resolve()])
