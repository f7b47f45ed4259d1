"""Plan for several machines at once: one build that serves all of them, or the fewest that do."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

from msgspec import Struct, structs
from packaging.version import Version

from torchinstall.planner.selection import acceptable_builds, plan

if TYPE_CHECKING:
    from datetime import date

    from torchinstall.catalog.catalog import Catalog
    from torchinstall.core.machine import Machine
    from torchinstall.core.plan import Plan
    from torchinstall.core.request import Request
    from torchinstall.core.target import Target

__all__ = ["Fleet", "Group", "Member", "plan_fleet"]

_EXACT_LIMIT = 12
"""Up to this many different answers the smallest set is searched for; above it the greedy one is taken."""

BuildKey = tuple[str, str]
"""(torch release, backend): what machines of different platforms can share."""


class Member(Struct, frozen=True):
    """A machine of the fleet, by the name that the user gave it."""

    name: str
    machine: Machine
    target: Target


class Group(Struct, frozen=True):
    """Machines that one build serves, each with its own plan for it."""

    torch: str
    backend: str
    plans: tuple[tuple[str, Plan], ...]


class Fleet(Struct, frozen=True):
    """The smallest set of builds, and the machines that no build serves (their plans carry the error)."""

    groups: tuple[Group, ...]
    impossible: tuple[tuple[str, Plan], ...]


def plan_fleet(
    request: Request, members: tuple[Member, ...], catalog: Catalog, *, today: date | None = None
) -> Fleet:
    """Choose builds for all machines; none gets one that uses its GPUs worse than its own best would."""
    serves: dict[BuildKey, set[str]] = {}
    impossible: list[tuple[str, Plan]] = []
    for member in members:
        keys = acceptable_builds(request, member.machine, member.target, catalog)
        if not keys:
            alone = plan(request, member.machine, member.target, catalog, today=today)
            impossible.append((member.name, alone))
        for key in keys:
            serves.setdefault(key, set()).add(member.name)
    names = {member.name for member in members} - {name for name, _ in impossible}
    groups = []
    left = set(names)
    for key in _smallest(serves, names):
        mine = serves[key] & left
        left -= mine
        plans = tuple(
            (member.name, _pinned(request, member, key, catalog, today))
            for member in members
            if member.name in mine
        )
        groups.append(Group(key[0], key[1], plans))
    return Fleet(tuple(groups), tuple(impossible))


def _pinned(request: Request, member: Member, key: BuildKey, catalog: Catalog, today: date | None) -> Plan:
    return plan(structs.replace(request, only=key), member.machine, member.target, catalog, today=today)


def _smallest(serves: dict[BuildKey, set[str]], names: set[str]) -> tuple[BuildKey, ...]:
    """The fewest builds that serve all machines; among equals the newest torch, then the most machines."""
    if not names:
        return ()
    # Builds that serve the same machines stand for each other: only the best of them is looked at.
    best: dict[frozenset[str], BuildKey] = {}
    for key, served in serves.items():
        group = frozenset(served)
        if group not in best or _rank(key) > _rank(best[group]):
            best[group] = key
    keys = sorted(best.values(), key=lambda key: (len(serves[key]), _rank(key)), reverse=True)
    if len(keys) <= _EXACT_LIMIT * 2:
        for size in range(1, min(len(names), _EXACT_LIMIT) + 1):
            full = [
                chosen
                for chosen in combinations(keys, size)
                if names <= set[str]().union(*(serves[key] for key in chosen))
            ]
            if full:
                return max(full, key=lambda chosen: sorted(map(_rank, chosen)))
    return _greedy(keys, serves, names)


def _greedy(keys: list[BuildKey], serves: dict[BuildKey, set[str]], names: set[str]) -> tuple[BuildKey, ...]:
    chosen: list[BuildKey] = []
    left = set(names)
    while left:
        key = max(keys, key=lambda item: (len(serves[item] & left), _rank(item)))
        chosen.append(key)
        left -= serves[key]
    return tuple(chosen)


def _rank(key: BuildKey) -> tuple[Version, int, str]:
    return Version(key[0]), len(key[1]), key[1]
