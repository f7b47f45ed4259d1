"""The distributions that are installed in a folder, and whether each is whole."""

from __future__ import annotations

import configparser
import csv
import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path, PurePosixPath

import msgspec
from msgspec import Struct

from torchinstall.core.request import canonical_name

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

    def record(self) -> Iterator[tuple[str, int | None]]:
        """Its files as `RECORD` lists them, relative to `site`, with sizes; nothing where it is gone."""
        try:
            text = (self.site / self.info / "RECORD").read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return
        for row in csv.reader(text.splitlines()):
            # A path that leads out of the environment is none that an installer wrote.
            if row and row[0] and not PurePosixPath(row[0]).is_absolute() and row[0].count("../") <= 4:
                yield row[0], int(row[2]) if len(row) > 2 and row[2].isdecimal() else None

    def files(self) -> Iterator[Path]:
        """The paths of its files, and of its list; links as they are named."""
        yield from (Path(os.path.normpath(self.site / name)) for name, _ in self.record())
        yield self.site / self.info / "RECORD"

    def scripts(self) -> Iterator[str]:
        """The names of the commands that it declares, also before its list names their files."""
        parser = configparser.ConfigParser(delimiters=("=",), interpolation=None, strict=False)
        parser.optionxform = str  # type: ignore[assignment,method-assign]  # the documented way to keep case
        try:
            parser.read(self.site / self.info / "entry_points.txt", encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError):
            return
        for group in ("console_scripts", "gui_scripts"):
            yield from parser[group] if parser.has_section(group) else ()

    @property
    def lacking(self) -> str | None:
        """The first file of its list that is missing or has another size, but for bytecode."""
        name = f"{self.info}/RECORD"
        listed = False
        for name, size in self.record():
            listed = True
            if name.endswith(".pyc"):
                continue
            try:
                found = (self.site / name).stat().st_size
            except OSError:
                return name
            if size is not None and size != found:
                return name
        return None if listed else name

    def brings(self, folder: Path) -> bool:
        """Whether one of its files is this path or lies below it."""
        return any(path.is_relative_to(folder) for path in self.files())


def distributions(sites: Iterable[Path], names: Collection[str] | None = None) -> tuple[DistInfo, ...]:
    """The distributions in these folders, all or those with these names; unreadable folders hold none."""
    found = []
    for site in sites:
        for entry in _names(site):
            match = _DIST_INFO.fullmatch(entry)
            if match is None or entry.startswith("~"):
                continue
            name = canonical_name(match["name"])
            if names is None or name in names:
                found.append(DistInfo(name, match["version"], site, entry, _direct_url(site / entry)))
    return tuple(found)


def broken(sites: Iterable[Path], names: Collection[str]) -> tuple[str, ...]:
    """Those of these packages that are there twice, or whose files are not all there.

    A file that somebody has changed is his affair.
    """
    found = distributions(sites, names)
    count = Counter(dist.name for dist in found)
    return tuple(
        sorted(
            {
                dist.name
                for dist in found
                if count[dist.name] > 1
                or any(path.suffix != ".pyc" and not path.exists() for path in dist.files())
            }
        )
    )


def same_version(one: str, other: str) -> bool:
    """Whether two spellings mean one version."""
    if one == other:
        return True
    from packaging.version import InvalidVersion, Version  # spellings hardly ever differ

    try:
        return Version(one) == Version(other)
    except InvalidVersion:
        return False


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
