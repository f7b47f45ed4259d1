"""The one way from options to a plan and its command, with what indexes say today.

A plan is made from the tables first; then the index pages that could change it are read, and it is made
again. Where the index cannot be reached, other sources serve this machine (`planning/sources.py`); else a
plan falls back to the tables, with a warning, unless that is forbidden, and an installation stops.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from msgspec import structs

from torchinstall.core.errors import CatalogError, ToolMissingError
from torchinstall.core.machine import Machine
from torchinstall.core.messages import Message
from torchinstall.core.plan import Plan
from torchinstall.core.request import DEFAULT_INDEX_BASE, requirement
from torchinstall.index.faults import NOT_THERE, ON_THE_WAY
from torchinstall.index.fetch import LiveResult
from torchinstall.planner.selection import pages_to_read
from torchinstall.planning.companion_pages import with_companions
from torchinstall.planning.configured import default_index
from torchinstall.planning.context import Context, PlanOptions
from torchinstall.planning.index_pages import Reading, Run
from torchinstall.planning.inputs import Prepared, Purpose, collect_inputs
from torchinstall.planning.sources import (
    Made,
    fallbacks,
    named_vendor,
    of_default_index,
    vendor_plan,
)

if TYPE_CHECKING:
    from torchinstall.catalog.tables import PageKey
    from torchinstall.install.lock import EnvironmentLock


def prepare(
    context: Context,
    options: PlanOptions,
    *,
    purpose: Purpose = "plan",
    machine: Machine | None = None,
    failed: Sequence[tuple[str | None, str]] = (),
    also: Sequence[str] = (),
    lock: EnvironmentLock | None = None,
    early: Callable[[Prepared], None] | None = None,
) -> Prepared:
    """Make the plan; nothing on the machine is changed.

    Args:
        context: of the run.
        options: of the verb.
        purpose: to "install", the target must be here, and the index must answer if it is needed.
        machine: the machine to plan for, instead of the one that the options name.
        failed: builds (torch release, backend) that were tried and did not compute; None: every release.
        also: packages to plan beside those that were asked for.
        lock: makes the environment ours first, since it will be changed.
        early: is told what the tables alone come to, before the index is asked.

    Raises:
        TorchInstallError: anything but a plan that says "impossible"; that one is returned.
    """
    inputs = collect_inputs(context, options, purpose=purpose, machine=machine, lock=lock)
    if failed or also:
        wanted = (*inputs.request.requirements, *map(requirement, also))
        request = structs.replace(inputs.request, requirements=wanted, failed=tuple(failed))
        inputs = structs.replace(inputs, request=request)
    target = inputs.target
    context.detail(f"target: Python {target.python_version} {target.abi} on {target.platform}, {target.why}")

    run = Run(inputs, options, context)
    inputs = with_companions(inputs, run.read, partial(_described, run))

    def prepared(made: Made) -> Prepared:
        warnings = (*made.plan.warnings, *inputs.notes)
        return Prepared(
            **{**structs.asdict(inputs), "catalog": made.catalog},
            plan=structs.replace(made.plan, warnings=warnings),
            index_down=made.index_down,
        )

    def before(made: Made) -> None:
        if early is not None and made.plan.status == "ready":
            early(prepared(made))

    done = prepared(_made(Run(inputs, options, context), before, must_reach=purpose == "install"))
    return structs.replace(done, plan=done.command(context.env, dry_run=options.dry_run))


def _described(run: Run, asked: Mapping[str, str]) -> LiveResult:
    """The pages of uv's default index, with what the newest releases of packages within bounds need."""
    try:
        index = default_index(run.context, run.inputs.uv_args)
    except ToolMissingError as error:  # whoever installs is told of it; a plan rests on the tables
        run.context.detail(error.message)
        return LiveResult(index_base="")
    return run.read([(name, "") for name in sorted(asked)], index.pages, any_host=True, described=asked)


def _made(run: Run, before: Callable[[Made], None], *, must_reach: bool) -> Made:
    """The plan from the source that was asked for, else from the PyTorch index, else from what stands in.

    Args:
        run: its inputs have the tables.
        before: told the plan of the tables before the index is asked.
        must_reach: where the index is needed, it or another source must serve.

    Raises:
        CatalogError: the index is needed and did not answer, and no other source serves as well.
        UsageError: its URL or a proxy setting is wrong.
    """
    inputs, options, context = run
    request, catalog = inputs.request, inputs.catalog
    if options.index_base == "default":
        only = of_default_index(run).catalog
        return Made(run.decide(only), only)
    chosen = named_vendor(inputs, options)
    if chosen is not None and (made := vendor_plan(run, *chosen)) is not None:
        return made
    if request.offline and request.find_links and any(row.package == "torch" for row in catalog.local):
        # Without a network a folder is all there is: what the tables know of an index cannot be had.
        folders = structs.replace(catalog, live={}, index_down=True, folders_only=True)
        alone = run.decide(folders)
        if alone.error is None:
            return Made(alone, folders)
    tables = best = run.decide(catalog)
    folder = context.cache_dir
    unread = request.offline and (folder is None or not folder.is_dir())
    if tables.status == "satisfied" or unread:
        return Made(tables, catalog)
    reading = Reading(run)
    while keys := reading.unread(_wanted(run, reading, best, tables)):
        reading.read(keys, asking=lambda: before(Made(tables, catalog)))
        best = run.decide(reading.catalog)
    if reading.failure is None:
        return Made(best, reading.catalog).warned(reading.warnings)
    base = request.index_base
    if reading.failure.slug in NOT_THERE and base != DEFAULT_INDEX_BASE and not {"{", "#"} & set(base):
        # It has no backend's page of torch: it may be an index that is not divided by backend.
        flat = vendor_plan(run, (), f"{base}/{{package}}")
        if flat is not None:
            return flat
    return _without_index(run, tables, reading.failure, must_reach=must_reach).warned(reading.warnings)


def _wanted(run: Run, reading: Reading, best: Plan, tables: Plan) -> tuple[PageKey, ...]:
    """The pages that could change a plan, with those of similar backends once the tables proved wrong."""
    inputs, known = run.inputs, reading.catalog
    keys = pages_to_read(inputs.request, inputs.machine, inputs.target, known, discovered=reading.backends)
    if best.chosen == tables.chosen:
        return keys
    names = dict.fromkeys(item.backend for item in best.candidates if item.verdict != "rejected")
    infos = [info for name in names if (info := known.backend(name)) is not None]
    vendors = {info.kind.vendor for info in infos if info.name == best.backend}
    similar = [info.name for info in infos if info.kind.vendor in vendors]
    return (*keys, *((package, name) for name in similar for package, _ in keys))


def _without_index(run: Run, best: Plan, failure: CatalogError, *, must_reach: bool) -> Made:
    """The plan where the index did not answer; what stands in uses the GPUs that the `best` one uses."""
    inputs, request = run.inputs, run.inputs.request
    blocked, hints = _is_blocked(run, failure.slug), list(failure.hints)
    easier_ways: dict[str, str] = {}
    tried: list[str] = []
    every = blocked and run.options.fallback
    here = inputs.place is not None and not inputs.described
    for source in fallbacks(run, every=every) if must_reach or here else ():
        made = run.decide(source.catalog, source.request)
        if source.serves(made) and (request.allow_cpu or _serves_as_well(made, best)):
            said = f"{source.summary(made)}, and what it needs; --no-fallback forbids this"
            message = f"the PyTorch index cannot be used; taken instead: {said}"
            return Made(made, source.catalog).warned((Message("fallback-source", message),))
        tried.append(source.words)
        easier = structs.replace(source.request, backend="auto", allow_cpu=True)
        other = run.decide(source.catalog, easier)
        if source.serves(other):
            ways = [] if request.backend == "auto" else [f"omit --backend {request.backend}"]
            ways += [] if ways and _serves_as_well(other, best) else ["add --allow-cpu"]
            easier_ways.setdefault(" and ".join(ways), source.summary(other))
    unread = best.error is not None and best.error.slug == "channel-not-read"
    if not must_reach and not unread and (every or not blocked):
        return Made(best, inputs.catalog, index_down=True)
    hints += [f"{ways}, to take {said}" for ways, said in easier_ways.items()]
    if blocked and not every:
        hints.append("omit --no-fallback, to take a build from your other sources")
    found = f"nothing that fits in {' or in '.join(tried)}" if tried else None
    raise CatalogError(failure.slug, failure.message, wanted=failure.wanted, found=found, hints=tuple(hints))


def _is_blocked(run: Run, slug: str) -> bool:
    """Whether something on the way may keep this machine from the index; pages that it lacks do not."""
    # A store of files says 403 of what it lacks, a filter of everything.
    return slug in ON_THE_WAY or (slug == "index-forbidden" and run.read((), discover=True).backends is None)


def _serves_as_well(made: Plan, best: Plan) -> bool:
    """Whether it uses every GPU that the best build uses."""
    used = {(gpu.vendor, gpu.index) for gpu in made.gpus if gpu.covered}
    return used.issuperset((gpu.vendor, gpu.index) for gpu in best.gpus if gpu.covered)
