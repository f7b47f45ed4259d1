"""Configure a project on disk: edit, let uv lock, verify the lock, or restore everything."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from msgspec import Struct, structs

from torchinstall.catalog.catalog import Catalog
from torchinstall.core.errors import TorchInstallError
from torchinstall.core.messages import Message
from torchinstall.project.checks import check_uv
from torchinstall.project.edit import edit_text, write_entries
from torchinstall.project.entries import project_entries
from torchinstall.project.files import read_text, write_atomically
from torchinstall.project.lock import read_lock
from torchinstall.project.migrate import Legacy, migrate_text, recognise
from torchinstall.project.model import Entries, Index, Layout
from torchinstall.project.pyproject import ProjectView, project_view, workspace_root
from torchinstall.project.verify_lock import Build, later_changes, verify_lock

__all__ = ["Configured", "ConfiguredText", "FileEdit", "LayoutOf", "Locker", "configure", "configure_text"]

Locker = Callable[[Path], None]
"""Locks the project in a folder, or raises."""

LayoutOf = Callable[[ProjectView, Legacy], Layout]
"""The layout for what the file says (after migration) and for what was recognised in it."""

_ROUNDS = 3
"""Each round makes packages direct that the lock showed to be only transitive."""


class ConfiguredText(Struct, frozen=True, kw_only=True):
    """A project file with a layout written into it; equal to the text before where it says all of that."""

    text: str
    notes: tuple[Message, ...]
    layout: Layout
    entries: Entries


def configure_text(
    text: str,
    layout_of: LayoutOf,
    catalog: Catalog,
    *,
    migrate: bool = False,
    inherited: tuple[Index, ...] | None = None,
) -> ConfiguredText:
    """Write a layout into a project file's text.

    Args:
        text: the file.
        layout_of: the layout for it.
        catalog: what is published.
        migrate: rewrite older ways first.
        inherited: index entries of the workspace root, which a member may name; keys that uv reads only at
            the root are then left out. None: this is the root, or there is no workspace.

    Raises:
        UsageError: the file is not TOML, must be migrated first, or says something that stands in the way.
        NoCompatibleBuildError: its version bounds rule out every build of a backend.
    """
    legacy = recognise(project_view(text), catalog)
    if migrate:
        moved = migrate_text(text, catalog)
        text, notes = moved.text, moved.notes
    else:
        notes = legacy.accept()
    view = project_view(text)
    layout = layout_of(view, legacy)
    entries = project_entries(layout, view, catalog)
    ours = entries if inherited is None else structs.replace(entries, environments=(), required=())
    done = edit_text(text, lambda document: write_entries(document, ours, catalog, inherited or ()))
    notes = (*notes, *done.notes, *check_uv(project_view(done.text).uv, catalog))
    return ConfiguredText(text=done.text, notes=tuple(dict.fromkeys(notes)), layout=layout, entries=entries)


class FileEdit(Struct, frozen=True):
    """A file before and after."""

    path: Path
    before: str
    after: str


class Configured(Struct, frozen=True, kw_only=True):
    """What was (or, in a dry run, would be) done.

    Attributes:
        edits: of the project file and, for keys that uv reads only there, of the workspace root's.
        layout: with everything that the lock showed to be needed.
        builds: what each platform gets; empty where nothing was locked.
    """

    edits: tuple[FileEdit, ...]
    layout: Layout
    entries: Entries
    notes: tuple[Message, ...]
    builds: tuple[Build, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether any file differs."""
        return any(edit.before != edit.after for edit in self.edits)

    @property
    def view(self) -> ProjectView:
        """The project file afterwards."""
        return project_view(self.edits[0].after)


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
    text = read_text(path)
    root = workspace_root(directory)
    top = None if root == directory.resolve() else (root / "pyproject.toml")
    top_text = read_text(top) if top is not None else ""
    lockfile = root / "uv.lock"
    family = {row.package for row in catalog.families if row.routed and not row.runtime_of}

    def transitive(view: ProjectView) -> set[str]:
        """Packages of the torch family that the lock has and the project does not require itself."""
        locked = read_lock(lockfile, view.name)
        return set((locked.reachable() & family) - locked.direct()) if locked is not None else set()

    def edited(more: set[str]) -> Configured:
        def wider(view: ProjectView, legacy: Legacy) -> Layout:
            layout = layout_of(view, legacy)
            return structs.replace(layout, packages=tuple(dict.fromkeys((*layout.packages, *sorted(more)))))

        inherited = project_view(top_text).indexes if top is not None else None
        done = configure_text(text, wider, catalog, migrate=migrate, inherited=inherited)
        edits = [FileEdit(path, text, done.text)]
        notes = done.notes
        if top is not None:
            shared = Entries(environments=done.entries.environments, required=done.entries.required)
            above = edit_text(top_text, lambda document: write_entries(document, shared, catalog))
            edits.append(FileEdit(top, top_text, above.text))
            notes = (*notes, *above.notes)
        return Configured(edits=tuple(edits), layout=done.layout, entries=done.entries, notes=notes)

    known = transitive(project_view(text))
    plan = edited(known)
    if dry_run or lock is None:
        if not dry_run:
            _write(plan.edits)
        return plan
    with _restored_on_error(plan.edits, lockfile):
        try:
            for _ in range(_ROUNDS):
                _write(plan.edits)
                lock(directory)
                missing = transitive(plan.view) - set(plan.layout.packages)
                if not missing:
                    break
                known |= missing
                plan = edited(known)
            return _verified(plan, lockfile, catalog)
        except TorchInstallError as error:
            kept = (note.message for note in plan.notes if note.slug == "environments-kept")
            error.hints = (*error.hints, *kept)
            raise


def _verified(plan: Configured, lockfile: Path, catalog: Catalog) -> Configured:
    """The plan with what its lock holds."""
    view = plan.view
    lock = read_lock(lockfile, view.name)
    if lock is None:
        return plan
    builds = verify_lock(lock, plan.entries, view, catalog)
    notes = later_changes(builds, plan.entries, view, catalog)
    return structs.replace(plan, builds=builds, notes=(*plan.notes, *notes))


def _write(edits: Sequence[FileEdit]) -> None:
    for edit in reversed(edits):  # the root first: a member may need what stands there
        if read_text(edit.path) != edit.after:
            write_atomically(edit.path, edit.after)


@contextlib.contextmanager
def _restored_on_error(edits: Sequence[FileEdit], lockfile: Path) -> Iterator[None]:
    """Put the files and the lock back as they were where anything goes wrong, Ctrl-C included."""
    lock = lockfile.read_bytes() if lockfile.exists() else None
    try:
        yield
    except BaseException:
        _write([FileEdit(edit.path, edit.after, edit.before) for edit in edits])
        if lock is None:
            lockfile.unlink(missing_ok=True)
        elif lockfile.read_bytes() != lock:
            write_atomically(lockfile, lock.decode("utf-8"))
        raise
