"""Keep the files of packages that are about to be replaced, as hard links: no bytes, a moment's work.

The links lie in a folder of the environment itself (`.torchinstall-keep-…`), so that they are on the same
filesystem and survive a uv that was killed; `manifest.json` in it says what belongs where, so that a later
`torchinstall doctor` can put everything back.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path, PurePosixPath

from msgspec import Struct, structs

from torchinstall.install.interpreter import BACKUP_PREFIX

__all__ = [
    "BACKUP_PREFIX",
    "Dist",
    "Snapshot",
    "distributions",
    "forget",
    "kept_files",
    "load_snapshot",
    "normalised",
    "snapshot",
]

_MANIFEST = "manifest.json"
_DIST_INFO = re.compile(r"(?P<name>.+?)-(?P<version>[^-]+)\.dist-info")


def normalised(name: str) -> str:
    """A project name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


class Dist(Struct, frozen=True, kw_only=True):
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


class Snapshot(Struct, frozen=True, kw_only=True):
    """What was installed before.

    Attributes:
        prefix: the environment.
        sites: the folders that were looked at.
        dists: every distribution, in order.
        changing: normalised names that are about to change.
        links: folder with the links to the files of those; None where links cannot be made.
        entries: what lay in each site folder.
    """

    prefix: Path
    sites: tuple[Path, ...]
    dists: tuple[Dist, ...]
    changing: frozenset[str]
    links: Path | None
    entries: tuple[tuple[str, ...], ...]

    @property
    def kept(self) -> tuple[Dist, ...]:
        """The distributions that are about to change."""
        return tuple(dist for dist in self.dists if dist.name in self.changing)


def distributions(sites: Iterable[Path]) -> tuple[Dist, ...]:
    """Every distribution in these folders; folders that cannot be read hold none."""
    found = []
    for site in sites:
        for entry in _names(site):
            match = _DIST_INFO.fullmatch(entry)
            if match is None or entry.startswith("~"):
                continue
            found.append(
                Dist(
                    name=normalised(match["name"]),
                    version=match["version"],
                    site=site,
                    info=entry,
                    url=_direct_url(site / entry),
                )
            )
    return tuple(found)


def snapshot(sites: Iterable[Path], prefix: Path, changing: Collection[str] | None = None) -> Snapshot:
    """Record what is installed, and keep the files of what is about to change.

    Args:
        sites: the environment's site-packages folders.
        prefix: the environment, where the links are kept.
        changing: names of the packages about to change; None: all of them.
    """
    folders = tuple(dict.fromkeys(path for path in sites if path.is_dir()))
    dists = distributions(folders)
    names = frozenset(
        (dist.name for dist in dists) if changing is None else (normalised(name) for name in changing)
    )
    before = Snapshot(
        prefix=prefix,
        sites=folders,
        dists=dists,
        changing=names,
        links=None,
        entries=tuple(_names(folder) for folder in folders),
    )
    return _linked(before) if before.kept else before


def forget(before: Snapshot) -> None:
    """Give up the links."""
    if before.links is not None:
        shutil.rmtree(before.links, ignore_errors=True)


def _linked(before: Snapshot) -> Snapshot:
    store: Path | None = None
    try:
        store = Path(tempfile.mkdtemp(prefix=BACKUP_PREFIX, dir=before.prefix))
        for number, dist in enumerate(before.kept):
            for name in (*dist.files(), f"{dist.info}/RECORD"):
                _link(dist.site / name, store / str(number) / _flat(name))
        kept = structs.replace(before, links=store)
        (store / _MANIFEST).write_text(json.dumps(_to_json(kept)), encoding="utf-8")
    except OSError:
        if store is not None:
            shutil.rmtree(store, ignore_errors=True)
        return before
    return kept


def _link(source: Path, place: Path) -> None:
    if not source.is_file() or place.exists():
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    os.link(source, place)


def _flat(name: str) -> str:
    """A path of `RECORD` that stays inside the folder: scripts (`../../../bin/…`) lie beside the site."""
    return name.replace("../", "@up/")


def kept_files(links: Path, number: int) -> Iterator[tuple[str, Path]]:
    """Each kept file of the `number`-th kept distribution: its name in `RECORD`, and the link."""
    root = links / str(number)
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            yield path.relative_to(root).as_posix().replace("@up/", "../"), path


def load_snapshot(links: Path) -> Snapshot | None:
    """The snapshot that an interrupted run left behind; None where it is not complete."""
    try:
        data = json.loads((links / _MANIFEST).read_text(encoding="utf-8"))
        return Snapshot(
            prefix=Path(data["prefix"]),
            sites=tuple(Path(site) for site in data["sites"]),
            dists=tuple(
                Dist(name=name, version=version, site=Path(site), info=info, url=url)
                for name, version, site, info, url in data["dists"]
            ),
            changing=frozenset(data["changing"]),
            links=links,
            entries=tuple(tuple(names) for names in data["entries"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _to_json(taken: Snapshot) -> dict[str, object]:
    return {
        "prefix": str(taken.prefix),
        "sites": [str(site) for site in taken.sites],
        "dists": [[item.name, item.version, str(item.site), item.info, item.url] for item in taken.dists],
        "changing": sorted(taken.changing),
        "entries": [list(names) for names in taken.entries],
    }


def _names(folder: Path) -> tuple[str, ...]:
    try:
        return tuple(sorted(entry.name for entry in os.scandir(folder)))
    except OSError:
        return ()


def _direct_url(info: Path) -> str | None:
    try:
        data = json.loads((info / "direct_url.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    url = data.get("url") if isinstance(data, dict) else None
    editable = isinstance(data, dict) and (data.get("dir_info") or {}).get("editable")
    return str(url) if url and not editable else None
