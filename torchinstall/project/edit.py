"""Write the entries into a project file's text and change nothing else.

Every edit is checked afterwards by parsing the result with the standard parser: what was not meant to change
must be equal, or the edit is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from packaging.utils import canonicalize_name

from torchinstall.core.errors import UsageError
from torchinstall.project.bounds import excludes
from torchinstall.project.model import Desired, Message, Need
from torchinstall.project.sources import merged_sources, plan_indexes
from torchinstall.project.toml import add_table, array, inline, loads, parse, quoted, table_at, tidy, value
from torchinstall.project.view import IndexRow, Place, ProjectView

if TYPE_CHECKING:
    from collections.abc import Callable

    from torchinstall.catalog.catalog import Catalog

__all__ = ["Edited", "edit_text", "edit_with"]


class Edited(Struct, frozen=True):
    """The text afterwards (equal to the text before when nothing had to change), and what to tell."""

    text: str
    notes: tuple[Message, ...] = ()


def edit_text(
    text: str,
    make: Callable[[ProjectView], Desired],
    catalog: Catalog,
    inherited: tuple[IndexRow, ...] = (),
) -> Edited:
    """Bring a project file to what `make` wants of it.

    Args:
        text: the file, line ends as they are (a byte order mark and CRLF are kept).
        make: from what the file says to the entries that it needs.
        catalog: tells which URLs are backends of PyTorch.
        inherited: index entries of the workspace root.

    Raises:
        UsageError: not TOML, or it says something on purpose that stands in the way.
    """

    def change(document: Any) -> tuple[Message, ...]:
        view = ProjectView(document.unwrap())
        return apply(document, make(view), view, catalog, inherited)

    return edit_with(text, change)


def edit_with(text: str, change: Callable[[Any], tuple[Message, ...]]) -> Edited:
    """Apply a change to the parsed document, with line ends and byte order mark kept."""
    mark = "\ufeff" if text.startswith("\ufeff") else ""
    body = text.removeprefix(mark)
    crlf = body.count("\r\n") > 0 and body.count("\r\n") == body.count("\n")
    plain = body.replace("\r\n", "\n") if crlf else body
    document = parse(plain)
    before = document.unwrap()
    notes = change(document)
    if document.unwrap() == before:
        return Edited(text, notes)
    result = tidy(plain, document.as_string())
    _hold(result, document.unwrap())
    return Edited(mark + (result.replace("\n", "\r\n") if crlf else result), notes)


def _hold(result: str, meant: Mapping[str, Any]) -> None:
    """Refuse a text that does not say what was meant, by the word of another parser.

    Raises:
        UsageError: the file is written in a way that cannot be edited safely.
    """
    if loads(result) != meant:
        raise UsageError(
            "cannot-edit",
            "this project file is written in a way that cannot be edited without losing something",
            hints=("write each of [tool.uv], [tool.uv.sources] and [[tool.uv.index]] as one table",),
        )


def apply(
    document: Any, desired: Desired, view: ProjectView, catalog: Catalog, inherited: tuple[IndexRow, ...] = ()
) -> tuple[Message, ...]:
    """Change a parsed document.

    Args:
        document: of tomlkit; changed in place.
        desired: what must be in it.
        view: what it says now.
        catalog: tells which URLs are backends of PyTorch.
        inherited: index entries of the workspace root.


    Raises:
        UsageError: something that a person wrote stands in the way; the document is to be thrown away.
    """
    plan = plan_indexes(desired, view.indexes, inherited)
    notes = [*desired.notes, *plan.notes]
    sources = []
    for package, entries in desired.sources:
        rows, more = merged_sources(package, entries, plan, view, catalog)
        sources.append((package, rows))
        notes += more
    for need in desired.needs:
        _require(document, need, ProjectView(document.unwrap()))
    _set_uv_lists(document, desired, view, notes)
    for package, rows in sources:
        if view.sources.get(package) != rows:
            table_at(document, "tool", "uv", "sources")[view.source_key(package)] = value(
                array(inline(row) for row in rows)
            )
    for position, name in plan.name_at.items():
        document["tool"]["uv"]["index"][position]["name"] = name
    for name, url in plan.add:
        add_table(_uv(document), "index", {"name": name, "url": url, "explicit": True})
    return tuple(dict.fromkeys(notes))


def _require(document: Any, need: Need, view: ProjectView) -> None:
    same = [item for item in view.listed if item.place == need.place and item.package == need.package]
    if same:
        for item in same:
            if need.cap and not excludes(item.requirement.specifier, need.cap):
                _list(document, need.place)[item.position] = _capped(item.text, need.cap)
        return
    items = _list(document, need.place)
    if len(items):
        items.append(need.text)
    else:
        _container(document, need.place)[_key(need.place)] = value(array([quoted(need.text)]))


def _capped(text: str, cap: str) -> str:
    """A requirement with one more bound, the rest of it as it was written."""
    head, semicolon, marker = text.partition(";")
    stripped = head.rstrip()
    space = head[len(stripped) :]
    if stripped.endswith(")"):
        return f"{stripped[:-1]},<{cap}){space}{semicolon}{marker}"
    comma = "," if any(sign in stripped for sign in "<>=~!") else ""
    return f"{stripped}{comma}<{cap}{space}{semicolon}{marker}"


def _container(document: Any, place: Place) -> Any:
    if place.kind == "dependencies":
        return table_at(document, "project")
    if place.kind == "extra":
        return table_at(document, "project", "optional-dependencies")
    return table_at(document, "dependency-groups")


def _key(place: Place) -> str:
    return "dependencies" if place.kind == "dependencies" else place.name


def _list(document: Any, place: Place) -> Any:
    container = _container(document, place)
    if _key(place) not in container:
        container[_key(place)] = value("[]")
    return container[_key(place)]


def _set_uv_lists(document: Any, desired: Desired, view: ProjectView, notes: list[Message]) -> None:
    """`conflicts`, `default-groups`, `environments`, `required-environments`."""
    if desired.conflicts:
        _conflicts(document, desired, view)
    if desired.default_group is not None:
        _default_groups(document, desired, view)
    if desired.environments:
        kept = view.texts("environments")
        if kept is None:
            _uv(document)["environments"] = value(array(map(quoted, desired.environments)))
        elif kept != desired.environments:
            notes.append(
                Message(
                    slug="environments-kept",
                    message="tool.uv.environments was there already and is kept; if a platform gets the "
                    "wrong build, part it as follows: " + " | ".join(desired.environments),
                )
            )
    there = view.texts("required-environments") or ()
    free = view.texts("environments") in (None, desired.environments)
    if missing := [item for item in desired.required if free and item not in there]:
        if there and isinstance(view.uv.get("required-environments"), list):
            for item in missing:
                _uv(document)["required-environments"].append(item)
        else:
            _uv(document)["required-environments"] = value(array(map(quoted, (*there, *missing))))


def _uv(document: Any) -> Any:
    return table_at(document, "tool", "uv")


def _conflicts(document: Any, desired: Desired, view: ProjectView) -> None:
    wanted = [(place.kind, canonicalize_name(place.name)) for place in desired.conflicts]
    rows = [{str(place.kind): place.name} for place in desired.conflicts]
    if any(set(wanted) <= set(row) for row in view.conflicts):
        return
    for position, row in enumerate(view.conflicts):
        if len(row) > 1 and set(row) <= set(wanted):
            for pair, new in zip(wanted, rows, strict=True):
                if pair not in row:
                    _uv(document)["conflicts"][position].append(value(inline(new)))
            return
    text = array([inline(row) for row in rows], indent="        ").removesuffix("]") + "    ]"
    if view.conflicts:
        _uv(document)["conflicts"].append(value(text))
    else:
        _uv(document)["conflicts"] = value(array([text]))


def _default_groups(document: Any, desired: Desired, view: ProjectView) -> None:
    mine = str(desired.default_group)
    others = {canonicalize_name(place.name) for place in desired.conflicts} - {canonicalize_name(mine)}
    raw = view.uv.get("default-groups")
    if isinstance(raw, str):
        raise UsageError(
            "default-groups-all",
            f"tool.uv.default-groups is {raw!r}, so that conflicting groups would be taken together",
            wanted="a list of groups",
            found=f"default-groups = {raw!r}",
            hints=(f"write default-groups as a list that ends with {mine!r}",),
        )
    there = list(view.texts("default-groups") or (["dev"] if raw is None and view.has_dev_group else []))
    wanted = [name for name in there if canonicalize_name(name) not in others]
    if canonicalize_name(mine) not in map(canonicalize_name, wanted):
        wanted.append(mine)
    if raw is None or wanted != there:
        _uv(document)["default-groups"] = value(array(map(quoted, wanted), multiline=False))
