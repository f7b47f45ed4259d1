"""Decide: `plan()` joins request, machine, target and catalog into one explained Plan. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import structs

from torchinstall.planner.build_plan import impossible, ready
from torchinstall.planner.companions import Missing
from torchinstall.planner.rank import coverage_key
from torchinstall.planner.refusals import no_build, pins_cost_the_gpu, required_gpu, unreadable
from torchinstall.planner.requirements import wants
from torchinstall.planner.rules import is_obeyed, judge_all
from torchinstall.planner.situation import situation
from torchinstall.planner.warnings import vendor_advice

if TYPE_CHECKING:
    from datetime import date

    from torchinstall.catalog.catalog import Catalog
    from torchinstall.core.errors import TorchInstallError
    from torchinstall.core.machine import Machine
    from torchinstall.core.plan import Package, Plan, PlanStatus
    from torchinstall.core.request import Request
    from torchinstall.core.target import Installed, Target
    from torchinstall.planner.requirements import Wants
    from torchinstall.planner.rules import Judged
    from torchinstall.planner.situation import Situation

__all__ = ["acceptable", "as_installed", "plan", "satisfying"]


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
    return structs.replace(made, status=status, packages=as_installed(made.packages, target))


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
) -> TorchInstallError | None:
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


def satisfying(accepted: list[Judged], best: Judged, target: Target, wanted: Wants) -> Judged | None:
    """The accepted build that is installed already and serves the GPUs as well as the best one would.

    As with pip and uv, a newer release alone is no reason to change anything; `--upgrade` asks for that.
    """
    installed = {item.name: item for item in target.installed}
    torch = installed.get("torch")
    if torch is None or wanted.direct:
        return None
    for item in accepted:
        build, where = item.case.build, item.case.situation
        if build.torch != _public(torch) or build.backend.name != torch.backend:
            continue
        if coverage_key(item.case.covers, where) != coverage_key(best.case.covers, where):
            return None
        picked = item.case.picks
        if isinstance(picked, Missing):
            return None
        for pick in picked:
            have = installed.get(pick.package)
            if not pick.asked or pick.package == "torch":
                continue
            if have is None or not wanted.allows(pick.package, have.version):
                return None
            if pick.wheels is not None and _public(have) != pick.wheels.version:
                return None
            if have.backend not in (None, build.backend.name):
                return None
        return item
    return None


def as_installed(packages: tuple[Package, ...], target: Target) -> tuple[Package, ...]:
    """The packages pinned as they are installed: a build from PyPI has no local version to ask for."""
    versions = {item.name: item.version for item in target.installed}
    return tuple(
        structs.replace(package, version=versions[package.name]) if package.name in versions else package
        for package in packages
    )


def _public(item: Installed) -> str:
    return item.version.partition("+")[0]
