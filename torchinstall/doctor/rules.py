"""From the facts of an error text to its causes, and to what is safe to type.

The rules are data (`data/rules.json`), the most specific first. Rules of one topic exclude each other: the
first that applies is the cause. A rule applies where one of its wordings or facts is found, its context is
there too, and the place belongs to torch and not to another framework.

`torchinstall auto` is offered where the planner finds a build that runs in that situation: on the GPU,
driver, system and Python that the text mentions, or here if the text is about the environment here. Otherwise
the commands that change nothing are named.
"""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import PurePath
from typing import Literal

from msgspec import Struct

from torchinstall.catalog.catalog import Catalog
from torchinstall.core.decoding import own_data
from torchinstall.core.errors import UsageError
from torchinstall.core.machine import Driver, Gpu, Machine, capability_text
from torchinstall.core.plan import Plan
from torchinstall.core.request import Request, requirement
from torchinstall.core.target import Target, foreign_target
from torchinstall.core.versions import dotted, version_text
from torchinstall.doctor.cleaning import clean
from torchinstall.doctor.facts import Kind, Mentions, Reading, Statement, grammar
from torchinstall.planner.selection import plan
from torchinstall.planning.gpus import declared_gpus


class Here(Struct, frozen=True, kw_only=True):
    """The environment and the machine that a text may be about.

    Attributes:
        flags: `--venv DIR` and the like, so that commands go to the same environment.
        certain: the text comes from this environment, whatever it names.
    """

    machine: Machine
    target: Target
    flags: tuple[str, ...] = ()
    certain: bool = False


class PlanCommand(Struct, frozen=True, kw_only=True):
    """A command to plan.

    Attributes:
        build: `right`: the build that runs; `same`: the installed release again, its files written again;
            `cpu`: a CPU build.
        gpu: the vendor whose GPU must be used by it; None: any build will do.
        packages: what is installed beside torch.
        again: packages whose files are written again.
    """

    build: Literal["right", "same", "cpu"] = "right"
    gpu: Literal["nvidia", "amd", "intel", "apple", "mentioned"] | None = None
    packages: tuple[str, ...] = ()
    again: tuple[str, ...] = ()


class Need(Struct, frozen=True, kw_only=True):
    """A fact that a rule is about: patterns of its values, in small letters, and of its owner (None: any)."""

    fact: Kind
    values: Mapping[str, str] = {}
    owner: str | None = None

    def met_by(self, fact: Statement) -> bool:
        """Whether this is such a fact."""
        owned = self.owner is None or re.fullmatch(self.owner, fact.owner or "")
        said = ((text, fact.values.get(name, "").lower()) for name, text in self.values.items())
        return fact.kind == self.fact and bool(owned) and all(re.fullmatch(*pair) for pair in said)


class Wording(Struct, frozen=True, kw_only=True):
    """What to say when all of `needs` are known; what is None is taken from the rule."""

    needs: tuple[str, ...]
    cause: str | None = None
    type: tuple[str, ...] | None = None
    note: str | None = None


class Rule(Struct, frozen=True, kw_only=True):
    """One cause.

    Attributes:
        topic: rules of one topic exclude each other.
        says: wordings, any of which is enough; written with spaces, in small letters.
        facts: facts, any of which is enough.
        context: what must be found in the text too, all of it.
        unless: what must not be found in it.
        guard: `own`: these words are torch's alone; `torch`: the text must name torch or an extension;
            `free`: no other framework may claim the place.
        cause: one clause, with `{name}` for values.
        offer: which planned command helps; None: none does.
        type: what to type beside it: the system's own commands.
        note: what cannot be typed, or what to know.
        when: better wordings, the best first.
        sources: public threads and documentation.
    """

    slug: str
    topic: str
    cause: str
    sources: tuple[str, ...]
    says: tuple[str, ...] = ()
    facts: tuple[Need, ...] = ()
    context: tuple[str, ...] = ()
    unless: tuple[str, ...] = ()
    guard: Literal["own", "torch", "free"] = "free"
    offer: PlanCommand | None = None
    type: tuple[str, ...] = ()
    note: str | None = None
    when: tuple[Wording, ...] = ()


class Rules(Struct, frozen=True, kw_only=True):
    """`data/rules.json`."""

    schema_version: Literal[1]
    rows: tuple[Rule, ...]


class Match(Struct, frozen=True, kw_only=True):
    """A recognised cause, the part of the text that showed it, and what was captured and looked up."""

    slug: str
    cause: str
    commands: tuple[str, ...]
    advice: str | None
    evidence: str
    values: Mapping[str, str]
    sources: tuple[str, ...]


class _Hit(Struct, frozen=True, kw_only=True):
    rule: Rule
    start: int
    end: int
    values: Mapping[str, str]


@cache
def rules() -> tuple[Rule, ...]:
    """The shipped rules, read when first asked for."""
    return own_data(__file__, "data/rules.json", Rules).rows


def explain(
    text: str, catalog: Catalog, here: Callable[[Mentions], Here | None] = lambda _: None
) -> tuple[Match, ...]:
    """Every cause in a text, the most specific first; empty when nothing was recognised.

    `here` gives the environment and machine here, if a text with these mentions may be about them.
    """
    reading = Reading(clean(text))
    hits, mentions = tuple(_hits(reading)), reading.mentions
    known = here(mentions) if any(hit.rule.offer is not None for hit in hits) else None
    if known is not None and not known.certain:
        prefix = known.target.prefix
        known = known if prefix and PurePath(prefix).as_posix() in mentions.prefixes else None
    return tuple(_match(hit, reading, _Adviser(mentions, catalog, known)) for hit in hits)


def _hits(reading: Reading) -> Iterator[_Hit]:
    topics: set[str] = set()
    for rule in rules():
        if rule.topic in topics:
            continue
        hit = next(_places(rule, reading), None)
        excluded = hit is None or any(map(reading.search, rule.unless))
        if hit is not None and not excluded and all(map(reading.search, rule.context)):
            topics.add(rule.topic)
            yield hit


def _places(rule: Rule, reading: Reading) -> Iterator[_Hit]:
    """Where a rule applies: the place that gives most values away first."""
    found: list[tuple[int, int, Mapping[str, str]]] = [
        (fact.start, fact.end, {**fact.values, **({"owner": fact.owner} if fact.owner else {})})
        for fact in (reading.facts if rule.facts else ())
        if any(need.met_by(fact) for need in rule.facts)
    ]
    for text in rule.says:
        match = reading.search(text)
        if match is not None:
            found.append((match.start(), match.end(), reading.captured(match)))
    for start, end, values in sorted(found, key=lambda item: -len(item[2])):
        claimed = rule.guard == "free" and reading.claimed(start, end)
        if reading.about_torch if rule.guard == "torch" else not claimed:
            yield _Hit(rule=rule, start=start, end=end, values=values)


def _match(hit: _Hit, reading: Reading, adviser: _Adviser) -> Match:
    rule, values = hit.rule, {**hit.values, **_projects(hit)}
    commands, told, known = adviser.advise(rule.offer, values) if rule.offer is not None else ((), None, {})
    values |= known
    better = (item for item in rule.when if all(name in values for name in item.needs))
    wording = next(better, Wording(needs=()))
    typed = [_fill(command, values) for command in (rule.type if wording.type is None else wording.type)]
    notes = [text for text in (wording.note or rule.note, told) if text]
    return Match(
        slug=rule.slug,
        cause=_fill(wording.cause or rule.cause, values),
        commands=tuple(dict.fromkeys((*commands, *filter(adviser.leads_on, typed)))),
        advice=_fill("; ".join(notes), values) if notes else None,
        evidence=reading.cleaned.text(hit.start, min(hit.end, hit.start + 160)).replace("\n", " "),
        values=values,
        sources=rule.sources,
    )


def _projects(hit: _Hit) -> dict[str, str]:
    """The project of the extension that the place belongs to; `published` too if PyPI has it by that name."""
    names = (hit.values.get(name) for name in ("module", "file", "owner"))
    known = grammar().names.extensions
    for name in names:
        for part in re.split(r"[/.]", (name or "").lower().replace("-", "_")):
            if part in known:
                project = known[part]
                elsewhere = project in grammar().names.unpublished
                return {"project": project} | ({} if elsewhere else {"published": project})
    return {}


def _fill(template: str, values: Mapping[str, str]) -> str:
    """A template with its values; one that is not known is called `unknown`."""
    return re.sub(r"\{(\w+)\}", lambda field: values.get(field[1], "unknown"), template)


_PYTHON = "3.12"
"""Which Python is meant where the text names none: one that every release since 2.2 has wheels for."""
_EXAMINE = ("torchinstall doctor", "torchinstall plan")
_RELEASED_TOGETHER = frozenset({"torchvision", "torchaudio", "torchcodec"})

_Advice = tuple[tuple[str, ...], str | None, dict[str, str]]
"""What may be typed, a word beside it, and what is now known of the situation."""


class _Adviser:
    """Which command helps in the situation of a text; `known`: the text is about the environment here."""

    def __init__(self, mentions: Mentions, catalog: Catalog, known: Here | None) -> None:
        self._mentions = mentions
        self._catalog = catalog
        self._known = known
        self._installed = {row.name: row.version for row in known.target.installed} if known else {}

    def advise(self, offer: PlanCommand, values: Mapping[str, str]) -> _Advice:
        """The command of an offer, if the planner says that it leads to a build that runs."""
        machine, target = self._situation(offer.gpu, values)
        facts = {**self._driver(target), f"on_{machine.os}": "yes"}
        seen = dict.fromkeys((*self._mentions.packages, *self._installed, *offer.packages))
        names = tuple(name for name in seen if name in _RELEASED_TOGETHER or name in offer.packages)
        installed = self._mentions.torch or self._installed.get("torch")
        words: tuple[str, ...] = ("torch", *names)
        made = self._plan(offer, words, machine, target)
        if offer.build == "same" and installed:
            same = (f"torch=={installed.partition('+')[0]}", *names)
            kept = self._plan(offer, same, machine, target)
            words, made = (same, kept) if _runs(kept, offer) else (words, made)
        facts |= _values(made, machine)
        command = self._command(offer, words, names)
        if _runs(made, offer):
            return (command,), None, facts
        python = self._mentions.python
        if self._known is None and python:
            newer = foreign_target(machine, _PYTHON)
            if _runs(self._plan(offer, words, machine, newer), offer):
                note = f"no build that runs here has wheels for Python {python}"
                return (f"uv venv --clear --python {_PYTHON}", command), note, facts
        cpu = made.error is None and made.backend == "cpu"
        if cpu and any(gpu.compute_capability for gpu in machine.gpus):
            return ("torchinstall auto --allow-cpu",), None, {**facts, "nothing_published": "yes"}
        return _EXAMINE, None if made.error is None else made.error.message, facts

    def leads_on(self, command: str) -> bool:
        """Whether a command may be named: `torchinstall auto` only with a plan in the text's situation."""
        if not command.startswith("torchinstall auto"):
            return True
        words = shlex.split(command)
        flags = dict(itertools.pairwise(words))
        taken = {flags.get(f"--{name}") for name in ("backend", "venv", "index-base", "channel")}
        names = [word for word in itertools.takewhile(lambda word: word != "--", words[2:]) if word[0] != "-"]
        machine, target = self._situation(None, {})
        try:
            wanted = tuple(requirement(name) for name in names if name not in taken)
        except ValueError:  # what was captured is no requirement
            return False
        asked = Request(
            requirements=wanted or (requirement("torch"),),
            backend=flags.get("--backend", "auto"),
            allow_cpu=True,
        )
        return plan(asked, machine, target, self._catalog).error is None

    def _situation(self, wanted: str | None, values: Mapping[str, str]) -> tuple[Machine, Target]:
        """The machine and the Python that the text is about."""
        said = self._mentions
        if self._known is not None:
            return self._known.machine, self._known.target
        vendor = said.vendor if wanted == "mentioned" else wanted
        system = said.os or "linux"
        arch = said.arch or ("aarch64" if system == "macos" else "x86_64")
        gpus = self._gpus(values) if vendor is not None else ()
        if vendor is not None and not any(gpu.vendor == vendor for gpu in gpus):
            gpus = (Gpu(vendor=vendor, index=0, source="error text"),)  # type: ignore[arg-type]  # one of the literals of PlanCommand
        drivers: tuple[Driver, ...] = ()
        if any(gpu.vendor == "nvidia" for gpu in gpus):
            cuda = said.driver_cuda
            drivers = (Driver(vendor="nvidia", version=said.driver, cuda_version=cuda, source="error text"),)
        machine = Machine(os=system, arch=arch, gpus=gpus, drivers=drivers, environment=said.environment)
        return machine, foreign_target(machine, said.python or _PYTHON)

    def _gpus(self, values: Mapping[str, str]) -> tuple[Gpu, ...]:
        """The GPUs of the text: by their code, else by their name."""
        own = values.get("sm") or values.get("capability")
        for names in ((own,), self._mentions.codes, (self._mentions.gpu,)):
            try:
                found = declared_gpus(tuple(filter(None, names)), "error text", self._catalog)
            except UsageError:
                continue
            if found:
                return found
        return ()

    def _plan(self, offer: PlanCommand, words: Iterable[str], machine: Machine, target: Target) -> Plan:
        backend = "cpu" if offer.build == "cpu" else "auto"
        asked = Request(requirements=tuple(map(requirement, words)), backend=backend)
        return plan(asked, machine, target, self._catalog)

    def _command(self, offer: PlanCommand, words: tuple[str, ...], names: tuple[str, ...]) -> str:
        flags = self._known.flags if self._known is not None else ()
        parts = ["torchinstall", "auto", *map(shlex.quote, flags)]
        parts += ["--backend", "cpu"] if offer.build == "cpu" else []
        if names not in ((), ("torchvision",)) or words[0] != "torch" or offer.again:
            parts += words
        if offer.again:
            parts += ["--", *(word for name in offer.again for word in ("--reinstall-package", name))]
        return " ".join(parts)

    def _driver(self, target: Target) -> dict[str, str]:
        """What the driver of the text supports, and which one the next CUDA major version needs."""
        if self._mentions.driver_cuda is None:
            return {}
        spoken = dotted(self._mentions.driver_cuda)
        found = {"driver_cuda": self._mentions.driver_cuda, "cuda_major": str(spoken[0])}
        published = {row.backend for row in self._catalog.wheels("torch", target.platform)}
        builds = (self._catalog.backend(name) for name in published)
        cuda = [row for row in builds if row is not None and row.kind.vendor == "nvidia"]
        floors = [(row.toolkit, self._catalog.floor(row)) for row in cuda if row.toolkit is not None]
        newer = [(toolkit, row) for toolkit, row in floors if toolkit[0] > spoken[0] and row is not None]
        if newer:
            toolkit, floor = min(newer, key=lambda pair: pair[0])
            lowest = floor.windows if target.os == "windows" else floor.linux
            found |= {"next_major": version_text(toolkit[:1]), "next_driver": lowest}
        return found


def _runs(made: Plan, offer: PlanCommand) -> bool:
    """Whether the plan changes something, and what it installs uses the GPU that it must use."""
    if made.error is not None or (made.status == "satisfied" and not offer.again):
        return False
    return offer.gpu is None or any(gpu.covered for gpu in made.gpus) or made.backend not in ("cpu", None)


def _values(made: Plan, machine: Machine) -> dict[str, str]:
    gpu = next(iter(machine.gpus), None)
    code = gpu.compute_capability if gpu is not None else None
    found = {
        "backend": made.backend if made.backend != "cpu" else None,
        "new_torch": made.torch.partition("+")[0] if made.torch else None,
        "capability": capability_text(code) if code else None,
        "gfx": gpu.gfx_target if gpu is not None else None,
    }
    return {name: value for name, value in found.items() if value}
