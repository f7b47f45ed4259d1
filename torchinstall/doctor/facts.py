"""What an error text states, taken apart into facts that `rules.py` combines into causes.

Which library is missing and who asked for it, which code a driver gave, what a resolver complained about, and
which versions, GPUs and drivers are mentioned.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache, cached_property
from itertools import islice
from typing import Any, Literal

from msgspec import Struct

from torchinstall.core.decoding import convert, own_data
from torchinstall.core.machine import Os, cuda_text
from torchinstall.doctor.cleaning import Cleaned

Kind = Literal["library", "symbol", "loader", "gpu-code", "requirement", "download"]


class Statement(Struct, frozen=True, kw_only=True):
    """One statement, and where it stands in the cleaned text without spaces.

    Attributes:
        values: what it says: `library` and `major`; `symbol` and `file`; `code` and `dll`; …
        owner: the import package whose file was loaded last before it, where the text shows one.
    """

    kind: Kind
    values: Mapping[str, str]
    owner: str | None
    start: int
    end: int


class Extraction(Struct, frozen=True, kw_only=True):
    """How one kind of fact is worded: a named group for each value, and those that the wording gives away."""

    kind: Kind
    patterns: tuple[str, ...]
    values: Mapping[str, str] = {}


class Names(Struct, frozen=True, kw_only=True):
    """Whose packages are whose, by the name that is imported.

    Attributes:
        family: torch and what is published with it.
        extensions: import name or file of a compiled extension of torch -> its project.
        others: frameworks that have the same libraries and errors, and are not torch.
        unpublished: projects that PyPI has no current build of, or something else under their name.
    """

    family: tuple[str, ...]
    extensions: Mapping[str, str]
    others: tuple[str, ...]
    unpublished: frozenset[str]


class Mention(Struct, frozen=True, kw_only=True):
    """How a part of the situation is worded.

    Attributes:
        of: field of `Mentions`; `spoken` is the number in `found version 12080`.
        text: the form of the cleaned text that is searched.
        value: what the wording means; empty: what its groups capture.
        many: all of them are collected.
    """

    of: str
    pattern: str
    text: Literal["flat", "small", "tight"] = "small"
    value: str = ""
    many: bool = False


class Grammar(Struct, frozen=True, kw_only=True):
    """`data/wordings.json`."""

    schema_version: Literal[1]
    names: Names
    facts: tuple[Extraction, ...]
    mentions: tuple[Mention, ...]


class Mentions(Struct, frozen=True, kw_only=True):
    """The situation that a text is about; None or empty where it does not say.

    Attributes:
        codes: `sm_120` and `gfx1201`, as `--target-gpu` takes them.
        packages: packages of torch's family that the text shows as installed.
        prefixes: environments whose files are named.
    """

    os: Os | None = None
    arch: str | None = None
    environment: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()
    gpu: str | None = None
    vendor: Literal["nvidia", "amd", "intel", "apple"] | None = None
    driver: str | None = None
    driver_cuda: str | None = None
    python: str | None = None
    torch: str | None = None
    packages: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()


@cache
def grammar() -> Grammar:
    """The shipped wordings, read when first asked for."""
    return own_data(__file__, "data/wordings.json", Grammar)


@cache
def pattern(text: str) -> re.Pattern[str]:
    """A pattern for text without spaces: written with spaces, each of which may also be a line end."""
    return re.compile(text.replace(" ", "\n?"))


class Reading:
    """A cleaned text with its facts."""

    def __init__(self, cleaned: Cleaned) -> None:
        self.cleaned = cleaned

    def search(self, text: str) -> re.Match[str] | None:
        """The first place that a pattern matches; a word that it cannot do without is looked for first."""
        tight, words = self.cleaned.tight, _needed(text)
        return pattern(text).search(tight) if not words or any(word in tight for word in words) else None

    def captured(self, match: re.Match[str]) -> dict[str, str]:
        """The groups of a match, as they read in the text; names and versions have no spaces."""
        values = {}
        for name in match.re.groupindex:
            text = self.cleaned.text(*match.span(name)).replace("\n", " ").strip(" ,;:'")
            if text:
                values[name] = text if name in _WITH_SPACES else text.replace(" ", "")
        return values

    @cached_property
    def facts(self) -> tuple[Statement, ...]:
        """Every fact, in the order of the text."""
        found = [fact for row in grammar().facts for fact in self._of(row)]
        return tuple(sorted(found, key=lambda fact: (fact.start, -fact.end)))

    def _of(self, row: Extraction) -> Iterator[Statement]:
        tight = self.cleaned.tight
        for text in filter(self.search, row.patterns):
            for match in islice(pattern(text).finditer(tight), 40):
                start, end = match.span()
                values = {**row.values, **self.captured(match)}
                if row.kind == "symbol":  # a loader names the library before its complaint
                    file = _FILE_BEFORE.search(tight[max(0, start - 300) : start])
                    values = {"file": file[1], **values} if file else values
                owner = self.owner(start, end)
                yield Statement(kind=row.kind, values=values, owner=owner, start=start, end=end)

    def owner(self, start: int, end: int) -> str | None:
        """The package whose file the text names last before the end of a fact, or as its culprit there."""
        tight = self.cleaned.tight
        named = [match[1] for match in _PACKAGE.finditer(tight, max(0, start - 4_000), end)]
        return named[-1] if named else None

    @cached_property
    def about_torch(self) -> bool:
        """Whether torch, a package of its family or an extension of it is named."""
        return "packages/torch/" in self.cleaned.tight or bool(_torch_words().search(self.cleaned.small))

    @cached_property
    def about_others(self) -> bool:
        """Whether another framework is named that has the same libraries."""
        return bool(_other_words().search(self.cleaned.small))

    def claimed(self, start: int, end: int) -> bool:
        """Whether what stands there is another framework's affair."""
        owner, names = self.owner(start, end), grammar().names
        if owner in names.family or owner in names.extensions:
            return False
        return owner in names.others or (self.about_others and not self.about_torch)

    @cached_property
    def mentions(self) -> Mentions:
        """The situation that the text is about; of each part the first wording that is found counts."""
        found: dict[str, Any] = {}
        for row in grammar().mentions:
            text = getattr(self.cleaned, row.text)
            for match in islice(re.finditer(row.pattern, text), 50 if row.many else 1):
                value = row.value or "".join(part for part in match.groups() if part)
                if row.many:
                    found[row.of] = tuple(dict.fromkeys((*found.get(row.of, ()), value)))
                else:
                    found.setdefault(row.of, value)
        if (spoken := cuda_text(int(found.pop("spoken", 0)))) is not None:
            found["driver_cuda"] = spoken
        if digits := found.get("python"):
            found["python"] = f"3.{digits.removeprefix('3').lstrip('.')}"
        return convert(found, Mentions)


_GAP = "\0"
_WITH_SPACES = frozenset({"gpu", "supported", "condition", "versions", "tags"})
_FILE_BEFORE = re.compile(r"([a-z0-9_.+-]+\.(?:so|pyd|dylib))[\d.]*:?\n?$")
_PACKAGE = re.compile(r"(?:site|dist)-packages/([a-z_][\w]*)")


@cache
def _torch_words() -> re.Pattern[str]:
    names = grammar().names
    # Shorter names are words of every day: apex, awq.
    own = [re.escape(name) for name in (*names.family, *names.extensions) if len(name) > 4 or name == "vllm"]
    words = "|".join(sorted(own, key=len, reverse=True)).replace("_", "[-_]")
    return re.compile(rf"(?<![a-z0-9])(?:(?:py|lib)?torch(?:_\w+)?(?=[^a-z0-9-]|-\d|$)|{words})(?![a-z0-9])")


@cache
def _other_words() -> re.Pattern[str]:
    words = "|".join(re.escape(name) for name in grammar().names.others).replace("_", "[-_.]")
    # `/n` is what is left of a line end in a string that was cut off.
    return re.compile(rf"(?:(?<![a-z0-9])|(?<=/n))(?:{words})(?![a-z])")


@cache
def _needed(text: str) -> tuple[str, ...]:
    """Words of which every match of a pattern contains one; empty where none can be told."""
    plain = re.sub(r"\\[^\W\d_]|\\[()|\[\]]|\[(?:\\.|[^\]\\])*\]", _GAP, text).replace("\\", "")
    while "(" in plain:
        plain = re.sub(r"\([^()]*\)", _GAP, plain)
    plain = re.sub(r".(?:[?*]|\{[^}]*\}\??)|[ .^$+?]", _GAP, plain)
    words = tuple(max(branch.split(_GAP), key=len) for branch in plain.split("|"))
    return words if all(words) else ()
