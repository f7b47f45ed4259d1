"""`torchinstall doctor`: is what is installed right for this machine, and does it compute?"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import stat
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, TextIO

import click
from msgspec import structs, to_builtins

from torchinstall.cli import INTERRUPTED, SIGNALLED, main
from torchinstall.cli.console import Session, envelope
from torchinstall.cli.text import counted, fields, gpu_used, wrapped
from torchinstall.cli.verb import Verb
from torchinstall.core.errors import InstallFailedError, TorchInstallError, UsageError, VerifyFailedError
from torchinstall.core.files import real_path, text_in
from torchinstall.core.machine import machine_to_json
from torchinstall.core.request import DEFAULT_INDEX_BASE, Channel
from torchinstall.core.target import Installed
from torchinstall.doctor.checks import examine
from torchinstall.doctor.collect import collect, flags_of
from torchinstall.doctor.facts import Mentions
from torchinstall.doctor.model import Diagnosis, Environment, Remedy, misfits, next_remedies
from torchinstall.doctor.rules import Here, Match, explain
from torchinstall.install.lock import EnvironmentLock
from torchinstall.install.transaction import change_with_uv
from torchinstall.install.verify import report_to_json
from torchinstall.planning.context import MachineOptions, PlanOptions
from torchinstall.planning.inputs import catalog_of, collect_inputs

_PIPE_TIMEOUT = 2.0
"""Seconds; a pipe that somebody holds open without a word is no question."""


class _DoctorOptions(MachineOptions, frozen=True, kw_only=True):
    omit: ClassVar = frozenset({"require_gpu", "respect_visible_devices"})
    explain_text: str | None = None
    fix: bool = False
    python: str | None = None
    venv: str | None = None
    system: bool = False
    channel: Channel = "stable"
    index_base: str = DEFAULT_INDEX_BASE
    find_links: tuple[str, ...] = ()
    offline: bool = False
    verify: bool = True
    wait: bool = True


def run(session: Session, options: _DoctorOptions) -> int:
    """Examine and report; a fault is the verb's error after the report was shown."""
    text, stdin = options.explain_text, session.context.stdin
    text = stdin.read() if text == "-" else piped(stdin) if text is None else _of_file(session, text)
    if text is not None:
        return _explain(session, options, text)
    if options.fix:
        seen = _fix(session, options)
    else:
        seen = collect(session.context, PlanOptions.of(options), verify=options.verify)
    return _report(session, seen, examine(seen))


def _of_file(session: Session, text: str) -> str:
    """The text in the file that a text names; else the text itself."""
    with contextlib.suppress(OSError, ValueError):  # no name of a file: too long, or a NUL in it
        path = session.context.path(text)
        if "\n" not in text and path.is_file():
            return text_in(path, errors="replace")
    return text


def piped(stream: TextIO) -> str | None:
    """The text that was piped or redirected into `stream`; None where there is none.

    CI systems and services run with a stdin that is closed, empty or `/dev/null`; a doctor that took those
    for a question would never examine the environment there. A pipe has two seconds to begin; `--explain -`
    waits as long as it takes.
    """
    try:
        number = stream.fileno()
        mode = os.fstat(number).st_mode
    except (OSError, ValueError, AttributeError):
        return None
    if stat.S_ISFIFO(mode):
        # Windows cannot wait for a pipe.
        ready = sys.platform == "win32" or select.select([number], [], [], _PIPE_TIMEOUT)[0]
        return stream.read() or None if ready else None
    return stream.read() or None if stat.S_ISREG(mode) else None


def _explain(session: Session, options: _DoctorOptions, text: str) -> int:
    matches = explain(text, catalog_of(session.context), lambda said: _here(session, options, said))
    console = session.console
    console.partial.update(status="explained" if matches else "unknown", matches=to_builtins(matches))
    if not matches:
        raise UsageError(
            "nothing-recognised",
            "no known fault was recognised in this text",
            wanted="an error text about torch, its GPU, its wheels or their installation",
            found=counted("word", len(text.split())) if text.strip() else "nothing",
            hints=("torchinstall doctor examines the environment itself", "paste the whole traceback"),
        )
    console.answer(envelope(**console.partial), "\n\n".join(map(_match_text, matches)))
    return 0


def _here(session: Session, options: _DoctorOptions, said: Mentions) -> Here | None:
    """The environment and machine here, if the text names an environment and one can be read here."""
    if not said.prefixes:
        return None
    asked = PlanOptions.of(options)
    try:
        inputs = collect_inputs(session.context, asked, purpose="examine")
    except TorchInstallError:
        return None
    return Here(machine=inputs.machine, target=inputs.target, flags=flags_of(asked))


def _done(session: Session, options: _DoctorOptions, remedy: Remedy, seen: Environment) -> bool:
    """Do one safe thing in the environment that was examined; whether it worked."""
    if remedy.argv[:1] == ("torchinstall",):
        return _again(session, remedy.argv[1:]) == 0
    context, say, prefix = session.context, session.console.say, Path(str(seen.target.prefix))
    try:
        with EnvironmentLock(wait=options.wait, tell=say) as lock:
            lock.take(prefix)
            for path in map(Path, remedy.remove):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
            if remedy.argv:
                sites = dict.fromkeys(dist.site for dist in seen.inventory.dists)
                change_with_uv(
                    remedy.argv,
                    sites=[*map(real_path, sites)],
                    prefix=real_path(prefix),
                    env=context.env,
                    cwd=context.cwd,
                    sink=session.sink(),
                    tell=say,
                )
    except (OSError, InstallFailedError) as error:
        say(f"this failed: {error}")
        return False
    return True


def _fix(session: Session, options: _DoctorOptions) -> Environment:
    """Look, do what one fault needs, look again, until nothing is left to do; what is there in the end."""
    console, context = session.console, session.context
    collected = partial(collect, context, PlanOptions.of(options), verify=options.verify)
    with EnvironmentLock(wait=options.wait, tell=console.say) as lock:
        seen = collected(lock=lock)
    done: list[Remedy] = []
    while remedies := next_remedies(examine(seen), done):
        for remedy in remedies:
            console.say(f"> {remedy.command}")
            done.append(remedy)
            if not _done(session, options, remedy, seen):
                console.warn("fix-failed", f"{remedy.command} did not succeed")
                break
        seen = collected()
    if not done:
        console.say("there is nothing that --fix can safely do")
    return seen


def _again(session: Session, words: tuple[str, ...]) -> int:
    """Run a command of ours in this process: nothing in the current folder can take its place."""
    env = {name: value for name, value in session.context.env.items() if name != "TORCHINSTALL_JSON"}
    code = main(words, structs.replace(session.context, env=env, stdout=session.context.stderr))
    if code == INTERRUPTED:
        raise KeyboardInterrupt
    if code > SIGNALLED:
        sys.exit(code)
    return code


def _report(session: Session, seen: Environment, found: tuple[Diagnosis, ...]) -> int:
    console = session.console
    faults = [item for item in found if item.severity == "error"]
    console.partial.update(status="faults" if faults else "healthy", **_data(seen, found))
    error = VerifyFailedError(
        "faults-found",
        f"the doctor found {counted('fault', len(faults))}: "
        + ", ".join(dict.fromkeys(item.slug for item in faults)),
        hints=tuple(remedy.command for item in faults for remedy in item.remedies)[:1],
    )
    console.answer(envelope(**console.partial), _report_text(seen, found), error if faults else None)
    return 0


def _data(seen: Environment, found: tuple[Diagnosis, ...]) -> dict[str, Any]:
    choice, target = seen.choice, seen.target
    return {
        "target": {name: getattr(target, name) for name in ("prefix", "python", "python_version", "why")},
        "installed": to_builtins(target.installed),
        "choice": choice and {"status": choice.status, "backend": choice.backend, "torch": choice.torch},
        "machine": machine_to_json(seen.machine.anonymous()),
        "verify": seen.report and report_to_json(seen.report),
        "findings": [item.to_json() for item in found],
    }


def _report_text(seen: Environment, found: Sequence[Diagnosis]) -> str:
    """The verdict, then every finding with its evidence and what to type, then what was examined."""
    target, report = seen.target, seen.report
    gpus = seen.free.gpus if seen.free is not None else ()
    rows = [
        ("environment", f"{target.prefix} (Python {target.python_version}, {target.why})"),
        *(("installed", _package(item)) for item in target.installed),
        *([("GPU", gpu.label) for gpu in gpus] or [("GPU", "none found")]),
    ]
    if (choice := seen.choice) is None or choice.status != "satisfied":
        rows += [("recommended", f"torch {better.torch}")] if (better := seen.better) and better.torch else []
    if report is not None:
        passed = f"{len(report.checks) - len(report.failed)} of {len(report.checks)} checks"
        rows.append(("computes", f"{'yes' if report.computes else 'no'}: {passed}"))
    verdict = click.style(_verdict(seen, found), bold=True)
    return "\n\n".join((verdict, *map(_diagnosis_text, found), fields(rows), _summary(found)))


_WRONG = {"driver-too-old", "no-code-for-gpu", "cpu-build-on-gpu-machine"}
"""Faults of torch itself; all others are of what is around it."""


def _verdict(seen: Environment, found: Sequence[Diagnosis]) -> str:
    """In one line: what is installed, whether it is right here, computes, and goes with the rest."""
    torch, report, choice = seen.installed("torch"), seen.report, seen.choice
    if torch is None:
        return "torch: not installed in this environment"
    local = "" if seen.backend is None or "+" in torch else f" ({seen.backend})"
    faults = {item.slug for item in found if item.severity == "error"}
    if faults & _WRONG:
        fits = "wrong for this machine"
    elif choice is not None and choice.error is None and choice.backend == seen.backend:
        fits = "right for this machine"
    else:
        fits = "not one of PyTorch's builds" if seen.own_build else "not what the planner would choose"
    if report is not None:
        gpu = gpu_used(choice, seen.backend, report)
        device = "on the CPU" if gpu is None else f"on the {gpu.label}"
        fits += f", computes {device}" if report.computes else ", does not compute"
    if faults & {"mixed-backends", "mixed-releases"}:
        beside = dict.fromkeys(f"{item.name} {item.version}" for item, _ in misfits(seen))
        fits += f"; {' and '.join(beside)} {'does' if len(beside) == 1 else 'do'} not go with it"
    elif faults - _WRONG - {"does-not-compute"}:
        fits += "; see the fault below" if len(faults) == 1 else "; see the faults below"
    return f"torch {torch}{local}: {fits}"


def _package(item: Installed) -> str:
    notes = [item.backend] if item.backend and not item.version.endswith(item.backend) else []
    notes += [f"wheel variant {item.variant}"] if item.variant else []
    return f"{item.name} {item.version}" + (f" ({', '.join(notes)})" if notes else "")


_COLOUR = {"error": "red", "warning": "yellow", "info": "cyan"}


def _diagnosis_text(item: Diagnosis) -> str:
    head = click.style(f"{item.severity}[{item.slug}]:", fg=_COLOUR[item.severity], bold=True)
    evidence = [f"- {text}" for text in item.evidence]
    return _entry(f"{head} {item.message}", evidence, [row.command for row in item.remedies], item.advice)


def _match_text(match: Match) -> str:
    head = click.style(match.slug, bold=True)
    text = _entry(f"{head}: {match.cause}", [f"text: {match.evidence}"], match.commands, match.advice)
    return f"{text}\n" + wrapped(f"  more: {', '.join(match.sources)}", indent=8)


def _entry(head: str, evidence: Sequence[str], commands: Sequence[str], advice: str | None) -> str:
    lines = [wrapped(head, indent=2)]
    lines += [wrapped(f"  {text}", indent=4) for text in evidence]
    lines += [f"  type: {click.style(command, bold=True)}" for command in commands]
    if advice:
        lines.append(wrapped(f"  note: {advice}", indent=8))
    return "\n".join(lines)


def _summary(found: Sequence[Diagnosis]) -> str:
    counts = [
        counted(word, number)
        for severity, word in (("error", "fault"), ("warning", "warning"))
        if (number := sum(item.severity == severity for item in found))
    ]
    if not counts:
        return click.style("no problems found", fg="green", bold=True)
    fixable = any(remedy.safe for item in found if item.severity != "info" for remedy in item.remedies)
    return " and ".join(counts) + ("; torchinstall doctor --fix does what is safe" if fixable else "")


VERB = Verb(
    "doctor",
    run,
    _DoctorOptions,
    more="If not, it says what to type. Nothing is changed without --fix, and nothing is fetched. "
    "Exit 0: healthy, 7: a fault was found.",
    examples="""
    torchinstall doctor  # is this environment all right?
    torchinstall doctor --fix  # fix what is safe to fix
    python train.py 2>&1 | torchinstall doctor --explain -  # what does this traceback mean?
""",
)
