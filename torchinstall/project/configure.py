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
from torchinstall.project.edit import edit_text
from torchinstall.project.entries import project_entries
from torchinstall.project.files import read_text
from torchinstall.project.foreign import Foreign, read_requirements
from torchinstall.project.layouts import current_layout
from torchinstall.project.lock import LockedBuild, read_lock, uv_command_notes, verify_lock
from torchinstall.project.migrate import check_spelled, migrate_text, recognise
from torchinstall.project.model import ALWAYS, Entries, Layout
from torchinstall.project.pyproject import (
    ProjectView,
    below,
    check_uv,
    metadata,
    project_view,
    scope_in,
    with_metadata,
    workspace_root,
)
from torchinstall.project.undo import Memory, strip, written_here
from torchinstall.project.write import write_entries

Locker = Callable[[Path], None]
"""Locks the project in a folder, or resolves a script there, or raises."""

_ROUNDS = 3
"""Each round makes packages direct that the lock showed to be only transitive."""


class ProjectChange(Struct, frozen=True, kw_only=True):
    """What to make of a project.

    Attributes:
        layout_of: the layout for what the file says (after migration); None: take out what configure wrote.
        chosen: the user says which builds the project shall have, whatever was chosen in it.
        migrate: rewrite older ways first; makes a project file of `requirements.txt` where there is none.
        index_base: for pins that name a build and no index.
        script: has its own metadata (PEP 723), which are a project file without extras and groups.
        python: the lowest version that new metadata ask for.
    """

    layout_of: Callable[[ProjectView], Layout] | None
    chosen: bool = True
    migrate: bool = False
    index_base: str = DEFAULT_INDEX_BASE
    script: Path | None = None
    python: str = ""


class FileEdit(Struct, frozen=True):
    """A project file or a script before (empty: there is none) and after.

    `base`: before, without what configure had written into it; None where that is not remembered.
    """

    path: Path
    before: str
    after: str
    base: str | None = None

    def toml(self, text: str, python: str = "") -> str:
        """A text of it as that of a project file."""
        return text if self.path.name == "pyproject.toml" else metadata(text, python)

    def bring(self, toml: str) -> FileEdit:
        """The file with another text as a project file."""
        if self.path.name != "pyproject.toml":
            toml = with_metadata(self.before, toml) if toml != metadata(self.before) else self.before
        return structs.replace(self, after=toml)


class Configured(Struct, frozen=True, kw_only=True):
    """What was (or, in a dry run, would be) done; `builds` is empty where nothing was locked.

    Of a member of a workspace, the second of the edits is that of the root.
    """

    edits: tuple[FileEdit, ...]
    layout: Layout
    entries: Entries
    notes: tuple[Message, ...]
    builds: tuple[LockedBuild, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether any file differs."""
        return any(edit.before != edit.after for edit in self.edits)

    @property
    def text(self) -> str:
        """The project file afterwards; as it was where it says all of the layout already."""
        return self.edits[0].toml(self.edits[0].after)


def _files_of(
    directory: Path, memory: Memory, script: Path | None, *, may_be_missing: bool = False
) -> tuple[tuple[FileEdit, ...], Path]:
    """The files to edit, and the lock that goes with them."""
    path, root = directory / "pyproject.toml", workspace_root(directory)
    paths = [path] if root == real_path(directory) else [path, root / "pyproject.toml"]
    lock = root / "uv.lock"
    if script is not None:
        paths, lock = [script], script.with_name(script.name + ".lock")
    missing = may_be_missing and not path.exists() and (directory / "requirements.txt").is_file()
    texts = {item: "" if missing and item == path else read_text(item) for item in paths}
    return tuple(FileEdit(item, text, text, memory.before(item, text)) for item, text in texts.items()), lock


def configure(
    directory: Path,
    change: ProjectChange,
    catalog: Catalog,
    *,
    dry_run: bool = False,
    lock: Locker | None = None,
    memory: Memory = Memory(),  # noqa: B008  # a frozen value
    env: Mapping[str, str] | None = None,
) -> Configured:
    """Change a project (or a script in the folder) and check what uv makes of it.

    Nothing is locked without `lock`; `env` is for variables in requirements files.

    Raises:
        UsageError: no project, not TOML, or something in it stands in the way.
        NoCompatibleBuildError: its bounds rule out every build.
        InstallFailedError: uv cannot resolve it; the files are as they were.
        VerifyFailedError: `lock-wrong-build`: a platform would get another build; the files are as they were.
    """
    files, lockfile = _files_of(directory, memory, change.script, may_be_missing=change.migrate)
    text = files[0].toml(files[0].before)
    known = _transitive(lockfile, text, catalog)
    base = text if files[0].base is None else files[0].toml(files[0].base)

    def requirements(there: str, *, strict: bool) -> Foreign:
        view = project_view(there)
        return read_requirements(directory, view, catalog, change.index_base, env or {}, strict=strict)

    more = requirements(text, strict=change.migrate), requirements(base, strict=False)

    def edited(*, split: bool = False) -> Configured:
        return edit_files(files, change, catalog, more, packages=tuple(sorted(known)), split=split)

    def locked(plan: Configured, lock: Locker) -> Configured:
        for _ in range(_ROUNDS):
            lock(directory)
            missing = _transitive(lockfile, plan.text, catalog) - set(plan.layout.packages)
            if not missing or change.layout_of is None:
                break
            known.update(missing)
            plan = edited()
            _write(plan)
        try:
            return _verified(plan, lockfile, catalog)
        except VerifyFailedError:
            apart = edited(split=True)  # uv may let the index of an extra leak to other platforms
            if apart.edits == plan.edits:
                raise
            _write(apart)
            lock(directory)
            return _verified(apart, lockfile, catalog)

    plan = edited()
    if dry_run:
        return plan
    with _restored_on_error((*(file.path for file in files), lockfile), change, plan.notes):
        _write(plan)
        plan = locked(plan, lock) if lock is not None else plan
        _remember(plan, change, memory)
    return plan


def _remember(plan: Configured, change: ProjectChange, memory: Memory) -> None:
    for edit in plan.edits:
        if change.layout_of is None:
            memory.remember(edit.path, edit.after, edit.after)
        elif edit.before and (edit.before != edit.after or not memory.knows(edit.path)):
            memory.remember(edit.path, edit.before if edit.base is None else edit.base, edit.after)


def _without(files: tuple[FileEdit, ...], catalog: Catalog) -> Configured:
    """What is left without what `configure` wrote; where nothing is remembered, without any choice."""
    edits = [file if file.base is None else structs.replace(file, after=file.base) for file in files]
    notes = tuple[Message, ...]()
    if files[0].base is None or not any(edit.after != edit.before for edit in edits):
        text = files[0].toml(files[0].before)
        # A run here that changed nothing makes it a person's file, but for what only configure writes.
        ours = written_here(project_view(text), catalog, plainly=files[0].base is not None)
        if not ours:
            script = f" --script {files[0].path.name}" if files[0].path.name != "pyproject.toml" else ""
            raise UsageError(
                "nothing-to-remove",
                "nothing in this project that chooses a build of torch is from configure",
                wanted="entries that configure wrote",
                found="entries that a person wrote, or none",
                hints=(f"torchinstall configure{script} --dry-run shows what it would write",),
            )
        stripped, _ = strip(text, ours, catalog)
        kept = Message(
            slug="not-remembered",
            message="what configure wrote here is not remembered on this machine, so what chooses a build "
            "was taken out, and the requirements in project.dependencies stay",
        )
        edits[0], notes = files[0].bring(stripped.text), (*stripped.notes, kept)
    return Configured(edits=tuple(edits), layout=Layout(name="this-machine"), entries=Entries(), notes=notes)


def edit_files(
    files: tuple[FileEdit, ...],
    change: ProjectChange,
    catalog: Catalog,
    more: tuple[Foreign, Foreign] = (Foreign(), Foreign()),  # only read
    *,
    packages: tuple[str, ...] = (),
    split: bool = False,
) -> Configured:
    """Write a layout into the text of a project file, or take it out. Pure.

    Args:
        files: the project file and, for a member of a workspace, the root's, whose indexes a member may name
            and which holds what uv reads only there.
        change: to make.
        catalog: what is published.
        more: what requirements files say to the project, and said before configure wrote into it.
        packages: to require besides those of the layout.
        split: resolve platforms with different sources apart, whatever the layout says.

    Raises:
        UsageError: the file is not TOML, must be migrated first, or says something that stands in the way;
            `nothing-to-remove`.
        NoCompatibleBuildError: its version bounds rule out every build of a backend.
    """
    if change.layout_of is None:
        return _without(files, catalog)
    file, *above = files
    text = moved = file.toml(file.before, change.python)
    check_spelled(project_view(text), catalog)
    if change.migrate:
        migrated = migrate_text(text, catalog, change.index_base, more[0])
        if migrated.error is not None and not change.chosen:
            raise migrated.error
        text, moved, notes = migrated.text, migrated.moved, migrated.notes
    else:
        notes = recognise(project_view(text), catalog, more[0]).accept(chosen=change.chosen)
    roots = tuple(_for_all(project_view(root.before)) for root in above)
    layout = change.layout_of(below(project_view(text), *roots))
    if text != moved and not layout.kept:
        # Another choice was asked for than the one that was found.
        text = moved
        layout = change.layout_of(below(project_view(text), *roots))
    wider = tuple(dict.fromkeys((*layout.packages, *packages)))
    layout = structs.replace(layout, packages=wider, split=layout.split or split)
    if change.script is not None:
        layout = _of_script(layout, change.script)
    if layout.offers_choice and not layout.kept and not project_view(text).project:
        raise UsageError(
            "not-supported",
            f"a file without [project] cannot have {layout.name} that exclude each other",
            wanted="a project with a name",
            found="no table [project]",
            hints=("torchinstall configure --layout markers", "write [project] with a name and a version"),
        )
    if layout.replaces:
        base = file.toml(file.base, change.python) if file.base else text
        was = recognise(project_view(base), catalog, more[1])
        if was.blocking or was.unread:
            again = migrate_text(text, catalog, change.index_base, more[0])
            if again.moved == text:  # it was migrated before, too
                base = migrate_text(base, catalog, change.index_base, more[1]).text
        text, layout, told = _afresh(base, layout, catalog)
        notes = (*notes, *told)
    entries = ours = project_entries(layout, below(project_view(text), *roots), catalog)
    if above:
        ours = structs.replace(entries, environments=(), required=())
    done = edit_text(text, lambda data: write_entries(data, ours, catalog, roots))
    edits = [file.bring(done.text)]
    notes = (*notes, *done.notes, *check_uv(project_view(done.text).uv, catalog))
    shared = Entries(environments=entries.environments, required=entries.required)
    for root in above:
        base = root.base if layout.replaces and root.base is not None else root.before
        top = edit_text(base, lambda data: write_entries(data, shared, catalog))
        edits.append(root.bring(top.text))
        notes = (*notes, *top.notes)
    return Configured(edits=tuple(edits), layout=layout, entries=entries, notes=tuple(dict.fromkeys(notes)))


def _of_script(layout: Layout, script: Path) -> Layout:
    """A layout for a script, which has no extras, no groups, and no lock for other platforms."""
    if layout.offers_choice:
        raise UsageError(
            "script-has-one-build",
            f"a script has no {layout.name}, so it cannot offer a choice between builds",
            wanted="the layout this-machine or markers",
            found=layout.name,
            hints=(f"torchinstall configure --script {script.name} --on linux=cu130",),
        )
    return structs.replace(layout, required=())


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
    family = {row.package for row in catalog.families if row.routed_when_asked}
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
def _restored_on_error(
    paths: tuple[Path, ...], change: ProjectChange, notes: tuple[Message, ...]
) -> Iterator[None]:
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
        if isinstance(error, InstallFailedError) and change.layout_of is None:
            # As it was before, uv could not resolve it either.
            error.hints = ("torchinstall configure --remove --no-lock", *error.hints)
        raise
