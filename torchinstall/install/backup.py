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
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal

from msgspec import Struct

from torchinstall.core.request import canonical_name
from torchinstall.install.distributions import DistInfo, distributions, same_version

State = Literal["old", "new", "foreign", "broken"]
"""An environment after a change that was cut off: as before, as wanted, changed by others since, or a mix."""

_DEBRIS_WITHIN = 3600.0
"""Seconds after its beginning in which a change may have made a file; what is younger is somebody else's."""


class Backup(Struct, frozen=True, kw_only=True):
    """What was installed before a change, and where the files of what changes are kept.

    Attributes:
        prefix: the environment.
        sites: its site-packages folders.
        dists: every distribution, in order.
        changing: normalised names of what is about to change.
        files: path of each kept file; its number is its name in `store`.
        present: every file in the site folders.
        store: folder of the kept files.
        begun: seconds since 1970.
    """

    prefix: Path
    sites: tuple[Path, ...]
    dists: tuple[DistInfo, ...]
    changing: frozenset[str]
    files: tuple[Path, ...]
    present: frozenset[Path]
    store: Path
    begun: float

    def stays_in(self, prefix: Path) -> bool:
        """Whether all of it lies in this environment."""
        named = all(site.name in ("site-packages", "dist-packages") for site in self.sites)
        return named and self.prefix == prefix and all(map(self._is_ours, (*self.files, self.store)))

    def _is_ours(self, path: Path) -> bool:
        return (
            any(path.is_relative_to(folder) for folder in (self.prefix, *self.sites))
            and ".." not in path.parts
        )

    @property
    def saved(self) -> tuple[DistInfo, ...]:
        """The distributions that are about to change."""
        return tuple(dist for dist in self.dists if dist.name in self.changing)

    @property
    def complete(self) -> bool:
        """Whether everything was kept; before that nothing was changed."""
        return (self.store / "complete").exists()

    def keep(self) -> None:
        """Link or copy the files.

        Raises:
            OSError: not all of them; nothing was changed yet.
        """
        self.store.mkdir(parents=True)
        for number, path in enumerate(self.files):
            _link(path, self.store / str(number))
        (self.store / "complete").touch()

    def discard(self) -> None:
        """Give the kept files up."""
        shutil.rmtree(self.store, ignore_errors=True)

    def lost(self) -> tuple[DistInfo, ...]:
        """The saved distributions that are not as they were."""
        now: dict[str, set[tuple[Path, str]]] = {}
        for dist in distributions(self.sites, self.changing):
            now.setdefault(dist.name, set()).add(dist.key)
        changed = {path for path, kept in self._kept() if not _same(path, kept)}
        return tuple(
            dist
            for dist in self.saved
            if now.get(dist.name) != {row.key for row in self.saved if row.name == dist.name}
            or not changed.isdisjoint(dist.files())
        )

    def state(self, due: Mapping[str, str | None] | None) -> State:
        """What became of the change.

        Args:
            due: name -> version of what was to be there in the end, None: gone; None: nobody knows.
        """
        now: dict[str, list[DistInfo]] = {}
        for dist in distributions(self.sites, self.changing):
            now.setdefault(dist.name, []).append(dist)
        lost = {dist.name for dist in self.lost()}
        seen = [self._state_of(name, now.get(name, []), lost, due) for name in self.changing]
        for state in ("old", "new"):
            if all(state in states for states in seen):
                return state
        # Where nobody knows what was to come, any whole state may be what somebody wanted.
        chosen = any if due is not None else all
        return "foreign" if chosen("foreign" in states for states in seen) else "broken"

    def _state_of(
        self, name: str, now: list[DistInfo], lost: Collection[str], due: Mapping[str, str | None] | None
    ) -> set[State]:
        before = [dist for dist in self.saved if dist.name == name]
        whole = len(now) == 1 and now[0].lacking is None
        states: set[State] = set()
        if [dist.key for dist in now] == [dist.key for dist in before] and (whole or name not in lost):
            states.add("old")
        wanted = None if due is None else due.get(name)
        if due is not None and name in due:
            there = whole and wanted is not None and same_version(now[0].version, wanted)
            states |= {"new"} if there or (wanted is None and not now) else set()
        known = [wanted, *(dist.version for dist in before)] if due is not None else []
        if (due is None and not now) or (
            whole and not any(same_version(now[0].version, version) for version in known if version)
        ):
            states.add("foreign")
        return states

    def put_back(self) -> None:
        """Make the environment what it was: what came is removed, what was kept returns.

        What another program installed meanwhile stays.

        Raises:
            OSError: not everything could be put back.
        """
        old = {dist.key for dist in self.saved}
        others = (dist for dist in distributions(self.sites) if dist.name not in self.changing)
        safe = {*self.files, *self.present, *(path for dist in others for path in dist.files())}
        for dist in distributions(self.sites, self.changing):
            if dist.key not in old:
                names = (self._bin / name for name in dist.scripts())
                self._remove(path for path in (*dist.files(), *names) if path not in safe)
                shutil.rmtree(dist.site / dist.info, ignore_errors=True)
        self._remove(path for path in _files(self.sites) if path not in safe and self._is_debris(path))
        for path, kept in self._kept():
            if not _same(path, kept):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.unlink(missing_ok=True)
                _link(kept, path)

    @property
    def _bin(self) -> Path:
        return self.prefix / ("Scripts" if sys.platform == "win32" else "bin")

    def _is_debris(self, path: Path) -> bool:
        """Whether this change may have made a file that no list names."""
        try:
            return self.begun - 2 < path.lstat().st_ctime < self.begun + _DEBRIS_WITHIN
        except OSError:
            return False

    def _remove(self, paths: Iterable[Path]) -> None:
        """Remove files in the environment, and the folders that become empty."""
        folders = set()
        for path in paths:
            if self._is_ours(path):
                path.unlink(missing_ok=True)
                folders |= {folder for folder in path.parents if self._is_ours(folder)}
        for folder in sorted(
            folders - {self.prefix, *self.sites, self._bin}, key=lambda item: -len(item.parts)
        ):
            with contextlib.suppress(OSError):
                folder.rmdir()

    def _kept(self) -> Iterator[tuple[Path, Path]]:
        return ((path, self.store / str(number)) for number, path in enumerate(self.files))


def plan_backup(
    sites: Iterable[Path],
    prefix: Path,
    store: Path,
    changing: Collection[str] | None = None,
    more: Iterable[Path] = (),
) -> Backup:
    """Say what is installed and what has to be kept; nothing is kept yet.

    Args:
        sites: the environment's site-packages folders.
        prefix: the environment.
        store: where the files will be kept.
        changing: names of the packages about to change; None: all of them.
        more: further files that may change.
    """
    folders = tuple(dict.fromkeys(path for path in sites if path.is_dir()))
    dists = distributions(folders)
    names = frozenset({dist.name for dist in dists} if changing is None else map(canonical_name, changing))
    listed = (path for dist in dists if dist.name in names for path in dist.files())
    return Backup(
        prefix=prefix,
        sites=folders,
        dists=dists,
        changing=names,
        files=tuple(dict.fromkeys(path for path in (*listed, *more) if os.path.lexists(path))),
        present=frozenset(_files(folders)),
        store=store,
        begun=time.time(),
    )


def _files(sites: Iterable[Path]) -> Iterator[Path]:
    for site in sites:
        for folder, _, names in os.walk(site):
            yield from (Path(folder, name) for name in names)


def _link(source: Path, place: Path) -> None:
    if source.is_dir() and not source.is_symlink():
        return
    try:
        os.link(source, place, follow_symlinks=False)
    except (OSError, NotImplementedError):
        shutil.copy2(source, place, follow_symlinks=False)


def _same(path: Path, kept: Path) -> bool:
    try:
        one, other = path.lstat(), kept.lstat()
    except OSError:
        return not os.path.lexists(kept)
    return (one.st_ino, one.st_dev) == (other.st_ino, other.st_dev) or (
        (one.st_size, one.st_mtime_ns) == (other.st_size, other.st_mtime_ns) and other.st_nlink == 1
    )
