"""The one assembly of options into a plan and its command.

What a plan is then used for (printing, installing, exporting) is the verb's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from msgspec import structs

from torchinstall.catalog.catalog import Catalog
from torchinstall.core.machine import Machine
from torchinstall.core.plan import Plan
from torchinstall.core.request import canonical_name, requirement
from torchinstall.install.command import check_uv_args, command
from torchinstall.install.lock import EnvironmentLock
from torchinstall.planning.context import Context
from torchinstall.planning.inputs import Inputs, Purpose, collect_inputs
from torchinstall.planning.online import Online
from torchinstall.planning.options import PlanOptions


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
            if family is not None and (family.routed or family.index_first) and not family.runtime_of:
                found.append(name)
        return tuple(found)

    def command(self, env: Mapping[str, str], *, dry_run: bool = False, more: tuple[str, ...] = ()) -> Plan:
        """The plan with its command; without one where nothing is to do or the target is not here.

        Args:
            env: of the user.
            dry_run: uv only says what it would do.
            more: further arguments for uv.
        """
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
    failed: Sequence[tuple[str | None, str]] = (),
    also: Sequence[str] = (),
    lock: EnvironmentLock | None = None,
    early: Callable[[Prepared], None] | None = None,
) -> Prepared:
    """Make the plan; nothing on the machine is changed.

    Args:
        context: of the run.
        options: of the verb.
        detail: told what is read, for `-v`.
        purpose: to "install", the target must be here, and the index must answer if it is needed.
        machine: the machine to plan for, instead of the one that the options name.
        failed: builds (torch release, backend) that were tried and did not compute; None: every release.
        also: packages to plan beside those that were asked for.
        lock: makes the environment ours first, since it will be changed.
        early: is told what the tables alone come to, before the index is asked.

    Raises:
        TorchInstallError: anything but a plan that says "impossible"; that one is returned.
    """
    inputs = collect_inputs(context, options, detail=detail, purpose=purpose, machine=machine, lock=lock)
    if failed or also:
        wanted = (*inputs.request.requirements, *(requirement(name) for name in also))
        request = structs.replace(inputs.request, requirements=wanted, failed=tuple(failed))
        inputs = structs.replace(inputs, request=request)
    target = inputs.target
    detail(f"target: Python {target.python_version} {target.abi} on {target.platform}, {target.why}")

    def made(plan: Plan, catalog: Catalog, *, index_down: bool = False) -> Prepared:
        plan = structs.replace(plan, warnings=(*plan.warnings, *inputs.notes))
        return Prepared(**{**structs.asdict(inputs), "catalog": catalog}, plan=plan, index_down=index_down)

    def before(plan: Plan, catalog: Catalog) -> None:
        if early is not None and plan.status == "ready":
            early(made(plan, catalog))

    online = Online(inputs, options, context, must_reach=purpose == "install", detail=detail, before=before)
    plan, catalog, index_down = online.plan()
    prepared = made(plan, catalog, index_down=index_down)
    return structs.replace(prepared, plan=prepared.command(context.env, dry_run=options.dry_run))
