"""Say why a backend was chosen or not, in words that need no knowledge of CUDA.

Every rule slug has its sentence here (a test joins them with `rules.RULES`), and its worked example in
`docs/explanation/how-a-build-is-chosen.md`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from packaging.version import Version

from torchinstall.core.plan import Candidate, CompanionUse, Plan

RULE_WORDS = {
    "backend-not-asked": "Another backend was requested by name, so this one was not considered further.",
    "did-not-compute": "It was installed here, and the check afterwards showed that it does not compute.",
    "rosetta": "The Python here is made for Intel processors and runs translated on Apple Silicon; PyTorch "
    "stopped publishing for it, and it could never use the GPU.",
    "python-not-published": "PyTorch publishes each build for certain Python versions only, and there is no "
    "file of this build for yours.",
    "musl": "PyTorch's files are made for systems with glibc; this system (Alpine, for instance) uses musl.",
    "glibc-too-old": "The files of this build need a newer C library (glibc) than this system has.",
    "macos-too-old": "The files of this build need a newer macOS.",
    "system-too-old": "The files of this build need a newer operating system.",
    "no-gpu-of-vendor": "This backend is for GPUs of another vendor than those in this machine.",
    "jetson-needs-own-build": "The GPU of this Jetson has its own driver: the general builds for ARM servers "
    "can be installed on it, but do not run.",
    "driver-too-old": "The build brings its own CUDA libraries, and they need a driver that is new enough. "
    "You can update the driver; the CUDA toolkit on the machine does not matter.",
    "no-code-for-gpu": "A build contains machine code for certain generations of GPUs only. This one has "
    'none for the GPU here: it would install, and then fail with "no kernel image is available".',
    "ptx-needs-newer-driver": "For this GPU the build contains only half-finished code (PTX) that the driver "
    "has to compile; this driver is older than the code and cannot.",
    "gpu-not-served-by-driver": "This driver does not support this generation of GPUs any more (or not yet).",
    "gpu-code-unknown": "The GPU did not report which generation it is, and no table knows it.",
    "code-unknown": "It is not known which GPUs this build has code for.",
    "library-lacks-gpu": "torch itself has code for this GPU, but a library that it comes with has not: it "
    "would install, see the GPU, and fail at the first computation that needs the library.",
    "kernel-needs-newer-rocm": "The Linux kernel here works with newer ROCm libraries only; those that the "
    "build brings along crash on it.",
    "rocm-not-for-wsl": "The ROCm libraries of this build do not work in WSL.",
    "cpu-too-old": "The build uses instructions that the processor here does not have.",
    "need-not-met": "What you asked for with --need does not work with this build on this machine.",
    "not-confirmed": "Nobody has seen the files of this build; that it was published is only a guess.",
    "companion-missing": "One of the packages that you asked for is not published for this build, and "
    "packages of different builds do not work together.",
    "pinned-out": "The versions that you asked for exclude it.",
    "companion-no-code": "A package that you asked for has ready files for this build, but none of them has "
    "code for the GPU here: it would install, and then fail.",
    "needs-build": "A package that you asked for has no ready files here. It would be built from source, "
    "which takes a compiler and time, and happens only where --allow-build names it.",
}


_OTHER_BACKENDS = ("no-gpu-of-vendor", "backend-not-asked")
"""Rules that say nothing about this machine's own line of backends."""


def explain(plan: Plan, name: str) -> tuple[str, ...]:
    """What became of a backend (or of one companion) in this plan, and what each companion allows."""
    mine = [use for use in plan.companions if use.name == name]
    return (*(() if mine else _explain(plan, name)), *_companions(mine or plan.companions, plan))


def _companions(uses: Iterable[CompanionUse], plan: Plan) -> Iterator[str]:
    """For each companion, which releases of torch it allows here."""
    for use in uses:
        version = f" ({use.version} is planned)" if use.version and plan.status != "impossible" else ""
        if use.allows:
            yield f"{use.name}{version} has ready files here for torch {', '.join(use.allows)}."
        elif plan.status == "impossible" or use.version is None:
            yield f"{use.name} has no ready files here for any torch."
        else:
            yield f"{use.name}{version} is needed by another package."
        if use.held_back:
            yield f"It keeps torch {use.held_back} out."


def _explain(plan: Plan, backend: str) -> tuple[str, ...]:
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
    """Why a backend is not the chosen one."""
    rows = [item for item in plan.candidates if item.backend == backend]
    rejected = [item for item in rows if item.verdict == "rejected"]
    if not rows or len(rejected) < len(rows):
        return _explain(plan, backend)
    sentences = [f"No build of {backend} can be used here."]
    for rule in dict.fromkeys(item.rule for item in rejected):
        same = [item for item in rejected if item.rule == rule]
        sentences += [_rejected(same), RULE_WORDS[rule or ""]]
    return tuple(sentences)


def _why_chosen(plan: Plan, chosen: Candidate) -> list[str]:
    sentences = [f"torch {chosen.torch}+{chosen.backend} was chosen."]
    for gpu in plan.gpus:
        name = gpu.name or "The GPU"
        if gpu.covered:
            sentences.append(f"It has code for {name} ({gpu.by}).")
        else:
            sentences.append(f"It does not use {name}: {gpu.by}.")
    newer = [item for item in plan.candidates if Version(item.torch) > Version(chosen.torch)]
    if newer:
        reasons = dict.fromkeys(item.rule for item in newer if item.rule not in (None, *_OTHER_BACKENDS))
        rejected = ", ".join(map(str, reasons)) or "for this machine"
        sentences.append(f"Newer releases were rejected ({rejected}).")
    else:
        sentences.append("There is no newer release of torch.")
    return sentences


def _why_second(plan: Plan, accepted: Candidate) -> str:
    chosen = plan.chosen
    if chosen is None:
        return "Nothing was chosen, because the plan stopped before."
    if Version(chosen.torch) > Version(accepted.torch):
        return f"{chosen.backend} was chosen because it has a newer torch ({chosen.torch})."
    if chosen.torch == accepted.torch:
        return (
            f"{chosen.backend} was chosen because it uses this machine's GPUs better, or because its toolkit "
            "fits this driver best (the newest that the driver itself supports)."
        )
    return f"{chosen.backend} was chosen because it uses more of this machine's GPUs."


def _older(rows: list[Candidate]) -> list[str]:
    rejected = [item for item in rows if item.verdict == "rejected"]
    return [_rejected(rejected)] if rejected else []


def _newer_rejected(rows: list[Candidate], accepted: Candidate) -> list[str]:
    version = Version(accepted.torch)
    newer = [item for item in rows if item.verdict == "rejected" and Version(item.torch) > version]
    return [_rejected(newer), RULE_WORDS[newer[0].rule or ""]] if newer else []


def _rejected(rows: list[Candidate]) -> str:
    newest, oldest = rows[0].torch, rows[-1].torch
    span = f"torch {newest} was" if newest == oldest else f"torch {oldest} to {newest} were"
    return f"{span} rejected: needed {rows[0].wanted}; found {rows[0].found}."
