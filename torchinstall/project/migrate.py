"""Recognise older ways of choosing a torch build, and move them to the tables that uv reads.

A migration reads every choice, moves lists and indexes, writes the choices that uv would not read, and
compares.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableMapping
from typing import Any

import tomlkit
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
)
from torchinstall.project.edit import (
    add_table,
    edit_text,
    extend,
    prune,
    requirements_at,
    table_at,
    value,
    write_entries,
)
from torchinstall.project.files import array, inline, quoted
from torchinstall.project.foreign import Foreign, plain_name, read_hatch, read_pixi, read_poetry
from torchinstall.project.model import ALWAYS, Choice, Listed, Scope
from torchinstall.project.pyproject import ProjectView, is_requirement, project_view, tables, texts

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

_BLOCKING = {
    "find-links": "it pins builds by local version (torch==X+cuNNN), which no single index serves",
    "poetry": "its dependencies are in [tool.poetry], which uv does not read",
}


class Legacy(Struct, frozen=True, kw_only=True):
    """What was recognised.

    Attributes:
        kinds: every older way that the file uses.
        blocking: kinds that must be migrated before a layout can be written.
        unread: choices of a build that uv does not read.
        error: why a migration could not carry the choices; it matters where they are to stay.
    """

    kinds: tuple[str, ...] = ()
    blocking: tuple[str, ...] = ()
    unread: tuple[Choice, ...] = ()
    error: UsageError | None = None

    def accept(self, *, chosen: bool = True) -> tuple[Message, ...]:
        """What to tell where the file is left as it is.

        Args:
            chosen: the user says which builds the project shall have, whatever was chosen in it.

        Raises:
            UsageError: `needs-migration`, or `not-carried`.
        """
        if self.error is not None and not chosen:
            raise self.error
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


def recognise(view: ProjectView, catalog: Catalog, more: Foreign | None = None) -> Legacy:
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
    pins = _pins(view, catalog)
    links = (*texts(view.uv.get("find-links")), *texts(view.tool("uv", "pip").get("find-links")))
    kinds = ["find-links"] if pins or any(pytorch_index(url, catalog.backend) for url in links) else []
    kinds += [kind for kind in ("rye", "poetry", "pdm") if view.tool(kind)]
    kinds += ["hatch"] if read_hatch(view, catalog).lists else []
    seen = choices(view, catalog)
    if more is not None and more.lists:
        extras = {scope.name: items for scope, items in more.lists.items() if scope.kind == "extra"}
        lists = {"dependencies": more.lists.get(ALWAYS, []), "optional-dependencies": extras}
        listed = ProjectView({"project": {**view.project, **lists}})
        seen += choices(listed, catalog, offers=more.offers)
        kinds.append("requirements")
    blocks = {"find-links": bool(pins), "poetry": not view.project}
    return Legacy(
        kinds=tuple(kinds),
        blocking=tuple(kind for kind in kinds if blocks.get(kind)),
        unread=missing(seen, view, catalog) if view.project else (),
    )


class Migrated(Struct, frozen=True, kw_only=True):
    """A file after migration: `moved` without the choices that were seen, `text` with them.

    Attributes:
        error: why they could not all be written; `text` is `moved` then.
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
    seen: list[Choice] = []
    more = more or Foreign()

    def change(document: Any) -> tuple[Message, ...]:
        notes = [*_move(document, ProjectView(document.unwrap()), catalog, more)]
        seen.extend(choices(ProjectView(document.unwrap()), catalog, index_base, offers=more.offers))
        for step in (_clean_rye, _clean_pdm, _clean_pins, _clean_links):
            notes += step(document, ProjectView(document.unwrap()), catalog)
        return tuple(notes)

    moved = edit_text(text, change)
    entries = entries_of(missing(tuple(seen), project_view(moved.text), catalog), catalog)
    done = edit_text(moved.text, lambda document: write_entries(document, entries, catalog))
    try:
        check_carried(tuple(seen), project_view(done.text), catalog)
    except UsageError as error:
        return Migrated(moved=moved.text, text=moved.text, notes=moved.notes, error=error)
    return Migrated(moved=moved.text, text=done.text, notes=moved.notes)


def _did(message: str) -> Message:
    return Message(slug="migrated", message=message)


def _move(document: Any, view: ProjectView, catalog: Catalog, more: Foreign) -> Iterator[Message]:
    """Bring every list to the standard tables."""
    if view.tool("poetry") and (not view.project or view.tool("poetry", "group")):
        poetry = read_poetry(view, catalog)
        if view.project:  # Poetry 2 has only its groups there
            poetry.project = {}
            poetry.lists = {scope: poetry.lists[scope] for scope in poetry.lists if scope.kind == "group"}
        else:
            yield _did("tool.poetry became [project] and uv's tables; Poetry 2 reads [project] as well")
        yield from _add(document, poetry)
    if view.tool("pixi"):
        pixi = read_pixi(view, catalog)
        yield from _add(document, pixi)
        yield from (_did(f"what pixi takes from PyPI is in {scope.text} too") for scope in pixi.lists)
    hatch = read_hatch(view, catalog)
    yield from _add(document, hatch)
    yield from (
        _did(f"the Hatch environment {scope.name} is a dependency group too") for scope in hatch.lists
    )
    if more.lists:
        yield from _add(document, more)
        yield from _static(document, more)
    if isinstance(view.tool("rye").get("dev-dependencies"), list):
        rye = document["tool"]["rye"]
        yield from _move_group(document, "dev", rye, "dev-dependencies", "tool.rye.dev-dependencies")
    if groups := view.tool("pdm", "dev-dependencies"):
        table = document["tool"]["pdm"]["dev-dependencies"]
        for name in [name for name in groups if isinstance(groups[name], list)]:
            yield from _move_group(document, name, table, name, f"tool.pdm.dev-dependencies.{name}")
        if not len(table):
            del document["tool"]["pdm"]["dev-dependencies"]


def _add(document: Any, foreign: Foreign) -> Iterator[Message]:
    """Add another tool's lists, indexes and sources to a document."""
    if foreign.project and "project" not in document:
        document["project"] = tomlkit.table()
        document["project"].update(foreign.project)
        foreign.lists = {ALWAYS: [], **foreign.lists}
    for scope, items in foreign.lists.items():
        _add_list(document, scope, items)
    for name, url in foreign.indexes:
        _add_index(document, name, url, default=name == "default")
    for package, found in foreign.sources.items():
        text = inline(found[0]) if len(found) == 1 else array(map(inline, found))
        table_at(document, "tool", "uv", "sources").setdefault(package, value(text))
    if foreign.default_groups and "default-groups" not in table_at(document, "tool", "uv"):
        names = [name for name in foreign.default_groups if Scope("group", name) in foreign.lists]
        document["tool"]["uv"]["default-groups"] = value(array(map(quoted, names), multiline=False))
    for text in foreign.omitted:
        yield Message(slug="not-migrated", message=text)


def _add_list(document: Any, scope: Scope, items: Iterable[str]) -> None:
    """Add requirements to a list; of a package that it has already, nothing."""
    table, key = requirements_at(document, scope)
    there = {plain_name(text) for text in texts(table.get(key))}
    extend(table, key, [quoted(text) for text in items if plain_name(text) not in there])


def _add_index(document: Any, name: str, url: str, *, default: bool) -> None:
    """Add an index of uv, unless its URL has one; a default one replaces uv's own."""
    uv = table_at(document, "tool", "uv")
    if not any(row.url == url for row in ProjectView(document.unwrap()).indexes):
        row = {"name": name or "migrated", "url": url}
        add_table(uv, "index", {**row, "default": True} if default else row)


def _static(document: Any, more: Foreign) -> Iterator[Message]:
    """The project lists its dependencies itself, and no build backend takes them from a file."""
    names = {"always": "dependencies", "extra": "optional-dependencies"}
    keys = dict.fromkeys(names[scope.kind] for scope in more.lists if scope.kind in names)
    project, tool = document["project"], document.get("tool", {})
    for key in keys:
        if key in project.get("dynamic", []):
            project["dynamic"].remove(key)
        for path in (("setuptools", "dynamic"), ("hatch", "metadata", "hooks", "requirements_txt")):
            table = ProjectView(document.unwrap()).tool(*path)
            here = tool
            for part in path if table else ():
                here = here[part]
            for name in (key, *(("files", "filename") if key == "dependencies" else ())):
                if name in table:
                    del here[name]
            prune(document, "tool", *path)
    if not project.get("dynamic", ["more"]):
        del project["dynamic"]
    yield _did("requirements files became lists of the project file; they are as they were")


def _move_group(document: Any, group: str, table: Any, key: str, what: str) -> Iterator[Message]:
    """Move a list to a dependency group, comments and all; what is no requirement stays behind."""
    listed = [str(item) for item in table[key].unwrap()]
    odd = [at for at, text in enumerate(listed) if not is_requirement(text)]
    for at in odd:
        yield Message(
            slug="not-migrated",
            message=f"{listed[at]!r} in {what} stays there: uv takes a folder as `uv add --editable DIR`",
        )
    if len(odd) < len(listed) or not listed:
        groups = table_at(document, "dependency-groups")
        if odd or group in groups:
            _add_list(document, Scope("group", group), (item for item in listed if is_requirement(item)))
        else:
            groups[group] = table[key]
        yield _did(f"{what} became the dependency group {group}")
    if not odd:
        del table[key]
        return
    for at in reversed(range(len(listed))):
        if at not in odd:
            del table[key][at]


def _pins(view: ProjectView, catalog: Catalog) -> tuple[Listed, ...]:
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


def _clean_pins(document: Any, view: ProjectView, catalog: Catalog) -> Iterator[Message]:
    """`torch==2.5.1+cu121 ; linux` and `torch==2.5.1 ; darwin` become one `torch==2.5.1`."""
    while pins := _pins(view, catalog):
        first = pins[0]
        same = [item for item in view.listed if (item.scope, item.package) == (first.scope, first.package)]
        public = {str(item.requirement.specifier).partition("+")[0] for item in same}
        table, key = requirements_at(document, first.scope)
        if len(public) == 1:
            extras = extras_text(first.requirement.extras)
            table[key][same[0].position] = f"{first.requirement.name}{extras}{public.pop()}"
            for item in reversed(same[1:]):
                del table[key][item.position]
        else:  # versions differ by platform: the markers stay
            for item in same:
                table[key][item.position] = _without_local(item.text)
        yield _did(
            f"{first.package} in {first.scope.text} now names only a version; the index chooses the build"
        )
        view = ProjectView(document.unwrap())


def _without_local(text: str) -> str:
    head, semicolon, marker = text.partition(";")
    parts = [part.partition("+")[0] for part in head.rstrip().split(",")]
    return ",".join(parts) + head[len(head.rstrip()) :] + semicolon + marker


def _clean_links(document: Any, view: ProjectView, catalog: Catalog) -> Iterator[Message]:
    """PyTorch's pages leave `find-links`; pages of others stay."""
    uv = document["tool"]["uv"] if view.uv else {}
    for table in (uv, uv.get("pip")):
        if not isinstance(table, MutableMapping) or not isinstance(links := table.get("find-links"), list):
            continue
        for position in reversed(range(len(links))):
            if pytorch_index(str(links[position]), catalog.backend):
                yield _did(f"find-links {links[position]} is replaced by an explicit index")
                del links[position]
                if not len(links):
                    del table["find-links"]


def _clean_rye(document: Any, view: ProjectView, catalog: Catalog) -> Iterator[Message]:
    """Rye's sources in uv's words; its table goes when nothing is left in it."""
    rye = view.tool("rye")
    if not rye:
        return
    for row in tables(rye.get("sources")):
        url, name = str(row.get("url", "")), str(row.get("name", ""))
        if pytorch_index(url, catalog.backend):
            yield _did(f"the Rye source {name or url} is replaced by an explicit index")
        elif row.get("type", "index") == "index" and url:
            _add_index(document, name, url, default=name == "default")
            yield _did(f"the Rye source {name or url} became an index of uv")
        elif url:
            extend(table_at(document, "tool", "uv"), "find-links", [quoted(url)])
            yield _did(f"the Rye source {name or url} became find-links of uv")
    if rye.get("virtual") is True:
        table_at(document, "tool", "uv")["package"] = False
        yield _did("tool.rye.virtual became tool.uv.package = false")
    for key in ("sources", "managed", "virtual", "generate-hashes", "lock-with-sources", "universal"):
        there = document["tool"]["rye"]  # anew each time: what is written in several places moves
        if key in there:
            del there[key]
    if not ProjectView(document.unwrap()).tool("rye"):
        prune(document, "tool", "rye")
        yield _did("tool.rye was removed; you can delete requirements.lock and requirements-dev.lock")


def _clean_pdm(document: Any, view: ProjectView, catalog: Catalog) -> Iterator[Message]:
    """PDM's sources that are not PyTorch's; its own table stays."""
    for row in tables(view.tool("pdm").get("source")):
        url, name = str(row.get("url", "")), str(row.get("name", ""))
        if url and pytorch_index(url, catalog.backend) is None and row.get("type", "index") == "index":
            _add_index(document, name, url, default=name == "pypi")
            yield _did(f"the PDM source {name or url} is an index of uv too")
