"""`torchinstall probe`: what this machine is."""

from __future__ import annotations

from torchinstall.cli.session import Session
from torchinstall.cli.settings import Settings
from torchinstall.cli.verb import Verb

__all__ = ["VERB"]


def run(session: Session, settings: Settings) -> int:
    """Probe and print."""
    from torchinstall.planning.assemble import probed

    machine = probed(session.context, settings)
    if settings.on("anonymous"):
        machine = machine.anonymous()
    if settings.on("json"):
        from torchinstall.core.machine import machine_to_json

        session.console.out_json(machine_to_json(machine))
    else:
        from torchinstall.cli.text import machine_text

        session.console.out(machine_text(machine))
    return 0


VERB = Verb(
    "probe",
    run,
    summary="Say what this machine is: system, drivers, GPUs, and what could not be read.",
    options=("root", "anonymous", "json"),
    examples=(
        ("torchinstall probe", "what is this machine?"),
        ("torchinstall probe --json --anonymous > machine.json", "a machine file for a bug report"),
        ("torchinstall probe --json | torchinstall plan --machine -", "plan from what was probed"),
    ),
)
