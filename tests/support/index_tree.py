"""What an index holds and how its pages look, byte by byte as download.pytorch.org writes them.

The traps are kept: root objects on every page, `%2B` in hrefs, hashes that are missing, names with spaces,
backends listed beside packages on the root page, 403 for what is not there.
"""

from __future__ import annotations

import hashlib
import html
import json
import re
import urllib.parse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.support.wheelhouse import TinyWheel, wheel_of_name

REAL_NAMES = Path(__file__).with_name("data") / "real_names.jsonl"

Hrefs = Literal["root", "relative", "absolute"]
"""`/whl/cu128/…`, `../…`, or with scheme and host."""

_BACKEND = re.compile(r"(?:cu\d+|rocm\d+\.\d+(?:\.\d+)?|cpu|xpu)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A file of the index.

    Attributes:
        path: object key, with a literal `+`: `/whl/cu128/torch-2.9.1+cu128-….whl`.
        hashed: its link carries `#sha256=`.
        described: a `.metadata` file lies beside it, and its link says so.
        href: replaces the link altogether.
    """

    path: str
    wheel: TinyWheel
    hashed: bool = True
    described: bool = True
    href: str | None = None

    @property
    def directory(self) -> str:
        """The directory it lies in."""
        return self.path.rpartition("/")[0]


def prefix_of(channel: str, root: str = "/whl") -> str:
    """Where a channel begins: `/whl`, `/whl/nightly`, `/whl/test`."""
    return root if channel == "stable" else f"{root}/{channel}"


class IndexTree:
    """A mutable index: tests add to it and take from it while a server shows it.

    Args:
        wheels: backend -> wheels of the stable channel; backend `""` puts them at the root.
        kind: `pytorch` shows backends, root objects and 403; `pypi` one flat `/simple/` and 404.
        missing_status: for what is not there, instead of the kind's own; uv takes 403 for "not here" only
            from the host download.pytorch.org, so a mirror that uv asks for missing packages needs 404.
    """

    def __init__(
        self,
        wheels: Mapping[str, Iterable[TinyWheel]] | None = None,
        *,
        kind: Literal["pytorch", "pypi"] = "pytorch",
        root: str | None = None,
        hrefs: Hrefs = "root",
        missing_status: int | None = None,
    ) -> None:
        self.kind = kind
        self.root = root if root is not None else ("/whl" if kind == "pytorch" else "/simple")
        self.hrefs: Hrefs = hrefs
        self.stored: dict[str, Stored] = {}
        self._pages: dict[tuple[str, str, int], str | None] = {}
        self.missing_status = missing_status or (403 if kind == "pytorch" else 404)
        for backend, items in (wheels or {}).items():
            self.add(backend, *items)

    def add(
        self,
        backend: str,
        *wheels: TinyWheel,
        channel: str = "stable",
        hashed: bool = True,
        described: bool = True,
        href: str | None = None,
    ) -> None:
        """Publish wheels in a backend's directory (`""`: at the root of the channel)."""
        self._pages.clear()
        prefix = prefix_of(channel, self.root)
        for item in wheels:
            directory = f"{prefix}/{backend}" if backend else prefix
            if self.kind == "pypi":
                directory = "/packages"
            path = f"{directory}/{item.filename}"
            self.stored[path] = Stored(path=path, wheel=item, hashed=hashed, described=described, href=href)

    def remove(self, filename: str) -> None:
        """Take a file off every directory."""
        self._pages.clear()
        for path in [path for path in self.stored if path.endswith(f"/{filename}")]:
            del self.stored[path]

    def file(self, path: str) -> bytes | None:
        """The bytes of a wheel or of its `.metadata` (path already decoded); None: not there."""
        if found := self.stored.get(path):
            return found.wheel.content()
        found = self.stored.get(path.removesuffix(".metadata"))
        return found.wheel.metadata.encode() if found is not None and found.described else None

    def listed(self, path: str) -> list[Stored] | None:
        """What the page at `path` (with a slash at its end) lists; None: no such page."""
        directory, _, package = path.rstrip("/").rpartition("/")
        if self.kind == "pypi":
            if directory != self.root:
                return None
            chosen = [item for item in self.stored.values() if item.wheel.normalised == package]
            return chosen or None
        prefix = self._channel_of(directory)
        if prefix is None:
            return None
        own = [item for item in self._package(package) if self._inside(item, directory, prefix)]
        at_root = [item for item in self._package(package) if item.directory == prefix]
        both = {item.path: item for item in (*own, *at_root)}
        shown = own if directory == prefix else list(both.values())
        if not shown or (directory != prefix and not self._has_directory(directory)):
            return None
        return shown

    def _has_directory(self, directory: str) -> bool:
        return any(item.directory == directory for item in self.stored.values())

    def _channel_of(self, directory: str) -> str | None:
        for channel in ("nightly", "test", "stable"):
            prefix = prefix_of(channel, self.root)
            if directory == prefix:
                return prefix
            if directory.startswith(f"{prefix}/") and "/" not in directory.removeprefix(f"{prefix}/"):
                return prefix
        return None

    def _package(self, package: str) -> list[Stored]:
        return [item for item in self.stored.values() if item.wheel.normalised == package]

    def _inside(self, item: Stored, directory: str, prefix: str) -> bool:
        if directory != prefix:
            return item.directory == directory
        return (
            item.directory == prefix
            or _BACKEND.fullmatch(item.directory.removeprefix(f"{prefix}/")) is not None
        )

    def page(self, path: str, origin: str) -> str | None:
        """The HTML at `path`, which ends with a slash; None where there is no such page."""
        key = (path, origin, len(self.stored))
        if key not in self._pages:
            self._pages[key] = self._made_page(path, origin)
        return self._pages[key]

    def _made_page(self, path: str, origin: str) -> str | None:
        names = self._root_page(path)
        if names is not None:
            links = "".join(f'    <a href="{name}/">{name}</a><br/>\n' for name in names)
            return f"<!DOCTYPE html>\n<html>\n<body>\n{links}</body>\n</html>\n<!--TIMESTAMP 1793000000-->\n"
        listed = self.listed(path)
        if listed is None:
            return None
        package = path.rstrip("/").rpartition("/")[2]
        links = "".join(
            self._anchor(item, path, origin) for item in sorted(listed, key=lambda item: item.path)
        )
        return (
            f"<!DOCTYPE html>\n<html>\n<body>\n    <h1>Links for {package}</h1>\n{links}"
            "</body>\n</html>\n<!--TIMESTAMP 1793000000-->\n"
        )

    def _root_page(self, path: str) -> list[str] | None:
        directory = path.rstrip("/")
        if self.kind == "pypi":
            return (
                sorted({item.wheel.normalised for item in self.stored.values()})
                if directory == self.root
                else None
            )
        prefix = self._channel_of(directory)
        inside = [item for item in self.stored.values() if item.path.startswith(f"{directory}/")]
        if prefix is None or not inside or (directory != prefix and not self._has_directory(directory)):
            return None
        if directory != prefix:
            return sorted({item.wheel.normalised for item in inside})
        names = {item.wheel.normalised for item in inside if self._inside(item, directory, prefix)}
        names |= {
            item.path.removeprefix(f"{prefix}/").split("/")[0] for item in inside if item.directory != prefix
        }
        return sorted(names)

    def _anchor(self, item: Stored, page: str, origin: str) -> str:
        href = item.href if item.href is not None else self._href(item, page, origin)
        attributes = ""
        if item.hashed and item.href is None:
            href += f"#sha256={item.wheel.sha256}"
        if item.described and item.href is None:
            digest = hashlib.sha256(item.wheel.metadata.encode()).hexdigest()
            attributes = f' data-dist-info-metadata="sha256={digest}" data-core-metadata="sha256={digest}"'
        if self.kind == "pypi" and item.wheel.requires_python:
            attributes += f' data-requires-python="{html.escape(item.wheel.requires_python)}"'
        name = html.escape(item.wheel.filename)
        return f'    <a href="{html.escape(href)}"{attributes}>{name}</a><br/>\n'

    def _href(self, item: Stored, page: str, origin: str) -> str:
        path = item.path.replace("+", "%2B")
        if self.hrefs == "absolute":
            return f"{origin}{path}"
        if self.hrefs == "relative":
            return "../" * (page.rstrip("/").count("/")) + path.lstrip("/")
        return path

    def json_page(self, path: str, origin: str) -> str | None:
        """The same page as PEP 691 JSON."""
        listed = self.listed(path)
        if listed is None:
            return None
        files = [
            {
                "filename": item.wheel.filename,
                "url": item.href or self._href(item, path, origin),
                "hashes": {"sha256": item.wheel.sha256} if item.hashed else {},
                "requires-python": item.wheel.requires_python,
                "core-metadata": item.described and item.href is None,
                **({"size": len(item.wheel.content())} if self.kind == "pypi" else {}),
            }
            for item in listed
        ]
        name = urllib.parse.unquote(path.rstrip("/").rpartition("/")[2])
        return json.dumps({"meta": {"api-version": "1.1"}, "name": name, "files": files})


def real_tree(packages: Iterable[str] | None = None, *, hrefs: Hrefs = "root") -> IndexTree:
    """An index of names that were really seen (`data/real_names.jsonl`), `packages` normalised; None: all."""
    wanted = None if packages is None else set(packages)
    tree = IndexTree(hrefs=hrefs)
    for line in REAL_NAMES.read_text("utf-8").splitlines()[1:]:
        row = json.loads(line)
        for key in ("hashed", "unhashed"):
            for filename in row.get(key, ()):
                item = wheel_of_name(filename)
                if wanted is None or item.normalised in wanted:
                    path = f"{row['directory']}/{filename}"
                    tree.stored[path] = Stored(path=path, wheel=item, hashed=key == "hashed")
    return tree
