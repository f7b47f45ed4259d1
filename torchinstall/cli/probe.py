"""`torchinstall probe`: what this machine is."""

from __future__ import annotations

from torchinstall.cli.console import Session
from torchinstall.cli.text import machine_text
from torchinstall.cli.verb import Verb
from torchinstall.core.machine import machine_to_json
from torchinstall.planning.inputs import probed
from torchinstall.planning.options import Options


class ProbeOptions(Options, frozen=True, kw_only=True):
    """The options of `probe`."""

    root: str | None = None
    record: str | None = None
    anonymous: bool = False
    json: bool = False


def run(session: Session, options: ProbeOptions) -> int:
    """Probe and print."""
    machine = probed(session.context, options.root, options.record)
    if options.record is not None:
        session.console.say(f"Recorded in {options.record}; look through the folder before you publish it.")
    if options.anonymous:
        machine = machine.anonymous()
    if options.json:
        session.console.out_json(machine_to_json(machine))
    else:
        session.console.out(machine_text(machine))
    return 0


VERB = Verb(
    "probe",
    run,
    summary="Show what this machine is: system, drivers, GPUs, and what could not be read.",
    options=ProbeOptions,
    examples=(
        ("torchinstall probe", "what is this machine?"),
        ("torchinstall probe --json --anonymous > machine.json", "a machine file for a bug report"),
        ("torchinstall probe --record my-machine", "everything that was read, for a bug in the probe"),
        ("torchinstall probe --json | torchinstall plan --machine -", "plan from what was probed"),
    ),
)
