"""`torchinstall bundle` and `inspect`: wheels fetched for a machine without a network, and looked into."""

from __future__ import annotations

import datetime as dt

import click
from msgspec import to_builtins

from torchinstall import __version__
from torchinstall.cli.console import Session, envelope
from torchinstall.cli.export import FileOptions, make_folder, prepare_files
from torchinstall.cli.text import fields, heading
from torchinstall.cli.verb import REQS, Argument, Verb
from torchinstall.core.errors import UsageError
from torchinstall.export.inputs import check_exportable, title_of
from torchinstall.export.resolve import files_of, resolve
from torchinstall.export.wheel_check import read_wheel
from torchinstall.index.download import Downloader
from torchinstall.index.inspect import WheelReport
from torchinstall.planning.context import Options
from torchinstall.project.bundle import check_room, foreign_wheels, write_bundle

_INDEXES = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL")
"""Variables of uv with URLs that may hold a password for the files of their index."""


def bundle(session: Session, options: FileOptions) -> int:
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
    console.working(f"resolving what {f'torch {plan.torch}' if plan.torch else 'torch'} needs")
    files = files_of(resolve(prepared, uv, context.env, context.cwd, only_wheels=True), target)
    folder = context.path(options.output)
    make_folder(folder)
    check_room(files, folder)
    for name in foreign_wheels(files, folder):
        console.warn("stranger-in-bundle", f"{name} is in {folder}, but it is not part of this bundle")
    sizes = [file.size for file in files]
    total = None if None in sizes else sum(filter(None, sizes))
    watched = console.working(f"downloading {len(files)} files", total)
    downloader = Downloader(
        context.env,
        folder,
        known_urls=(
            *(package.index_url or "" for package in plan.packages),
            *prepared.uv_args,
            *(part for name in _INDEXES for part in context.env.get(name, "").split()),
        ),
        allow_insecure=options.allow_insecure_host,
        tell=console.detail if watched else console.say,
        arrived=console.arrived,
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
    about = {"folder": str(folder), "backend": plan.backend, "torch": plan.torch, "bytes": size}
    listed = {"files": to_builtins(rows), "warnings": to_builtins(plan.warnings)}
    console.answer(envelope("bundled", **about, **listed), str(folder))
    installer = "install.cmd" if target.os == "windows" else "sh install.sh"
    console.say(f"{len(rows)} wheels, {size / 1e6:.0f} MB; on the other machine, in the environment to use:")
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


class InspectOptions(Options, frozen=True, kw_only=True):
    """The options of `inspect`."""

    wheel: str = ""
    allow_insecure_host: tuple[str, ...] = ()


def inspect(session: Session, options: InspectOptions) -> int:
    """Read the wheel and print what it contains."""
    report = read_wheel(session.context, options.wheel, options.allow_insecure_host)
    session.console.answer({"schema_version": 1, **to_builtins(report), "error": None}, _wheel_text(report))
    return 0


def _wheel_text(report: WheelReport) -> str:
    about = [("file", f"{report.filename}, {report.size / 1e6:.1f} MB")]
    if report.transferred is not None:
        share = 100 * report.transferred / report.size
        about.append(("read", f"{report.transferred / 1e6:.1f} MB over the network ({share:.1f} %)"))
    facts = (
        ("package", f"{report.name} {report.version}"),
        ("Python", report.requires_python),
        ("built with", report.toolkit or "no GPU toolkit"),
        ("glibc", report.glibc and f"{report.glibc} or newer"),
        ("macOS", report.macos and f"{report.macos} or newer"),
        ("variant", "; ".join(report.variant)),
    )
    about += [(name, value) for name, value in facts if value]
    code = [("torch's list", f"{' '.join(report.targets)} ({report.targets_from})")] if report.targets else []
    for row in report.libraries:
        name = row.name.rpartition("/")[2]
        part = "" if row.whole else " (only its beginning was read)"
        code.append((name, " ".join((*row.sm, *row.ptx, *row.gfx)) + part))
        if row.lacks:
            code.append((name, click.style(f"no code for {' '.join(row.lacks)}", fg="yellow")))
    code += [(name, " ".join(targets)) for name, targets in report.kernels.items()]
    parts = (
        ("GPU code", fields(code or [("none", "")])),
        ("Requires", "\n".join(f"  {pin}" for pin in report.pins)),
        ("Libraries that must be present", report.needed and fields([("", " ".join(report.needed))])),
        ("Notes", fields([("", note) for note in report.notes])),
    )
    return "\n\n".join([fields(about), *(f"{heading(title)}\n{text}" for title, text in parts if text)])


INSPECT = Verb(
    "inspect",
    inspect,
    InspectOptions,
    Argument("wheel", "WHEEL|URL", "The wheel to look into."),
    more="GPU code, pins, needed libraries, oldest glibc. A wheel at a URL is read in small parts (under 2 % "
    "of a large file), never downloaded whole.",
    examples="""
    torchinstall inspect dist/torch-2.9.1-cp312-cp312-linux_x86_64.whl  # for which GPUs is it?
    torchinstall inspect https://mirror.example/whl/cu126/torch.whl  # without downloading it
    torchinstall inspect --json torch.whl  # for a script
""",
)
