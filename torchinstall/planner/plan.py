"""Decide: `plan()` joins request, machine, target and catalog into one explained Plan. Pure."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from torchinstall.catalog.urls import index_url
from torchinstall.planner.builds import builds
from torchinstall.planner.installed import as_installed, satisfying
from torchinstall.planner.model import (
    Candidate,
    CatalogUse,
    GpuVerdict,
    Package,
    Plan,
    PlanError,
    PlanStatus,
    PlanTarget,
    Verdict,
    Warn,
)
from torchinstall.planner.notes import age_note, chosen_notes, unread_note, vendor_advice
from torchinstall.planner.packages import Missing
from torchinstall.planner.rank import coverage_key
from torchinstall.planner.refusals import gpu_reasons, no_build, pins_cost_the_gpu, required_gpu, unreadable
from torchinstall.planner.rules import Case, Objection, judge
from torchinstall.planner.situation import Situation, situation
from torchinstall.planner.wants import Wants, of_url, wants
from torchinstall.tags import python_tags
from torchinstall.values import dataclass

if TYPE_CHECKING:
    from datetime import date

    from torchinstall.catalog.catalog import Catalog
    from torchinstall.machine import Gpu, Machine
    from torchinstall.planner.packages import Pick
    from torchinstall.request import Request
    from torchinstall.target import Target

__all__ = ["Judged", "acceptable", "judge_all", "plan"]


@dataclass(frozen=True, slots=True)
class Judged:
    """A build after the rules: accepted when `objection` is None."""

    case: Case
    objection: Objection | None
    overridden: tuple[Objection, ...]


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
    where = situation(request, machine, target, catalog)
    wanted = wants(request, target, catalog)
    judged = judge_all(where, wanted)
    accepted = [item for item in judged if item.objection is None]
    error = _refuse(judged, accepted, where, obey=_obeyed(where, wanted))
    warnings = list(where.assumptions)
    if error is not None or not accepted:
        warnings += vendor_advice(where)
        return _impossible(judged, where, wanted, warnings, error or no_build(judged, where))
    best = max(accepted, key=lambda item: (not item.overridden, item.case.key))
    kept = None if request.upgrade else satisfying(accepted, best, target, wanted)
    ready = _ready(kept or best, judged, where, wanted, warnings, today)
    if kept is None:
        return ready
    status: PlanStatus = "ready" if wanted.others else "satisfied"
    return dataclasses.replace(ready, status=status, packages=as_installed(ready.packages, target))


def acceptable(
    request: Request, machine: Machine, target: Target, catalog: Catalog
) -> tuple[tuple[str, str], ...]:
    """The builds (torch release, backend) that serve a machine's GPUs as well as its best one does."""
    where = situation(request, machine, target, catalog)
    judged = judge_all(where, wants(request, target, catalog))
    accepted = [item for item in judged if item.objection is None and not item.overridden]
    if not accepted or _refuse(judged, accepted, where, obey=request.backend != "auto") is not None:
        return ()
    best = max(coverage_key(item.case.covers, where) for item in accepted)
    return tuple(
        (item.case.build.torch, item.case.build.backend.name)
        for item in accepted
        if coverage_key(item.case.covers, where) == best
    )


def judge_all(where: Situation, wanted: Wants) -> tuple[Judged, ...]:
    """Every build for the platform, newest first, with the rule that objects to it."""
    obey = _obeyed(where, wanted)
    named = of_url("torch", wanted, where.catalog)
    found = []
    for build in builds(where.catalog, where.target, where.request.channel):
        if named and (build.torch, build.backend.name) != (named[0].version, named[0].backend):
            continue
        case = Case(dataclasses.replace(build, wheels=named) if named else build, where, wanted)
        found.append(Judged(case, *judge(case, obey=obey)))
    return tuple(found)


def _obeyed(where: Situation, wanted: Wants) -> bool:
    """Whether the build was named, by its backend or by its file, so that hardware rules only warn."""
    return where.request.backend != "auto" or bool(of_url("torch", wanted, where.catalog))


def _refuse(
    judged: tuple[Judged, ...], accepted: list[Judged], where: Situation, *, obey: bool
) -> PlanError | None:
    """Reasons to stop although a build could be installed (design, rules 4 and 5)."""
    request = where.request
    if not accepted:
        return None
    best = max((item.case for item in accepted), key=lambda case: case.key)
    uses_gpu = coverage_key(best.covers, where)[0]
    if not obey and not request.allow_cpu:
        error = unreadable(best, where) or (None if uses_gpu else pins_cost_the_gpu(judged))
        if error is not None:
            return error
    return required_gpu(judged, where) if request.require_gpu and not uses_gpu else None


def _ready(
    chosen: Judged,
    judged: tuple[Judged, ...],
    where: Situation,
    wanted: Wants,
    warnings: list[Warn],
    today: date | None,
) -> Plan:
    case, request, catalog = chosen.case, where.request, where.catalog
    picked = case.picks
    assert not isinstance(picked, Missing), picked  # noqa: S101 - judge() accepted it
    uncovered = len(where.gpus) > sum(item.covered for item in case.covers)
    reasons = gpu_reasons(judged, where) if uncovered else {}
    warnings += chosen_notes(case, picked, chosen.overridden, reasons)
    if not any(item.covered for item in case.covers):
        warnings += vendor_advice(where)
    warnings += [
        Warn(
            slug=finding.slug or "gpu-unreadable",
            message=f"{finding.detail}; {finding.hint}" if finding.hint else finding.detail,
        )
        for finding in where.unreadable
    ]
    if not where.gpus and not where.unreadable and request.backend == "auto" and where.target.os != "macos":
        warnings += _no_gpu_note(where)
    if not catalog.live:
        warnings += age_note(catalog.snapshot, today)
    url = index_url(request.index_base, request.channel, case.build.backend.name)
    packages = tuple(_package(pick, url, where) for pick in picked)
    if "torch" in wanted.direct and not of_url("torch", wanted, catalog):
        packages = (Package(name="torch", version=None, routed=False), *packages[1:])
        warnings.append(unread_note(wanted))
    from_index = any(package.index_url is not None for package in packages)
    return Plan(
        status="ready",
        backend=case.build.backend.name,
        channel=request.channel,
        index_url=url if from_index else None,
        requirements=_requirements(where, wanted),
        packages=packages,
        target=_target(where.target),
        gpus=_verdicts(chosen, where, reasons),
        candidates=_candidates(judged, chosen),
        warnings=tuple(dict.fromkeys(warnings)),
        settings=request.settings,
        catalog=_catalog_use(catalog),
        find_links=request.find_links,
    )


def _no_gpu_note(where: Situation) -> list[Warn]:
    places = {"container": "this container", "ci": "this CI run"}
    place = next((text for word, text in places.items() if word in where.machine.environment), None)
    if place is None:
        return [Warn(slug="no-gpu", message="no GPU was found on this machine, so the CPU build is taken")]
    return [
        Warn(
            slug="no-gpu-here",
            message=f"no GPU is visible in {place}, so the CPU build is taken; if it will run on a GPU "
            "elsewhere, say so: --target-driver 580 --target-gpu sm_90",
        )
    ]


def _impossible(
    judged: tuple[Judged, ...], where: Situation, wanted: Wants, warnings: list[Warn], error: PlanError
) -> Plan:
    return Plan(
        status="impossible",
        backend=None,
        channel=where.request.channel,
        index_url=None,
        requirements=_requirements(where, wanted),
        packages=(),
        target=_target(where.target),
        gpus=tuple(
            GpuVerdict(vendor=gpu.vendor, index=gpu.index, name=gpu.name, covered=False, by=reason)
            for gpu, reason in gpu_reasons(judged, where).items()
        ),
        candidates=_candidates(judged, None),
        warnings=tuple(dict.fromkeys(warnings)),
        settings=where.request.settings,
        catalog=_catalog_use(where.catalog),
        find_links=where.request.find_links,
        error=error,
    )


def _requirements(where: Situation, wanted: Wants) -> tuple[str, ...]:
    asked = tuple(str(requirement) for requirement in where.request.requirements)
    named = set(wanted.family) & {requirement.name for requirement in where.request.requirements}
    return asked if "torch" in named or "torch" in wanted.direct else ("torch", *asked)


def _package(pick: Pick, url: str, where: Situation) -> Package:
    rows = pick.wheels
    if rows is None:
        return Package(
            name=pick.package,
            version=pick.version,
            index_url=url if pick.routed else None,
            routed=pick.routed,
        )
    tags = sorted(python_tags(where.target.abi) & rows.tags)
    wheel = rows.filename(next((tag for tag in tags if tag.startswith("cp")), tags[0]))
    return Package(
        name=pick.package,
        version=rows.full_version,
        wheel=wheel,
        sha256=where.catalog.sha256(rows, wheel),
        index_url=url if rows.origin == "index" else None,
        routed=rows.origin != "default",
    )


def _verdicts(chosen: Judged, where: Situation, reasons: dict[Gpu, str]) -> tuple[GpuVerdict, ...]:
    covers = {item.gpu: item for item in chosen.case.covers}
    found = []
    for gpu in where.gpus:
        item = covers.get(gpu)
        covered = item is not None and item.covered
        by = item.by if item is not None else reasons.get(gpu, "another GPU won")
        found.append(GpuVerdict(vendor=gpu.vendor, index=gpu.index, name=gpu.name, covered=covered, by=by))
    return tuple(found)


def _candidates(judged: tuple[Judged, ...], chosen: Judged | None) -> tuple[Candidate, ...]:
    found = []
    for item in judged:
        build, objection = item.case.build, item.objection
        if objection is not None:
            found.append(
                Candidate(
                    backend=build.backend.name,
                    torch=build.torch,
                    verdict="rejected",
                    rule=objection.rule,
                    wanted=objection.wanted,
                    found=objection.found,
                )
            )
        else:
            verdict: Verdict = "chosen" if item is chosen else "accepted"
            found.append(Candidate(backend=build.backend.name, torch=build.torch, verdict=verdict))
    return tuple(found)


def _target(target: Target) -> PlanTarget:
    return PlanTarget(
        python_version=target.python_version,
        implementation=target.implementation,
        abi=target.abi,
        platform_tags=target.platform_tags,
        python=target.python,
        prefix=target.prefix,
        why=target.why,
    )


def _catalog_use(catalog: Catalog) -> CatalogUse:
    return CatalogUse(
        snapshot=catalog.snapshot, live=tuple(f"{backend}/{package}" for package, backend in catalog.live)
    )
