"""How much an installation brings down, how much disk that takes, and how much is free; before it happens."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from msgspec import structs

from torchinstall.core.decoding import load, store
from torchinstall.core.errors import TorchInstallError
from torchinstall.core.files import disk_of
from torchinstall.core.plan import Download, Room
from torchinstall.index.urls import without_credentials
from torchinstall.index.wheels import FileSize
from torchinstall.install.command import values_of
from torchinstall.install.transaction import InstallResult
from torchinstall.install.uv import uv_cache
from torchinstall.planning.context import Context, PlanOptions
from torchinstall.planning.index_pages import read_pages
from torchinstall.planning.inputs import Prepared

_SIZES = "sizes.json"
_MOST_STORED = 500


def measure(context: Context, prepared: Prepared, heard: InstallResult) -> Download | None:
    """What a rehearsed plan brings down; None where uv did not say what it would change."""
    coming = {name: version for name, version in (heard.due or {}).items() if version is not None}
    if not coming or prepared.uv is None:
        return None
    stored = _stored(context)
    keys = _keys(prepared, coming)
    sizes = {name: stored.get(key, FileSize()) for name, key in keys.items()}
    if missing := {name: coming[name] for name, size in sizes.items() if not size.file}:
        from torchinstall.export.file_sizes import find_sizes  # loads zipfile and threads

        with contextlib.suppress(TorchInstallError):
            found = dict(find_sizes(context, prepared, missing))
            _store(context, {keys[name]: size for name, size in found.items()})
            sizes |= found
    named = values_of("--cache-dir", prepared.uv_args)
    cache = uv_cache(prepared.uv.path, context.env, context.cwd, named)
    if cache is None:
        return None
    cached = {name for name, size in sizes.items() if _is_cached(cache, name, coming[name], size.file)}
    new = {name: size for name, size in sizes.items() if name not in heard.cached | cached}
    rooms: tuple[Room, ...] = ()
    with contextlib.suppress(OSError):  # a folder that nobody may look at
        rooms = tuple(_rooms(context, prepared, cache, _unpacked(sizes.values()), _unpacked(new.values())))
    return Download(
        bytes=sum(size.down or 0 for size in new.values()),
        disk_bytes=sum(room.bytes for room in rooms),
        unknown=tuple(name for name, size in new.items() if size.down is None),
        files=sum(size.down != 0 for size in new.values()),
        rooms=rooms,
    )


def look_ahead(context: Context, options: PlanOptions, prepared: Prepared) -> None:
    """Learn how large the planned wheels are while uv still looks at what goes with them.

    Only pages that were read say where a wheel is; what is not learned here, `measure` asks for.
    """
    plan, there = prepared.plan, {(item.name, item.version) for item in prepared.target.installed}
    coming = {
        item.name: (item.version, item.wheel)
        for item in plan.packages
        if item.version and item.wheel and item.index_url and (item.name, item.version) not in there
    }
    stored = _stored(context)
    keys = _keys(prepared, {name: version for name, (version, _) in coming.items()})
    missing = [(name, plan.backend or "") for name, key in keys.items() if key not in stored]
    if not missing or prepared.request.offline or plan.status != "ready":
        return
    read = read_pages(missing, prepared.catalog, context, structs.replace(options, offline=True))
    files = [
        structs.replace(file, name=name, version=coming[name][0])
        for (name, _), page in read.found.items()
        for file in page.files
        if file.url and file.filename == coming[name][1]
    ]
    from torchinstall.export.file_sizes import ask_sizes

    with contextlib.suppress(TorchInstallError):
        _store(context, {keys[name]: size for name, size in ask_sizes(context, prepared, files)})


def _keys(prepared: Prepared, coming: Mapping[str, str]) -> dict[str, str]:
    """What decides which file of each package is taken."""
    plan, target = prepared.plan, prepared.target
    planned = {item.name: without_credentials(item.url or item.index_url or "") for item in plan.packages}
    common = (target.abi, *target.platform_tags[:1], *plan.find_links)
    return {
        name: " ".join((name, version, planned.get(name, ""), *common)) for name, version in coming.items()
    }


def _stored(context: Context) -> dict[str, FileSize]:
    """Sizes that were found before, so that a second run asks for nothing."""
    folder = context.cache_dir
    return (load(folder / _SIZES, dict[str, FileSize]) if folder is not None else None) or {}


def _store(context: Context, sizes: Mapping[str, FileSize]) -> None:
    known = {key: size for key, size in sizes.items() if size.down is not None}
    if known and context.cache_dir is not None:
        newest = [*_stored(context).items(), *known.items()][-_MOST_STORED:]
        store(context.cache_dir / _SIZES, dict(newest))


def _is_cached(cache: Path, name: str, version: str, file: str) -> bool:
    """Whether uv has a wheel of an explicit index in its cache, which its rehearsal does not look for.

    Its folder is named as the wheel is, or by the version and a hash where that is long.
    """
    stem = file.removesuffix(".whl").partition("-")[2]
    hashed = re.compile(rf"{re.escape(version)}-[0-9a-f]{{16}}")
    try:
        found = [path.name for path in cache.glob(f"wheels-v*/index/*/{name}/{version}-*") if path.is_dir()]
    except (OSError, ValueError):  # ValueError: no pattern can be like that
        return False
    return any(name == stem or hashed.fullmatch(name) for name in found)


def _unpacked(sizes: Iterable[FileSize]) -> int:
    return sum(size.unpacked or 0 for size in sizes)


def _rooms(context: Context, prepared: Prepared, cache: Path, everything: int, new: int) -> Iterator[Room]:
    """What the environment and uv's cache take; where they share files, these count once."""
    place = Path(str(prepared.target.prefix))
    there, above = disk_of(place), disk_of(cache)
    copies = "copy" in (context.env.get("UV_LINK_MODE"), *values_of("--link-mode", prepared.uv_args))
    shared = there.device == above.device and not copies
    if not shared:
        yield Room(folder=str(cache), bytes=new, free=above.free_bytes)
    yield Room(folder=str(place), bytes=new if shared else everything, free=there.free_bytes)
