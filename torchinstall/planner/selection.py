"""Decide: `plan()` joins request, machine, target and catalog into one explained Plan. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date

from msgspec import structs

from torchinstall.catalog.catalog import Catalog
from torchinstall.catalog.tables import PageKey
from torchinstall.core.errors import TorchInstallError
from torchinstall.core.machine import Machine
from torchinstall.core.plan import Plan, PlanStatus
from torchinstall.core.request import Request, canonical_name, requirement
from torchinstall.core.target import Installed, Target
from torchinstall.planner.build_plan import impossible, ready
from torchinstall.planner.builds import Build, Pick, runtime_entry, version_key
from torchinstall.planner.companions import wanted_companions
from torchinstall.planner.refusals import (
    left_behind,
    no_build,
    pins_exclude_gpu,
    required_gpu,
    unreadable_gpu,
)
from torchinstall.planner.rules import HARDWARE_RULES, EvaluatedBuild, evaluate
from torchinstall.planner.situation import Situation, make_situation
from torchinstall.planner.together import companion_refusal


def plan(
    request: Request, machine: Machine, target: Target, catalog: Catalog, *, today: date | None = None
) -> Plan:
    """The build for this machine and target, or why there is none (`error` is set; nothing is raised).

    Args:
        request: what was asked for.
        machine: what is there.
        target: where it goes.
        catalog: what is published and what it carries.
        today: for the age of the catalog; None: do not judge it.
    """
    made = _plan(request, machine, target, catalog, today)
    beside = _beside(request, target, catalog)
    if made.error is not None or not beside or made.torch in _versions(target, "torch"):
        return made
    # The torch changes: what is installed beside it changes with it.
    wider = _plan(_and(request, beside), machine, target, catalog, today)
    if wider.error is None:
        return wider
    alone = ((name, _plan(_and(request, (name,)), machine, target, catalog, today)) for name in beside)
    name = next((name for name, tried in alone if tried.error is not None), beside[0])
    return structs.replace(wider, error=left_behind(name, made, target))


def _beside(request: Request, target: Target, catalog: Catalog) -> tuple[str, ...]:
    """Installed packages that move with torch and that nobody asked for; what torch needs, uv moves."""
    asked = {canonical_name(item.name) for item in request.requirements}
    found: dict[str, None] = {}
    for name in (item.name for item in target.installed):
        row = catalog.family(name)
        if row is not None and (row.routed or row.ended) and row.pairing == "table" and not row.runtime_of:
            found[name] = None
    return tuple(name for name in found if name != "torch" and name not in asked)


def _and(request: Request, names: Iterable[str]) -> Request:
    return structs.replace(request, requirements=(*request.requirements, *map(requirement, names)))


def _versions(target: Target, name: str) -> set[str]:
    return {item.version for item in target.installed if item.name == name}


def _plan(request: Request, machine: Machine, target: Target, catalog: Catalog, today: date | None) -> Plan:
    situation = make_situation(request, machine, target, catalog)
    evaluated = evaluate(situation)
    accepted = [item for item in evaluated if item.rejection is None]
    if not accepted and any(not item.asked for item in wanted_companions(situation)):
        # What is installed does not go together already: then it decides nothing.
        situation = structs.replace(situation, keep_installed=False, memo={})
        evaluated = evaluate(situation)
        accepted = [item for item in evaluated if item.rejection is None]
    error = _refusal(evaluated, accepted, situation)
    if error is not None:
        return impossible(evaluated, situation, error)
    best = max(accepted, key=_preference)
    current = None if request.upgrade else _installed_build(accepted, best)
    made = ready(current or best, evaluated, situation, today)
    if current is None:
        return made
    there = {item.name: item for item in target.installed}
    right = {pick.package for pick in current.picks if _is_right(pick, current, there)}
    lacks = any(pick.asked and pick.package not in right for pick in current.picks)
    status: PlanStatus = "ready" if situation.requirements.others or lacks else "satisfied"
    packages = (
        structs.replace(item, version=there[item.name].version) if item.name in right else item
        for item in made.packages
    )
    return structs.replace(made, status=status, packages=tuple(packages))


def _preference(item: EvaluatedBuild) -> tuple[object, ...]:
    return (not item.overridden, item.rank)


def acceptable_builds(
    request: Request, machine: Machine, target: Target, catalog: Catalog
) -> tuple[tuple[str, str], ...]:
    """The builds (torch release, backend) that serve a machine's GPUs as well as its best one does."""
    situation = make_situation(request, machine, target, catalog)
    evaluated = evaluate(situation)
    accepted = [item for item in evaluated if item.rejection is None and not item.overridden]
    if not accepted or _refusal(evaluated, accepted, situation) is not None:
        return ()
    best = max(item.gpu_rank for item in accepted)
    return tuple((item.build.torch, item.build.backend.name) for item in accepted if item.gpu_rank == best)


def _refusal(
    evaluated: tuple[EvaluatedBuild, ...], accepted: Sequence[EvaluatedBuild], situation: Situation
) -> TorchInstallError | None:
    """A reason to stop although a build could be installed (design, rules 4 and 5)."""
    request = situation.request
    best = max(accepted, key=lambda item: item.rank, default=None)
    if refusal := companion_refusal(evaluated, best, situation):
        return refusal
    if best is None:
        return no_build(evaluated, situation)
    if not situation.names_build and not request.allow_cpu:
        error = unreadable_gpu(best, evaluated) or (None if best.uses_gpu else pins_exclude_gpu(evaluated))
        if error is not None:
            return error
    return required_gpu(evaluated, situation) if request.require_gpu and not best.uses_gpu else None


def _installed_build(accepted: Sequence[EvaluatedBuild], best: EvaluatedBuild) -> EvaluatedBuild | None:
    """The accepted build that is installed already and serves the GPUs as well as the best one would.

    As with pip and uv, a newer release alone is no reason to change anything; `--upgrade` asks for that. What
    is missing beside it, or does not fit it, is brought to it.
    """
    situation = best.situation
    installed = {item.name: item for item in situation.target.installed}
    torch = installed.get("torch")
    if torch is None or situation.requirements.direct:
        return None
    build = (_public(torch), torch.backend)
    for item in accepted:
        if (item.build.torch, item.build.backend.name) == build:
            return item if item.gpu_rank == best.gpu_rank else None
    return None


def _is_right(pick: Pick, build: EvaluatedBuild, installed: dict[str, Installed]) -> bool:
    """Whether a package is installed as the installed build needs it, and was asked for.

    It keeps its version as it is: a build from PyPI has no local version to ask for.
    """
    have = installed.get(pick.package)
    if have is None or not build.situation.requirements.allows(pick.package, have.version):
        return False
    if pick.wheels is not None and _public(have) != pick.wheels.version:
        return False
    return have.backend in (None, build.build.backend.name)


def _public(item: Installed) -> str:
    return item.version.partition("+")[0]


def pages_to_read(
    request: Request,
    machine: Machine,
    target: Target,
    catalog: Catalog,
    *,
    discovered: Iterable[str] = (),
) -> tuple[PageKey, ...]:
    """The (package, backend) pages of the index whose content can change the plan.

    That is every living backend that this machine can run, and the one that the tables would choose; none
    on macOS (torch comes from the default index), and none when local folders serve everything.

    `discovered` names backends that the index lists and that no table knows.
    """
    if target.os == "macos" or catalog.index_down:
        return ()
    situation = make_situation(request, machine, target, catalog)
    family = situation.requirements.family
    named = "torch" in situation.requirements.direct
    if named and not (situation.wheels_by_url("torch") and len(family) > 1):
        return ()
    family = (*family, *_beside(request, target, catalog))
    evaluated = evaluate(situation)
    best = max((item for item in evaluated if item.rejection is None), key=_preference, default=None)
    if best is not None and all(
        pick.wheels is None or pick.wheels.origin == "find-links" for pick in best.picks
    ):
        return ()
    if request.channel != "stable":
        # The tables know which backends this machine runs on the stable channel only.
        stable = structs.replace(situation, request=structs.replace(request, channel="stable"))
        evaluated += evaluate(stable)
    needed = [pick.package for pick in best.picks if pick.asked] if best is not None else []
    names = dict.fromkeys((*family, *needed))
    rows = [row for name in names if (row := catalog.family(name)) is not None]
    routed = [row.package for row in rows if row.routed or row.index_first]
    keys: list[PageKey] = []
    for name in _backends_to_read(evaluated, best, situation, discovered):
        info = catalog.backend(name)
        runtime = [
            row.package
            for row in catalog.families
            if info is not None and runtime_entry(row, info, request.channel) not in (None, name)
        ]
        keys += [(package, name) for package in dict.fromkeys([*routed, *runtime])]
    return tuple(keys)


def _backends_to_read(
    evaluated: tuple[EvaluatedBuild, ...],
    best: EvaluatedBuild | None,
    situation: Situation,
    discovered: Iterable[str],
) -> tuple[str, ...]:
    request, catalog = situation.request, situation.catalog
    if request.backend != "auto":
        return (request.backend,)
    able = [item.build.backend for item in evaluated if _can_run(item)]
    names = dict.fromkeys(backend.name for backend in able if backend.retired is None)
    newest = max((item.build.torch for item in evaluated), key=version_key, default="0")
    for name in discovered:
        backend = catalog.backend(name)
        if backend is not None and name not in names:
            build = Build(newest, version_key(newest), backend, ())
            names |= {name: None} if _can_run(EvaluatedBuild(build, situation)) else {}
    if best is not None:
        names[best.build.backend.name] = None
    gpu = [name for name in names if (row := catalog.backend(name)) is not None and row.kind.vendor]
    return tuple(gpu or names)


def _can_run(item: EvaluatedBuild) -> bool:
    """Whether no hardware rule objects to a build."""
    return all(rule(item) is None for _, rule in HARDWARE_RULES)
