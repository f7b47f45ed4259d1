"""Take a layout out of a project file: from memory, exactly; else whatever chooses a build in it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from torchinstall.catalog.catalog import Catalog
from torchinstall.core.decoding import load, store
from torchinstall.core.files import real_path, sha256
from torchinstall.core.messages import Message
from torchinstall.core.request import canonical_name
from torchinstall.index.urls import backend_in
from torchinstall.project.choices import routed_in
from torchinstall.project.edit import Edited, drop, edit_text, value_at
from torchinstall.project.files import changed_lines
from torchinstall.project.migrate import without_local
from torchinstall.project.model import (
    ALWAYS,
    PLATFORMS,
    Route,
    Scope,
    marker_at,
    required_marker,
    separation,
)
from torchinstall.project.pyproject import ProjectView, mapping, project_view, same_url, scope_in


class _Remembered(Struct, frozen=True):
    """A file before and after configure wrote into it."""

    path: str
    before: str
    after: str


class Memory(Struct, frozen=True):
    """What files were before configure wrote into them; `folder` None: nothing is remembered."""

    folder: Path | None = None

    def _page(self, path: Path) -> Path | None:
        name = sha256(str(real_path(path)).encode())[:32]
        return self.folder / f"{name}.json" if self.folder is not None else None

    def knows(self, path: Path) -> bool:
        """Whether anything is remembered of a file."""
        page = self._page(path)
        return page is not None and page.is_file()

    def before(self, path: Path, now: str) -> str | None:
        """The text of a file without what configure wrote, edits of others since then kept.

        None where nothing is remembered, or where others edited the same lines, or anything in a file into
        which configure had written nothing.
        """
        page = self._page(path)
        was = load(page, _Remembered) if page is not None else None
        if was is None:
            return None
        return was.before if now == was.after else _replayed(was.after, was.before, now)

    def remember(self, path: Path, before: str, after: str) -> None:
        """Remember a file; a folder that cannot be written is no fault: the file says most of it.

        Where both texts are equal, nothing in it is from configure.
        """
        page = self._page(path)
        if page is not None:
            with contextlib.suppress(OSError):
                page.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            store(page, _Remembered(str(path), before, after))


def _replayed(old: str, new: str, now: str) -> str | None:
    """The change from `old` to `new`, made in a text that differs elsewhere; None where it does not fit.

    Also where there is no change, or it is made already.
    """
    if new in (old, now):
        return None
    a, b, lines = (text.splitlines(keepends=True) for text in (old, new, now))
    for _, a1, a2, b1, b2 in reversed(changed_lines(a, b)):
        head, tail = a[max(0, a1 - 1) : a1], a[a2 : a2 + 1]
        block = [*head, *a[a1:a2], *tail]
        found = [at for at in range(len(lines) + 1) if lines[at : at + len(block)] == block]
        if len(found) != 1:
            return None
        lines[found[0] : found[0] + len(block)] = [*head, *b[b1:b2], *tail]
    return "".join(lines)


def written_here(view: ProjectView, catalog: Catalog, *, plainly: bool) -> tuple[Route, ...]:
    """The choices of torch whose index, and extra or group, have the names that configure gives.

    `plainly`: only where hardly anyone writes such a file by hand: each choice has one row, whose marker and
    whose platforms in `required-environments` are those that configure spells out.
    """
    found = routed_in(view, catalog)
    named = (item for item in found if item.index.startswith("pytorch-"))
    ours = tuple(item for item in named if item.scope == ALWAYS or item.scope.name == item.backend)
    rows = view.sources.get("torch", [])
    markers = [marker_at(item.points, view.versions) for item in found]
    plain = markers == [row.get("marker") for row in rows] and _requires_platforms(view)
    return ours if plain or not plainly else ()


def _requires_platforms(view: ProjectView) -> bool:
    """Whether `required-environments` has platforms as configure spells them, and nothing else."""
    required = view.texts("required-environments")
    return bool(required) and {*(required or ())} <= {required_marker(item) for item in PLATFORMS}


def strip(text: str, gone: tuple[Route, ...], catalog: Catalog) -> tuple[Edited, tuple[tuple[str, str], ...]]:
    """Take choices out of a file: sources, indexes that nothing else uses, conflicts, lists of their own.

    Returns:
        The file without them, and package -> the requirement in a list that is gone, without its marker.

    Raises:
        UsageError: `cannot-edit`.
    """
    view = project_view(text)
    scopes = {route.scope.key: route.scope for route in gone if route.scope != ALWAYS}
    wording: dict[str, str] = {}

    def change(data: dict[str, Any]) -> tuple[Message, ...]:
        _sources(data, gone, view, catalog)
        notes = [note for scope in scopes.values() for note in _list(data, scope, view, catalog, wording)]
        _uv_lists(data, {*scopes}, gone, view)
        return tuple(notes)

    return edit_text(text, change), tuple(wording.items())


def _sources(data: dict[str, Any], gone: tuple[Route, ...], view: ProjectView, catalog: Catalog) -> None:
    ours = {(route.url, route.scope.key) for route in gone}
    scopes = {route.scope.key for route in gone if route.scope != ALWAYS}
    stay = {route.url for route in routed_in(view, catalog) if (route.url, route.scope.key) not in ours}

    def stays(package: str, row: Mapping[str, Any]) -> bool:
        url, scope = view.index_url(row), scope_in(row).key
        if scope in scopes or catalog.family(package) is None:
            return scope not in scopes
        # A companion goes with torch, whichever list asks for it.
        return (url, scope) not in ours and (url in stay or backend_in([url], catalog.backend) is None)

    used = set()
    for package, rows in view.sources.items():
        left = [row for row in rows if stays(package, row)]
        used |= {str(row.get("index")) for row in left}
        _set_list(data, ("tool", "uv", "sources", view.source_name(package)), left, rows)
    urls = [route.url for route in gone]
    idle = [
        row.explicit and str(row.name) not in used and any(same_url(row.url, url) for url in urls)
        for row in view.indexes
    ]
    rows = view.uv.get("index", [])[: len(idle)]
    left = [row for row, out in zip(rows, idle, strict=True) if not out]
    _set_list(data, ("tool", "uv", "index"), left, rows)


def _set_list(data: dict[str, Any], path: tuple[str, ...], left: list[Any], there: list[Any]) -> None:
    """Leave this much of a list, which goes where nothing is left."""
    if not left:
        drop(data, *path)
    elif len(left) < len(there):
        value_at(data, dict, *path[:-1])[path[-1]] = left


def _list(
    data: dict[str, Any], scope: Scope, view: ProjectView, catalog: Catalog, wording: dict[str, str]
) -> Iterator[Message]:
    """An extra or group goes where it holds nothing but packages of PyTorch; else these go."""
    kept = view.spelled(scope)
    items = view.lists.get(kept)
    if items is None:
        return
    mine = {
        item.position: item for item in view.listed if item.scope == kept and catalog.family(item.package)
    }
    for item in mine.values():
        family = catalog.family(item.package)
        if family is not None and not family.runtime_of:
            text = item.text if item.requirement.url else without_local(item.text)  # another build is wanted
            wording.setdefault(item.package, text.partition(";")[0].strip())
    if len(mine) < len(items) or kept.key in _named_by_others(view):
        value_at(data, list, *kept.path)[:] = [item for at, item in enumerate(items) if at not in mine]
        return
    drop(data, *kept.path)
    if kept.key[1] not in {name.lower() for name in catalog.known_backends()}:
        yield Message(slug="choice-removed", message=f"the {kept.text} is taken out with its packages")


def _named_by_others(view: ProjectView) -> set[tuple[str, str]]:
    """Groups that another group includes, and extras that the project's own lists name (`demo[gpu]`)."""
    rows = [mapping(item) for items in view.lists.values() for item in items]
    found = {Scope("group", str(row["include-group"])).key for row in rows if "include-group" in row}
    own = (item for item in view.listed if item.package == canonical_name(view.name))
    return found | {Scope("extra", name).key for item in own for name in item.requirement.extras}


def _uv_lists(
    data: dict[str, Any], scopes: set[tuple[str, str]], gone: tuple[Route, ...], view: ProjectView
) -> None:
    """Without the extras and groups that are gone; a key goes where uv does the same without it."""
    if view.conflicts:
        rows = view.uv["conflicts"]
        left = [[item for item in row if scope_in(item).key not in scopes] for row in rows]
        left = [row for row, old in zip(left, rows, strict=True) if row == old or len(row) > 1]
        if left != rows:
            _set_list(data, ("tool", "uv", "conflicts"), left, [*rows, None])
    named = view.texts("default-groups") or ()
    groups = [name for name in named if ("group", canonical_name(name)) not in scopes]
    if isinstance(view.uv.get("default-groups"), list) and len(groups) < len(named):
        unasked = ["dev"] if ("group", "dev") in {scope.key for scope in view.lists} else []
        _set_list(data, ("tool", "uv", "default-groups"), [] if groups == unasked else groups, [*named])
    if view.texts("environments") == separation(gone, view.versions):
        drop(data, "tool", "uv", "environments")
    if _requires_platforms(view):
        drop(data, "tool", "uv", "required-environments")
