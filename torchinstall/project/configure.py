"""Configure a project on disk: edit, let uv lock, verify the lock, or restore everything."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from msgspec import Struct, structs

from torchinstall.catalog.catalog import Catalog
from torchinstall.core.errors import TorchInstallError, UsageError, VerifyFailedError
from torchinstall.core.files import real_path
from torchinstall.core.messages import Message
from torchinstall.core.request import DEFAULT_INDEX_BASE
from torchinstall.project.checks import check_uv
from torchinstall.project.edit import edit_text, write_entries
from torchinstall.project.entries import project_entries
from torchinstall.project.files import read_text, write_atomically
from torchinstall.project.layouts import current_layout
from torchinstall.project.lock import Build, read_lock, uv_command_notes, verify_lock
from torchinstall.project.migrate import Legacy, Migrated, migrate_text, recognise
from torchinstall.project.model import Entries, Layout
from torchinstall.project.pyproject import ProjectView, project_view, workspace_root
from torchinstall.project.undo import Memory, strip

Locker = Callable[[Path], None]
"""Locks the project in a folder, or raises."""

LayoutOf = Callable[[ProjectView, Legacy], Layout]
"""The layout for what a file says (after migration) and for what was recognised in it."""

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
    def text(self) -> str:
        """The project file afterwards; as it was where it says all of the layout already."""
        return self.edits[0].after


def configure(
    directory: Path,
    layout_of: LayoutOf,
    catalog: Catalog,
    *,
    migrate: bool = False,
    dry_run: bool = False,
    lock: Locker | None = None,
    index_base: str = DEFAULT_INDEX_BASE,
    memory: Memory = Memory(),  # noqa: B008  # a frozen value
) -> Configured:
    """Write a layout into a project and check what uv makes of it.

    Args:
        directory: of the project.
        layout_of: the layout for what the file says.
        catalog: what is published.
        migrate: rewrite older ways first.
        dry_run: change nothing.
        lock: runs `uv lock`; None: do not lock.
        index_base: for pins that name a build and no index.
        memory: of what the files were before configure wrote into them.

    Raises:
        UsageError: no project, not TOML, or something in it stands in the way.
        NoCompatibleBuildError: its bounds rule out every build.
        InstallFailedError: uv cannot resolve it; the files are as they were.
        VerifyFailedError: `lock-wrong-build`: a platform would get another build; the files are as they were.
    """
    path, root = directory / "pyproject.toml", workspace_root(directory)
    paths = [path] if root == real_path(directory) else [path, root / "pyproject.toml"]
    texts = {path: read_text(path) for path in paths}
    lockfile = root / "uv.lock"
    known = _transitive(lockfile, texts[path], catalog)
    bases = {path: base for path in paths if (base := memory.before(path, texts[path])) is not None}
    split = False

    def edited() -> Configured:
        def wider(view: ProjectView, legacy: Legacy) -> Layout:
            layout = layout_of(view, legacy)
            packages = tuple(dict.fromkeys((*layout.packages, *sorted(known))))
            return structs.replace(layout, packages=packages, split=layout.split or split)

        return configure_texts(texts, wider, catalog, migrate=migrate, index_base=index_base, bases=bases)

    plan = edited()
    if dry_run:
        return plan
    with restored_on_error(plan, lockfile):
        _write(plan)
        if lock is None:
            _remember(plan, bases, memory)
            return plan
        for _ in range(_ROUNDS):
            lock(directory)
            missing = _transitive(lockfile, plan.text, catalog) - set(plan.layout.packages)
            if not missing:
                break
            known |= missing
            plan = edited()
            _write(plan)
        try:
            plan = _verified(plan, lockfile, catalog)
        except VerifyFailedError:
            split = True  # uv may let the index of an extra leak to other platforms: resolve them apart
            apart = edited()
            if apart.text == plan.text:
                raise
            plan = apart
            _write(plan)
            lock(directory)
            plan = _verified(plan, lockfile, catalog)
        _remember(plan, bases, memory)
        return plan


def unconfigure(
    directory: Path,
    catalog: Catalog,
    *,
    dry_run: bool = False,
    lock: Locker | None = None,
    memory: Memory = Memory(),  # noqa: B008  # a frozen value
) -> Configured:
    """Take out what `configure` wrote; where nothing is remembered, whatever chooses a build.

    Raises:
        UsageError: `nothing-to-remove`, or no project.
        InstallFailedError: uv cannot resolve what is left; the files are as they were.
    """
    path, root = directory / "pyproject.toml", workspace_root(directory)
    paths = [path] if root == real_path(directory) else [path, root / "pyproject.toml"]
    texts = {path: read_text(path) for path in paths}
    current = current_layout(project_view(texts[path]), catalog)
    notes: tuple[Message, ...] = ()
    bases = {path: base for path in paths if (base := memory.before(path, texts[path])) is not None}
    if path not in bases:
        if current is None:
            raise UsageError(
                "nothing-to-remove",
                "nothing in this project chooses a build of torch",
                wanted="entries that configure wrote",
                found="no source of torch from a PyTorch index",
                hints=("torchinstall configure --dry-run shows what it would write",),
            )
        done = strip(texts[path], current.kept, catalog)
        kept = Message(
            slug="not-remembered",
            message="what configure wrote here is not remembered on this machine, so what chooses a build "
            "was taken out, and the requirements in project.dependencies stay",
        )
        bases[path], notes = done.text, (*done.notes, kept)
    edits = tuple(FileEdit(item, text, bases.get(item, text)) for item, text in texts.items())
    plan = Configured(edits=edits, layout=Layout(name="this-machine"), entries=Entries(), notes=notes)
    if dry_run:
        return plan
    with restored_on_error(plan, root / "uv.lock"):
        _write(plan)
        if lock is not None:
            lock(directory)
    for edit in plan.edits:
        memory.keep(edit.path, edit.after, edit.after)
    return plan


def _remember(plan: Configured, bases: Mapping[Path, str], memory: Memory) -> None:
    for edit in plan.edits:
        if edit.before != edit.after:
            memory.keep(edit.path, bases.get(edit.path, edit.before), edit.after)


def configure_texts(
    texts: Mapping[Path, str],
    layout_of: LayoutOf,
    catalog: Catalog,
    *,
    migrate: bool = False,
    index_base: str = DEFAULT_INDEX_BASE,
    bases: Mapping[Path, str] | None = None,
) -> Configured:
    """Write a layout into the text of a project file. Pure.

    Args:
        texts: the project file and, for a member of a workspace, the root's, whose indexes a member may name
            and which holds what uv reads only there.
        layout_of: the layout for what the file says.
        catalog: what is published.
        migrate: rewrite older ways first.
        index_base: for pins that name a build and no index.
        bases: the files without what configure wrote before, where that is remembered.

    Raises:
        UsageError: the file is not TOML, must be migrated first, or says something that stands in the way.
        NoCompatibleBuildError: its version bounds rule out every build of a backend.
    """
    (path, text), *above = texts.items()
    before = text
    legacy = recognise(project_view(text), catalog)
    migrated = migrate_text(text, catalog, index_base) if migrate else Migrated(text, text)
    view = project_view(migrated.text)
    layout = layout_of(view, Legacy() if migrate else legacy)
    if migrated.text != migrated.moved and not layout.kept:
        # Another choice was asked for than the one that was found.
        view = project_view(migrated.moved)
        layout = layout_of(view, Legacy())
    text = migrated.text if layout.kept else migrated.moved
    notes = migrated.notes if migrate else legacy.accept()
    if layout.fresh:
        base = (bases or {}).get(path) or text
        older = recognise(project_view(base), catalog)
        if older.blocking or older.unread:  # it was migrated before, too
            base = migrate_text(base, catalog, index_base).text
        text, layout, more = _afresh(base, layout, catalog)
        view, notes = project_view(text), (*notes, *more)
    entries = ours = project_entries(layout, view, catalog)
    inherited = tuple(index for _, there in above for index in project_view(there).indexes)
    if above:
        ours = structs.replace(entries, environments=(), required=())
    done = edit_text(text, lambda document: write_entries(document, ours, catalog, inherited))
    edits = [FileEdit(path, before, done.text)]
    notes = (*notes, *done.notes, *check_uv(project_view(done.text).uv, catalog))
    shared = Entries(environments=entries.environments, required=entries.required)
    for root, there in above:
        there_base = (bases or {}).get(root, there) if layout.fresh else there
        top = edit_text(there_base, lambda document: write_entries(document, shared, catalog))
        edits.append(FileEdit(root, there, top.text))
        notes = (*notes, *top.notes)
    return Configured(edits=tuple(edits), layout=layout, entries=entries, notes=tuple(dict.fromkeys(notes)))


def _afresh(text: str, layout: Layout, catalog: Catalog) -> tuple[str, Layout, tuple[Message, ...]]:
    """A file without the layout that it has; what it has of the wanted one stays as it is written."""
    there = current_layout(project_view(text), catalog)
    if there is None:
        return text, layout, ()
    same = there.name == layout.name and layout.name != "markers"
    kept = tuple(route for route in there.kept if same and route.backend in layout.backends)
    gone = tuple(route for route in there.kept if route not in kept)
    done = strip(text, gone, catalog)
    packages = dict.fromkeys((*layout.packages, *(name for name, _ in done.wording)))
    layout = structs.replace(layout, kept=kept, wording=done.wording, packages=tuple(packages))
    if kept:
        new = set(layout.backends) - {route.backend for route in kept}
        layout = structs.replace(layout, required=(), split=bool(new))
    return done.text, layout, done.notes


def _transitive(lockfile: Path, text: str, catalog: Catalog) -> set[str]:
    """Packages of the torch family that the lock has and the project does not require itself."""
    lock = read_lock(lockfile, project_view(text).name)
    family = {row.package for row in catalog.families if row.routed and not row.runtime_of}
    return set((lock.reachable() & family) - lock.direct()) if lock is not None else set()


def _verified(plan: Configured, lockfile: Path, catalog: Catalog) -> Configured:
    """The plan with what its lock holds."""
    view = project_view(plan.text)
    lock = read_lock(lockfile, view.name)
    if lock is None:
        return plan
    builds = verify_lock(lock, plan.entries, view, catalog)
    notes = uv_command_notes(builds, plan.entries, view, catalog)
    return structs.replace(plan, builds=builds, notes=(*plan.notes, *notes))


def _write(plan: Configured) -> None:
    for edit in reversed(plan.edits):  # the root first: a member may need what stands there
        if read_text(edit.path) != edit.after:
            write_atomically(edit.path, edit.after)


@contextlib.contextmanager
def restored_on_error(plan: Configured, lockfile: Path) -> Iterator[None]:
    """Put the files and the lock back as they were where anything goes wrong, Ctrl-C included."""
    lock = lockfile.read_bytes() if lockfile.exists() else None
    try:
        yield
    except BaseException as error:
        for edit in plan.edits:
            if read_text(edit.path) != edit.before:
                write_atomically(edit.path, edit.before)
        if lock is None:
            lockfile.unlink(missing_ok=True)
        elif lockfile.read_bytes() != lock:
            write_atomically(lockfile, lock.decode("utf-8"))
        if isinstance(error, TorchInstallError):
            kept = (note.message for note in plan.notes if note.slug == "environments-kept")
            error.hints = (*error.hints, *kept)
        raise
