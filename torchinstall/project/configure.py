"""Configure a project on disk: edit, let uv lock, verify the lock, or restore everything."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from msgspec import Struct, structs

from torchinstall.catalog.catalog import Catalog
from torchinstall.core.errors import InstallFailedError, TorchInstallError, UsageError, VerifyFailedError
from torchinstall.core.files import real_path, write_file
from torchinstall.core.messages import Message
from torchinstall.core.request import DEFAULT_INDEX_BASE
from torchinstall.project.checks import check_uv
from torchinstall.project.edit import edit_text
from torchinstall.project.entries import project_entries
from torchinstall.project.files import read_text
from torchinstall.project.foreign import Foreign, read_requirements
from torchinstall.project.layouts import current_layout
from torchinstall.project.lock import Build, read_lock, uv_command_notes, verify_lock
from torchinstall.project.migrate import Legacy, Migrated, migrate_text, recognise
from torchinstall.project.model import ALWAYS, Entries, Layout
from torchinstall.project.pins import check_spelled
from torchinstall.project.pyproject import ProjectView, below, project_view, scope_in, workspace_root
from torchinstall.project.undo import Memory, may_be_ours, strip
from torchinstall.project.write import write_entries

Locker = Callable[[Path], None]
"""Locks the project in a folder, or resolves a script, or raises."""

LayoutOf = Callable[[ProjectView, Legacy], Layout]
"""The layout for what a file says (after migration) and for what was recognised in it."""

_ROUNDS = 3
"""Each round makes packages direct that the lock showed to be only transitive."""


class FileEdit(Struct, frozen=True):
    """A file before (empty: there is none) and after."""

    path: Path
    before: str
    after: str


class Configured(Struct, frozen=True, kw_only=True):
    """What was (or, in a dry run, would be) done; `builds` is empty where nothing was locked."""

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


class _Files(Struct, frozen=True):
    """The project file, then the workspace root's; each text, and without what configure wrote before."""

    texts: Mapping[Path, str]
    bases: Mapping[Path, str]
    lock: Path


def _files_of(directory: Path, memory: Memory, *, may_be_missing: bool = False) -> _Files:
    path, root = directory / "pyproject.toml", workspace_root(directory)
    paths = [path] if root == real_path(directory) else [path, root / "pyproject.toml"]
    missing = may_be_missing and not path.exists() and (directory / "requirements.txt").is_file()
    texts = {item: "" if missing and item == path else read_text(item) for item in paths}
    bases = {item: base for item, text in texts.items() if (base := memory.before(item, text)) is not None}
    return _Files(texts, bases, root / "uv.lock")


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
    env: Mapping[str, str] | None = None,
) -> Configured:
    """Write a layout into a project and check what uv makes of it.

    Args:
        directory: of the project.
        layout_of: the layout for what the file says.
        catalog: what is published.
        migrate: rewrite older ways first; makes a project file of `requirements.txt` where there is none.
        dry_run: change nothing.
        lock: None: do not lock.
        index_base: for pins that name a build and no index.
        memory: of what the files were before configure wrote into them.
        env: for variables in requirements files.

    Raises:
        UsageError: no project, not TOML, or something in it stands in the way.
        NoCompatibleBuildError: its bounds rule out every build.
        InstallFailedError: uv cannot resolve it; the files are as they were.
        VerifyFailedError: `lock-wrong-build`: a platform would get another build; the files are as they were.
    """
    files = _files_of(directory, memory, may_be_missing=migrate)
    text = next(iter(files.texts.values()))
    known = _transitive(files.lock, text, catalog)
    more, older = (
        read_requirements(directory, project_view(there), catalog, index_base, env or {}, strict=strict)
        for there, strict in ((text, migrate), (next(iter(files.bases.values()), text), False))
    )

    def edited(*, split: bool = False) -> Configured:
        def wider(view: ProjectView, legacy: Legacy) -> Layout:
            layout = layout_of(view, legacy)
            packages = tuple(dict.fromkeys((*layout.packages, *sorted(known))))
            return structs.replace(layout, packages=packages, split=layout.split or split)

        return configure_texts(
            files.texts,
            wider,
            catalog,
            migrate=migrate,
            index_base=index_base,
            bases=files.bases,
            more=(more, older),
        )

    def locked(plan: Configured, lock: Locker) -> Configured:
        for _ in range(_ROUNDS):
            lock(directory)
            missing = _transitive(files.lock, plan.text, catalog) - set(plan.layout.packages)
            if not missing:
                break
            known.update(missing)
            plan = edited()
            _write(plan)
        try:
            return _verified(plan, files.lock, catalog)
        except VerifyFailedError:
            apart = edited(split=True)  # uv may let the index of an extra leak to other platforms
            if apart.edits == plan.edits:
                raise
            _write(apart)
            lock(directory)
            return _verified(apart, files.lock, catalog)

    plan = edited()
    if dry_run:
        return plan
    with restored_on_error((*files.texts, files.lock), plan.notes):
        _write(plan)
        plan = locked(plan, lock) if lock is not None else plan
        for edit in plan.edits:
            if edit.before and (edit.before != edit.after or not memory.knows(edit.path)):
                memory.remember(edit.path, files.bases.get(edit.path, edit.before), edit.after)
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
        InstallFailedError: uv cannot resolve what is left.
    """
    files = _files_of(directory, memory)
    path, text = next(iter(files.texts.items()))
    after, notes = dict(files.bases), tuple[Message, ...]()
    if path not in after or all(after.get(item, there) == there for item, there in files.texts.items()):
        current = current_layout(project_view(text), catalog) if path not in after else None
        ours = tuple(item for item in current.kept if may_be_ours(item)) if current is not None else ()
        if not ours:
            raise UsageError(
                "nothing-to-remove",
                "nothing in this project that chooses a build of torch is from configure",
                wanted="entries that configure wrote",
                found="entries that a person wrote, or none",
                hints=("torchinstall configure --dry-run shows what it would write",),
            )
        stripped, _ = strip(text, ours, catalog)
        kept = Message(
            slug="not-remembered",
            message="what configure wrote here is not remembered on this machine, so what chooses a build "
            "was taken out, and the requirements in project.dependencies stay",
        )
        after[path], notes = stripped.text, (*stripped.notes, kept)
    edits = tuple(FileEdit(item, text, after.get(item, text)) for item, text in files.texts.items())
    plan = Configured(edits=edits, layout=Layout(name="this-machine"), entries=Entries(), notes=notes)
    if not dry_run:
        with restored_on_error((*files.texts, files.lock)):
            _write(plan)
            try:
                if lock is not None:
                    lock(directory)
            except InstallFailedError as error:  # as it was before, uv could not resolve it either
                error.hints = ("torchinstall configure --remove --no-lock", *error.hints)
                raise
        for edit in plan.edits:
            memory.remember(edit.path, edit.after, edit.after)
    return plan


def configure_texts(
    texts: Mapping[Path, str],
    layout_of: LayoutOf,
    catalog: Catalog,
    *,
    migrate: bool = False,
    index_base: str = DEFAULT_INDEX_BASE,
    bases: Mapping[Path, str] | None = None,
    more: tuple[Foreign, Foreign] = (Foreign(), Foreign()),  # only read
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
        more: what the project's requirements files say, and what they said to the file in `bases`.

    Raises:
        UsageError: the file is not TOML, must be migrated first, or says something that stands in the way.
        NoCompatibleBuildError: its version bounds rule out every build of a backend.
    """
    (path, before), *above = texts.items()
    check_spelled(project_view(before), catalog)
    migrated, legacy = Migrated(moved=before, text=before), Legacy()
    if migrate:
        migrated = migrate_text(before, catalog, index_base, more[0])
        legacy = Legacy(error=migrated.error)
    else:
        legacy = recognise(project_view(before), catalog, more[0])
    roots = tuple(_for_all(project_view(there)) for _, there in above)
    text = migrated.text
    layout = layout_of(below(project_view(text), *roots), legacy)
    if migrated.text != migrated.moved and not layout.kept:
        # Another choice was asked for than the one that was found.
        text = migrated.moved
        layout = layout_of(below(project_view(text), *roots), Legacy())
    notes = (*migrated.notes, *legacy.accept())
    if layout.offers_choice and not layout.kept and not project_view(text).project:
        raise UsageError(
            "not-supported",
            f"a file without [project] cannot have {layout.name} that exclude each other",
            wanted="a project with a name",
            found="no table [project]",
            hints=("torchinstall configure --layout markers", "write [project] with a name and a version"),
        )
    if layout.fresh:
        base = (bases or {}).get(path) or text
        was = recognise(project_view(base), catalog, more[1])
        if was.blocking or was.unread:  # it was migrated before, too
            base = migrate_text(base, catalog, index_base, more[1]).text
        text, layout, told = _afresh(base, layout, catalog)
        notes = (*notes, *told)
    entries = ours = project_entries(layout, below(project_view(text), *roots), catalog)
    if above:
        ours = structs.replace(entries, environments=(), required=())
    done = edit_text(text, lambda data: write_entries(data, ours, catalog, roots))
    edits = [FileEdit(path, before, done.text)]
    notes = (*notes, *done.notes, *check_uv(project_view(done.text).uv, catalog))
    shared = Entries(environments=entries.environments, required=entries.required)
    for root, there in above:
        base = (bases or {}).get(root, there) if layout.fresh else there
        top = edit_text(base, lambda data: write_entries(data, shared, catalog))
        edits.append(FileEdit(root, there, top.text))
        notes = (*notes, *top.notes)
    return Configured(edits=tuple(edits), layout=layout, entries=entries, notes=tuple(dict.fromkeys(notes)))


def _for_all(root: ProjectView) -> ProjectView:
    """A workspace's root with the sources that hold for every member: none of its own extras and groups."""
    found = {name: [row for row in rows if scope_in(row) == ALWAYS] for name, rows in root.sources.items()}
    sources = {name: rows for name, rows in found.items() if rows}
    return ProjectView({"tool": {"uv": {"index": root.uv.get("index", []), "sources": sources}}})


def _afresh(text: str, layout: Layout, catalog: Catalog) -> tuple[str, Layout, tuple[Message, ...]]:
    """A file without the layout that it has; what it has of the wanted one stays as it is written."""
    there = current_layout(project_view(text), catalog)
    if there is None:
        return text, layout, ()
    same = there.name == layout.name and layout.name != "markers"
    kept = tuple(item for item in there.kept if same and item.backend in layout.backends)
    stripped, wording = strip(text, tuple(item for item in there.kept if item not in kept), catalog)
    packages = dict.fromkeys((*layout.packages, *(name for name, _ in wording)))
    layout = structs.replace(layout, kept=kept, wording=wording, packages=tuple(packages))
    if kept:
        new = set(layout.backends) - {item.backend for item in kept}
        layout = structs.replace(layout, required=(), split=bool(new))
    return stripped.text, layout, stripped.notes


def _transitive(lockfile: Path, text: str, catalog: Catalog) -> set[str]:
    """Packages of the torch family that the lock has and the project does not require itself."""
    lock = read_lock(lockfile, project_view(text).name)
    family = {row.package for row in catalog.families if row.routed and not row.runtime_of}
    return set(lock.transitive() & family) if lock is not None else set()


def _verified(plan: Configured, lockfile: Path, catalog: Catalog) -> Configured:
    """The plan with what its lock holds."""
    view = project_view(plan.text)
    lock = read_lock(lockfile, view.name)
    if lock is None:
        return plan
    builds = verify_lock(lock, plan.entries, view, catalog, plan.layout.kept)
    notes = uv_command_notes(builds, plan.entries, view, catalog)
    return structs.replace(plan, builds=builds, notes=(*plan.notes, *notes))


def _write(plan: Configured) -> None:
    for edit in reversed(plan.edits):  # the root first: a member may need what stands there
        if not edit.path.exists() or read_text(edit.path) != edit.after:
            write_file(edit.path, edit.after)


@contextlib.contextmanager
def restored_on_error(paths: tuple[Path, ...], notes: tuple[Message, ...] = ()) -> Iterator[None]:
    """Put files back as they were where anything goes wrong, Ctrl-C included."""
    saved = {path: path.read_bytes() if path.exists() else None for path in paths}
    try:
        yield
    except BaseException as error:
        for path, data in saved.items():
            if data is None:
                path.unlink(missing_ok=True)
            elif not path.exists() or path.read_bytes() != data:
                write_file(path, data)
        if isinstance(error, TorchInstallError):
            kept = (note.message for note in notes if note.slug == "environments-kept")
            error.hints = (*error.hints, *kept)
        raise
