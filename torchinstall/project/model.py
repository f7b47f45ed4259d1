"""The values of project configuration: the layout that is wanted and the entries that it comes down to."""

from __future__ import annotations

from typing import Literal, get_args

from msgspec import Struct

from torchinstall.core.messages import Message
from torchinstall.core.request import DEFAULT_INDEX_BASE
from torchinstall.project.view import Place

__all__ = ["LAYOUTS", "Desired", "Layout", "LayoutName", "Message", "Need", "Route", "Selector", "Source"]

LayoutName = Literal["this-machine", "markers", "extras", "groups"]
LAYOUTS: tuple[LayoutName, ...] = get_args(LayoutName)

Selector = Literal["extra", "group"]


class Layout(Struct, frozen=True, kw_only=True):
    """What the project file shall say.

    Attributes:
        backends: those to choose from; one for `this-machine`; empty where the default index serves.
        on: `markers` only: platform key -> backend; a platform that is missing takes the default index.
        default: `groups` only: the backend whose group is in `default-groups`.
        packages: normalised names that must be required directly, and routed: uv ignores the sources of what
            is only required by others.
        required: platform keys for `required-environments`.
        index_base: as `--index-base`.
        caps: backend -> torch versions from this one on do not run on the machine that was planned for.
        torch: the version planned for the machine, public; None where there is no plan.
    """

    name: LayoutName
    backends: tuple[str, ...]
    on: tuple[tuple[str, str], ...] = ()
    default: str | None = None
    packages: tuple[str, ...] = ("torch",)
    required: tuple[str, ...] = ()
    index_base: str = DEFAULT_INDEX_BASE
    channel: str = "stable"
    caps: tuple[tuple[str, str], ...] = ()
    torch: str | None = None

    @property
    def selector(self) -> Selector | None:
        """Whether the backend is chosen by an extra, by a group, or by neither."""
        return {"extras": "extra", "groups": "group"}.get(self.name)  # type: ignore[return-value]  # literals


class Route(Struct, frozen=True, kw_only=True):
    """One backend in the project: where it is served and what asks for it.

    Attributes:
        cells: platforms whose torch comes from this backend.
        select: the extra or group that asks for it; None: always.
    """

    backend: str
    url: str
    cells: frozenset[str]
    select: Place | None = None


class Source(Struct, frozen=True, kw_only=True):
    """One entry of `[tool.uv.sources]`; the index is known by its URL until the file's own name is found."""

    url: str
    marker: str | None = None
    select: Place | None = None


class Need(Struct, frozen=True, kw_only=True):
    """A package that must stand in a list of requirements.

    Attributes:
        floor: lowest version, only used where the package is not listed there yet.
        cap: versions from this one on are out; added to what is listed unless that says so already.
        marker: where it is needed; only used where it is not listed there yet.
    """

    place: Place
    package: str
    floor: str | None = None
    cap: str | None = None
    marker: str | None = None

    @property
    def text(self) -> str:
        """The requirement to write."""
        bounds = ",".join(
            part for part in (self.floor and f">={self.floor}", self.cap and f"<{self.cap}") if part
        )
        return f"{self.package}{bounds}" + (f" ; {self.marker}" if self.marker else "")


class Desired(Struct, frozen=True, kw_only=True):
    """Everything that must be in the file afterwards.

    Attributes:
        indexes: (preferred name, URL).
        sources: package -> its entries, in order.
        conflicts: extras or groups of which at most one may be active.
        default_group: the group that a bare `uv run` takes; the other members of `conflicts` must not be in
            `default-groups`.
        environments: markers to resolve apart; empty: leave the key alone.
        required: markers for `required-environments`; those that are missing are added.
    """

    indexes: tuple[tuple[str, str], ...] = ()
    sources: tuple[tuple[str, tuple[Source, ...]], ...] = ()
    needs: tuple[Need, ...] = ()
    conflicts: tuple[Place, ...] = ()
    default_group: str | None = None
    environments: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    notes: tuple[Message, ...] = ()
