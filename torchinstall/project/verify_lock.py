"""Hold a lock against the layout: each platform and choice must get the build that was meant. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct
from packaging.utils import canonicalize_name

from torchinstall.core.messages import Message
from torchinstall.project.platforms import CELLS
from torchinstall.project.view import Place, ProjectView, same_url

if TYPE_CHECKING:
    from torchinstall.catalog.catalog import Catalog
    from torchinstall.project.lock import Locked, Lockfile
    from torchinstall.project.model import Route

__all__ = ["Build", "active_places", "builds", "later_changes", "later_family", "wrong_builds"]


class Build(Struct, frozen=True, kw_only=True):
    """What one platform gets of one package when one extra or group (or none) is active.

    Attributes:
        wanted: the index that was meant; None: the default index.
        locked: what the lock has; None: nothing.
    """

    package: str
    cell: str
    python: str
    select: Place | None
    wanted: str | None
    locked: Locked | None
    known: tuple[str, ...] = ()

    @property
    def right(self) -> bool:
        """Whether it comes from where it was meant to come from, and can be installed there."""
        if self.locked is None:
            return True
        if not self.locked.serves(self.cell):
            return False
        if self.wanted is not None:
            return self.locked.url is not None and same_url(self.locked.url, self.wanted)
        return self.locked.url is None or not any(same_url(self.locked.url, url) for url in self.known)


def builds(
    lock: Lockfile, ways: tuple[Route, ...], wanted: dict[str, tuple[Route, ...]], view: ProjectView
) -> tuple[Build, ...]:
    """Every routed package on every platform, for every choice that the project offers.

    Args:
        lock: as uv wrote it.
        ways: the routes of the layout.
        wanted: package -> the routes that serve it, each with the platforms on which it does.
        view: the project file.
    """
    choices: list[Place | None] = [way.select for way in ways if way.select is not None]
    known = tuple(way.url for way in ways)
    found = []
    for select in choices or [None]:
        places = active_places(view, select)
        for cell in CELLS:
            for python in _pythons(view):
                tree = lock.tree(cell, python, places)
                for package, served in wanted.items():
                    route = next((way for way in served if way.select == select and cell in way.cells), None)
                    found.append(
                        Build(
                            package=package,
                            cell=cell,
                            python=python,
                            select=select,
                            wanted=route.url if route else None,
                            locked=tree.get(package),
                            known=known,
                        )
                    )
    return tuple(found)


def active_places(view: ProjectView, select: Place | None) -> tuple[Place, ...]:
    """The default groups, without those that conflict with the choice, and the choice itself."""
    raw = view.texts("default-groups")
    names = raw if raw is not None else (("dev",) if view.has_dev_group else ())
    rivals = {
        name
        for row in view.conflicts
        for kind, name in row
        if kind == "group" and select is not None and (select.kind, canonicalize_name(select.name)) in row
    }
    groups = [Place("group", name) for name in names if canonicalize_name(name) not in rivals]
    return (*groups, select) if select is not None else tuple(groups)


def _pythons(view: ProjectView) -> tuple[str, ...]:
    return view.pythons[:1] if str(view.requires_python) else ("3.12",)


def wrong_builds(found: tuple[Build, ...]) -> tuple[Build, ...]:
    """Those that are not what was meant."""
    return tuple(build for build in found if not build.right)


def later_family(found: tuple[Build, ...], catalog: Catalog) -> frozenset[str]:
    """The packages that go with the torch versions of the lock and come from the PyTorch index."""
    releases = {
        build.locked.version.partition("+")[0]
        for build in found
        if build.package == "torch" and build.locked is not None
    }
    return frozenset(
        row.package
        for row in catalog.families
        if row.routed
        and not row.runtime_of
        and any(catalog.companion(release, row.package) for release in releases)
    )


def later_changes(
    ways: tuple[Route, ...], view: ProjectView, routed: frozenset[str], families: frozenset[str]
) -> tuple[Message, ...]:
    """Where a later `uv add`, `uv sync` or `uv run` would take another build."""
    notes = []
    extras = [way.select.name for way in ways if way.select is not None and way.select.kind == "extra"]
    groups = [way.select.name for way in ways if way.select is not None and way.select.kind == "group"]
    if extras:
        notes.append(
            Message(
                slug="bare-uv-run-drops-extra",
                message="`uv run`, `uv sync` and `uv add` without `--extra` take the default index's "
                "torch, or none; use `torchinstall run -- …` and `torchinstall sync`, or "
                f"`--extra {extras[-1]}` each time, or the layout groups",
            )
        )
    defaults = {canonicalize_name(name) for name in view.texts("default-groups") or ()}
    active = [name for name in groups if canonicalize_name(name) in defaults]
    if groups and not active:
        notes.append(
            Message(
                slug="bare-uv-run-drops-group",
                message="no backend's group is in default-groups, so that `uv run` and `uv sync` take "
                "none; use `torchinstall run -- …` and `torchinstall sync`",
            )
        )
    elif active:
        notes.append(
            Message(
                slug="default-group",
                message=f"`uv run`, `uv sync` and `uv add` take the group {active[0]} on every machine; "
                "on one that needs another, use `torchinstall run -- …` and `torchinstall sync`",
            )
        )
    if others := sorted(families - routed):
        notes.append(
            Message(
                slug="later-companions",
                message=f"a later `uv add` of {', '.join(others)} takes it from the default index; run "
                "`torchinstall configure` again after it",
            )
        )
    return tuple(notes)
