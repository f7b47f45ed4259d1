"""`torchinstall configure`: write index, sources and extras or groups into a project, and check the lock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchinstall.cli.console import Session, envelope
from torchinstall.cli.project_text import builds_rows, configured_text
from torchinstall.cli.projecting import ProjectOptions, project_folder, project_plan, project_python
from torchinstall.cli.verb import Argument, Verb
from torchinstall.core.request import Channel
from torchinstall.planning.assemble import catalog_of
from torchinstall.planning.options import PlanOptions
from torchinstall.project.model import LayoutName

if TYPE_CHECKING:
    from pathlib import Path

    from torchinstall.catalog.catalog import Catalog
    from torchinstall.core.plan import Plan
    from torchinstall.core.request import Requirement
    from torchinstall.project.configure import Configured, LayoutOf, Locker
    from torchinstall.project.migrate import Legacy
    from torchinstall.project.pyproject import ProjectView

__all__ = ["VERB"]


class ConfigureOptions(ProjectOptions, frozen=True, kw_only=True):
    """The options of `configure`."""

    reqs: tuple[str, ...] = ()
    layout: LayoutName | None = None
    with_: tuple[str, ...] = ()
    on: tuple[str, ...] = ()
    default_backend: str | None = None
    require_platform: tuple[str, ...] = ()
    migrate: bool = False
    lock: bool = True
    channel: Channel = "stable"
    index_base: str = PlanOptions().index_base
    refresh: bool = False
    allow_insecure_host: tuple[str, ...] = ()
    json: bool = False


_NEWS = frozenset({"migrated", "default-group", "later-companions", "bare-uv-run-drops-extra"})
"""Notes that are no warnings: what was done, and what holds from now on."""


def run(session: Session, options: ConfigureOptions) -> int:
    """Plan, edit, lock, check; stdout says what each platform gets, or shows the diff."""
    from torchinstall.project.configure import configure
    from torchinstall.project.files import read_text
    from torchinstall.project.pyproject import project_view

    folder = project_folder(session.context, options.project)
    view = project_view(read_text(folder / "pyproject.toml"))
    python = project_python(folder, view, options.python_version, session.context.python_version)
    made = project_plan(session, options, python, _requirements(view, catalog_of(session.context)))
    dry = options.dry_run
    done = configure(
        folder,
        _layout_of(options, made.plan, made.catalog),
        made.catalog,
        migrate=options.migrate,
        dry_run=dry,
        lock=_locker(session, options) if options.lock and not dry else None,
    )
    _report(session, options, done, made.plan, folder)
    return 0


def _requirements(view: ProjectView, catalog: Catalog) -> tuple[Requirement, ...]:
    """What the plan must keep to: torch and its companions with the project's own bounds.

    Pins that name a build are left out: they say what is to be replaced.
    """
    from torchinstall.core.request import requirement

    found = {"torch": requirement("torch")}
    for item in view.listed:
        family = catalog.family(item.package)
        plain = item.requirement.marker is None and not item.requirement.url
        if family is None or not family.routed or family.runtime_of or not plain:
            continue
        if item.scope.kind == "always" and "+" not in str(item.requirement.specifier):
            found[item.package] = requirement(f"{item.package}{item.requirement.specifier}")
    return tuple(found.values())


def _layout_of(options: ConfigureOptions, plan: Plan, catalog: Catalog) -> LayoutOf:
    from torchinstall.project.layouts import complete, current_layout, parse_on, parse_required
    from torchinstall.project.model import Layout

    required = parse_required(options.require_platform)
    asked_on = tuple(parse_on(text) for text in options.on)

    def make(view: ProjectView, legacy: Legacy) -> Layout:
        current = current_layout(view, catalog)
        name = options.layout
        backends, on, default = options.with_, asked_on, options.default_backend
        chosen = plan.backend if options.is_set("backend") else None
        if name is None and current is not None and chosen is None:
            name = current.name
            backends = backends or current.backends
            default = default or current.default
            on = on or current.on
        if on or (name is None and legacy.backends and not backends and chosen is None):
            name = name or "markers"
            on = on or legacy.backends
        layout = Layout(
            name=name or ("groups" if len(backends) > 1 else "this-machine"),
            backends=backends,
            on=on,
            default=default,
            packages=_packages(options),
            required=required,
            index_base=options.index_base,
        )
        return complete(layout, plan, catalog)

    return make


def _packages(options: ConfigureOptions) -> tuple[str, ...]:
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    from torchinstall.core.errors import UsageError

    found = []
    for text in options.reqs:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            requirement = None
        if requirement is None or str(requirement) != requirement.name:
            raise UsageError(
                "bad-package",
                f"{text!r} is not the plain name of a package",
                wanted="a name such as torchvision",
                found=text,
                hints=(f"uv add {text!r}", "then: torchinstall configure"),
            )
        found.append(str(canonicalize_name(requirement.name)))
    return tuple(found)


def _locker(session: Session, options: ConfigureOptions) -> Locker:
    from torchinstall.project.lock import lock_project

    uv = session.context.find_uv(session.context.env)

    def lock(folder: Path) -> None:
        session.console.say("uv lock")
        lock_project(uv.path, folder, session.context.env, offline=options.offline)

    return lock


def _report(session: Session, options: ConfigureOptions, done: Configured, plan: Plan, folder: Path) -> None:
    from torchinstall.project.files import unified_diff

    console = session.console
    for note in done.notes:
        if note.slug in _NEWS:
            console.say(f"note: {note.message}")
        else:
            console.warn(note.slug, note.message)
    names = {edit.path: _name(edit.path, folder) for edit in done.edits}
    diffs = {names[edit.path]: unified_diff(edit.before, edit.after, names[edit.path]) for edit in done.edits}
    dry = options.dry_run
    status = "unchanged" if not done.changed else "dry-run" if dry else "configured"
    if options.json:
        console.out_json(
            envelope(
                status,
                layout=done.layout.name,
                backends=list(done.layout.backends),
                packages=list(done.layout.packages),
                files=[{"path": name, "diff": diff} for name, diff in diffs.items()],
                builds=builds_rows(done.builds),
                warnings=[{"slug": note.slug, "message": note.message} for note in done.notes],
                planned=plan.backend,
            )
        )
        return
    if dry:
        console.out("".join(diffs.values()).rstrip("\n") or "nothing to change")
        return
    console.out(configured_text(status, done, tuple(names.values())))


def _name(path: Path, folder: Path) -> str:
    try:
        return path.relative_to(folder).as_posix()
    except ValueError:
        return str(path)


VERB = Verb(
    "configure",
    run,
    summary="Write the index, sources and extras or groups for PyTorch into a project, and check uv's lock.",
    more="Nothing that you wrote is undone: what stands in the way is an error that says so.",
    arguments=(
        Argument(
            name="reqs",
            metavar="[PACKAGE]...",
            help="Packages to route and require besides torch and those that the project has.",
            many=True,
        ),
    ),
    options=ConfigureOptions,
    examples=(
        ("torchinstall configure", "the build for this machine, in this project"),
        (
            "torchinstall configure --layout groups --with cpu --with cu130",
            "CPU on CI, CUDA on workstations, one lock",
        ),
        ("torchinstall configure --on linux=cu130 --on windows=cu126 --dry-run", "a backend per platform"),
    ),
)
