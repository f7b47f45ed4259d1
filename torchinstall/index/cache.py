"""Pages on disk, already parsed, so that a warm start asks for nothing and reads no HTML.

One file per page, named by a hash: no page can choose a path. A file holds a checksum of itself and the URL
it stands for; one that is torn, altered or in the wrong place is thrown away. Files are replaced whole, so
several processes may share a folder. A folder that cannot be written is no fault: pages are fetched again.
"""

import contextlib
from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from torchinstall import __version__
from torchinstall.core.decoding import decoder
from torchinstall.core.errors import UsageError
from torchinstall.core.files import sha256, write_file
from torchinstall.core.request import Channel
from torchinstall.index.pages import Page
from torchinstall.index.urls import origin_of

_MAGIC = b"torchinstall-page-2 "
_MAX_BYTES = 64_000_000


class PageId(Struct, frozen=True):
    """Which page: its URL without credentials, and how it was read. `package` is empty for a root page."""

    url: str
    package: str
    backend: str
    channel: Channel
    shared: bool = False
    described: bool = False


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
    """A folder of pages.

    Args:
        folder: made where missing; None: nothing is stored.

    Attributes:
        folder: where the pages lie.
        problem: why the last page could not be stored, None when all is well.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder / "pages" if folder is not None else None
        self.problem: str | None = None

    def path(self, page: PageId) -> Path | None:
        """The file of a page."""
        if self.folder is None:
            return None
        parts = (
            __version__,
            page.url,
            page.package,
            page.backend,
            page.channel,
            str(page.shared),
            str(page.described),
        )
        return self.folder / f"{sha256(chr(10).join(parts).encode())[:40]}.json"

    def load(self, page: PageId) -> CachedPage | None:
        """The stored page, None where there is none that can be trusted."""
        path = self.path(page) if self.folder is not None and self.folder.is_dir() else None
        if path is None:
            return None
        try:
            with path.open("rb") as stream:
                content = stream.read(_MAX_BYTES + 1)
        except OSError:
            return None
        try:
            return _decode(content, page)
        except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
            with contextlib.suppress(OSError):
                path.unlink()
            return None

    def store(self, page: PageId, cached: CachedPage) -> None:
        """Store a page; what prevents it is noted in `problem` and otherwise ignored."""
        path = self.path(page)
        if path is None:
            return
        body = msgspec.json.encode(_File(page, cached))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_file(path, _head(body) + b"\n" + body, durable=False)
        except OSError as error:
            self.problem = f"{path.parent}: {error.strerror or error}"
        except UsageError as error:
            self.problem = error.message


def _head(body: bytes) -> bytes:
    """The first line of a file: what it is, and a digest that a torn file does not have."""
    return _MAGIC + sha256(body).encode()


def _decode(content: bytes, page: PageId) -> CachedPage:
    head, _, body = content.partition(b"\n")
    if head != _head(body):
        raise ValueError("torn")
    file = decoder(_File).decode(body)
    if file.id != page:
        raise ValueError("another page")
    origin = origin_of(page.url)
    files = file.cached.page.files
    if not all(map(origin.owns, {row.directory for row in files if row.url})):
        raise ValueError("a file that is not the index's")
    if any("/" in row.filename or "\\" in row.filename for row in files):
        raise ValueError("a file name that is a path")
    return file.cached


def default_cache_dir(env: Mapping[str, str], platform: str) -> Path | None:
    """Where pages are stored: `TORCHINSTALL_CACHE_DIR`, else the platform's folder for caches.

    None where nothing names a home. The rules of `platformdirs`, by hand: it reads the environment of the
    process instead of the one that was handed in, and to import it costs a tenth of an offline plan.
    """
    if explicit := env.get("TORCHINSTALL_CACHE_DIR"):
        return Path(explicit)
    home = env.get("HOME")
    if platform == "win32":
        local = env.get("LOCALAPPDATA")
        return Path(local) / "torchinstall" / "cache" if local else None
    if platform == "darwin":
        return Path(home) / "Library" / "Caches" / "torchinstall" if home else None
    if (xdg := env.get("XDG_CACHE_HOME", "")).startswith("/"):
        return Path(xdg) / "torchinstall"
    return Path(home) / ".cache" / "torchinstall" if home else None
