"""`torchinstall export`: the plan for pip, Poetry, a Dockerfile and so on."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from msgspec import structs

from torchinstall.cli.console import Session
from torchinstall.cli.projecting import project_folder, project_python
from torchinstall.cli.verb import REQS, Verb
from torchinstall.core.errors import UsageError
from torchinstall.export import CONTAINERS, FORMATS, LOCKED
from torchinstall.planning.assemble import Prepared, machine_of, prepare
from torchinstall.planning.context import Context
from torchinstall.planning.options import PlanOptions

if TYPE_CHECKING:
    from pathlib import Path

    from torchinstall.export.inputs import Locked

__all__ = ["VERB", "FileOptions", "make_folder"]


class FileOptions(PlanOptions, frozen=True, kw_only=True):
    """The options of a plan that is written down, for machines on which nothing is installed yet."""

    omit: ClassVar = frozenset({"upgrade", "dry_run"})
    upgrade: bool = True
    output: str | None = None


class ExportOptions(FileOptions, frozen=True, kw_only=True):
    """The options of `export`."""

    format: str | None = None
    project: str | None = None


def run(session: Session, options: ExportOptions) -> int:
    """Plan and write; a plan that says "impossible" is the error."""
    from torchinstall.export import render
    from torchinstall.export.containers import container_machine
    from torchinstall.export.inputs import export_input, holds_credentials, title_of
    from torchinstall.export.resolve import resolve

    console = session.console
    name = options.format
    if name is None:
        raise UsageError(
            "no-format",
            "no format was named",
            wanted="--format " + "|".join(FORMATS),
            found="nothing",
            hints=("torchinstall export --format requirements",),
        )
    context = session.context
    asks = bool(options.reqs or options.requirement)  # for something else than the project
    folder = _locked_project(context, options) if name in LOCKED and not asks else None
    if folder is not None:
        options = _for_project(context, options, folder)
    machine = container_machine(machine_of(context, options)) if name in CONTAINERS else None
    line = prepare(context, options, machine=machine, detail=console.detail)
    console.warn_all(line.plan.warnings)
    if line.plan.error is not None:
        raise line.plan.error
    if holds_credentials(line):
        console.warn(
            "credentials-left-out",
            "the URL of an index holds a password, which is not written down: give it to the reader in its "
            "own way (netrc, a keyring, or variables such as UV_INDEX_<NAME>_PASSWORD)",
        )
    uv = line.uv or context.find_uv(context.env)
    data = export_input(
        line,
        resolve=lambda: resolve(line, uv.path, context.env, context.cwd),
        uv=uv.version,
        lock=_lock(session, line, folder) if folder is not None else None,
        base=folder or context.cwd,
    )
    text = render(name, data)
    output = options.output
    if output is None:
        console.out(text.removesuffix("\n"))
        return 0
    from torchinstall.project.files import write_atomically

    path = context.path(output)
    make_folder(path.parent)
    write_atomically(path, text)
    console.say(f"wrote {path}: {title_of(line.plan, line.target)}")
    return 0


def make_folder(folder: Path) -> None:
    """Make a folder where it is missing.

    Raises:
        UsageError: `cannot-write`.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            "cannot-write",
            f"the folder {folder} cannot be made: {error.strerror or error}",
            wanted="a folder that this user may write",
            found=str(error),
            hints=("name another place with -o",),
        ) from error


def _locked_project(context: Context, options: ExportOptions) -> Path | None:
    """The folder of the project at hand, where it has a lock of its own.

    Raises:
        UsageError: `no-lock`: a project that requires torch has no lock to install from.
    """
    folder = project_folder(context, options.project)
    if not (folder / "pyproject.toml").is_file():
        return None
    if (folder / "uv.lock").is_file():
        return folder
    from torchinstall.project.files import read_text
    from torchinstall.project.pyproject import project_view

    view = project_view(read_text(folder / "pyproject.toml"))
    if not any(item.package == "torch" for item in view.listed):
        return None
    raise UsageError(
        "no-lock",
        f"the project in {folder} has no uv.lock to install from",
        wanted="a lock, so that dependencies are written down once",
        found="pyproject.toml alone",
        hints=("torchinstall configure", "uv lock", "name what to install: torchinstall export … torch"),
    )


def _for_project(context: Context, options: ExportOptions, folder: Path) -> ExportOptions:
    """The options of a plan for torch in the project's Python."""
    from torchinstall.project.files import read_text
    from torchinstall.project.pyproject import project_view

    view = project_view(read_text(folder / "pyproject.toml"))
    version = project_python(folder, view, options.python_version, context.python_version)
    return structs.replace(options, reqs=("torch",), python_version=version)


def _lock(session: Session, line: Prepared, folder: Path) -> Locked:
    """What of the project's lock fits the plan.

    Raises:
        NoCompatibleBuildError: nothing that the project offers runs there.
    """
    from torchinstall.export.inputs import Locked
    from torchinstall.project.files import read_text
    from torchinstall.project.layouts import plan_platform
    from torchinstall.project.pyproject import project_view
    from torchinstall.project.sync import choose, locked_versions

    view = project_view(read_text(folder / "pyproject.toml"))
    python = ".".join(line.target.python_version.split(".")[:2])
    locked = locked_versions(folder, view, line.catalog, plan_platform(line.plan), python)
    choice = choose(view, line.plan, line.catalog, locked=locked)
    for note in choice.notes:
        session.console.warn(note.slug, note.message)
    return Locked(
        flags=choice.flags,
        package="build-system" in view.data and view.uv.get("package") is not False,
    )


VERB = Verb(
    "export",
    run,
    summary="Write the plan down for another tool: pip, uv, Poetry, PDM, pixi, conda, Docker, CI.",
    more="It goes to stdout, or to a file with -o. Where no REQ is named, dockerfile, devcontainer and "
    "github-actions install from the lock of the project at hand.",
    arguments=(REQS,),
    options=ExportOptions,
    choices={"format": tuple(FORMATS)},
    examples=(
        ("torchinstall export --format constraints -o constraints.txt", "no later install swaps the build"),
        (
            "torchinstall export --format dockerfile --target-gpu sm_90 --target-driver 580",
            "an image for a server, built without its GPU",
        ),
        ("torchinstall export --format pylock torch einops -o pylock.toml", "every file with its hash"),
    ),
)
