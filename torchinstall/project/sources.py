"""Which index entries and source entries a file ends up with, given those that are in it already. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from packaging.utils import canonicalize_name

from torchinstall.core.errors import UsageError
from torchinstall.index.urls import pytorch_index
from torchinstall.project.model import Desired, Message, Source
from torchinstall.project.view import IndexRow, ProjectView, same_url

if TYPE_CHECKING:
    from torchinstall.catalog.catalog import Catalog

__all__ = ["IndexPlan", "merged_sources", "plan_indexes"]

SourceRow = dict[str, Any]
"""One entry of a package's sources, as TOML has it."""


class IndexPlan:
    """The index entries to write.

    Attributes:
        names: URL -> name in this file.
        add: (name, URL) of the entries that are missing.
        name_at: position of an entry without a name -> the name that it gets.
    """

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        self.add: list[tuple[str, str]] = []
        self.name_at: dict[int, str] = {}
        self.notes: list[Message] = []


def plan_indexes(
    desired: Desired, rows: tuple[IndexRow, ...], inherited: tuple[IndexRow, ...] = ()
) -> IndexPlan:
    """Reuse entries with the same URL under their own name; add the rest under a free one.

    Args:
        desired: names the entries that are needed.
        rows: those of this file.

        inherited: those of the workspace root, which members may name too.
    """
    plan = IndexPlan()
    taken = {row.name for row in (*rows, *inherited) if row.name is not None}
    for wanted, url in desired.indexes:
        found = next((row for row in (*rows, *inherited) if same_url(row.url, url)), None)
        if found is not None and found.name is not None:
            plan.names[url] = found.name
        else:
            name = _free(wanted, taken)
            taken.add(name)
            plan.names[url] = name
            if name != wanted:
                plan.notes.append(
                    Message(
                        slug="index-name-taken",
                        message=f"the index name {wanted} belongs to another URL here, so {name} is used",
                    )
                )
            if found is None:
                plan.add.append((name, url))
            else:
                plan.name_at[rows.index(found)] = name
    return plan


def _free(wanted: str, taken: set[str]) -> str:
    name, number = wanted, 2
    while name in taken:
        name, number = f"{wanted}-{number}", number + 1
    return name


def merged_sources(
    package: str, entries: tuple[Source, ...], plan: IndexPlan, view: ProjectView, catalog: Catalog
) -> tuple[list[SourceRow], list[Message]]:
    """A package's entries afterwards; equal to those that are there when nothing has to change.

    Entries that route the package to another backend of PyTorch are what is being configured, and are
    replaced. Everything else that a person wrote stays, or is a conflict.

    Raises:
        UsageError: `source-conflict`: the project takes the package from somewhere else on purpose.
    """
    ours = [_row(entry, plan) for entry in entries]
    kept: list[SourceRow] = []
    notes: list[Message] = []
    urls = {row.name: row.url for row in view.indexes if row.name is not None}
    selected = {_select(row) for row in ours}
    for row in view.sources.get(package, []):
        url = urls.get(str(row.get("index")), "")
        known = row.get("index") in plan.names.values()
        if "index" not in row or not (known or pytorch_index(url, catalog.backend)):
            raise _conflict(package, row, url)
        select = _select(row)
        if select in selected or select is None:
            if not any(_same(row, new) for new in ours):
                notes.append(
                    Message(
                        slug="source-replaced",
                        message=f"{package} came from the index {row['index']}; that entry is replaced",
                    )
                )
        elif None in selected:
            raise UsageError(
                "source-conflict",
                f"{package} is chosen by {select[0]}s in this project",
                wanted=f"no [tool.uv.sources] entry of {package} with `{select[0]} = {select[1]!r}`",
                found=f"{package} from {row['index']} for {select[0]} {select[1]}",
                hints=(f"torchinstall configure --layout {select[0]}s",),
            )
        else:
            kept.append(row)
    return [*kept, *ours], notes


def _conflict(package: str, row: Mapping[str, Any], url: str) -> UsageError:
    what = ", ".join(f"{key} = {value!r}" for key, value in row.items())
    hints: tuple[str, ...] = (f"remove {package} from [tool.uv.sources], then run configure again",)
    if url:
        hints = (f"torchinstall configure --index-base {url}", *hints)
    return UsageError(
        "source-conflict",
        f"{package} already comes from somewhere else, and nothing that you wrote is undone",
        wanted=f"no entry for {package} in [tool.uv.sources], or one for an index of PyTorch",
        found=f"{package} = {{ {what} }}",
        hints=hints,
    )


def _row(entry: Source, plan: IndexPlan) -> SourceRow:
    row: SourceRow = {"index": plan.names[entry.url]}
    if entry.select is not None:
        row[entry.select.kind] = entry.select.name
    if entry.marker is not None:
        row["marker"] = entry.marker
    return row


def _select(row: Mapping[str, Any]) -> tuple[str, str] | None:
    for kind in ("extra", "group"):
        if kind in row:
            return kind, canonicalize_name(str(row[kind]))
    return None


def _same(left: Mapping[str, Any], right: Mapping[str, Any]) -> bool:
    return left.get("index") == right.get("index") and _select(left) == _select(right)
