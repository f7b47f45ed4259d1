"""`--format pylock`: everything that will be installed, with URLs and hashes (PEP 751), as uv resolves it."""

from __future__ import annotations

from torchinstall.project.exports.given import Given

__all__ = ["render"]


def render(given: Given) -> str:
    """A `pylock.toml`; its reader needs no index configured, since every file has its URL."""
    how = "uv pip sync pylock.toml, or: pip install -r pylock.toml (pip 26.1 or newer)"
    return "\n".join([*given.head(how), given.resolve()])
