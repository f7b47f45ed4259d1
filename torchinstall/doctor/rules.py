"""From the facts of an error text to its causes, and to what is safe to type.

The rules are data (`data/rules.json`), the most specific first. Rules of one topic exclude each other: the
first that applies is the cause. A rule applies where one of its wordings or facts is found, its context is
there too, and the place belongs to torch and not to another framework.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Literal

from msgspec import Struct, json

from torchinstall.catalog.catalog import Catalog
from torchinstall.doctor.advice import Advice, Here, Offer, advise, runs_there
from torchinstall.doctor.cleaning import clean
from torchinstall.doctor.facts import Fact, Kind, Mentions, Reading, grammar


class Need(Struct, frozen=True, kw_only=True):
    """A fact that a rule is about.

    Attributes:
        values: value -> pattern that all of it must match, in small letters.
        owner: pattern of the package that the fact belongs to; None: any, or none.
    """

    fact: Kind
    values: Mapping[str, str] = {}
    owner: str | None = None

    def met_by(self, fact: Fact) -> bool:
        """Whether this is such a fact."""
        if fact.kind != self.fact:
            return False
        if self.owner is not None and re.fullmatch(self.owner, fact.owner or "") is None:
            return False
        return all(
            re.fullmatch(text, fact.values.get(name, "").lower()) is not None
            for name, text in self.values.items()
        )


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
    offer: Offer | None = None
    type: tuple[str, ...] = ()
    note: str | None = None
    when: tuple[Wording, ...] = ()


class Table(Struct, frozen=True, kw_only=True):
    """The file of rules."""

    schema_version: Literal[1]
    rows: tuple[Rule, ...]


class Match(Struct, frozen=True, kw_only=True):
    """A recognised cause.

    Attributes:
        evidence: the part of the text that was recognised, at most 160 characters.
        values: what was captured and looked up.
        sources: public threads about it.
    """

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
    text = (files("torchinstall.doctor") / "data" / "rules.json").read_bytes()
    return json.decode(text, type=Table).rows


def explain(
    text: str, catalog: Catalog, here: Callable[[Mentions], Here | None] = lambda _: None
) -> tuple[Match, ...]:
    """Every cause in a text, the most specific first; empty when nothing was recognised.

    Args:
        text: a traceback, a log, the output of a tool.
        catalog: which builds there are.
        here: gives the environment and machine here, if a text with these mentions may be about them.
    """
    reading = Reading(clean(text))
    hits = tuple(_hits(reading))
    known = here(reading.mentions) if any(hit.rule.offer is not None for hit in hits) else None
    return tuple(_match(hit, reading, catalog, known) for hit in hits)


def _hits(reading: Reading) -> Iterator[_Hit]:
    topics: set[str] = set()
    for rule in rules():
        if rule.topic in topics:
            continue
        hit = next(_places(rule, reading), None)
        if hit is None or any(map(reading.search, rule.unless)):
            continue
        if all(map(reading.search, rule.context)):
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
        if _is_torchs(rule, reading, start, end):
            yield _Hit(rule=rule, start=start, end=end, values=values)


def _is_torchs(rule: Rule, reading: Reading, start: int, end: int) -> bool:
    if rule.guard == "torch":
        return reading.about_torch
    return rule.guard == "own" or not reading.claimed(start, end)


def _match(hit: _Hit, reading: Reading, catalog: Catalog, here: Here | None) -> Match:
    rule = hit.rule
    values = {**hit.values, **_projects(hit)}
    advice = Advice() if rule.offer is None else advise(rule.offer, values, reading.mentions, catalog, here)
    values |= advice.values
    known = (item for item in rule.when if all(name in values for name in item.needs))
    wording = next(known, Wording(needs=()))
    typed = [_fill(command, values) for command in (rule.type if wording.type is None else wording.type)]
    typed = [text for text in typed if runs_there(text, reading.mentions, catalog, here)]
    notes = [text for text in (wording.note or rule.note, advice.note) if text]
    return Match(
        slug=rule.slug,
        cause=_fill(wording.cause or rule.cause, values),
        commands=tuple(dict.fromkeys((*advice.commands, *typed))),
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
