"""Back up the files of packages that are about to be replaced, as hard links: no bytes, a moment's work.

The links lie in a folder of the environment itself (`.torchinstall-keep-…`), so that they are on the same
filesystem and survive a uv that was killed; `manifest.json` in it says what belongs where, so that a later
`torchinstall doctor` can put everything back.
"""

from __future__ import annotations

import csv
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path, PurePosixPath

import msgspec
from msgspec import Struct, structs

from torchinstall.core.request import canonical_name
from torchinstall.install.interpreter import BACKUP_PREFIX

__all__ = ["BACKUP_PREFIX", "Backup", "DistInfo", "distributions", "load_backup", "take_backup"]

_MANIFEST = "manifest.json"
_DIST_INFO = re.compile(r"(?P<name>.+?)-(?P<version>[^-]+)\.dist-info")


class DistInfo(Struct, frozen=True, array_like=True):
    """One installed distribution.

    Attributes:
        name: normalised.
        site: the folder it is installed in.
        info: name of its `.dist-info` folder there.
        url: where it was taken from, if not from an index (`direct_url.json`).
    """

    name: str
    version: str
    site: Path
    info: str
    url: str | None = None

    @property
    def key(self) -> tuple[Path, str]:
        """What tells it from every other distribution."""
        return self.site, self.info

    @property
    def requirement(self) -> str:
        """What asks for exactly this again."""
        return f"{self.name} @ {self.url}" if self.url else f"{self.name}=={self.version}"

    def files(self) -> Iterator[str]:
        """Its files as `RECORD` lists them, relative to `site`; nothing where the list is gone."""
        try:
            text = (self.site / self.info / "RECORD").read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return
        for row in csv.reader(text.splitlines()):
            # A path that leads out of the environment is none that an installer wrote.
            if row and row[0] and not PurePosixPath(row[0]).is_absolute() and row[0].count("../") <= 4:
                yield row[0]

    @property
    def whole(self) -> bool:
        """Whether every file of its list exists, but for bytecode."""
        names = [name for name in self.files() if not name.endswith(".pyc")]
        return bool(names) and all((self.site / name).exists() for name in names)


def distributions(sites: Iterable[Path]) -> tuple[DistInfo, ...]:
    """Every distribution in these folders; folders that cannot be read hold none."""
    matches = ((site, _DIST_INFO.fullmatch(entry)) for site in sites for entry in _names(site))
    return tuple(
        DistInfo(
            canonical_name(match["name"]), match["version"], site, match[0], _direct_url(site / match[0])
        )
        for site, match in matches
        if match is not None and not match[0].startswith("~")
    )


class Backup(Struct, frozen=True, kw_only=True):
    """What was installed before.

    Attributes:
        prefix: the environment.
        sites: its site-packages folders.
        dists: every distribution, in order.
        changing: normalised names that are about to change.
        entries: the names in each site folder.
        links: folder with the links to the files of what changes; None where links cannot be made.
    """

    prefix: Path
    sites: tuple[Path, ...]
    dists: tuple[DistInfo, ...]
    changing: frozenset[str]
    entries: tuple[tuple[str, ...], ...]
    links: Path | None = None

    @property
    def saved(self) -> tuple[DistInfo, ...]:
        """The distributions that are about to change."""
        return tuple(dist for dist in self.dists if dist.name in self.changing)

    def changed(self) -> tuple[DistInfo, ...]:
        """The saved distributions that are not as they were: another version, or files gone."""
        now = {dist.key for dist in distributions(self.sites)}
        replaced = self._successors()
        return tuple(
            dist
            for number, dist in enumerate(self.saved)
            if dist.key not in now or dist.name in replaced or not self._intact(number, dist)
        )

    def finished(self) -> bool:
        """Whether the install had come to its end: each saved distribution has a whole successor.

        For a run that was killed after uv was done and before the links were given up.
        """
        after = self._successors()
        gone = [dist for dist in self.saved if not (dist.site / dist.info).is_dir()]
        due = (dist for dist in self.saved if dist in gone or dist.name in after)
        return bool(gone) and all(dist.name in after and after[dist.name].whole for dist in due)

    def _successors(self) -> dict[str, DistInfo]:
        before = {dist.key for dist in self.dists}
        return {dist.name: dist for dist in distributions(self.sites) if dist.key not in before}

    def _intact(self, number: int, dist: DistInfo) -> bool:
        if self.links is None:
            return all((dist.site / name).exists() for name in dist.files() if not name.endswith(".pyc"))
        return all(_same(dist.site / name, link) for name, link in self._links(number))

    def _links(self, number: int) -> Iterator[tuple[str, Path]]:
        """Each link to a file of the `number`-th saved distribution, with its name in `RECORD`."""
        root = (self.links or self.prefix) / str(number)
        for folder, _, names in os.walk(root):
            for name in names:
                path = Path(folder, name)
                yield path.relative_to(root).as_posix().replace("@up/", "../"), path

    def put_back(self, lost: Collection[DistInfo]) -> None:
        """Remove what came in their place and link the files of these distributions back.

        Raises:
            OSError: not everything could be put back.
        """
        names = {dist.name for dist in lost}
        _remove(self.sites, lambda dist: dist.name in names)
        for number, dist in enumerate(self.saved):
            if dist not in lost:
                continue
            links = dict(self._links(number))
            self._sweep(dist, links)
            for name, link in links.items():
                file = dist.site / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.unlink(missing_ok=True)
                os.link(link, file)

    def _sweep(self, dist: DistInfo, wanted: Collection[str]) -> None:
        """Remove files of a half-installed successor from folders that belong to this distribution alone."""
        others = {
            _top(name)
            for other in distributions(self.sites)
            if other.name != dist.name and other.site == dist.site
            for name in other.files()
        }
        for top in {_top(name) for name in wanted if not name.startswith("../")} - others:
            for folder, _, names in os.walk(dist.site / top):
                for file in (Path(folder, name) for name in names):
                    if file.relative_to(dist.site).as_posix() not in wanted:
                        file.unlink(missing_ok=True)

    def strays(self) -> tuple[Path, ...]:
        """What packages that are new have left: their metadata and the folders of their names."""
        new = self.changing - {dist.name for dist in self.dists}
        return tuple(
            site / entry
            for site, before in zip(self.sites, self.entries, strict=True)
            for entry in _names(site)
            if entry not in before and _package(entry) in new
        )

    def remove(self, strays: Collection[Path]) -> None:
        """Remove what `strays` found.

        Raises:
            OSError: not everything could be removed.
        """
        _remove(self.sites, lambda dist: dist.site / dist.info in strays)
        for path in strays:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def discard(self) -> None:
        """Give up the links."""
        if self.links is not None:
            shutil.rmtree(self.links, ignore_errors=True)


def take_backup(sites: Iterable[Path], prefix: Path, changing: Collection[str] | None = None) -> Backup:
    """Record what is installed, and link the files of what is about to change.

    Args:
        sites: the environment's site-packages folders.
        prefix: the environment, where the links lie.
        changing: names of the packages about to change; None: all of them.
    """
    folders = tuple(dict.fromkeys(path for path in sites if path.is_dir()))
    dists = distributions(folders)
    names = (dist.name for dist in dists) if changing is None else map(canonical_name, changing)
    backup = Backup(
        prefix=prefix,
        sites=folders,
        dists=dists,
        changing=frozenset(names),
        entries=tuple(_names(folder) for folder in folders),
    )
    if not backup.saved:
        return backup
    store: Path | None = None
    try:
        store = Path(tempfile.mkdtemp(prefix=BACKUP_PREFIX, dir=prefix))
        for number, dist in enumerate(backup.saved):
            for name in (*dist.files(), f"{dist.info}/RECORD"):
                # Scripts (`../../../bin/…`) lie outside the site, and inside the folder all the same.
                _link(dist.site / name, store / str(number) / name.replace("../", "@up/"))
        (store / _MANIFEST).write_bytes(msgspec.json.encode(backup, enc_hook=str))
    except OSError:
        if store is not None:
            shutil.rmtree(store, ignore_errors=True)
        return backup
    return structs.replace(backup, links=store)


def load_backup(links: Path) -> Backup | None:
    """The backup that an interrupted run left behind; None where it is not complete."""
    try:
        data = (links / _MANIFEST).read_bytes()
        backup = msgspec.json.decode(data, type=Backup, dec_hook=lambda kind, value: kind(value))
    except (OSError, ValueError):
        return None
    return structs.replace(backup, links=links)


def _link(source: Path, place: Path) -> None:
    if source.is_file() and not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        os.link(source, place)


def _remove(sites: Iterable[Path], chosen: Callable[[DistInfo], bool]) -> None:
    """Remove distributions by their own lists, except for files that another one lists too."""
    found = distributions(sites)
    shared = {dist.site / name for dist in found if not chosen(dist) for name in dist.files()}
    for dist in filter(chosen, found):
        for path in {dist.site / name for name in dist.files()} - shared:
            path.unlink(missing_ok=True)
        shutil.rmtree(dist.site / dist.info, ignore_errors=True)


def _same(path: Path, link: Path) -> bool:
    try:
        return path.samefile(link) or path.stat().st_size == link.stat().st_size
    except OSError:
        return False


def _top(name: str) -> str:
    """The folder that a file belongs to; two levels below the namespace that NVIDIA's packages share."""
    parts = PurePosixPath(name).parts
    return "/".join(parts[:2]) if parts[0] == "nvidia" and len(parts) > 2 else parts[0]


def _package(entry: str) -> str:
    """The normalised name of the package that an entry of a site folder looks like it belongs to."""
    stem = entry.removesuffix(".libs").removesuffix(".dist-info").removesuffix(".py")
    return canonical_name(stem.partition("-")[0] if entry.endswith(".dist-info") else stem)


def _names(folder: Path) -> tuple[str, ...]:
    try:
        return tuple(sorted(entry.name for entry in os.scandir(folder)))
    except OSError:
        return ()


def _direct_url(info: Path) -> str | None:
    try:
        data = msgspec.json.decode((info / "direct_url.json").read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(data, dict) or (data.get("dir_info") or {}).get("editable"):
        return None
    return str(data.get("url") or "") or None
