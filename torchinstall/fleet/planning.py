"""Plan for machines with names: what was asked for is read once, and so is each page of the index."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct, structs

from torchinstall.core.machine import Machine
from torchinstall.core.messages import Message
from torchinstall.core.target import foreign_target
from torchinstall.fleet.classes import Fleet, Member, kinds_of, plan_fleet
from torchinstall.planner.selection import pages_to_read
from torchinstall.planning.context import Context
from torchinstall.planning.inputs import Inputs, collect_inputs
from torchinstall.planning.online import read_pages
from torchinstall.planning.options import PlanOptions

__all__ = ["PlannedFleet", "plan_machines"]


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
    kinds = kinds_of(members)
    request, warnings = inputs.request, []
    keys = [pages_to_read(request, kind.machine, kind.target, inputs.catalog) for kind in kinds]
    pages = tuple(dict.fromkeys(key for some in keys for key in some))
    if pages:
        result = read_pages(pages, inputs.catalog, context, options)
        warnings = [Message(slug=row.slug, message=row.message) for row in result.warnings]
        inputs = structs.replace(inputs, catalog=inputs.catalog.overlay(result.pages, result.hashes))
    fleet = plan_fleet(request, kinds, inputs.catalog, today=context.today(), savings=savings)
    return PlannedFleet(fleet, inputs, tuple(warnings))
