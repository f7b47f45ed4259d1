"""Where the pages of the PyTorch index lie."""

from __future__ import annotations

__all__ = ["DEFAULT_INDEX_BASE", "index_url"]

DEFAULT_INDEX_BASE = "https://download.pytorch.org/whl"


def index_url(base: str, channel: str, backend: str) -> str:
    """The index of one backend, without a trailing slash.

    Args:
        base: a mirror of `https://download.pytorch.org/whl`, or a template with `{backend}` and, where the
            mirror has more than one, `{channel}` (`test` or `nightly`; empty for stable).
        channel: `stable`, `test` or `nightly`.
        backend: `cu128`.
    """
    part = "" if channel == "stable" else channel
    if "{backend}" in base:
        url = base.replace("{backend}", backend).replace("{channel}", part)
        scheme, separator, rest = url.partition("://")
        while "//" in rest:
            rest = rest.replace("//", "/")
        return f"{scheme}{separator}{rest}".rstrip("/")
    return "/".join(piece for piece in (base.rstrip("/"), part, backend) if piece)
