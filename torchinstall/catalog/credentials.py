"""Who the index takes us for: credentials of the URL, of uv's variables, or of netrc, in this order."""

from __future__ import annotations

import urllib.parse
from collections.abc import Mapping

from torchinstall.catalog.urls import origin_of

__all__ = ["Credentials"]


class Credentials:
    """Looks credentials up; they are handed to httpx and appear in no message.

    Args:
        env: `UV_INDEX_PYTORCH_USERNAME` and `UV_INDEX_PYTORCH_PASSWORD` (what uv reads for the index that a
            plan names `pytorch`), `NETRC`, `HOME`, `USERPROFILE`.
    """

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env

    def of(self, url: str) -> tuple[str, str] | None:
        """User and password for a URL, None where nobody said."""
        parts = urllib.parse.urlsplit(url)
        if parts.username is not None:
            return urllib.parse.unquote(parts.username), urllib.parse.unquote(parts.password or "")
        user = self._env.get("UV_INDEX_PYTORCH_USERNAME")
        secret = self._env.get("UV_INDEX_PYTORCH_PASSWORD")
        if user or secret:
            return user or "", secret or ""
        return self._from_netrc(origin_of(url).host)

    def _from_netrc(self, host: str) -> tuple[str, str] | None:
        home = self._env.get("HOME") or self._env.get("USERPROFILE")
        path = self._env.get("NETRC") or (f"{home}/.netrc" if home else None)
        if path is None:
            return None
        from pathlib import Path

        if not Path(path).is_file():
            return None
        import netrc

        try:
            found = netrc.netrc(path).hosts.get(host)
        except (OSError, ValueError, netrc.NetrcParseError):
            return None
        return (found[0], found[2]) if found else None
