"""`torchinstall configure`: write index, sources and extras or groups into a project, and check the lock."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from msgspec import structs, to_builtins
from packaging.utils import InvalidName, canonicalize_name

from torchinstall.catalog.catalog import Catalog
from torchinstall.cli.console import Session, envelope
from torchinstall.cli.sync import Project, ProjectOptions, open_project, project_plan
from torchinstall.cli.verb import Argument, Verb
from torchinstall.core.errors import InstallFailedError, UsageError
from torchinstall.core.plan import Plan
from torchinstall.core.request import DEFAULT_INDEX_BASE, Channel
from torchinstall.planning.inputs import catalog_of
from torchinstall.planning.request import backend_called, package_meant
from torchinstall.project.configure import Configured, Locker, ProjectChange, configure
from torchinstall.project.files import read_text, unified_diff
from torchinstall.project.layouts import DEFAULT_INDEX, layout_for
from torchinstall.project.lock import lock_project
from torchinstall.project.model import ALWAYS, PLATFORMS, Layout, LayoutName
from torchinstall.project.pyproject import ProjectView, metadata, project_view
from torchinstall.project.undo import Memory

_NEWS = frozenset({"migrated", "default-group", "later-companions", "bare-uv-run-drops-extra"})
"""Notes that are no warnings: what was done, and what holds from now on."""


class _ConfigureOptions(ProjectOptions, frozen=True, kw_only=True):
    reqs: tuple[str, ...] = ()
    layout: LayoutName | None = None
    with_: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    on: tuple[str, ...] = ()
    default_backend: str | None = None
    require_platform: tuple[str, ...] = ()
    migrate: bool = False
    remove: bool = False
    script: str | None = None
    lock: bool = True
    channel: Channel = "stable"
    index_base: str = DEFAULT_INDEX_BASE
    refresh: bool = False
    allow_insecure_host: tuple[str, ...] = ()


def run(session: Session, options: _ConfigureOptions) -> int:
    """Plan, edit, lock, check; stdout says what each platform gets, or shows the diff."""
    context, catalog, dry_run = session.context, catalog_of(session.context), options.dry_run
    script = context.path(options.script) if options.script is not None else None
    if script is None:
        version, missing = options.python_version, options.migrate
        project = open_project(context, options.project, version, may_be_missing=missing)
    else:
        view = project_view(metadata(read_text(script)), f"the metadata in {script.name}")
        python = options.python_version or next(iter(view.pythons), context.python_version)
        project = Project(script.parent, view, python)
    cache = context.cache_dir
    memory = Memory(cache / "projects" if cache is not None else None)
    lock = _locker(session, options, script) if options.lock and not dry_run else None
    plan, change = None, ProjectChange(layout_of=None)
    if not options.remove:
        path = script or project.folder / "pyproject.toml"
        base = memory.before(path, read_text(path)) if _chosen(options) and path.exists() else None
        view = project.view if base is None else project_view(metadata(base) if script else base)
        prepared = project_plan(session, options, project, _requirements(view, catalog, options.reqs))
        plan, catalog = prepared.plan, prepared.catalog
        change = _change(options, plan, catalog)
    change = structs.replace(change, script=script, python=project.python)
    folder, env = project.folder, context.env
    done = configure(folder, change, catalog, dry_run=dry_run, lock=lock, memory=memory, env=env)
    return _report(session, options, done, plan, folder)


def _requirements(view: ProjectView, catalog: Catalog, reqs: tuple[str, ...] = ()) -> tuple[str, ...]:
    """What the plan must keep to: torch and its companions with the project's own bounds.

    Pins that name a build are left out: they say what is to be replaced. So is a package that is built
    against torch and has a source already, unless it is asked for.
    """
    found = {"torch": "torch"}
    named = {_package(name, catalog): name for name in reqs}
    found |= {package: name for package, name in named.items() if catalog.companion_builds(package)}
    for item in view.listed:
        family, specifier = catalog.family(item.package), str(item.requirement.specifier)
        ours = family is not None and family.routed_when_asked
        ours = ours or (item.package not in view.sources and bool(catalog.companion_builds(item.package)))
        plain = item.requirement.marker is None and not item.requirement.url and "+" not in specifier
        if ours and plain and item.scope == ALWAYS:
            found[item.package] = item.package + specifier
    return tuple(found.values())


def _change(options: _ConfigureOptions, plan: Plan, catalog: Catalog) -> ProjectChange:
    """What was asked for; what was not asked for stays as the file has it, unless a backend was named."""
    asked = Layout(
        name=options.layout or "this-machine",
        backends=tuple(_backend("--with ", name, catalog) for name in options.with_),
        on=tuple((at, _backend(f"--on {at}=", name, catalog)) for at, name in map(parse_on, options.on)),
        default=_backend("--default ", options.default_backend, catalog) if options.default_backend else None,
        packages=tuple(_package(name, catalog) for name in options.reqs),
        required=_required(options.require_platform),
        index_base=options.index_base,
    )
    without = tuple(_backend("--without ", name, catalog) for name in options.without)
    chosen, named, planned = _chosen(options), options.layout is not None, options.is_set("backend")

    def layout_of(view: ProjectView) -> Layout:
        return layout_for(view, asked, plan, catalog, without=without, named=named, planned=planned)

    # A script has no older ways to keep: nothing but uv reads its metadata.
    migrate = options.migrate or options.script is not None
    return ProjectChange(layout_of=layout_of, chosen=chosen, migrate=migrate, index_base=options.index_base)


def _backend(flag: str, name: str, catalog: Catalog) -> str:
    """A backend as the tables call it; the default index as it is, but it is not added to others."""
    if name == DEFAULT_INDEX and flag != "--with ":
        return name
    return backend_called(name, flag.strip(" ="), catalog, flag)


def _chosen(options: _ConfigureOptions) -> bool:
    """Whether the user says anew which builds the project has."""
    asked = (options.layout, options.with_, options.without, options.on, options.default_backend)
    return any(asked) or options.is_set("backend")


def parse_on(text: str) -> tuple[str, str]:
    """`linux-aarch64=cu130` as (`linux_aarch64`, `cu130`); `linux`, `windows` and `macos` are short names.

    Raises:
        UsageError: `bad-platform`.
    """
    name, equals, backend = (part.strip() for part in text.partition("="))
    short = {"linux": "linux_x86_64", "windows": "win_amd64", "macos": "macos_arm64"}
    key = name.replace("-", "_")
    platform = short.get(key, key)
    macos = platform.startswith("macos") and backend != DEFAULT_INDEX
    if not (equals and backend) or platform not in PLATFORMS or macos:
        raise UsageError(
            "bad-platform",
            f"{text!r} is not a platform and its backend",
            wanted="PLATFORM=BACKEND with " + ", ".join(PLATFORMS[:3]) + "; macOS takes the default index",
            found=text,
            hints=("--on linux_aarch64=cu130", "--on windows=default"),
        )
    return platform, backend


def _required(names: tuple[str, ...]) -> tuple[str, ...] | None:
    """The platforms of `--require-platform`; `none` alone: no platform; empty: nobody said."""
    if names == ("none",):
        return ()
    for name in names:
        if name not in PLATFORMS:
            raise UsageError(
                "bad-platform",
                f"{name!r} is not a platform",
                wanted=", ".join(PLATFORMS),
                found=name,
                hints=("--require-platform linux_x86_64", "--require-platform none"),
            )
    return names or None


def _package(name: str, catalog: Catalog) -> str:
    meant = package_meant(name, catalog)
    if meant is None:
        with contextlib.suppress(InvalidName):
            return canonicalize_name(name, validate=True)
    otherwise = (f"uv add {name!r}", "then: torchinstall configure")
    raise UsageError(
        "bad-package",
        f"{name!r} is not the plain name of a package",
        wanted=meant or "a name such as torchvision",
        found=name,
        hints=(f"torchinstall configure {meant}",) if meant else otherwise,
    )


def _locker(session: Session, options: _ConfigureOptions, script: Path | None = None) -> Locker:
    uv = session.context.find_uv(session.context.env)

    def lock(folder: Path) -> None:
        session.console.working("uv lock" if script is None else f"uv lock --script {script.name}")
        root = folder if script is None else script.parent
        try:
            lock_project(uv.path, root, session.context.env, offline=options.offline, script=script)
        except InstallFailedError as error:
            gone = re.search(r"([\w.-]+) was not found in the package registry", error.found or "")
            if gone and (meant := package_meant(gone[1], catalog_of(session.context), guess=True)):
                error.hints = (f"write {meant} in place of {gone[1]}", *error.hints)
            raise

    return lock


def _report(
    session: Session, options: _ConfigureOptions, done: Configured, plan: Plan | None, folder: Path
) -> int:
    console = session.console
    for note in done.notes:
        if note.slug in _NEWS:
            console.say(f"note: {note.message}")
        else:
            console.warn(note.slug, note.message)
    paths = [edit.path for edit in done.edits]
    inside = {path: path.relative_to(folder) for path in paths if path.is_relative_to(folder)}
    names = {path: inside[path].as_posix() if path in inside else str(path) for path in paths}
    diffs = {names[edit.path]: unified_diff(edit.before, edit.after, names[edit.path]) for edit in done.edits}
    builds = [
        {
            "package": build.package,
            "platform": build.platform,
            "select": {build.scope.kind: build.scope.name} if build.scope != ALWAYS else None,
            "version": build.installable.version if build.installable else None,
            "index_url": build.installable.url if build.installable else None,
        }
        for build in done.builds
    ]
    status = "unchanged" if not done.changed else "dry-run" if options.dry_run else "configured"
    data = envelope(
        status,
        layout=done.layout.name,
        backends=list(done.layout.backends),
        packages=list(done.layout.packages),
        files=[{"path": name, "diff": diff} for name, diff in diffs.items()],
        builds=builds,
        warnings=to_builtins(done.notes),
        planned=plan.backend if plan is not None else None,
    )
    text = "".join(diffs.values()).rstrip("\n") or "nothing to change"
    console.answer(data, text if options.dry_run else _text(done, " and ".join(names.values())))
    return 0


def _text(done: Configured, files: str) -> str:
    """What was written, then a table of what each platform gets."""
    lines = [f"{files}: " + (f"layout {done.layout.name}" if done.changed else "nothing to change")]
    if not done.layout.backends:
        lines.append("torch comes from the default index here; no other index is needed")
    rows: dict[str, list[str]] = {}
    for build in done.builds:
        if build.installable is not None:
            choice = f"{build.scope.text:<16}  " if build.scope != ALWAYS else ""
            row = rows.setdefault(f"{choice}{build.platform:<14}", [])
            row.append(f"{build.package} {build.installable.version}")
    return "\n".join([*lines, *(f"  {key}  {', '.join(items)}" for key, items in rows.items())])


VERB = Verb(
    "configure",
    run,
    _ConfigureOptions,
    Argument(
        "reqs", "[PACKAGE]...", "Packages to route and require besides torch and those that the project has."
    ),
    more="Index, sources, extras or groups, and uv's lock. It keeps everything that you wrote; if "
    "something conflicts with it, it stops and says what.",
    examples="""
    torchinstall configure  # the build for this machine, in this project
    torchinstall configure --layout groups --with cpu --with cu130  # CI without GPUs, one lock
    torchinstall configure --on linux=cu130 --on windows=cu126 --dry-run  # a backend per platform
""",
)
