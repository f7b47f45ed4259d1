"""What of a layout a project file already holds. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct
from packaging.markers import InvalidMarker, Marker
from packaging.utils import canonicalize_name

from torchinstall.index.urls import pytorch_index
from torchinstall.project.model import LayoutName
from torchinstall.project.platforms import CELLS, marker_environment
from torchinstall.project.view import Place, ProjectView

if TYPE_CHECKING:
    from torchinstall.catalog.catalog import Catalog

__all__ = ["Held", "Offer", "held_layout", "offers"]


class Offer(Struct, frozen=True):
    """A backend and the extra or group that asks for it; `place` None: it is not a choice."""

    backend: str
    place: Place | None


class Held(Struct, frozen=True):
    """The layout that a file holds already."""

    layout: LayoutName
    backends: tuple[str, ...]
    on: tuple[tuple[str, str], ...] = ()
    default: str | None = None


def offers(view: ProjectView, catalog: Catalog) -> tuple[Offer, ...]:
    """The backends that torch's sources name, in their order."""
    urls = {row.name: row.url for row in view.indexes if row.name is not None}
    found = []
    for row in view.sources.get("torch", []):
        index = pytorch_index(urls.get(str(row.get("index")), ""), catalog.backend)
        if index is None or index.backend is None:
            continue
        place = None
        if "extra" in row:
            place = Place("extra", str(row["extra"]))
        elif "group" in row:
            place = Place("group", str(row["group"]))
        found.append(Offer(index.backend, place))
    return tuple(dict.fromkeys(found))


def held_layout(view: ProjectView, catalog: Catalog) -> Held | None:
    """The layout in the file; None where torch comes from no index of PyTorch."""
    there = offers(view, catalog)
    if not there:
        return None
    backends = tuple(dict.fromkeys(offer.backend for offer in there))
    kinds = {offer.place.kind for offer in there if offer.place is not None}
    if "extra" in kinds:
        return Held("extras", backends)
    if "group" in kinds:
        defaults = {canonicalize_name(name) for name in view.texts("default-groups") or ()}
        chosen = (item for item in there if item.place and canonicalize_name(item.place.name) in defaults)
        first = next(chosen, None)
        return Held("groups", backends, default=first.backend if first else None)
    if len(backends) == 1:
        return Held("this-machine", backends)
    return Held("markers", backends, on=_on(view, catalog))


def _on(view: ProjectView, catalog: Catalog) -> tuple[tuple[str, str], ...]:
    urls = {row.name: row.url for row in view.indexes if row.name is not None}
    found = []
    for cell in CELLS:
        for row in view.sources.get("torch", []):
            index = pytorch_index(urls.get(str(row.get("index")), ""), catalog.backend)
            if index and index.backend and _holds(str(row.get("marker", "")), cell):
                found.append((cell, index.backend))
                break
    return tuple(found)


def _holds(marker: str, cell: str) -> bool:
    try:
        return not marker or Marker(marker).evaluate(dict(marker_environment(cell, "3.12")))
    except InvalidMarker:
        return False
