"""The two ends that a plan joins: the machine it is for, and the target it is installed into."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from torchinstall.errors import TorchInstallError, UsageError

if TYPE_CHECKING:
    from torchinstall.catalog.catalog import Catalog
    from torchinstall.cli.settings import Settings
    from torchinstall.cli.world import World
    from torchinstall.install.locate import Place
    from torchinstall.install.uv import Uv
    from torchinstall.later import Later
    from torchinstall.machine import Machine
    from torchinstall.target import Target

__all__ = ["find_place", "machine_of", "place_of", "probed", "read_machine", "target_here", "target_planned"]


def probed(world: World, settings: Settings) -> Machine:
    """The machine of `--root`, or this one.

    Raises:
        UsageError: the folder of `--root` is not there.
    """
    from torchinstall.probe import folder_system, probe_machine

    root = settings.text("root")
    return probe_machine(world.system(world.env) if root is None else folder_system(world.path(root)))


def machine_of(world: World, settings: Settings) -> Machine:
    """The machine of `--machine FILE` (`-`: stdin), of `--root`, or this one.

    Raises:
        UsageError: the file cannot be read or is not a machine file, or there is more than one.
    """
    names = settings.texts("machine")
    if len(names) > 1:
        raise UsageError(
            "several-machines",
            "this needs one machine",
            wanted="--machine once",
            found=f"{len(names)} machine files",
            hints=("torchinstall plan --machine A --machine B plans for several",),
        )
    return read_machine(world, names[0]) if names else probed(world, settings)


def read_machine(world: World, name: str) -> Machine:
    """The machine in a file (`-`: stdin).

    Raises:
        UsageError: the file cannot be read or is not a machine file.
    """
    from torchinstall.machine_json import parse_machine

    if name == "-":
        return parse_machine(world.stdin.read(), "stdin")
    path = world.path(name)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            "bad-machine-file",
            f"the machine file {path} cannot be read",
            wanted="the JSON that `torchinstall probe --json` prints",
            found=getattr(error, "strerror", None) or str(error),
            hints=("torchinstall probe --json > machine.json",),
        ) from error
    return parse_machine(text, str(path))


def place_of(world: World, settings: Settings, catalog: Catalog, uv: Uv) -> Place:
    """The environment that the settings name, or the one that is found.

    Raises:
        TargetError: there is none, or it is broken.
    """
    from torchinstall.install.locate import locate

    return locate(
        world.env,
        uv=uv.path,
        family=frozenset(row.package for row in catalog.families),
        python=settings.text("python"),
        venv=settings.text("venv"),
        system=settings.on("system"),
        cwd=world.cwd,
    )


def find_place(world: World, settings: Settings, catalog: Catalog) -> tuple[Place, Uv] | None:
    """The environment and the uv that will serve it; None where a Python was described instead.

    Raises:
        TargetError: there is none, or it is broken.
        ToolMissingError: there is no uv.
    """
    if settings.text("python_version") is not None:
        return None
    uv = world.find_uv(world.env)
    return place_of(world, settings, catalog, uv), uv


def target_here(
    found: Later[tuple[Place, Uv] | None], world: World, settings: Settings, machine: Machine
) -> tuple[Place, Uv, Target]:
    """The environment that will be changed.

    Raises:
        TargetError: there is none, or it must not be changed.
        ToolMissingError: there is no uv.
        UsageError: a machine of another platform was described.
    """
    from torchinstall.install.locate import require_changeable

    there = found.result()
    if there is None:
        raise TypeError("a Python that was only described cannot be installed into")
    place, uv = there
    require_changeable(place, world.env, settings.rest)
    target = place.target
    if _described(settings) and (machine.os, machine.arch) != (target.os, target.arch):
        raise UsageError(
            "machine-elsewhere",
            "what was planned for that machine cannot be installed on this one",
            wanted=f"a machine file for {target.os} on {target.arch}",
            found=f"{machine.os} on {machine.arch} ({settings.source('machine')})",
            hints=("torchinstall plan --machine FILE plans for it",),
        )
    return place, uv, target


def target_planned(
    found: Later[tuple[Place, Uv] | None], world: World, settings: Settings, machine: Machine
) -> tuple[Place | None, Uv | None, Target]:
    """The target of a plan: a Python that was described, else the environment that `auto` would take.

    A machine that was described is not this one. Its own libc decides, nothing is known to be installed on
    it, and where it has another platform only the Python version of the environment here counts.
    """
    from torchinstall.tags import foreign_target, platform_tags

    version = settings.text("python_version")
    try:
        there = found.result()
    except TorchInstallError as error:
        asked = any(settings.given(name) for name in ("python", "venv", "system"))
        if asked or not (_described(settings) or error.slug == "no-environment"):
            raise
        why = f"the Python that runs torchinstall, for want of another: {error.message}"
        return None, None, _foreign(machine, world.python_version, why)
    if there is None:
        return None, None, foreign_target(machine, version or world.python_version)
    place, uv = there
    target = place.target
    if not _described(settings):
        return place, uv, target
    if (machine.os, machine.arch) != (target.os, target.arch):
        why = f"the Python version of {target.prefix}, for the machine that was described"
        return None, None, _foreign(machine, target.python_version, why)
    libc, os_version = machine.libc or target.libc, machine.os_version or target.os_version
    target = dataclasses.replace(
        target,
        libc=libc,
        os_version=os_version,
        platform_tags=platform_tags(target.os, target.arch, libc, os_version),
        installed=(),
    )
    return place, uv, target


def _foreign(machine: Machine, version: str, why: str) -> Target:
    from torchinstall.tags import foreign_target

    return dataclasses.replace(foreign_target(machine, version), why=why)


def _described(settings: Settings) -> bool:
    return bool(settings.texts("machine")) or settings.text("root") is not None
