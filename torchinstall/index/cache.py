"""Pages on disk, already parsed, so that a warm start asks for nothing and reads no HTML.

One file per page, named by a hash: no page can choose a path. A file holds a checksum of itself and the URL
it stands for; one that is torn, altered or in the wrong place is thrown away. Files are replaced whole, so
several processes may share a folder. A folder that cannot be written is no fault: pages are fetched again.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from torchinstall import __version__
from torchinstall.catalog.model import Wheels
from torchinstall.core.request import Channel
from torchinstall.index.pages import Page, PageFile
from torchinstall.index.urls import origin_of, redact

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CachedPage", "PageCache", "PageId", "default_cache_dir"]


_MAGIC = b"torchinstall-page-1 "
_MAX_BYTES = 64_000_000


class PageId(Struct, frozen=True, kw_only=True):
    """Which page: its URL without credentials, and how it was read. `package` is empty for a root page."""

    url: str
    package: str
    backend: str
    channel: Channel
    shared: bool = False


class CachedPage(Struct, frozen=True, kw_only=True):
    """A page as it was at `fetched` (seconds since 1970).

    Attributes:
        missing: the status that said the page is not there; None for a page that is.
        page: of a package.
        names: of a root page.
    """

    fetched: float
    etag: str | None = None
    missing: int | None = None
    page: Page | None = None
    names: tuple[str, ...] | None = None


class PageCache:
    """A folder of pages.

    Args:
        folder: made where missing; None: nothing is kept.

    Attributes:
        problem: why the last page could not be stored, None when all is well.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder / "pages" if folder is not None else None
        self.problem: str | None = None

    def path(self, page: PageId) -> Path | None:
        """The file of a page."""
        if self._folder is None:
            return None
        import hashlib

        parts = (__version__, page.url, page.package, page.backend, page.channel, str(page.shared))
        return self._folder / f"{hashlib.sha256(chr(10).join(parts).encode()).hexdigest()[:40]}.json"

    def load(self, page: PageId) -> CachedPage | None:
        """The stored page, None where there is none that can be trusted."""
        if self._folder is None or not self._folder.is_dir():
            return None
        path = self.path(page)
        if path is None:
            return None
        try:
            with path.open("rb") as stream:
                content = stream.read(_MAX_BYTES + 1)
        except OSError:
            return None
        try:
            return _decode(content, page)
        except (ValueError, TypeError, KeyError, IndexError, RecursionError):
            with contextlib.suppress(OSError):
                path.unlink()
            return None

    def store(self, page: PageId, cached: CachedPage) -> None:
        """Keep a page; what prevents it is noted in `problem` and otherwise ignored."""
        path = self.path(page)
        if path is None:
            return
        import tempfile

        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=".page-", dir=path.parent)
            try:
                with os.fdopen(handle, "wb") as stream:
                    stream.write(_encode(page, cached))
                Path(name).replace(path)
            except BaseException:
                with contextlib.suppress(OSError):
                    Path(name).unlink()
                raise
        except OSError as error:
            self.problem = f"{path.parent}: {error.strerror or error}"


def _head(body: bytes) -> bytes:
    """The first line of a file: what it is, and a digest that a torn file does not have."""
    import hashlib

    return _MAGIC + hashlib.sha256(body).hexdigest().encode()


def _encode(page: PageId, cached: CachedPage) -> bytes:
    data: dict[str, Any] = {
        "url": page.url,
        "fetched": cached.fetched,
        "etag": cached.etag,
        "missing": cached.missing,
        "names": cached.names,
    }
    if cached.page is not None:
        directories: dict[str, int] = {}
        files = []
        for file in cached.page.files:
            directory, _, segment = file.url.rpartition("/")
            number = directories.setdefault(directory, len(directories))
            files.append(
                [number, file.filename, "" if segment == _plain(file.filename) else segment, file.sha256]
            )
        data["directories"] = list(directories)
        data["files"] = files
        data["notes"] = cached.page.notes
        data["rows"] = [
            [row.version, row.local, row.build, row.platform_tag, row.tag_list] for row in cached.page.wheels
        ]
    body = json.dumps(data, separators=(",", ":")).encode()
    return _head(body) + b"\n" + body


def _decode(content: bytes, page: PageId) -> CachedPage:
    head, _, body = content.partition(b"\n")
    if head != _head(body):
        raise ValueError("torn")
    data = json.loads(body)
    if data["url"] != page.url:
        raise ValueError("another page")
    names = data["names"]
    return CachedPage(
        fetched=float(data["fetched"]),
        etag=None if data["etag"] is None else str(data["etag"]),
        missing=None if data["missing"] is None else int(data["missing"]),
        page=_decode_page(data, page) if "rows" in data else None,
        names=None if names is None else tuple(str(name) for name in names),
    )


def _decode_page(data: dict[str, Any], page: PageId) -> Page:
    origin = origin_of(page.url)
    directories = data["directories"]
    if not all(origin.owns(f"{directory}/") for directory in directories):
        raise ValueError("a directory that is not the index's")
    source = redact(page.url)
    wheels = tuple(
        Wheels(
            package=page.package,
            version=version,
            local=local,
            backend=page.backend,
            platform_tag=platform,
            tag_list=tags,
            origin="index",
            source=source,
            confidence="high",
            channel=page.channel,
            build=build,
        )
        for version, local, build, platform, tags in data["rows"]
    )
    files = []
    for number, filename, segment, sha256 in data["files"]:
        if "/" in filename or "\\" in filename:
            raise ValueError("a file name that is a path")
        files.append(PageFile(filename, f"{directories[number]}/{segment or _plain(filename)}", sha256))
    return Page(wheels=wheels, files=tuple(files), notes=tuple(data["notes"]))


def _plain(filename: str) -> str:
    """How PyTorch's pages spell a file name in a link."""
    return filename.replace("+", "%2B")


def default_cache_dir(env: Mapping[str, str], platform: str) -> Path | None:
    """Where pages are kept: `TORCHINSTALL_CACHE_DIR`, else the platform's folder for caches.

    Args:
        env: the environment.
        platform: as `sys.platform`.

    Returns:
        None where nothing names a home.
    """
    if explicit := env.get("TORCHINSTALL_CACHE_DIR"):
        return Path(explicit)
    if platform == "win32":
        local = env.get("LOCALAPPDATA")
        return Path(local) / "torchinstall" / "cache" if local else None
    home = env.get("HOME")
    if platform == "darwin":
        return Path(home) / "Library" / "Caches" / "torchinstall" if home else None
    if (xdg := env.get("XDG_CACHE_HOME", "")).startswith("/"):
        return Path(xdg) / "torchinstall"
    return Path(home) / ".cache" / "torchinstall" if home else None
