"""Why there is no plan: the errors of design rules 4 and 5, and the reasons for each GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchinstall.core.errors import GpuUnavailableError, NoCompatibleBuildError, TorchInstallError
from torchinstall.planner.rank import UNRANKED, coverage_key
from torchinstall.planner.rules import ASKED_RULES, RULES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torchinstall.core.machine import Gpu
    from torchinstall.core.target import Target
    from torchinstall.planner.rules import Case, Judged
    from torchinstall.planner.situation import Situation

__all__ = ["gpu_reasons", "no_build", "pins_cost_the_gpu", "required_gpu", "unreadable"]

_DEPTH = {slug: depth for depth, (slug, _) in enumerate(RULES)}
_ASKED = {slug for slug, _ in ASKED_RULES}
_SYSTEM_HINTS = {
    "musl": "use an image with glibc (debian, ubuntu, fedora); PyTorch publishes nothing for musl",
    "rosetta": "install an arm64 Python and make a new environment with it: "
    "uv venv --python cpython-{python}-macos-aarch64-none",
    "glibc-too-old": "use a newer distribution, or an older Python, for which older releases were published",
    "macos-too-old": "update macOS, or use an older Python, for which older releases were published",
}


def unreadable(best: Case, where: Situation) -> TorchInstallError | None:
    """Hardware that is there and cannot be read stops the plan, unless a better GPU can be used anyway."""
    ranks = where.catalog.vendor_ranks
    vendor = best.build.backend.kind.vendor
    used = ranks.get(vendor, UNRANKED) if vendor and coverage_key(best.covers, where)[0] else UNRANKED
    for finding in where.unreadable:
        if ranks.get(finding.probe, UNRANKED) < used:
            hints = [finding.hint] if finding.hint else []
            hints.append("or name the build yourself: --backend cu126, or --allow-cpu for the CPU build")
            return GpuUnavailableError(
                finding.slug or "gpu-unreadable",
                finding.detail,
                wanted="hardware that can be read, or a flag that says what to do without it",
                found=f"{finding.status} ({finding.source or finding.probe})",
                hints=tuple(hints),
            )
    return None


def pins_cost_the_gpu(judged: Iterable[Judged]) -> TorchInstallError | None:
    """A published torch could use the GPU, and only what the user asked for rules it out."""
    lost = [
        item
        for item in judged
        if item.objection is not None
        and item.objection.rule in _ASKED
        and any(cover.covered for cover in item.case.covers)
    ]
    if not lost:
        return None
    newest = max(lost, key=lambda item: item.case.build.version)
    lowest = min(lost, key=lambda item: item.case.build.version)
    build, objection = newest.case.build, newest.objection
    gpus = ", ".join(cover.gpu.label for cover in newest.case.covers if cover.covered)
    span = (
        build.torch
        if lowest.case.build.torch == build.torch
        else f"{lowest.case.build.torch} to {build.torch}"
    )
    return NoCompatibleBuildError(
        "pins-exclude-gpu",
        f"what was asked for leaves no build that can use {gpus}; torch {span} could",
        wanted=objection.wanted if objection else None,
        found=objection.found if objection else None,
        hints=(
            (
                f"ask for torch=={build.torch}, the newest that works ({build.backend.name}); "
                f"the oldest is torch=={lowest.case.build.torch}"
            ),
            "or accept the CPU build: --allow-cpu",
        ),
    )


def required_gpu(judged: Iterable[Judged], where: Situation) -> TorchInstallError:
    """`--require-gpu`, and no GPU build can run."""
    if not where.gpus:
        return GpuUnavailableError(
            "gpu-required",
            "a GPU is required, and none was found",
            wanted="a GPU that torch can use (--require-gpu)",
            found="no GPU",
            hints=("say which GPU it is for: --target-gpu sm_90 --target-driver 580",),
        )
    reasons = gpu_reasons(judged, where)
    return GpuUnavailableError(
        "gpu-required",
        "a GPU is required, and no build can use the GPU that is here",
        wanted="a build that runs on it (--require-gpu)",
        found="; ".join(f"{gpu.label}: {reason}" for gpu, reason in reasons.items()),
        hints=("see why: torchinstall plan --allow-cpu",),
    )


def no_build(judged: tuple[Judged, ...], where: Situation) -> TorchInstallError:
    """Every candidate was rejected: the rule that the furthest ones met is named."""
    target = where.target
    if not judged and where.request.channel != "stable":
        return NoCompatibleBuildError(
            "channel-not-read",
            f"nothing is known of the {where.request.channel} channel: its index was not read, or it "
            f"has nothing for {target.platform}",
            wanted=f"pages of the {where.request.channel} index",
            found="the shipped tables, which hold the stable channel",
            hints=("leave --offline out, and check --index-base",),
        )
    if not judged:
        return NoCompatibleBuildError(
            "platform-not-published",
            f"PyTorch publishes nothing for {target.platform} on the {where.request.channel} channel",
            wanted="a platform with builds: Linux and Windows on x86-64 or aarch64, macOS",
            found=target.platform,
            hints=("torchinstall plan --target-gpu … --machine FILE plans for another machine",),
        )
    if where.request.backend != "auto" and all(_not_asked(item) for item in judged):
        return _unknown_backend(judged, where)
    furthest = max(judged, key=lambda item: (_depth(item), item.case.build.order))
    objection = furthest.objection
    if objection is None:  # somebody was accepted; then this is not called
        raise AssertionError(furthest)
    build = furthest.case.build
    return NoCompatibleBuildError(
        objection.rule,
        f"no build of torch fits; the closest is {build.torch}+{build.backend.name}",
        wanted=objection.wanted,
        found=objection.found,
        hints=(_system_hint(objection.rule, target) or _way_on(furthest, judged),),
    )


def _system_hint(rule: str, target: Target) -> str | None:
    hint = _SYSTEM_HINTS.get(rule)
    return hint and hint.format(python=".".join(target.python_version.split(".")[:2]))


def _not_asked(item: Judged) -> bool:
    return item.objection is not None and item.objection.rule == "backend-not-asked"


def _unknown_backend(judged: tuple[Judged, ...], where: Situation) -> TorchInstallError:
    """The backend that was named has no build for this platform: those of its kind that have are named."""
    wanted = where.catalog.backend(where.request.backend)
    names = dict.fromkeys(
        item.case.build.backend.name
        for item in judged
        if wanted is None or item.case.build.backend.kind.kind == wanted.kind.kind
    )
    known = ", ".join(names) or ", ".join(dict.fromkeys(item.case.build.backend.name for item in judged))
    return NoCompatibleBuildError(
        "backend-not-published",
        f"no build of {where.request.backend} is known for {where.target.platform}",
        wanted=f"a build of {where.request.backend} (--backend)",
        found=known,
        hints=("leave --backend out to have one chosen, or name one of those found",),
    )


def _way_on(furthest: Judged, judged: tuple[Judged, ...]) -> str:
    rule = furthest.objection.rule if furthest.objection else ""
    if rule == "python-not-published":
        abis = sorted(
            {
                tag.split("-")[1]
                for row in furthest.case.build.wheels
                for tag in row.tags
                if tag.split("-")[1].startswith("cp")
            },
            key=lambda abi: (len(abi), abi),
        )
        python = next((abi for abi in reversed(abis) if not abi.endswith("t")), abis[-1] if abis else "cp312")
        return f"make an environment with another Python: uv venv --python 3.{python.removeprefix('cp3')}"
    if rule in _ASKED:
        free = next((item for item in judged if item.objection and item.objection.rule in _ASKED), furthest)
        return f"loosen the version that you asked for; torch=={free.case.build.torch} would fit"
    return "torchinstall plan shows every build and what stands against it"


def _depth(item: Judged) -> int:
    rule = item.objection.rule if item.objection else ""
    return _DEPTH.get(rule, _DEPTH["system-too-old"] if rule in _SYSTEM_HINTS else _DEPTH["no-code-for-gpu"])


def gpu_reasons(judged: Iterable[Judged], where: Situation) -> dict[Gpu, str]:
    """For each GPU that no build can use: the objection that came last, in one clause."""
    reasons: dict[Gpu, str] = {}
    items = tuple(judged)
    for gpu in where.gpus:
        own = [item for item in items if item.case.build.backend.kind.vendor == gpu.vendor]
        able = [
            item
            for item in own
            if any(cover.gpu == gpu and cover.covered for cover in item.case.covers)
            and (item.objection is None or item.objection.rule in _ASKED)
        ]
        if able:
            continue
        if not own:
            reasons[gpu] = f"PyTorch publishes nothing for it on {where.target.platform}"
            continue
        closest = max(own, key=lambda item: (_depth(item), item.case.build.version))
        objection = closest.objection
        if objection is None or objection.rule == "no-code-for-gpu":
            cover = next((cover for cover in closest.case.covers if cover.gpu == gpu), None)
            reasons[gpu] = cover.by if cover is not None and not cover.covered else "another GPU won"
        else:
            reasons[gpu] = f"needs {objection.wanted}, found {objection.found}"
    return reasons
