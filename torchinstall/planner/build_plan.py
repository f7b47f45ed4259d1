"""Put a decision into the plan's shape: packages with their files, verdicts, candidates, warnings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchinstall.core.messages import Message
from torchinstall.core.plan import (
    Candidate,
    CatalogUse,
    GpuVerdict,
    Package,
    Plan,
    PlanTarget,
    Verdict,
)
from torchinstall.core.tags import python_tags
from torchinstall.index.urls import index_url
from torchinstall.planner.companions import Missing
from torchinstall.planner.refusals import gpu_reasons
from torchinstall.planner.requirements import of_url
from torchinstall.planner.warnings import age_note, chosen_notes, no_gpu_note, unread_note, vendor_advice

if TYPE_CHECKING:
    from datetime import date

    from torchinstall.catalog.catalog import Catalog
    from torchinstall.core.errors import TorchInstallError
    from torchinstall.core.machine import Gpu
    from torchinstall.core.target import Target
    from torchinstall.planner.companions import Pick
    from torchinstall.planner.requirements import Wants
    from torchinstall.planner.rules import Judged
    from torchinstall.planner.situation import Situation

__all__ = ["impossible", "ready"]


def ready(
    chosen: Judged,
    judged: tuple[Judged, ...],
    where: Situation,
    wanted: Wants,
    warnings: list[Message],
    today: date | None,
) -> Plan:
    """The plan for a chosen build; `warnings` are those that were known before it was chosen."""
    case, request, catalog = chosen.case, where.request, where.catalog
    picked = case.picks
    assert not isinstance(picked, Missing), picked  # noqa: S101 - judge() accepted it
    uncovered = len(where.gpus) > sum(item.covered for item in case.covers)
    reasons = gpu_reasons(judged, where) if uncovered else {}
    warnings += chosen_notes(case, picked, chosen.overridden, reasons)
    if not any(item.covered for item in case.covers):
        warnings += vendor_advice(where)
    warnings += [
        Message(
            slug=finding.slug or "gpu-unreadable",
            message=f"{finding.detail}; {finding.hint}" if finding.hint else finding.detail,
        )
        for finding in where.unreadable
    ]
    if not where.gpus and not where.unreadable and request.backend == "auto" and where.target.os != "macos":
        warnings += no_gpu_note(where)
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


def impossible(
    judged: tuple[Judged, ...],
    where: Situation,
    wanted: Wants,
    warnings: list[Message],
    error: TorchInstallError,
) -> Plan:
    """The plan that says why there is none."""
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
