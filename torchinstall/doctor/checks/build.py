"""Is the installed torch the right build for this machine?"""

from __future__ import annotations

from collections.abc import Iterator

from torchinstall.doctor.checks.remedies import auto, by_hand, family_requirements
from torchinstall.doctor.model import Diagnosis, Environment
from torchinstall.planner.rules import Case, Objection, driver_too_old, no_code_for_gpu, no_gpu_of_vendor

__all__ = [
    "another_machine",
    "cpu_build_on_gpu_machine",
    "drifted",
    "hardware_objections",
    "mixed_backends",
    "mixed_releases",
    "partly_covered",
    "torch_missing",
]


def torch_missing(seen: Environment) -> Iterator[Diagnosis]:
    """There is no torch."""
    if seen.installed("torch") is None:
        yield Diagnosis(
            slug="torch-missing",
            severity="error",
            message="torch is not installed in this environment",
            evidence=(f"environment: {seen.target.prefix}",),
            remedies=(auto(seen),),
        )


def cpu_build_on_gpu_machine(seen: Environment) -> Iterator[Diagnosis]:
    """A CPU build, and a GPU build of the same release would run here."""
    choice = seen.choice
    if seen.backend != "cpu" or choice is None or choice.backend in (None, "cpu"):
        return
    used = [gpu.name or gpu.vendor for gpu in choice.gpus if gpu.covered]
    if not used:
        return
    decided = seen.decision is not None and seen.decision.backend == "cpu" and not _moved(seen)
    yield Diagnosis(
        slug="cpu-build-on-gpu-machine",
        severity="info" if decided else "error",
        message=f"this is a CPU build, and {used[0]} could be used with {choice.backend}"
        + (", but the CPU build was asked for" if decided else ""),
        evidence=(f"torch {seen.installed('torch')}", f"the planner would choose {choice.torch}"),
        remedies=(auto(seen, *family_requirements(seen)),),
    )


def hardware_objections(seen: Environment) -> Iterator[Diagnosis]:
    """The planner's own hardware rules, asked about the build that is installed."""
    case = installed_case(seen)
    if case is None or case.build.backend.kind.vendor is None:
        return
    for slug, rule in (
        ("no-gpu-of-vendor", no_gpu_of_vendor),
        ("driver-too-old", driver_too_old),
        ("no-code-for-gpu", no_code_for_gpu),
    ):
        answer = rule(case)
        if answer is None:
            continue
        objection = answer if isinstance(answer, Objection) else Objection(slug, *answer)
        yield _objection(seen, slug, objection)
        return


_SAID = {
    "no-gpu-of-vendor": "the installed build serves GPUs that this machine does not have",
    "driver-too-old": "the installed build was made for a newer CUDA than this driver can start",
    "no-code-for-gpu": "the installed build has no code that this GPU can run",
}


def _objection(seen: Environment, slug: str, objection: Objection) -> Diagnosis:
    better = seen.choice if seen.choice is not None and seen.choice.error is None else seen.free
    idle = slug == "no-gpu-of-vendor"
    return Diagnosis(
        slug=slug,
        severity="info" if idle else "error",
        message=_SAID[slug],
        evidence=(
            f"torch {seen.installed('torch')}",
            f"wanted: {objection.wanted}",
            f"found: {objection.found}",
            *((f"the planner would choose {better.torch}",) if better and better.torch else ()),
        ),
        remedies=(auto(seen, *family_requirements(seen)),),
        advice="or update the driver" if slug == "driver-too-old" else None,
    )


def partly_covered(seen: Environment) -> Iterator[Diagnosis]:
    """Several GPUs, and the build has code for some of them only."""
    case = installed_case(seen)
    if case is None or driver_too_old(case) is not None:
        return
    without = [item for item in case.covers if not item.covered]
    if without and len(without) < len(case.covers):
        yield Diagnosis(
            slug="some-gpus-without-code",
            severity="warning",
            message="the installed build runs on some GPUs of this machine and not on others",
            evidence=tuple(f"{item.gpu.label}: {item.by}" for item in case.covers),
            remedies=(by_hand("torchinstall plan"),),
            advice="plan says whether one build covers them all; --prefer-gpu N says who comes first",
        )


def mixed_backends(seen: Environment) -> Iterator[Diagnosis]:
    """Packages of torch's family that were built for another backend than torch."""
    torch = seen.backend
    other = [
        item
        for item in seen.target.installed
        if item.name != "torch" and item.backend not in (None, torch) and _moves_with_torch(seen, item.name)
    ]
    if torch is not None and other:
        yield Diagnosis(
            slug="mixed-backends",
            severity="error",
            message="packages for different backends are mixed: "
            + ", ".join(f"{item.name} for {item.backend}" for item in other)
            + f" beside torch for {torch}",
            evidence=tuple(f"{item.name} {item.version}" for item in seen.target.installed),
            remedies=(auto(seen, *family_requirements(seen)),),
        )


def mixed_releases(seen: Environment) -> Iterator[Diagnosis]:
    """A companion of another torch release."""
    torch = seen.installed("torch")
    if torch is None:
        return
    for item in seen.target.installed:
        row = seen.catalog.companion(torch.partition("+")[0], item.name)
        if row is None or item.name == "torch" or row.version == item.version.partition("+")[0]:
            continue
        yield Diagnosis(
            slug="mixed-releases",
            severity="error" if row.exact else "warning",
            message=f"{item.name} {item.version} does not belong to torch {torch}",
            evidence=(f"wanted: {item.name} {row.version}", f"found: {item.name} {item.version}"),
            remedies=(auto(seen, *family_requirements(seen)),),
        )


def drifted(seen: Environment) -> Iterator[Diagnosis]:
    """Something replaced what torchinstall put here."""
    if seen.decision is None:
        return
    from torchinstall.install.record import drift

    changes = drift(seen.decision, seen.target)
    if changes:
        pins = [f"{name}=={version.partition('+')[0]}" for name, version in seen.decision.packages.items()]
        named = () if seen.decision.backend is None else ("--backend", seen.decision.backend)
        yield Diagnosis(
            slug="replaced-since",
            severity="warning",
            message="what torchinstall put here was replaced since by another install",
            evidence=(*changes, f"decided on {seen.decision.made_at}"),
            # Not for --fix: whoever replaced it may have meant to.
            remedies=(by_hand(auto(seen, *(() if "--backend" in seen.flags else named), *pins).command),),
            advice="install other packages in the same command, or with the constraint torch==VERSION",
        )


def another_machine(seen: Environment) -> Iterator[Diagnosis]:
    """The GPU or the driver is not the one that was decided for."""
    if seen.decision is not None and _moved(seen):
        before = ", ".join(seen.decision.machine.get("gpus", ())) or "no GPU"
        now = ", ".join(gpu.label for gpu in seen.machine.gpus) or "no GPU"
        yield Diagnosis(
            slug="decided-for-another-machine",
            severity="info",
            message="this environment was made for another GPU or driver",
            evidence=(f"then: {before}", f"now: {now}"),
            remedies=(auto(seen, *family_requirements(seen)),),
        )


def _moved(seen: Environment) -> bool:
    from torchinstall.install.record import machine_digest

    return seen.decision is not None and seen.decision.machine.get("digest") != machine_digest(seen.machine)


def _moves_with_torch(seen: Environment, package: str) -> bool:
    family = seen.catalog.family(package)
    return family is not None and not family.own_cuda


def installed_case(seen: Environment) -> Case | None:
    """The installed build before the planner's rules; None where it is not one that we know."""
    from torchinstall.core.request import Request
    from torchinstall.planner.builds import Build, version_key
    from torchinstall.planner.requirements import wants
    from torchinstall.planner.situation import situation

    torch = seen.installed("torch")
    info = None if seen.backend is None else seen.catalog.backend(seen.backend)
    if torch is None or info is None:
        return None
    public = torch.partition("+")[0]
    request = Request(requirements=())
    return Case(
        Build(torch=public, version=version_key(public), backend=info, wheels=()),
        situation(request, seen.machine, seen.target, seen.catalog),
        wants(request, seen.target, seen.catalog),
    )
