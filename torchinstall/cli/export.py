"""`torchinstall export` and `bundle`: the plan for other tools, and for machines without a network."""

from __future__ import annotations

from typing import ClassVar

from msgspec import structs, to_builtins

from torchinstall.cli.console import Session, envelope
from torchinstall.cli.sync import Project, open_project, project_folder
from torchinstall.cli.verb import REQS, Verb
from torchinstall.core.errors import NoCompatibleBuildError, UsageError
from torchinstall.core.files import make_folder, write_file
from torchinstall.core.machine import Machine
from torchinstall.core.messages import size_text
from torchinstall.core.plan import Plan
from torchinstall.export.containers import container_machine
from torchinstall.export.formats import CONTAINERS, FORMATS, LOCKED
from torchinstall.export.inputs import LockedProject, check_exportable, export_input, holds_credentials
from torchinstall.export.resolve import client_of, export_lock, files_of, resolve
from torchinstall.install.uv import Uv
from torchinstall.planning.assemble import prepare
from torchinstall.planning.context import Context, PlanOptions
from torchinstall.planning.inputs import Prepared, machine_of
from torchinstall.project.bundle import check_room, foreign_wheels, write_bundle
from torchinstall.project.choices import routed_in
from torchinstall.project.lock import read_lock
from torchinstall.project.pyproject import workspace_members, workspace_root
from torchinstall.project.sync import choose_locked


class FileOptions(PlanOptions, frozen=True, kw_only=True):
    """The options of a plan that is written down, for machines on which nothing is installed yet."""

    omit: ClassVar = frozenset({"upgrade", "dry_run"})
    upgrade: bool = True
    output: str | None = None


class _ExportOptions(FileOptions, frozen=True, kw_only=True):
    format: str | None = None
    project: str | None = None


def run(session: Session, options: _ExportOptions) -> int:
    """Plan and write; an impossible plan is raised."""
    console, context, name = session.console, session.context, options.format
    if name is None:
        meant = next((word for word in options.reqs if word in FORMATS), "requirements")
        raise UsageError(
            "no-format",
            "no format was named",
            wanted="--format " + "|".join(FORMATS),
            found="nothing",
            hints=(f"torchinstall export --format {meant}",),
        )
    project = None
    if name in LOCKED and not (options.reqs or options.requirement):
        project = _locked_project(context, options, needed=name in (*CONTAINERS, "github-actions"))
    if project is not None:
        # The lock decides, so no index is asked: the plan says only which of its builds fit.
        options = structs.replace(options, reqs=("torch",), python_version=project.python, offline=True)
    machine = container_machine(machine_of(context, options)) if name in CONTAINERS else None
    prepared, uv = prepare_files(session, options, machine, warn=project is None)
    if holds_credentials(prepared):
        console.warn(
            "credentials-left-out",
            "the URL of an index contains a password, which is not written to the file; give it to the tool "
            "in another way: netrc, a keyring, or variables such as UV_INDEX_<NAME>_PASSWORD",
        )
    lock = None if project is None else _lock(session, prepared, project)
    base = context.cwd if project is None else workspace_root(project.folder)

    def resolved() -> str:
        console.working(_resolving(prepared.plan))
        if lock is None:
            return resolve(context, prepared, uv)
        return export_lock(lock, uv, context.env, base)

    export = export_input(prepared, uv=uv, resolve=resolved, base=base, lock=lock)
    text = FORMATS[name](export)
    path = None if options.output in (None, "-") else context.path(options.output)
    if path is not None:
        write_file(path, text)
        console.say(f"wrote {path}: {export.title}")
    if console.json:
        file = path and str(path)
        console.out_json(envelope("exported", format=name, title=export.title, file=file, text=text))
    elif path is None:
        console.out_file(text.removesuffix("\n"))
    return 0


def prepare_files(
    session: Session, options: FileOptions, machine: Machine | None = None, *, warn: bool = True
) -> tuple[Prepared, Uv]:
    """A plan that can be written down, its warnings said, and the uv that resolves what it needs.

    Raises:
        TorchInstallError: among others the error of a plan that is impossible.
    """
    prepared = prepare(session.context, options, machine=machine)
    if warn:
        session.console.warn_all(prepared.plan.warnings)
    if prepared.plan.error is not None:
        raise prepared.plan.error
    return prepared, prepared.uv or session.context.find_uv(session.context.env)


def _resolving(plan: Plan) -> str:
    return f"resolving what torch{f' {plan.torch}' if plan.torch else ''} needs"


def _locked_project(context: Context, options: _ExportOptions, *, needed: bool) -> Project | None:
    """The project at hand, where it has a lock of its own."""
    folder = project_folder(context, options.project)
    if not (folder / "pyproject.toml").is_file():
        return None
    project = open_project(context, options.project, options.python_version)
    if (workspace_root(folder) / "uv.lock").is_file():
        return project
    if not needed or not project.view.scopes_of("torch"):
        return None
    raise UsageError(
        "no-lock",
        f"the project in {folder} has no uv.lock to install from",
        wanted="a lock, so that dependencies are written down once",
        found="pyproject.toml alone",
        hints=("torchinstall configure", "uv lock", "name what to install: torchinstall export … torch"),
    )


def _lock(session: Session, prepared: Prepared, project: Project) -> LockedProject:
    """What of the project's lock fits the plan."""
    view, asked = project.view, prepared.request.backend
    offered = ", ".join(dict.fromkeys(route.backend for route in routed_in(view, prepared.catalog)))
    choice = None
    try:
        choice = choose_locked(project.folder, view, prepared.plan, prepared.catalog)
        offered = choice.backend(prepared.catalog) or asked
    except NoCompatibleBuildError:
        if asked == "auto":
            raise
    if choice is None or (asked != "auto" and offered != asked):
        first = offered.partition(",")[0]
        raise NoCompatibleBuildError(
            "backend-not-offered",
            f"the file would install from the project's lock, which has no torch for {asked} there",
            wanted=f"torch for {asked} in uv.lock",
            found=f"torch {choice.version} for {offered}" if choice else f"torch for {offered}",
            hints=(
                f"torchinstall configure --layout groups --with {first} --with {asked}",
                f"torchinstall export --format … --backend {first}",
                "name what to install, and the lock is not used: torchinstall export … torch",
            ),
        )
    session.console.warn_all(choice.notes)
    package = "build-system" in view.data and view.uv.get("package") is not False
    root = workspace_root(project.folder)
    member = () if root == project.folder.resolve() else ("--package", view.name)
    members = workspace_members(root)
    lock = read_lock(root / "uv.lock", view.name)
    folders = lock.folders() if lock is not None else ()
    return LockedProject(
        flags=(*member, *choice.flags),
        package=package,
        workspace=members,
        local=tuple(name for name in folders if name not in (".", *members)),
        backend=choice.backend(prepared.catalog),
        torch=choice.version,
    )


VERB = Verb(
    "export",
    run,
    _ExportOptions,
    REQS,
    more="For pip, uv, Poetry, PDM, pixi, conda, Docker, CI. The text goes to stdout, or to a file with "
    "-o. Without REQ, dockerfile, devcontainer and github-actions install from the lock of the project at "
    "hand.",
    examples="""
    torchinstall export --format constraints -o constraints.txt  # no later install swaps the build
    torchinstall export --format dockerfile --target-gpu sm_90 --target-driver 580  # built where no GPU is
    torchinstall export --format pylock torch einops -o pylock.toml  # every file with its hash
""",
    choices={"format": tuple(FORMATS)},
)


def bundle(session: Session, options: FileOptions) -> int:
    """Plan, resolve, download; an impossible plan is raised."""
    from torchinstall.index.download import Downloader  # it brings the HTTP client

    console, context = session.console, session.context
    if options.output in (None, "-"):
        raise UsageError(
            "no-output",
            "no folder was named for the bundle",
            wanted="-o DIR",
            found="nothing" if options.output is None else "-, which is stdout",
            hints=("torchinstall bundle --machine host.json --python-version 3.12 -o bundle",),
        )
    prepared, uv = prepare_files(session, options)
    plan, target = prepared.plan, prepared.target
    check_exportable(prepared.uv_args)
    console.working(_resolving(plan))
    files = files_of(resolve(context, prepared, uv, only_wheels=True), target)
    folder = context.path(options.output)
    make_folder(folder)
    check_room(files, folder)
    for name in foreign_wheels(files, folder):
        console.warn("stranger-in-bundle", f"{name} is in {folder}, but it is not part of this bundle")
    sizes = [file.size for file in files]
    total = None if None in sizes else sum(filter(None, sizes))
    watched = console.working(f"downloading {len(files)} files", total)
    client, tell = client_of(context, prepared), console.detail if watched else console.say
    downloader = Downloader(client=client, folder=folder, tell=tell, arrived=console.arrived)
    rows = write_bundle(
        folder,
        files,
        plan,
        made_at=context.moment(),
        fetch=downloader.fetch_all,
    )
    size = sum(row.size or 0 for row in rows)
    about = {"folder": str(folder), "backend": plan.backend, "torch": plan.torch, "bytes": size}
    listed = {"files": to_builtins(rows), "warnings": to_builtins(plan.warnings)}
    console.answer(envelope("bundled", **about, **listed), str(folder))
    installer = "install.cmd" if target.os == "windows" else "sh install.sh"
    console.say(f"{len(rows)} wheels, {size_text(size)}; on the other machine, in the environment to use:")
    console.say(f"  {installer}, or: torchinstall auto --offline --find-links {folder.name}")
    return 0


BUNDLE = Verb(
    "bundle",
    bundle,
    FileOptions,
    REQS,
    more="Wheels, hashes, pins and an installer. On that machine: torchinstall probe --json > host.json. "
    "Run it again to continue after a break.",
    examples="""
    torchinstall bundle --machine host.json --python-version 3.12 -o bundle  # for a machine that was probed
    torchinstall bundle --target-gpu sm_90 --target-driver 580 -o b torch vllm  # with other packages
    torchinstall auto --offline --find-links bundle  # on the machine without a network
""",
)
