"""Download files: resumed where they broke off, put in place only when they are whole and right."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from msgspec import Struct, field, structs

from torchinstall.core.errors import InstallFailedError
from torchinstall.core.messages import redact
from torchinstall.index.client import Client
from torchinstall.index.faults import FetchError, with_retries
from torchinstall.index.urls import file_path
from torchinstall.index.wheels import File

_CHUNK = 1 << 20
_RETRIES = 4
_AT_ONCE = 4


def sha256_of(path: Path) -> str:
    """The hash of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_CHUNK):
            digest.update(piece)
    return digest.hexdigest()


class Downloader(Struct, kw_only=True):
    """Downloads to one folder, several files at once.

    Attributes:
        client: closed at the end.
        folder: where files go; it exists.
        tell: is called with what is there already and what is downloaded.
        arrived: is called with a file's name and how many of its bytes are here.
        pause: seconds before the second try; doubled for each further one.
    """

    client: Client
    folder: Path
    tell: Callable[[str], None]
    arrived: Callable[[str, int], None] = lambda *_: None
    pause: float = 1.0
    stopping: threading.Event = field(default_factory=threading.Event)

    def fetch_all(self, files: tuple[File, ...]) -> tuple[File, ...]:
        """Bring every file; the files as they are here, with hash and size.

        Raises:
            InstallFailedError: `download-failed` or `download-hash-mismatch`; whole files stay, so that the
                next run goes on from there.
            UsageError: `insecure-index`, `bad-proxy`, `bad-certificate-file`.
        """
        with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool, contextlib.closing(self.client):
            try:
                return tuple(pool.map(self._fetch, files))
            except BaseException:
                self.stopping.set()
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def _fetch(self, file: File) -> File:
        place = self.folder / file.filename
        if place.is_file() and file.sha256 is not None and sha256_of(place) == file.sha256:
            self.tell(f"have {file.filename}")
            self.arrived(place.name + ".part", place.stat().st_size)
            return structs.replace(file, size=place.stat().st_size)
        part = place.with_name(place.name + ".part")
        if file.url.startswith("file:"):
            self.tell(f"copying {file.filename}")
            shutil.copyfile(file_path(file.url), part)
        else:
            self.tell(f"downloading {file.filename}")
            self._download(file.url, part)
        digest = sha256_of(part)
        if file.sha256 is not None and digest != file.sha256:
            part.unlink()
            raise InstallFailedError(
                "download-hash-mismatch",
                f"{file.filename} is not the file that the index describes",
                wanted=f"sha256 {file.sha256}",
                found=f"sha256 {digest} from {redact(file.url)}",
                hints=("run it again; if it stays so, a proxy or mirror changes files on the way",),
            )
        part.replace(place)
        return structs.replace(file, sha256=digest, size=place.stat().st_size)

    def _download(self, url: str, part: Path) -> None:
        try:
            with_retries(partial(self._resume, url, part), _RETRIES, self.pause, self.stopping)
        except FetchError as error:
            raise InstallFailedError(
                "download-failed",
                f"{redact(url)} could not be downloaded",
                wanted="the whole file",
                found=error.message,
                hints=(*error.hints, "run the same command again: it continues where it broke off"),
            ) from error

    def _resume(self, url: str, part: Path) -> None:
        """One request for what the part lacks."""
        start = part.stat().st_size if part.is_file() else 0
        headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={start}-"} if start else {})}
        with self.client.open(url, headers, accept=frozenset({200, 206, 416})) as response:
            status, content_range = response.status_code, response.headers.get("content-range", "")
            if status == 416 and content_range == f"bytes */{start}":
                return  # the part is as long as the file: its hash will tell
            goes_on = status == 206 and content_range.startswith(f"bytes {start}-")
            if status != 200 and not goes_on:
                part.unlink(missing_ok=True)
                raise FetchError("download-failed", "the answer is not the rest of the file", retry=True)
            with part.open("ab" if goes_on else "wb") as file:
                for piece in response.iter_raw(_CHUNK):
                    if self.stopping.is_set():
                        raise FetchError("download-failed", "interrupted")
                    file.write(piece)
                    self.arrived(part.name, file.tell())
