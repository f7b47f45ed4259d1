"""Pages on disk, already parsed, so that a warm start asks for nothing and reads no HTML.

One file per page, named by a hash: no page can choose a path. A file holds the URL that it stands for; one
that is torn or in the wrong place is thrown away. Files are replaced whole, so several processes may share a
folder. A folder that cannot be written is no fault: pages are fetched again.
"""

import contextlib
from pathlib import Path

import msgspec
from msgspec import Struct

from torchinstall import __version__
from torchinstall.core.decoding import load, store
from torchinstall.core.files import sha256
from torchinstall.core.request import Channel
from torchinstall.index.pages import Page
from torchinstall.index.urls import origin_of


class PageId(Struct, frozen=True):
    """Which page: its URL without credentials, and how it was read. `package` is empty for a root page.

    `described`: within which bounds releases were asked what they need; None: they were not.
    """

    url: str
    package: str
    backend: str
    channel: Channel
    shared: bool = False
    described: str | None = None


class CachedPage(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A page as it was at `fetched` (seconds since 1970).

    Attributes:
        missing: the status that said the page is not there; None for a page that is.
        page: of a package; empty for one that is missing.
        names: of a root page.
    """

    fetched: float
    etag: str | None = None
    missing: int | None = None
    page: Page = Page()
    names: tuple[str, ...] | None = None


class _File(Struct):
    id: PageId
    cached: CachedPage


class PageCache:
    """Pages in a folder (None: nothing is stored); `problem` says why one could not be stored."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder / "pages" if folder is not None else None
        self.problem: str | None = None

    def path(self, page: PageId) -> Path | None:
        """The file of a page."""
        if self.folder is None:
            return None
        return self.folder / f"{sha256(msgspec.json.encode((__version__, page)))[:40]}.json"

    def load(self, page: PageId) -> CachedPage | None:
        """The stored page, None where there is none that can be trusted."""
        path = self.path(page)
        if path is None or not path.is_file():
            return None
        file = load(path, _File)
        if file is None or not _is_right(file, page):
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        return file.cached

    def store(self, page: PageId, cached: CachedPage) -> None:
        """Store a page; what prevents it is noted in `problem` and otherwise ignored."""
        path = self.path(page)
        if path is not None:
            self.problem = store(path, _File(page, cached)) or self.problem


def _is_right(file: _File, page: PageId) -> bool:
    """Whether it is this page, and names nothing that its index could not name."""
    origin, files = origin_of(page.url), file.cached.page.files
    return (
        file.id == page
        and all(map(origin.owns, {row.directory for row in files if row.url}))
        and not any("/" in row.filename or "\\" in row.filename for row in files)
    )
