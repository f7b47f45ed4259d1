"""Are the installed packages complete, and do they fit together?"""

from __future__ import annotations

import re
import shlex
from collections import defaultdict
from collections.abc import Iterator, Sequence

from torchinstall.core.request import Requirement, canonical_name, requirement
from torchinstall.doctor.model import (
    Diagnosis,
    Environment,
    Remedy,
    Severity,
    auto,
    family_requirements,
    misfits,
    reinstall,
    remove,
    uv_pip,
)
from torchinstall.install.interpreter import Dist

_SUFFIX = re.compile(r"(?P<stem>nvidia-[\w-]+?)-cu(?P<major>\d+)")


def interrupted_install(seen: Environment) -> Iterator[Diagnosis]:
    """An install is under way, or was killed and has left its journal and its backup."""
    if (told := seen.unfinished) is not None:
        command = shlex.join(["torchinstall", "doctor", *seen.flags, "--fix"])
        killed = told.slug == "interrupted-install"
        severity: Severity = "error" if killed else "warning"
        remedies = (Remedy(command, first=True),) if killed else ()
        yield Diagnosis(told.slug, severity, told.message, (f"journal in {seen.target.prefix}",), remedies)


def damaged_files(seen: Environment) -> Iterator[Diagnosis]:
    """Files that the package installed are missing or were changed."""
    _, idle, kept = _doubled(seen)
    told = {*seen.twice, *idle, *(dist.name for dist in kept)}
    for dist in seen.inventory.dists:
        if dist.name in told or not (dist.missing or dist.altered):
            continue
        family = seen.catalog.family(dist.name)
        again = reinstall(seen, dist.name) if family is not None and family.routed else _same(seen, dist)
        lost = (f"missing: {name}" for name in dist.missing[:5])
        evidence = (*lost, *(f"different size: {name}" for name in dist.altered[:5]))
        message = f"files of {dist.name} {dist.version} are missing or have changed since the install"
        yield Diagnosis("damaged-files", "error", message, evidence, (again,))


def _same(seen: Environment, *dists: Dist) -> Remedy:
    """The same versions of packages again, and nothing else."""
    again = [word for dist in dists for word in ("--reinstall-package", dist.name)]
    pins = (f"{dist.name}=={dist.version}" for dist in dists)
    return uv_pip(seen, "install", *again, "--no-deps", *pins)


def leftovers(seen: Environment) -> Iterator[Diagnosis]:
    """Folders such as `~orch`, which pip leaves when a file was in use."""
    if found := seen.inventory.leftovers:
        message = "an unfinished uninstall left folders in site-packages"
        advice = "close the programs that use this environment first"
        yield Diagnosis("leftover-folders", "warning", message, found, (remove(seen, found),), advice)


def installed_twice(seen: Environment) -> Iterator[Diagnosis]:
    """Two records of one package, or another torch in the user's own folder."""
    slug = "installed-twice"
    for name in dict.fromkeys(item.name for item in seen.target.installed if item.name in seen.twice):
        found = (dist for dist in seen.inventory.dists if dist.name == name)
        message = f"{name} is recorded more than once, so its files may be a mix of several versions"
        evidence = tuple(f"{dist.name} {dist.version} in {dist.site}" for dist in found)
        yield Diagnosis(slug, "error", message, evidence, (reinstall(seen, name),))
    if other := seen.inventory.user_torch:
        message = "there is another torch in your own site-packages folder"
        remedies = (Remedy(f"{seen.target.python} -m pip uninstall torch"),)
        advice = "a virtual environment does not use that folder"
        yield Diagnosis(slug, "warning", message, (other,), remedies, advice)


def mixed_cuda_packages(seen: Environment) -> Iterator[Diagnosis]:
    """CUDA libraries of two major versions, one of which nothing here asks for."""
    doubled, idle, kept = _doubled(seen)
    if doubled:
        lost = [dist.name for dist in kept if dist.missing or dist.altered]
        message = "CUDA libraries of more than one major version are installed"
        message += f", and files of {', '.join(lost)} were overwritten by those of another" if lost else ""
        message += "" if idle else ", and installed packages ask for each of them"
        evidence = tuple(f"{dist.name} {dist.version}" for dist in doubled)
        # What is removed takes files along that another one wrote in the same place.
        again = [_same(seen, *kept)] if kept else []
        remedies = (uv_pip(seen, "uninstall", *sorted(idle)), *again) if idle else ()
        severity: Severity = "error" if lost else "warning" if idle else "info"
        yield Diagnosis("mixed-cuda-packages", severity, message, evidence, remedies)


def _doubled(seen: Environment) -> tuple[list[Dist], set[str], list[Dist]]:
    """CUDA libraries of several major versions, the idle ones, and those whose files these have, too."""
    majors: dict[str, dict[str, Dist]] = defaultdict(dict)
    for dist in seen.inventory.dists:
        # From CUDA 13 on most of NVIDIA's packages have no suffix, and a folder of their own.
        match = _SUFFIX.fullmatch(dist.name)
        stem, major = match.groups() if match else (dist.name, "")
        majors[stem][major] = dist
    asked = (re.match(r"[A-Za-z0-9][\w.-]*", text) for row in seen.inventory.dists for text in row.requires)
    used = {canonical_name(match[0]) for match in asked if match}
    groups = [found for found in majors.values() if len(found) > 1]
    idle = {dist.name for found in groups for dist in found.values()} - used
    kept = [
        dist
        for found in groups
        for major, dist in found.items()
        if major and dist.name in used and any(number and row.name in idle for number, row in found.items())
    ]
    return [dist for found in groups for dist in found.values()], idle, kept


def missing_dependencies(seen: Environment) -> Iterator[Diagnosis]:
    """Packages that torch or a companion needs are not there, or not in the versions that they need."""
    found = [
        row
        for row in _unmet(seen)
        if "triton" not in row[1].package and row[1].package != "torch" and seen.moves_with_torch(row[0].name)
    ]
    if found:
        yield _missing(seen, "missing-dependency", found, found[0][0].name)


def triton_missing(seen: Environment) -> Iterator[Diagnosis]:
    """torch.compile needs Triton; Windows builds come without it."""
    found = [row for row in _unmet(seen) if row[0].name == "torch" and "triton" in row[1].package]
    if found:
        yield _missing(seen, "triton-missing", found[:1], "torch.compile")
    bare = not found and not any("triton" in dist.name for dist in seen.inventory.dists)
    if bare and seen.target.os == "windows" and seen.backend not in (None, "cpu"):
        message = "torch.compile needs Triton, which is not part of torch's Windows builds"
        remedies = (uv_pip(seen, "install", "triton-windows"),)
        advice = "choose the triton-windows minor version that its page names for this torch"
        torch = f"torch {seen.installed('torch')}"
        yield Diagnosis("triton-missing", "info", message, (torch,), remedies, advice)


_Unmet = tuple[Dist, Requirement, str | None]
"""Who asks, for what, and the version that is there; None: nothing."""


def _missing(seen: Environment, slug: str, found: Sequence[_Unmet], who: str) -> Diagnosis:
    texts = list(dict.fromkeys(f"{needed.name}{needed.specifier}" for _, needed, _ in found))
    states = [f"{version} is installed" if version else "it is missing" for _, _, version in found]
    message = f"{who} needs {texts[0]}, but {states[0]}"
    message += f" (and {len(texts) - 1} more)" if len(texts) > 1 else ""
    rows = zip(found, states, strict=True)
    evidence = tuple(f"{dist.name} {dist.version}: {needed}: {state}" for (dist, needed, _), state in rows)
    families = filter(None, (seen.catalog.family(needed.package) for _, needed, _ in found))
    routed = any(family.routed for family in families)
    severity: Severity = "warning" if slug == "triton-missing" else "error"
    remedy = reinstall(seen, "torch") if routed else uv_pip(seen, "install", *texts)
    return Diagnosis(slug, severity, message, evidence, (remedy,))


def _unmet(seen: Environment) -> Iterator[_Unmet]:
    """Requirements that do not hold, of torch's family and of whatever asks for torch.

    Requirements of extras are omitted: nothing records whether an extra was asked for.
    """
    versions = {dist.name: dist.version for dist in seen.inventory.dists}
    limits = seen.choice.limits if seen.choice is not None else ()
    # torch's metadata does not name NumPy; the tables know which torch was built for NumPy 1.
    bound = ("numpy<2",) if "numpy" in versions and any(row.slug == "numpy-too-new" for row in limits) else ()
    for dist in seen.inventory.dists:
        family = seen.moves_with_torch(dist.name)
        texts = (*dist.requires, *bound) if dist.name == "torch" else dist.requires
        for needed in filter(None, (_parsed(text, seen) for text in texts)):
            version = versions.get(needed.package)
            if (family or needed.package == "torch") and not (version and needed.bounds.contains(version)):
                yield dist, needed, version


def _parsed(text: str, seen: Environment) -> Requirement | None:
    """The requirement, where it parses and its marker holds here."""
    try:
        found = requirement(text)
        return found if found.holds(seen.target.marker_environment()) else None
    except ValueError:  # of a requirement, a marker, or a name that markers do not have
        return None


def built_for_other_torch(seen: Environment) -> Iterator[Diagnosis]:
    """An extension whose binaries, or whose requirements, are for another torch."""
    if seen.release is None:
        return
    told = {item.name for item, _ in misfits(seen)}
    for dist in seen.inventory.dists:
        if (other := _other_build(seen, dist)) is not None:
            told.add(dist.name)
            yield _foreign(seen, dist, f"is built for {other}")
    for dist, needed, version in _unmet(seen):
        if needed.package == "torch" and version and dist.name not in told:
            yield _foreign(seen, dist, f"needs torch{needed.specifier}")


def _foreign(seen: Environment, dist: Dist, fault: str) -> Diagnosis:
    torch = f"torch {seen.installed('torch')}"
    families = ((item.name, seen.catalog.family(item.name)) for item in seen.inventory.dists)
    own = [name for name, family in families if family is not None and family.own_cuda]
    built = [name for name in own if seen.catalog.companion_builds(name)]
    if dist.name in built:  # all of them choose torch together
        again: tuple[str, ...] = ("torch", *seen.companions, *built)
    elif dist.name in seen.companions:
        again = family_requirements(seen)
    else:
        again = (family_requirements(seen)[0], dist.name, "--", "--upgrade-package", dist.name)
    message = f"{dist.name} {dist.version} {fault}, but {torch} is installed"
    evidence = (torch, *(f"{key}: {value}" for key, value in dist.built_for.items()))
    advice = "or install the torch that it was built for; ask for both in one command"
    return Diagnosis("built-for-other-torch", "error", message, evidence, (auto(seen, *again),), advice)


def _other_build(seen: Environment, dist: Dist) -> str | None:
    """What an extension was built for, where that is not the torch (or its CUDA) that is here."""
    release, local = seen.release or "", (seen.installed("torch") or "").partition("+")[2]
    if (built := dist.built_for.get("torch")) and dist.name != "torch":
        exact, _, built_local = built.partition("+")
        here = release if exact.count(".") > 1 else ".".join(release.split(".")[:2])
        if exact != here or (built_local and local and built_local != local):
            return f"torch {built}"
    build, cuda = seen.build, dist.built_for.get("cuda")
    if dist.name == "bitsandbytes" and cuda and build is not None and build.kind.toolkit == "CUDA":
        here = "".join(str(part) for part in build.toolkit or ())
        if here and here not in cuda.split(","):
            return f"CUDA {cuda.replace(',', ', ')}"
    return None
