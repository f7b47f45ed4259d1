"""Recognise older ways of choosing a torch build, and turn them into what uv reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import Any, Literal

import tomlkit
from msgspec import Struct

from torchinstall.catalog.catalog import Catalog
from torchinstall.core.errors import UsageError
from torchinstall.core.messages import Message
from torchinstall.index.urls import pytorch_index
from torchinstall.project.edit import Edited, add_table, edit_text, requirements_at, table_at, value
from torchinstall.project.files import array, inline, quoted
from torchinstall.project.model import Listed
from torchinstall.project.platforms import PLATFORMS, marker_environment
from torchinstall.project.poetry import read_poetry
from torchinstall.project.pyproject import ProjectView, mapping

__all__ = ["Legacy", "migrate_text", "recognise"]

Kind = Literal["find-links", "rye", "poetry", "pdm"]

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
        backends: (platform key, backend) that its pins ask for.
        blocking: kinds that must be migrated before a layout can be written.
    """

    kinds: tuple[Kind, ...]
    backends: tuple[tuple[str, str], ...]
    blocking: tuple[Kind, ...]

    def accept(self) -> tuple[Message, ...]:
        """What to tell where the file is left as it is.

        Raises:
            UsageError: `needs-migration`.
        """
        if self.blocking:
            raise UsageError(
                "needs-migration",
                "this project chooses torch in an older way: "
                + "; ".join(_BLOCKING[kind] for kind in self.blocking),
                wanted="[project] dependencies and an index of PyTorch",
                found=", ".join(self.blocking),
                hints=("torchinstall configure --migrate --dry-run", "torchinstall configure --migrate"),
            )
        return tuple(_NOT_READ[kind] for kind in self.kinds)


def recognise(view: ProjectView, catalog: Catalog) -> Legacy:
    """Find pins with a local version, PyTorch `find-links`, and the tables of Rye, Poetry and PDM."""
    pins = _local_pins(view, catalog)
    links = (
        url for table in (view.uv, mapping(view.uv.get("pip"))) for url in _texts(table.get("find-links"))
    )
    kinds: list[Kind] = []
    if pins or any(pytorch_index(url, catalog.backend) for url in links):
        kinds.append("find-links")
    tools: tuple[Kind, ...] = ("rye", "poetry", "pdm")
    kinds += [kind for kind in tools if view.tool(kind)]
    blocks = {"find-links": bool(pins), "poetry": not view.project}
    blocking = tuple(kind for kind in kinds if blocks.get(kind))
    return Legacy(kinds=tuple(kinds), backends=_pinned_backends(view, catalog, pins), blocking=blocking)


def _texts(links: Any) -> list[str]:
    return [str(item) for item in (links if isinstance(links, list) else [links]) if isinstance(item, str)]


def _local_pins(view: ProjectView, catalog: Catalog) -> tuple[Listed, ...]:
    """Requirements of the torch family that name a build (`torch==2.5.1+cu121`)."""
    return tuple(
        item
        for item in view.listed
        if (family := catalog.family(item.package)) is not None
        and family.routed
        and any("+" in part.version for part in item.requirement.specifier)
    )


def _pinned_backends(
    view: ProjectView, catalog: Catalog, pins: tuple[Listed, ...]
) -> tuple[tuple[str, str], ...]:
    python = next(iter(view.pythons), "3.12")
    found: dict[str, str] = {}
    for item in sorted(pins, key=lambda item: item.package != "torch"):
        if item.package != "torch" and found:
            break  # companions go where torch goes
        local = next((part.version for part in item.requirement.specifier if "+" in part.version), "")
        local = local.partition("+")[2]
        if catalog.backend(local) is None:
            continue
        marker = item.requirement.marker
        for platform in PLATFORMS:
            holds = marker is None or marker.evaluate(marker_environment(platform, python))
            if holds and not platform.startswith("macos"):
                found.setdefault(platform, local)
    return tuple((platform, found[platform]) for platform in PLATFORMS if platform in found)


def migrate_text(text: str, catalog: Catalog) -> Edited:
    """Rewrite a project file; unchanged where there is nothing old in it.

    Raises:
        UsageError: it is written in a way that cannot be edited.
    """

    def change(document: Any) -> tuple[Message, ...]:
        notes: list[Message] = []
        for step in (_poetry, _rye, _pdm, _pins, _links):
            notes += step(document, ProjectView(document.unwrap()), catalog)
        return tuple(notes)

    return edit_text(text, change)


def _did(message: str) -> Message:
    return Message(slug="migrated", message=message)


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
        yield _did(
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
                yield _did(f"find-links {links[position]} is replaced by an explicit index")
                del links[position]
                if not len(links):
                    del table["find-links"]


def _rye(document: Any, view: ProjectView, catalog: Catalog) -> Iterator[Message]:
    """Rye's development dependencies and sources in uv's words; its table goes when nothing is left in it."""
    if not view.tool("rye"):
        return
    rye = document["tool"]["rye"]
    if "dev-dependencies" in rye:
        _add_group(document, "dev", view.tool("rye")["dev-dependencies"])
        del rye["dev-dependencies"]
        yield _did("tool.rye.dev-dependencies became the dependency group dev")
    for row in _rows(view.tool("rye").get("sources")):
        url, name = str(row.get("url", "")), str(row.get("name", ""))
        if pytorch_index(url, catalog.backend):
            yield _did(f"the Rye source {name or url} is replaced by an explicit index")
        elif row.get("type", "index") == "index" and url:
            _add_index(document, name, url, default=name == "default")
            yield _did(f"the Rye source {name or url} became an index of uv")
        elif url:
            uv = table_at(document, "tool", "uv")
            if "find-links" in uv:
                uv["find-links"].append(url)
            else:
                uv["find-links"] = value(array([quoted(url)], multiline=False))
            yield _did(f"the Rye source {name or url} became find-links of uv")
    if view.tool("rye").get("virtual") is True:
        table_at(document, "tool", "uv")["package"] = False
        yield _did("tool.rye.virtual became tool.uv.package = false")
    rye = document["tool"]["rye"]  # tables that were added above may have moved it
    for key in ("sources", "managed", "virtual", "generate-hashes", "lock-with-sources", "universal"):
        if key in rye:
            del rye[key]
    if not len(rye):
        del document["tool"]["rye"]
        yield _did("tool.rye was removed; you can delete requirements.lock and requirements-dev.lock")


def _pdm(document: Any, view: ProjectView, catalog: Catalog) -> Iterator[Message]:
    """PDM's development dependencies and its sources that are not PyTorch's; its own table stays."""
    pdm = view.tool("pdm")
    if isinstance(groups := pdm.get("dev-dependencies"), Mapping):
        for name, items in groups.items():
            _add_group(document, str(name), items)
            yield _did(f"tool.pdm.dev-dependencies.{name} became a dependency group")
        del document["tool"]["pdm"]["dev-dependencies"]
    for row in _rows(pdm.get("source")):
        url, name = str(row.get("url", "")), str(row.get("name", ""))
        if url and pytorch_index(url, catalog.backend) is None and row.get("type", "index") == "index":
            _add_index(document, name, url, default=name == "pypi")
            yield _did(f"the PDM source {name or url} is an index of uv too")


def _poetry(document: Any, view: ProjectView, catalog: Catalog) -> Iterator[Message]:
    """`[tool.poetry]` alone becomes `[project]`; Poetry 2 reads that too, so its table stays."""
    if not view.tool("poetry") or view.project:
        return
    poetry = read_poetry(view.tool("poetry"), catalog)
    project = tomlkit.table()
    for key, item in poetry.project.items():
        project[key] = value(array(map(quoted, item))) if isinstance(item, tuple) else item
    document["project"] = project
    for name, items in poetry.extras.items():
        extras = table_at(document, "project", "optional-dependencies")
        extras[name] = value(array(map(quoted, items)))
    for name, items in poetry.groups.items():
        _add_group(document, name, items)
    for name, url in poetry.indexes:
        _add_index(document, name, url, default=False)
    for package, index in poetry.sources:
        table_at(document, "tool", "uv", "sources")[package] = value(inline({"index": index}))
    yield _did("tool.poetry became [project] and uv's tables; Poetry 2 reads [project] as well")
    for text in poetry.omitted:
        yield Message(slug="not-migrated", message=text)


def _rows(items: Any) -> list[Mapping[str, Any]]:
    return [row for row in (items if isinstance(items, list) else []) if isinstance(row, Mapping)]


def _add_group(document: Any, name: str, items: Iterable[Any]) -> None:
    groups = table_at(document, "dependency-groups")
    texts = [str(item) for item in items]
    if name not in groups:
        groups[name] = value(array(map(quoted, texts)))
        return
    there = [str(item) for item in groups[name]]
    for text in texts:
        if text not in there:
            groups[name].append(text)


def _add_index(document: Any, name: str, url: str, *, default: bool) -> None:
    uv = table_at(document, "tool", "uv")
    if not any(row.url == url for row in ProjectView(document.unwrap()).indexes):
        row = {"name": name or "migrated", "url": url}
        add_table(uv, "index", {**row, "default": True} if default else row)
