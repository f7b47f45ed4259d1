"""Every build with the rule that objects to it."""

from __future__ import annotations

import dataclasses
import operator
from typing import TYPE_CHECKING

from torchinstall.planner.builds import builds
from torchinstall.planner.rules import Case, Objection, judge
from torchinstall.planner.wants import of_url
from torchinstall.values import dataclass

if TYPE_CHECKING:
    from torchinstall.planner.situation import Situation
    from torchinstall.planner.wants import Wants

__all__ = ["Judged", "is_obeyed", "judge_all"]

_LAST = ("judged",)


@dataclass(frozen=True, slots=True)
class Judged:
    """A build after the rules: accepted when `objection` is None."""

    case: Case
    objection: Objection | None
    overridden: tuple[Objection, ...]


def judge_all(where: Situation, wanted: Wants) -> tuple[Judged, ...]:
    """Every build for the platform, newest first, with the rule that objects to it.

    The last answer is kept: what to read of an index and what to choose are asked in turn.
    """
    question = (where.request, where.machine, where.target)
    asked, answer = where.catalog.scratch.get(_LAST, ((), ()))
    if len(asked) == len(question) and all(map(operator.is_, asked, question)):
        kept: tuple[Judged, ...] = answer
        return kept
    judged = _judged(where, wanted)
    where.catalog.scratch[_LAST] = question, judged
    return judged


def _judged(where: Situation, wanted: Wants) -> tuple[Judged, ...]:
    obey = is_obeyed(where, wanted)
    named = of_url("torch", wanted, where.catalog)
    found = []
    for build in builds(where.catalog, where.target, where.request.channel):
        if named and (build.torch, build.backend.name) != (named[0].version, named[0].backend):
            continue
        case = Case(dataclasses.replace(build, wheels=named) if named else build, where, wanted)
        found.append(Judged(case, *judge(case, obey=obey)))
    return tuple(found)


def is_obeyed(where: Situation, wanted: Wants) -> bool:
    """Whether the build was named, by its backend or by its file, so that hardware rules only warn."""
    return where.request.backend != "auto" or bool(of_url("torch", wanted, where.catalog))
