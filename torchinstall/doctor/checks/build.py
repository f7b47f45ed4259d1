"""Is the installed torch the right build for this machine?"""

from __future__ import annotations

from collections.abc import Iterator

from torchinstall.doctor.checks.remedies import auto, by_hand, family_requirements
from torchinstall.doctor.model import Diagnosis, Scene
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


def torch_missing(scene: Scene) -> Iterator[Diagnosis]:
    """There is no torch."""
    if scene.installed("torch") is None:
        yield Diagnosis(
            slug="torch-missing",
            severity="error",
            message="torch is not installed in this environment",
            evidence=(f"environment: {scene.target.prefix}",),
            remedies=(auto(scene),),
        )


def cpu_build_on_gpu_machine(scene: Scene) -> Iterator[Diagnosis]:
    """A CPU build, and a GPU build of the same release would run here."""
    choice = scene.choice
    if scene.backend != "cpu" or choice is None or choice.backend in (None, "cpu"):
        return
    used = [gpu.name or gpu.vendor for gpu in choice.gpus if gpu.covered]
    if not used:
        return
    decided = scene.decision is not None and scene.decision.backend == "cpu" and not _moved(scene)
    yield Diagnosis(
        slug="cpu-build-on-gpu-machine",
        severity="info" if decided else "error",
        message=f"this is a CPU build, and {used[0]} could be used with {choice.backend}"
        + (", but the CPU build was asked for" if decided else ""),
        evidence=(f"torch {scene.installed('torch')}", f"the planner would choose {choice.torch}"),
        remedies=(auto(scene, *family_requirements(scene)),),
    )


def hardware_objections(scene: Scene) -> Iterator[Diagnosis]:
    """The planner's own hardware rules, asked about the build that is installed."""
    case = installed_case(scene)
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
        yield _objection(scene, slug, objection)
        return


_SAID = {
    "no-gpu-of-vendor": "the installed build serves GPUs that this machine does not have",
    "driver-too-old": "the installed build was made for a newer CUDA than this driver can start",
    "no-code-for-gpu": "the installed build has no code that this GPU can run",
}


def _objection(scene: Scene, slug: str, objection: Objection) -> Diagnosis:
    better = scene.choice if scene.choice is not None and scene.choice.error is None else scene.free
    idle = slug == "no-gpu-of-vendor"
    return Diagnosis(
        slug=slug,
        severity="info" if idle else "error",
        message=_SAID[slug],
        evidence=(
            f"torch {scene.installed('torch')}",
            f"wanted: {objection.wanted}",
            f"found: {objection.found}",
            *((f"the planner would choose {better.torch}",) if better and better.torch else ()),
        ),
        remedies=(auto(scene, *family_requirements(scene)),),
        advice="or update the driver" if slug == "driver-too-old" else None,
    )


def partly_covered(scene: Scene) -> Iterator[Diagnosis]:
    """Several GPUs, and the build has code for some of them only."""
    case = installed_case(scene)
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


def mixed_backends(scene: Scene) -> Iterator[Diagnosis]:
    """Packages of torch's family that were built for another backend than torch."""
    torch = scene.backend
    other = [
        item
        for item in scene.target.installed
        if item.name != "torch" and item.backend not in (None, torch) and _moves_with_torch(scene, item.name)
    ]
    if torch is not None and other:
        yield Diagnosis(
            slug="mixed-backends",
            severity="error",
            message="packages for different backends are mixed: "
            + ", ".join(f"{item.name} for {item.backend}" for item in other)
            + f" beside torch for {torch}",
            evidence=tuple(f"{item.name} {item.version}" for item in scene.target.installed),
            remedies=(auto(scene, *family_requirements(scene)),),
        )


def mixed_releases(scene: Scene) -> Iterator[Diagnosis]:
    """A companion of another torch release."""
    torch = scene.installed("torch")
    if torch is None:
        return
    for item in scene.target.installed:
        row = scene.catalog.companion(torch.partition("+")[0], item.name)
        if row is None or item.name == "torch" or row.version == item.version.partition("+")[0]:
            continue
        yield Diagnosis(
            slug="mixed-releases",
            severity="error" if row.exact else "warning",
            message=f"{item.name} {item.version} does not belong to torch {torch}",
            evidence=(f"wanted: {item.name} {row.version}", f"found: {item.name} {item.version}"),
            remedies=(auto(scene, *family_requirements(scene)),),
        )


def drifted(scene: Scene) -> Iterator[Diagnosis]:
    """Something replaced what torchinstall put here."""
    if scene.decision is None:
        return
    from torchinstall.install.record import drift

    changes = drift(scene.decision, scene.target)
    if changes:
        pins = [f"{name}=={version.partition('+')[0]}" for name, version in scene.decision.packages.items()]
        named = () if scene.decision.backend is None else ("--backend", scene.decision.backend)
        yield Diagnosis(
            slug="replaced-since",
            severity="warning",
            message="what torchinstall put here was replaced since by another install",
            evidence=(*changes, f"decided on {scene.decision.made_at}"),
            # Not for --fix: whoever replaced it may have meant to.
            remedies=(by_hand(auto(scene, *(() if "--backend" in scene.flags else named), *pins).command),),
            advice="install other packages in the same command, or with the constraint torch==VERSION",
        )


def another_machine(scene: Scene) -> Iterator[Diagnosis]:
    """The GPU or the driver is not the one that was decided for."""
    if scene.decision is not None and _moved(scene):
        before = ", ".join(scene.decision.machine.get("gpus", ())) or "no GPU"
        now = ", ".join(gpu.label for gpu in scene.machine.gpus) or "no GPU"
        yield Diagnosis(
            slug="decided-for-another-machine",
            severity="info",
            message="this environment was made for another GPU or driver",
            evidence=(f"then: {before}", f"now: {now}"),
            remedies=(auto(scene, *family_requirements(scene)),),
        )


def _moved(scene: Scene) -> bool:
    from torchinstall.install.record import machine_digest

    return scene.decision is not None and scene.decision.machine.get("digest") != machine_digest(
        scene.machine
    )


def _moves_with_torch(scene: Scene, package: str) -> bool:
    family = scene.catalog.family(package)
    return family is not None and not family.own_cuda


def installed_case(scene: Scene) -> Case | None:
    """The installed build before the planner's rules; None where it is not one that we know."""
    from torchinstall.core.request import Request
    from torchinstall.planner.builds import Build, version_key
    from torchinstall.planner.requirements import wants
    from torchinstall.planner.situation import situation

    torch = scene.installed("torch")
    info = None if scene.backend is None else scene.catalog.backend(scene.backend)
    if torch is None or info is None:
        return None
    public = torch.partition("+")[0]
    request = Request(requirements=())
    return Case(
        Build(torch=public, version=version_key(public), backend=info, wheels=()),
        situation(request, scene.machine, scene.target, scene.catalog),
        wants(request, scene.target, scene.catalog),
    )
