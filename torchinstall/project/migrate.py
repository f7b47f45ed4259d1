"""Recognise older ways of choosing a torch build, and turn them into what uv reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, Literal

import tomlkit
from msgspec import Struct
from packaging.specifiers import SpecifierSet

from torchinstall.catalog.catalog import Catalog
from torchinstall.core.errors import UsageError
from torchinstall.core.messages import Message
from torchinstall.core.request import DEFAULT_INDEX_BASE
from torchinstall.index.urls import pytorch_index
from torchinstall.project.choices import (
    carried,
    choices,
    entries_of,
    missing,
    pinned_backend,
    public_bounds,
    unread,
)
from torchinstall.project.edit import (
    edit_text,
    prune,
    requirements_at,
    table_at,
    value,
    write_entries,
)
from torchinstall.project.files import array, inline, quoted
from torchinstall.project.model import Choice, Listed
from torchinstall.project.moving import add_group, add_index, did, hatch, hatch_envs, move_group, rows, texts
from torchinstall.project.poetry import read_poetry
from torchinstall.project.pyproject import ProjectView, mapping, points_where, project_view

Kind = Literal["find-links", "rye", "poetry", "pdm", "hatch"]

_NOT_READ = {
    "rye": Message(
        slug="rye-project",
        message="uv does not read [tool.rye]; `torchinstall configure --migrate` moves it to uv's tables",
    ),
    "pdm": Message(
        slug="pdm-project",
        message="uv does not read [tool.pdm]; `torchinstall configure --migrate` moves what uv can use",
    ),
    "poetry": Message(
        slug="poetry-project",
        message="uv does not read [tool.poetry]; what it adds to [project] applies to Poetry only",
    ),
    "hatch": Message(
        slug="hatch-project",
        message="uv does not read the environments in [tool.hatch.envs] that list torch; "
        "`torchinstall configure --migrate` makes dependency groups of them",
    ),
    "find-links": Message(
        slug="find-links-project",
        message="find-links pages of PyTorch may supply any package, whatever its index; "
        "`torchinstall configure --migrate` removes them",
    ),
}
_BLOCKING = {
    "find-links": "it pins builds by local version (torch==X+cuNNN), which no single index serves",
    "poetry": "its dependencies are in [tool.poetry], which uv does not read",
}


class Legacy(Struct, frozen=True, kw_only=True):
    """What was recognised.

    Attributes:
        kinds: every older way that the file uses.
        blocking: kinds that must be migrated before a layout can be written.
        unread: choices of a build that uv does not read, one clause each.
    """

    kinds: tuple[Kind, ...] = ()
    blocking: tuple[Kind, ...] = ()
    unread: tuple[str, ...] = ()

    def accept(self, *, chosen: bool = True) -> tuple[Message, ...]:
        """What to tell where the file is left as it is.

        Args:
            chosen: the user says which builds the project shall have, whatever was chosen in it.

        Raises:
            UsageError: `needs-migration`.
        """
        reasons = [_BLOCKING[kind] for kind in self.blocking]
        if self.unread and not chosen and not reasons:
            reasons.append("uv does not read its choice of " + ", ".join(self.unread))
        if reasons:
            raise UsageError(
                "needs-migration",
                "this project chooses torch in an older way: " + "; ".join(reasons),
                wanted="[project] dependencies and an index of PyTorch",
                found=", ".join(self.blocking or self.kinds),
                hints=("torchinstall configure --migrate --dry-run", "torchinstall configure --migrate"),
            )
        return tuple(_NOT_READ[kind] for kind in self.kinds)


def recognise(view: ProjectView, catalog: Catalog) -> Legacy:
    """Find pins with a local version, PyTorch `find-links`, and the tables of other tools.

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
                "to use uv in it as well: add [tool.uv] with package = false, then run configure again",
            ),
        )
    pins = _local_pins(view, catalog)
    links = (
        url for table in (view.uv, mapping(view.uv.get("pip"))) for url in texts(table.get("find-links"))
    )
    kinds: list[Kind] = []
    if pins or any(pytorch_index(url, catalog.backend) for url in links):
        kinds.append("find-links")
    tools: tuple[Kind, ...] = ("rye", "poetry", "pdm")
    kinds += [kind for kind in tools if view.tool(kind)]
    kinds += ["hatch"] if any(hatch_envs(view, catalog)) else []
    blocks = {"find-links": bool(pins), "poetry": not view.project}
    foreign = unread(view, catalog) if view.project else ()
    return Legacy(
        kinds=tuple(kinds),
        blocking=tuple(kind for kind in kinds if blocks.get(kind)),
        unread=tuple(dict.fromkeys(f"{item.backend} in {item.scope.text}" for item in foreign)),
    )


def _local_pins(view: ProjectView, catalog: Catalog) -> tuple[Listed, ...]:
    """Requirements of the torch family that name a build (`torch==2.5.1+cu121`) that no source serves."""
    plain = view.as_uv_reads()
    served = {
        (item.scope, item.package, item.backend, point)
        for item in choices(plain, catalog)
        if item.package in view.sources
        for point in item.points
    }
    found = []
    for item in view.listed:
        family, backend = catalog.family(item.package), pinned_backend(item, catalog)
        if family is None or not family.routed or "+" not in str(item.requirement.specifier):
            continue
        points = points_where(str(item.requirement.marker or ""), view.pythons or ("3.12",))
        if any((item.scope, item.package, backend, point) not in served for point in points):
            found.append(item)
    return tuple(found)


class Migrated(Struct, frozen=True):
    """A file after migration: `moved` without the choices that were seen, `text` with them."""

    moved: str
    text: str
    notes: tuple[Message, ...] = ()


def migrate_text(text: str, catalog: Catalog, index_base: str = DEFAULT_INDEX_BASE) -> Migrated:
    """Rewrite a project file; unchanged where there is nothing old in it.

    Raises:
        UsageError: it is written in a way that cannot be edited, or `not-carried`: a choice would be lost.
    """
    seen: list[Choice] = []

    def change(document: Any) -> tuple[Message, ...]:
        notes = [*_poetry(document, ProjectView(document.unwrap()), catalog, seen)]
        notes += hatch(document, ProjectView(document.unwrap()), catalog)
        view = ProjectView(document.unwrap())
        seen.extend(item for item in choices(view, catalog, index_base) if item not in seen)
        for step in (_rye, _pdm, _pins, _links):
            notes += step(document, ProjectView(document.unwrap()), catalog)
        return tuple(notes)

    moved = edit_text(text, change)
    entries = entries_of(missing(seen, project_view(moved.text), catalog), catalog)
    done = edit_text(moved.text, lambda document: write_entries(document, entries, catalog))
    carried(seen, project_view(done.text), catalog)
    return Migrated(moved.text, done.text, moved.notes)


def _pins(document: Any, view: ProjectView, catalog: Catalog) -> Iterator[Message]:
    """`torch==2.5.1+cu121 ; linux` and `torch==2.5.1 ; darwin` become one `torch==2.5.1`."""
    while pins := _local_pins(view, catalog):
        first = pins[0]
        same = [item for item in view.listed if (item.scope, item.package) == (first.scope, first.package)]
        public = {str(item.requirement.specifier).partition("+")[0] for item in same}
        table, key = requirements_at(document, first.scope)
        if len(public) == 1:
            extras = f"[{','.join(sorted(first.requirement.extras))}]" if first.requirement.extras else ""
            table[key][same[0].position] = f"{first.requirement.name}{extras}{public.pop()}"
            for item in reversed(same[1:]):
                del table[key][item.position]
        else:  # versions differ by platform: the markers stay
            for item in same:
                table[key][item.position] = _without_local(item.text)
        yield did(
            f"{first.package} in {first.scope.text} now names only a version; the index chooses the build"
        )
        view = ProjectView(document.unwrap())


def _without_local(text: str) -> str:
    head, semicolon, marker = text.partition(";")
    parts = [part.partition("+")[0] for part in head.rstrip().split(",")]
    return ",".join(parts) + head[len(head.rstrip()) :] + semicolon + marker


def _links(document: Any, view: ProjectView, catalog: Catalog) -> Iterator[Message]:
    """PyTorch's pages leave `find-links`; pages of others stay."""
    uv = document["tool"]["uv"] if view.uv else {}
    for table in (uv, uv.get("pip")):
        if not isinstance(table, MutableMapping) or not isinstance(links := table.get("find-links"), list):
            continue
        for position in reversed(range(len(links))):
            if pytorch_index(str(links[position]), catalog.backend):
                yield did(f"find-links {links[position]} is replaced by an explicit index")
                del links[position]
                if not len(links):
                    del table["find-links"]


def _rye(document: Any, view: ProjectView, catalog: Catalog) -> Iterator[Message]:
    """Rye's development dependencies and sources in uv's words; its table goes when nothing is left in it."""
    if not view.tool("rye"):
        return
    rye = document["tool"]["rye"]
    if "dev-dependencies" in rye:
        yield from move_group(document, "dev", rye, "dev-dependencies", "tool.rye.dev-dependencies")
    yield from _rye_sources(document, view, catalog)
    if view.tool("rye").get("virtual") is True:
        table_at(document, "tool", "uv")["package"] = False
        yield did("tool.rye.virtual became tool.uv.package = false")
    for key in ("sources", "managed", "virtual", "generate-hashes", "lock-with-sources", "universal"):
        rye = document["tool"]["rye"]  # anew each time: what is written in several places moves
        if key in rye:
            del rye[key]
    if not ProjectView(document.unwrap()).tool("rye"):
        prune(document, "tool", "rye")
        yield did("tool.rye was removed; you can delete requirements.lock and requirements-dev.lock")


def _rye_sources(document: Any, view: ProjectView, catalog: Catalog) -> Iterator[Message]:
    for row in rows(view.tool("rye").get("sources")):
        url, name = str(row.get("url", "")), str(row.get("name", ""))
        if pytorch_index(url, catalog.backend):
            yield did(f"the Rye source {name or url} is replaced by an explicit index")
        elif row.get("type", "index") == "index" and url:
            add_index(document, name, url, default=name == "default")
            yield did(f"the Rye source {name or url} became an index of uv")
        elif url:
            uv = table_at(document, "tool", "uv")
            if "find-links" in uv:
                uv["find-links"].append(url)
            else:
                uv["find-links"] = value(array([quoted(url)], multiline=False))
            yield did(f"the Rye source {name or url} became find-links of uv")


def _pdm(document: Any, view: ProjectView, catalog: Catalog) -> Iterator[Message]:
    """PDM's development dependencies and its sources that are not PyTorch's; its own table stays."""
    pdm = view.tool("pdm")
    if isinstance(groups := pdm.get("dev-dependencies"), Mapping):
        table = document["tool"]["pdm"]["dev-dependencies"]
        for name in list(groups):
            yield from move_group(document, str(name), table, name, f"tool.pdm.dev-dependencies.{name}")
        if not len(table):
            del document["tool"]["pdm"]["dev-dependencies"]
    for row in rows(pdm.get("source")):
        url, name = str(row.get("url", "")), str(row.get("name", ""))
        if url and pytorch_index(url, catalog.backend) is None and row.get("type", "index") == "index":
            add_index(document, name, url, default=name == "pypi")
            yield did(f"the PDM source {name or url} is an index of uv too")


def _poetry(document: Any, view: ProjectView, catalog: Catalog, seen: list[Choice]) -> Iterator[Message]:
    """`[tool.poetry]` alone becomes `[project]`; Poetry 2 reads that too, so its table stays."""
    if not view.tool("poetry") or (view.project and not view.tool("poetry").get("group")):
        return
    poetry = read_poetry(view.tool("poetry"), catalog)
    if not view.project:
        project = tomlkit.table()
        for key, item in poetry.project.items():
            project[key] = value(array(map(quoted, item))) if isinstance(item, tuple) else item
        document["project"] = project
        for name, items in poetry.extras.items():
            extras = table_at(document, "project", "optional-dependencies")
            extras[name] = value(array(map(quoted, items)))
        yield did("tool.poetry became [project] and uv's tables; Poetry 2 reads [project] as well")
    for name, listed in poetry.groups.items():
        add_group(document, name, listed)
    for name, url in poetry.indexes:
        add_index(document, name, url, default=False)
    for package, found in poetry.sources.items():
        text = inline(found[0]) if len(found) == 1 else array(map(inline, found))
        table_at(document, "tool", "uv", "sources")[package] = value(text)
    now = ProjectView(document.unwrap())
    for scope, package, url, marker, spec in poetry.choices:
        index = pytorch_index(url, catalog.backend)
        written = view.project and package in view.sources  # uv's own tables count, where there are any
        if index is not None and index.backend is not None and not written:
            points = points_where(marker, now.pythons or ("3.12",))
            bounds = public_bounds(SpecifierSet(spec))
            choice = Choice(
                scope=scope, package=package, backend=index.backend, url=url, points=points, bounds=bounds
            )
            seen.append(choice)
    for text in poetry.omitted:
        yield Message(slug="not-migrated", message=text)
