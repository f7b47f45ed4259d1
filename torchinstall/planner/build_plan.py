"""Put a decision into the plan's shape: packages with their files, verdicts, candidates, warnings."""

from __future__ import annotations

from datetime import date

from torchinstall.catalog.catalog import Catalog
from torchinstall.core.errors import TorchInstallError
from torchinstall.core.machine import Gpu
from torchinstall.core.messages import Message
from torchinstall.core.plan import (
    Candidate,
    CatalogUse,
    GpuVerdict,
    KnownLimit,
    Package,
    Plan,
    PlanTarget,
    Verdict,
)
from torchinstall.core.target import python_tags
from torchinstall.index.urls import index_url
from torchinstall.planner.builds import Pick
from torchinstall.planner.limits import known_limit
from torchinstall.planner.refusals import gpu_reasons
from torchinstall.planner.rules import EvaluatedBuild
from torchinstall.planner.situation import Situation
from torchinstall.planner.together import (
    asked_requirements,
    companion_uses,
    companion_warnings,
    compiled,
    ready_only,
)
from torchinstall.planner.warnings import plan_warnings, vendor_indexes


def ready(
    chosen: EvaluatedBuild, evaluated: tuple[EvaluatedBuild, ...], situation: Situation, today: date | None
) -> Plan:
    """The plan for a chosen build; `today` judges the age of the tables."""
    request, backend = situation.request, chosen.build.backend.name
    unused = len(situation.gpus) > sum(item.covered for item in chosen.coverage)
    reasons = gpu_reasons(evaluated, situation) if unused else {}
    url = index_url(request.index_base, request.channel, backend)
    packages = tuple(_package(pick, url, situation) for pick in chosen.picks if not pick.kept)
    uses = companion_uses(chosen, evaluated, situation)
    if "torch" in situation.requirements.direct and not situation.wheels_by_url("torch"):
        packages = (Package(name="torch", version=None, routed=False), *packages[1:])
    from_index = any(package.index_url is not None for package in packages)
    return Plan(
        status="ready",
        backend=backend,
        channel=request.channel,
        index_url=url if from_index else None,
        requirements=_requirements(situation, chosen),
        packages=packages,
        target=_plan_target(situation),
        gpus=_gpu_verdicts(chosen, situation, reasons),
        candidates=tuple(_candidate(item, chosen) for item in evaluated),
        warnings=tuple(
            dict.fromkeys(
                (*plan_warnings(chosen, reasons, today), *companion_warnings(chosen, uses, evaluated))
            )
        ),
        settings=request.settings,
        catalog=_catalog_use(situation.catalog),
        find_links=request.find_links,
        limits=_limits(chosen, evaluated),
        companions=uses,
        ready_only=ready_only(chosen, uses),
        builds=compiled(chosen),
    )


def _limits(chosen: EvaluatedBuild, evaluated: tuple[EvaluatedBuild, ...]) -> tuple[KnownLimit, ...]:
    """What the chosen build cannot do, and what stands in the way of newer ones."""
    covered = [item.gpu for item in chosen.coverage if item.covered]
    own = [hit for hit in chosen.limits if hit.gpu is None or hit.gpu in covered or hit.blocks]
    newer = [
        hit
        for item in evaluated
        if item.build.version > chosen.build.version and item.rejection is not None
        for hit in item.limits
        if hit.blocks and hit.row.slug == item.rejection.rule
    ]
    return tuple({(hit.row.number, hit.gpu): known_limit(hit) for hit in [*own, *newer]}.values())


def impossible(evaluated: tuple[EvaluatedBuild, ...], situation: Situation, error: TorchInstallError) -> Plan:
    """The plan that says why there is none."""
    request = situation.request
    warnings: list[Message] = [*situation.assumptions, *vendor_indexes(situation)]
    return Plan(
        status="impossible",
        backend=None,
        channel=request.channel,
        index_url=None,
        requirements=_requirements(situation, None),
        packages=(),
        target=_plan_target(situation),
        gpus=tuple(_verdict(gpu, reason) for gpu, reason in gpu_reasons(evaluated, situation).items()),
        candidates=tuple(_candidate(item, None) for item in evaluated),
        warnings=tuple(dict.fromkeys(warnings)),
        settings=request.settings,
        catalog=_catalog_use(situation.catalog),
        find_links=request.find_links,
        companions=companion_uses(None, evaluated, situation),
        error=error,
    )


def _requirements(situation: Situation, chosen: EvaluatedBuild | None) -> tuple[str, ...]:
    asked = asked_requirements(chosen, situation.request.requirements)
    family = set(situation.requirements.family) & {requirement.name for requirement in asked}
    named = "torch" in family or "torch" in situation.requirements.direct
    return (*(() if named else ("torch",)), *map(str, asked))


def _package(pick: Pick, url: str, situation: Situation) -> Package:
    rows = pick.wheels
    if rows is None:
        index = pick.index or (url if pick.routed and pick.file is None else None)
        return Package(
            name=pick.package,
            version=pick.version,
            index_url=index,
            url=pick.file,
            wheel=pick.file.rpartition("/")[2] if pick.file else None,
            routed=pick.routed,
        )
    tags = sorted(python_tags(situation.target.abi) & rows.tags)
    wheel = rows.filename(next((tag for tag in tags if tag.startswith("cp")), tags[0]))
    extras = (extra for row in situation.vendor_rows for extra in row.extras_of(pick.package))
    return Package(
        name=pick.package,
        version=rows.full_version,
        extras=tuple(dict.fromkeys(extras)) if rows.origin == "vendor" else (),
        variant=rows.variant or None,
        wheel=wheel,
        sha256=situation.catalog.sha256(rows, wheel),
        index_url=url if rows.origin in ("index", "vendor") else None,
        routed=rows.origin != "default",
    )


def _gpu_verdicts(
    chosen: EvaluatedBuild, situation: Situation, reasons: dict[Gpu, str]
) -> tuple[GpuVerdict, ...]:
    coverage = {item.gpu: item for item in chosen.coverage}
    return tuple(
        _verdict(gpu, coverage[gpu].by, covered=coverage[gpu].covered)
        if gpu in coverage
        else _verdict(gpu, reasons.get(gpu, "another GPU was preferred"))
        for gpu in situation.gpus
    )


def _verdict(gpu: Gpu, by: str, *, covered: bool = False) -> GpuVerdict:
    return GpuVerdict(vendor=gpu.vendor, index=gpu.index, name=gpu.name, covered=covered, by=by)


def _candidate(item: EvaluatedBuild, chosen: EvaluatedBuild | None) -> Candidate:
    backend, torch, rejection = item.build.backend.name, item.build.torch, item.rejection
    if rejection is None:
        verdict: Verdict = "chosen" if item is chosen else "accepted"
        return Candidate(backend=backend, torch=torch, verdict=verdict)
    return Candidate(
        backend=backend,
        torch=torch,
        verdict="rejected",
        rule=rejection.rule,
        wanted=rejection.wanted,
        found=rejection.found,
    )


def _plan_target(situation: Situation) -> PlanTarget:
    target = situation.target
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
    live = tuple(f"{backend}/{package}" for package, backend in catalog.live)
    return CatalogUse(snapshot=catalog.snapshot, live=live)
