"""The plan with what the index says today: which pages are read, and what their absence means.

Where the index cannot be reached, other sources serve this machine (`planning/sources.py`); else a plan falls
back to the shipped tables, with a warning, and an installation stops.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from datetime import date
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from msgspec import structs

from torchinstall.catalog.catalog import Catalog
from torchinstall.core.errors import CatalogError
from torchinstall.core.messages import Message
from torchinstall.core.plan import Plan
from torchinstall.core.request import DEFAULT_INDEX_BASE, Request
from torchinstall.index.cache import default_cache_dir
from torchinstall.planner.selection import pages_to_read, plan
from torchinstall.planning.companion_pages import with_companions
from torchinstall.planning.context import Context
from torchinstall.planning.inputs import Inputs, live_options
from torchinstall.planning.options import PlanOptions
from torchinstall.planning.sources import default_index, default_resort, last_resorts
from torchinstall.planning.vendor_index import flat_template, named_vendor, vendor_plan

if TYPE_CHECKING:
    from torchinstall.catalog.model import Advice
    from torchinstall.catalog.tables import PageKey
    from torchinstall.index.fetch import LiveResult

DISCOVER_AFTER_DAYS = 30
"""The age of the tables from which the index is asked for backends that they cannot know."""

MOST_TURNS = 6
"""How often pages are read for one plan; each turn is bounded in time."""

NOT_THERE = frozenset({"index-forbidden", "index-not-found"})
"""Slugs that say that the index answered and has no such page."""

UNREACHABLE = frozenset(
    {"index-unreachable", "index-timeout", "index-unavailable", "index-certificate", "index-redirect"}
    | {"index-garbage"}
)
"""Slugs that may mean that something on the way keeps this machine from the index."""


class OnlinePlan(NamedTuple):
    """A plan, what it was made from, and whether the index was needed and did not answer."""

    plan: Plan
    catalog: Catalog
    index_down: bool = False

    def warned(self, warnings: Iterable[Message]) -> OnlinePlan:
        """The same with warnings before its own."""
        return self._replace(plan=structs.replace(self.plan, warnings=(*warnings, *self.plan.warnings)))


class Online:
    """Plans from the tables, reads the pages that could change the plan, and plans again.

    Args:
        inputs: what the plan is made from.
        options: where the index is and how it may be asked.
        context: clock, environment and cache folder.
        must_reach: it will be installed, so an index that is needed must answer.
        detail: told what was read, for `-v`.
        before: told what the tables alone come to, before the index is asked.
    """

    def __init__(
        self,
        inputs: Inputs,
        options: PlanOptions,
        context: Context,
        *,
        must_reach: bool,
        detail: Callable[[str], None],
        before: Callable[[Plan, Catalog], None],
    ) -> None:
        self._options = options
        self._before = before
        self._context = context
        self._must_reach = must_reach
        self._detail = detail
        self._inputs = inputs
        self._inputs = with_companions(inputs, self._pages, self._described, detail)

    def _pages(self, keys: tuple[PageKey, ...], base: str, *, any_host: bool = False) -> LiveResult:
        catalog = self._inputs.catalog
        return read_pages(keys, catalog, self._context, self._options, index_base=base, any_host=any_host)

    def _described(self, names: frozenset[str]) -> LiveResult:
        """The pages of uv's default index, with what the newest releases of these packages need."""
        index = default_index(self._context.env, self._context.cwd, self._inputs.uv_args)
        keys = [(name, "") for name in sorted(names)]
        return read_pages(
            keys,
            self._inputs.catalog,
            self._context,
            self._options,
            index_base=f"{index.place}/{{package}}",
            any_host=True,
            described=names,
        )

    def _pages_of_default(self, keys: tuple[PageKey, ...], base: str) -> LiveResult:
        return self._pages(keys, base, any_host=True)

    def _decide(self, catalog: Catalog, request: Request | None = None) -> Plan:
        inputs = self._inputs
        return plan(
            request or inputs.request, inputs.machine, inputs.target, catalog, today=self._context.today()
        )

    def _of_vendor(self, rows: tuple[Advice, ...], template: str) -> OnlinePlan | None:
        made = vendor_plan(self._inputs, rows, template, self._context, self._pages)
        return None if made is None else OnlinePlan(*made)

    def plan(self) -> OnlinePlan:
        """Plan.

        Raises:
            CatalogError: the index is needed and did not answer, and no other source serves as well.
            UsageError: its URL or a proxy setting is wrong.
        """
        inputs, named = self._inputs, self._options.index_base
        if named != DEFAULT_INDEX_BASE:
            index = default_index(self._context.env, self._context.cwd, inputs.uv_args)
            if named in ("default", index.place):
                resort = default_resort(inputs, index, self._pages_of_default, self._detail)
                return OnlinePlan(self._decide(resort.catalog, resort.request), resort.catalog)
        base = inputs.request.index_base
        chosen = named_vendor(inputs, base, asked=self._options.vendor_index)
        made = None if chosen is None else self._of_vendor(*chosen)
        return made or self._of_backends(flat_template(base))

    def _of_backends(self, flat: str | None) -> OnlinePlan:
        """The plan from an index that is divided by backend, or as `flat` says where it has no such page."""
        inputs, options, context = self._inputs, self._options, self._context
        request, catalog = inputs.request, inputs.catalog
        if request.offline and request.find_links and any(row.package == "torch" for row in catalog.local):
            # Without a network a folder is all there is: what the tables know of an index cannot be had.
            folders = structs.replace(catalog, live={}, index_down=True, folders_only=True)
            made = self._decide(folders)
            if made.error is None:
                return OnlinePlan(made, folders)

        @lru_cache(maxsize=1)  # asked again after every reading, also after one that brought nothing
        def wanted(known: Catalog, discovered: tuple[str, ...]) -> tuple[PageKey, ...]:
            return pages_to_read(request, inputs.machine, inputs.target, known, discovered=discovered)

        tables = self._decide(catalog)
        folder = default_cache_dir(context.env, sys.platform)
        unread = request.offline and (folder is None or not folder.is_dir())
        if tables.status == "satisfied" or unread or not wanted(catalog, ()):
            return OnlinePlan(tables, catalog)
        age = (context.today() - date.fromisoformat(catalog.snapshot)).days
        reading = _Reading(
            lambda keys, discover: read_pages(
                keys,
                catalog,
                context,
                options,
                discover=discover,
                asking=lambda: self._before(tables, catalog),
            ),
            catalog,
            tables,
            # The tables hold the stable channel only: what another one has, it must say itself.
            discover=age > DISCOVER_AFTER_DAYS or request.channel != "stable",
            detail=self._detail,
        )
        while keys := reading.unread(wanted):
            reading.read(keys, self._decide)
        if (failure := reading.failure) is None:
            return OnlinePlan(reading.plan, reading.catalog).warned(reading.warnings)
        if failure.slug in NOT_THERE and flat is not None:
            # It has no backend's page of torch: it may be an index that is not divided by backend.
            made_flat = self._of_vendor((), flat)
            if made_flat is not None:
                return made_flat
        warnings = reading.warnings or [Message(failure.slug, failure.message)]
        return self._without_index(tables, failure).warned(warnings)

    def _without_index(self, best: Plan, failure: CatalogError) -> OnlinePlan:
        """The plan where the index did not answer.

        Args:
            best: the plan of the tables; what stands in must use the GPUs that it uses.
            failure: why the index is missing.
        """
        inputs, request = self._inputs, self._inputs.request
        blocked, hints = self._is_blocked(failure.slug), list(failure.hints)
        resorts = last_resorts(
            inputs,
            self._context,
            self._pages_of_default,
            self._detail,
            fallback=blocked and self._options.fallback,
        )
        for resort in resorts if self._must_reach or (inputs.place and not inputs.described) else ():
            made = self._decide(resort.catalog, resort.request)
            if made.error is None and (request.allow_cpu or _serves_as_well(made, best)):
                message = f"taken instead: {resort.said(made)}; --no-fallback forbids it"
                return OnlinePlan(made, resort.catalog).warned((Message("fallback-source", message),))
            other = self._decide(
                resort.catalog, structs.replace(resort.request, backend="auto", allow_cpu=True)
            )
            if other.error is None:
                ways = [] if request.backend == "auto" else [f"omit --backend {request.backend}"]
                ways += [] if _serves_as_well(other, best) else ["add --allow-cpu"]
                hints.append(f"{' and '.join(ways)}, to take {resort.said(other)}")
        unread = best.error is not None and best.error.slug == "channel-not-read"
        if not self._must_reach and not unread:
            return OnlinePlan(best, inputs.catalog, index_down=True)
        if blocked and not self._options.fallback:
            hints.append("omit --no-fallback, to take a build from your other sources")
        raise CatalogError(failure.slug, failure.message, wanted=failure.wanted, hints=tuple(hints))

    def _is_blocked(self, slug: str) -> bool:
        """Whether something on the way may keep this machine from the index; pages that it lacks do not."""
        if slug != "index-forbidden":
            return slug in UNREACHABLE
        # A store of files says 403 of what it lacks, a filter of everything.
        root = read_pages((), self._inputs.catalog, self._context, self._options, discover=True)
        return root.backends is None


def _serves_as_well(made: Plan, best: Plan) -> bool:
    """Whether it uses every GPU that the best build uses."""
    used = {(gpu.vendor, gpu.index) for gpu in made.gpus if gpu.covered}
    return used.issuperset((gpu.vendor, gpu.index) for gpu in best.gpus if gpu.covered)


class _Reading:
    """Reads pages until the plan rests on pages that were read.

    The pages that the tables think worth reading nearly always settle it in one turn. Where the index has
    less than the tables say (a mirror), the next best build may lie on a page that nobody asked for yet.

    Attributes:
        failure: set when the index did not answer, or has not one page of torch of those asked for.
    """

    def __init__(
        self,
        fetch: Callable[[tuple[PageKey, ...], bool], LiveResult],
        catalog: Catalog,
        tables: Plan,
        *,
        discover: bool,
        detail: Callable[[str], None],
    ) -> None:
        self._fetch = fetch
        self.catalog = catalog
        self.plan = tables
        self.warnings: list[Message] = []
        self.failure: CatalogError | None = None
        self._tables = tables
        self._discover = discover
        self._detail = detail
        self._names: tuple[str, ...] = ()
        self._asked: set[PageKey] = set()
        self._turns = 0

    def unread(
        self, wanted: Callable[[Catalog, tuple[str, ...]], tuple[PageKey, ...]]
    ) -> tuple[PageKey, ...]:
        """The pages to read next; none when the plan is settled."""
        down = self.failure is not None and self.failure.slug not in NOT_THERE
        if self._turns == MOST_TURNS or down:
            return ()
        keys = dict.fromkeys(wanted(self.catalog, self._names))
        if self.plan.chosen != self._tables.chosen:
            packages = dict.fromkeys(package for package, _ in keys)
            keys |= dict.fromkeys((package, name) for name in self._alternatives() for package in packages)
        return tuple(key for key in keys if key not in self._asked)

    def _alternatives(self) -> tuple[str, ...]:
        """Backends of the chosen one's maker that could serve too."""
        chosen = self.catalog.backend(self.plan.backend) if self.plan.backend else None
        names = dict.fromkeys(item.backend for item in self.plan.candidates if item.verdict != "rejected")
        return tuple(
            name
            for name in names
            if chosen is not None
            and (info := self.catalog.backend(name)) is not None
            and info.kind.vendor == chosen.kind.vendor
        )

    def read(self, keys: tuple[PageKey, ...], decide: Callable[[Catalog], Plan]) -> None:
        """Read pages and plan again."""
        first = not self._asked
        result = self._fetch(keys, self._discover and first)
        self._turns += 1
        self._asked |= set(keys)
        self._detail(
            f"{result.index_base}: {result.live} pages read, {len(result.found) - result.live} from the "
            f"cache, {len(result.failures)} failed"
        )
        for note in result.notes:
            self._detail(note)
        pages = dict(result.pages)
        # "Not one page of torch is there" may only mean that the index lacks these backends: others may do.
        absent = {key: () for key, failure in result.failures.items() if failure.slug in NOT_THERE}
        if any(package == "torch" and rows for (package, _), rows in pages.items()):
            self.failure = None
        elif first:
            self.failure = result.error()
        if not absent:
            self.warnings += [Message(item.slug, item.message) for item in result.warnings]
        pages.update(absent)
        if pages:
            self.catalog = self.catalog.overlay(pages, result.hashes)
            self.plan = decide(self.catalog)
        self._names += tuple(name for name in result.backends or () if self.catalog.backend(name) is not None)


def read_pages(
    keys: Iterable[PageKey],
    catalog: Catalog,
    context: Context,
    options: PlanOptions,
    *,
    discover: bool = False,
    index_base: str | None = None,
    any_host: bool = False,
    described: frozenset[str] = frozenset(),
    asking: Callable[[], object] = bool,
) -> LiveResult:
    """Read pages of the index, as this run may.

    Args:
        keys: the pages.
        catalog: knows the packages that every backend shares.
        context: clock, environment and cache folder.
        options: where the index is and how it may be asked.
        discover: ask which backends there are, too.
        index_base: another index than that of the options.
        any_host: its pages may link to files on other hosts.
        described: packages of whose newest releases the requirements are read too.
        asking: called before the index is asked.

    Raises:
        UsageError: the base of the index is no URL.
    """
    from torchinstall.index.fetch import fetch_pages  # a plan from the tables does not need it

    live = structs.replace(
        live_options(context, options, index_base),
        shared=frozenset(row.package for row in catalog.families if row.runtime_of),
        any_host=any_host,
        described=described,
        asking=asking,
    )
    return fetch_pages(keys, live, discover=discover)
