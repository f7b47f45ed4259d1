"""What is different from a snapshot, and how it becomes as it was: files only, no uv."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Iterable
from pathlib import Path, PurePosixPath

from torchinstall.install.keep import Dist, Snapshot, distributions, kept_files, normalised

__all__ = ["changed", "clear", "finished", "put_back", "strays_of"]


def changed(before: Snapshot) -> tuple[Dist, ...]:
    """The kept distributions that are not there any more as they were: another version, or files gone."""
    now = {(dist.site, dist.info) for dist in distributions(before.sites)}
    was = {(dist.site, dist.info) for dist in before.dists}
    successors = {dist.name for dist in distributions(before.sites) if (dist.site, dist.info) not in was}
    return tuple(
        dist
        for number, dist in enumerate(before.kept)
        if (dist.site, dist.info) not in now or dist.name in successors or not _intact(before, number, dist)
    )


def finished(before: Snapshot) -> bool:
    """Whether the install had come to its end: each kept distribution has a whole successor.

    For a run that was killed after uv was done and before the links were given up.
    """
    was = {(dist.site, dist.info) for dist in before.dists}
    successors = {
        dist.name: dist for dist in distributions(before.sites) if (dist.site, dist.info) not in was
    }
    gone = [dist for dist in before.kept if not (dist.site / dist.info).is_dir()]
    return bool(gone) and all(
        dist.name in successors and _whole(successors[dist.name])
        for dist in before.kept
        if dist in gone or dist.name in successors
    )


def _whole(dist: Dist) -> bool:
    names = [name for name in dist.files() if not name.endswith(".pyc")]
    return bool(names) and all((dist.site / name).exists() for name in names)


def _intact(before: Snapshot, number: int, dist: Dist) -> bool:
    if before.links is None:
        return all((dist.site / name).exists() for name in dist.files() if not name.endswith(".pyc"))
    return all(_same(dist.site / name, link) for name, link in kept_files(before.links, number))


def _same(path: Path, link: Path) -> bool:
    try:
        return path.samefile(link) or path.stat().st_size == link.stat().st_size
    except OSError:
        return False


def put_back(before: Snapshot, lost: Collection[Dist]) -> str | None:
    """Take away what came in their place and link the files back; the problem, if there is one."""
    assert before.links is not None  # noqa: S101  # the caller looked
    try:
        names = {item.name for item in lost}
        _remove(before.sites, lambda dist: dist.name in names)
        for number, dist in enumerate(before.kept):
            if dist not in lost:
                continue
            wanted = dict(kept_files(before.links, number))
            _sweep(dist, wanted, before)
            for name, link in wanted.items():
                place = dist.site / name
                place.parent.mkdir(parents=True, exist_ok=True)
                place.unlink(missing_ok=True)
                os.link(link, place)
    except OSError as error:
        return error.strerror or str(error)
    return None


def _remove(sites: Iterable[Path], chosen: Callable[[Dist], bool]) -> None:
    """Take distributions away by their own lists, except for files that another one lists too."""
    there = distributions(sites)
    shared = {dist.site / name for dist in there if not chosen(dist) for name in dist.files()}
    for dist in there:
        if chosen(dist):
            for path in {dist.site / name for name in dist.files()} - shared:
                path.unlink(missing_ok=True)
            shutil.rmtree(dist.site / dist.info, ignore_errors=True)


def _sweep(dist: Dist, wanted: Collection[str], before: Snapshot) -> None:
    """Remove files of a half-installed successor from the folders that belong to this distribution alone."""
    others = {
        _top(name)
        for other in distributions(before.sites)
        if other.name != dist.name and other.site == dist.site
        for name in other.files()
    }
    for top in {_top(name) for name in wanted if not name.startswith("../")} - others:
        folder = dist.site / top
        for path, _, names in os.walk(folder) if folder.is_dir() else ():
            for name in names:
                file = Path(path, name)
                if file.relative_to(dist.site).as_posix() not in wanted:
                    file.unlink(missing_ok=True)


def _top(name: str) -> str:
    """The folder that a file belongs to; two levels below the namespace that NVIDIA's packages share."""
    parts = PurePosixPath(name).parts
    return "/".join(parts[:2]) if parts[0] == "nvidia" and len(parts) > 2 else parts[0]


def strays_of(before: Snapshot) -> tuple[Path, ...]:
    """What a package that was not there before has left: its metadata and the folders of its name."""
    there = {dist.name for dist in before.dists}
    new = before.changing - there
    found = []
    for site, names in zip(before.sites, before.entries, strict=True):
        for entry in sorted(os.scandir(site), key=lambda item: item.name):
            stem = entry.name.removesuffix(".libs").removesuffix(".dist-info").removesuffix(".py")
            name = normalised(stem.partition("-")[0] if entry.name.endswith(".dist-info") else stem)
            if entry.name not in names and name in new:
                found.append(Path(entry.path))
    return tuple(found)


def clear(before: Snapshot, strays: Iterable[Path]) -> str | None:
    """Remove what `strays_of` found; the problem, if there is one."""
    wanted = frozenset(strays)
    try:
        _remove(before.sites, lambda dist: dist.site / dist.info in wanted)
        for path in wanted:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    except OSError as error:
        return error.strerror or str(error)
    return None
