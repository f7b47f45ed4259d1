"""How large the files are that uv would take, packed and unpacked.

uv names them from its cache (it has just resolved them). Sizes are those of the index, else of the server; a
large wheel's own table of contents says what it takes unpacked.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

from msgspec import structs

from torchinstall.core.errors import TorchInstallError
from torchinstall.core.request import canonical_name
from torchinstall.export.resolve import client_of, files_of, resolve
from torchinstall.index.archives import remote_file, unpacked_size
from torchinstall.index.urls import file_path
from torchinstall.index.wheels import File, FileSize
from torchinstall.install.command import options_in
from torchinstall.planning.context import Context
from torchinstall.planning.inputs import Prepared

if TYPE_CHECKING:
    from torchinstall.index.client import Client

_LARGE = 5_000_000
"""Bytes from which a wheel is asked what it takes unpacked; of smaller ones that is guessed."""

_GROWS = 3.5
"""How much larger small packages of Python are unpacked: between 2.8 and 4.6 for those that torch needs."""

_PATIENCE = 8.0
"""Seconds for all sizes; what was not said by then is unknown."""

_AT_ONCE = 8

_SAME_FOR_COMPILE = frozenset(
    {"--no-index", "--no-cache", "--default-index", "--index", "--find-links", "--index-strategy"}
    | {"--keyring-provider", "--allow-insecure-host", "--prerelease", "--cache-dir"}
)
"""Arguments that also `uv pip compile` needs, to find the same files."""


def find_sizes(
    context: Context, prepared: Prepared, coming: Mapping[str, str]
) -> Iterator[tuple[str, FileSize]]:
    """The file that uv would take of each package that is coming, with its sizes.

    uv has rehearsed the plan: its cache knows what there is.

    Raises:
        InstallFailedError: the cache does not know it.
    """
    plan = prepared.plan
    if prepared.uv is None:
        return
    direct, options = plan.direct, options_in(prepared.uv_args)
    shared = (word for pair in options if pair[0] in _SAME_FOR_COMPILE for word in pair if word)
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
        uv_args=(*shared, "--no-deps"),
    )
    files = files_of(resolve(context, alone, prepared.uv), prepared.target)
    asked = []
    for file in files:
        if (size := _known_size(file)) is None:
            asked.append(file)
        else:
            yield canonical_name(file.name), size
    yield from ask_sizes(context, prepared, asked)


def ask_sizes(context: Context, prepared: Prepared, files: Sequence[File]) -> Iterator[tuple[str, FileSize]]:
    """Sizes as the servers of these files of a plan say them."""
    if not files or prepared.request.offline:
        return
    client = client_of(context, prepared)
    with contextlib.closing(client), ThreadPoolExecutor(_AT_ONCE) as pool:
        deadline = time.monotonic() + _PATIENCE
        sizes = pool.map(partial(_asked_size, client=client, deadline=deadline), files)
        yield from zip((canonical_name(file.name) for file in files), sizes, strict=True)


def _known_size(file: File) -> FileSize | None:
    """The size of a file that lies here, or of a small one whose index says it; None: to be asked for."""
    if file.url.startswith("file:"):
        path = file_path(file.url)
        unpacked = (unpacked_size(path) or path.stat().st_size) if path.is_file() else None
        return FileSize(file.filename, 0, unpacked)
    return _guessed(file, file.size) if file.size is not None and file.size < _LARGE else None


def _guessed(file: File, size: int | None) -> FileSize:
    return FileSize(file.filename, size, None if size is None else round(size * _GROWS))


def _asked_size(file: File, client: Client, deadline: float) -> FileSize:
    size = file.size
    try:
        size = client.size(file.url, deadline) if size is None else size
        if size is None or size < _LARGE or not file.filename.endswith(".whl"):
            return _guessed(file, size)
        remote = remote_file(client, file.url, size=size, deadline=deadline)
        return FileSize(file.filename, size, unpacked_size(remote) or round(size * _GROWS))
    except (TorchInstallError, OSError):
        return _guessed(file, size)
