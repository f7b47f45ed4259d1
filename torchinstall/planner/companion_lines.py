"""One companion and one build of torch: which lines of its files fit, and why the others do not."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from msgspec import Struct, structs

from torchinstall.catalog.stack import CompanionBuild
from torchinstall.catalog.tables import platform_of
from torchinstall.core.machine import Capability, Gpu, capability, sm_text
from torchinstall.core.request import specifiers
from torchinstall.core.target import python_tags, wheel_fits
from torchinstall.core.versions import at_least
from torchinstall.index.urls import LINKS, index_url
from torchinstall.planner.builds import Build, Pick, Rejection, can_hold, version_key
from torchinstall.planner.coverage import cover_gpus
from torchinstall.planner.situation import Situation

if TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet

_TRUST = {"makers": 1, "trusted": 2, "community": 3}
_WITHOUT_CUDA = ("cpu", "rocm*", "xpu*")
_GRAVEST = ("name", "python", "libc", "code", "platform", "torch", "backend", "trust", "version", "sources")
"""Faults of a line, the one that is named first where several lines come equally near."""


class Wanted(Struct, frozen=True):
    """A companion that counts for the choice.

    Attributes:
        kept: the version that is installed; it stays unless somebody asked for the package.
        asked: somebody asked for it, so that it is installed.
    """

    name: str
    bounds: SpecifierSet
    extras: tuple[str, ...] = ()
    kept: str | None = None
    asked: bool = True


class Choice(Struct, frozen=True):
    """What is taken of a companion: a line and, where it is pinned, a version with its local segment."""

    name: str
    line: CompanionBuild
    version: str = ""
    asked: bool = True

    @property
    def installs(self) -> str:
        """The name of the package that is installed."""
        return self.line.instead or self.name

    @property
    def compiles(self) -> bool:
        """Whether it is built from source while it is installed."""
        return self.line.build == "sdist"


def choices_of(wanted: Wanted, build: Build, situation: Situation) -> list[Choice] | Rejection:
    """What can be taken of a companion for a build, the best first; or what stands in the way."""
    found: list[Choice] = []
    nearest = sources = None
    lines = tuple(_lines_of(wanted, situation))
    if any(item.operator == "==" for item in wanted.bounds):  # what other releases lack does not count
        pinned = tuple(line for line in lines if _in_bounds(line, wanted.bounds))
        lines = pinned if any(line.build == "ready" for line in pinned) else lines
    for line in lines:
        faults = (*_system_faults(line, wanted, situation), *_build_faults(line, build, situation))
        choices = () if faults else tuple(_versions(line, wanted, build, situation))
        found += choices
        if not faults and not choices:
            faults = (_fault("version", wanted.name, f"{wanted.name} {wanted.kept}", "another build of it"),)
        if faults:
            # The line that comes nearest has the fewest faults; the gravest of these is named.
            worst = max(faults, key=lambda item: item.depth)
            far = 10 * len(faults) + (0 if _of_maker(line, build) else 100)
            worst = structs.replace(worst, depth=worst.depth - far)
            sources = worst if line.build == "sdist" and len(faults) == 1 else sources
            nearest = worst if nearest is None or worst.depth >= nearest.depth else nearest
    if not found and nearest is not None:
        elsewhere = nearest.kind == "platform" and nearest.depth > 80  # and nothing else is wrong
        return sources if elsewhere and sources is not None else nearest
    first = wanted.kept.partition("+")[0] if wanted.kept else None
    found.sort(key=lambda item: (item.line.build != "ready", item.line.trust))
    found.sort(key=lambda item: version_key(item.version or item.line.versions.split(" ")[0]), reverse=True)
    found.sort(key=lambda item: (item.compiles, item.version.partition("+")[0] != first))
    return found


def _lines_of(wanted: Wanted, situation: Situation) -> Iterable[CompanionBuild]:
    if not wanted.asked and wanted.kept is not None:
        return installed_lines(wanted.name, wanted.kept, situation)
    rows = situation.catalog.companion_builds(wanted.name)
    extras = {row.extra for row in rows} & set(wanted.extras)
    return (row for row in rows if (row.extra in extras if extras else not row.extra))


def installed_lines(name: str, version: str, situation: Situation) -> tuple[CompanionBuild, ...]:
    """The lines that an installed version may come from; empty: nobody knows what it is built for.

    What depends on the major version of CUDA only is judged by that, whatever its version; what says in its
    local version which torch it is for, by that.
    """
    return situation.once(
        ("installed-lines", name, version), lambda: tuple(_installed_lines(name, version, situation))
    )


def _installed_lines(name: str, version: str, situation: Situation) -> Iterator[CompanionBuild]:
    public, _, local = version.partition("+")
    there = {item.name for item in situation.target.installed}
    rows = [row for row in situation.catalog.companion_builds(name) if not row.instead]

    def like(row: CompanionBuild, **said: Any) -> CompanionBuild:
        return CompanionBuild(name, row.kind, confidence=row.confidence, source=row.source, **said)

    majors = [row for row in rows if _any_version(row) and (not row.shown_by or row.shown_by in there)]
    if majors:
        yield from (like(row, backends=(*row.backends, *_WITHOUT_CUDA), extra=row.extra) for row in majors)
        return
    says = {
        row.id: "{torch" in row.write
        for row in situation.catalog.tables.grammars
        if local and re.fullmatch(row.pattern, local)
    }
    here = [row for row in rows if not row.extra and not any(_faults_of_files(row, situation))]
    for row in here:
        plain = not says.get(row.grammar) and bool(local) == (row.grammar in says)
        if plain and (row.build == "sdist" or has_version(row, public)):
            yield row
    for grammar, abi in dict.fromkeys((row.grammar, row.abi) for row in rows if says.get(row.grammar)):
        yield like(rows[0], versions=public, grammar=grammar, abi=abi)


def _fault(kind: str, name: str, wanted: str, found: str, rule: str = "companion-missing") -> Rejection:
    return Rejection(rule, wanted, found, name, 100 - _GRAVEST.index(kind), kind)


def _system_faults(line: CompanionBuild, wanted: Wanted, situation: Situation) -> tuple[Rejection, ...]:
    """What speaks against a line whatever the build of torch: system, Python, version, who made it."""

    def faults() -> Iterator[Rejection]:
        yield from _faults_of_files(line, situation)
        if wanted.asked:
            yield from _faults_of_source(line, situation)
            if not _in_bounds(line, wanted.bounds):
                text = f"{wanted.name} {line.versions.replace(' ', ', ') or line.bound}"
                if not can_hold(wanted.bounds):
                    text = "bounds that no version can meet"
                yield _fault("version", wanted.name, f"{wanted.name}{wanted.bounds}", text)

    key = ("companion-line", id(line), wanted.asked, str(wanted.bounds))
    return situation.once(key, lambda: tuple(faults()))


def _in_bounds(line: CompanionBuild, bounds: SpecifierSet) -> list[str] | None:
    """The versions of a line within bounds; `[""]`: uv chooses; None: there is none."""
    known = line.versions.split()
    exact = [item.version for item in bounds if item.operator == "==" and "*" not in item.version]
    fits = [version for version in known if bounds.contains(version)]
    named = _any_version(line)
    fits += [
        version
        for version in exact
        if version not in known and (named or has_version(line, version)) and bounds.contains(version)
    ]
    limits = bounds if named else bounds & specifiers(line.bound)
    return fits or (None if exact or (known and not named) or not can_hold(limits) else [""])


def _any_version(line: CompanionBuild) -> bool:
    """Whether its CUDA is in a name, so that versions which no row lists have it too."""
    return line.kind == "name-per-cuda" or bool(line.shown_by)


def _faults_of_files(line: CompanionBuild, situation: Situation) -> Iterator[Rejection]:
    target, name = situation.target, line.package
    short = target.python_minor
    here = [tag for tag in line.platforms if platform_of(tag) in ("any", target.platform)]
    if line.platforms and not here:
        there = ", ".join(dict.fromkeys(str(platform_of(tag)) for tag in line.platforms))
        yield _fault("platform", name, f"files of {name} for {target.platform}", f"files for {there}")
    tags = line.tags.split()
    if tags and python_tags(target.abi).isdisjoint(tags):
        span = " or ".join(dict.fromkeys(f"3.{tag.rpartition('-cp3')[2]}" for tag in tags))
        yield _fault("python", name, f"Python {span} (for {name})", f"Python {short} ({target.abi})")
    elif line.python and not specifiers(line.python).contains(short):
        yield _fault("python", name, f"Python {line.python} (for {name})", f"Python {short}")
    misfits = [wheel_fits(tag, target) for tag in here]
    if misfits and None not in misfits and misfits[0] is not None:
        _, wanted, found = misfits[0]
        yield _fault("libc", name, f"{wanted} (for {name})", found)


def _faults_of_source(line: CompanionBuild, situation: Situation) -> Iterator[Rejection]:
    name, request = line.package, situation.request
    if line.build == "wrong-name":
        yield _fault("name", name, f"the {name} that is built against torch", line.note)
    if line.build == "sdist" and name not in request.allow_build:
        allow = f"--allow-build {name}, since there are only sources for this"
        yield _fault("sources", name, allow, f"no ready files; a build {line.note}", "needs-build")
    place = situation.catalog.place(line.place)
    if place is not None and "{release}" in place.url and not line.release:
        found = f"a file on an unknown release page of {place.url.partition('/download')[0]}"
        yield _fault("trust", name, f"a release of {name} that is known", found)
    if line.trust > _TRUST[request.companion_source]:
        found = f"only a build of others ({line.place})"
        yield _fault("trust", name, f"files of {name} from a source that you trust", found)


def _build_faults(line: CompanionBuild, build: Build, situation: Situation) -> Iterator[Rejection]:
    """What speaks against a line for one build of torch: backend, release, code for the GPU."""
    name, backend = line.package, build.backend.name
    if line.backends and not any(fnmatchcase(backend, pattern) for pattern in line.backends):
        yield _fault("backend", name, f"{name} for {backend}", f"files for {', '.join(line.backends)}")
    if line.torch and not specifiers(line.torch).contains(build.torch):
        yield _fault("torch", name, f"{name} for torch {build.name}", f"files for torch {line.torch}")
    gpus = [item.gpu for item in cover_gpus(build, situation) if item.covered]
    if line.code and gpus and not any(has_code(line, gpu, build, situation) for gpu in gpus):
        found = f"{gpus[0].label} ({sm_text(gpus[0].code or 'unknown')})"
        yield _fault("code", name, _needed(line.code, gpus[0]), found, "companion-no-code")


def _of_maker(line: CompanionBuild, build: Build) -> bool:
    """Whether a line is for backends of the same maker's GPUs, whatever their versions."""
    maker = build.backend.name.rstrip("0123456789.")
    return not line.backends or any(pattern.startswith(maker) for pattern in line.backends)


def has_code(line: CompanionBuild, gpu: Gpu, build: Build, situation: Situation) -> bool:
    """Whether a line has code for a GPU; where the GPU does not say what it is, it is assumed."""
    device = gpu.compute_capability
    if device is None or line.code[0].startswith("gfx"):
        return gpu.gfx_target in line.code or (device is None and gpu.gfx_target is None)
    driver = situation.driver_of(build.backend)
    knows = None if driver is None else driver.cuda
    jit = knows is None or at_least(knows, build.backend.toolkit or ())
    for text in line.code:
        code, newer = _capability_in(text), text.startswith(">=") or (text.endswith("+PTX") and jit)
        same = device[0] == code[0] and device[1] >= code[1]
        if device == code or (not text.endswith("a") and (same or (newer and device >= code))):
            return True
    return False


def _capability_in(text: str) -> Capability:
    """`(8, 0)` of `8.0`, `>=8.0`, `8.0a` or `8.0+PTX`."""
    return capability(text.removeprefix(">=").removesuffix("a").removesuffix("+PTX"))


def _needed(code: tuple[str, ...], gpu: Gpu) -> str:
    """`sm_80 or newer`, of a list of code that a GPU does not run; of one that is newer: all of it."""
    if code[0].startswith("gfx"):
        return f"one of {', '.join(code)}"
    lowest = min(map(_capability_in, code))
    if all(text.endswith("a") for text in code) or (gpu.compute_capability or lowest) > lowest:
        return " or ".join(sm_text(text.rstrip("a")) for text in code)
    return "sm_{}{} or newer".format(*lowest)


def _versions(line: CompanionBuild, wanted: Wanted, build: Build, situation: Situation) -> Iterator[Choice]:
    """The versions of a line within the bounds; one choice without a version where uv chooses."""
    local = _local(line, build, situation)
    if not wanted.asked and wanted.kept is not None:
        if _still_fits(line, wanted, build, local, situation):
            yield Choice(wanted.name, line, "" if line.build == "sdist" else wanted.kept, asked=False)
        return
    versions, kept = _in_bounds(line, wanted.bounds) or [], (wanted.kept or "").partition("+")[0]
    if kept and all(versions) and has_version(line, kept) and wanted.bounds.contains(kept):
        versions.append(kept)  # no row need list what is there
    for version in dict.fromkeys(versions):
        yield Choice(wanted.name, line, version and version + local)


def _still_fits(line: CompanionBuild, wanted: Wanted, build: Build, local: str, situation: Situation) -> bool:
    """Whether an installed version came from this line, or was built here for this torch."""
    public, _, theirs = (wanted.kept or "").partition("+")
    if line.build != "sdist":
        return has_version(line, public) and theirs == local.removeprefix("+")
    rows = situation.catalog.companion_builds(wanted.name)
    if theirs or any(row.build != "sdist" and not row.grammar and has_version(row, public) for row in rows):
        return False
    torch = next((row.version for row in situation.target.installed if row.name == "torch"), "")
    return torch.split(".")[:2] == build.torch.split(".")[:2]


def has_version(line: CompanionBuild, version: str) -> bool:
    """Whether a line stands for a version."""
    if not line.versions and not line.bound:
        return True
    return version in line.versions.split() or bool(line.bound and specifiers(line.bound).contains(version))


def _local(line: CompanionBuild, build: Build, situation: Situation) -> str:
    """The local segment of a file for a build, with its `+`."""
    grammar = situation.catalog.grammar(line.grammar)
    if grammar is None:
        return ""
    toolkit, parts = build.backend.toolkit or (), build.torch.split(".")
    return "+" + grammar.write.format(
        cuda=".".join(map(str, toolkit)),
        major=str(toolkit[0]) if toolkit else "",
        torch=".".join(parts[:2]),
        torch_digits="".join(parts[:2]),
        torch_all="".join(parts[:3]),
        backend=build.backend.name,
        abi=line.abi,
    )


def pick_of(choice: Choice, build: Build, situation: Situation) -> Pick:
    """The package of a choice with the index or the file that it comes from."""
    line, request, target = choice.line, situation.request, situation.target
    place = situation.catalog.place(line.place)
    pick = Pick(choice.installs, None, version=choice.version or None, kept=not choice.asked)
    if place is None or place.kind == "default" or choice.compiles:
        return pick
    backend, file = build.backend.name, ""
    if place.kind == "pytorch":
        index = index_url(request.index_base, request.channel, backend)
        return structs.replace(pick, routed=True, index=index)
    if place.kind == "release":
        tags = sorted(python_tags(target.abi) & set(line.tags.split(" ")))
        platform = next(tag for tag in line.platforms if platform_of(tag) in ("any", target.platform))
        file = f"{choice.installs.replace('-', '_')}-{choice.version}-{tags[0]}-{platform}.whl"
    url = place.url.format(
        version=choice.version.partition("+")[0],
        backend=backend,
        torch=".".join(build.torch.split(".")[:2]),
        file=file,
        release=line.release,
    )
    if file:
        return structs.replace(pick, routed=True, file=url)
    return structs.replace(pick, routed=True, index=url + (LINKS if place.kind == "find-links" else ""))
