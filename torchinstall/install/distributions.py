"""The distributions that are installed in a folder, and whether each is whole."""

from __future__ import annotations

import base64
import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from msgspec import Struct
from packaging.version import InvalidVersion, Version

from torchinstall.core.decoding import load
from torchinstall.core.files import names_in, real_path, sha256, text_in
from torchinstall.core.request import canonical_name
from torchinstall.index.wheels import metadata_values

_DIST_INFO = r"(?P<name>.+?)-(?P<version>[^-]+)\.dist-info"

_SMALL = 4096
"""Bytes of a file whose content is compared too; of a larger one the size says enough."""


class DistInfo(Struct, frozen=True, array_like=True):
    """One installed distribution.

    Attributes:
        name: normalised.
        info: name of its `.dist-info` folder in `site`.
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
    def editable(self) -> bool:
        """Whether its code lies elsewhere, where it may change."""
        return _origin(self.site / self.info).dir_info.get("editable") is True

    def text(self, name: str) -> str:
        """A file of its metadata; empty where it cannot be read. A power cut may leave zeros in its place."""
        return text_in(self.site / self.info / name).replace("\0", "")

    def metadata(self, key: str) -> list[str]:
        """Every value of one key of its metadata."""
        return metadata_values(self.text("METADATA"), key)

    @property
    def _whole(self) -> bool:
        """Whether its list of files came to its end, and all of it is text that an installer can read."""
        text = text_in(self.site / self.info / "RECORD", errors="replace")
        return text.endswith("\n") and not any(mark in text for mark in "\0\ufffd")

    @property
    def listed(self) -> bool:
        """Whether it has a list of its files that is whole and its own: one that names itself."""
        return self._whole and f"{self.info}/RECORD" in self.text("RECORD")

    def _rows(self) -> Iterator[tuple[str, str, str]]:
        """Path relative to `site`, hash and size of each of its files, as `RECORD` lists them."""
        for line in self.text("RECORD").splitlines():
            name, digest, size = [*line.rsplit(",", 2), "", ""][:3]
            name = name[1:-1].replace('""', '"') if name.startswith('"') else name
            # A path that leads out of the environment is none that an installer wrote.
            if name and not PurePosixPath(name).is_absolute() and name.count("../") <= 4:
                yield name, digest, size

    def needs(self, name: str) -> bool:
        """Whether its metadata names a package among its dependencies."""
        wanted = re.compile(rf"{re.escape(name)}(?![\w.-])", re.IGNORECASE)
        return any(wanted.match(text) for text in self.metadata("requires-dist"))

    @property
    def foreign(self) -> bool:
        """Whether an operating system put it there, which keeps no list with it: no business of ours."""
        return not self.text("RECORD") and self.text("INSTALLER").strip() not in ("", "uv", "pip")

    @property
    def orphaned(self) -> bool:
        """Whether it lost its list, so that its installer cannot take it away any more."""
        return not self.listed and not self.foreign

    def files(self) -> Iterator[Path]:
        """Its files: what its list names, its metadata, and without a list all that lies in its folders."""
        yield from self.named()
        tops = (self.text("top_level.txt") or self.name.replace("-", "_")).split()
        for top in (self.info, *(tops if self.orphaned else ())):
            yield from walk((self.site / top,))

    def named(self) -> Iterator[Path]:
        """The files that its list names."""
        return (Path(os.path.normpath(self.site / name)) for name, *_ in self._rows())

    def scripts(self) -> Iterator[str]:
        """The names of the commands that it declares, also before its list names their files."""
        group = ""
        for line in map(str.strip, self.text("entry_points.txt").splitlines()):
            if line.startswith("["):
                group = line.strip("[] ")
            elif group in ("console_scripts", "gui_scripts") and "=" in line and line[0] not in "#;":
                yield line.partition("=")[0].strip()

    def faults(self, *, content: bool = False) -> Iterator[tuple[str, bool]]:
        """What is wrong with its files, but for bytecode; True: missing, False: it is there and differs.

        Installers put a wheel's own list in place first, which is complete but for what they add. They write
        `INSTALLER` and then their list as the last of all: without that row nobody came to the end. With
        `content` the bytes of small files are compared too, not only the size.
        """
        rows = list(self._rows())
        if not self._whole:
            yield f"{self.info}/RECORD", True
        elif not any(name == f"{self.info}/INSTALLER" for name, *_ in rows):
            yield f"{self.info}/INSTALLER", True
        for name, digest, size in rows:
            path = self.site / name
            if name.endswith(".pyc"):
                continue
            try:
                found = path.stat().st_size
                small = content and found <= _SMALL and digest.startswith("sha256=") and path.is_file()
                other = small and digest != _digest(path)
            except OSError:
                yield name, True
                continue
            wiped = name == f"{self.info}/METADATA" and not self.text("METADATA")
            if other or wiped or (size.isdecimal() and int(size) != found):
                yield name, False

    def damage(self) -> list[tuple[str, bool]]:
        """Its faults, but for lists of conda (true where it was built) and tests (small images omit them)."""
        rows = self.faults() if self.text("INSTALLER").strip() != "conda" else ()
        return [row for row in rows if not re.search(r"/tests?/", row[0])]

    @property
    def lacking(self) -> str | None:
        """The first file that is missing or not as its list says; None: it is whole."""
        return next((name for name, _ in self.faults(content=True)), None)

    def brings(self, folder: Path) -> bool:
        """Whether one of its files is this path or lies below it."""
        return any(path.is_relative_to(folder) for path in self.files())


def distributions(sites: Iterable[Path], names: Collection[str] | None = None) -> tuple[DistInfo, ...]:
    """The distributions in these folders, all or those with these names; unreadable folders hold none."""
    found = []
    for site in sites:
        for entry in names_in(site):
            match = re.fullmatch(_DIST_INFO, entry)
            if match is None or entry.startswith("~"):
                continue
            name = canonical_name(match["name"])
            if names is None or name in names:
                origin = _origin(site / entry)
                url = None if origin.dir_info.get("editable") else origin.url or None
                found.append(DistInfo(name, match["version"], site, entry, url))
    return tuple(found)


def broken(sites: Iterable[Path], names: Collection[str]) -> tuple[str, ...]:
    """Those of these packages that are there twice, or whose files are not all there.

    A file that somebody has changed is his affair.
    """
    found = [dist for dist in distributions(sites, names) if not dist.foreign]
    count = Counter(dist.name for dist in found)
    faulty = (dist for dist in found if count[dist.name] > 1 or any(missing for _, missing in dist.damage()))
    return tuple(sorted({dist.name for dist in faulty}))


def remains(sites: Iterable[Path], names: Collection[str]) -> Iterator[Path]:
    """Files of these packages that no installer takes away: the metadata of the old version would stay."""
    found = distributions(sites)
    mine = [dist for dist in found if dist.name in names and not dist.foreign]
    lost = [dist for dist in mine if dist.orphaned]
    listed = {path for dist in found if dist not in lost for path in dist.files()} if lost else set()
    for dist in mine:
        taken = listed if dist in lost else set(dist.named())
        yield from (path for path in dist.files() if path not in taken)


def walk(folders: Iterable[Path]) -> Iterator[Path]:
    """Every file in these folders."""
    for folder in folders:
        for place, _, names in os.walk(folder):
            yield from (Path(place, name) for name in names)


def _digest(path: Path) -> str:
    """The hash of a file as `RECORD` writes it."""
    data = bytes.fromhex(sha256(path.read_bytes()))
    return "sha256=" + base64.urlsafe_b64encode(data).decode().rstrip("=")


def same_version(one: str, other: str) -> bool:
    """Whether two spellings mean one version."""
    if one == other:
        return True
    try:
        return Version(one) == Version(other)
    except InvalidVersion:
        return False


class _Origin(Struct):
    """What is read of `direct_url.json` (PEP 610)."""

    url: str = ""
    dir_info: dict[str, Any] = {}


def _origin(info: Path) -> _Origin:
    return load(info / "direct_url.json", _Origin) or _Origin()


def sites_of(prefix: Path) -> list[Path]:
    """The folders of packages in an environment, without symbolic links."""
    found = (*prefix.glob("lib/python3*/site-packages"), *prefix.glob("Lib/site-packages"))
    return list(map(real_path, found))
