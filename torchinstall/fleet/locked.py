"""Which builds a lock asks for: uv.lock, pylock.toml, poetry.lock and pdm.lock, requirements with pins."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from msgspec import Struct

from torchinstall.catalog.catalog import Catalog
from torchinstall.catalog.tables import platform_of
from torchinstall.core.errors import NoCompatibleBuildError, UsageError
from torchinstall.core.files import parse_toml
from torchinstall.core.request import canonical_name
from torchinstall.fleet.requires import PinnedBuild
from torchinstall.index.urls import backend_in
from torchinstall.index.wheels import version_at

_PIN = re.compile(
    r"^\s*([A-Za-z0-9][\w.-]*)(?:\[[^\]]*\])?"
    r"(?:\s*===?\s*([^\s;,\\]+)|\s*@\s*(\S+)|[ \t]+(\d\S*)[ \t]*\r?$)",
    re.MULTILINE,
)
"""A line of requirements, or of what `pip list` prints."""

_VERSION = re.compile(r"[0-9]{1,4}(?:\.[0-9]{1,6}){1,3}[a-z0-9.]{0,40}(?:\+[a-z0-9._]{1,60})?")
_INDEX = re.compile(r"^\s*(?:-i|--(?:default-|extra-)?index(?:-url)?)[ =]\s*(\S+)", re.MULTILINE)


class Pinned(Struct, frozen=True):
    """A package with its version, and the backend of the index, file or installation that it comes from."""

    name: str
    version: str
    backend: str | None = None


def pinned_in(text: str, source: str, catalog: Catalog) -> list[Pinned]:
    """Everything that a lock pins.

    Raises:
        UsageError: `bad-lock`: it is no lock.
    """
    try:
        data = parse_toml(text) if re.search(r"^\[", text, re.MULTILINE) else None
    except ValueError as error:
        raise _bad(source, str(error)) from error
    rows = _of_text(text, catalog) if data is None else _of_tables(data, catalog)
    found = list(dict.fromkeys(rows))
    if not found:
        raise _bad(source, "no package with a version")
    return found


def _bad(source: str, found: str) -> UsageError:
    return UsageError(
        "bad-lock",
        f"{source} is no lock that can be read",
        wanted="uv.lock, pylock.toml, poetry.lock, pdm.lock, or requirements with versions",
        found=found.partition("\n")[0],
        hints=("in a project: uv lock", "in a project: uv export --format pylock.toml -o pylock.toml"),
    )


def _of_tables(data: dict[str, Any], catalog: Catalog) -> Iterator[Pinned]:
    rows = data.get("packages", data.get("package"))
    for row in rows if isinstance(rows, list) else ():
        if not isinstance(row, dict) or not isinstance(row.get("name"), str):
            continue
        source = row.get("source")
        urls = [row.get("index"), *(source.values() if isinstance(source, dict) else ())]
        wheels = row.get("wheels", row.get("files"))
        entries = [*(wheels if isinstance(wheels, list) else ()), row.get("archive")]
        urls += [entry.get("url") for entry in entries if isinstance(entry, dict)]
        version = row.get("version") or next((version_at(url) for url in urls if isinstance(url, str)), None)
        if isinstance(version, str):
            backend = backend_in((url for url in urls if isinstance(url, str)), catalog.backend)
            yield Pinned(canonical_name(row["name"]), version, backend)


def _of_text(text: str, catalog: Catalog) -> Iterator[Pinned]:
    backend = backend_in(_INDEX.findall(text), catalog.backend)
    for name, version, url, listed in _PIN.findall(text):
        exact = version or listed or version_at(url)
        if exact:
            yield Pinned(canonical_name(name), exact, backend_in([url], catalog.backend) or backend)


def builds_of(pinned: Iterable[Pinned], catalog: Catalog, backend: str | None = None) -> list[PinnedBuild]:
    """The builds of torch among pinned packages, each with the companions that are pinned beside it.

    A version without a word of its backend is that of the default index, which differs by platform.
    """
    rows = list(pinned)
    found: list[PinnedBuild] = []
    for row in (row for row in rows if row.name == "torch" and _VERSION.fullmatch(row.version.lower())):
        public, _, local = row.version.lower().partition("+")
        beside = dict.fromkeys(_beside(public, rows, catalog))
        if backend is not None and catalog.backend(local) is not None and local != backend:
            continue
        known = local if catalog.backend(local) is not None else backend or row.backend or local or None
        if known is not None:
            found.append(PinnedBuild(public, known, packages=tuple(beside)))
            continue
        platforms: dict[str, list[str]] = {}
        for wheels in catalog.tables.wheels:
            if (wheels.package, wheels.version, wheels.origin) == ("torch", public, "default"):
                platforms.setdefault(wheels.backend, []).append(platform_of(wheels.platform_tag) or "")
        for name, keys in (platforms or {"": []}).items():  # of a release that nobody knows
            found.append(
                PinnedBuild(public, name, packages=tuple(beside), platforms=tuple(dict.fromkeys(keys)))
            )
    return list(dict.fromkeys(found))


def _beside(torch: str, rows: Iterable[Pinned], catalog: Catalog) -> Iterator[str]:
    """The companions that are pinned for a torch.

    Raises:
        NoCompatibleBuildError: `pinned-out`: one pins another torch.
    """
    pinned: dict[str, list[str]] = {}
    for row in rows:
        pinned.setdefault(row.name, []).append(row.version.partition("+")[0])
    for name, versions in pinned.items():
        companion = catalog.companion(torch, name) if name != "torch" else None
        if companion is not None and companion.version in versions:
            yield f"{name}=={companion.version}"
        elif companion is not None and companion.exact:
            raise NoCompatibleBuildError(
                "pinned-out",
                f"{name} {versions[0]} does not go with torch {torch}",
                wanted=f"{name} {companion.version}",
                found=f"{name} {', '.join(versions)}",
                hints=(f"torchinstall requires torch=={torch} {name}=={companion.version}",),
            )
