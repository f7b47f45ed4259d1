"""Configure a project or a script on disk: edit, let uv lock, verify the lock, or restore everything."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from msgspec import Struct, structs

from torchinstall.catalog.catalog import Catalog
from torchinstall.core.errors import TorchInstallError, UsageError, VerifyFailedError
from torchinstall.core.files import real_path, write_file
from torchinstall.core.messages import Message
from torchinstall.core.request import DEFAULT_INDEX_BASE
from torchinstall.project.checks import check_uv
from torchinstall.project.edit import edit_text, write_entries
from torchinstall.project.entries import project_entries
from torchinstall.project.files import read_text, write_atomically
from torchinstall.project.foreign import Foreign, read_requirements
from torchinstall.project.layouts import current_layout
from torchinstall.project.lock import Build, read_lock, uv_command_notes, verify_lock
from torchinstall.project.migrate import Legacy, Migrated, migrate_text, recognise
from torchinstall.project.model import ALWAYS, Choice, Entries, Layout
from torchinstall.project.pyproject import ProjectView, project_view, workspace_root
from torchinstall.project.undo import Memory, strip

Locker = Callable[[Path], None]
"""Locks the project in a folder, or resolves a script, or raises."""

LayoutOf = Callable[[ProjectView, Legacy], Layout]
"""The layout for what a file says (after migration) and for what was recognised in it."""

_ROUNDS = 3
"""Each round makes packages direct that the lock showed to be only transitive."""

_BLOCK = re.compile(r"(?m)^# /// script\r?$\n(?P<lines>(?:^#(?:| .*)\r?$\n)+?)^# ///\r?$\n?")
_HEAD = "[project]\n"
"""The keys of a script stand at the top of its metadata; in a project file they are those of this table."""


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
    more = read_requirements(directory, project_view(text), catalog, index_base, env or {}, strict=migrate)

    def edited(*, split: bool = False) -> Configured:
        def wider(view: ProjectView, legacy: Legacy) -> Layout:
            layout = layout_of(view, legacy)
            packages = tuple(dict.fromkeys((*layout.packages, *sorted(known))))
            return structs.replace(layout, packages=packages, split=layout.split or split)

        return configure_texts(
            files.texts, wider, catalog, migrate=migrate, index_base=index_base, bases=files.bases, more=more
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
        InstallFailedError: uv cannot resolve what is left; the files are as they were.
    """
    files = _files_of(directory, memory)
    path, text = next(iter(files.texts.items()))
    after, notes = dict(files.bases), tuple[Message, ...]()
    if path not in after or all(after.get(item, there) == there for item, there in files.texts.items()):
        current = current_layout(project_view(text), catalog) if path not in after else None
        ours = tuple(item for item in current.kept if _may_be_ours(item)) if current is not None else ()
        if not ours:
            raise UsageError(
                "nothing-to-remove",
                "nothing in this project that chooses a build of torch is from configure",
                wanted="entries that configure wrote",
                found="entries that a person wrote, or none",
                hints=("torchinstall configure --dry-run shows what it would write",),
            )
        stripped, told, _ = strip(text, ours, catalog)
        kept = Message(
            slug="not-remembered",
            message="what configure wrote here is not remembered on this machine, so what chooses a build "
            "was taken out, and the requirements in project.dependencies stay",
        )
        after[path], notes = stripped, (*told, kept)
    edits = tuple(FileEdit(item, text, after.get(item, text)) for item, text in files.texts.items())
    plan = Configured(edits=edits, layout=Layout(name="this-machine"), entries=Entries(), notes=notes)
    if not dry_run:
        with restored_on_error((*files.texts, files.lock)):
            _write(plan)
            if lock is not None:
                lock(directory)
        for edit in plan.edits:
            memory.remember(edit.path, edit.after, edit.after)
    return plan


def _may_be_ours(item: Choice) -> bool:
    """Whether configure would call an index and an extra or group so; other names are a person's."""
    return item.index.startswith("pytorch-") and (item.scope == ALWAYS or item.scope.name == item.backend)


def configure_texts(
    texts: Mapping[Path, str],
    layout_of: LayoutOf,
    catalog: Catalog,
    *,
    migrate: bool = False,
    index_base: str = DEFAULT_INDEX_BASE,
    bases: Mapping[Path, str] | None = None,
    more: Foreign | None = None,
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
        more: what the project's requirements files say.

    Raises:
        UsageError: the file is not TOML, must be migrated first, or says something that stands in the way.
        NoCompatibleBuildError: its version bounds rule out every build of a backend.
    """
    (path, before), *above = texts.items()
    migrated, legacy = Migrated(moved=before, text=before), Legacy()
    if migrate:
        migrated = migrate_text(before, catalog, index_base, more)
        legacy = Legacy(error=migrated.error)
    else:
        legacy = recognise(project_view(before), catalog, more)
    text, view = migrated.text, project_view(migrated.text)
    layout = layout_of(view, legacy)
    if migrated.text != migrated.moved and not layout.kept:
        # Another choice was asked for than the one that was found.
        text, view = migrated.moved, project_view(migrated.moved)
        layout = layout_of(view, Legacy())
    notes = (*migrated.notes, *legacy.accept())
    if layout.fresh:
        base = (bases or {}).get(path) or text
        older = recognise(project_view(base), catalog)
        if older.blocking or older.unread:  # it was migrated before, too
            base = migrate_text(base, catalog, index_base).text
        text, layout, told = _afresh(base, layout, catalog)
        view, notes = project_view(text), (*notes, *told)
    entries = ours = project_entries(layout, view, catalog)
    inherited = tuple(index for _, there in above for index in project_view(there).indexes)
    if above:
        ours = structs.replace(entries, environments=(), required=())
    done = edit_text(text, lambda document: write_entries(document, ours, catalog, inherited))
    edits = [FileEdit(path, before, done.text)]
    notes = (*notes, *done.notes, *check_uv(project_view(done.text).uv, catalog))
    shared = Entries(environments=entries.environments, required=entries.required)
    for root, there in above:
        base = (bases or {}).get(root, there) if layout.fresh else there
        top = edit_text(base, lambda document: write_entries(document, shared, catalog))
        edits.append(FileEdit(root, there, top.text))
        notes = (*notes, *top.notes)
    return Configured(edits=tuple(edits), layout=layout, entries=entries, notes=tuple(dict.fromkeys(notes)))


def _afresh(text: str, layout: Layout, catalog: Catalog) -> tuple[str, Layout, tuple[Message, ...]]:
    """A file without the layout that it has; what it has of the wanted one stays as it is written."""
    there = current_layout(project_view(text), catalog)
    if there is None:
        return text, layout, ()
    same = there.name == layout.name and layout.name != "markers"
    kept = tuple(item for item in there.kept if same and item.backend in layout.backends)
    text, notes, wording = strip(text, tuple(item for item in there.kept if item not in kept), catalog)
    packages = dict.fromkeys((*layout.packages, *(name for name, _ in wording)))
    layout = structs.replace(layout, kept=kept, wording=wording, packages=tuple(packages))
    if kept:
        new = set(layout.backends) - {item.backend for item in kept}
        layout = structs.replace(layout, required=(), split=bool(new))
    return text, layout, notes


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
    builds = verify_lock(lock, plan.entries, view, catalog, plan.layout.kept)
    notes = uv_command_notes(builds, plan.entries, view, catalog)
    return structs.replace(plan, builds=builds, notes=(*plan.notes, *notes))


def _write(plan: Configured) -> None:
    for edit in reversed(plan.edits):  # the root first: a member may need what stands there
        if not edit.path.exists() or read_text(edit.path) != edit.after:
            write_atomically(edit.path, edit.after)


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


def metadata(text: str) -> str:
    """The inline metadata of a script (PEP 723) as a project file; the bare table where there is none."""
    found = _BLOCK.search(text)
    lines = found["lines"].splitlines() if found else []
    return _HEAD + "".join(line[2:] + "\n" for line in lines)


def _with_metadata(text: str, toml: str) -> str:
    """The script with other metadata; new metadata goes below the line that names the interpreter."""
    end = "\r\n" if "\r\n" in text else "\n"
    lines = [f"# {line}".rstrip() for line in toml.removeprefix(_HEAD).rstrip("\n").splitlines()]
    block = end.join(["# /// script", *lines, "# ///", ""])
    found = _BLOCK.search(text)
    if found:
        return text[: found.start()] + block + text[found.end() :]
    first = re.match(r"(?:#!.*\n)?(?:#.*coding[:=].*\n)?", text)
    at = first.end() if first else 0
    return text[:at] + block + end + text[at:]


def configure_script(
    path: Path,
    layout_of: LayoutOf,
    catalog: Catalog,
    *,
    python: str,
    dry_run: bool = False,
    lock: Locker | None = None,
    index_base: str = DEFAULT_INDEX_BASE,
) -> Configured:
    """Write a layout into a script's metadata; a script has no extras and no groups.

    `python` is the lowest version that new metadata ask for; the rest is as for a project.

    Raises:
        UsageError: no such file, its metadata are not TOML, or `script-has-one-build`.
        InstallFailedError: uv cannot resolve it; the file is as it was.
    """
    text = read_text(path)
    before = metadata(text)
    if before == _HEAD:
        before += f'requires-python = ">={python}"\ndependencies = []\n'

    def make(view: ProjectView, legacy: Legacy) -> Layout:
        layout = layout_of(view, legacy)
        if layout.offers_choice:
            raise UsageError(
                "script-has-one-build",
                f"a script has no {layout.name}, so it cannot offer a choice between builds",
                wanted="the layout this-machine or markers",
                found=layout.name,
                hints=(f"torchinstall configure --script {path.name} --on linux=cu130",),
            )
        return structs.replace(layout, required=())

    done = configure_texts({path: before}, make, catalog, migrate=True, index_base=index_base)
    after = _with_metadata(text, done.text) if done.text != metadata(text) else text
    plan = structs.replace(done, edits=(FileEdit(path, text, after),))
    if not dry_run and after != text:
        with restored_on_error((path, path.with_name(path.name + ".lock"))):
            write_atomically(path, after)
            if lock is not None:
                lock(path)
    return plan
