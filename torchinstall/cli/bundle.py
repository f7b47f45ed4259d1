"""`torchinstall bundle`: everything to install on a machine without a network."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import msgspec

from torchinstall.cli.console import Session, envelope
from torchinstall.cli.export import FileOptions, make_folder
from torchinstall.cli.verb import REQS, Verb
from torchinstall.core.errors import UsageError
from torchinstall.planning.assemble import Prepared, prepare

if TYPE_CHECKING:
    from pathlib import Path

    from torchinstall.export.resolve import File
    from torchinstall.project.bundle import BundledFile

__all__ = ["VERB"]


class BundleOptions(FileOptions, frozen=True, kw_only=True):
    """The options of `bundle`."""

    json: bool = False


_INDEXES = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL")


def run(session: Session, options: BundleOptions) -> int:
    """Plan, resolve, download; a plan that says "impossible" is the error."""
    from torchinstall.export.inputs import check_exportable
    from torchinstall.export.resolve import files_of, resolve

    console, context = session.console, session.context
    output = options.output
    if output is None:
        raise UsageError(
            "no-output",
            "no folder was named for the bundle",
            wanted="-o DIR",
            found="nothing",
            hints=("torchinstall bundle --machine host.json --python-version 3.12 -o bundle",),
        )
    line = prepare(context, options, detail=console.detail)
    console.warn_all(line.plan.warnings)
    if line.plan.error is not None:
        raise line.plan.error
    check_exportable(line.uv_args)
    uv = line.uv or context.find_uv(context.env)
    console.say(f"resolving what torch {line.plan.torch or ''} needs".replace("  ", " "))
    text = resolve(line, uv.path, context.env, context.cwd, only_wheels=True)
    folder = context.path(output)
    rows = _write(session, options, line, files_of(text, line.target), folder)
    _report(session, options, line, folder, rows)
    return 0


def _write(
    session: Session, options: BundleOptions, line: Prepared, files: tuple[File, ...], folder: Path
) -> tuple[BundledFile, ...]:
    from torchinstall import __version__
    from torchinstall.export.inputs import title_of
    from torchinstall.index.download import Downloader
    from torchinstall.project.bundle import check_room, foreign_wheels, write_bundle

    console, context = session.console, session.context
    make_folder(folder)
    check_room(files, folder)
    for name in foreign_wheels(files, folder):
        console.warn("stranger-in-bundle", f"{name} lies in {folder} and is not part of this bundle")
    downloader = Downloader(
        context.env,
        folder,
        known_urls=(
            *(package.index_url or "" for package in line.plan.packages),
            *line.uv_args,
            *(part for name in _INDEXES for part in context.env.get(name, "").split()),
        ),
        allow_insecure=options.allow_insecure_host,
        tell=console.say,
    )
    return write_bundle(
        folder,
        files,
        line.plan,
        line.target,
        title=title_of(line.plan, line.target),
        made_by=f"torchinstall {__version__}",
        made_at=dt.datetime.fromtimestamp(context.now(), tz=dt.timezone.utc).isoformat(timespec="seconds"),
        fetch=downloader.fetch_all,
    )


def _report(
    session: Session, options: BundleOptions, line: Prepared, folder: Path, rows: tuple[BundledFile, ...]
) -> None:
    console = session.console
    size = sum(row.size for row in rows)
    if options.json:
        console.out_json(
            envelope(
                "bundled",
                folder=str(folder),
                backend=line.plan.backend,
                torch=line.plan.torch,
                bytes=size,
                files=msgspec.to_builtins(rows),
                warnings=[{"slug": row.slug, "message": row.message} for row in line.plan.warnings],
            )
        )
        return
    console.out(str(folder))
    console.say(
        f"{len(rows)} wheels, {size / 1e6:.0f} MB. On the other machine, in the environment to change:"
    )
    installer = "install.cmd" if line.target.os == "windows" else "sh install.sh"
    console.say(f"  {installer}, or: torchinstall auto --offline --find-links {folder.name}")


VERB = Verb(
    "bundle",
    run,
    summary="Fetch wheels, hashes, pins and an installer for a machine without a network.",
    more="On that machine: torchinstall probe --json > host.json. What broke off goes on when run again.",
    arguments=(REQS,),
    options=BundleOptions,
    examples=(
        (
            "torchinstall bundle --machine host.json --python-version 3.12 -o bundle",
            "for a machine that was probed",
        ),
        (
            "torchinstall bundle --target-gpu sm_90 --target-driver 580 -o b torch vllm",
            "with other packages",
        ),
        ("torchinstall auto --offline --find-links bundle", "on the machine without a network"),
    ),
)
