"""Where pip and uv are configured to take packages from: folders of wheels, and uv's default index."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torchinstall.core.files import user_path
from torchinstall.index.urls import file_path
from torchinstall.install.command import values_of
from torchinstall.install.uv import own_default_index, uv_settings
from torchinstall.planning.context import Context


class Source(NamedTuple):
    """A folder of wheels or an index (its URL), and who named it."""

    place: str
    named_by: str

    @property
    def pages(self) -> str:
        """The template of an index's pages."""
        return f"{self.place}/{{package}}"


def default_index(context: Context, uv_args: Sequence[str]) -> Source:
    """The index that uv takes packages from unless told otherwise.

    Its arguments count before variables, these before its files, what it says itself is the last.
    """
    env = context.env
    named = [Source(url, "--default-index") for url in values_of("--default-index", uv_args)]
    named += [Source(env[name], name) for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL") if env.get(name)]
    for file, settings, _ in uv_settings(env, context.cwd):
        indexes = [row for row in _rows(settings, "index") if isinstance(row, dict)]
        urls = [row.get("url") for row in indexes if row.get("default") is True]
        urls += _rows(settings, "index-url")
        named += [Source(url, str(file)) for url in urls if isinstance(url, str)]
    if not named:
        named = [Source(own_default_index(context.find_uv(env), env), "the default index")]
    place, named_by = named[0]
    url = place.partition("=")[2] if re.match(_NAMED_URL, place) else place
    return Source(url.rstrip("/"), named_by)


_NAMED_URL = r"[\w.-]+=\w+://"


def _rows(settings: Mapping[str, Any], key: str) -> list[Any]:
    """What uv's settings hold under a key, as a list; what is for `uv pip` comes first."""
    values = [part.get(key, []) for part in (settings.get("pip"), settings) if isinstance(part, dict)]
    return [row for value in values for row in (value if isinstance(value, list) else [value])]


def configured_folders(env: Mapping[str, str], cwd: Path, prefix: str | None) -> Iterator[Source]:
    """What pip's and then uv's configuration names as `find-links`, pages on the web left out.

    Args:
        env: of the user: `PIP_FIND_LINKS`, `PIP_CONFIG_FILE`, `UV_FIND_LINKS`, `HOME` …
        cwd: where relative paths of variables start.
        prefix: of the environment, which may hold a configuration of pip.
    """
    rows = [(cwd, text, by) for text, by in _of_pip(env, prefix)]
    rows += [(cwd, text, "UV_FIND_LINKS") for text in env.get("UV_FIND_LINKS", "").split(",")]
    for file, settings, of_project in uv_settings(env, cwd):
        links = _rows(settings, "find-links") if not of_project else ()
        rows += [(file.parent, str(text), f"find-links in {file}") for text in links]
    seen = set()
    for base, text, by in rows:
        path = text.strip()
        place = str(user_path(base, str(file_path(path))))
        if path and (path.startswith("file:") or "://" not in path) and place not in seen:
            seen.add(place)
            yield Source(place, by)


def _of_pip(env: Mapping[str, str], prefix: str | None) -> Iterator[tuple[str, str]]:
    """Pip's `find-links` and who says so: its variable, else the last of its files, `[install]` first.

    https://pip.pypa.io/en/stable/topics/configuration/
    """
    import configparser  # only where the index does not answer

    found = {"variable": (env.get("PIP_FIND_LINKS") or "", "PIP_FIND_LINKS")}
    for file in _pip_files(env, prefix):
        parser = configparser.RawConfigParser()
        with contextlib.suppress(configparser.Error, UnicodeDecodeError):
            parser.read(file, encoding="utf-8")
        for section in {"install", "global"}.intersection(parser):
            for key, value in parser.items(section):
                if key.replace("_", "-") == "find-links":
                    found[section] = (value, f"find-links in {file}")
    rows = (found.get(name, ("", "")) for name in ("variable", "install", "global"))
    value, by = next((row for row in rows if row[0]), ("", ""))
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
