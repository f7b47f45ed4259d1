"""Turn older ways of choosing a torch build into what uv reads; each step says what it did."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torchinstall.core.messages import Message
from torchinstall.index.urls import pytorch_index
from torchinstall.project.edit import Edited, edit_with
from torchinstall.project.legacy import local_pins
from torchinstall.project.poetry import project_table
from torchinstall.project.toml import add_table, array, inline, quoted, table_at, value
from torchinstall.project.view import Place, ProjectView

if TYPE_CHECKING:
    from torchinstall.catalog.catalog import Catalog

__all__ = ["migrate_text"]


def migrate_text(text: str, catalog: Catalog) -> Edited:
    """Rewrite a project file; unchanged where there is nothing old in it.

    Raises:
        UsageError: not TOML, or written in a way that cannot be edited.
    """

    def change(document: Any) -> tuple[Message, ...]:
        notes: list[Message] = []
        for step in (_poetry, _rye, _pdm, _pins, _links):
            notes += step(document, ProjectView(document.unwrap()), catalog)
        return tuple(notes)

    return edit_with(text, change)


def _did(message: str) -> Message:
    return Message(slug="migrated", message=message)


def _pins(document: Any, view: ProjectView, catalog: Catalog) -> list[Message]:
    """`torch==2.5.1+cu121 ; linux` and `torch==2.5.1 ; darwin` become one `torch==2.5.1`."""
    notes = []
    for first in local_pins(view, catalog):
        same = [item for item in view.listed if item.place == first.place and item.package == first.package]
        if first is not next(item for item in same if item in local_pins(view, catalog)):
            continue
        public = {str(item.requirement.specifier).partition("+")[0] for item in same}
        items = _items(document, first.place)
        if len(public) == 1:
            extras = f"[{','.join(sorted(first.requirement.extras))}]" if first.requirement.extras else ""
            items[same[0].position] = f"{first.requirement.name}{extras}{public.pop()}"
            for item in reversed(same[1:]):
                del items[item.position]
        else:  # versions differ by platform: the markers stay
            for item in same:
                items[item.position] = _without_local(item.text)
        notes.append(
            _did(f"{first.package} in {first.place.text} names a version; the index chooses the build")
        )
        return [*notes, *_pins(document, ProjectView(document.unwrap()), catalog)]
    return notes


def _without_local(text: str) -> str:
    head, semicolon, marker = text.partition(";")
    parts = [part.partition("+")[0] for part in head.rstrip().split(",")]
    space = head[len(head.rstrip()) :]
    return ",".join(parts) + space + semicolon + marker


def _items(document: Any, place: Place) -> Any:
    if place.kind == "dependencies":
        return document["project"]["dependencies"]
    if place.kind == "extra":
        return document["project"]["optional-dependencies"][place.name]
    return document["dependency-groups"][place.name]


def _links(document: Any, view: ProjectView, catalog: Catalog) -> list[Message]:
    """PyTorch's pages leave `find-links`; pages of others stay."""
    if not view.uv:
        return []
    uv = document["tool"]["uv"]
    notes = []
    for table in (uv, uv.get("pip")):
        links = table.get("find-links") if isinstance(table, Mapping) else None
        if not isinstance(links, list):
            continue
        gone = [position for position, url in enumerate(links) if pytorch_index(str(url), catalog.backend)]
        for position in reversed(gone):
            notes.append(_did(f"find-links {links[position]} is replaced by an explicit index"))
            del links[position]
        if gone and not len(links):
            del table["find-links"]
    return notes


def _rye(document: Any, view: ProjectView, catalog: Catalog) -> list[Message]:
    """Rye's development dependencies and sources in uv's words; its table goes when nothing is left in it."""
    if not view.tool("rye"):
        return []
    rye = document["tool"]["rye"]
    notes = []
    if "dev-dependencies" in rye:
        _group(document, "dev", [str(item) for item in rye["dev-dependencies"].unwrap()])
        del rye["dev-dependencies"]
        notes.append(_did("tool.rye.dev-dependencies became the dependency group dev"))
    for row in _rows(rye.get("sources")):
        url, name = str(row.get("url", "")), str(row.get("name", ""))
        if pytorch_index(url, catalog.backend):
            notes.append(_did(f"the Rye source {name or url} is replaced by an explicit index"))
        elif row.get("type", "index") == "index" and url:
            _index(document, name, url, default=name == "default")
            notes.append(_did(f"the Rye source {name or url} became an index of uv"))
        elif url:
            _append(document, "find-links", url)
            notes.append(_did(f"the Rye source {name or url} became find-links of uv"))
    if "sources" in rye:
        del rye["sources"]
    if rye.get("virtual") is True:
        table_at(document, "tool", "uv")["package"] = False
        notes.append(_did("tool.rye.virtual became tool.uv.package = false"))
    rye = document["tool"]["rye"]
    for key in ("managed", "virtual", "generate-hashes", "lock-with-sources", "universal"):
        if key in rye:
            del rye[key]
    if not len(rye):
        del document["tool"]["rye"]
        notes.append(_did("nothing was left in tool.rye; requirements.lock and requirements-dev.lock can go"))
    return notes


def _pdm(document: Any, view: ProjectView, catalog: Catalog) -> list[Message]:
    """PDM's development dependencies and its sources that are not PyTorch's; its own table stays."""
    pdm = view.tool("pdm")
    notes = []
    if isinstance(groups := pdm.get("dev-dependencies"), Mapping):
        for name, items in groups.items():
            _group(document, str(name), [str(item) for item in items])
            notes.append(_did(f"tool.pdm.dev-dependencies.{name} became a dependency group"))
        del document["tool"]["pdm"]["dev-dependencies"]
    for row in _rows(pdm.get("source")):
        url, name = str(row.get("url", "")), str(row.get("name", ""))
        if url and pytorch_index(url, catalog.backend) is None and row.get("type", "index") == "index":
            _index(document, name, url, default=name == "pypi")
            notes.append(_did(f"the PDM source {name or url} is an index of uv too"))
    return notes


def _poetry(document: Any, view: ProjectView, catalog: Catalog) -> list[Message]:
    """`[tool.poetry]` alone becomes `[project]`; Poetry 2 reads that too, so its table stays."""
    import tomlkit

    if not view.tool("poetry") or view.project:
        return []
    made = project_table(view.tool("poetry"), catalog)
    project = tomlkit.table()
    for key, item in made.project.items():
        if isinstance(item, tuple):
            project[key] = value(array(map(quoted, item)))
        else:
            project[key] = item
    document["project"] = project
    for name, items in made.extras.items():
        table_at(document, "project", "optional-dependencies")[name] = value(array(map(quoted, items)))
    for name, items in made.groups.items():
        _group(document, name, list(items))
    for name, url in made.indexes:
        _index(document, name, url, default=False)
    for package, index in made.sources:
        table_at(document, "tool", "uv", "sources")[package] = value(inline({"index": index}))
    notes = [_did("tool.poetry became [project] and uv's tables; Poetry 2 reads [project] as well")]
    return notes + [Message(slug="not-migrated", message=text) for text in made.left]


def _rows(items: Any) -> list[Mapping[str, Any]]:
    plain = items.unwrap() if hasattr(items, "unwrap") else items
    return [row for row in (plain if isinstance(plain, list) else []) if isinstance(row, Mapping)]


def _group(document: Any, name: str, items: list[str]) -> None:
    groups = table_at(document, "dependency-groups")
    if name not in groups:
        groups[name] = value(array(map(quoted, items)))
        return
    there = [str(item) for item in groups[name]]
    for item in items:
        if item not in there:
            groups[name].append(item)


def _index(document: Any, name: str, url: str, *, default: bool) -> None:
    row: dict[str, Any] = {"name": name or "migrated", "url": url}
    if default:
        row["default"] = True
    uv = table_at(document, "tool", "uv")
    if any(str(item.get("url")) == url for item in _rows(uv.get("index"))):
        return
    add_table(uv, "index", row)


def _append(document: Any, key: str, text: str) -> None:
    uv = table_at(document, "tool", "uv")
    if key in uv:
        uv[key].append(text)
    else:
        uv[key] = value(array([quoted(text)], multiline=False))
