"""Recognise older ways of choosing a torch build, and move them to the tables that uv reads.

A migration reads every choice, moves lists and indexes, writes the choices that uv would not read, and
compares.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from msgspec import Struct

from torchinstall.catalog.catalog import Catalog
from torchinstall.core.errors import UsageError
from torchinstall.core.messages import Message
from torchinstall.core.request import DEFAULT_INDEX_BASE, extras_text
from torchinstall.index.urls import pytorch_index
from torchinstall.project.choices import (
    check_carried,
    choices,
    entries_of,
    missing,
    pinned_backend,
    public_bounds,
)
from torchinstall.project.edit import drop, edit_text, value_at
from torchinstall.project.foreign import Foreign, plain_name, read_hatch, read_pixi
from torchinstall.project.model import ALWAYS, Index, Listed, Point, Route, Scope, points_of
from torchinstall.project.poetry import read_poetry
from torchinstall.project.pyproject import ProjectView, is_requirement, mapping, project_view, tables, texts
from torchinstall.project.write import write_entries

NOT_READ = {
    "rye-project": "uv does not read [tool.rye]; `torchinstall configure --migrate` moves it to uv's tables",
    "pdm-project": "uv does not read [tool.pdm]; `torchinstall configure --migrate` moves what uv can use",
    "poetry-project": "uv does not read [tool.poetry]; what it adds to [project] applies to Poetry only",
    "hatch-project": "uv does not read the environments in [tool.hatch.envs] that list torch; "
    "`torchinstall configure --migrate` makes dependency groups of them",
    "find-links-project": "find-links pages of PyTorch may supply any package, whatever its index; "
    "`torchinstall configure --migrate` removes them",
    "requirements-project": "the dependencies are in a requirements file, and uv does not read what it says "
    "about indexes; `torchinstall configure --migrate` moves both to [project] and uv's tables",
}
"""The slug of an older way -> what to say where it is left."""

_KEYS = {"always": "dependencies", "extra": "optional-dependencies"}
"""The kind of a list -> its key in `[project]`."""

_SYSTEMS = ("linux_x86_64", "win_amd64", "macos_arm64")
"""A pin that is written once for each of these is meant for every platform."""

_BLOCKING = {
    "find-links": "it pins builds by local version (torch==X+cuNNN), which no single index serves",
    "poetry": "its dependencies are in [tool.poetry], which uv does not read",
    "uv-dev": "torch is in tool.uv.dev-dependencies, the old form of the dependency group dev",
}


def _did(message: str) -> Message:
    return Message(slug="migrated", message=message)


class Legacy(Struct, frozen=True, kw_only=True):
    """What was recognised: older ways, those to migrate before a layout, choices that uv does not read."""

    kinds: tuple[str, ...]
    blocking: tuple[str, ...]
    unread: tuple[Route, ...]

    def accept(self, *, chosen: bool) -> tuple[Message, ...]:
        """What to tell where the file is left as it is; `chosen`: the user says anew which builds it has.

        Raises:
            UsageError: `needs-migration`.
        """
        reasons = [_BLOCKING[kind] for kind in self.blocking]
        if self.unread and not chosen and not reasons:
            each = dict.fromkeys(f"{item.backend} in {item.scope.text}" for item in self.unread)
            reasons.append("uv does not read its choice of " + ", ".join(each))
        if reasons:
            raise UsageError(
                "needs-migration",
                "this project chooses torch in an older way: " + "; ".join(reasons),
                wanted="[project] dependencies and an index of PyTorch",
                found=", ".join(self.blocking or self.kinds),
                hints=("torchinstall configure --migrate --dry-run", "torchinstall configure --migrate"),
            )
        slugs = [f"{kind}-project" for kind in self.kinds]
        return tuple(Message(slug=slug, message=NOT_READ[slug]) for slug in slugs)


def recognise(view: ProjectView, catalog: Catalog, more: Foreign) -> Legacy:
    """Find pins with a local version, PyTorch `find-links`, the tables of other tools, requirements files.

    Raises:
        UsageError: `not-supported`: pixi installs this project, from tables of its own.
    """
    if view.tool("pixi") and not view.uv:
        raise UsageError(
            "not-supported",
            "pixi installs this project: it takes torch from [tool.pixi] and does not read the tables of uv",
            wanted="a project that uv installs",
            found="[tool.pixi], no [tool.uv]",
            hints=(
                "torchinstall export --format pixi shows the tables for [tool.pixi]",
                "to use uv instead: torchinstall configure --migrate",
            ),
        )
    pins = _pins_of(view, catalog)
    links = (*texts(view.uv.get("find-links")), *texts(view.tool("uv", "pip").get("find-links")))
    kinds = ["find-links"] if pins or any(pytorch_index(url, catalog.backend) for url in links) else []
    kinds += [kind for kind in ("rye", "poetry", "pdm") if view.tool(kind)]
    old = texts(view.uv.get("dev-dependencies"))
    kinds += ["uv-dev"] if any(catalog.family(plain_name(text)) for text in old) else []
    kinds += ["hatch"] if read_hatch(view, catalog).lists else []
    seen = choices(view, catalog)
    if more.lists:
        extras = {scope.name: items for scope, items in more.lists.items() if scope.kind == "extra"}
        lists = {"dependencies": more.lists.get(ALWAYS, []), "optional-dependencies": extras}
        listed = ProjectView({"project": {**view.project, **lists}})
        seen += choices(listed, catalog, offers=more.offers)
        kinds.append("requirements")
    blocks = {"find-links": bool(pins), "poetry": not view.project, "uv-dev": True}
    return Legacy(
        kinds=tuple(kinds),
        blocking=tuple(kind for kind in kinds if blocks.get(kind)),
        unread=(*missing(seen, view, catalog),) if view.project else (),
    )


class Migrated(Struct, frozen=True, kw_only=True):
    """A file after migration: `moved` without the choices that were seen, `text` with them.

    `error`: why they could not all be written, which matters where they are to stay; `text` is `moved` then.
    """

    moved: str
    text: str
    notes: tuple[Message, ...] = ()
    error: UsageError | None = None


def migrate_text(
    text: str, catalog: Catalog, index_base: str = DEFAULT_INDEX_BASE, more: Foreign | None = None
) -> Migrated:
    """Rewrite a project file (empty: there is none); unchanged where there is nothing old in it.

    `index_base` is for pins that name a build and no index, `more` what requirements files say.

    Raises:
        UsageError: it is written in a way that cannot be edited, or another tool's list cannot be moved.
    """
    seen: list[Route] = []
    more = more or Foreign()

    def change(data: dict[str, Any]) -> tuple[Message, ...]:
        notes = [*_move(data, ProjectView(data), catalog, more)]
        seen.extend(choices(ProjectView(data), catalog, index_base, offers=more.offers))
        for step in (_clean_rye, _clean_pdm, _clean_pins, _clean_links):
            notes += step(data, ProjectView(data), catalog)
        return tuple(notes)

    moved = edit_text(text, change)
    unread = missing(tuple(seen), project_view(moved.text), catalog)
    entries = entries_of(tuple(unread), catalog)
    done = edit_text(moved.text, lambda data: write_entries(data, entries, catalog))
    try:
        check_carried(tuple(seen), project_view(done.text), catalog)
    except UsageError as error:
        return Migrated(moved=moved.text, text=moved.text, notes=moved.notes, error=error)
    return Migrated(moved=moved.text, text=done.text, notes=moved.notes)


def _move(data: dict[str, Any], view: ProjectView, catalog: Catalog, more: Foreign) -> Iterator[Message]:
    """Bring every list to the standard tables."""
    if view.tool("poetry"):
        poetry = read_poetry(view, catalog)
        if view.project:  # Poetry 2 has its groups there, and the lists that [project] calls dynamic
            dynamic = texts(view.project.get("dynamic"))
            taken = {"group", *(kind for kind, key in _KEYS.items() if key in dynamic)}
            poetry.lists = {scope: poetry.lists[scope] for scope in poetry.lists if scope.kind in taken}
            _make_static(data, poetry)
        else:
            yield _did("tool.poetry became [project] and uv's tables; Poetry 2 reads [project] as well")
        yield from _add(data, poetry)
    if view.tool("pixi"):
        pixi = read_pixi(view, catalog)
        yield from _add(data, pixi)
        yield from (_did(f"what pixi takes from PyPI is in {scope.text} too") for scope in pixi.lists)
    hatch = read_hatch(view, catalog)
    yield from _add(data, hatch)
    yield from (
        _did(f"the Hatch environment {scope.name} is a dependency group too") for scope in hatch.lists
    )
    if more.lists:
        yield from _add(data, more)
        for key in _make_static(data, more):
            for path in (("setuptools", "dynamic"), ("hatch", "metadata", "hooks", "requirements_txt")):
                for name in (key, *(("files", "filename") if key == "dependencies" else ())):
                    drop(data, "tool", *path, name)
        yield _did("requirements files became lists of the project file; they are as they were")
    for tool in ("rye", "uv"):
        yield from _move_group(data, "dev", "tool", tool, "dev-dependencies")
    for name in [*view.tool("pdm", "dev-dependencies")]:
        yield from _move_group(data, name, "tool", "pdm", "dev-dependencies", name)


def _add(data: dict[str, Any], foreign: Foreign) -> Iterator[Message]:
    """Add another tool's lists, indexes and sources to a file's values."""
    if foreign.project and "project" not in data:
        data["project"] = {**foreign.project, "dependencies": []}
    for scope, items in foreign.lists.items():
        _add_list(data, scope, items)
    for index in foreign.indexes:
        _add_index(data, index)
    if foreign.constraints:
        value_at(data, list, "tool", "uv", "constraint-dependencies").extend(foreign.constraints)
    for package, found in foreign.sources.items():
        value_at(data, dict, "tool", "uv", "sources").setdefault(
            package, found[0] if len(found) == 1 else found
        )
    if foreign.default_groups:
        names = [name for name in foreign.default_groups if Scope("group", name) in foreign.lists]
        value_at(data, dict, "tool", "uv").setdefault("default-groups", names)
    for text in foreign.omitted:
        yield Message(slug="not-migrated", message=text)


def _add_list(data: dict[str, Any], scope: Scope, items: Iterable[str]) -> None:
    """Add requirements to a list; of a package that it has already, nothing."""
    rows = value_at(data, list, *scope.path)
    there = {plain_name(text) for text in texts(rows)}
    rows += [text for text in items if plain_name(text) not in there]


def _add_index(data: dict[str, Any], index: Index) -> None:
    """Add an index of uv, unless its URL has one; a default one replaces uv's own."""
    if not any(row.url == index.url for row in ProjectView(data).indexes):
        flags = {"explicit": index.explicit, "default": index.default}
        row = {"name": index.name or "migrated", "url": index.url}
        value_at(data, list, "tool", "uv", "index").append(row | {key: True for key in flags if flags[key]})


def _make_static(data: dict[str, Any], foreign: Foreign) -> list[str]:
    """Say no more that these lists of `[project]` are dynamic; gives their keys."""
    keys = [_KEYS[kind] for kind in dict.fromkeys(scope.kind for scope in foreign.lists) if kind in _KEYS]
    if left := [key for key in texts(data["project"].get("dynamic")) if key not in keys]:
        data["project"]["dynamic"] = left
    else:
        drop(data, "project", "dynamic")
    return keys


def _move_group(data: dict[str, Any], group: str, *path: str) -> Iterator[Message]:
    """Move a list to a dependency group, comments and all; what is no requirement stays behind."""
    rows, what = ProjectView(data).tool(*path[1:-1]).get(path[-1]), ".".join(path)
    if not isinstance(rows, list):
        return
    odd = [item for item in rows if not is_requirement(str(item))]
    for item in odd:
        yield Message(
            slug="not-migrated",
            message=f"{str(item)!r} in {what} stays there: uv takes a folder as `uv add --editable DIR`",
        )
    if len(odd) < len(rows) or not rows:
        groups = value_at(data, dict, "dependency-groups")
        if odd or group in groups:
            _add_list(data, Scope("group", group), (item for item in rows if item not in odd))
        else:
            groups[group] = rows
        yield _did(f"{what} became the dependency group {group}")
    if odd:
        value_at(data, dict, *path[:-1])[path[-1]] = odd
    else:
        drop(data, *path)


def _clean_rye(data: dict[str, Any], view: ProjectView, catalog: Catalog) -> Iterator[Message]:
    """Rye's sources in uv's words; its table goes when nothing is left in it."""
    rye = view.tool("rye")
    if "rye" not in view.tool():
        return
    yield from _move_sources(data, "Rye", rye.get("sources"), "default", catalog)
    if rye.get("virtual") is True:
        value_at(data, dict, "tool", "uv")["package"] = False
        yield _did("tool.rye.virtual became tool.uv.package = false")
    if members := texts(mapping(rye.get("workspace")).get("members")):
        value_at(data, dict, "tool", "uv", "workspace").setdefault("members", members)
        drop(data, "tool", "rye", "workspace", "members")
        yield _did("tool.rye.workspace became tool.uv.workspace")
    for key in ("sources", "managed", "virtual", "generate-hashes", "lock-with-sources", "universal"):
        drop(data, "tool", "rye", key)
    if "rye" not in data.get("tool", {}):
        yield _did("tool.rye was removed; you can delete requirements.lock and requirements-dev.lock")


def _clean_pdm(data: dict[str, Any], view: ProjectView, catalog: Catalog) -> Iterator[Message]:
    """PDM's sources in uv's words too; its own table stays."""
    yield from _move_sources(data, "PDM", view.tool("pdm").get("source"), "pypi", catalog)
    for name, bound in view.tool("pdm", "resolution", "overrides").items():
        message = f"{name} = {bound!r} in tool.pdm.resolution.overrides stays there: "
        message += "uv takes it as a requirement in tool.uv.override-dependencies"
        yield Message(slug="not-migrated", message=message)


def _move_sources(
    data: dict[str, Any], tool: str, rows: object, default: str, catalog: Catalog
) -> Iterator[Message]:
    """Add a tool's sources to those of uv; the one that is called `default` replaces uv's own index."""
    for row in tables(rows):
        url, name = str(row.get("url", "")), str(row.get("name", ""))
        what = f"the {tool} source {name or url}"
        if pytorch_index(url, catalog.backend):
            yield _did(f"uv has an explicit index in place of {what}")
        elif row.get("type", "index") == "index" and url:
            _add_index(data, Index(url, name, default=name == default))
            yield _did(f"{what} is an index of uv now")
        elif url and url not in texts(ProjectView(data).uv.get("find-links")):
            value_at(data, list, "tool", "uv", "find-links").append(url)
            yield _did(f"{what} is in find-links of uv now")


def check_spelled(view: ProjectView, catalog: Catalog) -> None:
    """Name a requirement of a package of PyTorch that uv cannot read, instead of adding another one.

    Raises:
        UsageError: `bad-pyproject`.
    """
    for scope, items in view.lists.items():
        for text in texts(items):
            if catalog.family(plain_name(text)) and not is_requirement(text):
                raise UsageError(
                    "bad-pyproject",
                    f"{text!r} in {scope.text} is not a requirement that uv can read",
                    wanted="bounds such as torch>=2.8; only == and != may name a build (+cu126)",
                    found=text,
                    hints=("correct the requirement; the file was not changed",),
                )


def _pins_of(view: ProjectView, catalog: Catalog) -> tuple[Listed, ...]:
    """Requirements of the torch family that name a build (`torch==2.5.1+cu121`) that no source serves."""
    served = {
        (item.scope, item.package, item.backend, point)
        for item in choices(view, catalog, uv=True)
        for point in item.points
    }
    found = []
    for item in view.listed:
        family, backend = catalog.family(item.package), pinned_backend(item, catalog)
        if family is None or not family.routed or "+" not in str(item.requirement.specifier):
            continue
        points = view.points(item.requirement.marker)
        if any((item.scope, item.package, backend, point) not in served for point in points):
            found.append(item)
    return tuple(found)


def _clean_pins(data: dict[str, Any], view: ProjectView, catalog: Catalog) -> Iterator[Message]:
    """`torch==2.5.1+cu121 ; linux` and `torch==2.5.1 ; darwin` become one `torch==2.5.1`."""
    while pins := _pins_of(view, catalog):
        first = pins[0]
        same = [item for item in view.listed if (item.scope, item.package) == (first.scope, first.package)]
        public = {public_bounds(item.requirement.specifier) for item in same}
        covered = frozenset[Point]().union(*(view.points(item.requirement.marker) for item in same))
        rows = value_at(data, list, *first.scope.path)
        if len(public) == 1 and points_of(_SYSTEMS, view.versions) <= covered:
            extras = extras_text(first.requirement.extras)
            rows[same[0].position] = f"{first.requirement.name}{extras}{public.pop()}"
            for item in reversed(same[1:]):
                del rows[item.position]
        else:  # versions differ by platform, or it is not required everywhere: the markers stay
            for item in same:
                rows[item.position] = without_local(item.text)
        yield _did(
            f"{first.package} in {first.scope.text} now names only a version; the index chooses the build"
        )
        view = ProjectView(data)


def without_local(text: str) -> str:
    """A requirement without the local segments that name a build."""
    head, semicolon, marker = text.partition(";")
    parts = [part.partition("+")[0] for part in head.rstrip().split(",")]
    return ",".join(parts) + head[len(head.rstrip()) :] + semicolon + marker


def _clean_links(data: dict[str, Any], view: ProjectView, catalog: Catalog) -> Iterator[Message]:
    """PyTorch's pages leave `find-links`; pages of others stay."""
    for path in (("tool", "uv"), ("tool", "uv", "pip")):
        links = view.tool(*path[1:]).get("find-links")
        if not isinstance(links, list):
            continue
        for link in list(links):
            if pytorch_index(str(link), catalog.backend):
                yield _did(f"find-links {link} is replaced by an explicit index")
                links.remove(link)
                if not links:
                    drop(data, *path, "find-links")
