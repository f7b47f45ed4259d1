"""Pages of an index (PEP 503 HTML, PEP 691 JSON) made into rows of the catalog.

What trips a reader up, and what is done about it: every page of a backend also lists what lies at the root
of its channel (dropped, but for packages that live there); hashes are missing (a link without one is fine);
names with spaces or a version inside the build tag (skipped); links to other hosts (dropped, and said).
"""

from __future__ import annotations

import html
import json
import re
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from msgspec import Struct

from torchinstall.catalog.model import Wheels
from torchinstall.core.request import Channel
from torchinstall.index.urls import origin_of, redact
from torchinstall.index.wheel_names import parse_name

__all__ = ["Anchor", "BadPageError", "Document", "Page", "PageFile", "parse_page", "parse_root", "scan"]


_FILE = re.compile(r"\.(?:whl|tar\.gz|zip|tar\.bz2|egg|tgz)$")
_SHA256 = re.compile(r"(?:^|&)sha256=([0-9a-f]{64})(?:&|$)")
_BACKEND_LIKE = re.compile(r"(?:cu\d+|rocm\d+\.\d+(?:\.\d+)?|cpu|xpu)")
_DIRECTORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class BadPageError(Exception):
    """A page that cannot be used; `retry` where asking again may help."""

    def __init__(self, slug: str, message: str, *, retry: bool = False) -> None:
        super().__init__(message)
        self.slug = slug
        self.message = message
        self.retry = retry


class PageFile(Struct, frozen=True):
    """One wheel of a page: its name, where it lies (no fragment), its sha256 where the page knows it."""

    filename: str
    url: str
    sha256: str | None


class Page(Struct, frozen=True, kw_only=True):
    """What a page says, without what cannot be used.

    Attributes:
        notes: what was left out and why, for a curious user.
    """

    wheels: tuple[Wheels, ...] = ()
    files: tuple[PageFile, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def hashes(self) -> Mapping[str, str]:
        """sha256 by file name."""
        return {file.filename: file.sha256 for file in self.files if file.sha256 is not None}


class _Link(Struct, frozen=True):
    filename: str
    url: str
    directory: str
    sha256: str | None


def parse_page(
    text: str,
    url: str,
    package: str,
    backend: str,
    channel: Channel = "stable",
    *,
    shared: bool = False,
) -> Page:
    """Read a package's page.

    Args:
        text: HTML, or PEP 691 JSON.
        url: where the page came from, after redirects; links are resolved against it and must stay on its
            host.
        package: normalised name; files of other packages are left out.
        backend: whose directory the page belongs to; files of other directories are left out.
        channel: for the rows.
        shared: the package's wheels may lie at the root of the channel for every backend (`triton`).

    Raises:
        BadPageError: `index-garbage` (not a page of links), `index-page-cut`, `index-links-outside` (nothing
            but links to other hosts).
    """
    links, notes = _links(text, url)
    rows: dict[tuple[str, str, str, str], set[str]] = {}
    files: dict[str, PageFile] = {}
    skipped = elsewhere = 0
    belongs = _directory_rule(url, backend, shared=shared)
    for link in links:
        name = parse_name(link.filename)
        if name is None:
            skipped += link.filename.endswith(".whl")
            continue
        if name.project != package:
            continue
        if not belongs(link.directory, name.local):
            elsewhere += 1
            continue
        rows.setdefault((name.version, name.local, name.build, name.platform), set()).add(name.tag)
        files.setdefault(link.filename, PageFile(link.filename, link.url, link.sha256))
    if skipped:
        notes.append(f"{redact(url)}: skipped {skipped} wheels whose names follow no rule")
    if elsewhere:
        notes.append(f"{redact(url)}: left out {elsewhere} wheels of other directories")
    wheels = tuple(
        Wheels(
            package=package,
            version=version,
            local=local,
            backend=backend,
            platform_tag=platform,
            tag_list=" ".join(sorted(tags)),
            origin="index",
            source=redact(url),
            confidence="high",
            channel=channel,
            build=build,
        )
        for (version, local, build, platform), tags in rows.items()
    )
    return Page(wheels=wheels, files=tuple(files.values()), notes=tuple(notes))


def parse_root(text: str, url: str) -> tuple[str, ...]:
    """The directories that an index's root page lists: packages and backends alike, in page order.

    Raises:
        BadPageError: as `parse_page`.
    """
    document = scan(text)
    if not document.complete:
        raise _cut(url)
    names: dict[str, None] = {}
    for anchor in document.anchors:
        href = anchor.href.partition("#")[0]
        segment = urllib.parse.unquote(href.rstrip("/").rpartition("/")[2])
        if href.endswith("/") and _DIRECTORY.fullmatch(segment):
            names[segment] = None
    if not names and not document.is_index:
        raise _garbage(url)
    return tuple(names)


def _links(text: str, url: str) -> tuple[list[_Link], list[str]]:
    raw = _json_links(text, url) if text.lstrip()[:1] == "{" else _html_links(text, url)
    origin = origin_of(url)
    allowed: dict[str, bool] = {}
    links: list[_Link] = []
    outside: dict[str, int] = {}
    for filename, directory, target, sha256 in raw:
        if directory not in allowed:
            allowed[directory] = origin.owns(directory)
        if allowed[directory]:
            links.append(_Link(filename, target, urllib.parse.urlsplit(directory).path, sha256))
        else:
            host = urllib.parse.urlsplit(directory).netloc.rpartition("@")[2] or "no host"
            outside[host] = outside.get(host, 0) + 1
    notes = [f"{redact(url)}: ignored {count} links to {host}" for host, count in outside.items()]
    if outside and not links:
        raise BadPageError(
            "index-links-outside",
            f"every link of {redact(url)} leads to another host ({', '.join(outside)})",
        )
    return links, notes


def _html_links(text: str, url: str) -> list[tuple[str, str, str, str | None]]:

    document = scan(text)
    if not document.complete:
        raise _cut(url)
    base = url if document.base is None else _join(url, document.base)
    directories: dict[str, str] = {}
    links: list[tuple[str, str, str, str | None]] = []
    for anchor in document.anchors:
        target, _, fragment = anchor.href.strip().partition("#")
        target = target.partition("?")[0]
        directory, _, segment = target.rpartition("/")
        filename = urllib.parse.unquote(segment)
        if not _FILE.search(filename):
            continue
        if directory not in directories:
            # A name after the slash keeps "//host" and "/x" apart; only the part before it is of use.
            joined = _join(base, f"{directory}/x" if "/" in target else "x")
            directories[directory] = joined.rpartition("/")[0] + "/"
        if anchor.yanked:
            continue
        match = _SHA256.search(fragment)
        parent = directories[directory]
        links.append((filename, parent, parent + segment, match[1] if match else None))
    if not directories and not document.is_index:
        raise _garbage(url)
    return links


def _json_links(text: str, url: str) -> list[tuple[str, str, str, str | None]]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        raise _cut(url) from None
    files = data.get("files") if isinstance(data, dict) else None
    if not isinstance(files, list):
        raise _garbage(url)
    return [link for row in files if (link := _json_link(row, url)) is not None]


def _json_link(row: Any, url: str) -> tuple[str, str, str, str | None] | None:
    if not isinstance(row, dict) or row.get("yanked"):
        return None
    filename, href, hashes = row.get("filename"), row.get("url"), row.get("hashes")
    if not isinstance(filename, str) or not isinstance(href, str):
        return None
    target = _join(url, href.partition("#")[0])
    digest = hashes.get("sha256") if isinstance(hashes, dict) else None
    valid = isinstance(digest, str) and _SHA256.search(f"sha256={digest}") is not None
    return filename, target.rpartition("/")[0] + "/", target, digest if valid else None


def _join(base: str, href: str) -> str:
    try:
        return urllib.parse.urljoin(base, href)
    except ValueError:
        return ""


def _directory_rule(url: str, backend: str, *, shared: bool) -> Callable[[str, str], bool]:
    """Whether a file of a directory (and with this local version) belongs to the backend's page."""
    page = urllib.parse.urlsplit(url).path.rstrip("/").rpartition("/")[0]
    root = page.removesuffix(f"/{backend}") if page.endswith(f"/{backend}") else None
    known: dict[str, bool | None] = {}

    def of_directory(directory: str) -> bool | None:
        segments = directory.strip("/").split("/")
        if backend in segments:
            return True
        at_root = root is not None and directory.rstrip("/") == root
        if at_root or segments in (["whl"], ["whl", "test"], ["whl", "nightly"]):
            return shared
        if any(_BACKEND_LIKE.fullmatch(segment) for segment in segments):
            return False
        return None

    def belongs(directory: str, local: str) -> bool:
        if directory not in known:
            known[directory] = of_directory(directory)
        verdict = known[directory]
        if verdict is None:
            # A mirror with a layout of its own: only the local version can tell.
            return not local or local == backend or not _BACKEND_LIKE.fullmatch(local)
        return verdict

    return belongs


def _cut(url: str) -> BadPageError:
    return BadPageError("index-page-cut", f"{redact(url)} ends in the middle", retry=True)


def _garbage(url: str) -> BadPageError:
    return BadPageError(
        "index-garbage",
        f"{redact(url)} is not a page of links; a login page or another service answers there",
    )


_START = re.compile(
    r"<(?:(?P<comment>!--)|(?P<raw>script|style|textarea)\b|(?P<tag>a|base)(?=[\s/]))", re.IGNORECASE
)
_REST = re.compile(r"((?:[^>\"']|\"[^\"]*\"|'[^']*')*)>")
_ATTRIBUTE = re.compile(r"([^\s\"'<>/=]+)(?:\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s\"'=<>`]+)))?", re.DOTALL)
_LINKS_TITLE = re.compile(r"<(?:title|h1|h2)[^>]*>\s*(?:links for|simple index|index of)\b", re.IGNORECASE)
_INDEX_META = re.compile(r"<meta\b[^>]*pypi:repository-version", re.IGNORECASE)
_HEAD = 4096
"""Characters in which a page says what it is."""

_OPENED = re.compile(r"<(?:!doctype\s+html|html|body)\b", re.IGNORECASE)
_CLOSED = re.compile(r"</(?:html|body)\s*>", re.IGNORECASE)


class Anchor(Struct, frozen=True):
    """One link: where to, and whether its publisher withdrew it."""

    href: str
    yanked: bool


class Document(Struct, frozen=True):
    """What a page links to.

    Attributes:
        base: href of its `<base>`, None without one.
        complete: it ends as it began; a page that was cut off does not.
        is_index: it says of itself that it is a page of links (it may be an empty one).
    """

    anchors: tuple[Anchor, ...]
    base: str | None
    complete: bool
    is_index: bool


def scan(text: str) -> Document:
    """Read an HTML page; never raises, whatever it is."""
    anchors: list[Anchor] = []
    base: str | None = None
    for tag, attributes in _tags(text):
        href = attributes.get("href")
        if href is None:
            continue
        if tag == "a":
            anchors.append(Anchor(href, "data-yanked" in attributes))
        elif base is None:
            base = href
    head = text[:_HEAD]
    return Document(
        anchors=tuple(anchors),
        base=base,
        complete=_OPENED.search(head) is None or _CLOSED.search(text) is not None,
        is_index=_LINKS_TITLE.search(head) is not None or _INDEX_META.search(head) is not None,
    )


def _tags(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    """The `<a>` and `<base>` tags; what is never closed ends the page, so no page costs quadratic time."""
    position = 0
    while (start := _START.search(text, position)) is not None:
        if start["comment"]:
            position = text.find("-->", start.end())
        elif start["raw"]:
            end = re.compile(rf"</{start['raw']}\s*>", re.IGNORECASE).search(text, start.end())
            position = end.end() if end else -1
        else:
            rest = _REST.match(text, start.end())
            position = rest.end() if rest else -1
            if rest:
                yield start["tag"].lower(), _attributes(rest[1])
        if position < 0:
            return


def _attributes(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, double, single, bare in _ATTRIBUTE.findall(text):
        value = double or single or bare
        found.setdefault(name.lower(), html.unescape(value) if "&" in value else value)
    return found
