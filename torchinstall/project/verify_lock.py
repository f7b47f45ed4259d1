"""Verify a lock against the layout: each platform and choice must get the build that was meant. Pure."""

from __future__ import annotations

from msgspec import Struct
from packaging.utils import canonicalize_name

from torchinstall.catalog.catalog import Catalog
from torchinstall.core.errors import VerifyFailedError
from torchinstall.core.messages import Message
from torchinstall.project.lock import Locked, Lockfile
from torchinstall.project.model import ALWAYS, Entries, Scope
from torchinstall.project.platforms import PLATFORMS
from torchinstall.project.pyproject import ProjectView, same_url

__all__ = ["Build", "later_changes", "verify_lock"]


class Build(Struct, frozen=True, kw_only=True):
    """What one platform gets of one package when one extra or group (or none) is active.

    Attributes:
        wanted: the index that was meant; None: the default index.
        locked: what the lock has; None: nothing.
        known: the indexes of the layout.
    """

    package: str
    platform: str
    scope: Scope
    wanted: str | None
    locked: Locked | None
    known: tuple[str, ...] = ()

    @property
    def right(self) -> bool:
        """Whether it comes from where it was meant to come from, and can be installed there."""
        if self.locked is None:
            return True
        if not self.locked.serves(self.platform):
            return False
        url = self.locked.url
        if self.wanted is not None:
            return url is not None and same_url(url, self.wanted)
        return url is None or not any(same_url(url, known) for known in self.known)


def verify_lock(lock: Lockfile, entries: Entries, view: ProjectView, catalog: Catalog) -> tuple[Build, ...]:
    """Every routed package on every platform, for every choice that the project offers.

    Args:
        lock: as uv wrote it.
        entries: that were written.
        view: the project file with them.
        catalog: knows the packages that only a backend's torch needs; the lock follows torch in these.

    Raises:
        VerifyFailedError: `lock-wrong-build`: it is not what was meant.
    """
    python = next(iter(view.pythons), "3.12")
    found = []
    for scope in dict.fromkeys(route.scope for route in entries.routes) or (ALWAYS,):
        groups = [name for name in view.default_groups if name not in view.rival_groups(scope)]
        active = (*(Scope("group", name) for name in groups), *(() if scope == ALWAYS else (scope,)))
        for platform in PLATFORMS:
            tree = lock.tree(platform, python, active)
            for package, routes in entries.sources:
                family = catalog.family(package)
                if family is not None and family.runtime_of:
                    continue
                urls = (item.url for item in routes if item.scope == scope and platform in item.platforms)
                found.append(
                    Build(
                        package=package,
                        platform=platform,
                        scope=scope,
                        wanted=next(urls, None),
                        locked=tree.get(package),
                        known=tuple(route.url for route in entries.routes),
                    )
                )
    if wrong := [build for build in found if not build.right]:
        raise _wrong_build(wrong)
    return tuple(found)


def _wrong_build(wrong: list[Build]) -> VerifyFailedError:
    rows = []
    for build in wrong[:6]:
        got = f"{build.locked.version} from {build.locked.url}" if build.locked else "nothing"
        choice = f" with {build.scope.text}" if build.scope != ALWAYS else ""
        rows.append(f"{build.package} on {build.platform}{choice}: {got}")
    first = wrong[0]
    return VerifyFailedError(
        "lock-wrong-build",
        "uv's lock has another build than the layout asks for, so nothing was changed",
        wanted=f"{first.package} on {first.platform} from {first.wanted or 'the default index'}",
        found="\n".join(rows),
        hints=(
            "torchinstall configure --dry-run shows the entries",
            "entries of your own in [tool.uv] (environments, sources, index) may be in the way",
        ),
    )


def later_changes(
    builds: tuple[Build, ...], entries: Entries, view: ProjectView, catalog: Catalog
) -> tuple[Message, ...]:
    """Where a later `uv add`, `uv sync` or `uv run` would take another build."""
    notes = []
    extras = [route.scope.name for route in entries.routes if route.scope.kind == "extra"]
    groups = [route.scope.name for route in entries.routes if route.scope.kind == "group"]
    defaults = {canonicalize_name(name) for name in view.default_groups}
    active = [name for name in groups if canonicalize_name(name) in defaults]
    if extras:
        notes.append(
            Message(
                slug="bare-uv-run-drops-extra",
                message="`uv run`, `uv sync` and `uv add` without `--extra` take the default index's "
                "torch, or none; use `torchinstall run -- …` and `torchinstall sync`, or "
                f"`--extra {extras[-1]}` each time, or the layout groups",
            )
        )
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
    torch = (build.locked for build in builds if build.package == "torch" and build.locked is not None)
    releases = {locked.version.partition("+")[0] for locked in torch}
    routed = {package for package, _ in entries.sources}
    later = sorted(
        row.package
        for row in catalog.families
        if row.routed and not row.runtime_of and row.package not in routed
        if any(catalog.companion(release, row.package) for release in releases)
    )
    if later:
        notes.append(
            Message(
                slug="later-companions",
                message=f"a later `uv add` of {', '.join(later)} takes it from the default index; run "
                "`torchinstall configure` again after it",
            )
        )
    return tuple(notes)
