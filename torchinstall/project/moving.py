"""Move lists and indexes of other tools to where uv reads them; the environments of Hatch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torchinstall.catalog.catalog import Catalog
from torchinstall.core.messages import Message
from torchinstall.index.urls import pytorch_index
from torchinstall.project.edit import add_table, table_at, value, write_entries
from torchinstall.project.files import array, quoted
from torchinstall.project.model import Entries, Route, Scope
from torchinstall.project.platforms import PLATFORMS
from torchinstall.project.poetry import plain_name
from torchinstall.project.pyproject import ProjectView, is_requirement, mapping


def did(message: str) -> Message:
    """A note of what was done."""
    return Message(slug="migrated", message=message)


def texts(links: Any) -> list[str]:
    """The texts of a list, or of one text."""
    return [str(item) for item in (links if isinstance(links, list) else [links]) if isinstance(item, str)]


def rows(items: Any) -> list[Mapping[str, Any]]:
    """The tables of a list."""
    return [row for row in (items if isinstance(items, list) else []) if isinstance(row, Mapping)]


def move_group(document: Any, group: str, table: Any, key: str, what: str) -> Iterator[Message]:
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
            plain = [text for at, text in enumerate(listed) if at not in odd]
            add_group(document, group, plain)
        else:
            groups[group] = table[key]
        yield did(f"{what} became the dependency group {group}")
    if not odd:
        del table[key]
        return
    for at in reversed(range(len(listed))):
        if at not in odd:
            del table[key][at]


def add_group(document: Any, name: str, items: Iterable[Any]) -> None:
    """Add requirements to a dependency group, each once."""
    groups = table_at(document, "dependency-groups")
    plain = [str(item) for item in items]
    if name not in groups:
        groups[name] = value(array(map(quoted, plain)))
        return
    there = [str(item) for item in groups[name]]
    for text in plain:
        if text not in there:
            groups[name].append(text)


def add_index(document: Any, name: str, url: str, *, default: bool) -> None:
    """Add an index of uv, unless its URL has one."""
    uv = table_at(document, "tool", "uv")
    if not any(row.url == url for row in ProjectView(document.unwrap()).indexes):
        row = {"name": name or "migrated", "url": url}
        add_table(uv, "index", {**row, "default": True} if default else row)


def hatch_envs(view: ProjectView, catalog: Catalog) -> Iterator[tuple[str, list[str], str]]:
    """The environments of Hatch that take packages of PyTorch: name, requirements, URL of their index."""
    for name, env in mapping(view.tool("hatch").get("envs")).items():
        table = mapping(env)
        items = [text for key in ("dependencies", "extra-dependencies") for text in texts(table.get(key))]
        words = " ".join(str(item) for item in mapping(table.get("env-vars")).values()).split()
        url = next((word for word in words if pytorch_index(word, catalog.backend)), "")
        if any((row := catalog.family(plain_name(text))) and row.routed for text in items):
            yield str(name), items, url


def hatch(document: Any, view: ProjectView, catalog: Catalog) -> Iterator[Message]:
    """Environments of Hatch as dependency groups; Hatch's own tables stay."""
    for name, items, url in hatch_envs(view, catalog):
        if url or any("+" in text for text in items):
            add_group(document, name, items)
            if url:
                _hatch_source(document, name, url, catalog)
            yield did(f"the Hatch environment {name} is a dependency group too")


def _hatch_source(document: Any, group: str, url: str, catalog: Catalog) -> None:
    index = pytorch_index(url, catalog.backend)
    if index is None or index.backend is None:
        return
    now = ProjectView(document.unwrap())
    route = Route(
        backend=index.backend,
        index=f"pytorch-{index.backend}",
        url=url,
        platforms=frozenset(PLATFORMS[:3]),
        scope=Scope("group", group),
    )
    ours = (item.package for item in now.listed if item.scope == route.scope)
    packages = [name for name in ours if (row := catalog.family(name)) and row.routed]
    entries = Entries(routes=(route,), sources=tuple((name, (route,)) for name in packages))
    write_entries(document, entries, catalog)
