"""URLs of a PyTorch index: how they are built and recognised, and which URLs belong to one index.

PyTorch serves one index from three hosts (the pages link from one to the other), so they count as one origin;
any other index is exactly its own scheme, host and port.
"""

from __future__ import annotations

import ipaddress
import re
import urllib.parse
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path

from msgspec import Struct

from torchinstall.core.errors import UsageError
from torchinstall.core.messages import redact
from torchinstall.core.request import DEFAULT_INDEX_BASE

BACKEND_NAME = re.compile(r"cu\d{2,}|rocm\d+(?:\.\d+)+|cpu|xpu")
"""The names of directories that hold builds; `backend_kinds.json` says what each one means."""

_LOCAL = re.compile(rf"({BACKEND_NAME.pattern})(?:(?:a|b|rc)\d+)?(?:\.[a-z].*)?")

LINKS = "#links"
"""Ends the URL of one page with every file, in place of a page for each package."""

_OFFICIAL_HOSTS = frozenset(
    {"download.pytorch.org", "download-r2.pytorch.org", "d21usjoq99fcb9.cloudfront.net"}
)
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_PLACEHOLDER = r"\{([^{}]*)\}"
_DEFAULT_PORTS = {"http": 80, "https": 443}


def backend_of_local(local: str) -> str | None:
    """The backend that a local version names: `cu128`, `cpu.cxx11.abi`, `rocm7.13.0a20260401`; or None."""
    match = _LOCAL.fullmatch(local)
    return match[1] if match else None


class Origin(Struct, frozen=True):
    """Where an index lives; `owns` says whether a URL lives there too."""

    scheme: str
    host: str
    port: int

    @property
    def official(self) -> bool:
        """Whether this is PyTorch's own index."""
        return self.host in _OFFICIAL_HOSTS and (self.scheme, self.port) == ("https", 443)

    def owns(self, url: str) -> bool:
        """Whether a URL lies on the index's own host; a step from https down to http never does."""
        try:
            other = origin_of(url)
        except ValueError:
            return False
        if self.official and other.official:
            return True
        upgrade = self.scheme == "http" and other.scheme == "https" and self.port == _DEFAULT_PORTS["http"]
        if upgrade and other.port == _DEFAULT_PORTS["https"]:
            return self.host == other.host
        return self == other


def origin_of(url: str) -> Origin:
    """The origin of an absolute http(s) URL.

    Raises:
        ValueError: another scheme, no host, or a port that is no number.
    """
    parts = urllib.parse.urlsplit(url)
    scheme, host = parts.scheme.lower(), (parts.hostname or "").rstrip(".")
    if scheme not in _DEFAULT_PORTS or not host:
        raise ValueError(f"not an http URL: {redact(url)}")
    return Origin(scheme, host, parts.port or _DEFAULT_PORTS[scheme])


class PyTorchIndex(Struct, frozen=True):
    """What a URL says of the PyTorch index that it names.

    Attributes:
        backend: `cu128`; None where it serves all of them (a channel's root, `torch_stable.html`).
        certain: on PyTorch's own hosts or below the index base in use. Otherwise its path merely has the
            shape of a mirror (`…/whl/cu128`, `…/cu128/simple`), which any other index may have too.
    """

    backend: str | None
    channel: str
    certain: bool


def pytorch_index(
    url: str,
    is_backend: Callable[[str], object] = BACKEND_NAME.fullmatch,
    *,
    index_base: str = DEFAULT_INDEX_BASE,
) -> PyTorchIndex | None:
    """Recognise the URL of a PyTorch index, of one of its mirrors, or of a page of links (`find-links`).

    `is_backend` says whether a name is a backend; `index_base` is the one in use, a template included.
    """
    try:
        parts = urllib.parse.urlsplit(without_credentials(url.strip()))
        origin = origin_of(url)
    except ValueError:
        return None
    segments = [segment for segment in parts.path.split("/") if segment]
    named = [segment for segment in segments if is_backend(segment)]
    channel = next((segment for segment in segments if segment in ("test", "nightly")), "stable")
    served = _base_pattern(index_base).match(without_credentials(url.strip()))
    if served is not None and "backend" in served.groupdict():
        served = served if is_backend(served["backend"]) else None
        named = [served["backend"]] if served else named
    if origin.host in _OFFICIAL_HOSTS or served:
        return PyTorchIndex(named[-1] if named else None, channel, certain=True)
    while segments and segments[-1] in _AFTER_BACKEND:
        links = segments.pop() == "torch_stable.html"
        if links and not named:
            return PyTorchIndex(None, channel, certain=False)
    if not segments or not is_backend(segments[-1]):
        return None
    return PyTorchIndex(segments[-1], channel, certain=False)


def backend_in(urls: Iterable[str], is_backend: Callable[[str], object]) -> str | None:
    """The backend of the first of these URLs that is of a PyTorch index with one backend."""
    indexes = (pytorch_index(url, is_backend) for url in urls)
    return next((index.backend for index in indexes if index is not None and index.backend), None)


_AFTER_BACKEND = frozenset({"simple", "+simple", "stable", "test", "nightly", "torch_stable.html"})
"""What may follow the backend in the path of a mirror."""


@lru_cache(maxsize=8)
def _base_pattern(index_base: str) -> re.Pattern[str]:
    """Matches an index base (filled in where it is a template) and what lies below it."""
    text = re.escape(without_credentials(index_base.strip()).rstrip("/"))
    text = text.replace(r"\{backend\}", "(?P<backend>[^/?#]+)").replace(
        r"\{channel\}/", "(?:test/|nightly/)?"
    )
    return re.compile(text.replace(r"/\{channel\}", "(?:/test|/nightly)?") + "(?:[/?#]|$)")


def index_url(index_base: str, channel: str, backend: str) -> str:
    """The index of one backend, without a slash at its end.

    The base is `https://host/whl`, to which `/nightly` or `/test` and the backend are added, or a template
    with `{backend}`, a flat one with `/{package}` at its end, or the URL of one page with every file and
    `#links` at its end; with `{channel}` where it serves more than stable (which omits that segment).

    Raises:
        UsageError: not an http(s) URL, or a template that lacks what is needed.
    """
    base = checked_base(index_base)
    if base.endswith(LINKS):
        return base
    if base.endswith("/{package}"):
        return base.removesuffix("/{package}")
    _check_name(backend)
    if "{" not in base:
        return f"{root_url(base, channel)}/{backend}"
    if channel == "stable":
        filled = base.replace("{channel}/", "").replace("{channel}", "")
    elif "{channel}" in base:
        filled = base.replace("{channel}", channel)
    else:
        raise UsageError(
            "index-template-without-channel",
            f"the index template {redact(base)} does not say where the {channel} channel is",
            wanted="a template with {channel}",
            found=redact(base),
            hints=("--channel stable", "--index-base 'https://mirror.example/{channel}/{backend}'"),
        )
    return filled.replace("{backend}", backend).rstrip("/")


def root_url(index_base: str, channel: str) -> str | None:
    """The page that lists the backends of a channel, without a slash; None for a template, which has none."""
    base = checked_base(index_base)
    if "{" in base or base.endswith(LINKS):
        return None
    return base if channel == "stable" else f"{base}/{channel}"


def page_url(index_base: str, channel: str, backend: str, package: str) -> str:
    """The page of one package."""
    _check_name(package)
    url = index_url(index_base, channel, backend)
    return url.removesuffix(LINKS) if url.endswith(LINKS) else f"{url}/{package}/"


def checked_base(index_base: str, source: str = "flag --index-base") -> str:
    """An index base without a slash at its end; `source` says who named it.

    Raises:
        UsageError: `bad-index-base`.
    """
    base = index_base.strip().rstrip("/")
    unknown = set(re.findall(_PLACEHOLDER, base)) - {"backend", "channel", "package"}
    divided = base.removesuffix("/{package}")
    incomplete = "{" in divided and "{backend}" not in divided
    try:
        origin_of(re.sub(_PLACEHOLDER, "x", base))
        parts = urllib.parse.urlsplit(base.removesuffix(LINKS))
        wrong = bool(parts.query or parts.fragment or parts.port == 0 or re.search(r"\s", base))
    except ValueError:
        wrong = True
    if not (wrong or unknown or incomplete or "{package}" in divided):
        return base
    shown = redact(base) if "//" in base else redact(f"//{base}")[2:]
    example = "'https://mirror.example/{channel}/{backend}'" if incomplete else "https://mirror.example/whl"
    if re.match(r"[\w-]+(\.[\w-]+)+(:\d+)?/", shown):
        example = f"https://{shown}"
    gone = "omit --index-base" if source.startswith("flag ") else f"take it out of the {source}"
    folder = "://" not in base or base.startswith("file:")
    raise UsageError(
        "bad-index-base",
        f"{shown!r} is not the http(s) URL of an index that pages can be added to",
        wanted="a URL such as https://mirror.example/whl, a template with {backend}, or default",
        found=f"{shown or 'nothing'} ({source})",
        hints=(
            f"--index-base {example}",
            *([f"for a folder of wheels: {gone}, and give --find-links DIR"] if folder else []),
        ),
    )


def _check_name(name: str) -> None:
    if not re.fullmatch(_NAME, name):
        raise UsageError(
            "bad-index-name",
            f"{name!r} cannot be part of an index URL",
            wanted="letters, digits, dots, dashes and underscores",
            found=name[:60],
        )


def is_loopback(host: str) -> bool:
    """Whether a host is this machine without asking a resolver."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def names_host(entries: tuple[str, ...], url: str) -> bool:
    """Whether one of `--allow-insecure-host` (`host`, `host:port`, or a URL) names the host of `url`."""
    origin = origin_of(url)
    for entry in entries:
        parts = urllib.parse.urlsplit(entry if "//" in entry else f"//{entry}")
        try:
            port = parts.port
        except ValueError:
            continue
        if parts.hostname == origin.host and port in (None, origin.port):
            return True
    return False


def check_secure(url: str, allow_insecure: tuple[str, ...]) -> None:
    """Refuse plain http, except on this machine or where the user named the host.

    Raises:
        UsageError: `insecure-index`.
    """
    origin = origin_of(url)
    if origin.scheme == "https" or is_loopback(origin.host) or names_host(allow_insecure, url):
        return
    raise UsageError(
        "insecure-index",
        f"{redact(url)} is not https, so anyone on the way could change what is installed",
        wanted="https, or a host that was named as insecure",
        found=f"{origin.scheme}://{origin.host}",
        hints=(f"--allow-insecure-host {origin.host}", f"--index-base https://{origin.host}/…"),
    )


def without_credentials(url: str) -> str:
    """The same URL without user and password."""
    scheme, mark, rest = url.partition("://")
    if not mark:
        return url
    authority, slash, path = rest.partition("/")
    return f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"


def file_name(url: str) -> str:
    """The name of the file that a URL leads to."""
    return urllib.parse.unquote(urllib.parse.urlsplit(url).path).rpartition("/")[2]


def file_path(text: str) -> Path:
    """The path that a `file:` URL names; any other text is a path already."""
    if not text.startswith("file:"):
        return Path(text)
    path = urllib.parse.unquote(urllib.parse.urlsplit(text).path)
    return Path(re.sub(r"^/(?=[A-Za-z]:)", "", path))  # file:///C:/wheels
