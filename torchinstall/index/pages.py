"""Pages of an index (PEP 503 HTML, PEP 691 JSON) made into rows of the catalog.

What is special about these pages, and what is done about it: every page of a backend also lists what lies at
the root of its channel (omitted, but for packages that live there); hashes are missing (a link without one is
fine); names with spaces or a version inside the build tag (skipped); links to other hosts (omitted, with a
note).
"""

import re
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

import msgspec
from msgspec import Struct, structs

from torchinstall.catalog.model import Origin, Wheels
from torchinstall.core.messages import redact
from torchinstall.core.request import Channel
from torchinstall.index.faults import MOST_BYTES, FetchError
from torchinstall.index.urls import BACKEND_NAME, origin_of
from torchinstall.index.wheels import File, Properties, merged, metadata_values, parse_name

VARIANTS = "-variants.json"
"""Ends the name of the file with the properties of a release's wheel variants."""

_FILES = (".whl", ".tar.gz", ".zip", ".tar.bz2", ".egg", ".tgz", VARIANTS)
_SHA256 = r"(?:^|&)sha256=([0-9a-f]{64})(?:&|$)"
_DIRECTORY = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_LINKS_TITLE = r"(?i)<(?:title|h1|h2)[^>]*>\s*(?:links for|simple index|index of)\b"
_INDEX_META = r"(?i)<meta\b[^>]*pypi:repository-version"
_OPENED = r"(?i)<(?:!doctype\s+html|html|body)\b"
_CLOSED = r"(?i)</(?:html|body)\s*>"
_HEAD = 4096
"""Characters in which a page says what it is."""


class Needs(Struct, frozen=True, omit_defaults=True):
    """What the metadata of a release asks for: `Requires-Python`, and each `Requires-Dist`."""

    python: str = ""
    packages: tuple[str, ...] = ()


class Page(Struct, frozen=True, kw_only=True):
    """What a page says, without what cannot be used.

    Attributes:
        notes: what was omitted and why, for a curious user.
        variants: by version, the properties of each label of its wheel variants.
        needs: by version, what its metadata asks for.
    """

    wheels: tuple[Wheels, ...] = ()
    files: tuple[File, ...] = ()
    notes: tuple[str, ...] = ()
    variants: Mapping[str, Mapping[str, Properties]] = {}
    needs: Mapping[str, Needs] = {}


def parse_page(
    text: str,
    url: str,
    package: str,
    backend: str,
    channel: Channel = "stable",
    *,
    shared: bool = False,
    any_host: bool = False,
) -> Page:
    """Read a package's page (HTML, or PEP 691 JSON).

    Args:
        text: the page.
        url: where it came from, after redirects; links are resolved against it and must stay on its host.
        package: normalised name; files of other packages are omitted.
        backend: whose directory the page belongs to; files of other directories are omitted. Empty for an
            index that is not divided by backend: the local version or the URL says what a wheel is for.
        channel: for the rows.
        shared: the package's wheels may lie at the root of the channel for every backend (`triton`).
        any_host: files may lie on other hosts, as those of PyPI do; only what is said of them is of use.

    Raises:
        FetchError: `index-garbage` (not a page of links), `index-page-cut`, `index-links-outside` (nothing
            but links to other hosts).
    """
    links, notes = (links_of(text, url), []) if any_host else _inside(links_of(text, url), url)
    rows: list[Wheels] = []
    files: dict[str, File] = {}
    origin: Origin = "index" if backend else "vendor"
    belongs, source = _directory_rule(url, backend, shared=shared), redact(url)
    in_path = next(filter(BACKEND_NAME.fullmatch, urllib.parse.urlsplit(url).path.split("/")), "")
    for link in links:
        name = parse_name(link.filename, variants=not backend)
        if name is None and not backend and link.filename.endswith(VARIANTS):
            files.setdefault(link.filename, link)
        elif name is not None and name.package == package and belongs(link.directory, name.local):
            # The vendor's own local versions, else a backend in the path of the page, else nothing.
            own = backend or name.backend or in_path
            rows.append(structs.replace(name, backend=own, origin=origin, channel=channel, source=source))
            files.setdefault(link.filename, link)
    return Page(wheels=merged(rows), files=tuple(files.values()), notes=tuple(notes))


def read_needs(metadata: str) -> Needs:
    """What a release needs, of its METADATA."""
    python = next(iter(metadata_values(metadata, "Requires-Python")), "")
    return Needs(python, tuple(metadata_values(metadata, "Requires-Dist")))


def parse_root(text: str, url: str) -> tuple[str, ...]:
    """The directories that an index's root page lists: packages and backends alike, in page order.

    Raises:
        FetchError: as `parse_page`.
    """
    names: dict[str, None] = {}
    for href in _document(text, url)[0]:
        target = href["href"].partition("#")[0]
        segment = urllib.parse.unquote(target.rstrip("/").rpartition("/")[2])
        if target.endswith("/") and re.fullmatch(_DIRECTORY, segment):
            names[segment] = None
    if not names and not _is_index(text):
        raise _garbage(url)
    return tuple(names)


def links_of(text: str, url: str) -> list[File]:
    """The files that a page links to, on whatever host, but for those that their publisher withdrew.

    Raises:
        FetchError: `index-garbage`, `index-page-cut`.
    """
    if text.lstrip()[:1] == "{":
        return _json_links(text, url)
    anchors, base_href = _document(text, url)
    base = url if base_href is None else _join(url, base_href)
    directories: dict[str, str] = {}
    links: list[File] = []
    for anchor in anchors:
        target, _, fragment = anchor["href"].strip().partition("#")
        directory, _, segment = target.partition("?")[0].rpartition("/")
        filename = urllib.parse.unquote(segment)
        if not filename.endswith(_FILES):
            continue
        if directory not in directories:
            # A name after the slash keeps "//host" and "/x" apart; only the part before it is of use.
            joined = _join(base, f"{directory}/x" if "/" in target else "x")
            directories[directory] = joined.rpartition("/")[0] + "/"
        if "data-yanked" not in anchor:
            match = re.search(_SHA256, fragment)
            links.append(File(filename, directories[directory] + segment, match[1] if match else None))
    if not directories and not _is_index(text):
        raise _garbage(url)
    return links


def _document(text: str, url: str) -> tuple[list[dict[str, str]], str | None]:
    """The attributes of every `<a href>`, and the href of `<base>`."""
    from html.parser import HTMLParser

    anchors: list[dict[str, str]] = []
    bases: list[str] = []

    class Parser(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag not in ("a", "base"):
                return
            found = {name: value or "" for name, value in reversed(attrs)}  # the first of its name counts
            if tag == "a" and "href" in found:
                anchors.append(found)
            elif "href" in found:
                bases.append(found["href"])

    # Not closed: what is never finished ends the page, so that no page costs quadratic time.
    Parser(convert_charrefs=True).feed(text)
    if re.search(_OPENED, text[:_HEAD]) and not re.search(_CLOSED, text):
        raise _cut(url)
    return anchors, bases[0] if bases else None


def _is_index(text: str) -> bool:
    """Whether a page says of itself that it is a page of links (it may be an empty one)."""
    head = text[:_HEAD]
    return bool(re.search(_LINKS_TITLE, head) or re.search(_INDEX_META, head))


def _json_links(text: str, url: str) -> list[File]:
    try:
        data = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        raise _cut(url) from None
    files = data.get("files") if isinstance(data, dict) else None
    if not isinstance(files, list):
        raise _garbage(url)
    return [link for row in files for link in _json_link(row, url)]


def _json_link(row: Any, url: str) -> Iterator[File]:
    if not isinstance(row, dict) or row.get("yanked"):
        return
    filename, href, hashes = row.get("filename"), row.get("url"), row.get("hashes")
    if isinstance(filename, str) and isinstance(href, str):
        target = _join(url, href.partition("#")[0])
        digest = hashes.get("sha256") if isinstance(hashes, dict) else None
        match = re.search(_SHA256, f"sha256={digest}")
        size = row.get("size")
        size = size if isinstance(size, int) and 0 <= size < MOST_BYTES else None
        yield File(filename, target, match[1] if match else None, size)


def _inside(links: list[File], url: str) -> tuple[list[File], list[str]]:
    """The links that stay on the index's own host, and notes on the others."""
    origin = origin_of(url)
    owned = {directory: origin.owns(directory) for directory in {link.directory for link in links}}
    inside = [link for link in links if owned[link.directory]]
    outside = (urllib.parse.urlsplit(directory).hostname for directory, own in owned.items() if not own)
    hosts = ", ".join(sorted({host or "no host" for host in outside}))
    if hosts and not inside:
        message = f"every link of {redact(url)} leads to another host ({hosts})"
        raise FetchError("index-links-outside", message)
    ignored = f"{redact(url)}: ignored {len(links) - len(inside)} links to {hosts}"
    return inside, [ignored] if hosts else []


def _directory_rule(url: str, backend: str, *, shared: bool) -> Callable[[str, str], bool]:
    """Whether a file of a directory (and with this local version) belongs to the backend's page."""
    page = urllib.parse.urlsplit(url).path.rstrip("/").rpartition("/")[0]
    root = page.removesuffix(f"/{backend}") if page.endswith(f"/{backend}") else None

    @cache
    def of_directory(directory: str) -> bool | None:
        path = urllib.parse.urlsplit(directory).path
        segments = path.strip("/").split("/")
        if backend in segments:
            return True
        at_root = root is not None and path.rstrip("/") == root
        if at_root or segments in (["whl"], ["whl", "test"], ["whl", "nightly"]):
            return shared
        if any(BACKEND_NAME.fullmatch(segment) for segment in segments):
            return False
        return None

    def belongs(directory: str, local: str) -> bool:
        verdict = of_directory(directory) if backend else True
        if verdict is None:
            # A mirror with a layout of its own: only the local version can tell.
            return not local or local == backend or not BACKEND_NAME.fullmatch(local)
        return verdict

    return belongs


def _join(base: str, href: str) -> str:
    try:
        return urllib.parse.urljoin(base, href)
    except ValueError:
        return ""


def _cut(url: str) -> FetchError:
    return FetchError("index-page-cut", f"{redact(url)} ends in the middle", retry=True)


def _garbage(url: str) -> FetchError:
    message = f"{redact(url)} is not a page of links; a login page or another service answers there"
    return FetchError("index-garbage", message)
