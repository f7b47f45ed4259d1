"""Plan for many machines: equal ones once, and the fewest builds that serve all of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import date

from msgspec import Struct, structs
from packaging.version import Version

from torchinstall.catalog.catalog import Catalog
from torchinstall.catalog.model import Floor
from torchinstall.catalog.tables import PageKey
from torchinstall.core.machine import Machine
from torchinstall.core.messages import Message
from torchinstall.core.plan import Plan
from torchinstall.core.request import Request
from torchinstall.core.target import Target, foreign_target
from torchinstall.core.versions import at_least, dotted, dotted_or_none
from torchinstall.planner.selection import acceptable_builds, pages_to_read, plan
from torchinstall.planning.context import Context, PlanOptions
from torchinstall.planning.index_pages import Reading, Run
from torchinstall.planning.inputs import Inputs, collect_inputs

MOST_PROVEN = 20
"""Up to so many kinds of machines that differ in what serves them, the fewest builds are proven."""

BuildKey = tuple[str, str]
"""(torch release, backend): what machines of different platforms can share."""


class Kind(Struct, frozen=True):
    """Equal machines."""

    machine: Machine
    target: Target
    names: tuple[str, ...]


class Group(Struct, frozen=True):
    """Machines that one build serves; each kind has its own plan for it.

    A group of one platform is a class: one lock and one image serve it.
    """

    torch: str
    backend: str
    kinds: tuple[tuple[Kind, Plan], ...]

    @property
    def plans(self) -> tuple[tuple[str, Plan], ...]:
        """The plan of each machine."""
        return tuple((name, made) for kind, made in self.kinds for name in kind.names)

    @property
    def names(self) -> tuple[str, ...]:
        """Of its machines."""
        return tuple(name for name, _ in self.plans)

    @property
    def platform(self) -> str:
        """Of a class."""
        return self.kinds[0][0].target.platform

    @property
    def name(self) -> str:
        """Of a class, for files and folders: `torch2.14.1-cu126-linux_x86_64`."""
        return f"torch{self.torch}-{self.backend}-{self.platform}"


class Saving(Struct, frozen=True):
    """So many builds are enough for all, once these machines have this driver or a newer one."""

    driver: str
    names: tuple[str, ...]
    builds: int


class Fleet(Struct, frozen=True):
    """The builds, who gets which, and who gets none (those plans carry the error).

    `at_least` so many builds are needed in any case; `proven`: no fewer serve these machines.
    """

    groups: tuple[Group, ...]
    left_out: tuple[tuple[Kind, Plan], ...]
    proven: bool = True
    at_least: int = 0
    savings: tuple[Saving, ...] = ()

    @property
    def classes(self) -> tuple[Group, ...]:
        """The groups by platform."""
        found: dict[tuple[str, str, str], list[tuple[Kind, Plan]]] = {}
        for group in self.groups:
            for kind, made in group.kinds:
                found.setdefault((group.torch, group.backend, kind.target.platform), []).append((kind, made))
        return tuple(Group(torch, backend, tuple(kinds)) for (torch, backend, _), kinds in found.items())

    @property
    def impossible(self) -> tuple[tuple[str, Plan], ...]:
        """The plan of each machine that no build serves."""
        return Group("", "", self.left_out).plans


class PlannedFleet(Struct, frozen=True):
    """A fleet, what it was planned from (for the first machine), and what the index could not say."""

    fleet: Fleet
    inputs: Inputs
    warnings: tuple[Message, ...]


def plan_machines(
    context: Context,
    options: PlanOptions,
    machines: Sequence[tuple[str, Machine]],
    *,
    savings: bool = False,
) -> PlannedFleet:
    """Plan for machines by their names, one at least; equal machines cost one plan.

    What was asked for is read once, and so is each page of the index. `savings`: also look for drivers whose
    update would save a build.

    Raises:
        TorchInstallError: what was asked for is not right.
    """
    version = options.python_version or context.python_version
    options = structs.replace(
        options, python_version=version, sources={**options.sources, "machine": "argument"}
    )
    inputs = collect_inputs(context, options, machine=machines[0][1])
    kinds = kinds_of(machines, version)
    request, today = inputs.request, context.today()
    reading = Reading(Run(inputs, options, context))
    tables = fleet = plan_fleet(request, kinds, inputs.catalog, today=today)
    while keys := reading.unread(_wanted(reading, request, kinds, fleet)):
        before, names = reading.catalog, reading.backends
        reading.read(keys)
        if reading.catalog is before and reading.backends == names:
            break  # nothing new was read
        fleet = plan_fleet(request, kinds, reading.catalog, today=today)
    catalog = reading.catalog
    if reading.failure is not None:
        fleet, catalog = tables, inputs.catalog
    if savings:
        fleet = with_savings(fleet, request, catalog)
    return PlannedFleet(fleet, structs.replace(inputs, catalog=catalog), reading.warnings)


def _wanted(reading: Reading, request: Request, kinds: Iterable[Kind], fleet: Fleet) -> Iterator[PageKey]:
    """The pages that could change a plan, and those of the chosen builds, which no machine may want alone."""
    known, names = reading.catalog, reading.backends
    for kind in kinds:
        yield from pages_to_read(request, kind.machine, kind.target, known, discovered=names)
    for group in fleet.groups:
        for _, made in group.kinds:
            yield from ((item.name, group.backend) for item in made.packages if item.index_url is not None)


def kinds_of(machines: Iterable[tuple[str, Machine]], python_version: str) -> tuple[Kind, ...]:
    """Equal machines together, whatever their size of memory and the numbers of their GPUs."""
    names: dict[tuple[Machine, Target], list[str]] = {}
    seen: dict[int, tuple[Machine, Target]] = {}
    for name, machine in machines:
        if id(machine) not in seen:
            seen[id(machine)] = _plain(machine), foreign_target(machine, python_version)
        names.setdefault(seen[id(machine)], []).append(name)
    return tuple(Kind(*key, tuple(found)) for key, found in names.items())


def _plain(machine: Machine) -> Machine:
    gpus = tuple(structs.replace(gpu, uuid=None, memory_bytes=None) for gpu in machine.gpus)
    telling = tuple(row for row in machine.findings if row.status in ("denied", "broken", "overridden"))
    return structs.replace(machine, gpus=gpus, findings=telling, memory_bytes=None)


def plan_fleet(
    request: Request, kinds: Sequence[Kind], catalog: Catalog, *, today: date | None = None
) -> Fleet:
    """Choose builds for all machines; none gets one that uses its GPUs worse than its own best would."""
    serves = [acceptable_builds(request, kind.machine, kind.target, catalog) for kind in kinds]
    cover = fewest(serves)
    served: dict[BuildKey | None, list[tuple[Kind, tuple[BuildKey, ...]]]] = {}
    for kind, keys in zip(kinds, serves, strict=True):
        usable = (key for key in cover.keys if key in keys)
        served.setdefault(max(usable, key=_newness, default=None), []).append((kind, keys))
    grouped: dict[BuildKey, list[tuple[Kind, Plan]]] = {}
    left_out: list[tuple[Kind, Plan]] = []
    for key in (*cover.keys, None):
        rows = served.get(key, [])
        shared = None if key is None or not rows else _best_alike(key, [keys for _, keys in rows])
        for kind, _ in rows:
            alone = plan(request, kind.machine, kind.target, catalog, today=today)
            if shared is None:
                left_out.append((kind, alone))
            else:
                made = _with_build(shared, request, kind, alone, catalog, today)
                grouped.setdefault(shared, []).append((kind, made))
    groups = tuple(Group(*key, tuple(rows)) for key, rows in grouped.items())
    return Fleet(groups, tuple(left_out), cover.proven, cover.at_least)


def _best_alike(key: BuildKey, orders: Sequence[tuple[BuildKey, ...]]) -> BuildKey:
    """Of the builds of one torch that serve these machines: the one that comes first in their own orders."""
    alike = [other for other in orders[0] if other[0] == key[0] and all(other in order for order in orders)]
    return min(alike, key=lambda other: sum(order.index(other) for order in orders))


def _with_build(
    key: BuildKey, request: Request, kind: Kind, alone: Plan, catalog: Catalog, today: date | None
) -> Plan:
    """The plan for the build that machines share; why a GPU stays unused, their own best plan says."""
    only = structs.replace(request, only=key)
    made = plan(only, kind.machine, kind.target, catalog, today=today)
    if all(gpu.covered for gpu in made.gpus):
        return made
    unused = ("gpu-not-used", "gpu-left-out")
    notes = [row for row in made.warnings if row.slug not in unused]
    notes += [row for row in alone.warnings if row.slug in unused]
    pairs = zip(made.gpus, alone.gpus, strict=True)
    gpus = tuple(mine if mine.covered or own.covered else own for mine, own in pairs)
    return structs.replace(made, gpus=gpus, warnings=tuple(notes))


class Cover(Struct, frozen=True):
    """Builds that serve everyone; `proven`: fewer do not; `at_least`: so many are needed in any case."""

    keys: tuple[BuildKey, ...]
    proven: bool
    at_least: int


def fewest(serves: Iterable[Collection[BuildKey]]) -> Cover:
    """The fewest builds such that each of these sets has one of them, the newest among equals.

    Proven for up to `MOST_PROVEN` different sets. Above, the build that serves most is taken again and again,
    which needs at most 1 + ln(n) times as many as the fewest; empty sets are nobody's.
    """
    different = list(dict.fromkeys(frozenset(keys) for keys in serves if keys))
    masks: dict[BuildKey, int] = {}
    for place, keys in enumerate(different):
        for key in keys:
            masks[key] = masks.get(key, 0) | 1 << place
    everyone = (1 << len(different)) - 1
    # Builds that serve the same stand for each other, and one that serves less than another is not needed.
    sets = set(masks.values())
    useful = [mask for mask in sets if not any(mask != other and mask & other == mask for other in sets)]
    useful.sort(key=lambda mask: (-mask.bit_count(), mask))
    chosen: list[int] = []
    left = everyone
    while left:
        chosen.append(max(useful, key=lambda mask: (mask & left).bit_count()))
        left &= ~chosen[-1]
    at_least, counted = 0, 0
    for place in range(len(different)):  # of which no two share a build: each needs one of its own
        if not counted >> place & 1:
            at_least += 1
            for mask in useful:
                counted |= mask if mask >> place & 1 else 0
    if len(different) <= MOST_PROVEN:
        tries = (_within(useful, everyone, most) for most in range(at_least, len(chosen)))
        chosen = next((found for found in tries if found is not None), chosen)
        at_least = len(chosen)
    return Cover(_newest(chosen, masks, everyone), at_least == len(chosen), at_least)


def _within(useful: Sequence[int], left: int, most: int) -> list[int] | None:
    """At most so many sets that cover what is left; the choice is made for whoever has the fewest."""
    if not left:
        return []
    if most * max((mask & left).bit_count() for mask in useful) < left.bit_count():
        return None
    places = (place for place in range(left.bit_length()) if left >> place & 1)
    rare = min(([mask for mask in useful if mask >> place & 1] for place in places), key=len)
    for mask in sorted(rare, key=lambda mask: -(mask & left).bit_count()):
        others = _within(useful, left & ~mask, most - 1)
        if others is not None:
            return [mask, *others]
    return None


def _newest(chosen: list[int], masks: Mapping[BuildKey, int], everyone: int) -> tuple[BuildKey, ...]:
    """Builds for these sets: each the newest that still serves whoever no other one serves."""
    keys = [max((key for key in masks if masks[key] == mask), key=_newness) for mask in chosen]
    changed = True
    while changed:
        changed = False
        for place, key in enumerate(keys):
            others = 0
            for other in keys[:place] + keys[place + 1 :]:
                others |= masks[other]
            needed = everyone & ~others
            better = max((item for item in masks if needed & masks[item] == needed), key=_newness)
            if _newness(better) > _newness(key):
                keys[place], changed = better, True
    return tuple(sorted(keys, key=_newness, reverse=True))


def _newness(key: BuildKey) -> tuple[Version, int, str]:
    return Version(key[0]), len(key[1]), key[1]


def with_savings(fleet: Fleet, request: Request, catalog: Catalog) -> Fleet:
    """The fleet with the driver update, on the machines of one group or on all, that saves most builds."""
    parts = [[kind for kind, _ in group.kinds] for group in fleet.groups]
    kinds = [kind for part in parts for kind in part]
    if len(parts) < 2:
        return fleet
    serves = {id(kind): acceptable_builds(request, kind.machine, kind.target, catalog) for kind in kinds}
    options = []
    for floor in catalog.tables.floors:
        newer = {id(kind): keys for kind in kinds if (keys := _with_driver(request, kind, floor, catalog))}
        for part in (*parts, kinds) if newer else ():
            updated = [kind for kind in part if id(kind) in newer]
            after = fewest((serves | {id(kind): newer[id(kind)] for kind in updated}).values())
            names = tuple(name for kind in updated for name in kind.names)
            if updated and len(after.keys) < len(parts):
                options.append(Saving(floor.linux, names, len(after.keys)))
    best = min(options, key=lambda row: (row.builds, len(row.names)), default=None)
    return fleet if best is None else structs.replace(fleet, savings=(best,))


def _with_driver(request: Request, kind: Kind, floor: Floor, catalog: Catalog) -> tuple[BuildKey, ...]:
    """What serves machines of a kind with a newer driver; empty where it is no update, or loses a GPU."""
    row = next((row for row in catalog.tables.kinds if row.kind == floor.kind), None)
    driver = None if row is None or row.vendor is None else kind.machine.driver(row.vendor)
    have = dotted_or_none(driver.version) if driver is not None else None
    wanted = floor.driver(kind.machine)
    if driver is None or have is None or kind.machine.l4t or at_least(have, dotted(wanted)):
        return ()
    new = structs.replace(driver, version=wanted, cuda_version=None)
    drivers = tuple(new if item is driver else item for item in kind.machine.drivers)
    updated = structs.replace(kind, machine=structs.replace(kind.machine, drivers=drivers))
    before, after = (plan(request, row.machine, row.target, catalog).gpus for row in (kind, updated))
    if any(old.covered and not now.covered for old, now in zip(before, after, strict=True)):
        return ()
    return acceptable_builds(request, updated.machine, updated.target, catalog)
