"""Values that a symptom's wording needs and that a table must supply: pure functions over the catalog.

Each takes the captured values, the catalog (None: not at hand), the platform key and the whole text, and
returns the values that it could find out; a value that nobody knows is left out, and the wording that
needs it is then not used.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from torchinstall.core.machine import Capability, Gpu, Machine, Os, capability, capability_text
from torchinstall.core.target import Target
from torchinstall.core.versions import Dotted, dotted, text_of

if TYPE_CHECKING:
    from torchinstall.catalog.catalog import Catalog
    from torchinstall.planner.situation import Situation

__all__ = ["LOOK_UPS", "platform_in"]

LookUp = Callable[[Mapping[str, str], "Catalog | None", str, str], dict[str, str]]

_SM = re.compile(r"(\d+)(\d)[a-z]?$")


def platform_in(plain: str) -> str | None:
    """The platform that a text gives away, as the tables name it; None where it does not."""
    if re.search(r"\[WinError|[A-Z]:\\|win_amd64|\.dll\b", plain):
        return "win_amd64"
    if re.search(r"linux\w*_aarch64|aarch64-linux", plain):
        return "linux_aarch64"
    if re.search(r"/dist-packages/|/site-packages/|linux\w*_x86_64", plain):
        return "linux_x86_64"
    return None


def sm_capability(text: str) -> Capability | None:
    """`sm_120`, `120` or `12.0` as (12, 0)."""
    bare = text.removeprefix("sm_").removeprefix("compute_")
    if "." in bare:
        try:
            return capability(bare)
        except ValueError:
            return None
    match = _SM.match(bare)
    return (int(match[1]), int(match[2])) if match else None


def _capability(
    values: Mapping[str, str], catalog: Catalog | None, platform: str, plain: str
) -> dict[str, str]:
    """Which builds have code for the GPU, and whether it is older or newer than the installed one serves."""
    del plain
    code = sm_capability(values.get("sm") or values.get("capability") or "")
    if code is None:
        return {}
    out = {"capability": capability_text(code)}
    out.update(_direction(code, values))
    if catalog is None:
        return out
    builds = _builds_with_code(catalog, platform, code)
    if not builds:
        return out if _no_rows(catalog, platform) else {**out, "nothing_published": "yes"}
    best = max(builds, key=lambda item: (item[1], item[2]))
    names = sorted({(toolkit, name) for name, _, toolkit in builds})
    out["backend"], out["torch"] = best[0], text_of(best[1])
    out["backends"] = ", ".join(name for _, name in names)
    out["first_torch"] = text_of(min(torch for _, torch, _ in builds))
    return out


def _direction(code: Capability, values: Mapping[str, str]) -> dict[str, str]:
    supported = re.findall(r"(?:sm_|compute_)(\d+[a-z]?)", values.get("supported", ""))
    supported += re.findall(r"- (\d+\.\d+) which", values.get("supported", ""))
    if "minimum" in values:
        supported.append(values["minimum"])
    known = [item for text in supported if (item := sm_capability(text)) is not None]
    if known and code < min(known):
        return {"too_old": "yes"}
    if known and code > max(known):
        return {"too_new": "yes"}
    return {}


def _no_rows(catalog: Catalog, platform: str) -> bool:
    return not any(row.platform == platform for row in catalog.tables.code)


def _builds_with_code(catalog: Catalog, platform: str, code: Capability) -> list[tuple[str, Dotted, Dotted]]:
    """(backend, torch minor, toolkit) of every published CUDA build with native code for a capability."""
    from torchinstall.planner.coverage import cover

    published = _published(catalog, platform)
    gpu = Gpu(vendor="nvidia", compute_capability=code, source="error text")
    bare = _bare_situation(catalog, platform, gpu)
    builds = []
    for row in catalog.tables.code:
        info = catalog.backend(row.backend)
        if row.platform != platform or info is None or info.toolkit is None or info.kind.strategy != "sm":
            continue
        torch = dotted(row.torch)
        if (row.backend, torch[:2]) in published and cover(info, row, gpu, bare).covered:
            builds.append((row.backend, torch, info.toolkit))
    return builds


def _bare_situation(catalog: Catalog, platform: str, gpu: Gpu) -> Situation:
    """A machine of which nothing is known but one GPU: no driver, so that PTX counts for nothing."""
    from torchinstall.core.request import Request
    from torchinstall.planner.situation import Situation

    windows = platform.startswith("win")
    system: Os = "windows" if windows else "linux"
    arch = "aarch64" if platform.endswith(("aarch64", "arm64")) else "x86_64"
    return Situation(
        request=Request(requirements=()),
        machine=Machine(os=system, arch=arch, gpus=(gpu,)),
        target=Target(python_version="3.12", abi="cp312", os=system, arch=arch),
        catalog=catalog,
        gpus=(gpu,),
        drivers={},
        column="windows" if windows else "linux",
        unreadable=(),
        assumptions=(),
        memo={},
    )


def _published(catalog: Catalog, platform: str) -> set[tuple[str, Dotted]]:
    return {
        (row.backend, dotted(row.version)[:2])
        for row in catalog.wheels("torch", platform)
        if row.channel == "stable"
    }


def _driver(values: Mapping[str, str], catalog: Catalog | None, platform: str, plain: str) -> dict[str, str]:
    """What `found version 12080` means, and which builds start on that driver."""
    del plain
    if "found" not in values:
        return {}
    number = int(values["found"])
    spoken: Dotted = (number // 1000, number % 1000 // 10)
    out = {"driver_cuda": text_of(spoken), "cuda_major": str(spoken[0])}
    if catalog is None:
        return out
    toolkits = _living_toolkits(catalog, platform)
    same_major = [item for item in toolkits if item[0][0] == spoken[0]]
    below = [item for item in same_major if item[0] <= spoken]
    if same_major:
        out["backend"] = (max(below) if below else min(same_major))[1]
    above = [toolkit for toolkit, _ in toolkits if toolkit[0] > spoken[0]]
    if above:
        name = next(name for toolkit, name in toolkits if toolkit == min(above))
        info = catalog.backend(name)
        floor = None if info is None else catalog.floor(info)
        out["next_major"] = str(min(above)[0])
        if floor is not None:
            lowest = floor.windows if platform.startswith("win") else floor.linux
            out["next_driver"] = text_of(lowest)
    return out


def _living_toolkits(catalog: Catalog, platform: str) -> list[tuple[Dotted, str]]:
    """(toolkit, backend) of every CUDA backend with a stable torch for a platform."""
    found = {
        (info.toolkit, row.backend)
        for row in catalog.wheels("torch", platform)
        if row.origin != "default"
        and row.channel == "stable"
        and (info := catalog.backend(row.backend)) is not None
        and info.toolkit is not None
        and info.kind.strategy == "sm"
    }
    return sorted(found)


def _cuda_major(
    values: Mapping[str, str], catalog: Catalog | None, platform: str, plain: str
) -> dict[str, str]:
    """The backend of a CUDA major version that carries the newest torch; the highest toolkit on a tie."""
    del plain
    if catalog is None or "major" not in values:
        return {}
    newest: dict[str, Dotted] = {}
    for row in catalog.wheels("torch", platform):
        if row.channel == "stable" and row.origin != "default":
            newest[row.backend] = max(newest.get(row.backend, ()), dotted(row.version))
    fits = [
        (newest[name], toolkit, name)
        for toolkit, name in _living_toolkits(catalog, platform)
        if toolkit[0] == int(values["major"])
    ]
    return {"backend": max(fits)[2]} if fits else {}


def _python_tags(
    values: Mapping[str, str], catalog: Catalog | None, platform: str, plain: str
) -> dict[str, str]:
    """The Python nearest to the one in use among those named as having wheels."""
    del catalog, platform, plain
    tags = [(int(major), int(minor)) for major, minor in re.findall(r"cp(\d)(\d+)", values.get("tags", ""))]
    if not tags or "python" not in values:
        return {}
    wanted = dotted(values["python"])
    older = [tag for tag in tags if tag <= wanted]
    return {"best_python": text_of(max(older) if older else min(tags))}


def _glibc(values: Mapping[str, str], catalog: Catalog | None, platform: str, plain: str) -> dict[str, str]:
    """`2_28` of a wheel's name or `2.27` of the loader's words, as a version."""
    del catalog, platform
    if "glibc" not in values:
        return {}
    out = {"glibc_version": values["glibc"].replace("_", ".")}
    if "GLIBC_" in plain:
        out["not_found"] = "yes"
    return out


LOOK_UPS: Mapping[str, LookUp] = {
    "capability": _capability,
    "driver": _driver,
    "cuda-major": _cuda_major,
    "python-tags": _python_tags,
    "glibc": _glibc,
}
"""By the name that a row's `look_up` gives."""
