"""How much an installation brings down, how much disk that takes, and how much is free; before it happens.

uv says which files it would take, from its cache (it has just resolved them). Their sizes are those of the
index, else of the server; a large wheel's own table of contents says what it takes unpacked.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import sys
import time
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast
from urllib.parse import urlsplit
from urllib.request import url2pathname

import msgspec
from msgspec import structs

from torchinstall.core.errors import TorchInstallError, UsageError
from torchinstall.core.files import write_file
from torchinstall.core.plan import Download, Room
from torchinstall.core.request import canonical_name, requirement
from torchinstall.export.resolve import files_of, resolve
from torchinstall.index.cache import default_cache_dir
from torchinstall.index.inspect import RangeFile
from torchinstall.index.wheels import File
from torchinstall.install.transaction import InstallResult
from torchinstall.install.uv import run_uv
from torchinstall.planning.assemble import Prepared
from torchinstall.planning.context import Context

if TYPE_CHECKING:
    from torchinstall.index.client import Client

_LARGE = 5_000_000
"""Bytes from which a wheel is asked what it takes unpacked; of smaller ones that is guessed."""

_GROWS = 3.5
"""How much larger small packages of Python are unpacked: between 2.8 and 4.6 for those that torch needs."""

_PATIENCE = 8.0
"""Seconds for all sizes; what was not said by then is unknown."""

_AT_ONCE = 8
_MOST_STORED = 500

_SWITCHES = frozenset({"--no-index", "--no-cache"})
_SAME_FOR_COMPILE = _SWITCHES | {
    *("--default-index", "--index-url", "-i", "--index", "--extra-index-url", "--find-links", "-f"),
    *("--index-strategy", "--keyring-provider", "--allow-insecure-host", "--prerelease", "--cache-dir"),
}
"""Arguments that also `uv pip compile` needs, to find the same files."""


class _Size(NamedTuple):
    """Bytes that come down and bytes unpacked; None: nobody says."""

    down: int | None
    unpacked: int | None


def measure(context: Context, prepared: Prepared, heard: InstallResult) -> Download | None:
    """What a rehearsed plan brings down; None where uv did not say what it would change.

    Args:
        context: environment and folder.
        prepared: the plan.
        heard: what uv said.
    """
    coming = {name: version for name, version in (heard.due or {}).items() if version is not None}
    if not coming or prepared.uv is None:
        return None
    done = run_uv([prepared.uv.path, "cache", "dir"], env=context.env, cwd=context.cwd)
    cache = Path(done.stdout.strip())
    sizes = {name: _Size(None, None) for name in coming}
    cached = set(heard.cached)
    with contextlib.suppress(TorchInstallError):
        for file, size in _sizes(context, prepared, coming):
            name = canonical_name(file.name)
            sizes[name] = size
            if _is_cached(cache, name, file):
                cached.add(name)
    new = {name: size for name, size in sizes.items() if name not in cached}
    rooms = tuple(_rooms(context, prepared, cache, _unpacked(sizes.values()), _unpacked(new.values())))
    return Download(
        bytes=sum(size.down or 0 for size in new.values()),
        disk_bytes=sum(room.bytes for room in rooms),
        unknown=tuple(name for name, size in new.items() if size.down is None),
        files=sum(size.down != 0 for size in new.values()),
        rooms=rooms,
    )


def _is_cached(cache: Path, name: str, file: File) -> bool:
    """Whether uv has a wheel of an explicit index in its cache, which its rehearsal does not look for.

    Its file is named as the wheel is, or by the version and a hash where that is long.
    """
    stem = file.filename.removesuffix(".whl").partition("-")[2]
    found = cache.glob(f"wheels-v*/index/*/{name}/{file.version}-*")
    hashed = re.compile(rf"{re.escape(file.version or '')}-[0-9a-f]{{16}}")
    return any(path.is_dir() and (path.name == stem or hashed.fullmatch(path.name)) for path in found)


def _unpacked(sizes: Iterable[_Size]) -> int:
    return sum(size.unpacked or 0 for size in sizes)


def _sizes(context: Context, prepared: Prepared, coming: Mapping[str, str]) -> Iterator[tuple[File, _Size]]:
    """The files that uv would take, and their sizes."""
    plan, target = prepared.plan, prepared.target
    if prepared.uv is None:
        return
    direct = {canonical_name(requirement(text).name): text for text in plan.requirements if " @ " in text}
    pinned = structs.replace(
        plan,
        requirements=tuple(direct.get(name, f"{name}=={version}") for name, version in coming.items()),
        packages=tuple(item for item in plan.packages if item.name in coming),
    )
    alone = structs.replace(
        prepared,
        plan=pinned,
        request=structs.replace(prepared.request, offline=True),
        constraint_files=(),
        uv_args=(*_shared_args(prepared.uv_args), "--no-deps"),
    )
    files = files_of(resolve(alone, prepared.uv, context.env, context.cwd), target)
    stored, asked = _Stored(default_cache_dir(context.env, sys.platform)), []
    for file in files:
        size = stored.sizes.get(file.url) or _known_size(file)
        if size is None:
            asked.append(file)
        else:
            yield file, size
    if not asked or prepared.request.offline:
        return
    from torchinstall.index.client import Client  # loads httpx

    known_urls = [item.index_url or "" for item in plan.packages]
    client = Client(context.env, insecure_hosts(prepared.uv_args), known_urls)
    with contextlib.closing(client), ThreadPoolExecutor(_AT_ONCE) as pool:
        deadline = time.monotonic() + _PATIENCE
        found = tuple(pool.map(partial(_asked_size, client=client, deadline=deadline), asked))
    answers = dict(zip(asked, found, strict=True))
    stored.add({file.url: size for file, size in answers.items() if size.down is not None})
    yield from answers.items()


class _Stored:
    """Sizes that were asked for once: the file at a URL does not change."""

    def __init__(self, folder: Path | None) -> None:
        self._path = folder / "sizes.json" if folder is not None else None
        self.sizes: dict[str, _Size] = {}
        with contextlib.suppress(OSError, ValueError):
            if self._path is not None:
                self.sizes = msgspec.json.decode(self._path.read_bytes(), type=dict[str, _Size])

    def add(self, sizes: Mapping[str, _Size]) -> None:
        """Keep more of them; a folder that cannot be written is no fault."""
        if self._path is not None and sizes:
            with contextlib.suppress(OSError, UsageError):
                self._path.parent.mkdir(parents=True, exist_ok=True)
                newest = dict([*self.sizes.items(), *sizes.items()][-_MOST_STORED:])
                write_file(self._path, msgspec.json.encode(newest), durable=False)


def _shared_args(words: tuple[str, ...]) -> Iterator[str]:
    """Those of uv's arguments that say where files are."""
    rest = iter(words)
    for word in rest:
        option, equals, _ = word.partition("=")
        if option in _SAME_FOR_COMPILE:
            yield word
            yield from () if equals or option in _SWITCHES else (next(rest, ""),)


def insecure_hosts(words: tuple[str, ...]) -> tuple[str, ...]:
    """The hosts that uv is told to trust."""
    return tuple(after for word, after in pairwise(words) if word == "--allow-insecure-host")


def _known_size(file: File) -> _Size | None:
    """The size of a file that lies here, or of a small one whose index says it; None: to be asked for."""
    parts = urlsplit(file.url)
    if parts.scheme == "file":
        path = Path(url2pathname(parts.path))
        return _Size(0, _unpacked_size(path) or path.stat().st_size) if path.is_file() else None
    return _guessed(file.size) if file.size is not None and file.size < _LARGE else None


def _guessed(size: int | None) -> _Size:
    return _Size(size, None if size is None else round(size * _GROWS))


def _asked_size(file: File, client: Client, deadline: float) -> _Size:
    size = file.size
    try:
        size = client.size(file.url, deadline) if size is None else size
        if size is None or size < _LARGE or not urlsplit(file.url).path.endswith(".whl"):
            return _guessed(size)
        remote = RangeFile(size, lambda start, length: client.part(file.url, start, length, deadline)[0])
        return _Size(size, _unpacked_size(remote) or round(size * _GROWS))
    except (TorchInstallError, OSError):
        return _guessed(size)


def _unpacked_size(file: Path | RangeFile) -> int | None:
    """Of all members of a wheel, by its table of contents; None for what is no zip file."""
    try:
        with zipfile.ZipFile(cast("Path", file)) as wheel:
            return sum(member.file_size for member in wheel.infolist())
    except zipfile.BadZipFile:
        return None


def _rooms(context: Context, prepared: Prepared, cache: Path, everything: int, new: int) -> Iterator[Room]:
    """What the environment and uv's cache take; where they share files, these count once."""
    place, above = Path(str(prepared.target.prefix)), _there(cache)
    copies = "copy" in (context.env.get("UV_LINK_MODE"), *prepared.uv_args)
    shared = _there(place).stat().st_dev == above.stat().st_dev and not copies
    if not shared:
        yield Room(folder=str(cache), bytes=new, free=shutil.disk_usage(above).free)
    free = shutil.disk_usage(_there(place)).free
    yield Room(folder=str(place), bytes=new if shared else everything, free=free)


def _there(path: Path) -> Path:
    """A folder, or the nearest one above it that exists."""
    return next(folder for folder in (path, *path.parents) if folder.is_dir())
