"""Download files whose hashes are known: resumed where they broke off, put in place only when they are whole.

Proxies, certificates and credentials are those of the index reader (`catalog.network_env`).
"""

from __future__ import annotations

import hashlib
import shutil
import threading
import urllib.parse
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from msgspec import Struct

from torchinstall.core.errors import InstallFailedError
from torchinstall.index.client import NetworkEnv, load_httpx
from torchinstall.index.urls import check_secure, names_host, origin_of, redact, without_credentials

if TYPE_CHECKING:
    import httpx

__all__ = ["Downloader", "File", "sha256_of"]

_CHUNK = 1 << 20
_TRIES = 5
_REDIRECTS = 5
_AT_ONCE = 4
_TIMEOUT = 60.0
"""Seconds without a byte."""


class File(Struct, frozen=True, kw_only=True):
    """One file that will be installed.

    Attributes:
        url: where it is downloaded from, without credentials; `file:` for one that lies here.
        sha256: as the index says it, or as uv found it where the index says nothing.
        size: in bytes, where the index says it.
    """

    name: str
    version: str | None
    url: str
    sha256: str | None
    size: int | None = None

    @property
    def filename(self) -> str:
        """The last part of the URL."""
        return unquote(urlsplit(self.url).path).rpartition("/")[2]


class _AgainError(Exception):
    """Asking again may help."""


def sha256_of(path: Path) -> str:
    """The hash of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_CHUNK):
            digest.update(piece)
    return digest.hexdigest()


class Downloader:
    """Downloads to one folder, several files at once.

    Args:
        env: proxies, certificates, netrc.
        folder: where files go; it exists.
        known_urls: URLs that may carry user and password for files on the same host.
        allow_insecure: hosts that may be asked over http, or whose certificate need not be right.
        tell: hears what is there and what comes.
        pause: seconds before the second try; doubled for each further one.
    """

    def __init__(
        self,
        env: Mapping[str, str],
        folder: Path,
        *,
        known_urls: Iterable[str] = (),
        allow_insecure: tuple[str, ...] = (),
        tell: Callable[[str], None],
        pause: float = 1.0,
    ) -> None:
        self.folder = folder
        self.allow_insecure = allow_insecure
        self._env = NetworkEnv(env)
        self._secrets = [url for url in known_urls if "@" in url.partition("?")[0] and "://" in url]
        self._tell = tell
        self._pause = pause
        self._stopping = threading.Event()

    def fetch_all(self, files: Iterable[File]) -> dict[str, str]:
        """Bring every file; its name -> its sha256.

        Raises:
            InstallFailedError: `download-failed` or `download-hash-mismatch`; whole files stay, so that the
                next run goes on from there.
            UsageError: `insecure-index`, `bad-proxy`, `bad-certificate-file`.
        """
        load_httpx()
        wanted = tuple(files)
        with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
            try:
                hashes = list(pool.map(self._fetch, wanted))
            except BaseException:
                self._stopping.set()
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        return {file.filename: digest for file, digest in zip(wanted, hashes, strict=True)}

    def _fetch(self, file: File) -> str:
        place = self.folder / file.filename
        if place.is_file() and file.sha256 is not None and sha256_of(place) == file.sha256:
            self._tell(f"have {file.filename}")
            return file.sha256
        part = place.with_name(place.name + ".part")
        parts = urllib.parse.urlsplit(file.url)
        if parts.scheme == "file":
            self._tell(f"copying {file.filename}")
            shutil.copyfile(url2pathname(parts.path), part)
        else:
            self._tell(f"downloading {file.filename}")
            self._download(file, part)
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
        return digest

    def _download(self, file: File, part: Path) -> None:
        problem = ""
        for number in range(_TRIES):
            if number and self._stopping.wait(self._pause * 2 ** (number - 1)):
                break
            try:
                return self._exchange(file.url, part)
            except _AgainError as error:
                problem = str(error)
        raise self._failed(file.url, problem or "interrupted")

    def _exchange(self, url: str, part: Path) -> None:
        """One request, redirects followed, going on where the part ends."""
        import httpx

        home, current = origin_of(url), without_credentials(url)
        for _ in range(_REDIRECTS + 1):
            check_secure(current, self.allow_insecure)
            start = part.stat().st_size if part.is_file() else 0
            headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={start}-"} if start else {})}
            auth = self._auth(url) if origin_of(current) == home else None
            try:
                with (
                    self._client(current) as client,
                    client.stream("GET", current, headers=headers, auth=auth) as response,
                ):
                    target = self._take(response, current, part, start)
            except (httpx.TransportError, httpx.InvalidURL) as error:
                raise _AgainError(str(error) or type(error).__name__) from None
            if target is None:
                return
            current = without_credentials(urllib.parse.urljoin(current, target))
        raise self._failed(url, f"more than {_REDIRECTS} redirects")

    def _take(self, response: httpx.Response, url: str, part: Path, start: int) -> str | None:
        """Write the body; or where a redirect leads."""
        status = response.status_code
        if status in (301, 302, 303, 307, 308) and "location" in response.headers:
            return str(response.headers["location"])
        if status == 416:  # the part is as long as the file or longer: its hash will tell
            if response.headers.get("content-range") == f"bytes */{start}":
                return None
            part.unlink()
            raise _AgainError("the part does not fit the file")
        if status in (408, 425, 429) or status >= 500:
            raise _AgainError(f"status {status}")
        if status not in (200, 206):
            raise self._failed(url, f"status {status}")
        goes_on = status == 206 and response.headers.get("content-range", "").startswith(f"bytes {start}-")
        if status == 206 and not goes_on:
            part.unlink()
            raise _AgainError("the answer is not the rest that was asked for")
        with part.open("ab" if goes_on else "wb") as file:
            for piece in response.iter_raw(_CHUNK):
                if self._stopping.is_set():
                    raise self._failed(url, "interrupted")
                file.write(piece)
        return None

    def _auth(self, url: str) -> tuple[str, str] | None:
        own = self._env.credentials(url)
        if own is not None:
            return own
        origin = origin_of(url)
        given = (secret for secret in self._secrets if origin.owns(without_credentials(secret)))
        return next((self._env.credentials(secret) for secret in given), None)

    def _client(self, url: str) -> httpx.Client:
        import httpx

        from torchinstall import __version__

        trusted = names_host(self.allow_insecure, url)
        return httpx.Client(
            verify=self._env.context(url, trusted=trusted),
            proxy=self._env.proxy(url),
            headers={"User-Agent": f"torchinstall/{__version__}"},
            timeout=httpx.Timeout(_TIMEOUT),
            trust_env=False,
        )

    def _failed(self, url: str, problem: str) -> InstallFailedError:
        return InstallFailedError(
            "download-failed",
            f"{redact(url)} could not be downloaded",
            wanted="the whole file",
            found=problem,
            hints=("run the same command again: it goes on where it broke off",),
        )
