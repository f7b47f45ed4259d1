"""`torchinstall bundle`: everything to install on a machine without a network."""

from __future__ import annotations

import datetime as dt

import msgspec

from torchinstall import __version__
from torchinstall.cli.console import Session, envelope
from torchinstall.cli.export import FileOptions, make_folder, prepare_files
from torchinstall.cli.verb import REQS, Verb
from torchinstall.core.errors import UsageError
from torchinstall.export.inputs import check_exportable, title_of
from torchinstall.export.resolve import files_of, resolve
from torchinstall.index.download import Downloader
from torchinstall.project.bundle import check_room, foreign_wheels, write_bundle

_INDEXES = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL")
"""Variables of uv with URLs that may hold a password for the files of their index."""


class BundleOptions(FileOptions, frozen=True, kw_only=True):
    """The options of `bundle`."""

    json: bool = False


def run(session: Session, options: BundleOptions) -> int:
    """Plan, resolve, download; an impossible plan is raised."""
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
    console.say(f"resolving what {f'torch {plan.torch}' if plan.torch else 'torch'} needs")
    files = files_of(resolve(prepared, uv, context.env, context.cwd, only_wheels=True), target)
    folder = context.path(options.output)
    make_folder(folder)
    check_room(files, folder)
    for name in foreign_wheels(files, folder):
        console.warn("stranger-in-bundle", f"{name} is in {folder}, but it is not part of this bundle")
    downloader = Downloader(
        context.env,
        folder,
        known_urls=(
            *(package.index_url or "" for package in plan.packages),
            *prepared.uv_args,
            *(part for name in _INDEXES for part in context.env.get(name, "").split()),
        ),
        allow_insecure=options.allow_insecure_host,
        tell=console.say,
    )
    rows = write_bundle(
        folder,
        files,
        plan,
        target,
        title=title_of(plan, target),
        made_by=f"torchinstall {__version__}",
        made_at=dt.datetime.fromtimestamp(context.now(), tz=dt.timezone.utc).isoformat(timespec="seconds"),
        fetch=downloader.fetch_all,
    )
    size = sum(row.size for row in rows)
    if options.json:
        console.out_json(
            envelope(
                "bundled",
                folder=str(folder),
                backend=plan.backend,
                torch=plan.torch,
                bytes=size,
                files=msgspec.to_builtins(rows),
                warnings=msgspec.to_builtins(plan.warnings),
            )
        )
        return 0
    installer = "install.cmd" if target.os == "windows" else "sh install.sh"
    console.out(str(folder))
    console.say(f"{len(rows)} wheels, {size / 1e6:.0f} MB; on the other machine, in the environment to use:")
    console.say(f"  {installer}, or: torchinstall auto --offline --find-links {folder.name}")
    return 0


VERB = Verb(
    "bundle",
    run,
    summary="Fetch wheels, hashes, pins and an installer for a machine without a network.",
    more="On that machine: torchinstall probe --json > host.json. Run it again to continue after a break.",
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
