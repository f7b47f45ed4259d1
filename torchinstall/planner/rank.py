"""The one sort key of accepted builds: design, rules 3 and 6."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchinstall.core.versions import Dotted, at_least

if TYPE_CHECKING:
    from torchinstall.catalog.model import BackendInfo
    from torchinstall.core.machine import Gpu
    from torchinstall.planner.builds import Build
    from torchinstall.planner.coverage import Cover
    from torchinstall.planner.situation import Situation

__all__ = ["UNRANKED", "coverage_key", "power", "sort_key"]

UNRANKED = 50
"""The rank of a vendor without backends of its own."""


def sort_key(build: Build, covers: tuple[Cover, ...], situation: Situation) -> tuple[object, ...]:
    """Larger is better.

    In this order: the GPU that leads (discrete before integrated, then the vendors' rank), every discrete
    GPU of that vendor covered, the preferred or else most capable one covered, the newest torch; then for
    the same torch the highest toolkit that the driver speaks, else the lowest one above it.
    """
    return (*coverage_key(covers, situation), build.version, *_toolkit_key(build.backend, situation))


def coverage_key(covers: tuple[Cover, ...], situation: Situation) -> tuple[object, ...]:
    """The part of the key that says how well a build uses this machine's GPUs."""
    key = ("coverage", id(covers))
    if key not in situation.memo:
        # The tuple is kept beside its answer, so that its identity stays its own.
        situation.memo[key] = covers, _coverage_key(covers, situation)
    answer: tuple[object, ...] = situation.memo[key][1]
    return answer


def _coverage_key(covers: tuple[Cover, ...], situation: Situation) -> tuple[object, ...]:
    covered = [item.gpu for item in covers if item.covered]
    if not covered:
        return (False, False, -UNRANKED, False, False)
    lead = max(covered, key=lambda gpu: (gpu.integrated is not True, -_rank(gpu, situation)))
    vendor = tuple(gpu for gpu in situation.discrete if gpu.vendor == lead.vendor) or tuple(
        gpu for gpu in situation.gpus if gpu.vendor == lead.vendor
    )
    wanted = _preferred(vendor, situation)
    # By identity: the covers hold the situation's own GPUs, and equal ones need not be compared.
    ids = {id(gpu) for gpu in covered}
    return (
        True,
        lead.integrated is not True,
        -_rank(lead, situation),
        all(id(gpu) in ids for gpu in vendor),
        id(wanted) in ids,
    )


def _preferred(gpus: tuple[Gpu, ...], situation: Situation) -> Gpu:
    prefer = situation.request.prefer_gpu
    for gpu in gpus:
        if prefer is not None and gpu.index == prefer:
            return gpu
    return max(gpus, key=power)


def power(gpu: Gpu) -> tuple[object, ...]:
    """How capable a GPU is, for comparing those of one vendor; ties fall to its memory, then its place."""
    return (
        gpu.compute_capability or (0, 0),
        (len(gpu.gfx_target), gpu.gfx_target) if gpu.gfx_target else (0, ""),
        gpu.memory_bytes or 0,
        gpu.name or "",
        -(gpu.index or 0),
    )


def _rank(gpu: Gpu, situation: Situation) -> int:
    return situation.catalog.vendor_ranks.get(gpu.vendor, UNRANKED)


def _toolkit_key(backend: BackendInfo, situation: Situation) -> tuple[object, ...]:
    toolkit = backend.toolkit
    if toolkit is None:
        return (False, ())
    driver = situation.driver_of(backend)
    if situation.catalog.floor(backend) is None:
        # A toolkit that asks for no driver: the newest one.
        return (True, toolkit)
    if driver is not None and driver.cuda is not None and at_least(driver.cuda, toolkit):
        return (True, toolkit)
    return (False, _negative(toolkit))


def _negative(version: Dotted) -> Dotted:
    return tuple(-part for part in version)
