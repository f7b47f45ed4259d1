"""Readers for the tables of other tools: Poetry, PDM, Rye, Hatch, pixi.

Each reader is one function and one row. It gives `Offer`s (an index: for which packages, which list, where)
or a `Foreign` (the lists that uv does not read, in standard words).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct, field
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from torchinstall.catalog.catalog import Catalog
from torchinstall.core.errors import UsageError
from torchinstall.core.files import real_path
from torchinstall.core.request import extras_text
from torchinstall.index.urls import pytorch_index
from torchinstall.planning.requirements import Reader
from torchinstall.project.model import ALWAYS, Scope
from torchinstall.project.pyproject import ProjectView, mapping, tables, texts

_RELEASE = re.compile(r"\d+(?:\.\d+)*")
_EXTRA = re.compile(r"extra\s*(==|!=)\s*['\"]([^'\"]+)['\"]")
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
        indexes: name and URL of those that are not PyTorch's; a name `default` replaces uv's default index.
        sources: package -> its entries in `tool.uv.sources`: an index of its own, git, a path, a URL.
        offers: of indexes that are in no table of the file.
        omitted: what cannot be said in standard words, one sentence each.
    """

    project: dict[str, str] = field(default_factory=dict)
    lists: dict[Scope, list[str]] = field(default_factory=dict)
    indexes: list[tuple[str, str]] = field(default_factory=list)
    sources: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    offers: tuple[Offer, ...] = ()
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
            rows = self.sources.setdefault(canonicalize_name(package), [])
            rows += [found] if found not in rows else []


def backend_of(url: str, catalog: Catalog) -> str | None:
    """The backend of an index of PyTorch; None where the URL is of another index, or serves several."""
    index = pytorch_index(url, catalog.backend)
    return index.backend if index is not None else None


def source_offers(view: ProjectView, _package: str) -> Iterator[Offer]:
    """A source of PDM serves what it includes, else (as Rye's) every package."""
    for row in (*tables(view.tool("pdm").get("source")), *tables(view.tool("rye").get("sources"))):
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
            if canonicalize_name(str(name)) == package and "index" in mapping(row):
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
        if torch and (
            any(offer.scope == scope and backend_of(offer.url, catalog) for offer in hatch_offers(view, ""))
            or "+" in "".join(torch)
        ):
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
            if backend_of(str(item.get("index")), catalog):
                del item["index"]
            elif url := item.get("index"):
                item["index"] = str(name)
                found.indexes.append((str(name), str(url)))
            version = item["version"] if isinstance(item["version"], str) else "*"
            where = all_of(marker, str(item.get("env-markers", "")))
            rest = extras_text(texts(item.get("extras"))) + version.removeprefix("*")
            found.add(scope, str(name), rest, where, item)
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
        found.project = {"name": canonicalize_name(real_path(folder).name) or "project", "version": "0"}
    try:
        for scope, names in _requirements_files(folder, view):
            reader = Reader(folder, env, index_base)
            for name in names:
                reader.file(name)
            found.lists[scope] = [str(item) for item in reader.requirements]
            words = iter(word for word in reader.uv_args if word != "--no-index")
            options = [*zip(words, words, strict=False)]
            options += [("--find-links", page) for page in (*reader.torch_indexes, *reader.find_links)]
            for option, value in options:
                if backend_of(value, catalog):
                    found.offers += (Offer(value, scope=scope),)
                elif option in ("--default-index", "--index"):
                    found.indexes.append(("default" if option == "--default-index" else scope.name, value))
                elif value not in reader.torch_indexes:
                    found.omitted.append(f"{option} {value} in {', '.join(names)} has no place in [project]")
    except UsageError:
        if strict:
            raise
        return Foreign()
    return found


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


def all_of(*markers: str) -> str:
    """One marker that holds where all of these do."""
    held = [marker for marker in markers if marker]
    return " and ".join(f"({item})" if len(held) > 1 and " or " in item else item for item in held)


def plain_name(text: str) -> str:
    """The normalised name at the start of a requirement."""
    return canonicalize_name(re.split(r"[\s<>=!~;\[@(]", text, maxsplit=1)[0])


def poetry_offers(view: ProjectView, package: str) -> Iterator[Offer]:
    """A package names its source; a source that is not explicit serves whatever names none."""
    poetry = view.tool("poetry")
    sources = tables(poetry.get("source"))
    urls = {str(row["name"]): str(row.get("url", "")) for row in sources if "name" in row}
    for scope, listed in _poetry_lists(view):
        for name, row in listed:
            source = str(mapping(row).get("source", ""))
            if canonicalize_name(name) == package and source in urls:
                for extra, marker in by_extra(_poetry_marker(mapping(row))):
                    asks = Scope("extra", extra) if extra else scope
                    yield Offer(urls[source], (package,), asks, marker)
    for row in sources:
        if row.get("priority") not in ("explicit", "supplemental"):
            yield Offer(str(row.get("url", "")))


def read_poetry(view: ProjectView, catalog: Catalog) -> Foreign:
    """`[tool.poetry]` in standard words; Poetry 2 has its groups there only.

    Raises:
        UsageError: `not-carried`: a marker that uv has no words for.
    """
    found, poetry = Foreign(), view.tool("poetry")
    found.project = {key: str(poetry[key]) for key in ("name", "version", "description") if poetry.get(key)}
    for python in texts(mapping(poetry.get("dependencies")).get("python")):
        found.project["requires-python"] = specifier(python) or ""
    extras = {str(name): texts(names) for name, names in mapping(poetry.get("extras")).items()}
    sources = {str(row.get("name")): str(row.get("url", "")) for row in tables(poetry.get("source"))}
    found.indexes = [(name, url) for name, url in sources.items() if url and not backend_of(url, catalog)]
    found.lists = {Scope("extra", name): [] for name in extras}
    for scope, listed in _poetry_lists(view):
        for name, row in listed:
            if name != "python" or scope != ALWAYS:
                _poetry_row(found, name, row, scope, extras, catalog, sources)
    for extra, names in extras.items():
        there = {plain_name(text) for text in found.lists[Scope("extra", extra)]}
        for name in names:  # a package that the extra only names
            if canonicalize_name(name) not in there:
                found.add(Scope("extra", extra), canonicalize_name(name), "", "", {})
    return found


def _poetry_lists(view: ProjectView) -> Iterator[tuple[Scope, list[tuple[str, Any]]]]:
    """Each list with its rows; a package with several comes once for each."""
    poetry = view.tool("poetry")
    groups = {name: mapping(row).get("dependencies") for name, row in mapping(poetry.get("group")).items()}
    groups.setdefault("dev", poetry.get("dev-dependencies"))
    named = [(ALWAYS, poetry.get("dependencies"))]
    named += [(Scope("group", str(name)), listed) for name, listed in groups.items()]
    for scope, listed in named:
        each = {str(name): row if isinstance(row, list) else [row] for name, row in mapping(listed).items()}
        yield scope, [(name, row) for name, rows in each.items() for row in rows]


def _poetry_row(
    found: Foreign,
    name: str,
    row: Any,
    scope: Scope,
    extras: Mapping[str, list[str]],
    catalog: Catalog,
    sources: Mapping[str, str],
) -> None:
    table = dict(mapping(row))
    version = str(table.get("version", "*")) if table else str(row)
    if (spec := specifier(version)) is None:
        found.omitted.append(f"{name} {version!r} cannot be written as a standard version bound")
    options = extras_text(texts(table.get("extras")))
    if (url := sources.get(str(table.get("source", "")))) and not backend_of(url, catalog):
        table["index"] = str(table["source"])
    homes = [Scope("extra", extra) for extra, names in extras.items() if name in names]
    for extra, marker in by_extra(_poetry_marker(table)):
        asks = [Scope("extra", extra)] if extra else homes if table.get("optional") else [scope]
        for home in asks:
            found.add(home, name, f"{options}{spec or ''}", marker, table)


def _poetry_marker(row: Mapping[str, Any]) -> str:
    """`markers`, `platform` and `python` of a row as one marker."""
    markers = texts(row.get("markers"))
    markers += [f"sys_platform == '{platform}'" for platform in texts(row.get("platform"))]
    for python in texts(row.get("python")):
        parts = SpecifierSet(specifier(python) or "")
        markers += [" and ".join(f"python_version {part.operator} '{part.version}'" for part in parts)]
    return all_of(*markers)


def specifier(text: str) -> str | None:
    """A Poetry constraint as a PEP 440 specifier: `^2.1` is `>=2.1,<3.0`; None where there is none."""
    parts = [_one(part.strip()) for part in re.split(r"\s*,\s*|\s+(?=[<>=!~^])", text.strip())]
    return None if None in parts else ",".join(filter(None, parts))


def _one(part: str) -> str | None:
    if part in ("", "*"):
        return ""
    if part[0] in "^~" and not part.startswith("~="):
        version = part[1:].strip().partition("+")[0]  # a build is named by its source, not by a bound
        if not _RELEASE.fullmatch(version):
            return None
        return f">={version},<{_ceiling([int(item) for item in version.split('.')], caret=part[0] == '^')}"
    if part.endswith(".*") and _RELEASE.fullmatch(part[:-2]):
        return f"=={part}"
    try:
        return str(SpecifierSet(f"=={part}" if _RELEASE.match(part) else part))
    except InvalidSpecifier:
        return None


def _ceiling(numbers: list[int], *, caret: bool) -> str:
    """`^0.2.3` ends below 0.3.0, `~1.2` below 1.3: the first number that may not change goes up by one."""
    last = len(numbers) - 1
    place = next((at for at, number in enumerate(numbers) if number), last) if caret else min(1, last)
    raised = [*numbers[:place], numbers[place] + 1, *[0] * (len(numbers) - place - 1)]
    return ".".join(map(str, raised))


def by_extra(marker: str) -> list[tuple[str, str]]:
    """A marker of Poetry as pairs of an extra (empty: none) and the marker that is left.

    Raises:
        UsageError: `not-carried`: it holds unless an extra is active, or its terms are nested.
    """
    names = dict.fromkeys(name for _, name in _EXTRA.findall(marker))
    if not names:
        return [("", marker)]
    found = {name: _under(marker, name) for name in ("", *names)}
    if "(" in marker or (found[""] is not None and any(rest != found[""] for rest in found.values())):
        raise UsageError(
            "not-carried",
            f"uv has no words for the marker {marker!r}, so nothing was changed",
            wanted="markers such as extra == 'cpu', each with its own source",
            found=marker,
            hints=("write one extra for each choice in tool.poetry.extras, then run it again",),
        )
    if found[""] is not None:
        return [("", found[""])]
    return [(name, rest) for name, rest in found.items() if rest is not None]


def _under(marker: str, extra: str) -> str | None:
    """A marker without its terms about extras when one is active; None: it does not hold."""
    clauses = []
    for clause in re.split(r"\s+or\s+", marker):
        terms = re.split(r"\s+and\s+", clause.strip())
        about = [_EXTRA.fullmatch(term.strip()) for term in terms]
        if all(match is None or (match[1] == "==") == (match[2] == extra) for match in about):
            clauses.append(" and ".join(term for term, match in zip(terms, about, strict=True) if not match))
    return None if not clauses else "" if "" in clauses else " or ".join(clauses)
