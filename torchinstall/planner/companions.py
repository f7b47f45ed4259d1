"""Packages that are built against torch (flash-attn, vllm …) choose a build of torch together.

A build of torch is right only if each of them has a line of ready files that accepts torch, backend, Python,
system and GPU, and if what these lines need of other packages can hold at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from msgspec import Struct, structs

from torchinstall.core.request import Requirement, requirement, specifiers
from torchinstall.planner.builds import Build, Pick, Rejection, can_hold, pick_packages
from torchinstall.planner.companion_lines import Choice, Wanted, choices_of, installed_lines, pick_of
from torchinstall.planner.situation import Situation

if TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet


Bounds = dict[str, "SpecifierSet"]
"""What companions need of other packages, by name."""


class Stack(Struct, frozen=True):
    """A build of torch with everything that was asked for beside it."""

    picks: tuple[Pick, ...]
    choices: tuple[Choice, ...] = ()


def wanted_companions(situation: Situation) -> tuple[Wanted, ...]:
    """Those that were asked for, then those that are installed and should go on working."""
    return situation.once("wanted-companions", lambda: tuple(_wanted(situation)))


def _wanted(situation: Situation) -> Iterator[Wanted]:
    catalog, request = situation.catalog, situation.request
    installed = {row.name: row.version for row in situation.target.installed}
    limits = situation.requirements.bounds
    named: dict[str, list[Requirement]] = {}
    for asked in situation.requirements.others:
        named.setdefault(asked.package, []).append(asked)
    for name, rows in named.items():
        if rows[0].url is None and catalog.companion_builds(name):
            bounds = (*(row.specifier for row in rows), str(limits.get(name, "")))
            kept = None if request.upgrade else installed.get(name)
            extras = tuple(extra for row in rows for extra in row.extras)
            yield Wanted(name, specifiers(",".join(filter(None, bounds))), extras, kept)
    for name, version in installed.items() if situation.keep_installed else ():
        family = catalog.family(name)
        own = name not in named and family is not None and family.own_cuda
        lines = installed_lines(name, version, situation) if own else ()
        if lines:
            extras = tuple(row.extra for row in lines if row.extra)
            yield Wanted(name, specifiers(""), extras, version, asked=False)


def find_stack(build: Build, situation: Situation, names: frozenset[str] | None = None) -> Stack | Rejection:
    """Everything for a build of torch whose wheel fits, or the companion that does not go with it.

    `names`: only these companions count; None: all.
    """
    wanted = tuple(item for item in wanted_companions(situation) if names is None or item.name in names)

    def search() -> Stack | Rejection:
        search = _Search(build, situation)
        return search.run(wanted, (), {}) or search.blocked

    return situation.once(("stack", build.name, *(item.name for item in wanted)), search)


def unfit_companions(build: Build, situation: Situation) -> tuple[Wanted, ...]:
    """Installed companions, none that was asked for, that do not go with a build."""
    rows = (item for item in wanted_companions(situation) if not item.asked)
    return tuple(
        item for item in rows if isinstance(find_stack(build, situation, frozenset({item.name})), Rejection)
    )


def shares_only_cuda(item: Wanted, build: Build, situation: Situation) -> bool:
    """Whether an installed companion does not go with a build for its CUDA alone, which the CPU has not."""
    found = find_stack(build, situation, frozenset({item.name}))
    bound = any(row.torch for row in installed_lines(item.name, item.kept or "", situation))
    return isinstance(found, Rejection) and found.kind == "backend" and not (bound and build.backend.toolkit)


class _Search:
    """Takes the newest version of each companion with which all the others still have one."""

    def __init__(self, build: Build, situation: Situation) -> None:
        self.build = build
        self.situation = situation
        self.blocked = Rejection("companion-missing", "", "", depth=-1000)

    def run(self, todo: tuple[Wanted, ...], done: tuple[Choice, ...], needs: Bounds) -> Stack | None:
        """The first set that holds: of choices that are made, with what these need, and of what is to do."""
        if not todo:
            return self._with_family(done, needs)
        wanted, rest = todo[0], todo[1:]
        if wanted.name in needs:
            wanted = structs.replace(wanted, bounds=wanted.bounds & needs[wanted.name])
        choices = choices_of(wanted, self.build, self.situation)
        if isinstance(choices, Rejection):
            self.blocked = max(self.blocked, choices, key=lambda row: row.depth)
            return None
        catalog = self.situation.catalog
        taken = {choice.name for choice in done} | {item.name for item in todo}
        for choice in choices:
            merged = self._needs_of(choice, done, needs)
            more = tuple(
                Wanted(name, bounds)
                for name, bounds in (merged or {}).items()
                if name not in taken and catalog.companion_builds(name)
                if (family := catalog.family(name)) is None or family.own_cuda
            )
            if merged is not None and (found := self.run((*rest, *more), (*done, choice), merged)):
                return found
        return None

    def _needs_of(self, choice: Choice, done: tuple[Choice, ...], needs: Bounds) -> Bounds | None:
        """`needs` with those of a choice; None where they contradict what was chosen before."""
        merged = dict(needs)
        for need in map(requirement, choice.line.needs):
            before = merged.get(need.package, specifiers(""))
            bounds = merged[need.package] = before & need.bounds
            chosen = next((item.version for item in done if item.name == need.package), "")
            other = str(before) if before and not can_hold(bounds) else ""
            if not other and chosen and not bounds.contains(chosen):
                other = f"=={chosen}"
            if other:
                wanted = f"{need.name}{need.specifier} ({choice.name} {choice.version} needs it)"
                # A contradiction is said before what only one of these builds lacks.
                self._missing(choice.name, wanted, f"{need.name}{other}, which another package needs", 101)
                return None
        return merged

    def _with_family(self, done: tuple[Choice, ...], needs: Bounds) -> Stack | None:
        """The packages of torch's own family, within what the companions need of them."""
        situation, requirements = self.situation, self.situation.requirements
        own = next((choice for choice in done if choice.line.brings), None)
        if own is not None:
            # Everything comes from the place of a companion that brings its own torch.
            index = pick_of(own, self.build, situation).index
            mine = Pick("torch", None, routed=True, index=index)
            brought = (structs.replace(mine, package=name, asked=name == "torch") for name in own.line.brings)
            return Stack((*brought, *self._picks(done)), done)
        bounds, family = dict(requirements.bounds), dict.fromkeys(requirements.family)
        for name, needed in needs.items():
            row = situation.catalog.family(name)
            if row is None or row.own_cuda or not (row.routed or name in family):
                continue  # uv finds it where everything else comes from
            family[name] = None
            bounds[name] = bounds.get(name, needed) & needed
        while True:
            wider = structs.replace(requirements, family=tuple(family), bounds=bounds)
            picks = pick_packages(self.build, structs.replace(situation, requirements=wider))
            if not isinstance(picks, Rejection):
                return Stack((*picks, *self._picks(done)), done)
            # A package of the family that its own index does not have may have files elsewhere.
            other = Wanted(picks.package, bounds.get(picks.package, specifiers("")))
            choices = choices_of(other, self.build, situation) if picks.package in needs else ()
            if not choices or isinstance(choices, Rejection):
                self._family_missing(picks, needs, done)
                return None
            del family[picks.package]
            done = (*done, choices[0])

    def _picks(self, done: tuple[Choice, ...]) -> Iterator[Pick]:
        return (pick_of(choice, self.build, self.situation) for choice in done)

    def _family_missing(self, missing: Rejection, needs: Bounds, done: tuple[Choice, ...]) -> None:
        name = missing.package
        needed = {choice.name: {requirement(text).package for text in choice.line.needs} for choice in done}
        who = [asking for asking, packages in needed.items() if name in packages]
        if who:
            wanted = f"{name}{needs.get(name, '')} for torch {self.build.name}"
            self._missing(who[0], wanted, f"{missing.found} ({', '.join(who)} needs it)")
        else:
            self._missing(name, missing.wanted, missing.found)

    def _missing(self, name: str, wanted: str, found: str, depth: int = 100) -> None:
        blocked = Rejection("companion-missing", wanted, found, name, depth)
        self.blocked = max(self.blocked, blocked, key=lambda row: row.depth)
