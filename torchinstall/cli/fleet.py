"""`torchinstall plan` for several machines: one build for all of them, or the fewest that serve them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import structs

if TYPE_CHECKING:
    from torchinstall.catalog.catalog import Catalog
    from torchinstall.cli.console import Session
    from torchinstall.cli.plan import PlanVerbOptions
    from torchinstall.core.request import Request
    from torchinstall.fleet.classes import Fleet, Member

__all__ = ["run_fleet"]


def run_fleet(session: Session, options: PlanVerbOptions) -> int:
    """Plan for every `--machine` and print who gets which build.

    Raises:
        TorchInstallError: a file is not right, or nothing can be installed on one of the machines.
    """
    from torchinstall.cli.fleet_text import fleet_text, fleet_to_json
    from torchinstall.core.tags import foreign_target
    from torchinstall.fleet.classes import Member, plan_fleet
    from torchinstall.planning.assemble import catalog_of, machine_of
    from torchinstall.planning.request import request_of

    context, console = session.context, session.console
    catalog = catalog_of(context)
    version = options.python_version or context.python_version
    members = []
    for name in options.machine:
        machine = machine_of(context, structs.replace(options, machine=(name,)))
        members.append(Member(name, machine, foreign_target(machine, version)))
    request = request_of(options, context, members[0].machine, catalog)[0]
    fresh = _with_pages(session, options, request, tuple(members), catalog)
    fleet = plan_fleet(request, tuple(members), fresh, today=context.today())
    for slug, message in _warnings(fleet):
        console.warn(slug, message)
    data = fleet_to_json(fleet)
    console.partial = data
    if not options.json:
        console.out(fleet_text(fleet))
    for _, plan in fleet.impossible:
        if plan.error is not None:
            raise plan.error
    if options.json:
        console.out_json(data)
    return 0


def _with_pages(
    session: Session,
    options: PlanVerbOptions,
    request: Request,
    members: tuple[Member, ...],
    catalog: Catalog,
) -> Catalog:
    """The catalog with every page that could change the plan of one of the machines."""
    from torchinstall.index.fetch import fetch_pages
    from torchinstall.planner.pages import wanted_pages
    from torchinstall.planning.online import live_options

    keys = dict.fromkeys(
        key for member in members for key in wanted_pages(request, member.machine, member.target, catalog)
    )
    if not keys:
        return catalog
    live = live_options(
        catalog,
        session.context,
        index_base=request.index_base,
        channel=request.channel,
        offline=request.offline,
        refresh=options.refresh,
        allow_insecure=options.allow_insecure_host,
    )
    result = fetch_pages(tuple(keys), live)
    for trouble in result.warnings:
        session.console.warn(trouble.slug, trouble.message)
    return catalog.overlay(result.pages, result.hashes)


def _warnings(fleet: Fleet) -> dict[tuple[str, str], None]:
    """Each warning once, with the machine's name where it is about one machine."""
    plans = [*(pair for group in fleet.groups for pair in group.plans), *fleet.impossible]
    return dict.fromkeys(
        (warning.slug, f"{name}: {warning.message}") for name, plan in plans for warning in plan.warnings
    )
