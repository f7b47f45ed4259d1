"""The one way from options to a plan and its command, with what indexes say today.

A plan is made from the tables first; then the index pages that could change it are read, and it is made
again. Where the index cannot be reached, other sources serve this machine (`planning/sources.py`); else a
plan falls back to the tables, with a warning, unless that is forbidden, and an installation stops.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec import structs

from torchinstall.catalog.catalog import Catalog
from torchinstall.core.errors import CatalogError, ToolMissingError
from torchinstall.core.machine import Machine
from torchinstall.core.messages import Message
from torchinstall.core.plan import Plan
from torchinstall.core.request import Request, requirement
from torchinstall.index.faults import NOT_THERE, ON_THE_WAY
from torchinstall.index.fetch import LiveResult
from torchinstall.planner.selection import pages_to_read, plan
from torchinstall.planning.companion_pages import with_companions
from torchinstall.planning.context import Context, PlanOptions
from torchinstall.planning.index_pages import Reading, read_pages
from torchinstall.planning.inputs import Inputs, Prepared, Purpose, collect_inputs
from torchinstall.planning.sources import (
    default_index,
    default_resort,
    flat_template,
    last_resorts,
    named_vendor,
    vendor_plan,
)

if TYPE_CHECKING:
    from torchinstall.catalog.model import Advice
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

    def prepared(made: _Made) -> Prepared:
        warnings = (*made.plan.warnings, *inputs.notes)
        return Prepared(
            **{**structs.asdict(inputs), "catalog": made.catalog},
            plan=structs.replace(made.plan, warnings=warnings),
            index_down=made.index_down,
        )

    def before(made: _Made) -> None:
        if early is not None and made.plan.status == "ready":
            early(prepared(made))

    online = _Online(inputs, options, context, must_reach=purpose == "install", before=before)
    done = prepared(online.made())
    return structs.replace(done, plan=done.command(context.env, dry_run=options.dry_run))


class _Made(NamedTuple):
    """A plan, what it was made from, and whether the index was needed and did not answer."""

    plan: Plan
    catalog: Catalog
    index_down: bool = False

    def warned(self, warnings: Iterable[Message]) -> _Made:
        """The same with warnings before its own."""
        return self._replace(plan=structs.replace(self.plan, warnings=(*warnings, *self.plan.warnings)))


class _Online:
    """Plans from the tables, reads the pages that could change the plan, and plans again."""

    def __init__(
        self,
        inputs: Inputs,
        options: PlanOptions,
        context: Context,
        *,
        must_reach: bool,
        before: Callable[[_Made], None],
    ) -> None:
        self.options = options
        self.context = context
        self._must_reach = must_reach
        self.before = before
        self.inputs = inputs
        self.inputs = with_companions(inputs, self._pages, self._described, context.detail)

    def _pages(self, keys: Iterable[PageKey], base: str, **more: Any) -> LiveResult:
        return read_pages(keys, self.inputs.catalog, self.context, self.options, index_base=base, **more)

    def _described(self, names: frozenset[str]) -> LiveResult:
        """The pages of uv's default index, with what the newest releases of these packages need."""
        try:
            index = default_index(self.context, self.inputs.uv_args)
        except ToolMissingError as error:  # whoever installs is told of it; a plan rests on the tables
            self.context.detail(error.message)
            return LiveResult(index_base="")
        keys = [(name, "") for name in sorted(names)]
        return self._pages(keys, f"{index.place}/{{package}}", any_host=True, described=names)

    def decide(self, catalog: Catalog, request: Request | None = None) -> Plan:
        inputs, today = self.inputs, self.context.today()
        return plan(request or inputs.request, inputs.machine, inputs.target, catalog, today=today)

    def _of_vendor(self, rows: tuple[Advice, ...], template: str) -> _Made | None:
        made = vendor_plan(self.inputs, rows, template, self.context, self._pages)
        return None if made is None else _Made(*made)

    def made(self) -> _Made:
        """The plan.

        Raises:
            CatalogError: the index is needed and did not answer, and no other source serves as well.
            UsageError: its URL or a proxy setting is wrong.
        """
        inputs, context = self.inputs, self.context
        if self.options.index_base == "default":
            index = default_index(context, inputs.uv_args)
            resort = default_resort(inputs, index, self._pages, context)
            return _Made(self.decide(resort.catalog), resort.catalog)
        chosen = named_vendor(inputs, self.options)
        made = None if chosen is None else self._of_vendor(*chosen)
        return made or self._of_backends(flat_template(inputs.request.index_base))

    def _of_backends(self, flat: str | None) -> _Made:
        """The plan from an index that is divided by backend, or as `flat` says where it has no such page."""
        inputs, context = self.inputs, self.context
        request, catalog = inputs.request, inputs.catalog
        if request.offline and request.find_links and any(row.package == "torch" for row in catalog.local):
            # Without a network a folder is all there is: what the tables know of an index cannot be had.
            folders = structs.replace(catalog, live={}, index_down=True, folders_only=True)
            alone = self.decide(folders)
            if alone.error is None:
                return _Made(alone, folders)
        tables = made = self.decide(catalog)
        folder = context.cache_dir
        unread = request.offline and (folder is None or not folder.is_dir())
        if tables.status == "satisfied" or unread:
            return _Made(tables, catalog)
        reading = Reading(context, self.options, catalog)
        while keys := reading.unread(self._wanted(reading, made, tables)):
            reading.read(keys, asking=lambda: self.before(_Made(tables, catalog)))
            made = self.decide(reading.catalog)
        if (failure := reading.failure) is None:
            return _Made(made, reading.catalog).warned(reading.warnings)
        if failure.slug in NOT_THERE and flat is not None:
            # It has no backend's page of torch: it may be an index that is not divided by backend.
            of_flat = self._of_vendor((), flat)
            if of_flat is not None:
                return of_flat
        return self._without_index(tables, failure).warned(reading.warnings)

    def _wanted(self, reading: Reading, made: Plan, tables: Plan) -> tuple[PageKey, ...]:
        """The pages that could change a plan, with those of similar backends once the tables proved wrong."""
        inputs, known = self.inputs, reading.catalog
        keys = pages_to_read(
            inputs.request, inputs.machine, inputs.target, known, discovered=reading.backends
        )
        if made.chosen == tables.chosen:
            return keys
        names = dict.fromkeys(item.backend for item in made.candidates if item.verdict != "rejected")
        infos = [info for name in names if (info := known.backend(name)) is not None]
        vendors = {info.kind.vendor for info in infos if info.name == made.backend}
        similar = [info.name for info in infos if info.kind.vendor in vendors]
        return (*keys, *((package, name) for name in similar for package, _ in keys))

    def _without_index(self, best: Plan, failure: CatalogError) -> _Made:
        """The plan where the index did not answer; what stands in uses the GPUs that the `best` one uses."""
        inputs, request = self.inputs, self.inputs.request
        blocked, hints = self._is_blocked(failure.slug), list(failure.hints)
        easier_ways: dict[str, str] = {}
        tried: list[str] = []
        fallback = blocked and self.options.fallback
        resorts = last_resorts(inputs, self.context, self._pages, fallback=fallback)
        for resort in resorts if self._must_reach or (inputs.place and not inputs.described) else ():
            made = self.decide(resort.catalog, resort.request)
            if resort.serves(made) and (request.allow_cpu or _serves_as_well(made, best)):
                message = f"taken instead: {resort.said(made)}; what that needs comes on top"
                message = f"{message}; --no-fallback forbids it"
                return _Made(made, resort.catalog).warned((Message("fallback-source", message),))
            tried.append(resort.words)
            easier = structs.replace(resort.request, backend="auto", allow_cpu=True)
            other = self.decide(resort.catalog, easier)
            if resort.serves(other):
                ways = [] if request.backend == "auto" else [f"omit --backend {request.backend}"]
                ways += [] if ways and _serves_as_well(other, best) else ["add --allow-cpu"]
                easier_ways.setdefault(" and ".join(ways), resort.said(other))
        unread = best.error is not None and best.error.slug == "channel-not-read"
        if not self._must_reach and not unread and (fallback or not blocked):
            return _Made(best, inputs.catalog, index_down=True)
        hints += [f"{ways}, to take {said}" for ways, said in easier_ways.items()]
        if blocked and not fallback:
            hints.append("omit --no-fallback, to take a build from your other sources")
        found = f"nothing that fits in {' or in '.join(tried)}" if tried else None
        raise CatalogError(
            failure.slug, failure.message, wanted=failure.wanted, found=found, hints=tuple(hints)
        )

    def _is_blocked(self, slug: str) -> bool:
        """Whether something on the way may keep this machine from the index; pages that it lacks do not."""
        if slug != "index-forbidden":
            return slug in ON_THE_WAY
        # A store of files says 403 of what it lacks, a filter of everything.
        root = read_pages((), self.inputs.catalog, self.context, self.options, discover=True)
        return root.backends is None


def _serves_as_well(made: Plan, best: Plan) -> bool:
    """Whether it uses every GPU that the best build uses."""
    used = {(gpu.vendor, gpu.index) for gpu in made.gpus if gpu.covered}
    return used.issuperset((gpu.vendor, gpu.index) for gpu in best.gpus if gpu.covered)
