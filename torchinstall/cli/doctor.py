"""`torchinstall doctor`: is what is installed right for this machine, and does it compute?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from msgspec import to_builtins

from torchinstall.cli.console import Session, envelope
from torchinstall.cli.verb import Verb
from torchinstall.core.request import Channel
from torchinstall.planning.options import MachineOptions, PlanOptions

if TYPE_CHECKING:
    from torchinstall.doctor.model import Diagnosis, Environment

__all__ = ["VERB"]


class DoctorOptions(MachineOptions, frozen=True, kw_only=True):
    """The options of `doctor`."""

    omit: ClassVar = frozenset({"require_gpu", "respect_visible_devices"})
    explain_text: str | None = None
    fix: bool = False
    python: str | None = None
    venv: str | None = None
    system: bool = False
    channel: Channel = "stable"
    index_base: str = PlanOptions().index_base
    find_links: tuple[str, ...] = ()
    offline: bool = False
    verify: bool = True
    json: bool = False


def run(session: Session, options: DoctorOptions) -> int:
    """Examine and report; a fault is the verb's error after the report was shown."""
    from torchinstall.doctor.checks import examine
    from torchinstall.doctor.collect import collect

    console = session.console
    text = _text_to_explain(session, options)
    if text is not None:
        return _explain(session, options, text)
    asked = PlanOptions.of(options)
    seen = collect(session.context, asked, verify=options.verify, detail=console.detail)
    found = examine(seen)
    if options.fix and _mend(session, found):
        seen = collect(session.context, asked, verify=options.verify, detail=console.detail)
        found = examine(seen)
    return _report(session, options, seen, found)


def _text_to_explain(session: Session, options: DoctorOptions) -> str | None:
    """The text of `--explain`; without the flag, what is piped in, if there is anything."""
    from torchinstall.doctor.pasted import piped

    text = options.explain_text
    if text == "-":
        return session.context.stdin.read()
    return text if text is not None else piped(session.context.stdin)


def _explain(session: Session, options: DoctorOptions, text: str) -> int:
    from torchinstall.cli.doctor_text import explained_text
    from torchinstall.core.errors import UsageError
    from torchinstall.doctor.symptoms import explain
    from torchinstall.planning.assemble import catalog_of

    matches = explain(text, catalog_of(session.context))
    if options.json:
        found = envelope("explained" if matches else "unknown", matches=to_builtins(matches))
        session.console.out_json(found)
        return 0
    if not matches:
        raise UsageError(
            "nothing-recognised",
            "no known fault was recognised in this text",
            wanted="an error text about torch, its GPU, its wheels or their installation",
            found=f"{len(text.split())} words" if text.strip() else "nothing",
            hints=("torchinstall doctor looks at the environment itself", "paste the whole traceback"),
        )
    session.console.out(explained_text(matches))
    return 0


def _mend(session: Session, found: tuple[Diagnosis, ...]) -> bool:
    """Show and do what is safe; whether anything was done."""
    from torchinstall.doctor.remedies import apply, safe_remedies

    console, context = session.console, session.context
    remedies = safe_remedies(found)
    for remedy in remedies:
        console.say(f"> {remedy.command}")
        good = apply(remedy, env=context.env, cwd=context.cwd, output=context.stderr, tell=console.say)
        if not good:
            console.warn("fix-failed", f"this did not go well: {remedy.command}")
    if not remedies:
        console.say("there is nothing that --fix can safely do")
    return bool(remedies)


def _report(session: Session, options: DoctorOptions, seen: Environment, found: tuple[Diagnosis, ...]) -> int:
    from torchinstall.cli.doctor_text import doctor_text
    from torchinstall.core.errors import VerifyFailedError

    console = session.console
    faults = [item for item in found if item.severity == "error"]
    console.partial.update(status="faults" if faults else "healthy", **_data(seen, found))
    if not options.json:
        console.out(doctor_text(seen, found))
    elif not faults:
        console.out_json(envelope(**console.partial))
    if not faults:
        return 0
    first = next((remedy for item in faults for remedy in item.remedies), None)
    raise VerifyFailedError(
        "faults-found",
        f"the doctor found {len(faults)} fault{'' if len(faults) == 1 else 's'}: "
        + ", ".join(dict.fromkeys(item.slug for item in faults)),
        hints=(first.command,) if first is not None else (),
    )


def _data(seen: Environment, found: tuple[Diagnosis, ...]) -> dict[str, Any]:

    from torchinstall.core.machine import machine_to_json
    from torchinstall.install.verify import report_to_json

    choice = seen.choice
    return {
        "target": {
            "prefix": seen.target.prefix,
            "python": seen.target.python,
            "python_version": seen.target.python_version,
            "why": seen.target.why,
        },
        "installed": [to_builtins(item) for item in seen.target.installed],
        "choice": None
        if choice is None
        else {"status": choice.status, "backend": choice.backend, "torch": choice.torch},
        "machine": machine_to_json(seen.machine.anonymous()),
        "verify": None if seen.report is None else report_to_json(seen.report),
        "findings": [item.to_json() for item in found],
    }


VERB = Verb(
    "doctor",
    run,
    summary="Say whether what is installed is right for this machine and computes; if not, what to type.",
    more="Nothing is changed without --fix, and nothing is fetched. Exit 0: healthy, 7: a fault was found.",
    options=DoctorOptions,
    examples=(
        ("torchinstall doctor", "is this environment all right?"),
        ("torchinstall doctor --fix", "mend what can safely be mended"),
        ("python train.py 2>&1 | torchinstall doctor --explain -", "what does this traceback mean?"),
    ),
)
