"""Packages that are built against torch (flash-attn, vllm …) choose a build of torch together.

A build of torch is right only if each of them has a line of ready files that accepts torch, backend, Python,
system and GPU, and if what these lines need of other packages can hold at once.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct, structs

from torchinstall.core.request import Requirement, canonical_name, requirement
from torchinstall.planner.builds import Build, Missing, Pick, pick_packages
from torchinstall.planner.companion_lines import Blocked, Choice, Wanted, choices_of, pick_of, specifiers
from torchinstall.planner.situation import Situation


class Stack(Struct, frozen=True):
    """A build of torch with everything that was asked for beside it."""

    picks: tuple[Pick, ...]
    choices: tuple[Choice, ...] = ()


def wanted_companions(situation: Situation) -> tuple[Wanted, ...]:
    """Those that were asked for, then those that are installed and should go on working."""
    key = ("wanted-companions",)
    if key not in situation.memo:
        situation.memo[key] = tuple(_wanted(situation))
    found: tuple[Wanted, ...] = situation.memo[key]
    return found


def _wanted(situation: Situation) -> Iterator[Wanted]:
    catalog, request = situation.catalog, situation.request
    installed = {row.name: row.version for row in situation.target.installed}
    bounds = {canonical_name(row.name): row.specifier for row in request.constraints}
    named = set()
    for asked in situation.requirements.others:
        name = canonical_name(asked.name)
        named.add(name)
        if asked.url is None and name not in named - {name} and catalog.companion_builds(name):
            text = ",".join(filter(None, (asked.specifier, bounds.get(name))))
            kept = None if request.upgrade else installed.get(name)
            yield Wanted(name, specifiers(text), asked.extras, kept)
    for name, version in installed.items() if situation.keep_installed else ():
        family = catalog.family(name)
        if name not in named and family is not None and family.own_cuda and catalog.companion_builds(name):
            yield Wanted(name, specifiers(""), (), version, asked=False)


def find_stack(build: Build, situation: Situation, names: frozenset[str] | None = None) -> Stack | Blocked:
    """Everything for a build of torch whose wheel fits, or the companion that does not go with it.

    Args:
        build: of torch.
        situation: what was asked for, and for what.
        names: only these companions count; None: all.
    """
    everything = wanted_companions(situation)
    wanted = tuple(item for item in everything if names is None or item.name in names)
    key = ("stack", build.name, tuple(item.name for item in wanted))
    if key not in situation.memo:
        search = _Search(build, situation)
        found = search.run(wanted, (), {})
        situation.memo[key] = search.blocked if found is None else found
    answer: Stack | Blocked = situation.memo[key]
    return answer


class _Search:
    """Takes the newest version of each companion with which all the others still have one."""

    def __init__(self, build: Build, situation: Situation) -> None:
        self.build = build
        self.situation = situation
        self.blocked = Blocked("", "companion-missing", "", "", -1000)

    def run(self, todo: tuple[Wanted, ...], done: tuple[Choice, ...], needs: dict[str, str]) -> Stack | None:
        """The first set that holds.

        Args:
            todo: companions without a choice so far.
            done: choices so far.
            needs: what these need of other packages: name -> bounds.
        """
        if not todo:
            return self._with_family(done, needs)
        wanted, rest = todo[0], todo[1:]
        if wanted.name in needs:
            both = wanted.bounds & specifiers(needs[wanted.name])
            wanted = structs.replace(wanted, bounds=both)
        choices = choices_of(wanted, self.build, self.situation)
        if isinstance(choices, Blocked):
            self._note(choices)
            return None
        for choice in choices:
            merged = self._needs_of(choice, done, needs)
            if merged is None:
                continue
            more = [
                Wanted(name, specifiers(merged[name])) for name in merged if self._is_new(name, done, todo)
            ]
            if found := self.run((*rest, *more), (*done, choice), merged):
                return found
        return None

    def _is_new(self, name: str, done: tuple[Choice, ...], todo: tuple[Wanted, ...]) -> bool:
        """Whether a package that something needs is a companion that nobody asked for."""
        taken = {choice.name for choice in done} | {item.name for item in todo}
        family = self.situation.catalog.family(name)
        theirs = family is None or family.own_cuda
        return theirs and name not in taken and bool(self.situation.catalog.companion_builds(name))

    def _needs_of(
        self, choice: Choice, done: tuple[Choice, ...], needs: dict[str, str]
    ) -> dict[str, str] | None:
        """`needs` with those of a choice; None where they contradict what was chosen before."""
        merged = dict(needs)
        for need in map(requirement, choice.line.needs):
            name = canonical_name(need.name)
            before = merged.get(name, "")
            if before and _excludes(before, need.specifier):
                self._clash(choice, need, before)
                return None
            merged[name] = f"{before},{need.specifier}".strip(",")
            chosen = next((item for item in done if item.name == name and item.version), None)
            if chosen is not None and not specifiers(merged[name]).contains(chosen.version):
                self._clash(choice, need, f"=={chosen.version}")
                return None
        return merged

    def _clash(self, choice: Choice, need: Requirement, other: str) -> None:
        wanted = f"{need.name}{need.specifier} ({choice.name} {choice.version} needs it)"
        found = f"{need.name}{other}, which another package needs"
        self._note(Blocked(choice.name, "companion-missing", wanted, found, 100))

    def _with_family(self, done: tuple[Choice, ...], needs: dict[str, str]) -> Stack | None:
        """The packages of torch's own family, within what the companions need of them."""
        situation, requirements = self.situation, self.situation.requirements
        own_stack = next((choice for choice in done if choice.line.brings), None)
        if own_stack is not None:
            return self._own_stack(own_stack, done)
        bounds, family, done = dict(requirements.bounds), dict.fromkeys(requirements.family), (*done,)
        for name, text in needs.items():
            row = situation.catalog.family(name)
            if row is None or row.own_cuda or not (row.routed or name in family):
                continue  # uv finds it where everything else comes from
            family[name] = None
            before = bounds.get(name)
            bounds[name] = specifiers(text) if before is None else before & specifiers(text)
        while True:
            wider = structs.replace(requirements, family=tuple(family), bounds=bounds)
            picks, missing = pick_packages(self.build, structs.replace(situation, requirements=wider))
            if missing is None:
                return Stack((*picks, *(pick_of(choice, self.build, situation) for choice in done)), done)
            # A package of the family that its own index does not have may have files elsewhere.
            other = Wanted(missing.package, bounds.get(missing.package, specifiers("")))
            choices = choices_of(other, self.build, situation) if missing.package in needs else ()
            if not choices or isinstance(choices, Blocked):
                self._family_missing(missing, needs, done)
                return None
            del family[missing.package]
            done = (*done, choices[0])

    def _family_missing(self, missing: Missing, needs: dict[str, str], done: tuple[Choice, ...]) -> None:
        name = missing.package
        who = [
            choice.name
            for choice in done
            if any(canonical_name(need.name) == name for need in map(requirement, choice.line.needs))
        ]
        wanted = f"{name}{needs.get(name, '')} for torch {self.build.name}" if who else missing.wanted
        found = f"{missing.found} ({', '.join(who)} needs it)" if who else missing.found
        self._note(Blocked(who[0] if who else name, "companion-missing", wanted, found, 100))

    def _own_stack(self, chosen: Choice, done: tuple[Choice, ...]) -> Stack:
        """Everything from the place of a companion that brings its own torch."""
        own = pick_of(chosen, self.build, self.situation)
        brought = tuple(
            Pick(name, None, asked=name == "torch", routed=True, index=own.index)
            for name in chosen.line.brings
        )
        picks = (pick_of(choice, self.build, self.situation) for choice in done)
        return Stack((*brought, *picks), done)

    def _note(self, blocked: Blocked) -> None:
        if blocked.depth > self.blocked.depth:
            self.blocked = blocked


def _excludes(one: str, other: str) -> bool:
    """Whether two bounds contradict each other, as far as an exact version among them says."""
    return any(
        item.operator == "==" and "*" not in item.version and not specifiers(against).contains(item.version)
        for text, against in ((one, other), (other, one))
        for item in specifiers(text)
    )
