"""Configure a project on disk: edit, let uv lock, hold the lock against the layout, or put all back."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct, structs

from torchinstall.core.errors import TorchInstallError, VerifyFailedError
from torchinstall.core.messages import Message
from torchinstall.project.availability import Stock
from torchinstall.project.edit import apply, edit_with
from torchinstall.project.files import read_text, workspace_root, write_atomically
from torchinstall.project.layouts import desired, routed_packages, routes
from torchinstall.project.lock import Lockfile, read_lock
from torchinstall.project.model import Desired, Layout
from torchinstall.project.needs import cells_of
from torchinstall.project.text import configured, view_of
from torchinstall.project.verify_lock import Build, builds, later_changes, later_family, wrong_builds
from torchinstall.project.view import ProjectView

if TYPE_CHECKING:
    from torchinstall.catalog.catalog import Catalog
    from torchinstall.project.legacy import Legacy
    from torchinstall.project.model import Route

__all__ = ["Configured", "FileEdit", "Locker", "configure"]

Locker = Callable[[Path], None]
"""Locks the project in a folder, or raises."""

LayoutOf = Callable[[ProjectView, "Legacy"], Layout]

_ROUNDS = 3
"""Each round makes packages direct that the lock showed to be only transitive."""


class FileEdit(Struct, frozen=True):
    """A file before and after."""

    path: Path
    before: str
    after: str


class Configured(Struct, frozen=True, kw_only=True):
    """What was (or, in a dry run, would be) done.

    Attributes:
        layout: with everything that the lock showed to be needed.
        builds: what each platform gets; empty where nothing was locked.
    """

    edits: tuple[FileEdit, ...]
    layout: Layout
    notes: tuple[Message, ...]
    builds: tuple[Build, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether any file differs."""
        return any(edit.before != edit.after for edit in self.edits)


def configure(
    directory: Path,
    layout_of: LayoutOf,
    catalog: Catalog,
    *,
    migrate: bool = False,
    dry_run: bool = False,
    lock: Locker | None = None,
) -> Configured:
    """Write a layout into a project and check what uv makes of it.

    Args:
        directory: of the project.
        layout_of: the layout for what the file says.
        catalog: what is published.
        migrate: rewrite older ways first.
        dry_run: change nothing.
        lock: runs `uv lock`; None: do not lock.

    Raises:
        UsageError: no project, not TOML, or something in it stands in the way.
        NoCompatibleBuildError: its bounds rule out every build.
        InstallFailedError: uv cannot resolve it; the files are as they were.
        VerifyFailedError: `lock-wrong-build`: a platform would get another build; the files are as they were.
    """
    path = directory / "pyproject.toml"
    before = {path: read_text(path)}
    root = workspace_root(directory)
    if root != directory.resolve():
        before[root / "pyproject.toml"] = read_text(root / "pyproject.toml")
    make = layout_of
    known = _locked_companions(root, before[path], catalog)
    plan = _edit(before, path, _with_packages(make, known), catalog, migrate=migrate)
    if dry_run or lock is None:
        if not dry_run:
            _write(plan.edits)
        return plan
    lockfile = root / "uv.lock"
    old_lock = lockfile.read_bytes() if lockfile.exists() else None
    try:
        for _ in range(_ROUNDS):
            _write(plan.edits)
            lock(directory)
            missing = _locked_companions(root, plan.edits[0].after, catalog) - set(plan.layout.packages)
            if not missing:
                break
            known |= missing
            plan = _edit(before, path, _with_packages(make, known), catalog, migrate=migrate)
        return _checked(plan, root, catalog)
    except TorchInstallError as error:
        _put_back(plan.edits, lockfile, old_lock)
        error.hints = (
            *error.hints,
            *(note.message for note in plan.notes if note.slug == "environments-kept"),
        )
        raise
    except BaseException:
        _put_back(plan.edits, lockfile, old_lock)
        raise


def _with_packages(make: LayoutOf, more: set[str]) -> LayoutOf:
    def wider(view: ProjectView, legacy: Legacy) -> Layout:
        layout = make(view, legacy)
        return structs.replace(layout, packages=tuple(dict.fromkeys((*layout.packages, *sorted(more)))))

    return wider


def _edit(
    before: Mapping[Path, str], path: Path, make: LayoutOf, catalog: Catalog, *, migrate: bool
) -> Configured:
    """The edits of the project file and, for keys that uv reads only there, of the workspace root's."""
    layouts: list[Layout] = []

    def kept(view: ProjectView, legacy: Legacy) -> Layout:
        layouts.append(make(view, legacy))
        return layouts[-1]

    root = next((item for item in before if item != path), None)
    if root is None:
        done = configured(before[path], kept, catalog, migrate=migrate)
        edits: tuple[FileEdit, ...] = (FileEdit(path, before[path], done.text),)
        return Configured(edits=edits, layout=layouts[-1], notes=done.notes)
    inherited = view_of(before[root]).indexes
    done = configured(before[path], kept, catalog, migrate=migrate, inherited=inherited, member=True)
    there = desired(layouts[-1], view_of(done.text), catalog)
    shared = Desired(environments=there.environments, required=there.required)

    def change(document: object) -> tuple[Message, ...]:
        return apply(document, shared, view_of(before[root]), catalog)

    top = edit_with(before[root], change)
    edits = (FileEdit(path, before[path], done.text), FileEdit(root, before[root], top.text))
    return Configured(edits=edits, layout=layouts[-1], notes=(*done.notes, *top.notes))


def _locked_companions(root: Path, text: str, catalog: Catalog) -> set[str]:
    """Packages of the torch family that the lock has and the project does not require itself."""
    lock = _lock_of(root, text)
    if lock is None:
        return set()
    direct = lock.direct()
    family = {row.package for row in catalog.families if row.routed and not row.runtime_of}
    return set((lock.reachable() & family) - direct)


def _lock_of(root: Path, text: str) -> Lockfile | None:
    try:
        return read_lock((root / "uv.lock").read_text(encoding="utf-8"), view_of(text).name)
    except (OSError, UnicodeDecodeError):
        return None


def _checked(plan: Configured, root: Path, catalog: Catalog) -> Configured:
    """The plan with what its lock holds.

    Raises:
        VerifyFailedError: not what was meant.
    """
    text = plan.edits[0].after
    view, lock = view_of(text), _lock_of(root, text)
    if lock is None:
        return plan
    stock = Stock(catalog, plan.layout.channel)
    ways = routes(plan.layout, view, stock)
    wanted = {
        package: tuple(structs.replace(way, cells=cells_of(package, way, stock)) for way in ways)
        for package in routed_packages(plan.layout, view, catalog)
    }
    found = builds(lock, ways, wanted, view)
    if wrong := wrong_builds(found):
        raise _wrong(wrong, ways)
    notes = later_changes(ways, view, frozenset(wanted), later_family(found, catalog))
    return structs.replace(plan, builds=found, notes=(*plan.notes, *notes))


def _wrong(wrong: tuple[Build, ...], ways: tuple[Route, ...]) -> VerifyFailedError:
    del ways
    rows = []
    for build in wrong[:6]:
        locked = build.locked
        got = f"{locked.version} from {locked.url}" if locked else "nothing"
        choice = f" with {build.select.text}" if build.select else ""
        rows.append(f"{build.package} on {build.cell}{choice}: {got}")
    first = wrong[0]
    return VerifyFailedError(
        "lock-wrong-build",
        "uv's lock holds another build than the layout means, so nothing was changed",
        wanted=f"{first.package} on {first.cell} from {first.wanted or 'the default index'}",
        found="\n".join(rows),
        hints=(
            "torchinstall configure --dry-run shows the entries",
            "entries of your own in [tool.uv] (environments, sources, index) may be in the way",
        ),
    )


def _write(edits: tuple[FileEdit, ...]) -> None:
    for edit in reversed(edits):  # the root first: a member may need what stands there
        if read_text(edit.path) != edit.after:
            write_atomically(edit.path, edit.after)


def _put_back(edits: tuple[FileEdit, ...], lockfile: Path, old_lock: bytes | None) -> None:
    for edit in edits:
        if read_text(edit.path) != edit.before:
            write_atomically(edit.path, edit.before)
    if old_lock is None:
        with contextlib.suppress(FileNotFoundError):
            lockfile.unlink()
    elif lockfile.read_bytes() != old_lock:
        write_atomically(lockfile, old_lock.decode("utf-8"))
