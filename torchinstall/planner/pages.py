"""Which pages of the index are worth reading: only those of backends that this machine can run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import structs

from torchinstall.planner.builds import Build, version_key
from torchinstall.planner.companions import Missing, runtime_entry
from torchinstall.planner.requirements import of_url, wants
from torchinstall.planner.rules import HARDWARE_RULES, Case, judge_all
from torchinstall.planner.situation import situation

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torchinstall.catalog.catalog import Catalog
    from torchinstall.catalog.tables import PageKey
    from torchinstall.core.machine import Machine
    from torchinstall.core.request import Request
    from torchinstall.core.target import Target
    from torchinstall.planner.requirements import Wants
    from torchinstall.planner.rules import Judged
    from torchinstall.planner.situation import Situation

__all__ = ["wanted_pages"]


def wanted_pages(
    request: Request,
    machine: Machine,
    target: Target,
    catalog: Catalog,
    *,
    discovered: Iterable[str] = (),
) -> tuple[PageKey, ...]:
    """The (package, backend) pages whose content can change the plan.

    That is every living backend that this machine can run, and the one that the tables would choose; none
    on macOS (torch comes from the default index), and none when local folders serve everything.

    `discovered` names backends that the index lists and that no table knows.
    """
    if target.os == "macos" or catalog.index_down:
        return ()
    where = situation(request, machine, target, catalog)
    wanted = wants(request, target, catalog)
    if "torch" in wanted.direct and not (of_url("torch", wanted, catalog) and len(wanted.family) > 1):
        return ()
    judged = judge_all(where, wanted)
    accepted = [item for item in judged if item.objection is None]
    best = max(accepted, key=lambda item: (not item.overridden, item.case.key)) if accepted else None
    if best is not None and _all_local(best):
        return ()
    names = _backends(_stable(judged, where, wanted), best, where, wanted, discovered)
    packages = [name for name in wanted.family if (row := catalog.family(name)) is not None and row.routed]
    keys: list[PageKey] = []
    for name in names:
        info = catalog.backend(name)
        runtime = [
            row.package
            for row in catalog.families
            if info is not None and runtime_entry(row, info, request.channel) not in (None, name)
        ]
        keys += [(package, name) for package in dict.fromkeys([*packages, *runtime])]
    return tuple(keys)


def _stable(judged: tuple[Judged, ...], where: Situation, wanted: Wants) -> tuple[Judged, ...]:
    """The builds that say which backends this machine runs: the tables know those of the stable channel."""
    request = where.request
    if request.channel == "stable":
        return judged
    stable = structs.replace(where, request=structs.replace(request, channel="stable"))
    return (*judged, *judge_all(stable, wanted))


def _all_local(best: Judged) -> bool:
    picked = best.case.picks
    return not isinstance(picked, Missing) and all(
        pick.wheels is None or pick.wheels.origin == "find-links" for pick in picked
    )


def _backends(
    judged: tuple[Judged, ...],
    best: Judged | None,
    where: Situation,
    wanted: Wants,
    discovered: Iterable[str],
) -> tuple[str, ...]:
    request = where.request
    if request.backend != "auto":
        return (request.backend,)
    able = [item for item in judged if _runs(item.case)]
    living = [item.case.build.backend for item in able if item.case.build.backend.retired is None]
    names = dict.fromkeys(backend.name for backend in living)
    newest = max((item.case.build.torch for item in judged), key=version_key, default="0")
    for name in discovered:
        backend = where.catalog.backend(name)
        if (
            backend is not None
            and name not in names
            and _runs(Case(Build(newest, version_key(newest), backend, ()), where, wanted))
        ):
            names[name] = None
    if best is not None:
        names[best.case.build.backend.name] = None
    gpu = [name for name in names if (row := where.catalog.backend(name)) is not None and row.kind.vendor]
    return tuple(gpu or names)


def _runs(case: Case) -> bool:
    """Whether nothing about the hardware stands against a build."""
    return all(rule(case) is None for _, rule in HARDWARE_RULES)
