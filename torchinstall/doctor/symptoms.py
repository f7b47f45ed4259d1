"""Recognise an error text that somebody pastes: what caused it, and what to type.

The rows are data (`data/symptoms.json`): patterns, cause, commands, and the public threads that they come
from. A row adapts to what its patterns captured: `when` lists better wordings, each of which needs certain
values; the first one whose values are all known is used. Values that only the catalog knows (which backend
has code for `sm_61`) are looked up there, see `LOOK_UPS`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from typing import Literal

from msgspec import Struct, json

from torchinstall.catalog.catalog import Catalog
from torchinstall.core.machine import Capability, Gpu, Machine, Os, capability_text
from torchinstall.core.request import Request
from torchinstall.core.target import Target
from torchinstall.core.versions import Dotted, dotted, version_text
from torchinstall.planner.coverage import cover_gpu
from torchinstall.planner.situation import make_situation

__all__ = ["LOOK_UPS", "Match", "Symptom", "Wording", "explain", "normalise", "symptoms"]

_ANSI = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
# What rich, miette (uv) and pip draw around and between the lines of a message.
_BOXES = re.compile(r"[\u2500-\u257f\u25b6\u2771\u00d7\u2022]+")
_QUOTES = str.maketrans({"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u00a0": " "})
_SM = re.compile(r"(?:sm_|compute_)?(\d+)\.?(\d)[a-z]?")


class Wording(Struct, frozen=True, kw_only=True):
    """What to say when all of `needs` are known; what is None is taken from the row."""

    needs: tuple[str, ...]
    cause: str | None = None
    commands: tuple[str, ...] | None = None
    advice: str | None = None


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
    patterns: tuple[str, ...]
    cause: str
    commands: tuple[str, ...]
    sources: tuple[str, ...]
    context: str | None = None
    look_up: str | None = None
    advice: str | None = None
    when: tuple[Wording, ...] = ()


class Table(Struct, frozen=True, kw_only=True):
    """The file of symptoms."""

    schema_version: Literal[1]
    rows: tuple[Symptom, ...]


class Match(Struct, frozen=True, kw_only=True):
    """A recognised symptom.

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


class Paste(Struct, frozen=True, kw_only=True):
    """What a look-up may use: the captured values, the normalised text, and the builds that it is about."""

    values: Mapping[str, str]
    plain: str
    catalog: Catalog
    platform: str


@cache
def symptoms() -> tuple[Symptom, ...]:
    """The shipped table, read when first asked for."""
    text = (files("torchinstall.doctor") / "data" / "symptoms.json").read_bytes()
    return json.decode(text, type=Table).rows


def normalise(text: str) -> str:
    """The text without colours and box characters, on one line, with single spaces.

    Messages are wrapped to the width of whatever terminal they were printed in; on one line they are not.
    """
    return " ".join(_BOXES.sub(" ", _ANSI.sub("", text).translate(_QUOTES)).split())


def explain(text: str, catalog: Catalog, *, platform: str = "linux_x86_64") -> tuple[Match, ...]:
    """Every symptom in a text, the one that says most first.

    Args:
        text: a traceback, a log, the output of a tool.
        catalog: which builds there are.
        platform: key of the platform whose builds are meant, unless the text itself tells.

    Returns:
        Matches ordered by how many values the text gave away, then by the length of what was recognised,
        then by place. Empty when nothing was recognised.
    """
    plain = normalise(text)
    platform = _platform_in(plain) or platform
    found = [(row, hit) for row in symptoms() if (hit := _search(row, plain)) is not None]
    found.sort(key=lambda item: (-len(_captured(item[1])), -len(item[1].group()), item[1].start()))
    return tuple(
        _match(row, hit, Paste(values=_captured(hit), plain=plain, catalog=catalog, platform=platform))
        for row, hit in found
    )


def _search(row: Symptom, plain: str) -> re.Match[str] | None:
    if row.context is not None and re.search(row.context, plain) is None:
        return None
    hits = [hit for pattern in row.patterns if (hit := re.search(pattern, plain)) is not None]
    return max(hits, key=lambda hit: len(_captured(hit)), default=None)


def _captured(hit: re.Match[str]) -> dict[str, str]:
    return {name: value.strip() for name, value in hit.groupdict().items() if value and value.strip()}


def _match(row: Symptom, hit: re.Match[str], paste: Paste) -> Match:
    values = dict(paste.values)
    if row.look_up is not None:
        values |= LOOK_UPS[row.look_up](paste)
    known = (item for item in row.when if all(name in values for name in item.needs))
    wording = next(known, Wording(needs=()))
    commands = row.commands if wording.commands is None else wording.commands
    advice = wording.advice or row.advice
    return Match(
        slug=row.slug,
        cause=_fill(wording.cause or row.cause, values),
        commands=tuple(_fill(command, values) for command in commands),
        advice=None if advice is None else _fill(advice, values),
        evidence=hit.group()[:160],
        values=values,
        sources=row.sources,
    )


def _fill(template: str, values: Mapping[str, str]) -> str:
    """A template with its values; one that is not known is called `unknown`."""
    return re.sub(r"\{(\w+)\}", lambda field: values.get(field[1], "unknown"), template)


def _platform_in(plain: str) -> str | None:
    """The platform that a text gives away, as the tables name it; None where it does not."""
    for platform, pattern in (
        ("win_amd64", r"\[WinError|[A-Z]:\\|win_amd64|\.dll\b"),
        ("linux_aarch64", r"linux\w*_aarch64|aarch64-linux"),
        ("linux_x86_64", r"/dist-packages/|/site-packages/|linux\w*_x86_64"),
    ):
        if re.search(pattern, plain):
            return platform
    return None


def _capability(paste: Paste) -> dict[str, str]:
    """Which builds have code for the GPU, and whether it is older or newer than the installed one serves."""
    code = _sm(paste.values.get("sm") or paste.values.get("capability") or "")
    if code is None:
        return {}
    found = {"capability": capability_text(code), **_direction(code, paste.values)}
    if not any(row.platform == paste.platform for row in paste.catalog.tables.code):
        return found
    builds = _builds_with_code(paste.catalog, paste.platform, code)
    if not builds:
        return {**found, "nothing_published": "yes"}
    torch, _, backend = max(builds)
    names = sorted({(toolkit, name) for _, toolkit, name in builds})
    return {
        **found,
        "backend": backend,
        "torch": version_text(torch),
        "backends": ", ".join(name for _, name in names),
        "first_torch": version_text(min(torch for torch, _, _ in builds)),
    }


def _sm(text: str) -> Capability | None:
    """`sm_120`, `120` or `12.0` as (12, 0)."""
    match = _SM.fullmatch(text)
    return (int(match[1]), int(match[2])) if match else None


def _direction(code: Capability, values: Mapping[str, str]) -> dict[str, str]:
    listed = re.findall(r"(?:sm_|compute_)(\d+[a-z]?)|- (\d+\.\d+) which", values.get("supported", ""))
    texts = [*("".join(pair) for pair in listed), values.get("minimum", "")]
    known = [item for text in texts if (item := _sm(text)) is not None]
    if known and code < min(known):
        return {"too_old": "yes"}
    return {"too_new": "yes"} if known and code > max(known) else {}


def _builds_with_code(catalog: Catalog, platform: str, code: Capability) -> list[tuple[Dotted, Dotted, str]]:
    """(torch minor, toolkit, backend) of every published CUDA build with native code for a capability."""
    published = {
        (row.backend, dotted(row.version)[:2])
        for row in catalog.wheels("torch", platform)
        if row.channel == "stable"
    }
    # Nothing is known of the machine but one GPU: there is no driver, so PTX counts for nothing.
    gpu = Gpu(vendor="nvidia", compute_capability=code, source="error text")
    system: Os = "windows" if platform.startswith("win") else "linux"
    arch = "aarch64" if platform.endswith(("aarch64", "arm64")) else "x86_64"
    bare = make_situation(
        Request(requirements=()),
        Machine(os=system, arch=arch, gpus=(gpu,)),
        Target(python_version="3.12", abi="cp312", os=system, arch=arch),
        catalog,
    )
    builds = []
    for row in catalog.tables.code:
        info = catalog.backend(row.backend)
        if row.platform != platform or info is None or info.toolkit is None or info.kind.strategy != "sm":
            continue
        torch = dotted(row.torch)
        if (row.backend, torch[:2]) in published and cover_gpu(info, row, gpu, bare).covered:
            builds.append((torch, info.toolkit, row.backend))
    return builds


def _driver(paste: Paste) -> dict[str, str]:
    """What `found version 12080` means, and which builds start on that driver."""
    if "found" not in paste.values:
        return {}
    number = int(paste.values["found"])
    spoken: Dotted = (number // 1000, number % 1000 // 10)
    found = {"driver_cuda": version_text(spoken), "cuda_major": str(spoken[0])}
    toolkits = sorted((toolkit, name) for name, (_, toolkit) in _cuda_backends(paste).items())
    same_major = [item for item in toolkits if item[0][0] == spoken[0]]
    below = [item for item in same_major if item[0] <= spoken]
    if same_major:
        found["backend"] = (below[-1] if below else same_major[0])[1]
    newer = next(((toolkit, name) for toolkit, name in toolkits if toolkit[0] > spoken[0]), None)
    if newer is not None:
        found["next_major"] = str(newer[0][0])
        info = paste.catalog.backend(newer[1])
        floor = None if info is None else paste.catalog.floor(info)
        if floor is not None:
            lowest = floor.windows if paste.platform.startswith("win") else floor.linux
            found["next_driver"] = lowest
    return found


def _cuda_backends(paste: Paste) -> dict[str, tuple[Dotted, Dotted]]:
    """Backend -> (newest stable torch, toolkit) of every CUDA backend on PyTorch's index."""
    found: dict[str, tuple[Dotted, Dotted]] = {}
    for row in paste.catalog.wheels("torch", paste.platform):
        info = paste.catalog.backend(row.backend)
        if row.channel != "stable" or row.origin == "default" or info is None or info.toolkit is None:
            continue
        if info.kind.strategy == "sm":
            newest = (dotted(row.version), info.toolkit)
            found[row.backend] = max(found.get(row.backend, newest), newest)
    return found


def _cuda_major(paste: Paste) -> dict[str, str]:
    """The backend of a CUDA major version that carries the newest torch; the highest toolkit on a tie."""
    major = int(paste.values["major"])
    fits = [(newest, name) for name, newest in _cuda_backends(paste).items() if newest[1][0] == major]
    return {"backend": max(fits)[1]} if fits else {}


def _python_tags(paste: Paste) -> dict[str, str]:
    """The Python nearest to the one in use among those that have wheels."""
    tags = [
        (int(major), int(minor)) for major, minor in re.findall(r"cp(\d)(\d+)", paste.values.get("tags", ""))
    ]
    if not tags or "python" not in paste.values:
        return {}
    older = [tag for tag in tags if tag <= dotted(paste.values["python"])]
    return {"best_python": version_text(max(older) if older else min(tags))}


def _glibc(paste: Paste) -> dict[str, str]:
    """`2_28` of a wheel's name or `2.27` of the loader's message, as a version."""
    if "glibc" not in paste.values:
        return {}
    found = {"glibc_version": paste.values["glibc"].replace("_", ".")}
    return {**found, "not_found": "yes"} if "GLIBC_" in paste.plain else found


LOOK_UPS: Mapping[str, Callable[[Paste], dict[str, str]]] = {
    "capability": _capability,
    "driver": _driver,
    "cuda-major": _cuda_major,
    "python-tags": _python_tags,
    "glibc": _glibc,
}
"""By the name that a row's `look_up` gives; a value that is not known is omitted."""
