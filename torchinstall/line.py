"""The one line of data that every verb is a prefix of: machine, target, catalog, plan, command.

`where` holds its beginning, `prepare` walks to the plan and its command. What a plan is then used for
(printing, installing, exporting) is the verb's.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from torchinstall.errors import (
    CatalogError,
    GpuUnavailableError,
    NoCompatibleBuildError,
    TargetError,
    TorchInstallError,
    UsageError,
)
from torchinstall.requirement import canonical_name, requirement
from torchinstall.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from torchinstall.catalog.catalog import Catalog
    from torchinstall.cli.request import Order
    from torchinstall.cli.settings import Settings
    from torchinstall.cli.world import World
    from torchinstall.install.locate import Place
    from torchinstall.install.uv import Uv
    from torchinstall.machine import Machine
    from torchinstall.planner.model import Plan
    from torchinstall.target import Target

__all__ = ["Line", "catalog_of", "prepare", "refusal"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Everything up to the plan.

    Attributes:
        place: where it is installed; None for a target that is not here.
        uv: what will install; None where nothing can be installed.
        plan: with its command where there is one.
        index_down: the index was needed and did not answer; the plan is from the tables.
    """

    machine: Machine
    target: Target
    catalog: Catalog
    order: Order
    plan: Plan
    place: Place | None = None
    uv: Uv | None = None
    index_down: bool = False

    @property
    def asks_uv(self) -> bool:
        """Whether uv has something to look at: a build to install, or packages that are no build."""
        if self.plan.status == "impossible":
            return False
        planned = {package.name for package in self.plan.packages if package.version is not None}
        others = any(
            asked.url is not None or asked.extras or canonical_name(asked.name) not in planned
            for asked in self.order.request.requirements
        )
        return self.plan.status == "ready" or others or bool(self.order.uv_args)

    def strays(self, names: Iterable[str]) -> tuple[str, ...]:
        """Packages among these that move with torch and that nobody planned.

        Something that was asked for depends on them. Left to uv they would come from the default index,
        where they are built for another backend.
        """
        planned = {package.name for package in self.plan.packages}
        direct = {canonical_name(asked.name) for asked in self.order.request.requirements if asked.url}
        found = []
        for name in sorted(set(names) - planned - direct):
            family = self.catalog.family(name)
            if family is not None and family.routed and not family.runtime_of:
                found.append(name)
        return tuple(found)

    def command(self, env: Mapping[str, str], *, dry_run: bool = False, more: tuple[str, ...] = ()) -> Plan:
        """The plan with its command; without one where nothing is to do or the target is not here.

        Args:
            env: of the user.
            dry_run: uv only says what it would do.
            more: further arguments for uv.
        """
        from torchinstall.install.command import check_uv_args, command

        check_uv_args(self.order.uv_args)
        if self.uv is None or self.plan.target.python is None or not self.asks_uv:
            return self.plan
        request = self.order.request
        return command(
            self.plan,
            uv=self.uv.path,
            env=env,
            installed=self.target.installed,
            constraints=self.order.constraint_files,
            uv_args=(*more, *self.order.uv_args),
            dry_run=dry_run,
            offline=request.offline,
            upgrade=request.upgrade,
        )


def prepare(
    world: World,
    settings: Settings,
    *,
    here: bool,
    detail: Callable[[str], None],
    failed: tuple[tuple[str, str], ...] = (),
    also: tuple[str, ...] = (),
) -> Line:
    """Walk the line up to the plan; nothing on the machine is changed.

    Args:
        world: the doors.
        settings: of the verb.
        here: it will be installed here: the target must be here, and the index must answer if it is needed.
        detail: told what is looked at, for `-v`.
        failed: builds (torch release, backend) that were tried and did not compute.
        also: packages to plan beside those that were asked for.

    Raises:
        TorchInstallError: anything but a plan that says "impossible"; that one is returned.
    """
    from torchinstall.cli.request import order_of
    from torchinstall.fresh import fresh_plan
    from torchinstall.later import Later
    from torchinstall.where import find_place, machine_of, target_here, target_planned

    catalog = catalog_of(world)
    found = Later(lambda: find_place(world, settings, catalog))
    machine = machine_of(world, settings)
    order = order_of(settings, world, machine, catalog)
    order = _further(order, failed, also)
    catalog = _with_folders(catalog, order, detail)
    find = target_here if here else target_planned
    place, uv, target = find(found, world, settings, machine)
    detail(f"target: Python {target.python_version} {target.abi} on {target.platform}, {target.why}")
    fresh = fresh_plan(
        order.request,
        machine,
        target,
        catalog,
        world=world,
        must_reach=here and not settings.on("dry_run"),
        refresh=settings.on("refresh"),
        allow_insecure=settings.texts("allow_insecure_host"),
        detail=detail,
    )
    line = Line(
        machine=machine,
        target=target,
        catalog=fresh.catalog,
        order=order,
        plan=_noted(fresh.plan, order),
        place=place,
        uv=uv,
        index_down=fresh.index_down,
    )
    return dataclasses.replace(line, plan=line.command(world.env, dry_run=settings.on("dry_run")))


def _further(order: Order, failed: tuple[tuple[str, str], ...], also: tuple[str, ...]) -> Order:
    """The order with what was learnt on the way."""
    if not failed and not also:
        return order
    request = order.request
    wanted = (*request.requirements, *(requirement(name) for name in also))
    return dataclasses.replace(
        order, request=dataclasses.replace(request, requirements=wanted, failed=failed)
    )


def refusal(plan: Plan) -> TorchInstallError | None:
    """The error of a plan that says why there is none."""
    error = plan.error
    if error is None:
        return None
    classes = (NoCompatibleBuildError, GpuUnavailableError, TargetError, CatalogError, UsageError)
    kind = next((item for item in classes if item.exit_code == error.exit_code), NoCompatibleBuildError)
    return kind(
        error.slug,
        error.message,
        wanted=error.wanted,
        found=error.found,
        hints=tuple(error.hint.split("\n")) if error.hint else (),
    )


def catalog_of(world: World) -> Catalog:
    """The tables (shipped, or of `TORCHINSTALL_CATALOG_DIR`) and the packages of configuration files."""
    from torchinstall.catalog.load import load_catalog

    directory = world.env.get("TORCHINSTALL_CATALOG_DIR")
    return load_catalog(world.path(directory) if directory else None, families=world.families)


def _with_folders(catalog: Catalog, order: Order, detail: Callable[[str], None]) -> Catalog:
    """The catalog with the wheels of `--find-links`, and those asked for by path or URL, on top."""
    asked = order.request.requirements
    named = [item.url for item in asked if item.url and catalog.family(canonical_name(item.name)) is not None]
    if not (order.request.find_links or named):
        return catalog
    from torchinstall.catalog.find_links import local_wheels, named_wheels

    found = (local_wheels(order.request.find_links), named_wheels(named))
    for part in found:
        for note in part.notes:
            detail(note)
    return type(catalog)(catalog.tables, local=tuple(row for part in found for row in part.wheels))


def _noted(plan: Plan, order: Order) -> Plan:
    """The plan with a warning for everything that was left out on purpose."""
    from torchinstall.planner.model import Warn

    notes = tuple(Warn(slug=slug, message=message) for slug, message in order.notes)
    return dataclasses.replace(plan, warnings=(*plan.warnings, *notes)) if notes else plan
