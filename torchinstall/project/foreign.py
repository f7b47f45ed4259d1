"""Readers for the tables of other tools: PDM, Rye, Hatch, pixi; and for requirements files.

Each reader is one function and one row. It gives `Offer`s (an index: for which packages, which list, where)
or a `Foreign` (the lists that uv does not read, in standard words).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from msgspec import Struct, field, structs

from torchinstall.catalog.catalog import Catalog
from torchinstall.core.errors import UsageError
from torchinstall.core.files import real_path
from torchinstall.core.request import canonical_name, extras_text
from torchinstall.index.urls import backend_in
from torchinstall.install.command import options_in
from torchinstall.planning.requirements import Reader
from torchinstall.project.model import ALWAYS, Index, Scope, all_of
from torchinstall.project.pyproject import ProjectView, mapping, tables, texts

_UV_KEYS = {key: key for key in ("git", "rev", "tag", "branch", "subdirectory", "path", "url", "editable")}
_UV_KEYS["develop"] = "editable"
"""The words of Poetry and pixi for where a package comes from -> uv's."""

_CONDA = {"pytorch": "torch", "pytorch-gpu": "torch", "pytorch-cpu": "torch"}
_PIXI_MARKERS = {
    "linux": "sys_platform == 'linux'",
    "win": "sys_platform == 'win32'",
    "osx": "sys_platform == 'darwin'",
    "linux-64": "sys_platform == 'linux' and platform_machine == 'x86_64'",
    "linux-aarch64": "sys_platform == 'linux' and platform_machine == 'aarch64'",
    "win-64": "sys_platform == 'win32'",
    "osx-arm64": "sys_platform == 'darwin' and platform_machine == 'arm64'",
}


class Offer(Struct, frozen=True):
    """An index, as a tool's table has it: what it may serve (globs), for which list, and where."""

    url: str
    packages: tuple[str, ...] = ("*",)
    scope: Scope = ALWAYS
    marker: str = ""


class Foreign(Struct):
    """Lists that uv does not read, in standard words.

    Attributes:
        project: keys of `[project]`.
        indexes: those that are not PyTorch's.
        constraints: bounds for what others require.
        sources: package -> its entries in `tool.uv.sources`: an index of its own, git, a path, a URL.
        offers: of indexes that are in no table of the file.
        omitted: what cannot be said in standard words, one sentence each.
    """

    project: dict[str, str] = field(default_factory=dict)
    lists: dict[Scope, list[str]] = field(default_factory=dict)
    indexes: list[Index] = field(default_factory=list)
    sources: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    offers: tuple[Offer, ...] = ()
    constraints: list[str] = field(default_factory=list)
    default_groups: list[str] = field(default_factory=list)
    omitted: list[str] = field(default_factory=list)

    def add(self, scope: Scope, package: str, rest: str, marker: str, row: Mapping[str, Any]) -> None:
        """Add a requirement (a package and its rest) to a list, and where its row says it comes from."""
        text = package + rest + (f" ; {marker}" if marker else "")
        listed = self.lists.setdefault(scope, [])
        listed += [text] if text not in listed else []
        found = {_UV_KEYS[key]: row[key] for key in row if key in _UV_KEYS}
        found |= {"index": row["index"]} if "index" in row else {}
        if found:
            found |= {scope.kind: scope.name} if scope != ALWAYS else {}
            found |= {"marker": marker} if marker else {}
            rows = self.sources.setdefault(canonical_name(package), [])
            rows += [found] if found not in rows else []


def source_offers(view: ProjectView, package: str) -> Iterator[Offer]:
    """A source of PDM serves what it includes and does not exclude, else (as Rye's) every package."""
    for row in (*tables(view.tool("pdm").get("source")), *tables(view.tool("rye").get("sources"))):
        if not any(fnmatch(package, glob) for glob in texts(row.get("exclude_packages"))):
            yield Offer(str(row.get("url", "")), tuple(texts(row.get("include_packages"))) or ("*",))


def hatch_offers(view: ProjectView, _package: str) -> Iterator[Offer]:
    """An environment of Hatch names an index in a variable."""
    for name, env in view.tool("hatch", "envs").items():
        values = " ".join(map(str, mapping(mapping(env).get("env-vars")).values()))
        for url in re.findall(r"https?://\S+", values):  # also of `NAME=URL`
            yield Offer(url, scope=Scope("group", str(name)))


def pixi_offers(view: ProjectView, package: str) -> Iterator[Offer]:
    """A package names its index; those of `pypi-options` serve every package."""
    for scope, marker, table in _pixi_tables(view):
        for name, row in mapping(table.get("pypi-dependencies")).items():
            if canonical_name(str(name)) == package and "index" in mapping(row):
                yield Offer(str(row["index"]), (package,), scope, marker)
        options = mapping(table.get("pypi-options"))
        for url in (*texts(options.get("index-url")), *texts(options.get("extra-index-urls"))):
            yield Offer(url, scope=scope)


def read_hatch(view: ProjectView, catalog: Catalog) -> Foreign:
    """The environments of `[tool.hatch.envs]` that choose a build of torch, as groups."""
    found = Foreign()
    for name, env in view.tool("hatch", "envs").items():
        scope, table = Scope("group", str(name)), mapping(env)
        items = [text for key in ("dependencies", "extra-dependencies") for text in texts(table.get(key))]
        torch = [text for text in items if (row := catalog.family(plain_name(text))) and row.routed]
        urls = (offer.url for offer in hatch_offers(view, "") if offer.scope == scope)
        if torch and (backend_in(urls, catalog.backend) or "+" in "".join(torch)):
            found.lists[scope] = items
    return found


def _pixi_tables(view: ProjectView) -> Iterator[tuple[Scope, str, Mapping[str, Any]]]:
    """Each table of pixi with dependencies: what asks for it, and its marker."""
    features = mapping(view.tool("pixi").get("feature"))
    named = [(ALWAYS, view.tool("pixi"))]
    named += [(Scope("group", str(name)), mapping(table)) for name, table in features.items()]
    for scope, table in named:
        yield scope, "", table
        for target, part in mapping(table.get("target")).items():
            yield scope, _PIXI_MARKERS.get(str(target), ""), mapping(part)


def read_pixi(view: ProjectView, catalog: Catalog) -> Foreign:
    """`pypi-dependencies` of `[tool.pixi]`: features are groups; packages of conda have no words in uv.

    Raises:
        UsageError: `not-carried`: torch is a package of conda there.
    """
    found, default = Foreign(), view.tool("pixi", "environments").get("default")
    found.default_groups = texts(default if isinstance(default, list) else mapping(default).get("features"))
    for scope, marker, table in _pixi_tables(view):
        for name in map(str, mapping(table.get("dependencies"))):
            if family := catalog.family(_CONDA.get(name, name)):
                raise UsageError(
                    "not-carried",
                    f"{name} is a package of conda in this project, and uv has wheels only",
                    wanted=f"{family.package} in [tool.pixi.pypi-dependencies]",
                    found=f"{name} in the dependencies of {scope.text}".replace("project.", "tool.pixi."),
                    hints=("torchinstall export --format pixi shows it as a wheel",),
                )
            if name != "python":
                found.omitted.append(f"{name} is a package of conda, so it stays in [tool.pixi] only")
        for name, row in mapping(table.get("pypi-dependencies")).items():
            item = {"version": row, **mapping(row)}
            if item.get("path") == ".":
                continue  # the project itself
            if backend_in([str(item.get("index"))], catalog.backend):
                del item["index"]
            elif url := item.get("index"):
                item["index"] = str(name)
                found.indexes.append(Index(str(url), str(name), explicit=True))
            version = item["version"] if isinstance(item["version"], str) else "*"
            condition = all_of(marker, str(item.get("env-markers", "")))
            rest = extras_text(texts(item.get("extras"))) + version.removeprefix("*")
            found.add(scope, str(name), rest, condition, item)
    return found


def read_requirements(
    folder: Path,
    view: ProjectView,
    catalog: Catalog,
    index_base: str,
    env: Mapping[str, str],
    *,
    strict: bool,
) -> Foreign:
    """The requirements files that a project takes; where there is no project file, those in the folder.

    Raises:
        UsageError: `strict`, and a file cannot be read or holds what cannot be kept; else there is nothing.
    """
    found = Foreign()
    if not view.data:
        found.project = {"name": canonical_name(real_path(folder).name) or "project", "version": "0"}
    try:
        for scope, files in _requirements_files(folder, view):
            reader = Reader(folder, env, index_base)
            for file in files:
                reader.file(file)
            _with_bounds(found, scope, reader, catalog)
            options = [pair for pair in options_in(reader.uv_args) if pair[0] != "--no-index"]
            options += [("--find-links", page) for page in (*reader.torch_indexes, *reader.find_links)]
            for option, value in options:
                if backend_in([value], catalog.backend):
                    found.offers += (Offer(value, scope=scope),)
                elif option in ("--default-index", "--index"):
                    is_default = option == "--default-index"
                    name = "default" if is_default else scope.name
                    found.indexes.append(Index(value, name, default=is_default))
                elif value not in reader.torch_indexes:
                    found.omitted.append(f"{option} {value} in {', '.join(files)} has no place in [project]")
    except UsageError:
        if strict:
            raise
        return Foreign()
    return found


def _with_bounds(found: Foreign, scope: Scope, reader: Reader, catalog: Catalog) -> None:
    """The requirements of a reader; those of PyTorch with its constraints, which may name a build."""
    bounds: dict[str, list[str]] = {}
    for item in reader.constraints:
        name = canonical_name(item.name)
        listed = [row for row in reader.requirements if row.package == name]
        if catalog.family(name) is None:
            found.constraints += [str(item)] if str(item) not in found.constraints else []
        elif listed and all(item.marker in (None, row.marker) for row in listed):
            bounds.setdefault(name, []).append(item.specifier)
        else:
            found.omitted.append(f"the constraint {item} is for what {scope.text} does not list so")
    found.lists[scope] = []
    for row in reader.requirements:
        parts = [row.specifier, *bounds.get(row.package, ())]
        whole = structs.replace(row, specifier=",".join(dict.fromkeys(filter(None, parts))))
        found.lists[scope].append(str(whole))


def _requirements_files(folder: Path, view: ProjectView) -> Iterator[tuple[Scope, list[str]]]:
    if not view.data:
        yield ALWAYS, [file.name for file in folder.glob("requirements.txt")]
        for file in sorted(folder.glob("requirements[-_]*.txt")):
            yield Scope("group", re.split("[-_]", file.stem, maxsplit=1)[1]), [file.name]
        return
    dynamic = texts(view.project.get("dynamic"))
    for key, *path in (
        ("dependencies", "setuptools", "dynamic"),
        ("files", "hatch", "metadata", "hooks", "requirements_txt"),
    ):
        table = view.tool(*path)
        named = table.get(key)
        if "dependencies" in dynamic and (names := texts(mapping(named).get("file", named))):
            yield ALWAYS, names
        for name, rows in mapping(table.get("optional-dependencies")).items():
            if "optional-dependencies" in dynamic and (names := texts(mapping(rows).get("file", rows))):
                yield Scope("extra", str(name)), names


def plain_name(text: str) -> str:
    """The normalised name at the start of a requirement."""
    return canonical_name(re.split(r"[\s<>=!~;\[@(]", text, maxsplit=1)[0])
