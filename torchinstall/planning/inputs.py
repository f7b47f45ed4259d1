"""What a plan is made from: options made into machine, target, catalog and request."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from msgspec import Struct, structs

from torchinstall.catalog.catalog import Catalog, load_catalog
from torchinstall.core.errors import TorchInstallError, UsageError
from torchinstall.core.files import MOST_BYTES_OF_TOOLS, read_named
from torchinstall.core.machine import OS_LABELS, Machine, decode_machine
from torchinstall.core.messages import Message
from torchinstall.core.plan import Plan
from torchinstall.core.request import Request, requirement
from torchinstall.core.target import Target, foreign_target
from torchinstall.index.fetch import LiveOptions, warm_up
from torchinstall.index.wheels import local_wheels
from torchinstall.install.command import check_uv_args, command
from torchinstall.install.environment import STATE, Search, require_changeable
from torchinstall.install.interpreter import PythonEnvironment
from torchinstall.install.uv import Uv
from torchinstall.planning.context import Context, MachineOptions, PlanOptions
from torchinstall.planning.request import index_base_of, request_of

if TYPE_CHECKING:
    from torchinstall.install.lock import EnvironmentLock

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
        described: the machine is not looked at, it was described.
        distribution: what the Linux that was looked at calls itself.
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
    described: bool = False
    distribution: str | None = None

    @property
    def created_with(self) -> str | None:
        """The interpreter that the environment is yet to be created with; None: it is there."""
        return None if self.place is None else self.place.base

    @property
    def elsewhere(self) -> bool:
        """Whether the machine or its GPUs were described: those need not be here."""
        return self.described or self.request.describes


class Prepared(Inputs, frozen=True, kw_only=True):
    """A plan (with its command where there is one) and what it was made from.

    `index_down`: the index was needed and did not answer; the plan is from the tables.
    """

    plan: Plan
    index_down: bool = False

    @property
    def asks_uv(self) -> bool:
        """Whether uv has something to look at: a build to install, or packages that are no build."""
        if self.plan.status == "impossible":
            return False
        planned = {package.name for package in self.plan.packages if package.version is not None}
        if self.request.wanted:  # what no source has was left out
            kept = {requirement(text).package for text in self.plan.requirements}
            planned |= {*self.request.wanted} - kept
        others = any(
            asked.url is not None or asked.extras or asked.package not in planned
            for asked in self.request.requirements
        )
        return self.plan.status == "ready" or others or bool(self.uv_args)

    def strays(self, names: Iterable[str]) -> tuple[str, ...]:
        """Packages among these that move with torch and that nobody planned.

        Something that was asked for depends on them. Left to uv they would come from the default index,
        where they are built for another backend.
        """
        planned = {package.name for package in self.plan.packages}
        direct = {asked.package for asked in self.request.requirements if asked.url}
        rows = (self.catalog.family(name) for name in sorted(set(names) - planned - direct))
        return tuple(
            row.package
            for row in rows
            if row is not None and (row.routed or row.index_first) and not row.runtime_of
        )

    def command(self, env: Mapping[str, str], *, dry_run: bool = False, more: tuple[str, ...] = ()) -> Plan:
        """The plan with its command; without one where nothing is to do or the target is not here.

        With `dry_run` uv only says what it would do; `more` are further arguments for it.
        """
        check_uv_args(self.uv_args)
        if self.uv is None or self.plan.target.python is None or not self.asks_uv:
            return self.plan
        return command(
            self.plan,
            uv=self.uv.path,
            env=env,
            constraints=self.constraint_files,
            uv_args=(*more, *self.uv_args),
            dry_run=dry_run,
            offline=self.request.offline,
            upgrade=self.request.upgrade,
        )


def collect_inputs(
    context: Context,
    options: PlanOptions,
    *,
    purpose: Purpose = "plan",
    machine: Machine | None = None,
    lock: EnvironmentLock | None = None,
) -> Inputs:
    """Bring together what a plan is made from.

    `machine` is planned for instead of the one that the options name; `lock` makes the environment ours
    before anybody looks at it, since it will be changed.

    Raises:
        TorchInstallError: the machine, the target or what was asked for is not right.
    """
    catalog = catalog_of(context)
    folder = _search(context, options).folder()
    if lock is not None and folder is not None:
        lock.take_if_writable(folder)
    located = _begin_to_locate(context, options, catalog)
    seen, distribution = (machine, None) if machine else _machine_and_name(context, options, folder)
    request, asked = request_of(options, context, seen, catalog)
    catalog.wheels("torch", "any")  # the largest table, read while the interpreter answers
    described = machine is not None or bool(options.machine) or options.root is not None
    if purpose == "plan":
        there, target = _target_to_plan(located, context, options, seen, described=described)
    elif (there := located()) is None:
        raise TypeError("a Python that was only described cannot be installed into")
    else:
        if purpose == "install":
            _require_installable(there[0], context, options, seen if described else None)
        if lock is not None and there[0].writable and lock.take(Path(str(there[0].target.prefix))):
            there = _locate(context, options, catalog)
        target = there[0].target
    place, uv = there or (None, None)
    left = None
    if place is not None and (Path(str(place.target.prefix)) / STATE).exists():
        from torchinstall.install.journal import unfinished  # it brings in all that a change needs

        left = unfinished(Path(str(place.target.prefix)))
    return Inputs(
        machine=seen,
        target=target,
        catalog=_with_wheels(catalog, request, context),
        request=request,
        uv_args=tuple(asked.uv_args),
        constraint_files=tuple(asked.constraint_files),
        notes=(*asked.notes, *((left,) if left is not None else ())),
        place=place,
        uv=uv,
        described=described,
        distribution=distribution,
    )


def catalog_of(context: Context) -> Catalog:
    """The tables (shipped, or of `TORCHINSTALL_CATALOG_DIR`) and the packages of configuration files."""
    directory = context.env.get("TORCHINSTALL_CATALOG_DIR")
    return load_catalog(context.path(directory) if directory else None, families=context.families)


def _with_wheels(catalog: Catalog, request: Request, context: Context) -> Catalog:
    """The catalog with the wheels of `--find-links`, and those asked for by path or URL, on top."""
    named = [item.url for item in request.requirements if item.url and catalog.family(item.package)]
    if not (request.find_links or named):
        return catalog
    return Catalog(catalog.tables, local=local_wheels(request.find_links, named, context.detail))


def probed(
    context: Context, root: str | None = None, record: str | None = None, prefix: Path | None = None
) -> tuple[Machine, str | None]:
    """The machine of `--root`, or this one, and what its distribution calls itself.

    `--record` keeps everything that was read of it. `prefix` is the environment whose disk counts, if that is
    not the active one.

    Raises:
        UsageError: the folder of `--root` is not there, or that of `--record` is not empty.
    """
    env = {**context.env, "VIRTUAL_ENV": str(prefix)} if prefix is not None else context.env
    here = context.system(env) if root is None else None
    from torchinstall.probe import detect, host, recording  # a machine in a file needs none of them

    system = here or recording.folder_system(context.path(root or ""))
    if record is not None:
        return recording.record_machine(system, context.path(record)), host.distribution(system)
    return detect.probe_machine(system), host.distribution(system)


def machine_of(context: Context, options: MachineOptions) -> Machine:
    """The machine of `--machine FILE` (`-`: stdin), of `--root`, or this one.

    Raises:
        UsageError: the file cannot be read or is not a machine file, or there is more than one.
    """
    return _machine_and_name(context, options)[0]


def _machine_and_name(
    context: Context, options: MachineOptions, prefix: Path | None = None
) -> tuple[Machine, str | None]:
    names = options.machine
    if len(names) > 1:
        raise UsageError(
            "several-machines",
            "this needs one machine",
            wanted="--machine once",
            found=f"{len(names)} machine files",
            hints=("torchinstall plan --machine A --machine B plans for several",),
        )
    if not names:
        return probed(context, options.root, prefix=prefix)
    if names[0] == "-":
        return decode_machine(context.stdin.read(MOST_BYTES_OF_TOOLS), "stdin"), None
    path, hint = context.path(names[0]), "torchinstall probe --json > machine.json"
    what, wanted = f"the machine file {path}", "what `torchinstall probe --json` prints"
    text = read_named(path, "bad-machine-file", what, wanted, hint, most=MOST_BYTES_OF_TOOLS)
    return decode_machine(text, str(path)), None


Located = tuple[PythonEnvironment, Uv] | None
"""The environment and the uv that will serve it; None where a Python was described instead."""


def _begin_to_locate(context: Context, options: PlanOptions, catalog: Catalog) -> Callable[[], Located]:
    """Ask the interpreter while the machine is probed; what this returns waits for the answer."""
    if options.python_version is not None:
        return lambda: None
    if sys.platform == "emscripten":  # Python in a browser starts no threads
        return partial(_locate, context, options, catalog)
    from concurrent.futures import ThreadPoolExecutor  # it brings in logging

    with_one_thread = ThreadPoolExecutor(1)
    answer = with_one_thread.submit(_locate, context, options, catalog)
    if not options.offline:
        with_one_thread.submit(_warm_up, context, options, answer.result)
    with_one_thread.shutdown(wait=False)
    return answer.result


def _warm_up(context: Context, options: PlanOptions, located: Callable[[], Located]) -> None:
    """Get ready to ask the index while the machine is probed; where torch is there already it may do."""
    with contextlib.suppress(TorchInstallError):
        found = located()
        if found is not None and not found[0].target.installed:
            warm_up(live_options(context, options))


def live_options(context: Context, options: PlanOptions, index_base: str | None = None) -> LiveOptions:
    """How pages of an index are read; None: of the one that the options name."""
    return LiveOptions(
        index_base=index_base or index_base_of(options),
        channel=options.channel,
        cache_dir=context.cache_dir,
        env=context.env,
        offline=options.offline,
        refresh=options.refresh,
        allow_insecure=options.allow_insecure_host,
        now=context.now,
        working=context.working,
    )


def _search(context: Context, options: PlanOptions) -> Search:
    return Search(
        env=context.env, cwd=context.cwd, python=options.python, venv=options.venv, system=options.system
    )


def _locate(context: Context, options: PlanOptions, catalog: Catalog) -> tuple[PythonEnvironment, Uv]:
    uv = context.find_uv(context.env)
    family = {row.package for row in catalog.families}
    family |= {row.shown_by for row in catalog.tables.companion_builds if row.shown_by}
    return _search(context, options).locate(uv.path, family), uv


def _require_installable(
    place: PythonEnvironment, context: Context, options: PlanOptions, described: Machine | None
) -> None:
    """The environment may be changed, and a described machine is of its platform."""
    require_changeable(place, context.env, options.rest)
    target = place.target
    if described is not None and (described.os, described.arch) != (target.os, target.arch):
        raise UsageError(
            "machine-elsewhere",
            "what was planned for that machine cannot be installed on this one",
            wanted=f"a machine file for {OS_LABELS[target.os]} on {target.arch}",
            found=f"{OS_LABELS[described.os]} on {described.arch} ({options.source('machine')})",
            hints=("torchinstall plan --machine FILE plans for it",),
        )


def _target_to_plan(
    located: Callable[[], Located],
    context: Context,
    options: PlanOptions,
    machine: Machine,
    *,
    described: bool,
) -> tuple[Located, Target]:
    """The target of a plan: a Python that was described, else the environment that `auto` would take.

    A machine that was described is not this one. Its own libc decides, nothing is known to be installed on
    it, and where it has another platform only the Python version of the environment here counts.
    """
    try:
        there = located()
    except TorchInstallError as error:
        named = any(options.is_set(name) for name in ("python", "venv", "system"))
        if named or not (described or error.slug == "no-environment"):
            raise
        why = f"the Python that runs torchinstall, for want of another: {error.message}"
        return None, foreign_target(machine, context.python_version, why)
    if there is None:
        return None, foreign_target(machine, options.python_version or context.python_version)
    target = there[0].target
    if not described:
        return there, target
    if (machine.os, machine.arch) != (target.os, target.arch):
        why = f"the Python version of {target.prefix}, for the machine that was described"
        return None, foreign_target(machine, target.python_version, why)
    libc, os_version = machine.libc or target.libc, machine.os_version or target.os_version
    return there, structs.replace(target, libc=libc, os_version=os_version, installed=())
