"""Keep the files of packages that are about to change, and put them back: hard links, no bytes, a moment.

Each file is kept under a number, so that no name in a wheel says where anything is written. A file system
without hard links gets copies.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
import uuid
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Literal

from msgspec import Struct

from torchinstall.core.request import canonical_name
from torchinstall.install.distributions import DistInfo, distributions, remains, same_version, sites_of, walk

Due = dict[str, str | None]
"""name -> version of what will be there in the end, None: gone."""

_DEBRIS_WITHIN = 3600.0
"""Seconds after its beginning in which a change may have made a file; what is younger is somebody else's."""


class Backup(Struct, frozen=True, kw_only=True):
    """What was installed before a change, and where the files of what changes are kept.

    Attributes:
        changing: normalised names of what is about to change; None: anything may, and what comes goes again.
        files: path of each file that was there; its number is its name in `store`.
        own: so many of them, the first, are of what changes; a wheel can name any of the others too.
        begun: seconds since 1970.
    """

    prefix: Path
    sites: tuple[Path, ...]
    dists: tuple[DistInfo, ...]
    changing: frozenset[str] | None
    files: tuple[Path, ...]
    own: int
    store: Path
    begun: float

    def stays_in(self, prefix: Path) -> bool:
        """Whether all of it lies in this environment."""
        known, usual = sites_of(prefix), ("site-packages", "dist-packages")
        named = all(site.name in usual or site in known for site in self.sites)
        return named and self.prefix == prefix and all(map(self._is_ours, (*self.files, self.store)))

    def _is_ours(self, path: Path) -> bool:
        inside = any(path.is_relative_to(folder) for folder in (self.prefix, *self.sites))
        return inside and ".." not in path.parts

    @property
    def saved(self) -> tuple[DistInfo, ...]:
        """The distributions that are about to change."""
        names = self.changing
        return self.dists if names is None else tuple(dist for dist in self.dists if dist.name in names)

    @property
    def complete(self) -> bool:
        """Whether everything was kept; before that nothing was changed."""
        return (self.store / "complete").exists()

    def save(self) -> None:
        """Link or copy the files, then clear away what an installer would stumble over.

        Raises:
            OSError: not all of them; nothing was changed yet.
        """
        self.store.mkdir(parents=True)
        for number, path in enumerate(self.files[: self.own]):
            _link(path, self.store / str(number))
        for number, path in enumerate(self.files[self.own :], self.own):
            if path.suffix != ".pyc" and not _linked(path, self.store / str(number)):
                break  # copies of a whole environment would take its size and minutes
        (self.store / "complete").touch()
        # Where nobody knows what changes, nobody may put anything in the place of what is cleared.
        for error in self._remove(remains(self.sites, self.changing or ())):
            raise error

    def lost(self) -> tuple[DistInfo, ...]:
        """The saved distributions that are not as they were."""
        now, before = _by_name(distributions(self.sites, self.changing)), _by_name(self.saved)
        changed = {path for path, kept in self._kept() if not _same(path, kept)}
        return tuple(
            dist
            for dist in self.saved
            if {row.key for row in now[dist.name]} != {row.key for row in before[dist.name]}
            or not changed.isdisjoint(dist.files())
        )

    def settled(self, due: Due | None) -> Literal["new", "foreign"] | None:
        """Whether a change that was cut off came to its end, or others have ended it since; None: neither."""
        now, before = _by_name(distributions(self.sites, self.changing)), _by_name(self.saved)
        states = {_state(now[name], before[name], wanted) for name, wanted in (due or {}).items()}
        if states == {"new"}:
            return "new"
        return "foreign" if "foreign" in states and None not in states else None

    def put_back(self) -> None:
        """Make the environment what it was: what came is removed, what was kept returns.

        What another program installed meanwhile stays. One file that cannot be put back stops no other.

        Raises:
            OSError: not everything could be put back.
        """
        old = {dist.key for dist in self.dists}
        stay = self.changing
        others = [row for row in distributions(self.sites) if stay is not None and row.name not in stay]
        elsewhere = {path for dist in others if dist.key not in old for path in dist.files()}
        safe = {*self.files, *(path for dist in others for path in dist.files())}
        new = [dist for dist in distributions(self.sites, self.changing) if dist.key not in old]
        came = {self._bin / name for dist in new for name in dist.scripts()}
        came |= {path for dist in new for path in dist.files()}
        failed = self._remove(came - safe)
        for dist in new:
            shutil.rmtree(dist.site / dist.info, ignore_errors=True)
        debris = [path for path in walk(self.sites) if path not in safe and self._is_debris(path)]
        failed += self._remove(debris)
        for number, (path, kept) in enumerate(self._kept()):
            beside = number >= self.own
            if beside and (path in elsewhere or not (path in came or self._is_debris(path))):
                continue  # nothing of this change lies there
            try:
                if not _same(path, kept):
                    path.parent.mkdir(parents=True, exist_ok=True)
                    self._clear(path)
                    _link(kept, path)
            except OSError as error:
                failed.append(error)
        if failed:
            raise failed[0]

    def _clear(self, path: Path) -> None:
        """Free a place. A library that a process on Windows has loaded can be moved away, not removed."""
        try:
            path.unlink(missing_ok=True)
        except PermissionError:
            path.replace(self.store / f"moved-{uuid.uuid4().hex}")

    @property
    def _bin(self) -> Path:
        return self.prefix / ("Scripts" if sys.platform == "win32" else "bin")

    def _is_debris(self, path: Path) -> bool:
        """Whether this change may have made a file that no list names."""
        try:
            return self.begun - 2 < path.lstat().st_ctime < self.begun + _DEBRIS_WITHIN
        except OSError:
            return False

    def _remove(self, paths: Iterable[Path]) -> list[OSError]:
        """Remove files in the environment, and the folders that become empty; what could not be removed."""
        folders, failed = set(), []
        for path in paths:
            if self._is_ours(path):
                try:
                    self._clear(path)
                except OSError as error:
                    failed.append(error)
                folders |= {folder for folder in path.parents if self._is_ours(folder)}
        folders -= {self.prefix, *self.sites, self._bin}
        for folder in sorted(folders, key=lambda item: -len(item.parts)):
            with contextlib.suppress(OSError):
                folder.rmdir()
        return failed

    def _kept(self) -> Iterator[tuple[Path, Path]]:
        return ((path, self.store / str(number)) for number, path in enumerate(self.files))


def _by_name(dists: Iterable[DistInfo]) -> defaultdict[str, list[DistInfo]]:
    found = defaultdict[str, list[DistInfo]](list)
    for dist in dists:
        found[dist.name].append(dist)
    return found


def _state(now: list[DistInfo], before: list[DistInfo], wanted: str | None) -> str | None:
    """What became of one package: as wanted, as before, changed by others since, or (None) no whole state."""
    if not now:
        return "new" if wanted is None else None if before else "old"
    if len(now) > 1 or now[0].lacking is not None:
        return None
    if wanted is not None and same_version(now[0].version, wanted):
        return "new"
    return "old" if any(same_version(now[0].version, dist.version) for dist in before) else "foreign"


def plan_backup(
    sites: Iterable[Path],
    prefix: Path,
    store: Path,
    changing: Collection[str] | None = None,
    more: Iterable[Path] = (),
) -> Backup:
    """Say what is installed and what has to be kept (`changing` None: all of it); nothing is kept yet.

    `more` are further files that may change.
    """
    folders = tuple(dict.fromkeys(path for path in sites if path.is_dir()))
    dists = distributions(folders)
    names = None if changing is None else frozenset(map(canonical_name, changing))
    listed = (path for dist in dists if names is None or dist.name in names for path in dist.files())
    own = dict.fromkeys(path for path in (*listed, *more) if os.path.lexists(path))
    beside = dict.fromkeys((*walk(folders), *_beside_packages(prefix)))
    return Backup(
        prefix=prefix,
        sites=folders,
        dists=dists,
        changing=names,
        files=tuple({**own, **beside}),
        own=len(own),
        store=store,
        begun=time.time(),
    )


def _beside_packages(prefix: Path) -> Iterator[Path]:
    """The files of a virtual environment outside its site folders that a wheel can replace."""
    if (prefix / "pyvenv.cfg").exists():
        yield from (path for path in prefix.iterdir() if path.is_file())
        yield from walk(prefix / name for name in ("bin", "Scripts", "etc", "include", "share"))


def _link(source: Path, place: Path) -> None:
    if not _linked(source, place):
        shutil.copy2(source, place, follow_symlinks=False)


def _linked(source: Path, place: Path) -> bool:
    """Whether a second name could be given to a file; a folder needs none."""
    try:
        os.link(source, place, follow_symlinks=False)
    except (OSError, NotImplementedError):
        return source.is_dir() and not source.is_symlink()
    return True


def _same(path: Path, kept: Path) -> bool:
    try:
        one, other = path.lstat(), kept.lstat()
    except OSError:
        return not os.path.lexists(kept)
    return (one.st_ino, one.st_dev) == (other.st_ino, other.st_dev) or (
        (one.st_size, one.st_mtime_ns) == (other.st_size, other.st_mtime_ns) and other.st_nlink == 1
    )
