"""Whether what is installed is right already, so that nothing has to be downloaded."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from torchinstall.planner.packages import Missing
from torchinstall.planner.rank import coverage_key

if TYPE_CHECKING:
    from torchinstall.planner.judged import Judged
    from torchinstall.planner.model import Package
    from torchinstall.planner.wants import Wants
    from torchinstall.target import Installed, Target

__all__ = ["as_installed", "satisfying"]


def satisfying(accepted: list[Judged], best: Judged, target: Target, wanted: Wants) -> Judged | None:
    """The accepted build that is installed already and serves the GPUs as well as the best one would.

    As with pip and uv, a newer release alone is no reason to change anything; `--upgrade` asks for that.
    """
    installed = {item.name: item for item in target.installed}
    torch = installed.get("torch")
    if torch is None or wanted.direct:
        return None
    for item in accepted:
        build, where = item.case.build, item.case.situation
        if build.torch != _public(torch) or build.backend.name != torch.backend:
            continue
        if coverage_key(item.case.covers, where) != coverage_key(best.case.covers, where):
            return None
        picked = item.case.picks
        if isinstance(picked, Missing):
            return None
        for pick in picked:
            have = installed.get(pick.package)
            if not pick.asked or pick.package == "torch":
                continue
            if have is None or not wanted.allows(pick.package, have.version):
                return None
            if pick.wheels is not None and _public(have) != pick.wheels.version:
                return None
            if have.backend not in (None, build.backend.name):
                return None
        return item
    return None


def as_installed(packages: tuple[Package, ...], target: Target) -> tuple[Package, ...]:
    """The packages pinned as they are installed: a build from PyPI has no local version to ask for."""
    versions = {item.name: item.version for item in target.installed}
    return tuple(
        dataclasses.replace(package, version=versions[package.name]) if package.name in versions else package
        for package in packages
    )


def _public(item: Installed) -> str:
    return item.version.partition("+")[0]
