"""Read what a project file says in the standard tables and in uv's; what in it is in vain or does harm."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar
from urllib.parse import SplitResult, urlsplit

from msgspec import ValidationError
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from torchinstall.catalog.catalog import Catalog
from torchinstall.core import files
from torchinstall.core.decoding import convert
from torchinstall.core.messages import Message, redact
from torchinstall.core.request import canonical_name
from torchinstall.index.urls import pytorch_index, without_credentials
from torchinstall.project.files import loads, parse_toml
from torchinstall.project.model import ALWAYS, PLATFORMS, Index, Listed, Point, Scope, points_where

_MINORS = range(6, 30)
_T = TypeVar("_T")
_BLOCK = re.compile(r"(?m)^# /// script\r?$\n(?P<lines>(?:^#(?:| .*)\r?$\n)+?)^# ///\r?$\n?")
_HEAD = "[project]\n"
"""The keys of a script stand at the top of its metadata; in a project file they are those of this table."""


class ProjectView:
    """Read-only access to a project file as parsed.

    What has not the right type is treated as not there, since uv itself will say so.
    """

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.data = data

    @cached_property
    def project(self) -> Mapping[str, Any]:
        """The `[project]` table."""
        return mapping(self.data.get("project"))

    @cached_property
    def uv(self) -> Mapping[str, Any]:
        """The `[tool.uv]` table."""
        return self.tool("uv")

    def tool(self, *path: str) -> Mapping[str, Any]:
        """A tool's table, or one below it."""
        here = mapping(self.data.get("tool"))
        for key in path:
            here = mapping(here.get(key))
        return here

    @property
    def name(self) -> str:
        """The project's name; empty where it has none."""
        return str(self.project.get("name", ""))

    @property
    def dynamic_dependencies(self) -> bool:
        """Whether the build backend, not this file, says what the project depends on."""
        return "dependencies" in texts(self.project.get("dynamic"))

    @cached_property
    def requires_python(self) -> SpecifierSet:
        """Empty where nothing (valid) is said."""
        try:
            return SpecifierSet(str(self.project.get("requires-python", "")))
        except InvalidSpecifier:
            return SpecifierSet()

    @cached_property
    def pythons(self) -> tuple[str, ...]:
        """The minor versions that the project allows, `3.11`, `3.12` …; empty where it does not say."""
        spec = self.requires_python
        return tuple(f"3.{minor}" for minor in _MINORS if str(spec) and spec.contains(f"3.{minor}.99"))

    @property
    def versions(self) -> tuple[str, ...]:
        """The same, but never empty: one version stands for all where the project does not say."""
        return self.pythons or ("3.12",)

    def points(self, marker: object = "") -> frozenset[Point]:
        """Where a marker holds in this project."""
        return points_where(str(marker or ""), self.versions)

    @cached_property
    def lists(self) -> dict[Scope, list[Any]]:
        """Every list of requirements, items as written."""
        found = {ALWAYS: self.project.get("dependencies")}
        for name, items in mapping(self.project.get("optional-dependencies")).items():
            found[Scope("extra", name)] = items
        for name, items in mapping(self.data.get("dependency-groups")).items():
            found[Scope("group", name)] = items
        return {scope: items for scope, items in found.items() if isinstance(items, list)}

    @cached_property
    def listed(self) -> tuple[Listed, ...]:
        """Every requirement that parses."""
        return tuple(
            Listed(scope, position, text, requirement)
            for scope, items in self.lists.items()
            for position, text, requirement in _requirements(items)
        )

    def scopes_of(self, package: str) -> tuple[Scope, ...]:
        """Where a package is required."""
        return tuple(dict.fromkeys(item.scope for item in self.listed if item.package == package))

    def required_at(self, package: str, scope: Scope) -> frozenset[Point]:
        """Where a list, or the project itself, requires a package directly."""
        mine = (item for item in self.listed if item.package == package)
        keys = (ALWAYS.key, scope.key)
        markers = {item.requirement.marker for item in mine if item.scope.key in keys}
        return frozenset[Point]().union(*map(self.points, markers))

    def spelled(self, scope: Scope) -> Scope:
        """An extra or group as the file spells its name; as it is where the file has none (PEP 685)."""
        return next((item for item in self.lists if item.key == scope.key), scope)

    @cached_property
    def indexes(self) -> tuple[Index, ...]:
        """The entries of `[[tool.uv.index]]`."""
        return _typed(self.uv.get("index"), tuple[Index, ...], ())

    def index_url(self, source: Mapping[str, Any]) -> str:
        """The URL of the index that an entry of a package's sources names; empty where there is none."""
        return next((row.url for row in self.indexes if row.name and row.name == source.get("index")), "")

    @cached_property
    def sources(self) -> dict[str, list[dict[str, Any]]]:
        """Package -> its entries; the single form is a list of one."""
        kind = dict[str, dict[str, Any] | list[dict[str, Any]]]
        rows: dict[str, Any] = _typed(self.uv.get("sources"), kind, {})
        return {canonical_name(name): row if isinstance(row, list) else [row] for name, row in rows.items()}

    def source_name(self, package: str) -> str:
        """A package as the file spells it in its sources."""
        spelled = (name for name in mapping(self.uv.get("sources")) if canonical_name(name) == package)
        return next(spelled, package)

    def texts(self, key: str) -> tuple[str, ...] | None:
        """A list of texts in `[tool.uv]` (one text counts as a list of one); None where it is not there."""
        value: Any = _typed(self.uv.get(key), str | tuple[str, ...], None)
        return (value,) if isinstance(value, str) else value

    @cached_property
    def conflicts(self) -> tuple[tuple[tuple[str, str], ...], ...]:
        """The sets of `tool.uv.conflicts`, each as keys of scopes (`extra`, `cpu`)."""
        rows: list[list[dict[str, str]]] = _typed(self.uv.get("conflicts"), list[list[dict[str, str]]], [])
        return tuple(tuple(scope_in(item).key for item in row if scope_in(item) != ALWAYS) for row in rows)

    @property
    def default_groups(self) -> tuple[str, ...]:
        """The groups that uv takes unasked: those of `default-groups`, else `dev` where there is one."""
        named = self.texts("default-groups")
        has_dev = ("group", "dev") in {scope.key for scope in self.lists} or "dev-dependencies" in self.uv
        return named if named is not None else ("dev",) if has_dev else ()

    def rival_groups(self, scope: Scope) -> tuple[str, ...]:
        """The default groups that may not be active together with an extra or group."""
        rivals = {key for row in self.conflicts if scope.key in row for key in row} - {scope.key}
        return tuple(name for name in self.default_groups if ("group", canonical_name(name)) in rivals)

    @cached_property
    def platforms(self) -> tuple[str, ...]:
        """The platforms that `tool.uv.environments` leaves to the project; all of them where it is silent."""
        allowed = frozenset[Point]().union(*map(self.points, self.texts("environments") or ("",)))
        there = {platform for platform, _ in allowed}
        return tuple(platform for platform in PLATFORMS if platform in there) or PLATFORMS


def project_view(text: str, name: str = "pyproject.toml") -> ProjectView:
    """What a project file says.

    Raises:
        UsageError: `bad-pyproject`.
    """
    return ProjectView(parse_toml(text.removeprefix("\ufeff"), name))


def metadata(text: str, python: str = "") -> str:
    """The inline metadata of a script (PEP 723) as a project file.

    Where there is none, that of new metadata for this lowest version of Python, or the bare table.
    """
    found = _BLOCK.search(text)
    python = ".".join(python.split(".")[:2])
    if found is None:
        return _HEAD + (f'requires-python = ">={python}"\ndependencies = []\n' if python else "")
    return _HEAD + "".join(line[2:] + "\n" for line in found["lines"].splitlines())


def with_metadata(text: str, toml: str) -> str:
    """The script with other metadata; new metadata goes below the line that names the interpreter."""
    end = "\r\n" if "\r\n" in text else "\n"
    lines = [f"# {line}".rstrip() for line in toml.removeprefix(_HEAD).rstrip("\n").splitlines()]
    block = end.join(["# /// script", *lines, "# ///", ""])
    found = _BLOCK.search(text)
    if found:
        return text[: found.start()] + block + text[found.end() :]
    first = re.match(r"(?:#!.*\n)?(?:#.*coding[:=].*\n)?", text)
    at = first.end() if first else 0
    return text[:at] + block + end + text[at:]


def view_in(folder: Path) -> ProjectView:
    """What the project file in a folder says; nothing where there is none that can be read."""
    try:
        return ProjectView(loads(files.read_text(folder / "pyproject.toml")) or {})
    except (OSError, ValueError):
        return ProjectView({})


def _typed(value: Any, kind: Any, otherwise: _T) -> _T:
    try:
        converted: _T = convert(value, kind)
    except ValidationError:
        return otherwise
    return converted


def scope_in(row: Mapping[str, Any]) -> Scope:
    """The extra or group that an entry of a package's sources, or of conflicts, names."""
    if "extra" in row:
        return Scope("extra", str(row["extra"]))
    return Scope("group", str(row["group"])) if "group" in row else ALWAYS


def mapping(value: Any) -> Mapping[str, Any]:
    """A table of the file; empty where something else stands there."""
    return value if isinstance(value, Mapping) else {}


def tables(items: Any) -> list[Mapping[str, Any]]:
    """The tables of a list of them; one table counts as a list of one."""
    return [row for row in (items if isinstance(items, list) else [items]) if isinstance(row, Mapping)]


def texts(items: Any) -> list[str]:
    """The texts of a list; one text counts as a list of one."""
    return [str(item) for item in (items if isinstance(items, list) else [items]) if isinstance(item, str)]


def is_requirement(text: str) -> bool:
    """Whether a text is a requirement of PEP 508."""
    return any(True for _ in _requirements([text]))


def _requirements(items: list[Any]) -> Iterator[tuple[int, str, Requirement]]:
    for position, item in enumerate(items):
        if isinstance(item, str):
            try:
                yield position, item, Requirement(re.sub(r"[\r\n]+", " ", item))
            except InvalidRequirement:
                continue


def same_url(left: str, right: str) -> bool:
    """Whether two index URLs are one index (a slash at the end and user names apart)."""

    def plain(url: str) -> SplitResult:
        parts = urlsplit(without_credentials(url.strip().rstrip("/")))
        return parts._replace(netloc=parts.netloc.lower())

    return plain(left) == plain(right)


def workspace_root(directory: Path) -> Path:
    """The folder of the workspace that a project is a member of; the project's own where it is in none."""
    own = files.real_path(directory)
    for parent in own.parents:
        table = view_in(parent).tool("uv", "workspace")
        relative = PurePosixPath(own.relative_to(parent))
        if _matches(relative, table.get("members")) and not _matches(relative, table.get("exclude")):
            return parent
    return own


def workspace_members(root: Path) -> tuple[str, ...]:
    """The folders of a workspace's members, relative to its root; empty where it is no workspace."""
    table = view_in(root).tool("uv", "workspace")
    found = {
        path.parent.relative_to(root).as_posix()
        for pattern in texts(table.get("members"))
        for path in root.glob(f"{pattern}/pyproject.toml")
    }
    return tuple(sorted(item for item in found if not _matches(PurePosixPath(item), table.get("exclude"))))


def below(view: ProjectView, *roots: ProjectView) -> ProjectView:
    """A member with the sources and indexes of the roots (at most one) that it does not have itself."""
    for root in roots:
        sources = {**mapping(root.uv.get("sources")), **mapping(view.uv.get("sources"))}
        index = [*tables(view.uv.get("index")), *tables(root.uv.get("index"))]
        tools = {**mapping(view.data.get("tool")), "uv": {**view.uv, "sources": sources, "index": index}}
        view = ProjectView({**view.data, "tool": tools})
    return view


def _matches(path: PurePosixPath, patterns: object) -> bool:
    """As uv matches: a star stays within one folder name, two stand for any number of folders."""
    stars = ["/".join("*" * depth) for depth in range(len(path.parts) + 1)]
    globs = (PurePosixPath(text.replace("**", any_)) for text in texts(patterns) for any_ in stars)
    return any(len(glob.parts) == len(path.parts) and path.match(str(glob)) for glob in globs)


_VARIABLES = {
    "UV_TORCH_BACKEND": "torch-backend",
    "UV_INDEX_STRATEGY": "index-strategy",
    "UV_EXTRA_INDEX_URL": "extra-index-url",
    "UV_INDEX": "index-url",
    "UV_INDEX_URL": "index-url",
    "UV_DEFAULT_INDEX": "index-url",
    "PIP_EXTRA_INDEX_URL": "extra-index-url",
    "PIP_INDEX_URL": "index-url",
}
"""Variable -> the setting of uv that it is."""


def check_uv(uv: Mapping[str, Any], catalog: Catalog, *, prefix: str = "tool.uv.") -> tuple[Message, ...]:
    """Settings of uv; `torch-backend` is read by `uv pip` and `uv tool` only (uv's settings reference).

    `uv` is `[tool.uv]`, or a whole `uv.toml`, where `prefix` (of a key in a message) is empty.
    """
    found = list[Message]()
    for start, table in ((prefix, uv), (f"{prefix}pip.", mapping(uv.get("pip")))):
        for key, value in table.items():
            found += _setting(key, value, f"{start}{key} = {value!r}", f"{start}{key}", catalog)
    for row in ProjectView({"tool": {"uv": uv}}).indexes:
        if not row.explicit and _pytorch(row.url, catalog):
            message = f"the index {row.name or row.url} is not `explicit = true`, so other packages may come "
            found.append(Message(slug="index-not-explicit", message=f"{message}from it too"))
    return tuple(dict.fromkeys(found))


def check_requirements(text: str, catalog: Catalog) -> tuple[Message, ...]:
    """Index options of a requirements file."""
    urls = re.findall(r"^\s*--(?:extra-)?index-url[ =](\S+)", text, re.MULTILINE)
    return tuple(row for url in urls for row in _setting("index-url", url, "", redact(url), catalog))


def check_variables(env: Mapping[str, str], catalog: Catalog) -> tuple[Message, ...]:
    """The same settings as environment variables."""
    set_ = {name: env[name] for name in _VARIABLES if env.get(name)}
    found = (_setting(_VARIABLES[name], set_[name], f"{name}={set_[name]}", name, catalog) for name in set_)
    return tuple(row for rows in found for row in rows)


def _setting(key: str, value: object, shown: str, name: str, catalog: Catalog) -> Iterator[Message]:
    """What is wrong with a setting, which is `shown` with its value or called by its name."""
    if key == "torch-backend":
        message = f"{shown} is read by `uv pip` only; uv lock, sync, run and add ignore it"
        yield Message(slug="torch-backend-ignored", message=message)
    elif key == "index-strategy" and str(value).startswith("unsafe"):
        message = f"{shown} lets any index supply any package; explicit indexes do not need it"
        yield Message(slug="unsafe-index-strategy", message=message)
    elif key in ("index-url", "extra-index-url") and _pytorch(value, catalog):
        message = f"{name} names a PyTorch index, so every package may come from it; remove it: an explicit "
        yield Message(slug="index-not-explicit", message=f"{message}index serves torch")


def unused_sources(view: ProjectView, catalog: Catalog) -> tuple[str, ...]:
    """Packages of the torch family with a source that uv ignores: it serves direct dependencies only."""
    direct = {item.package for item in view.listed}
    if not view.project or view.dynamic_dependencies:
        return ()
    return tuple(name for name in view.sources if catalog.family(name) is not None and name not in direct)


def _pytorch(value: object, catalog: Catalog) -> bool:
    """Whether one of the URLs in a value (a text, or a list of texts) is a PyTorch index."""
    urls = re.findall(r"https?://[^\s'\",\]]+", str(value))
    return any(pytorch_index(url, catalog.backend) for url in urls)
