"""What the choice of torch by its companions costs: who holds it back, what each allows, the nearest sets."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator

from msgspec import structs

from torchinstall.catalog.catalog import Catalog
from torchinstall.catalog.tables import platform_of
from torchinstall.core.errors import NoCompatibleBuildError
from torchinstall.core.machine import Machine
from torchinstall.core.messages import Message
from torchinstall.core.plan import CompanionUse
from torchinstall.core.request import Request, Requirement, extras_text, specifiers
from torchinstall.core.target import Target, foreign_target
from torchinstall.core.versions import at_least, dotted
from torchinstall.planner.builds import Rejection
from torchinstall.planner.companion_lines import Choice, Wanted, choices_of, has_code
from torchinstall.planner.companions import Stack, find_stack, unfit_companions, wanted_companions
from torchinstall.planner.drivers import usable_drivers
from torchinstall.planner.rules import EvaluatedBuild, evaluate
from torchinstall.planner.situation import Situation, make_situation

_BUILD_TOOLS = ("setuptools", "wheel", "packaging", "ninja")
"""What builds from source mostly need: uv brings none without isolation, which would hide torch."""

_CUDA_OF_NAME = r"\d+x?$"
"""`12x` of `cupy-cuda12x`."""

_PYTHONS = ("3.12", "3.13", "3.11", "3.10", "3.14")
"""Versions of Python that are tried where this one has no set, the most usual first."""


def _able(evaluated: Iterable[EvaluatedBuild]) -> list[EvaluatedBuild]:
    """The builds that would do but for companions (whose rules are asked last), the best first."""
    free = [item for item in evaluated if item.rejection is None or item.blocked]
    best = max((item.gpu_rank for item in free), default=())
    return sorted((item for item in free if item.gpu_rank == best), key=lambda item: item.rank, reverse=True)


def able_backends(request: Request, machine: Machine, target: Target, catalog: Catalog) -> tuple[str, ...]:
    """Backends of the builds that would do but for companions, retired ones too, the best first."""
    evaluated = evaluate(make_situation(request, machine, target, catalog))
    return tuple(dict.fromkeys(item.build.backend.name for item in _able(evaluated)))


def _with_all(able: Iterable[EvaluatedBuild], names: Iterable[str]) -> Iterator[EvaluatedBuild]:
    """The builds that these companions go with together."""
    wanted = frozenset(names)
    return (item for item in able if isinstance(find_stack(item.build, item.situation, wanted), Stack))


def _names(situation: Situation) -> frozenset[str]:
    return frozenset(item.name for item in wanted_companions(situation))


def _taken(chosen: EvaluatedBuild | None) -> dict[str, Choice]:
    return {choice.name: choice for choice in chosen.choices} if chosen is not None else {}


def companion_uses(
    chosen: EvaluatedBuild | None, evaluated: Iterable[EvaluatedBuild], situation: Situation
) -> tuple[CompanionUse, ...]:
    """What became of each companion: its version, the torch releases that it allows, what it kept out."""
    names = dict.fromkeys(item.name for item in wanted_companions(situation))
    if not names:
        return ()
    able = _able(evaluated)
    taken = _taken(chosen)
    uses = []
    for name in names:
        releases = tuple(dict.fromkeys(item.build.torch for item in _with_all(able, (name,))))
        choice = taken.get(name)
        line = choice.line if choice else situation.catalog.companion_builds(name)[0]
        version = (choice.version or line.bound or None) if choice else None
        newest = able[0].build.torch if releases and able[0].build.torch not in releases else None
        uses.append(
            CompanionUse(name=name, version=version, kind=line.kind, allows=releases, held_back=newest)
        )
    implied = [choice for choice in taken.values() if choice.name not in names]
    return (*uses, *(CompanionUse(name=row.name, version=row.version, kind=row.line.kind) for row in implied))


def built(chosen: EvaluatedBuild) -> dict[str, tuple[str, ...]]:
    """Packages that may be built from source, because there are no ready files, with the tools for that."""
    situation = chosen.situation
    found = {row.installs: row.line.build_needs for row in chosen.choices if row.asked and row.compiles}
    for item in situation.requirements.others:
        name = item.package
        if name in situation.request.allow_build and not situation.catalog.companion_builds(name):
            found[name] = ()
    return {name: tools or _BUILD_TOOLS for name, tools in found.items()}


def ready_only(chosen: EvaluatedBuild, uses: tuple[CompanionUse, ...]) -> tuple[str, ...]:
    """Packages that uv must not build: beside compiled companions, nothing named is built in silence.

    Also not those that are known to have only sources, if something else should need them.
    """
    if not uses:
        return ()
    situation = chosen.situation
    names = [choice.installs for choice in chosen.choices if choice.asked]
    if any(use.kind != "pure" for use in uses):
        names += [item.package for item in situation.requirements.others if item.url is None]
    names += [row.package for row in situation.catalog.tables.companion_builds if row.build == "sdist"]
    allowed = {*situation.request.allow_build, *built(chosen)}
    return tuple(dict.fromkeys(name for name in names if name not in allowed))


def asked_requirements(
    chosen: EvaluatedBuild | None, asked: Iterable[Requirement]
) -> tuple[Requirement, ...]:
    """The requirements as they were asked for, companions by the name and within the bounds that fit.

    What torch brings under another name (`triton`) is left out.
    """
    taken = _taken(chosen)
    brought = [pick.instead for pick in chosen.picks] if chosen is not None else []

    def fitted(item: Requirement) -> Requirement:
        choice = taken.get(item.package) if item.url is None else None
        if choice is None:
            return item
        bounds = (item.specifier, "" if choice.version else choice.line.bound)
        name = choice.installs if choice.line.instead else item.name
        return structs.replace(item, name=name, specifier=str(specifiers(",".join(filter(None, bounds)))))

    return tuple(fitted(item) for item in asked if item.url or item.package not in brought)


def companion_warnings(
    chosen: EvaluatedBuild, uses: tuple[CompanionUse, ...], evaluated: Iterable[EvaluatedBuild]
) -> Iterator[Message]:
    """What the user should know about the companions of a plan."""
    yield from _held_back(chosen, uses, evaluated) if uses else _held_by_family(chosen, evaluated)
    yield from _left_behind(chosen)
    for pick in chosen.picks:
        if pick.instead in chosen.situation.requirements.family:
            text = f"{pick.instead} is left out: torch {chosen.build.name} brings {pick.package} in its place"
            yield Message("companion-renamed", text)
    gpus = [gpu for gpu in chosen.covered if gpu.compute_capability]
    for choice in (row for row in chosen.choices if row.asked):
        line = choice.line
        if line.instead:
            text = f"{choice.installs} is installed in place of {choice.name}, which has no ready files here"
            yield Message("companion-renamed", text)
        floor = dotted(line.note_below) if line.note_below else None
        if choice.compiles:
            yield Message("builds-from-source", f"{choice.name} is built from source: it {line.note}")
        elif line.note and (floor is None or any((gpu.compute_capability or ()) < floor for gpu in gpus)):
            yield Message("companion-note", f"{choice.name}: {line.note}")
        covered = chosen.covered if line.code else []
        without = [gpu for gpu in covered if not has_code(line, gpu, chosen.build, chosen.situation)]
        if without:
            labels = ", ".join(gpu.label for gpu in without)
            text = f"{choice.name} has no code for {labels}; it runs on the other GPUs only"
            yield Message("companion-not-for-gpu", text)
        if line.confidence == "low":
            text = f"which torch {choice.name} goes with is a guess: nobody has confirmed it"
            yield Message("companion-assumed", text)


def _typed(item: Wanted) -> str:
    return shlex.quote(item.name + extras_text(item.extras))


def _left_behind(chosen: EvaluatedBuild) -> Iterator[Message]:
    """Installed companions that could not be kept working."""
    if chosen.situation.keep_installed:
        return
    before = structs.replace(chosen.situation, keep_installed=True)
    for item in unfit_companions(chosen.build, before):
        other = next(_replacements(item, chosen), None)
        instead = f"{other} is, and can take its place; " if other else ""
        yield Message(
            "companion-breaks",
            f"{item.name} {item.kept} is installed and is not built for torch {chosen.build.name}; "
            f"{instead}to update both: torchinstall auto torch {_typed(item)}",
        )


def _replacements(item: Wanted, chosen: EvaluatedBuild) -> Iterator[str]:
    """What the same makers have for this torch, where the CUDA is in a package's name or extra."""
    catalog, stem = chosen.situation.catalog, re.sub(_CUDA_OF_NAME, "", item.name)
    rows = (row for row in catalog.tables.companion_builds if re.sub(_CUDA_OF_NAME, "", row.package) == stem)
    for name, extra in dict.fromkeys((row.package, row.extra) for row in rows):
        other = Wanted(name, specifiers(""), (extra,) if extra else ())
        changed = name != item.name or (extra and extra not in item.extras)
        if changed and not isinstance(choices_of(other, chosen.build, chosen.situation), Rejection):
            yield _typed(other)


def _held_back(
    chosen: EvaluatedBuild, uses: tuple[CompanionUse, ...], evaluated: Iterable[EvaluatedBuild]
) -> Iterator[Message]:
    able, names, build = _able(evaluated), _names(chosen.situation), chosen.build
    if next(_with_all(able, names), None) is not chosen or able[0].build.version <= build.version:
        return
    kept = {item.name: item for item in wanted_companions(chosen.situation) if not item.asked}
    reasons, ways = [], []
    for use in uses:
        without = next(_with_all(able, names - {use.name}), None)
        newer = without is not None and without.build.version > build.version
        if use.held_back is not None or newer:
            newest = use.allows[0] if use.allows else "none"
            what = "its newest ready files are for"
            if use.name in kept:
                # Nobody knows which torch it needs where only sources could have it.
                what = "what is installed goes with" if use.version else "it may need this release:"
            reasons.append(f"{use.name} ({what} torch {newest})")
        if without is not None and newer:
            other = next(_replacements(kept[use.name], without), None) if use.name in kept else None
            otherwise = f"with {other} in place of {use.name}" if other else f"without {use.name}"
            ways.append(f"{otherwise} torch {without.build.name}")
    cost = f"; {', '.join(ways)} would be possible" if ways else ""
    upgrade = ""
    if kept:
        words = " ".join(["-U", "torch", *map(_typed, kept.values())])
        there = ", ".join(f"{item.name} {item.kept}" for item in kept.values())
        upgrade = f"; {there} is installed and goes on working; to update it too: torchinstall auto {words}"
    yield Message(
        "torch-held-back",
        f"torch {build.name} and not {able[0].build.name}, because of "
        f"{' and '.join(reasons) or 'what these packages need of one another'}{cost}{upgrade}",
    )


def _held_by_family(chosen: EvaluatedBuild, evaluated: Iterable[EvaluatedBuild]) -> Iterator[Message]:
    """A package that moves with torch has nothing for a newer one that would do as well."""
    lacking = (item for item in evaluated if item.rejected_by("companion-missing") and item.torch_allowed)
    best = max(lacking, key=lambda item: item.rank, default=chosen)
    if best.missing and best.gpu_rank >= chosen.gpu_rank and best.build.version > chosen.build.version:
        reason = f"because of {best.missing.package}: {best.missing.found}"
        yield Message("torch-held-back", f"torch {chosen.build.name} and not {best.build.name}, {reason}")


def companion_refusal(
    evaluated: tuple[EvaluatedBuild, ...], best: EvaluatedBuild | None, situation: Situation
) -> NoCompatibleBuildError | None:
    """No build has everything, or only one that does not use the GPU: who is in the way, and what works.

    `best` is the best accepted build; None: there is none.
    """
    asked = {item.name: item for item in wanted_companions(situation)}
    names = tuple(asked)
    able = _able(evaluated)
    if not names or not able or (best is not None and best.gpu_rank >= able[0].gpu_rank):
        return None
    if best is not None and (situation.request.allow_cpu or situation.names_build):
        return None
    alone = {name: [find_stack(item.build, situation, frozenset({name})) for item in able] for name in names}
    hopeless = [name for name in names if not any(isinstance(row, Stack) for row in alone[name])]
    blocked = [row for name in hopeless or names for row in alone[name] if isinstance(row, Rejection)]
    blocked += [item.blocked for item in able if not hopeless and item.blocked]
    nearest = max(blocked, key=lambda row: row.depth)
    name = nearest.package
    no_release = nearest.kind == "version" and name in asked and asked[name].asked
    if not hopeless:
        message = f"no build of torch has ready files of {', '.join(names)} together"
    elif nearest.rule == "companion-no-code":
        message = f"{name} needs {nearest.wanted}; this machine has {nearest.found}"
    elif nearest.rule == "needs-build":
        message = f"{name} has no ready files for this machine and would be built from source"
    elif no_release:
        message = f"no release of {name} that is known here fits {nearest.wanted}"
    else:
        message = f"{name} has no ready files for this machine"
    # Sources of what names its torch in metadata name the same one.
    platform, lines = situation.target.platform, situation.catalog.companion_builds(name)
    names_torch = any(row.kind == "bounded" for row in lines)
    other_torch = names_torch and (no_release or nearest.kind == "torch" or not hopeless)
    allow = nearest.rule != "companion-no-code" and not other_torch
    here = (row for row in lines if not row.platforms or platform in map(platform_of, row.platforms))
    hints = (
        *_nearest_sets(hopeless or names, able, situation),
        *_other_drivers(evaluated, situation),
        *_other_sources(hopeless or names, situation, allow=allow),
        *[row.otherwise for row in here if row.otherwise][:1],
    )
    return NoCompatibleBuildError(
        nearest.rule, message, wanted=nearest.wanted, found=nearest.found, hints=hints
    )


def _nearest_sets(blockers: Iterable[str], able: list[EvaluatedBuild], situation: Situation) -> Iterator[str]:
    """Commands that would work: without a companion, without the bounds of a package, with another Python."""
    names, asked = _names(situation), situation.request.requirements
    for name in blockers:
        item = next(_with_all(able, names - {name}), None)
        if item is not None:
            rest = [str(row) for row in asked if row.package != name]
            words = shlex.join(rest or ["torch"])
            yield f"torchinstall auto {words}  # without {name}: torch {item.build.name}"
    for name in ("torch", *blockers):
        if any(row.package == name and row.specifier for row in asked):
            free = tuple(structs.replace(row, specifier="") if row.package == name else row for row in asked)
            if item := _with(situation, request=structs.replace(situation.request, requirements=free)):
                words = shlex.join(dict.fromkeys(map(str, free)))
                yield f"torchinstall auto {words}  # another {name}: torch {item.build.name} has them all"
    for version in _PYTHONS:
        if _abi(version, situation) != situation.target.abi and (item := _with(situation, python=version)):
            yield f"uv venv --python {version}  # with Python {version}: torch {item.build.name} has them all"
            break


def _other_drivers(evaluated: Iterable[EvaluatedBuild], situation: Situation) -> Iterator[str]:
    """The lowest newer driver on which some build has everything."""
    names = _names(situation)
    lows = {
        window.low or "0"
        for gpu in situation.gpus
        if (driver := situation.drivers.get(gpu.vendor)) and driver.version
        for item, window in usable_drivers(evaluated, gpu, situation)
        if not at_least(driver.version, dotted(window.low or "0"))
        if isinstance(find_stack(item.build, situation, names), Stack)
    }
    for low in sorted(lows, key=dotted):
        if best := _with(situation, request=structs.replace(situation.request, target_driver=low)):
            yield f"update the driver to {low} or newer: torch {best.build.name} has them all"
            return


def _other_sources(blockers: Iterable[str], situation: Situation, *, allow: bool) -> Iterator[str]:
    """Flags that would help: builds of others, or building from source."""
    request = situation.request
    command = shlex.join(["torchinstall", "auto", *map(str, request.requirements)])
    community = structs.replace(request, companion_source="community")
    if item := _with(situation, request=community):
        yield f"{command} --companion-source community  # builds of others: torch {item.build.name}"
    built = structs.replace(request, allow_build=tuple(blockers))
    if allow and (item := _with(situation, request=built)):
        flags = " ".join(f"--allow-build {name}" for name in blockers)
        yield f"{command} {flags}  # built from source: torch {item.build.name}"


def _abi(python: str, situation: Situation) -> str:
    """The ABI of another version of Python, threaded as the target's is."""
    threaded = "t" if situation.target.abi.endswith("t") else ""
    return foreign_target(situation.machine, python + threaded).abi


def _with(
    situation: Situation, *, python: str | None = None, request: Request | None = None
) -> EvaluatedBuild | None:
    """The best build that uses the GPUs as well, under one change; None: there is none."""
    target = situation.target
    if python is not None:
        target = structs.replace(target, python_version=python, abi=_abi(python, situation))
    other = make_situation(request or situation.request, situation.machine, target, situation.catalog)
    evaluated = evaluate(structs.replace(other, keep_installed=situation.keep_installed))
    accepted = [item for item in evaluated if item.rejection is None]
    best = max(accepted, key=lambda item: item.rank, default=None)
    able = _able(evaluated)
    return best if best is not None and best.gpu_rank >= able[0].gpu_rank else None
