"""What the environment says about the network: credentials, proxies, certificates.

Credentials come from the URL, from uv's variables, or from netrc, in this order; they are handed to httpx and
appear in no message.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Mapping
from typing import TYPE_CHECKING

from torchinstall.catalog.urls import origin_of
from torchinstall.errors import UsageError

if TYPE_CHECKING:
    import ssl

__all__ = ["NetworkEnv"]

_NOT_IN_NAMES = re.compile(r"[^A-Z0-9]+")
_TRUE = frozenset({"1", "true", "yes", "on"})


class NetworkEnv:
    """Reads one environment.

    Args:
        env: `UV_INDEX_TORCHINSTALL_CU128_USERNAME` and `…_PASSWORD` (what uv reads for the index that
            `install.command` names `torchinstall-cu128`), `NETRC`, `HOME`, `USERPROFILE`; `HTTPS_PROXY`,
            `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY` in either case; `SSL_CERT_FILE`, `SSL_CERT_DIR`,
            `UV_SYSTEM_CERTS`, `UV_NATIVE_TLS`.
    """

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env

    def credentials(self, url: str) -> tuple[str, str] | None:
        """User and password for a page's URL, None where nobody said."""
        parts = urllib.parse.urlsplit(url)
        if parts.username is not None:
            return urllib.parse.unquote(parts.username), urllib.parse.unquote(parts.password or "")
        index = parts.path.rstrip("/").rpartition("/")[0].rpartition("/")[2]
        prefix = f"UV_INDEX_TORCHINSTALL_{_NOT_IN_NAMES.sub('_', index.upper())}"
        user, secret = self._env.get(f"{prefix}_USERNAME"), self._env.get(f"{prefix}_PASSWORD")
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
        return (found[0], found[2] or "") if found else None

    def proxy(self, url: str) -> str | None:
        """The proxy for a URL, None where it is asked directly."""
        scheme, host = urllib.parse.urlsplit(url).scheme, origin_of(url).host
        env = self._env

        def value(name: str) -> str:
            return env.get(name.lower()) or env.get(name.upper()) or ""

        for entry in value("no_proxy").split(","):
            name = entry.strip().lower().lstrip("*").lstrip(".").partition(":")[0]
            if entry.strip() == "*" or (name and (host == name or host.endswith(f".{name}"))):
                return None
        proxy = value(f"{scheme}_proxy") or value("all_proxy")
        return (proxy if "://" in proxy else f"http://{proxy}") if proxy else None

    def context(self, url: str, *, trusted: bool) -> ssl.SSLContext:
        """Certificates to trust for a URL; `trusted`: whatever is shown.

        Raises:
            UsageError: `bad-certificate-file`.
        """
        import ssl

        if urllib.parse.urlsplit(url).scheme != "https":
            # No certificate authority at all: costs nothing, and any https step would fail closed.
            return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        file, folder = self._env.get("SSL_CERT_FILE") or None, self._env.get("SSL_CERT_DIR") or None
        system = any(
            self._env.get(name, "").lower() in _TRUE for name in ("UV_SYSTEM_CERTS", "UV_NATIVE_TLS")
        )
        if file is None and folder is None and not system:
            import certifi

            file = certifi.where()
        try:
            context = ssl.create_default_context(cafile=file, capath=folder)
        except OSError as error:
            raise UsageError(
                "bad-certificate-file",
                f"SSL_CERT_FILE cannot be read: {error.strerror or error}",
                wanted="a PEM file of certificate authorities",
                found=str(file),
                hints=("unset SSL_CERT_FILE",),
            ) from error
        if trusted:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context
