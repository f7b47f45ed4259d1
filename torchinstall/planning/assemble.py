"""The one assembly of options into machine, target, catalog, request and plan.

`collect_inputs` brings together what a plan is made from; `prepare` makes the plan and its command. What a
plan is then used for (printing, installing, exporting) is the verb's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Literal

from msgspec import Struct, structs

from torchinstall.core.errors import TorchInstallError, UsageError
from torchinstall.core.machine import Machine, decode_machine
from torchinstall.core.messages import Message
from torchinstall.core.plan import Plan
from torchinstall.core.request import Request, canonical_name, requirement
from torchinstall.core.target import Target
from torchinstall.planning.context import Context
from torchinstall.planning.options import MachineOptions, PlanOptions
from torchinstall.planning.request import request_of

if TYPE_CHECKING:
    from torchinstall.catalog.catalog import Catalog
    from torchinstall.install.environment import PythonEnvironment
    from torchinstall.install.uv import Uv

__all__ = [
    "Inputs",
    "Prepared",
    "Purpose",
    "catalog_of",
    "collect_inputs",
    "machine_of",
    "prepare",
    "probed",
]

Purpose = Literal["install", "plan", "examine"]
"""What the target is for: to be changed, to be planned for (it need not be here), or to be looked at."""


class Inputs(Struct, frozen=True, kw_only=True):
    """What a plan is made from.

    Attributes:
        uv_args: for uv as they are: what followed `--`, editables, the user's own indexes.
        constraint_files: paths, for uv.
        notes: what was omitted on purpose.
        place: where it is installed; None for a target that is not here.
        uv: what will install; None where nothing can be installed.
    """

    machine: Machine
    target: Target
    catalog: Catalog
    request: Request
    uv_args: tuple[str, ...] = ()
    constraint_files: tuple[str, ...] = ()
    notes: tuple[Message, ...] = ()
    place: PythonEnvironment | None = None
    uv: Uv | None = None


class Prepared(Inputs, frozen=True, kw_only=True):
    """A plan and what it was made from.

    Attributes:
        plan: with its command where there is one.
        index_down: the index was needed and did not answer; the plan is from the tables.
    """

    plan: Plan
    index_down: bool = False

    @property
    def asks_uv(self) -> bool:
        """Whether uv has something to look at: a build to install, or packages that are no build."""
        if self.plan.status == "impossible":
            return False
        planned = {package.name for package in self.plan.packages if package.version is not None}
        others = any(
            asked.url is not None or asked.extras or canonical_name(asked.name) not in planned
            for asked in self.request.requirements
        )
        return self.plan.status == "ready" or others or bool(self.uv_args)

    def strays(self, names: Iterable[str]) -> tuple[str, ...]:
        """Packages among these that move with torch and that nobody planned.

        Something that was asked for depends on them. Left to uv they would come from the default index,
        where they are built for another backend.
        """
        planned = {package.name for package in self.plan.packages}
        direct = {canonical_name(asked.name) for asked in self.request.requirements if asked.url}
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

        check_uv_args(self.uv_args)
        if self.uv is None or self.plan.target.python is None or not self.asks_uv:
            return self.plan
        return command(
            self.plan,
            uv=self.uv.path,
            env=env,
            installed=self.target.installed,
            constraints=self.constraint_files,
            uv_args=(*more, *self.uv_args),
            dry_run=dry_run,
            offline=self.request.offline,
            upgrade=self.request.upgrade,
        )


def prepare(
    context: Context,
    options: PlanOptions,
    *,
    detail: Callable[[str], None],
    purpose: Purpose = "plan",
    machine: Machine | None = None,
    failed: Sequence[tuple[str, str]] = (),
    also: Sequence[str] = (),
) -> Prepared:
    """Make the plan; nothing on the machine is changed.

    Args:
        context: the doors.
        options: of the verb.
        detail: told what is looked at, for `-v`.
        purpose: to "install", the target must be here, and the index must answer if it is needed.
        machine: the machine to plan for, instead of the one that the options name.
        failed: builds (torch release, backend) that were tried and did not compute.
        also: packages to plan beside those that were asked for.

    Raises:
        TorchInstallError: anything but a plan that says "impossible"; that one is returned.
    """
    from torchinstall.planning.online import fresh_plan

    inputs = collect_inputs(context, options, detail=detail, purpose=purpose, machine=machine)
    if failed or also:
        wanted = (*inputs.request.requirements, *(requirement(name) for name in also))
        request = structs.replace(inputs.request, requirements=wanted, failed=tuple(failed))
        inputs = structs.replace(inputs, request=request)
    target = inputs.target
    detail(f"target: Python {target.python_version} {target.abi} on {target.platform}, {target.why}")
    fresh = fresh_plan(
        inputs.request,
        inputs.machine,
        target,
        inputs.catalog,
        context=context,
        must_reach=purpose == "install" and not options.dry_run,
        refresh=options.refresh,
        allow_insecure=options.allow_insecure_host,
        detail=detail,
    )
    plan = structs.replace(fresh.plan, warnings=(*fresh.plan.warnings, *inputs.notes))
    known = {**structs.asdict(inputs), "catalog": fresh.catalog}
    made = Prepared(**known, plan=plan, index_down=fresh.index_down)
    return structs.replace(made, plan=made.command(context.env, dry_run=options.dry_run))


def collect_inputs(
    context: Context,
    options: PlanOptions,
    *,
    detail: Callable[[str], None],
    purpose: Purpose = "plan",
    machine: Machine | None = None,
) -> Inputs:
    """Bring together what a plan is made from; arguments as for `prepare`.

    Raises:
        TorchInstallError: the machine, the target or what was asked for is not right.
    """
    catalog = catalog_of(context)
    with ThreadPoolExecutor(1) as pool:
        # Most of this is waiting for the interpreter to answer; meanwhile the machine is probed.
        locating = pool.submit(_locate, context, options, catalog)
        seen = machine_of(context, options) if machine is None else machine
        request, asked = request_of(options, context, seen, catalog)
    described = machine is not None or bool(options.machine) or options.root is not None
    if purpose == "plan":
        place, uv, target = _target_to_plan(locating.result, context, options, seen, described=described)
    else:
        located = locating.result()
        if located is None:
            raise TypeError("a Python that was only described cannot be installed into")
        place, uv = located
        target = place.target
        if purpose == "install":
            _require_installable(place, context, options, seen if described else None)
    return Inputs(
        machine=seen,
        target=target,
        catalog=_with_wheels(catalog, request, detail),
        request=request,
        uv_args=tuple(asked.uv_args),
        constraint_files=tuple(asked.constraint_files),
        notes=tuple(Message(slug=slug, message=message) for slug, message in asked.notes),
        place=place,
        uv=uv,
    )


def catalog_of(context: Context) -> Catalog:
    """The tables (shipped, or of `TORCHINSTALL_CATALOG_DIR`) and the packages of configuration files."""
    from torchinstall.catalog.catalog import load_catalog

    directory = context.env.get("TORCHINSTALL_CATALOG_DIR")
    return load_catalog(context.path(directory) if directory else None, families=context.families)


def _with_wheels(catalog: Catalog, request: Request, detail: Callable[[str], None]) -> Catalog:
    """The catalog with the wheels of `--find-links`, and those asked for by path or URL, on top."""
    named = [
        item.url
        for item in request.requirements
        if item.url and catalog.family(canonical_name(item.name)) is not None
    ]
    if not (request.find_links or named):
        return catalog
    from torchinstall.index.find_links import local_wheels, named_wheels

    found = (local_wheels(request.find_links), named_wheels(named))
    for part in found:
        for note in part.notes:
            detail(note)
    return type(catalog)(catalog.tables, local=tuple(row for part in found for row in part.wheels))


def probed(context: Context, root: str | None = None, record: str | None = None) -> Machine:
    """The machine of `--root`, or this one; `--record` keeps everything that was read of it.

    Raises:
        UsageError: the folder of `--root` is not there, or that of `--record` is not empty.
    """
    from torchinstall.probe.detect import probe_machine
    from torchinstall.probe.recording import folder_system, record_machine

    system = context.system(context.env) if root is None else folder_system(context.path(root))
    return probe_machine(system) if record is None else record_machine(system, context.path(record))


def machine_of(context: Context, options: MachineOptions) -> Machine:
    """The machine of `--machine FILE` (`-`: stdin), of `--root`, or this one.

    Raises:
        UsageError: the file cannot be read or is not a machine file, or there is more than one.
    """
    names = options.machine
    if len(names) > 1:
        raise UsageError(
            "several-machines",
            "this needs one machine",
            wanted="--machine once",
            found=f"{len(names)} machine files",
            hints=("torchinstall plan --machine A --machine B plans for several",),
        )
    return _read_machine(context, names[0]) if names else probed(context, options.root)


def _read_machine(context: Context, name: str) -> Machine:

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


def _locate(context: Context, options: PlanOptions, catalog: Catalog) -> tuple[PythonEnvironment, Uv] | None:
    """The environment and the uv that will serve it; None where a Python was described instead."""
    from torchinstall.install.environment import locate

    if options.python_version is not None:
        return None
    uv = context.find_uv(context.env)
    place = locate(
        context.env,
        uv=uv.path,
        family=frozenset(row.package for row in catalog.families),
        python=options.python,
        venv=options.venv,
        system=options.system,
        cwd=context.cwd,
    )
    return place, uv


def _require_installable(
    place: PythonEnvironment, context: Context, options: PlanOptions, described: Machine | None
) -> None:
    """The environment may be changed, and a described machine is of its platform.

    Raises:
        TargetError: it must not be changed.
        UsageError: a machine of another platform was described.
    """
    from torchinstall.install.environment import require_changeable

    require_changeable(place, context.env, options.rest)
    target = place.target
    if described is not None and (described.os, described.arch) != (target.os, target.arch):
        raise UsageError(
            "machine-elsewhere",
            "what was planned for that machine cannot be installed on this one",
            wanted=f"a machine file for {target.os} on {target.arch}",
            found=f"{described.os} on {described.arch} ({options.source('machine')})",
            hints=("torchinstall plan --machine FILE plans for it",),
        )


def _target_to_plan(
    located: Callable[[], tuple[PythonEnvironment, Uv] | None],
    context: Context,
    options: PlanOptions,
    machine: Machine,
    *,
    described: bool,
) -> tuple[PythonEnvironment | None, Uv | None, Target]:
    """The target of a plan: a Python that was described, else the environment that `auto` would take.

    A machine that was described is not this one. Its own libc decides, nothing is known to be installed on
    it, and where it has another platform only the Python version of the environment here counts.
    """
    from torchinstall.core.tags import foreign_target, platform_tags

    try:
        there = located()
    except TorchInstallError as error:
        named = any(options.is_set(name) for name in ("python", "venv", "system"))
        if named or not (described or error.slug == "no-environment"):
            raise
        why = f"the Python that runs torchinstall, for want of another: {error.message}"
        return None, None, structs.replace(foreign_target(machine, context.python_version), why=why)
    if there is None:
        return None, None, foreign_target(machine, options.python_version or context.python_version)
    place, uv = there
    target = place.target
    if not described:
        return place, uv, target
    if (machine.os, machine.arch) != (target.os, target.arch):
        why = f"the Python version of {target.prefix}, for the machine that was described"
        return None, None, structs.replace(foreign_target(machine, target.python_version), why=why)
    libc, os_version = machine.libc or target.libc, machine.os_version or target.os_version
    target = structs.replace(
        target,
        libc=libc,
        os_version=os_version,
        platform_tags=platform_tags(target.os, target.arch, libc, os_version),
        installed=(),
    )
    return place, uv, target
