"""Decide: `plan()` joins request, machine, target and catalog into one explained Plan. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from msgspec import structs

from torchinstall.catalog.catalog import Catalog
from torchinstall.catalog.tables import PageKey
from torchinstall.core.errors import TorchInstallError
from torchinstall.core.machine import Gpu, Machine
from torchinstall.core.messages import Message
from torchinstall.core.plan import (
    Candidate,
    CatalogUse,
    GpuVerdict,
    KnownLimit,
    Package,
    Plan,
)
from torchinstall.core.request import Request, requirement
from torchinstall.core.target import Installed, Target, python_tags
from torchinstall.index.urls import index_url
from torchinstall.planner.builds import Build, Pick, runtime_entry, version_key
from torchinstall.planner.companions import shares_only_cuda, unfit_companions, wanted_companions
from torchinstall.planner.explain import old_tables, plan_warnings, vendor_indexes
from torchinstall.planner.refusals import (
    gpu_reasons,
    left_behind,
    no_build,
    pins_exclude_gpu,
    required_gpu,
    unreadable_gpu,
)
from torchinstall.planner.rules import HARDWARE_RULES, EvaluatedBuild, evaluate
from torchinstall.planner.situation import Situation, make_situation
from torchinstall.planner.together import (
    asked_requirements,
    built,
    companion_refusal,
    companion_uses,
    companion_warnings,
    ready_only,
)

Evaluated = tuple[EvaluatedBuild, ...]


def plan(
    request: Request, machine: Machine, target: Target, catalog: Catalog, *, today: date | None = None
) -> Plan:
    """The build for this machine and target, or why there is none (`error` is set; nothing is raised).

    `today` is for the age of the catalog; None: do not judge it.
    """
    made = _without_wanted(request, machine, target, catalog)
    if made.error is not None or today is None or catalog.live:
        return made
    return structs.replace(made, warnings=(*made.warnings, *old_tables(catalog.tables.snapshot, today)))


def _without_wanted(request: Request, machine: Machine, target: Target, catalog: Catalog) -> Plan:
    """The plan, without the packages that nobody named where they would cost torch."""
    made = _with_installed(request, machine, target, catalog)
    # In a folder a version that nobody knows means that nothing there goes with its torch.
    lacking = any(item.version is None and item.name in request.wanted for item in made.packages)
    there = any(item.name == "torch" for item in target.installed)
    cut_off = request.offline and there and not made.find_links and made.status == "ready"
    if not request.wanted or (made.error is None and not lacking and not cut_off):
        return made
    named = tuple(item for item in request.requirements if item.package not in request.wanted)
    fewer = structs.replace(request, requirements=named, wanted=())
    alone = _with_installed(fewer, machine, target, catalog)
    if alone.error is not None:
        return made
    why = f"where torch {alone.torch} comes from, none is known that goes with it"
    if made.error is None and not lacking:
        if alone.status != "satisfied":
            return made
        why = f"torch {alone.torch} is installed, and nothing is fetched; name it to try uv's cache"
    message = Message("companion-left-out", f"{', '.join(request.wanted)} is left out: {why}")
    return structs.replace(alone, warnings=(*alone.warnings, message))


def _with_installed(request: Request, machine: Machine, target: Target, catalog: Catalog) -> Plan:
    def planned(*also: str) -> Plan:
        asked = (*request.requirements, *map(requirement, also))
        return _plan(
            structs.replace(request, requirements=asked) if also else request, machine, target, catalog
        )

    made, beside = planned(), _beside(request, target, catalog)
    there = {item.version for item in target.installed if item.name == "torch"}
    if made.error is not None or not beside or made.torch in there:
        return made
    # The torch changes: what is installed beside it changes with it.
    wider = planned(*beside)
    if wider.error is None:
        return wider
    name = next((name for name in beside if planned(name).error is not None), beside[0])
    return structs.replace(wider, error=left_behind(name, made, target))


def _beside(request: Request, target: Target, catalog: Catalog) -> tuple[str, ...]:
    """Installed packages that follow torch and that nobody asked for."""
    asked = {"torch", *(item.package for item in request.requirements)}
    rows = filter(None, (catalog.family(item.name) for item in target.installed if item.name not in asked))
    return tuple(dict.fromkeys(row.package for row in rows if row.follows_torch))


def _plan(request: Request, machine: Machine, target: Target, catalog: Catalog) -> Plan:
    situation = make_situation(request, machine, target, catalog)
    evaluated = evaluate(situation)
    current = _installed_build(evaluated)
    if current is None and any(not item.asked for item in wanted_companions(situation)):
        alone = structs.replace(situation, keep_installed=False)
        freed = evaluate(alone)
        kept = _installed_build(freed)
        # Where no set holds what is installed, it did not go together before, and decides nothing. What
        # shares only its CUDA with torch works beside another one, too.
        if _best(evaluated) is None or (
            kept
            and all(
                shares_only_cuda(item, kept.build, situation)
                for item in unfit_companions(kept.build, situation)
            )
        ):
            situation, evaluated, current = alone, freed, kept
    best = _best(evaluated)
    error = _refusal(evaluated, best, situation)
    if best is None or error is not None:
        return _made(None, evaluated, situation, error)
    made = _made(current or best, evaluated, situation)
    if current is None:
        return made
    there = {item.name: item for item in target.installed}
    right = {pick.package for pick in current.picks if _is_right(pick, current, there)}
    lacks = any(pick.asked and pick.package not in right for pick in current.picks)
    packages = (
        structs.replace(item, version=there[item.name].version) if item.name in right else item
        for item in made.packages
    )
    status = "ready" if situation.requirements.others or lacks else "satisfied"
    return structs.replace(made, status=status, kept=True, packages=tuple(packages))


def _accepted(evaluated: Evaluated) -> list[EvaluatedBuild]:
    return [item for item in evaluated if item.rejection is None]


def _best(evaluated: Evaluated) -> EvaluatedBuild | None:
    return max(_accepted(evaluated), key=lambda item: (not item.overridden, item.rank), default=None)


def acceptable_builds(
    request: Request, machine: Machine, target: Target, catalog: Catalog
) -> tuple[tuple[str, str], ...]:
    """Builds (torch release, backend) that serve a machine's GPUs as well as its best does; best first."""
    situation = make_situation(request, machine, target, catalog)
    evaluated = evaluate(situation)
    best = _best(evaluated)
    if best is None or best.overridden or _refusal(evaluated, best, situation) is not None:
        return ()
    equal = [item for item in _accepted(evaluated) if item.gpu_rank == best.gpu_rank and not item.overridden]
    return tuple(item.key for item in sorted(equal, key=lambda item: item.rank, reverse=True))


def _refusal(
    evaluated: Evaluated, best: EvaluatedBuild | None, situation: Situation
) -> TorchInstallError | None:
    """A reason to stop although a build could be installed (design, rules 4 and 5)."""
    request = situation.request
    if refusal := companion_refusal(evaluated, best, situation):
        return refusal
    if best is None:
        return no_build(evaluated, situation)
    if not situation.names_build and not request.allow_cpu:
        error = unreadable_gpu(best, evaluated) or (None if best.covered else pins_exclude_gpu(evaluated))
        if error is not None:
            return error
    return required_gpu(evaluated, situation) if request.require_gpu and not best.covered else None


def _installed_build(evaluated: Evaluated) -> EvaluatedBuild | None:
    """The accepted build that is installed already and serves the GPUs as well as the best one would.

    As with pip and uv, a newer release alone is no reason to change anything; `--upgrade` asks for that. What
    is missing beside it, or does not fit it, is brought to it.
    """
    best = _best(evaluated)
    if best is None or best.situation.request.upgrade or best.situation.requirements.direct:
        return None
    rows = best.situation.target.installed
    there = {(_public(row), row.backend) for row in rows if row.name == "torch"}
    found = next((item for item in _accepted(evaluated) if item.key in there), None)
    return found if found is not None and found.gpu_rank == best.gpu_rank else None


def _is_right(pick: Pick, build: EvaluatedBuild, installed: dict[str, Installed]) -> bool:
    """Whether a package is installed as the installed build needs it, and was asked for.

    It keeps its version as it is: a build from PyPI has no local version to ask for.
    """
    have = installed.get(pick.package)
    if have is None or not build.situation.requirements.allows(pick.package, have.version):
        return False
    wanted = pick.version if pick.wheels is None else pick.wheels.version
    if wanted not in (None, have.version, _public(have)):
        return False
    return have.backend in (None, build.build.backend.name)


def _public(item: Installed) -> str:
    return item.version.partition("+")[0]


def _made(
    chosen: EvaluatedBuild | None,
    evaluated: Evaluated,
    situation: Situation,
    error: TorchInstallError | None = None,
) -> Plan:
    """The plan for a chosen build, or the one that says why there is none."""
    request, catalog = situation.request, situation.catalog
    covered = {item.gpu: item for item in chosen.coverage} if chosen is not None else {}
    unused = len(situation.gpus) > sum(item.covered for item in covered.values())
    reasons = gpu_reasons(evaluated, situation) if unused else {}
    uses = companion_uses(chosen, evaluated, situation)
    asked = asked_requirements(chosen, request.requirements)
    family = set(situation.requirements.family) & {row.name for row in asked}
    named = "torch" in family or "torch" in situation.requirements.direct
    made = Plan(
        status="impossible",
        backend=None,
        channel=request.channel,
        index_url=None,
        requirements=(*(() if named else ("torch",)), *map(str, asked)),
        packages=(),
        target=situation.target,
        gpus=tuple(_verdict(gpu, reason) for gpu, reason in reasons.items()),
        candidates=tuple(_candidate(item, chosen) for item in evaluated),
        warnings=tuple(dict.fromkeys((*situation.assumptions, *vendor_indexes(situation)))),
        settings=request.settings,
        catalog=CatalogUse(
            snapshot=catalog.tables.snapshot,
            live=tuple(f"{backend}/{package}" for package, backend in catalog.live),
        ),
        find_links=request.find_links,
        companions=uses,
        error=error,
    )
    if chosen is None:
        return made
    backend = chosen.build.backend.name
    url = index_url(request.index_base, request.channel, backend)
    packages = tuple(_package(pick, url, situation) for pick in chosen.picks if not pick.kept)
    if "torch" in situation.requirements.direct and not situation.wheels_by_url("torch"):
        packages = (Package(name="torch", version=None, routed=False), *packages[1:])
    builds = built(chosen)
    warnings = (*plan_warnings(chosen, reasons), *companion_warnings(chosen, uses, evaluated))
    return structs.replace(
        made,
        status="ready",
        backend=backend,
        index_url=url if any(package.index_url is not None for package in packages) else None,
        packages=packages,
        gpus=tuple(
            _verdict(gpu, covered[gpu].by, covered=covered[gpu].covered)
            if gpu in covered
            else _verdict(gpu, reasons.get(gpu, "another GPU was preferred"))
            for gpu in situation.gpus
        ),
        warnings=tuple(dict.fromkeys(warnings)),
        limits=_limits(chosen, evaluated),
        ready_only=ready_only(chosen, uses),
        builds=tuple(builds),
        build_tools=tuple(dict.fromkeys(tool for tools in builds.values() for tool in tools)),
    )


def _limits(chosen: EvaluatedBuild, evaluated: Evaluated) -> tuple[KnownLimit, ...]:
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
    return tuple({(hit.row.number, hit.gpu): hit.known for hit in [*own, *newer]}.values())


def _package(pick: Pick, url: str, situation: Situation) -> Package:
    rows = pick.wheels
    if rows is None:
        return Package(
            name=pick.package,
            version=pick.version,
            index_url=pick.index or (url if pick.routed and pick.file is None else None),
            url=pick.file,
            wheel=pick.file.rpartition("/")[2] if pick.file else None,
            routed=pick.routed,
        )
    tags = sorted(python_tags(situation.target.abi) & rows.tags)
    wheel = rows.filename(next((tag for tag in tags if tag.startswith("cp")), tags[0]))
    gpus = (row for row in situation.vendor_rows if pick.package in row.extras)
    extras = (row.extras[pick.package].replace("{gpu}", row.match) for row in gpus)
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


def _verdict(gpu: Gpu, by: str, *, covered: bool = False) -> GpuVerdict:
    return GpuVerdict(vendor=gpu.vendor, index=gpu.index, name=gpu.name, covered=covered, by=by)


def _candidate(item: EvaluatedBuild, chosen: EvaluatedBuild | None) -> Candidate:
    rejection, backend, torch = item.rejection, item.build.backend.name, item.build.torch
    if rejection is None:
        return Candidate(backend, torch, "chosen" if item is chosen else "accepted")
    return Candidate(backend, torch, "rejected", rejection.rule, rejection.wanted, rejection.found)


def pages_to_read(
    request: Request,
    machine: Machine,
    target: Target,
    catalog: Catalog,
    *,
    discovered: Sequence[str] = (),
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
    best = _best(evaluated)
    if best and all(pick.wheels is None or pick.wheels.origin == "find-links" for pick in best.picks):
        return ()
    if request.channel != "stable":
        # The tables know which backends this machine runs on the stable channel only.
        stable = structs.replace(situation, request=structs.replace(request, channel="stable"))
        evaluated += evaluate(stable)
    names = {*family, *(pick.package for pick in best.picks if pick.asked)} if best else {*family}
    keys: list[PageKey] = []
    for name in _backends_to_read(evaluated, best, situation, discovered):
        info = catalog.backend(name)
        for row in catalog.families:
            asked = row.package in names and (row.routed or row.index_first)
            if asked or (info and runtime_entry(row, info, request.channel) not in (None, name)):
                keys.append((row.package, name))
    return tuple(keys)


def _backends_to_read(
    evaluated: tuple[EvaluatedBuild, ...],
    best: EvaluatedBuild | None,
    situation: Situation,
    discovered: Sequence[str],
) -> tuple[str, ...]:
    request, catalog = situation.request, situation.catalog
    if request.backend != "auto":
        return (request.backend,)
    newest = max((item.build.torch for item in evaluated), key=version_key, default="0")
    rows = (row for name in discovered if (row := catalog.backend(name)) is not None)
    listed = (EvaluatedBuild(Build(newest, version_key(newest), row, ()), situation) for row in rows)
    able = (item for item in (*evaluated, *listed) if all(rule(item) is None for _, rule in HARDWARE_RULES))
    backends = {item.build.backend.name: item.build.backend for item in able}
    living = {name: row for name, row in backends.items() if row.retired is None or name in discovered}
    if best is not None:
        living[best.build.backend.name] = best.build.backend
    return tuple(name for name, row in living.items() if row.kind.vendor is not None) or tuple(living)
