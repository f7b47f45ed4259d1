"""The one line of data that every verb is a prefix of: machine, target, catalog, plan, command.

`where` holds its beginning, `prepare` walks to the plan and its command. What a plan is then used for
(printing, installing, exporting) is the verb's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct, structs

from torchinstall.core.errors import TorchInstallError, UsageError
from torchinstall.core.request import canonical_name, requirement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from torchinstall.catalog.catalog import Catalog
    from torchinstall.cli.settings import Settings
    from torchinstall.core.machine import Machine
    from torchinstall.core.plan import Plan
    from torchinstall.core.target import Target
    from torchinstall.install.environment import Place
    from torchinstall.install.uv import Uv
    from torchinstall.later import Later
    from torchinstall.planning.context import Context
    from torchinstall.planning.request import Order

__all__ = [
    "Line",
    "catalog_of",
    "find_place",
    "machine_of",
    "place_of",
    "prepare",
    "probed",
    "read_machine",
    "target_here",
    "target_planned",
]


class Line(Struct, frozen=True, kw_only=True):
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
    context: Context,
    settings: Settings,
    *,
    here: bool,
    detail: Callable[[str], None],
    failed: tuple[tuple[str, str], ...] = (),
    also: tuple[str, ...] = (),
) -> Line:
    """Walk the line up to the plan; nothing on the machine is changed.

    Args:
        context: the doors.
        settings: of the verb.
        here: it will be installed here: the target must be here, and the index must answer if it is needed.
        detail: told what is looked at, for `-v`.
        failed: builds (torch release, backend) that were tried and did not compute.
        also: packages to plan beside those that were asked for.

    Raises:
        TorchInstallError: anything but a plan that says "impossible"; that one is returned.
    """
    from torchinstall.later import Later
    from torchinstall.planning.online import fresh_plan
    from torchinstall.planning.request import order_of

    catalog = catalog_of(context)
    found = Later(lambda: find_place(context, settings, catalog))
    machine = machine_of(context, settings)
    order = order_of(settings, context, machine, catalog)
    order = _further(order, failed, also)
    catalog = _with_folders(catalog, order, detail)
    find = target_here if here else target_planned
    place, uv, target = find(found, context, settings, machine)
    detail(f"target: Python {target.python_version} {target.abi} on {target.platform}, {target.why}")
    fresh = fresh_plan(
        order.request,
        machine,
        target,
        catalog,
        context=context,
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
    return structs.replace(line, plan=line.command(context.env, dry_run=settings.on("dry_run")))


def _further(order: Order, failed: tuple[tuple[str, str], ...], also: tuple[str, ...]) -> Order:
    """The order with what was learnt on the way."""
    if not failed and not also:
        return order
    request = order.request
    wanted = (*request.requirements, *(requirement(name) for name in also))
    return structs.replace(order, request=structs.replace(request, requirements=wanted, failed=failed))


def catalog_of(context: Context) -> Catalog:
    """The tables (shipped, or of `TORCHINSTALL_CATALOG_DIR`) and the packages of configuration files."""
    from torchinstall.catalog.load import load_catalog

    directory = context.env.get("TORCHINSTALL_CATALOG_DIR")
    return load_catalog(context.path(directory) if directory else None, families=context.families)


def _with_folders(catalog: Catalog, order: Order, detail: Callable[[str], None]) -> Catalog:
    """The catalog with the wheels of `--find-links`, and those asked for by path or URL, on top."""
    asked = order.request.requirements
    named = [item.url for item in asked if item.url and catalog.family(canonical_name(item.name)) is not None]
    if not (order.request.find_links or named):
        return catalog
    from torchinstall.index.find_links import local_wheels, named_wheels

    found = (local_wheels(order.request.find_links), named_wheels(named))
    for part in found:
        for note in part.notes:
            detail(note)
    return type(catalog)(catalog.tables, local=tuple(row for part in found for row in part.wheels))


def _noted(plan: Plan, order: Order) -> Plan:
    """The plan with a warning for everything that was left out on purpose."""
    from torchinstall.core.messages import Message

    notes = tuple(Message(slug=slug, message=message) for slug, message in order.notes)
    return structs.replace(plan, warnings=(*plan.warnings, *notes)) if notes else plan


def probed(context: Context, settings: Settings) -> Machine:
    """The machine of `--root`, or this one.

    Raises:
        UsageError: the folder of `--root` is not there.
    """
    from torchinstall.probe import folder_system, probe_machine

    root = settings.text("root")
    return probe_machine(context.system(context.env) if root is None else folder_system(context.path(root)))


def machine_of(context: Context, settings: Settings) -> Machine:
    """The machine of `--machine FILE` (`-`: stdin), of `--root`, or this one.

    Raises:
        UsageError: the file cannot be read or is not a machine file, or there is more than one.
    """
    names = settings.texts("machine")
    if len(names) > 1:
        raise UsageError(
            "several-machines",
            "this needs one machine",
            wanted="--machine once",
            found=f"{len(names)} machine files",
            hints=("torchinstall plan --machine A --machine B plans for several",),
        )
    return read_machine(context, names[0]) if names else probed(context, settings)


def read_machine(context: Context, name: str) -> Machine:
    """The machine in a file (`-`: stdin).

    Raises:
        UsageError: the file cannot be read or is not a machine file.
    """
    from torchinstall.core.machine import decode_machine

    if name == "-":
        return decode_machine(context.stdin.read(), "stdin")
    path = context.path(name)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            "bad-machine-file",
            f"the machine file {path} cannot be read",
            wanted="the JSON that `torchinstall probe --json` prints",
            found=getattr(error, "strerror", None) or str(error),
            hints=("torchinstall probe --json > machine.json",),
        ) from error
    return decode_machine(text, str(path))


def place_of(context: Context, settings: Settings, catalog: Catalog, uv: Uv) -> Place:
    """The environment that the settings name, or the one that is found.

    Raises:
        TargetError: there is none, or it is broken.
    """
    from torchinstall.install.environment import locate

    return locate(
        context.env,
        uv=uv.path,
        family=frozenset(row.package for row in catalog.families),
        python=settings.text("python"),
        venv=settings.text("venv"),
        system=settings.on("system"),
        cwd=context.cwd,
    )


def find_place(context: Context, settings: Settings, catalog: Catalog) -> tuple[Place, Uv] | None:
    """The environment and the uv that will serve it; None where a Python was described instead.

    Raises:
        TargetError: there is none, or it is broken.
        ToolMissingError: there is no uv.
    """
    if settings.text("python_version") is not None:
        return None
    uv = context.find_uv(context.env)
    return place_of(context, settings, catalog, uv), uv


def target_here(
    found: Later[tuple[Place, Uv] | None], context: Context, settings: Settings, machine: Machine
) -> tuple[Place, Uv, Target]:
    """The environment that will be changed.

    Raises:
        TargetError: there is none, or it must not be changed.
        ToolMissingError: there is no uv.
        UsageError: a machine of another platform was described.
    """
    from torchinstall.install.environment import require_changeable

    there = found.result()
    if there is None:
        raise TypeError("a Python that was only described cannot be installed into")
    place, uv = there
    require_changeable(place, context.env, settings.rest)
    target = place.target
    if _described(settings) and (machine.os, machine.arch) != (target.os, target.arch):
        raise UsageError(
            "machine-elsewhere",
            "what was planned for that machine cannot be installed on this one",
            wanted=f"a machine file for {target.os} on {target.arch}",
            found=f"{machine.os} on {machine.arch} ({settings.source('machine')})",
            hints=("torchinstall plan --machine FILE plans for it",),
        )
    return place, uv, target


def target_planned(
    found: Later[tuple[Place, Uv] | None], context: Context, settings: Settings, machine: Machine
) -> tuple[Place | None, Uv | None, Target]:
    """The target of a plan: a Python that was described, else the environment that `auto` would take.

    A machine that was described is not this one. Its own libc decides, nothing is known to be installed on
    it, and where it has another platform only the Python version of the environment here counts.
    """
    from torchinstall.core.tags import foreign_target, platform_tags

    version = settings.text("python_version")
    try:
        there = found.result()
    except TorchInstallError as error:
        asked = any(settings.given(name) for name in ("python", "venv", "system"))
        if asked or not (_described(settings) or error.slug == "no-environment"):
            raise
        why = f"the Python that runs torchinstall, for want of another: {error.message}"
        return None, None, _foreign(machine, context.python_version, why)
    if there is None:
        return None, None, foreign_target(machine, version or context.python_version)
    place, uv = there
    target = place.target
    if not _described(settings):
        return place, uv, target
    if (machine.os, machine.arch) != (target.os, target.arch):
        why = f"the Python version of {target.prefix}, for the machine that was described"
        return None, None, _foreign(machine, target.python_version, why)
    libc, os_version = machine.libc or target.libc, machine.os_version or target.os_version
    target = structs.replace(
        target,
        libc=libc,
        os_version=os_version,
        platform_tags=platform_tags(target.os, target.arch, libc, os_version),
        installed=(),
    )
    return place, uv, target


def _foreign(machine: Machine, version: str, why: str) -> Target:
    from torchinstall.core.tags import foreign_target

    return structs.replace(foreign_target(machine, version), why=why)


def _described(settings: Settings) -> bool:
    return bool(settings.texts("machine")) or settings.text("root") is not None
