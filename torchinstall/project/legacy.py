"""Recognise older ways of choosing a torch build in a project file. Pure; nothing is changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from msgspec import Struct
from packaging.version import InvalidVersion, Version

from torchinstall.core.errors import UsageError
from torchinstall.index.urls import pytorch_index
from torchinstall.project.platforms import CELLS, marker_environment

if TYPE_CHECKING:
    from torchinstall.catalog.catalog import Catalog
    from torchinstall.project.view import Listed, ProjectView

__all__ = ["Legacy", "find_links_of", "local_pins", "recognise", "refuse_legacy"]

Kind = Literal["find-links", "rye", "poetry", "pdm"]


class Legacy(Struct, frozen=True, kw_only=True):
    """What was recognised.

    Attributes:
        kinds: every older way that the file uses.
        backends: (platform key, backend) that its pins and sources ask for.
        blocking: kinds that must be migrated before a layout can be written.
    """

    kinds: tuple[Kind, ...]
    backends: tuple[tuple[str, str], ...]
    blocking: tuple[Kind, ...]


def recognise(view: ProjectView, catalog: Catalog) -> Legacy:
    """Find pins with a local version, PyTorch `find-links`, and the tables of Rye, Poetry and PDM."""
    kinds: list[Kind] = []
    pins = local_pins(view, catalog)
    if pins or any(pytorch_index(url, catalog.backend) for url in find_links_of(view)):
        kinds.append("find-links")
    tools: tuple[Kind, ...] = ("rye", "poetry", "pdm")
    kinds += [kind for kind in tools if view.tool(kind)]
    blocking = [
        kind for kind in kinds if (kind == "find-links" and pins) or (kind == "poetry" and not view.project)
    ]
    return Legacy(kinds=tuple(kinds), backends=_backends(view, catalog, pins), blocking=tuple(blocking))


def refuse_legacy(legacy: Legacy) -> None:
    """Stop before a file that must be migrated first.

    Raises:
        UsageError: `needs-migration`.
    """
    if not legacy.blocking:
        return
    what = {
        "find-links": "it pins builds by local version (torch==X+cuNNN), which no single index serves",
        "poetry": "its dependencies are in [tool.poetry], which uv does not read",
    }
    raise UsageError(
        "needs-migration",
        "this project chooses torch in an older way: " + "; ".join(what[kind] for kind in legacy.blocking),
        wanted="[project] dependencies and an index of PyTorch",
        found=", ".join(legacy.blocking),
        hints=("torchinstall configure --migrate --dry-run", "torchinstall configure --migrate"),
    )


def find_links_of(view: ProjectView) -> tuple[str, ...]:
    """The `find-links` of `[tool.uv]` and `[tool.uv.pip]`."""
    pip = view.uv.get("pip")
    tables = [view.uv, pip if isinstance(pip, Mapping) else {}]
    return tuple(
        str(item) for table in tables for item in _listed(table.get("find-links")) if isinstance(item, str)
    )


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value] if value is not None else []


def local_pins(view: ProjectView, catalog: Catalog) -> tuple[Listed, ...]:
    """Requirements of the torch family that name a build (`torch==2.5.1+cu121`)."""
    return tuple(
        item
        for item in view.listed
        if (family := catalog.family(item.package)) is not None
        and family.routed
        and any("+" in part.version for part in item.requirement.specifier)
    )


def _backends(view: ProjectView, catalog: Catalog, pins: tuple[Listed, ...]) -> tuple[tuple[str, str], ...]:
    python = next(iter(view.pythons), "3.12") if str(view.requires_python) else "3.12"
    found: dict[str, str] = {}
    for item in sorted(pins, key=lambda item: item.package != "torch"):
        if item.package != "torch" and found:
            break  # companions go where torch goes
        local = next(
            (_local(part.version) for part in item.requirement.specifier if "+" in part.version), None
        )
        if local is None or catalog.backend(local) is None:
            continue
        for cell in CELLS:
            marker = item.requirement.marker
            holds = marker is None or marker.evaluate(marker_environment(cell, python))
            if holds and not cell.startswith("macos"):
                found.setdefault(cell, local)
    return tuple((cell, found[cell]) for cell in CELLS if cell in found)


def _local(version: str) -> str | None:
    try:
        return Version(version).local
    except InvalidVersion:
        return None
