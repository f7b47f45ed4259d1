"""`torchinstall inspect`: what a wheel contains, read from the file itself."""

from __future__ import annotations

import click
from msgspec import to_builtins

from torchinstall.cli.console import Session
from torchinstall.cli.text import fields, heading
from torchinstall.cli.verb import Argument, Verb
from torchinstall.export.wheel_check import read_wheel
from torchinstall.index.inspect import WheelReport
from torchinstall.planning.options import Options

SCHEMA_VERSION = 1


class InspectOptions(Options, frozen=True, kw_only=True):
    """The options of `inspect`."""

    wheel: str = ""
    allow_insecure_host: tuple[str, ...] = ()
    json: bool = False


def run(session: Session, options: InspectOptions) -> int:
    """Read the wheel and print what it contains."""
    report = read_wheel(session.context, options.wheel, options.allow_insecure_host)
    if options.json:
        session.console.out_json({"schema_version": SCHEMA_VERSION, **to_builtins(report), "error": None})
    else:
        session.console.out(wheel_text(report))
    return 0


def wheel_text(report: WheelReport) -> str:
    """The report as a person reads it."""
    about = [("file", f"{report.filename}, {report.size / 1e6:.1f} MB")]
    if report.transferred is not None:
        share = 100 * report.transferred / report.size
        about.append(("read", f"{report.transferred / 1e6:.1f} MB over the network ({share:.1f} %)"))
    about += [
        (name, value)
        for name, value in (
            ("package", f"{report.name} {report.version}"),
            ("Python", report.requires_python),
            ("built with", report.toolkit or "no GPU toolkit"),
            ("glibc", report.glibc and f"{report.glibc} or newer"),
            ("macOS", report.macos and f"{report.macos} or newer"),
            ("variant", "; ".join(report.variant)),
        )
        if value
    ]
    parts = [fields(about)]
    code = [("torch's list", f"{' '.join(report.targets)} ({report.targets_from})")] if report.targets else []
    for row in report.libraries:
        name = row.name.rpartition("/")[2]
        part = "" if row.whole else " (only its beginning was read)"
        code.append((name, " ".join((*row.sm, *row.ptx, *row.gfx)) + part))
        if row.lacks:
            code.append((name, click.style(f"no code for {' '.join(row.lacks)}", fg="yellow")))
    code += [(name, " ".join(targets)) for name, targets in report.kernels.items()]
    parts.append(f"{heading('GPU code')}\n{fields(code or [('none', '')])}")
    if report.pins:
        parts.append(f"{heading('Requires')}\n" + "\n".join(f"  {pin}" for pin in report.pins))
    if report.needed:
        parts.append(
            f"{heading('Libraries that must be present')}\n{fields([('', ' '.join(report.needed))])}"
        )
    if report.notes:
        parts.append(f"{heading('Notes')}\n{fields([('', note) for note in report.notes])}")
    return "\n\n".join(parts)


VERB = Verb(
    "inspect",
    run,
    summary="Say what a wheel contains: GPU code, pins, needed libraries, oldest glibc.",
    more="A wheel at a URL is read in small parts (under 2 % of a large file), never downloaded whole.",
    arguments=(Argument(name="wheel", metavar="WHEEL|URL", help="The wheel to look into.", required=True),),
    options=InspectOptions,
    examples=(
        ("torchinstall inspect dist/torch-2.9.1-cp312-cp312-linux_x86_64.whl", "for which GPUs is it?"),
        ("torchinstall inspect https://mirror.example/whl/cu126/torch.whl", "without downloading it"),
        ("torchinstall inspect --json torch.whl", "for a script"),
    ),
)
