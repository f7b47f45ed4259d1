"""Recognise an error text that somebody pastes: what caused it, and what to type.

The rows are data (`data/symptoms.json`): patterns, cause, commands, and the public threads that they were
learnt from. A row adapts to what its patterns captured: `when` lists better wordings, each of which needs
certain values; the first one whose values are all known is used. Values that a version table must supply
(which backend has code for `sm_61`) are looked up in the catalog, see `lookup`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from torchinstall.doctor.lookup import LOOK_UPS, platform_in

if TYPE_CHECKING:
    from torchinstall.catalog.catalog import Catalog

__all__ = ["Match", "Symptom", "Wording", "explain", "normalise", "symptoms"]

SCHEMA_VERSION = 1

_ANSI = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
# What rich, miette (uv) and pip draw around and between the lines of a message.
_BOXES = re.compile(r"[\u2500-\u257f\u25b6\u2771\u00d7\u2022]+")
_SPACE = re.compile(r"\s+")
_QUOTES = str.maketrans({"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u00a0": " "})


class Wording(Struct, frozen=True, kw_only=True):
    """What to say when all of `needs` are known; None keeps what the row says anyway."""

    needs: tuple[str, ...]
    cause: str | None
    commands: tuple[str, ...] | None
    advice: str | None


class Symptom(Struct, frozen=True, kw_only=True):
    """One row of the table.

    Attributes:
        patterns: matched against normalised text; any of them is enough.
        context: must be found somewhere in the text too; None: nothing more is needed.
        look_up: name of the function that adds values to the captured ones.
        cause: one clause, with `{name}` for values.
        commands: what to type, one line each.
        advice: what cannot be typed.
        when: better wordings, the best first.
        sources: public threads.
    """

    slug: str
    patterns: tuple[re.Pattern[str], ...]
    context: re.Pattern[str] | None
    look_up: str | None
    cause: str
    commands: tuple[str, ...]
    advice: str | None
    when: tuple[Wording, ...]
    sources: tuple[str, ...]


class Match(Struct, frozen=True, kw_only=True):
    """A recognised symptom.

    Attributes:
        slug: of the row.
        cause: one clause, values filled in.
        commands: what to type.
        advice: what else helps.
        evidence: the part of the text that was recognised, at most 160 characters.
        values: what was captured and looked up.
        sources: public threads about it.
    """

    slug: str
    cause: str
    commands: tuple[str, ...]
    advice: str | None
    evidence: str
    values: tuple[tuple[str, str], ...]
    sources: tuple[str, ...]


def normalise(text: str) -> str:
    """The text without colours and box characters, on one line, with single spaces.

    Messages are wrapped to the width of whatever terminal they were printed in; on one line they are not.
    """
    plain = _BOXES.sub(" ", _ANSI.sub("", text).translate(_QUOTES))
    return _SPACE.sub(" ", plain).strip()


def explain(
    text: str, catalog: Catalog | None = None, *, platform: str = "linux_x86_64"
) -> tuple[Match, ...]:
    """Every symptom in a text, the one that says most first.

    Args:
        text: a traceback, a log, the output of a tool.
        catalog: where version tables are; without it the general wording of a row is used.
        platform: key of the platform whose builds are meant, unless the text itself tells.

    Returns:
        Matches ordered by how many values the text gave away, then by the length of what was recognised,
        then by place. Empty when nothing was recognised.
    """
    plain = normalise(text)
    where = platform_in(plain) or platform
    found = [hit for row in symptoms() if (hit := _search(row, plain)) is not None]
    found.sort(key=lambda hit: (-len(_captured(hit[1])), -len(hit[1].group()), hit[1].start()))
    return tuple(_word(row, match, catalog, where, plain) for row, match in found)


def _search(row: Symptom, plain: str) -> tuple[Symptom, re.Match[str]] | None:
    if row.context is not None and row.context.search(plain) is None:
        return None
    hits = [match for pattern in row.patterns if (match := pattern.search(plain)) is not None]
    return (row, max(hits, key=lambda match: len(_captured(match)))) if hits else None


def _captured(match: re.Match[str]) -> dict[str, str]:
    return {name: value.strip() for name, value in match.groupdict().items() if value and value.strip()}


def _word(row: Symptom, match: re.Match[str], catalog: Catalog | None, platform: str, plain: str) -> Match:
    values = _captured(match)
    if row.look_up is not None:
        values.update(LOOK_UPS[row.look_up](values, catalog, platform, plain))
    wording = next((item for item in row.when if all(name in values for name in item.needs)), None)
    cause, commands, advice = row.cause, row.commands, row.advice
    if wording is not None:
        cause = wording.cause or cause
        commands = row.commands if wording.commands is None else wording.commands
        advice = wording.advice or advice
    return Match(
        slug=row.slug,
        cause=_fill(cause, values),
        commands=tuple(_fill(command, values) for command in commands),
        advice=None if advice is None else _fill(advice, values),
        evidence=match.group()[:160],
        values=tuple(values.items()),
        sources=row.sources,
    )


class _Known(dict[str, str]):
    """Values for a template; what nobody knows is said to be unknown."""

    def __missing__(self, key: str) -> str:
        return "unknown"


def _fill(template: str, values: Mapping[str, str]) -> str:
    return template.format_map(_Known(values))


@cache
def symptoms() -> tuple[Symptom, ...]:
    """The shipped table, read when first asked for.

    Raises:
        ValueError: the table is of another schema or a pattern does not compile (a fault of this package).
    """
    data = json.loads((files("torchinstall.doctor") / "data" / "symptoms.json").read_text(encoding="utf-8"))
    if data.get("schema_version") != SCHEMA_VERSION:
        raise ValueError(f"symptom table schema {data.get('schema_version')!r} is not {SCHEMA_VERSION}")
    return tuple(_row(row) for row in data["rows"])


def _row(data: dict[str, Any]) -> Symptom:
    context = data.get("context")
    return Symptom(
        slug=data["slug"],
        patterns=_compile(data["patterns"]),
        context=None if context is None else re.compile(context),
        look_up=data.get("look_up"),
        cause=data["cause"],
        commands=tuple(data["commands"]),
        advice=data.get("advice"),
        when=tuple(_wording(item) for item in data.get("when", ())),
        sources=tuple(data["sources"]),
    )


def _wording(data: dict[str, Any]) -> Wording:
    commands = data.get("commands")
    return Wording(
        needs=tuple(data["needs"]),
        cause=data.get("cause"),
        commands=None if commands is None else tuple(commands),
        advice=data.get("advice"),
    )


def _compile(patterns: Iterable[str]) -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(pattern) for pattern in patterns)
