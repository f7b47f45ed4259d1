"""Say why a backend was taken or not, in words that need no knowledge of CUDA.

Every rule slug has its sentence here (a test joins them with `rules.RULES`), and its worked example in
`docs/explanation/how-a-build-is-chosen.md`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from packaging.version import Version

if TYPE_CHECKING:
    from torchinstall.core.plan import Candidate, Plan

__all__ = ["RULE_WORDS", "explain", "why_not"]

RULE_WORDS = {
    "backend-not-asked": "Another backend was asked for by name, so this one was not considered further.",
    "did-not-compute": "It was installed here, and the check afterwards showed that it does not compute.",
    "rosetta": "The Python here is made for Intel processors and runs translated on Apple Silicon; PyTorch "
    "stopped publishing for it, and it could never use the GPU.",
    "python-not-published": "PyTorch publishes each build for certain Python versions only; there "
    "is no file of this build for yours.",
    "musl": "PyTorch's files are made for systems with glibc; this system (Alpine, for instance) uses musl.",
    "glibc-too-old": "The files of this build need a newer C library (glibc) than this system has.",
    "macos-too-old": "The files of this build need a newer macOS.",
    "system-too-old": "The files of this build need a newer system.",
    "no-gpu-of-vendor": "This backend is for GPUs of another maker than those in this machine.",
    "jetson-needs-own-build": "The GPU of this Jetson has its own driver; the general builds for ARM servers "
    "install, but cannot run on it.",
    "driver-too-old": "The build carries its own CUDA libraries, and they start only on a driver that is new "
    "enough. A driver can be updated; the CUDA toolkit on the machine does not matter.",
    "no-code-for-gpu": "A build carries machine code for certain generations of GPUs only. This one has none "
    'for the GPU here: it would install, and then fail with "no kernel image is available".',
    "ptx-needs-newer-driver": "For this GPU the build has only half-finished code (PTX), which the driver "
    "has to finish; this driver is older than the code and cannot.",
    "gpu-not-served-by-driver": "This driver does not serve this generation of GPUs any more (or not yet).",
    "gpu-code-unknown": "The GPU did not say which generation it is, and no table knows it.",
    "code-unknown": "It is not known which GPUs this build has code for.",
    "not-confirmed": "Nobody has seen this build's files; that it is published is only a guess.",
    "companion-missing": "One of the packages that were asked for is not published for this build, and "
    "mixing packages of different builds breaks them.",
    "pinned-out": "The versions that were asked for exclude it.",
}


_ELSEWHERE = ("no-gpu-of-vendor", "backend-not-asked")
"""Rules that say nothing about this machine's own line of backends."""


def explain(plan: Plan, backend: str) -> tuple[str, ...]:
    """What became of a backend in this plan: taken, second best, or refused and why."""
    rows = [item for item in plan.candidates if item.backend == backend]
    if not rows:
        known = ", ".join(dict.fromkeys(item.backend for item in plan.candidates))
        return (
            f"{backend} was not considered: no build of it is known for this platform.",
            f"Known: {known}.",
        )
    chosen = next((item for item in rows if item.verdict == "chosen"), None)
    if chosen is not None:
        return (*_why_chosen(plan, chosen), *_older(rows))
    accepted = next((item for item in rows if item.verdict == "accepted"), None)
    if accepted is not None:
        return (
            f"torch {accepted.torch}+{backend} would run here too.",
            _why_second(plan, accepted),
            *_newer_rejected(rows, accepted),
        )
    return why_not(plan, backend)


def why_not(plan: Plan, backend: str) -> tuple[str, ...]:
    """Why a backend is not the one that is taken."""
    rows = [item for item in plan.candidates if item.backend == backend]
    refused = [item for item in rows if item.verdict == "rejected"]
    if not rows or len(refused) < len(rows):
        return explain(plan, backend)
    sentences = [f"No build of {backend} can be taken here."]
    for rule in dict.fromkeys(item.rule for item in refused):
        same = [item for item in refused if item.rule == rule]
        sentences.append(f"{_span(same)}: {_objection(same[0])}")
        sentences.append(RULE_WORDS[rule or ""])
    return tuple(sentences)


def _why_chosen(plan: Plan, chosen: Candidate) -> list[str]:
    sentences = [f"torch {chosen.torch}+{chosen.backend} is the build that is taken."]
    for gpu in plan.gpus:
        name = gpu.name or "The GPU"
        if gpu.covered:
            sentences.append(f"It has code for {name} ({gpu.by}).")
        else:
            sentences.append(f"It does not use {name}: {gpu.by}.")
    newer = [item for item in plan.candidates if Version(item.torch) > Version(chosen.torch)]
    if newer:
        reasons = dict.fromkeys(item.rule for item in newer if item.rule not in (None, *_ELSEWHERE))
        refused = ", ".join(f"{reason}" for reason in reasons) or "for this machine"
        sentences.append(f"Newer releases were refused ({refused}).")
    else:
        sentences.append("There is no newer release of torch.")
    return sentences


def _why_second(plan: Plan, accepted: Candidate) -> str:
    chosen = plan.chosen
    if chosen is None:
        return "Nothing was chosen, because the plan stopped before."
    if Version(chosen.torch) > Version(accepted.torch):
        return f"{chosen.backend} was taken because it has a newer torch ({chosen.torch})."
    if chosen.torch == accepted.torch:
        return (
            f"{chosen.backend} was taken because it serves this machine's GPUs better, or because its "
            "toolkit fits this driver best (the newest that the driver itself speaks)."
        )
    return f"{chosen.backend} was taken because it serves more of this machine's GPUs."


def _older(rows: list[Candidate]) -> list[str]:
    refused = [item for item in rows if item.verdict == "rejected"]
    return [f"{_span(refused)} of it were refused: {_objection(refused[0])}."] if refused else []


def _newer_rejected(rows: list[Candidate], accepted: Candidate) -> list[str]:
    newer = [
        item for item in rows if item.verdict == "rejected" and Version(item.torch) > Version(accepted.torch)
    ]
    if not newer:
        return []
    return [f"{_span(newer)}: {_objection(newer[0])}", RULE_WORDS[newer[0].rule or ""]]


def _span(rows: list[Candidate]) -> str:
    newest, oldest = rows[0].torch, rows[-1].torch
    return f"torch {newest}" if newest == oldest else f"torch {oldest} to {newest}"


def _objection(row: Candidate) -> str:
    return f"it wants {row.wanted}, and there is {row.found}"
