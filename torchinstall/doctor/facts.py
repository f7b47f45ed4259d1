"""What an error text states, taken apart into facts that `rules.py` combines into causes.

Which library is missing and who asked for it, which code a driver gave, what a resolver complained about, and
which versions, GPUs and drivers are mentioned.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache, cached_property
from importlib.resources import files
from itertools import islice
from typing import Literal

from msgspec import Struct, json

from torchinstall.core.machine import Os
from torchinstall.doctor.cleaning import Cleaned

__all__ = ["Extraction", "Fact", "Grammar", "Kind", "Mentions", "Names", "Reading", "grammar", "pattern"]

Kind = Literal["library", "symbol", "loader", "gpu-code", "requirement", "download"]


class Fact(Struct, frozen=True, kw_only=True):
    """One statement.

    Attributes:
        values: what it says: `library` and `major`; `symbol` and `file`; `code` and `dll`; …
        owner: the import package whose file was loaded last before it, where the text shows one.
        start: where it stands in the cleaned text without spaces.
    """

    kind: Kind
    values: Mapping[str, str]
    owner: str | None
    start: int
    end: int


class Extraction(Struct, frozen=True, kw_only=True):
    """How one kind of fact is worded.

    Attributes:
        patterns: with a named group for each value.
        values: values that the wording itself gives away.
    """

    kind: Kind
    patterns: tuple[str, ...]
    values: Mapping[str, str] = {}


class Names(Struct, frozen=True, kw_only=True):
    """Whose packages are whose, by the name that is imported.

    Attributes:
        family: torch and what is published with it.
        extensions: import name or file of a compiled extension of torch -> its project.
        others: frameworks that have the same libraries and errors, and are not torch.
    """

    family: tuple[str, ...]
    extensions: Mapping[str, str]
    others: tuple[str, ...]


class Grammar(Struct, frozen=True, kw_only=True):
    """The file of wordings (`data/wordings.json`)."""

    schema_version: Literal[1]
    names: Names
    facts: tuple[Extraction, ...]


class Mentions(Struct, frozen=True, kw_only=True):
    """The situation that a text is about; None or empty where it does not say.

    Attributes:
        codes: `sm_120` and `gfx1201`, as `--target-gpu` takes them.
        gpu: a product name.
        driver: version of the NVIDIA driver.
        driver_cuda: newest CUDA that the driver speaks.
        torch: installed version.
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
    text = (files("torchinstall.doctor") / "data" / "wordings.json").read_bytes()
    return json.decode(text, type=Grammar)


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
        tight = self.cleaned.tight
        words = _needed(text)
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
    def facts(self) -> tuple[Fact, ...]:
        """Every fact, in the order of the text."""
        found = [fact for row in grammar().facts for fact in self._of(row)]
        return tuple(sorted(found, key=lambda fact: (fact.start, -fact.end)))

    def _of(self, row: Extraction) -> Iterator[Fact]:
        for text in row.patterns:
            if self.search(text) is None:
                continue
            for number, match in enumerate(pattern(text).finditer(self.cleaned.tight)):
                if number == 40:
                    break
                values = self.captured(match)
                if row.kind == "symbol":
                    values = {**self._file_before(match.start()), **values}
                yield Fact(
                    kind=row.kind,
                    values={**row.values, **values},
                    owner=self.owner(match.start(), match.end()),
                    start=match.start(),
                    end=match.end(),
                )

    def _file_before(self, end: int) -> dict[str, str]:
        """The library that a loader names before its complaint."""
        match = _FILE_BEFORE.search(self.cleaned.tight[max(0, end - 300) : end])
        return {"file": match[1]} if match else {}

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
        owner = self.owner(start, end)
        names = grammar().names
        if owner is not None:
            if owner in names.family or owner in names.extensions:
                return False
            if owner in names.others:
                return True
        return self.about_others and not self.about_torch

    @cached_property
    def mentions(self) -> Mentions:
        """The situation that the text is about."""
        return _mentions(self.cleaned)


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
    return re.compile(rf"(?<![a-z0-9])(?:{words})(?![a-z])")


@cache
def _needed(text: str) -> tuple[str, ...]:
    """Words of which every match of a pattern contains one; empty where none can be told."""
    words = tuple(_longest_word(branch) for branch in _branches(text))
    return words if all(words) else ()


def _branches(text: str) -> list[str]:
    """The alternatives of a pattern, without the group around all of them."""
    depth, parts, place = 0, [""], 0
    while place < len(text):
        size = (
            2 if text[place] == "\\" else text.index("]", place + 2) - place + 1 if text[place] == "[" else 1
        )
        char = text[place : place + size]
        place += size
        depth += (char == "(") - (char == ")")
        parts += [""] if char == "|" and not depth else [parts.pop() + char]
    whole = (
        re.fullmatch(r"\(\?:((?:[^()\\]|\\.|\((?:[^()\\]|\\.|\([^()]*\))*\))*)\)", text)
        if len(parts) == 1
        else None
    )
    return _branches(whole[1]) if whole else parts


def _longest_word(text: str) -> str:
    runs, depth, place = [""], 0, 0
    while place < len(text):
        char, after = text[place], text[place + 1 : place + 2]
        place += 1
        if char == "\\":
            place += 1
            runs += [""] if after.isalnum() or depth else [runs.pop() + after]
        elif char == "[":
            place = text.index("]", place + 1) + 1
            runs.append("")
        elif char in "()":
            depth += 1 if char == "(" else -1
            runs.append("")
        elif char in "?*{" and not depth:
            place = text.index("}", place) + 1 if char == "{" else place
            runs += [runs.pop()[:-1], ""]
        elif char in " .^$+?*{}|" or depth:
            runs.append("")
        else:
            runs.append(runs.pop() + char)
    return max(runs, key=len)


_FOUND_CUDA = re.compile(r"\(foundversion(\d{4,5})\)")
_DRIVER = re.compile(
    r"(?:nvidia-smi|driverversion|nvrmversion[^\n]{0,60}?module)[:=']{0,3}(\d{3}\.\d{2,3}(?:\.\d{1,2})?)"
)
_CUDA_OF_SMI = re.compile(r"cuda(?:umd)?version:(\d{1,2}\.\d)")
_OWN_CODE = re.compile(
    r"(?:cudacapability|computecapability\(cc\)|gpu-name=?'?)(sm_\d{2,3}[af]?|\d{1,2}\.\d)(?!\d)"
    r"|value'(sm_\d{2,3}[af]?)'isnotdefined|forgpuarch:(gfx[0-9a-f]{3,5})"
    r"|unsupportedgpuarchitecture'compute_(\d{2,3})a?'"
)
_GPU_NAME = re.compile(
    r"(?:nvidia )?(?:geforce )?(?:rtx|gtx)(?: pro| a)? ?\d{3,4}(?: ?ti| super| ti super| d)?\b|nvidia gb10"
    r"|tesla [a-z]\d{2,3}|(?:amd )?radeon(?: rx| pro)? ?\w?\d{3,4}\w{0,3}(?: xtx?)?"
    r"|(?:intel )?arc(?:\(tm\))? \w\d{3,4}\w?"
)
_PYTHON = re.compile(
    r"(?<![a-z])python[ -]?(3\.\d{1,2})(?:\.\d+)?(?!\d)|/python(3\.\d{1,2})/"
    r"|(?<![a-z])cp(3)(\d{1,2})(?=[-t.])|/python(3)(\d{2})/"
)
_TORCH = re.compile(
    r"(?<![a-z])(?:py)?torch(?:-|==| version:? ?| )"
    r"(\d\.\d{1,2}\.\d(?:\+(?:cu\d{2,3}|cpu|rocm[\d.]+|xpu))?)(?![\d.])"
)
_PREFIX = re.compile(
    r"(?i)((?:[a-z]:)?/[^\s',;()]{1,200}?)/lib(?:64)?/(?:python3\.\d{1,2}/)?(?:site|dist)-packages/"
)
_INSTALLED = re.compile(r"(?:site|dist)-packages/(torch(?:vision|audio|codec|text|ao)?)(?:/|-)")
_PLACES: tuple[tuple[Os, str], ...] = (
    ("windows", r"\[winerror|(?<![a-z])[a-z]:/|win_amd64|\.dll\b|\.pyd\b"),
    ("macos", r"macosx?_\d|dlopen\(/|\.dylib\b|/users/|/opt/homebrew|darwin|\bmps\b|macos 1\d\.\d"),
    ("linux", r"linux\w*_(?:x86_64|aarch64)|\.so\b|/usr/|/home/|/root/|/opt/|glibc"),
)
_VENDORS = (
    ("amd", r"rocm|\bhip\b|gfx\d|radeon|amdgpu|/dev/kfd|miopen|libamdhip|tensile"),
    ("nvidia", r"cuda|nvidia|\bsm_\d|cudnn|nvrtc|ptxas|cublas"),
    ("intel", r"\bxpu\b|level[_ -]zero|sycl|intel arc"),
    ("apple", r"\bmps\b"),
)


def _mentions(cleaned: Cleaned) -> Mentions:
    small, tight = cleaned.small, cleaned.tight
    found = _FOUND_CUDA.search(tight)
    smi = _CUDA_OF_SMI.search(tight)
    number = int(found[1]) if found else 0
    own = [code for match in _OWN_CODE.finditer(tight) for code in match.groups() if code]
    codes = [f"sm_{code}" if code.isdigit() else code for code in own] or re.findall(
        r"gfx[0-9a-f]{3,5}\b", small
    )
    python = _PYTHON.search(small)
    driver, torch, name = _DRIVER.search(tight), _TORCH.search(small), _GPU_NAME.search(small)
    system = next((os for os, text in _PLACES if re.search(text, small)), None)
    if system == "windows" and re.search(r"\.so\b", small) and ".dll" not in small:
        system = "linux"
    arm = re.search(r"aarch64|arm64|jetson|/tegra", small) and not re.search(r"x86_64|amd64", small)
    return Mentions(
        os=system,
        arch="aarch64" if arm else "x86_64" if re.search(r"x86[-_]64|amd64", small) else None,
        environment=("wsl2",) if "/usr/lib/wsl" in small or "wsl2" in small else (),
        codes=tuple(dict.fromkeys(codes)),
        gpu=cleaned.flat[slice(*name.span())].strip() if name else None,
        vendor=next((vendor for vendor, text in _VENDORS if re.search(text, small)), None),  # type: ignore[misc]
        driver=driver[1] if driver else None,
        driver_cuda=f"{number // 1000}.{number % 1000 // 10}" if number else smi[1] if smi else None,
        python=".".join(part for part in python.groups() if part) if python else None,
        torch=torch[1] if torch else None,
        packages=tuple(dict.fromkeys(match[1] for match in _INSTALLED.finditer(tight))),
        prefixes=tuple(dict.fromkeys(match[1] for match in islice(_PREFIX.finditer(cleaned.flat), 50))),
    )
