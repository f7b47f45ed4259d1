"""Plan for machines with names: what was asked for is read once, and so is each page of the index."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct, structs

from torchinstall.catalog.tables import PageKey
from torchinstall.core.machine import Machine
from torchinstall.core.messages import Message
from torchinstall.core.target import foreign_target
from torchinstall.fleet.classes import Fleet, Member, kinds_of, plan_fleet, with_savings
from torchinstall.planner.selection import pages_to_read
from torchinstall.planning.context import Context
from torchinstall.planning.inputs import Inputs, collect_inputs
from torchinstall.planning.online import MOST_TURNS, NOT_THERE, read_pages
from torchinstall.planning.options import PlanOptions


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
    detail: Callable[[str], None],
    savings: bool = False,
) -> PlannedFleet:
    """Plan for machines by their names; one at least.

    Args:
        context: the doors.
        options: what is asked for, of all machines alike.
        machines: name and machine; equal machines cost one plan.
        detail: told what is read, for `-v`.
        savings: also look for drivers whose update would save a build.

    Raises:
        TorchInstallError: what was asked for is not right.
    """
    version = options.python_version or context.python_version
    options = structs.replace(
        options, python_version=version, sources={**options.sources, "machine": "argument"}
    )
    inputs = collect_inputs(context, options, detail=detail, machine=machines[0][1])
    targets = {id(machine): foreign_target(machine, version) for _, machine in machines}
    members = [Member(name, machine, targets[id(machine)]) for name, machine in machines]
    kinds, request, today = kinds_of(members), inputs.request, context.today()
    catalog, warnings = inputs.catalog, list[Message]()
    asked: set[PageKey] = set()
    fleet = plan_fleet(request, kinds, catalog, today=today)
    for _ in range(MOST_TURNS):
        pages = [pages_to_read(request, kind.machine, kind.target, catalog) for kind in kinds]
        keys = tuple(
            dict.fromkeys(key for some in (*pages, _pages_of(fleet)) for key in some if key not in asked)
        )
        if not keys:
            break
        asked |= set(keys)
        result = read_pages(keys, catalog, context, options)
        absent = {key: () for key, failure in result.failures.items() if failure.slug in NOT_THERE}
        warnings += [] if absent else [Message(slug=row.slug, message=row.message) for row in result.warnings]
        if not (result.pages or absent) or (not result.pages and len(asked) == len(keys)):
            break  # the index does not answer, or has nothing: the tables stand
        catalog = catalog.overlay({**result.pages, **absent}, result.hashes)
        fleet = plan_fleet(request, kinds, catalog, today=today)
    if savings:
        fleet = with_savings(fleet, request, catalog)
    return PlannedFleet(fleet, structs.replace(inputs, catalog=catalog), tuple(dict.fromkeys(warnings)))


def _pages_of(fleet: Fleet) -> list[PageKey]:
    """The pages that the chosen builds are on, which no machine alone may have asked for."""
    return [
        (package.name, group.backend)
        for group in fleet.groups
        for _, made in group.kinds
        for package in made.packages
        if package.index_url is not None
    ]
