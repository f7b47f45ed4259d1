"""Settings of a project file that do nothing or do harm, each with its slug. Pure; nothing is changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from torchinstall.core.plan import Message
from torchinstall.index.urls import pytorch_index

if TYPE_CHECKING:
    from torchinstall.catalog.catalog import Catalog
    from torchinstall.project.view import ProjectView

__all__ = ["advice"]


def advice(view: ProjectView, catalog: Catalog) -> tuple[Message, ...]:
    """What a person who reads this file should know."""
    return tuple(
        dict.fromkeys((*_in_vain(view), *_strategy(view), *_old_keys(view, catalog), *_open(view, catalog)))
    )


def _pip(view: ProjectView) -> Mapping[str, Any]:
    table = view.uv.get("pip")
    return table if isinstance(table, Mapping) else {}


def _in_vain(view: ProjectView) -> Iterator[Message]:
    """`torch-backend` is read by `uv pip` and `uv tool` only (astral-sh/uv, settings reference)."""
    if "torch-backend" in _pip(view):
        yield Message(
            slug="torch-backend-in-vain",
            message=f"tool.uv.pip.torch-backend = {_pip(view)['torch-backend']!r} holds for `uv pip` only: "
            "uv lock, sync, run and add do not read it",
        )
    if "torch-backend" in view.uv:
        yield Message(
            slug="torch-backend-in-vain",
            message=f"tool.uv.torch-backend = {view.uv['torch-backend']!r} is not read by uv lock, sync, run "
            "and add",
        )


def _strategy(view: ProjectView) -> Iterator[Message]:
    for where, table in (("tool.uv", view.uv), ("tool.uv.pip", _pip(view))):
        strategy = table.get("index-strategy")
        if isinstance(strategy, str) and strategy.startswith("unsafe"):
            yield Message(
                slug="unsafe-index-strategy",
                message=f"{where}.index-strategy = {strategy!r} lets any index replace any package; with "
                "explicit indexes it is not needed",
            )


def _old_keys(view: ProjectView, catalog: Catalog) -> Iterator[Message]:
    for where, table in (("tool.uv", view.uv), ("tool.uv.pip", _pip(view))):
        for key in ("index-url", "extra-index-url"):
            value = table.get(key)
            for url in value if isinstance(value, list) else [value]:
                if isinstance(url, str) and pytorch_index(url, catalog.backend):
                    yield Message(
                        slug="index-not-explicit",
                        message=f"{where}.{key} names an index of PyTorch, so every package may come from "
                        "it; remove it, the explicit index serves torch",
                    )


def _open(view: ProjectView, catalog: Catalog) -> Iterator[Message]:
    for row in view.indexes:
        if row.explicit or not pytorch_index(row.url, catalog.backend):
            continue
        yield Message(
            slug="index-not-explicit",
            message=f"the index {row.name or row.url} is not `explicit = true`, so other packages may come "
            "from it too",
        )
