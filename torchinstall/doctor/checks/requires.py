"""Requirements of installed packages: which hold, and which do not."""

from __future__ import annotations

import re
from collections.abc import Iterator

from packaging.markers import UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from torchinstall.doctor.model import Dist, Environment

__all__ = ["asked_by_torch", "required_names", "unmet"]


def required_names(seen: Environment) -> frozenset[str]:
    """Every package that something installed asks for, markers and extras apart."""
    return frozenset(
        canonicalize_name(match[0])
        for dist in seen.inventory.dists
        for line in dist.requires
        if (match := re.match(r"[A-Za-z0-9][\w.-]*", line))
    )


def asked_by_torch(seen: Environment, dist: Dist) -> bool:
    """Whether a package is torch itself or belongs to its family."""
    family = seen.catalog.family(dist.name)
    return family is not None and not family.own_cuda


def unmet(seen: Environment) -> Iterator[tuple[Dist, Requirement, str | None]]:
    """Requirements that do not hold, of torch's family and of whatever asks for torch.

    Yields who asks, for what, and the version that is there (None: nothing).

    Requirements of extras are left out: nobody knows whether the extra was asked for.
    """
    versions = {dist.name: dist.version for dist in seen.inventory.dists}
    for dist in seen.inventory.dists:
        family = asked_by_torch(seen, dist)
        for line in dist.requires:
            requirement = _parsed(line, seen)
            if requirement is None:
                continue
            name = canonicalize_name(requirement.name)
            if not family and name != "torch":
                continue
            have = versions.get(name)
            if have is None or not requirement.specifier.contains(have, prereleases=True):
                yield dist, requirement, have


def _parsed(line: str, seen: Environment) -> Requirement | None:
    """The requirement, where it parses and holds here."""
    try:
        requirement = Requirement(line)
        here = {**seen.inventory.markers, "extra": ""}
        holds = requirement.marker is None or requirement.marker.evaluate(here)
    except (InvalidRequirement, UndefinedEnvironmentName):
        return None
    return requirement if holds else None
