"""Read which wheels lie on release pages into the rows of companions that are published there.

    python -m scripts.refresh_assets --assets https://api.github.com/repos/OWNER/NAME/releases?per_page=100
    python -m scripts.refresh_assets --assets names.txt --write     # one URL of an asset a line

A file says in its name which torch, backend and Python it is for (`grammars.json`), and its URL which release
it belongs to (`places.json`). What a row says beside that (GPU code, needs) is that of the nearest old one.
The rows of a package at such a place are replaced if the assets have any of it; releases are kept that have a
row, and newer ones.
"""

from __future__ import annotations

import json
import re
import sys
import urllib.parse
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from scripts.refreshing import Row, arguments, finish, fold, parser, read_source, version_of
from torchinstall.catalog.model import Wheels
from torchinstall.catalog.tables import Table, Tables, platform_of
from torchinstall.index.wheels import parse_name


class Asset(NamedTuple):
    """A wheel on a release page: its place, its release and what its name says."""

    place: str
    release: str
    name: Wheels


def main(argv: list[str] | None = None) -> int:
    """Run the refresher; returns its exit code."""
    options = parser(__doc__ or "")
    options.add_argument(
        "--assets", action="append", required=True, help="URL or file, see above (repeatable)"
    )
    args = arguments(options, argv)
    tables = Tables(args.data)
    urls = [url for source in args.assets for url in urls_of(read_source(source))]
    found = list(assets(tables, urls))
    if not found:
        raise SystemExit("none of these assets is a wheel at a place of places.json")
    return finish(tables, (refreshed(tables, found, args.as_of),), write=args.write)


def urls_of(text: str) -> list[str]:
    """The URLs of assets: of GitHub's list of releases (JSON), or one a line."""
    if text.lstrip()[:1] not in "[{":
        return text.split()
    releases: Any = json.loads(text)
    releases = releases if isinstance(releases, list) else [releases]
    return [asset["browser_download_url"] for release in releases for asset in release["assets"]]


def assets(tables: Tables, urls: Iterable[str]) -> Iterator[Asset]:
    """The wheels among them that lie at a known place."""
    patterns = {}
    for place in tables.places:
        if place.kind == "release":
            text = re.escape(place.url).replace(r"\{file\}", "(?P<file>[^/]+)")
            patterns[place.id] = re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", text))
    for url in urls:
        for place_id, pattern in patterns.items():
            match = pattern.fullmatch(urllib.parse.unquote(url))
            name = parse_name(match["file"]) if match else None
            if match is not None and name is not None:
                yield Asset(place_id, match.groupdict().get("release", ""), name)


def refreshed(tables: Tables, found: list[Asset], as_of: str) -> Table:
    """companion_builds.json with these assets in place of the rows of their packages at their places."""
    table = tables.file("companion_builds.json")
    rows: list[Row] = []
    made = {}
    for key in dict.fromkeys((asset.name.package, asset.place) for asset in found):
        old = [row for row in table.rows if (row["package"], row.get("place")) == key]
        mine = [asset for asset in found if (asset.name.package, asset.place) == key]
        if old:
            made[key] = list(_rows(tables, old, mine)) or old
    for row in table.rows:
        new = made.get((row["package"], row.get("place", "pypi")))
        rows += [row] if new is None else new
        if new:
            new.clear()
    return fold(table, rows, {}, as_of)


def _rows(tables: Tables, old: list[Row], found: list[Asset]) -> Iterator[Row]:
    """One row for files that differ in their Python only."""
    versions = {version for row in old for version in row["versions"].split()}
    newest = max(map(version_of, versions))
    patterns = [grammar for grammar in tables.grammars if grammar.id in {row.get("grammar") for row in old}]
    grouped: dict[tuple[str, ...], dict[str, str]] = {}
    best: dict[tuple[str, ...], tuple[str, ...]] = {}
    for asset in sorted(found, key=lambda asset: version_of(asset.release.lstrip("v"))):
        name = asset.name
        if name.version not in versions and version_of(name.version) <= newest:
            continue
        for grammar in patterns:
            match = re.fullmatch(grammar.pattern, name.local)
            if match is None:
                continue
            said = match.groupdict()
            backend = said.get("backend") or _of_cuda(said.get("cuda") or "")
            what = (name.version, str(said["torch"]), backend, said.get("abi") or "", grammar.id)
            file: tuple[str, ...] = (*what, str(platform_of(name.platform_tag)), name.tag_list)
            # A later release replaces a file; of two names of one file the one that names its glibc counts.
            if best.get(file, ("", ""))[1].startswith("manylinux") and name.platform_tag.startswith("linux"):
                continue
            best[file] = (asset.release, name.platform_tag)
    for file, (release, platform) in best.items():
        grouped.setdefault((*file[:5], release, platform), {})[file[6]] = ""
    for (version, torch, backend, abi, written, release, platform), tags in sorted(
        grouped.items(), key=lambda item: _order(item[0])
    ):
        near = min(old, key=lambda row: _distance(row, torch, backend, platform))
        new = {**near, "versions": version, "torch": f"=={torch}.*", "backends": [backend]}
        new |= {"tags": " ".join(sorted(tags)), "platforms": [platform], "grammar": written}
        new |= {"abi": abi, "release": release}
        yield {key: value for key, value in new.items() if value != ""}


def _of_cuda(cuda: str) -> str:
    return "cu" + cuda.replace(".", "") if "." in cuda else f"cu{cuda}*"


def _order(key: tuple[str, ...]) -> tuple[object, ...]:
    version, torch, backend, _, _, _, platform = key
    newer = [-part for part in version_of(version).release]
    return newer, version_of(torch), backend, str(platform_of(platform)), key


def _distance(row: Row, torch: str, backend: str, platform: str) -> tuple[object, ...]:
    """How much else than asked a row is about: backend, then system, then torch."""
    same = platform_of(platform) in map(platform_of, row.get("platforms", ()))
    return backend not in row.get("backends", ()), not same, row.get("torch") != f"=={torch}.*"


if __name__ == "__main__":
    sys.exit(main())
