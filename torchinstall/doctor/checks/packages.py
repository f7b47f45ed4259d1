"""Is what is installed whole, and does it belong together?"""

from __future__ import annotations

import re
import shlex
from collections import defaultdict
from collections.abc import Iterator

from packaging.utils import canonicalize_name

from torchinstall.doctor.checks.remedies import auto, family_requirements, reinstall, remove, uv_pip
from torchinstall.doctor.checks.requires import asked_by_torch, required_names, unmet
from torchinstall.doctor.model import Diagnosis, Dist, Environment, Remedy

__all__ = [
    "built_for_other_torch",
    "damaged_files",
    "interrupted_install",
    "leftovers",
    "missing_dependencies",
    "mixed_cuda_packages",
    "torch_twice",
    "triton_missing",
]

_SUFFIX = re.compile(r"(?P<stem>nvidia-[\w-]+?)-cu(?P<major>\d+)")


def interrupted_install(seen: Environment) -> Iterator[Diagnosis]:
    """An install was killed, and nobody was left to put things back."""
    for folder in seen.inventory.kept:
        yield Diagnosis(
            slug="interrupted-install",
            severity="error",
            message="an installation was killed in the middle; the files from before it are still kept",
            evidence=(folder,),
            remedies=(
                Remedy(
                    command=shlex.join(["torchinstall", "doctor", *seen.flags, "--fix"]),
                    restore=folder,
                ),
            ),
        )


def damaged_files(seen: Environment) -> Iterator[Diagnosis]:
    """Files that the package brought along are gone or cut off."""
    for dist in seen.inventory.dists:
        if not dist.missing and not dist.altered:
            continue
        said = [f"missing: {name}" for name in dist.missing[:5]]
        said += [f"other size: {name}" for name in dist.altered[:5]]
        yield Diagnosis(
            slug="damaged-files",
            severity="error" if _torch_needs(seen, dist) else "warning",
            message=f"files of {dist.name} {dist.version} are missing or not as they were installed",
            evidence=tuple(said),
            remedies=(_again(seen, dist),),
        )


def _torch_needs(seen: Environment, dist: Dist) -> bool:
    return seen.catalog.family(dist.name) is not None or dist.name.startswith(("nvidia-", "triton"))


def _again(seen: Environment, dist: Dist) -> Remedy:
    """Write the files of one package anew: through torchinstall where it is routed, else through uv."""
    family = seen.catalog.family(dist.name)
    if family is not None and family.routed:
        return reinstall(seen, dist.name)
    return uv_pip(
        seen, "install", "--reinstall-package", dist.name, "--no-deps", f"{dist.name}=={dist.version}"
    )


def leftovers(seen: Environment) -> Iterator[Diagnosis]:
    """Folders such as `~orch`, which pip leaves when a file was in use."""
    if seen.inventory.leftovers:
        yield Diagnosis(
            slug="leftover-folders",
            severity="warning",
            message="folders of a half-removed installation lie in site-packages",
            evidence=seen.inventory.leftovers,
            remedies=(remove(seen, seen.inventory.leftovers),),
            advice="close the programs that use this environment first",
        )


def torch_twice(seen: Environment) -> Iterator[Diagnosis]:
    """Two records of one package, or a torch in the user's own folder besides."""
    for name in dict.fromkeys(item.name for item in seen.target.installed):
        found = seen.inventory.named(name)
        if len(found) > 1:
            yield Diagnosis(
                slug="installed-twice",
                severity="error",
                message=f"{name} is recorded more than once, so nobody knows whose files these are",
                evidence=tuple(f"{dist.name} {dist.version} in {dist.site}" for dist in found),
                remedies=(
                    uv_pip(seen, "uninstall", name),
                    reinstall(seen, name),
                ),
            )
    if seen.inventory.user_torch is not None:
        yield Diagnosis(
            slug="installed-twice",
            severity="warning",
            message="there is another torch in your own site-packages folder",
            evidence=(seen.inventory.user_torch,),
            remedies=(Remedy(command=f"{seen.target.python} -m pip uninstall torch"),),
            advice="a virtual environment does not look there",
        )


def mixed_cuda_packages(seen: Environment) -> Iterator[Diagnosis]:
    """CUDA libraries of two major versions, one of which nobody here asks for."""
    majors: dict[str, dict[str, Dist]] = defaultdict(dict)
    for dist in seen.inventory.dists:
        if match := _SUFFIX.fullmatch(dist.name):
            majors[match["stem"]][match["major"]] = dist
    for dist in seen.inventory.dists:
        # From CUDA 13 on NVIDIA's packages have no suffix any more.
        if dist.name in majors and dist.version.split(".")[0].isdigit():
            majors[dist.name]["none"] = dist
    wanted = required_names(seen)
    doubled = [found for found in majors.values() if len(found) > 1]
    idle = sorted(dist.name for found in doubled for dist in found.values() if dist.name not in wanted)
    if doubled:
        yield Diagnosis(
            slug="mixed-cuda-packages",
            severity="warning" if idle else "info",
            message="CUDA libraries of more than one major version are installed"
            + ("" if idle else ", and something here asks for each"),
            evidence=tuple(f"{dist.name} {dist.version}" for found in doubled for dist in found.values()),
            remedies=(uv_pip(seen, "uninstall", *idle),) if idle else (),
        )


def missing_dependencies(seen: Environment) -> Iterator[Diagnosis]:
    """A package that torch or a companion needs is not there, or not in the version that it needs."""
    for dist, requirement, have in unmet(seen):
        name = canonicalize_name(requirement.name)
        if "triton" in name or not asked_by_torch(seen, dist):
            continue
        wanted = f"{requirement.name}{requirement.specifier}"
        yield Diagnosis(
            slug="missing-dependency",
            severity="error",
            message=f"{dist.name} needs {wanted}, and "
            + (f"{have} is installed" if have else "it is not installed"),
            evidence=(f"{dist.name} {dist.version}: {requirement}",),
            remedies=(_fetch(seen, name, wanted),),
        )


def triton_missing(seen: Environment) -> Iterator[Diagnosis]:
    """torch.compile needs Triton; Windows builds come without it."""
    for dist, requirement, have in unmet(seen):
        name = canonicalize_name(requirement.name)
        if dist.name == "torch" and "triton" in name:
            wanted = f"{requirement.name}{requirement.specifier}"
            yield Diagnosis(
                slug="triton-missing",
                severity="warning",
                message=f"torch.compile needs {wanted}, and "
                + (f"{have} is installed" if have else "it is not installed"),
                evidence=(f"torch {dist.version}: {requirement}",),
                remedies=(_fetch(seen, name, wanted),),
            )
            return
    torch = seen.backend
    bare = not any("triton" in dist.name for dist in seen.inventory.dists)
    if bare and seen.target.os == "windows" and torch not in (None, "cpu"):
        yield Diagnosis(
            slug="triton-missing",
            severity="info",
            message="torch.compile needs Triton, which torch's Windows builds come without",
            evidence=(f"torch {seen.installed('torch')}",),
            remedies=(uv_pip(seen, "install", "triton-windows"),),
            advice="take the triton-windows minor version that its page names for this torch",
        )


def _fetch(seen: Environment, name: str, wanted: str) -> Remedy:
    family = seen.catalog.family(name)
    if family is not None and family.routed:
        return reinstall(seen, "torch")
    return uv_pip(seen, "install", wanted)


def built_for_other_torch(seen: Environment) -> Iterator[Diagnosis]:
    """An extension whose binaries, or whose requirements, are for another torch."""
    torch = seen.installed("torch")
    if torch is None:
        return
    told = set()
    for dist in seen.inventory.dists:
        if (wanted := _other_build(seen, dist, torch)) is not None:
            told.add(dist.name)
            yield _foreign(seen, dist, f"built for {wanted}", torch)
    for dist, requirement, have in unmet(seen):
        if (
            canonicalize_name(requirement.name) == "torch"
            and have
            and dist.name not in told | _companions(seen)
        ):
            yield _foreign(seen, dist, f"asks for torch{requirement.specifier}", torch)


def _companions(seen: Environment) -> set[str]:
    """Packages that the table pairs with torch; `mixed-releases` speaks about those."""
    torch = (seen.installed("torch") or "").partition("+")[0]
    return {item.name for item in seen.target.installed if seen.catalog.companion(torch, item.name)}


def _foreign(seen: Environment, dist: Dist, wanted: str, torch: str) -> Diagnosis:
    first = family_requirements(seen)[0]
    return Diagnosis(
        slug="built-for-other-torch",
        severity="error",
        message=f"{dist.name} {dist.version} is {wanted}, and torch {torch} is installed"
        if wanted.startswith("built")
        else f"{dist.name} {dist.version} {wanted}, and torch {torch} is installed",
        evidence=(f"torch {torch}", *(f"{key}: {value}" for key, value in dist.built_for.items())),
        remedies=(auto(seen, first, dist.name, "--", "--upgrade-package", dist.name),),
        advice="or take the torch that it was made for; ask for both in one command",
    )


def _other_build(seen: Environment, dist: Dist, torch: str) -> str | None:
    """What an extension was made for, where that is not the torch (or its CUDA) that is here."""
    said = dist.built_for
    public = torch.partition("+")[0]
    if (wanted := said.get("torch")) and dist.name != "torch":
        exact = wanted.partition("+")[0]
        here = public if exact.count(".") > 1 else ".".join(public.split(".")[:2])
        if exact != here:
            return f"torch {wanted}"
        if "+" in wanted and "+" in torch and wanted.partition("+")[2] != torch.partition("+")[2]:
            return f"torch {wanted}"
    info = None if seen.backend is None else seen.catalog.backend(seen.backend)
    if dist.name == "bitsandbytes" and "cuda" in said and info is not None and info.kind.toolkit == "CUDA":
        here = "".join(str(part) for part in info.toolkit or ())
        if here and here not in said["cuda"].split(","):
            return f"CUDA {said['cuda'].replace(',', ', ')}"
    return None
