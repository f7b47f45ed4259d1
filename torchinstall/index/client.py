"""The one HTTP client: pages, wheels and parts of wheels, from several threads at once.

Importing this module imports httpx, so it is imported only when something must be asked for, which a warm
cache spares.
Proxies, certificates, netrc and uv's own variables come from the environment that the caller hands in.
"""

from __future__ import annotations

import contextlib
import netrc
import re
import ssl
import sys
import threading
import time
import urllib.parse
import zlib
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import certifi
from msgspec import Struct

from torchinstall import __version__
from torchinstall.core.errors import UsageError
from torchinstall.core.messages import is_on, redact
from torchinstall.index.faults import MOST_BYTES, FetchError
from torchinstall.index.urls import check_secure, names_host, origin_of, without_credentials

# httpx imports its command line, which imports click, pygments and rich where they are installed; it takes a
# missing `httpx._main` for "no command line", and None in `sys.modules` means missing.
_modules = cast("dict[str, Any]", sys.modules)
_modules.setdefault("httpx._main", None)
import httpx  # noqa: E402  after the line above

if _modules["httpx._main"] is None:
    del _modules["httpx._main"]

_ACCEPT = "application/vnd.pypi.simple.v1+json, text/html;q=0.9, application/vnd.pypi.simple.v1+html;q=0.8"
_MOST_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
_MISSING = frozenset({403, 404, 410})
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")
_PATIENCE = 60.0
"""Seconds without a byte, where there is no deadline."""

_CONNECT = 3.0
"""Seconds until a host counts as out of reach: a firewall that drops packets says nothing."""


_INDEXES = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL")
"""Variables of uv with URLs that may hold a password for the files of their index."""


class Reply(Struct, frozen=True, kw_only=True):
    """What the index said of a page.

    Attributes:
        status: 200, 304, or 403, 404, 410 for a page that is not there.
        text: of a 200.
        url: where it came from in the end, without credentials.
    """

    status: int
    url: str
    text: str = ""
    etag: str | None = None


class Client:
    """Asks for URLs.

    Args:
        env: see `NetworkEnv`.
        allow_insecure: hosts that may be asked over http, or whose certificate need not be right.
        known_urls: URLs that may carry user and password for others on the same host, as uv's variables may.
    """

    def __init__(
        self, env: Mapping[str, str], allow_insecure: tuple[str, ...] = (), known_urls: Iterable[str] = ()
    ) -> None:
        self.allow_insecure = (*allow_insecure, *env.get("UV_INSECURE_HOST", "").replace(",", " ").split())
        self.env = NetworkEnv(env)
        known = (*known_urls, *(part for name in _INDEXES for part in env.get(name, "").split()))
        self._secrets = [url for url in known if "@" in url.partition("?")[0] and "://" in url]
        self._clients: dict[tuple[str, bool, str | None], httpx.Client] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        """Drop every connection."""
        with self._lock:
            for client in self._clients.values():
                client.close()
            self._clients.clear()

    def page(self, url: str, etag: str | None, deadline: float, max_bytes: int) -> Reply:
        """Fetch one page once, redirects within the index followed.

        Args:
            url: of the page; its credentials are used and never shown.
            etag: of the copy at hand, so that an unchanged page is a 304.
            deadline: on `time.monotonic()`; reading stops there, however the bytes drip.
            max_bytes: of the page after decompression.

        Raises:
            FetchError, UsageError: as `open`.
        """
        headers = {"Accept": _ACCEPT, **({"If-None-Match": etag} if etag else {})}
        with self.open(url, headers, accept=_MISSING | {200, 304}, deadline=deadline, stay=True) as response:
            shown = without_credentials(str(response.url))
            text = ""
            if response.status_code == 200:
                text = _body(response, shown, deadline, max_bytes).decode("utf-8", "replace")
            found = response.headers.get("etag")
            return Reply(status=response.status_code, url=shown, text=text, etag=found)

    def size(self, url: str, deadline: float | None = None) -> int | None:
        """The bytes of a file; None where its server does not say.

        Raises:
            FetchError: whatever went wrong.
            UsageError: as `open`.
        """
        headers = {"Accept-Encoding": "identity", "Range": "bytes=0-0"}
        with self.open(url, headers, accept=frozenset({200, 206}), deadline=deadline) as response:
            match = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
            said = match[2] if match is not None else response.headers.get("content-length", "")
            size = int(said) if re.fullmatch(r"\d{1,15}", said) else None
            return size if size is not None and size < MOST_BYTES else None

    def part(self, url: str, start: int, length: int, deadline: float | None = None) -> tuple[bytes, int]:
        """Some bytes of a file, and the size of the whole file.

        Raises:
            FetchError: `no-ranges` where the server sends the whole file or nothing, or as `open`.
        """
        headers = {"Accept-Encoding": "identity", "Range": f"bytes={start}-{start + length - 1}"}
        with self.open(url, headers, accept=frozenset({200, 206, 416}), deadline=deadline) as response:
            match = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
            if response.status_code != 206 or match is None or int(match[1]) != start:
                message = f"the server of {redact(url)} does not send parts of a file"
                raise FetchError("no-ranges", message)
            body = bytearray()
            for piece in response.iter_raw():
                body += piece
                if len(body) > length:
                    raise FetchError("no-ranges", f"{redact(url)} sent more than was asked for")
            return bytes(body), int(match[2])

    @contextlib.contextmanager
    def open(
        self,
        url: str,
        headers: Mapping[str, str],
        *,
        accept: frozenset[int],
        deadline: float | None = None,
        stay: bool = False,
    ) -> Iterator[httpx.Response]:
        """A response whose body is still to be read, redirects followed.

        Args:
            url: its credentials (or those known for its host) are sent to its own host only.
            headers: such as `Range`.
            accept: statuses that the caller handles; others are errors.
            deadline: on `time.monotonic()`; None: as long as bytes come.
            stay: a redirect must stay within the index.

        Raises:
            FetchError: also for what goes wrong while the body is read.
            UsageError: `insecure-index`, `bad-certificate-file`, `bad-proxy`.
        """
        home, current, auth = origin_of(url), without_credentials(url), self._auth(url)
        try:
            for _ in range(_MOST_REDIRECTS + 1):
                check_secure(current, self.allow_insecure)
                left = _PATIENCE if deadline is None else deadline - time.monotonic()
                if left <= 0:
                    raise _timeout(current)
                mine = auth if origin_of(current) == home else None
                client = self._client(current)
                patience = httpx.Timeout(left, connect=min(left, _CONNECT))
                with client.stream("GET", current, headers=headers, auth=mine, timeout=patience) as response:
                    target = response.headers.get("location")
                    if response.status_code not in _REDIRECTS or target is None:
                        _check_status(response, current, accept)
                        yield response
                        return
                with contextlib.suppress(ValueError):
                    target = urllib.parse.urljoin(current, target)
                if stay and not home.owns(target):
                    message = f"{redact(url)} redirects to another host, {redact(target)}"
                    raise FetchError("index-redirect", message)
                current = without_credentials(target)
        except httpx.TimeoutException:
            raise _timeout(current) from None
        except (httpx.ConnectError, httpx.ProxyError, httpx.UnsupportedProtocol) as error:
            raise _unreachable(current, error) from None
        except (httpx.TransportError, httpx.InvalidURL, zlib.error, ValueError) as error:
            message = f"{redact(current)} broke off: {str(error) or type(error).__name__}"
            raise FetchError("index-page-cut", message, retry=True) from None
        raise FetchError("index-redirect", f"{redact(url)} redirects more than {_MOST_REDIRECTS} times")

    def _auth(self, url: str) -> tuple[str, str] | None:
        if own := self.env.credentials(url):
            return own
        origin = origin_of(url)
        same = (secret for secret in self._secrets if origin.owns(without_credentials(secret)))
        return next((self.env.credentials(secret) for secret in same), None)

    def _client(self, url: str) -> httpx.Client:
        proxy = self.env.proxy(url)
        trusted = names_host(self.allow_insecure, url)
        key = (urllib.parse.urlsplit(url).scheme, trusted, proxy)
        headers = {"Accept-Encoding": "gzip, deflate", "User-Agent": f"torchinstall/{__version__}"}
        with self._lock:
            if key not in self._clients:
                context = self.env.context(url, trusted=trusted)
                try:
                    self._clients[key] = httpx.Client(
                        verify=context, proxy=proxy, headers=headers, trust_env=False
                    )
                except (ImportError, ValueError) as error:
                    raise UsageError(
                        "bad-proxy",
                        f"the proxy {redact(proxy or '')} cannot be used: {error}",
                        wanted="an http:// or https:// proxy",
                        found=redact(proxy or ""),
                        hints=("unset HTTPS_PROXY HTTP_PROXY ALL_PROXY",),
                    ) from error
            return self._clients[key]


def _check_status(response: httpx.Response, url: str, accept: frozenset[int]) -> None:
    status = response.status_code
    if status in accept:
        return
    if status in (401, 407):
        raise FetchError("index-unauthorized", f"{redact(url)} answered {status}: it needs credentials")
    after = 0.0
    with contextlib.suppress(ValueError):
        after = max(float(response.headers.get("retry-after", "0")), 0.0)
    message = f"{redact(url)} answered {status}"
    raise FetchError("index-unavailable", message, retry=status in _RETRIED, after=after)


def _body(response: httpx.Response, url: str, deadline: float, max_bytes: int) -> bytes:
    """The body, decompressed without ever holding more than `max_bytes` of it at once."""
    limit = f"{max_bytes // 1_000_000} MB"
    too_large = FetchError("index-page-too-large", f"{redact(url)} is larger than {limit}")
    declared = response.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > max_bytes:
        raise too_large
    encoding = response.headers.get("content-encoding", "identity").lower()
    decoder = zlib.decompressobj(wbits=47) if encoding in ("gzip", "deflate", "x-gzip") else None
    body = bytearray()
    for raw in response.iter_raw():
        body += raw if decoder is None else decoder.decompress(raw, max_bytes + 1)
        if len(body) > max_bytes:
            raise too_large
        if time.monotonic() > deadline:
            raise _timeout(url)
    if decoder is not None and not decoder.eof:
        raise zlib.error("the compressed page is incomplete")
    return bytes(body)


def _timeout(url: str) -> FetchError:
    return FetchError("index-timeout", f"{redact(url)} did not answer in time")


def _unreachable(url: str, error: Exception) -> FetchError:
    host, text = origin_of(url).host, str(error)
    if "CERTIFICATE" in text.upper():
        return FetchError("index-certificate", f"{host} showed a certificate that cannot be trusted: {text}")
    message = f"{host} cannot be reached: {text or type(error).__name__}"
    return FetchError("index-unreachable", message, retry=True)


_NOT_IN_NAMES = re.compile(r"[^A-Z0-9]+")


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
        if path is None or not Path(path).is_file():
            return None
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
        """Certificates to trust for a URL; `trusted`: any certificate will do.

        Raises:
            UsageError: `bad-certificate-file`.
        """
        if urllib.parse.urlsplit(url).scheme != "https":
            # No certificate authority at all: costs nothing, and any https step would fail closed.
            return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        file, folder = self._env.get("SSL_CERT_FILE") or None, self._env.get("SSL_CERT_DIR") or None
        system = any(is_on(self._env.get(name)) for name in ("UV_SYSTEM_CERTS", "UV_NATIVE_TLS"))
        if file is None and folder is None and not system:
            file = certifi.where()
        try:
            return _context(file, folder, trusted=trusted)
        except OSError as error:
            raise UsageError(
                "bad-certificate-file",
                f"SSL_CERT_FILE cannot be read: {error.strerror or error}",
                wanted="a PEM file of certificate authorities",
                found=str(file),
                hints=("unset SSL_CERT_FILE",),
            ) from error


@lru_cache(maxsize=4)
def _context(file: str | None, folder: str | None, *, trusted: bool) -> ssl.SSLContext:
    """One for a run: to read the authorities takes 25 ms."""
    context = ssl.create_default_context(cafile=file, capath=folder)
    if trusted:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
