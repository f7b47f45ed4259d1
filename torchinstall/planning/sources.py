"""Sources of last resort, for a network that does not reach the PyTorch index.

First the folders that pip's or uv's own configuration names (`find-links`), as clusters publish their wheels;
then uv's default index. A project's configuration counts for neither: it may have been cloned.
"""

from __future__ import annotations

import configparser
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote, urlsplit

from msgspec import structs

from torchinstall.catalog.catalog import Catalog
from torchinstall.catalog.model import Wheels
from torchinstall.catalog.tables import PageKey, platform_of
from torchinstall.core.errors import CatalogError
from torchinstall.core.files import user_path
from torchinstall.core.messages import redact
from torchinstall.core.plan import Plan
from torchinstall.core.request import Request, canonical_name
from torchinstall.index.urls import without_credentials
from torchinstall.index.wheels import local_wheels
from torchinstall.install.uv import uv_settings
from torchinstall.planning.context import Context
from torchinstall.planning.inputs import Inputs

if TYPE_CHECKING:
    from torchinstall.index.fetch import LiveResult

Read = Callable[[tuple[PageKey, ...], str], "LiveResult"]
"""(keys, template of the index) -> its pages, with links to any host."""

PYPI = "https://index.example/simple"


class Source(NamedTuple):
    """A folder of wheels or an index (its URL), and who named it."""

    place: str
    named_by: str


class Resort(NamedTuple):
    """A source made ready for the planner.

    Attributes:
        request: for this source.
        catalog: with nothing but this source.
        words: which source it is: `the folder /opt/wheels (find-links in /etc/pip.conf)`.
        sizes: bytes of its files by name, as far as they are known.
    """

    request: Request
    catalog: Catalog
    words: str
    sizes: Mapping[str, int | None]

    def said(self, made: Plan) -> str:
        """What is taken from it, how large that is, and where it comes from."""
        taken = [item for item in made.packages if item.wheel is not None]
        named = (f"{item.name} {item.version} ({self._size(item.wheel or '')})" for item in taken)
        return f"{' and '.join(named)} from {self.words}"

    def _size(self, wheel: str) -> str:
        size = self.sizes.get(wheel)
        return "size unknown" if size is None else f"{size / 1e6:,.0f} MB"


def last_resorts(
    inputs: Inputs, context: Context, read: Read, detail: Callable[[str], None], *, fallback: bool
) -> Iterator[Resort]:
    """The sources to try in their order, those that have a torch at all.

    Args:
        inputs: what the plan is made from.
        context: environment and folder.
        read: reads pages of the default index.
        detail: told what was passed over, for `-v`.
        fallback: also sources that the user did not name for this run.
    """
    request = inputs.request
    if request.find_links:
        own = tuple(Source(folder, "--find-links") for folder in request.find_links)
        yield from _of_folders(own, inputs)
    if not fallback:
        return
    folders = []
    for folder in configured_folders(context.env, context.cwd, inputs.target.prefix):
        if Path(folder.place).is_dir():
            folders.append(folder)
        else:
            detail(f"{folder.place} ({folder.named_by}) is not a folder here")
    yield from _of_folders(tuple(folders), inputs)
    index = default_index(context.env, context.cwd, inputs.uv_args)
    try:
        yield default_resort(inputs, index, read, detail)
    except CatalogError as error:
        detail(error.message)


def _of_folders(folders: Sequence[Source], inputs: Inputs) -> Iterator[Resort]:
    found = local_wheels(folder.place for folder in folders).wheels
    used = [folder for folder in folders if any(row.source == folder.place for row in found)]
    if any(row.package == "torch" for row in found):
        places = tuple(folder.place for folder in used)
        yield Resort(
            structs.replace(inputs.request, find_links=places),
            Catalog(inputs.catalog.tables, local=found, index_down=True, folders_only=True),
            " and ".join(f"the folder {folder.place} ({folder.named_by})" for folder in used),
            {file.name: file.stat().st_size for place in places for file in Path(place).glob("*.whl")},
        )


def default_resort(inputs: Inputs, index: Source, read: Read, detail: Callable[[str], None]) -> Resort:
    """Uv's default index as the only source.

    Raises:
        CatalogError: it does not answer, or has no torch that the tables know.
    """
    asked = (canonical_name(item.name) for item in inputs.request.requirements)
    names = ("torch", *asked, *(item.name for item in inputs.target.installed))
    family = [name for name in dict.fromkeys(names) if inputs.catalog.family(name) is not None]
    result = read(tuple((name, "") for name in family), f"{index.place}/{{package}}")
    pages = {key: tuple(_built(rows, inputs.catalog)) for key, rows in result.pages.items()}
    words = f"{redact(without_credentials(index.place))} ({index.named_by})"
    detail(f"{words}: {result.live} pages read, {len(result.found) - result.live} from the cache")
    if not pages.get(("torch", "")):
        raise result.error() or CatalogError(
            "index-not-found",
            f"{words} has no build of torch that is known",
            wanted="torch on the index that uv takes packages from",
            hints=("--index-base URL takes a mirror of the PyTorch index",),
        )
    return Resort(
        inputs.request,
        structs.replace(inputs.catalog.overlay(pages, result.hashes), index_down=True),
        words,
        {file.filename: file.size for page in result.found.values() for file in page.files},
    )


def _built(rows: Iterable[Wheels], catalog: Catalog) -> Iterator[Wheels]:
    """The rows of a page with the backend that each was built for; those that nobody knows are omitted."""
    shipped = {
        (row.package, row.version, platform_of(row.platform_tag)): row.backend
        for row in catalog.tables.wheels
        if row.origin == "default"
    }
    for row in rows:
        backend = row.backend or shipped.get((row.package, row.version, platform_of(row.platform_tag)))
        if backend is not None:
            yield structs.replace(row, origin="default", backend=backend)


def default_index(env: Mapping[str, str], cwd: Path, uv_args: Sequence[str]) -> Source:
    """The index that uv takes packages from unless told otherwise.

    Its arguments count before variables, these before its files, and PyPI is the last.
    """
    words = [part for text in uv_args for part in (text.split("=", 1) if text.startswith("--") else (text,))]
    named = [Source(url, option) for option, url in pairwise(words) if option in _OPTIONS]
    named += [Source(env[name], name) for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL") if env.get(name)]
    for file, table, _ in uv_settings(env, cwd):
        for part in (table.get("pip"), table):
            if isinstance(part, dict):
                named += [Source(url, str(file)) for url in _defaults(part)]
    place, named_by = (*named, Source(PYPI, "the default index"))[0]
    url = place.partition("=")[2] if _NAMED_URL.match(place) else place
    return Source(url.rstrip("/"), named_by)


_OPTIONS = frozenset({"--default-index", "--index-url", "-i"})
_NAMED_URL = re.compile(r"[\w.-]+=\w+://")


def _defaults(table: Mapping[str, Any]) -> Iterator[str]:
    """The URLs of the default index in a table of uv's settings."""
    rows = table.get("index")
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, dict) and row.get("default") is True and isinstance(row.get("url"), str):
            yield row["url"]
    if isinstance(table.get("index-url"), str):
        yield table["index-url"]


def configured_folders(env: Mapping[str, str], cwd: Path, prefix: str | None) -> Iterator[Source]:
    """What pip's and then uv's configuration names as `find-links`, pages on the web left out.

    Args:
        env: of the user: `PIP_FIND_LINKS`, `PIP_CONFIG_FILE`, `UV_FIND_LINKS`, `HOME` …
        cwd: where relative paths of variables start.
        prefix: of the environment, which may hold a configuration of pip.
    """
    rows = [(cwd, text, by) for text, by in _of_pip(env, prefix)]
    rows += [(cwd, text, "UV_FIND_LINKS") for text in env.get("UV_FIND_LINKS", "").split(",")]
    for file, table, of_project in uv_settings(env, cwd):
        for part in (table, table.get("pip")):
            links = part.get("find-links") if isinstance(part, dict) and not of_project else None
            named = [text for text in links if isinstance(text, str)] if isinstance(links, list) else []
            rows += [(file.parent, text, f"find-links in {file}") for text in named]
    seen = set()
    for base, text, by in rows:
        path = _path_of(text.strip())
        place = str(user_path(base, path))
        if path and "://" not in path and place not in seen:
            seen.add(place)
            yield Source(place, by)


def _path_of(text: str) -> str:
    """A path, also one written as a `file:` URL."""
    if not text.startswith("file:"):
        return text
    return re.sub(r"^/(?=[A-Za-z]:)", "", unquote(urlsplit(text).path))


def _of_pip(env: Mapping[str, str], prefix: str | None) -> Iterator[tuple[str, str]]:
    """Pip's `find-links` and who says so: its variable, else the last of its files, `[install]` first.

    https://pip.pypa.io/en/stable/topics/configuration/
    """
    found = {"": (env.get("PIP_FIND_LINKS", ""), "PIP_FIND_LINKS")}
    for file in _pip_files(env, prefix) if not found[""][0] else ():
        parser = configparser.RawConfigParser()
        try:
            parser.read(file, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError):
            continue
        for section in ("install", "global"):
            for key, value in parser.items(section) if parser.has_section(section) else ():
                if key.replace("_", "-") == "find-links":
                    found[section] = (value, f"find-links in {file}")
    value, by = found[""] if found[""][0] else found.get("install") or found.get("global") or ("", "")
    yield from ((text, by) for text in value.split())


def _pip_files(env: Mapping[str, str], prefix: str | None) -> Iterator[Path]:
    """Pip's configuration files, the one that wins last: of the system, the user, the environment, named."""
    named = env.get("PIP_CONFIG_FILE")
    if named == os.devnull:
        return
    home = Path(env.get("HOME") or env.get("USERPROFILE") or os.devnull)
    name, own = "pip.conf", home / ".pip"
    user = Path(env.get("XDG_CONFIG_HOME") or home / ".config") / "pip"
    system = [f"{folder}/pip" for folder in (env.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":")] + ["/etc"]
    if sys.platform == "win32":
        name, own = "pip.ini", home / "pip"
        user = Path(env.get("APPDATA") or home / "AppData/Roaming") / "pip"
        system = [str(Path(env.get("PROGRAMDATA") or r"C:\ProgramData", "pip"))]
    elif sys.platform == "darwin":
        system = ["/Library/Application Support/pip"]
        library = home / "Library/Application Support/pip"
        user = library if library.is_dir() else home / ".config/pip"
    yield from (Path(folder, name) for folder in system)
    if not (named and Path(named).exists()):
        yield from (own / name, user / name)
    yield from (Path(prefix, name),) if prefix else ()
    yield from (Path(named),) if named else ()
