"""Fetch one page over http(s): the only place that opens a connection to an index.

httpx is imported when the first page is asked for (a warm cache never does). Proxies, certificates, netrc
and uv's own variables come from the environment that the caller hands in.
"""

from __future__ import annotations

import re
import sys
import threading
import time
import urllib.parse
import zlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, cast

from msgspec import Struct

from torchinstall.core.errors import UsageError
from torchinstall.index.pages import BadPageError
from torchinstall.index.urls import check_secure, names_host, origin_of, redact, without_credentials

if TYPE_CHECKING:
    import ssl
    from types import ModuleType

    import httpx

__all__ = ["Fetcher", "NetworkEnv", "Reply", "RetryLater", "load_httpx"]


_ACCEPT = "application/vnd.pypi.simple.v1+json, text/html;q=0.9, application/vnd.pypi.simple.v1+html;q=0.8"
_REDIRECTS = 5
_RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
_MISSING = frozenset({403, 404, 410})


class Reply(Struct, frozen=True, kw_only=True):
    """What the index said.

    Attributes:
        status: 200, 304, or 403, 404, 410 for a page that is not there.
        text: of a 200.
        url: where it came from in the end, without credentials.
    """

    status: int
    url: str
    text: str = ""
    etag: str | None = None


class RetryLater(BadPageError):  # noqa: N818  it asks for something, it is no error yet
    """Asking again may help; `after` seconds were asked for by the server."""

    def __init__(self, slug: str, message: str, *, after: float | None = None) -> None:
        super().__init__(slug, message, retry=True)
        self.after = after


def load_httpx() -> None:
    """Import httpx without its command line, which drags click, pygments and rich in where they lie around.

    httpx takes a missing `httpx._main` for "no command line", and None in `sys.modules` means missing.
    """
    if "httpx" in sys.modules:
        return
    modules = cast("dict[str, ModuleType | None]", sys.modules)
    modules["httpx._main"] = None
    try:
        import httpx  # noqa: F401  the import is the point
    finally:
        del modules["httpx._main"]


class Fetcher:
    """Fetches pages, from several threads at once.

    Args:
        env: proxies, certificates and credentials, see `NetworkEnv`.
        allow_insecure: hosts that may be asked over http, or whose certificate need not be right.
        max_bytes: of one page after decompression.
    """

    def __init__(self, env: Mapping[str, str], allow_insecure: tuple[str, ...], max_bytes: int) -> None:
        self.allow_insecure = allow_insecure
        self.max_bytes = max_bytes
        self.env = NetworkEnv(env)
        self._clients: dict[tuple[str, bool, str | None], httpx.Client] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        """Let go of every connection."""
        with self._lock:
            for client in self._clients.values():
                client.close()
            self._clients.clear()

    def get(self, url: str, etag: str | None, deadline: float) -> Reply:
        """Fetch one page once, redirects within the index followed.

        Args:
            url: of the page; its credentials are used and never shown.
            etag: of the copy at hand, so that an unchanged page is a 304.
            deadline: on `time.monotonic()`; reading stops there, however the bytes drip.

        Raises:
            BadPageError: whatever went wrong, with a slug; `retry` says whether asking again may help.
            UsageError: `insecure-index`, `bad-certificate-file`, `bad-proxy`.
        """
        home = origin_of(url)
        current, auth = without_credentials(url), self.env.credentials(url)
        for _ in range(_REDIRECTS + 1):
            check_secure(current, self.allow_insecure)
            same = origin_of(current) == home
            reply = self._once(current, etag, auth if same else None, deadline)
            if isinstance(reply, Reply):
                return reply
            target = _join(current, reply)
            if not home.owns(target):
                raise BadPageError(
                    "index-redirect",
                    f"{redact(url)} redirects to another host, {redact(target)}",
                )
            current = without_credentials(target)
        raise BadPageError("index-redirect", f"{redact(url)} redirects more than {_REDIRECTS} times")

    def _once(self, url: str, etag: str | None, auth: tuple[str, str] | None, deadline: float) -> Reply | str:
        """One exchange: the reply, or where a redirect leads."""
        import httpx

        left = deadline - time.monotonic()
        if left <= 0:
            raise _timeout(url)
        headers = {"If-None-Match": etag} if etag else {}
        timeout = httpx.Timeout(left)
        try:
            with self._client(url).stream(
                "GET", url, headers=headers, auth=auth, timeout=timeout
            ) as response:
                return self._read(response, url, deadline)
        except httpx.TimeoutException:
            raise _timeout(url) from None
        except (httpx.ConnectError, httpx.ProxyError, httpx.UnsupportedProtocol) as error:
            raise _unreachable(url, error) from None
        except (httpx.TransportError, httpx.InvalidURL, zlib.error, ValueError) as error:
            raise RetryLater(
                "index-page-cut", f"{redact(url)} broke off: {str(error) or type(error).__name__}"
            ) from None

    def _read(self, response: httpx.Response, url: str, deadline: float) -> Reply | str:
        status = response.status_code
        if status in (301, 302, 303, 307, 308) and "location" in response.headers:
            return str(response.headers["location"])
        if status == 304 or status in _MISSING:
            return Reply(status=status, url=url, etag=response.headers.get("etag"))
        if status in _RETRIED:
            raise RetryLater(
                "index-unavailable",
                f"{redact(url)} answered {status}",
                after=_seconds(response.headers.get("retry-after")),
            )
        if status in (401, 407):
            raise BadPageError("index-unauthorized", f"{redact(url)} answered {status}: it wants credentials")
        if status != 200:
            raise BadPageError("index-unavailable", f"{redact(url)} answered {status}")
        declared = response.headers.get("content-length", "")
        if declared.isdigit() and int(declared) > self.max_bytes:
            raise self._too_large(url)
        pieces: list[bytes] = []
        size = 0
        for piece in _decoded(response, self.max_bytes):
            size += len(piece)
            if size > self.max_bytes:
                raise self._too_large(url)
            if time.monotonic() > deadline:
                raise _timeout(url)
            pieces.append(piece)
        text = b"".join(pieces).decode("utf-8", "replace")
        return Reply(status=status, url=url, text=text, etag=response.headers.get("etag"))

    def _too_large(self, url: str) -> BadPageError:
        return BadPageError(
            "index-page-too-large", f"{redact(url)} is larger than {self.max_bytes // 1_000_000} MB"
        )

    def _client(self, url: str) -> httpx.Client:
        proxy = self.env.proxy(url)
        trusted = names_host(self.allow_insecure, url)
        key = (urllib.parse.urlsplit(url).scheme, trusted, proxy)
        with self._lock:
            if key not in self._clients:
                self._clients[key] = self._new_client(url, proxy, trusted=trusted)
            return self._clients[key]

    def _new_client(self, url: str, proxy: str | None, *, trusted: bool) -> httpx.Client:
        import httpx

        from torchinstall import __version__

        headers = {
            "Accept": _ACCEPT,
            "Accept-Encoding": "gzip, deflate",
            "User-Agent": f"torchinstall/{__version__}",
        }
        try:
            return httpx.Client(
                verify=self.env.context(url, trusted=trusted), proxy=proxy, headers=headers, trust_env=False
            )
        except (ImportError, ValueError) as error:
            raise UsageError(
                "bad-proxy",
                f"the proxy {redact(proxy or '')} cannot be used: {error}",
                wanted="an http:// or https:// proxy",
                found=redact(proxy or ""),
                hints=("unset HTTPS_PROXY HTTP_PROXY ALL_PROXY",),
            ) from error


def _join(base: str, location: str) -> str:
    try:
        return urllib.parse.urljoin(base, location)
    except ValueError:
        return location


def _decoded(response: httpx.Response, limit: int) -> Iterator[bytes]:
    """The body, decompressed without ever holding more than `limit` bytes of it at once."""
    encoding = response.headers.get("content-encoding", "identity").lower()
    if encoding not in ("gzip", "deflate", "x-gzip"):
        yield from response.iter_raw()
        return
    decoder = zlib.decompressobj(wbits=47)
    for raw in response.iter_raw():
        yield decoder.decompress(raw, limit + 1)
    if not decoder.eof:
        raise zlib.error("the compressed page is incomplete")


def _seconds(text: str | None) -> float | None:
    try:
        return max(float(text), 0.0) if text else None
    except ValueError:
        return None


def _timeout(url: str) -> BadPageError:
    return BadPageError("index-timeout", f"{redact(url)} did not answer in time")


def _unreachable(url: str, error: Exception) -> BadPageError:
    host = origin_of(url).host
    text = str(error)
    if "CERTIFICATE" in text.upper():
        return BadPageError(
            "index-certificate", f"{host} showed a certificate that cannot be trusted: {text}"
        )
    return RetryLater("index-unreachable", f"{host} cannot be reached: {text or type(error).__name__}")


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
