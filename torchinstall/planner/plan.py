"""Decide: `plan()` joins request, machine, target and catalog into one explained Plan. Pure."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from torchinstall.planner.installed import as_installed, satisfying
from torchinstall.planner.judged import is_obeyed, judge_all
from torchinstall.planner.notes import vendor_advice
from torchinstall.planner.rank import coverage_key
from torchinstall.planner.refusals import no_build, pins_cost_the_gpu, required_gpu, unreadable
from torchinstall.planner.shape import impossible, ready
from torchinstall.planner.situation import situation
from torchinstall.planner.wants import wants

if TYPE_CHECKING:
    from datetime import date

    from torchinstall.catalog.catalog import Catalog
    from torchinstall.machine import Machine
    from torchinstall.planner.judged import Judged
    from torchinstall.planner.model import Plan, PlanError, PlanStatus
    from torchinstall.planner.situation import Situation
    from torchinstall.request import Request
    from torchinstall.target import Target

__all__ = ["acceptable", "plan"]


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
    error = _refuse(judged, accepted, where, obey=is_obeyed(where, wanted))
    warnings = list(where.assumptions)
    if error is not None or not accepted:
        warnings += vendor_advice(where)
        return impossible(judged, where, wanted, warnings, error or no_build(judged, where))
    best = max(accepted, key=lambda item: (not item.overridden, item.case.key))
    kept = None if request.upgrade else satisfying(accepted, best, target, wanted)
    made = ready(kept or best, judged, where, wanted, warnings, today)
    if kept is None:
        return made
    status: PlanStatus = "ready" if wanted.others else "satisfied"
    return dataclasses.replace(made, status=status, packages=as_installed(made.packages, target))


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
