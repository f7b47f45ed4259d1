"""Judge a refusal: nothing exists, or the pins rule the GPU out, or a GPU was required, or cannot be read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING

from packaging.version import Version

from tests.simulation.case import Case
from tests.simulation.facts import PROVEN, facts, numbers
from tests.simulation.options import Option, best_device, options, used

if TYPE_CHECKING:
    from torchinstall.core.errors import TorchInstallError
    from torchinstall.core.plan import Plan


def must_refuse(case: Case) -> str | None:
    """Why no plan may be made for a case, None where one may."""
    if case.backend != "auto":
        return None
    if case.system.rosetta:
        return "an x86-64 Python on Apple Silicon"
    if (case.unreadable or _without_driver(case)) and not case.allow_cpu:
        return "hardware is there and cannot be read"
    return None


def refusal(case: Case, plan: Plan) -> Iterator[tuple[str, str]]:
    """What is wrong with a plan that is impossible."""
    error = plan.error
    if error is None:
        yield "shape", "impossible without an error"
        return
    if not error.message or not (error.hints or error.found or error.wanted):
        yield "refusal text", f"{error.slug} says neither wanted, found nor what to type"
    if case.backend != "auto":
        existing = [
            option for option in options(case) if option.backend == case.backend and option.trust == PROVEN
        ]
        if error.exit_code != 3 or existing:
            yield "refusal", f"{error.slug} ({error.exit_code}), but {existing[:1]} exists"
    elif case.unreadable or _without_driver(case):
        if error.exit_code != 4 or case.allow_cpu:
            yield "refusal", f"hardware cannot be read: exit 4 unless --allow-cpu, found {error.exit_code}"
    elif error.exit_code == 4:
        yield from _required(case, error)
    elif error.exit_code != 3:
        yield "refusal", f"exit code {error.exit_code} for {error.slug}"
    elif not case.system.rosetta:
        yield from _impossible(case, error)


def _required(case: Case, error: TorchInstallError) -> Iterator[tuple[str, str]]:
    if not case.require_gpu:
        yield "refusal", f"{error.slug} (4), but nobody asked for a GPU"
    elif best_device(case, options(case)) is not None:
        yield "refusal", f"{error.slug} (4), but a GPU build runs"


def _impossible(case: Case, error: TorchInstallError) -> Iterator[tuple[str, str]]:
    free, bound = options(case, pins=False), options(case)
    sure = [option for option in bound if option.trust == PROVEN]
    best, wider = best_device(case, bound), best_device(case, free)
    if not sure or (best is None and wider is None and _may_run(case, free)):
        return  # the facts do not say whether that GPU is served: refusing and going on are both right
    if best is not None:
        option = next(option for option in sure if used(option, case)[best][0] == PROVEN)
        yield "refusal", f"{error.slug}: {option.torch}+{option.backend} satisfies everything and runs"
    elif case.allow_cpu or (wider is None and not _lost_to_packages(case)):
        yield "refusal", f"{error.slug}: {sure[0].torch}+{sure[0].backend} satisfies everything"
    elif wider is not None:
        yield from _names_the_way_out(case, error, free, wider)


def _without_driver(case: Case) -> bool:
    """Whether there is an NVIDIA GPU and no driver for it (a Jetson's is part of its system).

    No driver helps a GPU that is older than the code of every release.
    """
    seen = any(part.vendor == "nvidia" and numbers(part.code) >= _oldest_code() for part in case.parts)
    return seen and not (case.driver or case.cuda or case.declared or case.l4t)


@cache
def _oldest_code() -> tuple[int, ...]:
    rows = (row for (_, _, backend), row in facts().code.items() if backend.startswith("cu"))
    return min(numbers(code) for row in rows for code in row.native)


def _may_run(case: Case, choices: tuple[Option, ...]) -> bool:
    return any(trust for option in choices for trust, _ in used(option, case))


def _lost_to_packages(case: Case) -> bool:
    """Whether torch alone would use the GPU, and only the packages beside it rule that out."""
    return best_device(case, options(case, pins=False, packages=False)) is not None


def _names_the_way_out(
    case: Case, error: TorchInstallError, free: tuple[Option, ...], best: int
) -> Iterator[tuple[str, str]]:
    """The pins rule every GPU build out: the newest torch that works is named."""
    newest = max(
        option.version for option in free if option.trust == PROVEN and used(option, case)[best][0] == PROVEN
    )
    text = " ".join(filter(None, (error.message, *error.hints, error.wanted, error.found)))
    named = [Version(word) for word in re.findall(r"\d+\.\d+\.\d+", text)]
    if not any(version >= newest for version in named):
        yield "way out", f"the newest torch that works is {newest}; the refusal says: {text[:200]}"
