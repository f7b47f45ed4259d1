"""Make the scene: probe, ask the environment, plan for what is installed, verify."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from torchinstall.doctor.model import Scene

if TYPE_CHECKING:
    from torchinstall.catalog.catalog import Catalog
    from torchinstall.cli.settings import Settings
    from torchinstall.cli.world import World
    from torchinstall.install.verify import Report, Wanted
    from torchinstall.machine import Machine
    from torchinstall.planner.model import Plan
    from torchinstall.request import Request
    from torchinstall.target import Target

__all__ = ["visit"]

_PLACE_FLAGS = (
    "python", "venv", "system", "backend", "channel", "allow_cpu", "prefer_gpu", "machine", "target_driver",
    "target_cuda", "target_gpu", "index_base", "find_links", "offline",
)  # fmt: skip
"""Flags of the doctor that its commands repeat, so that they mean the same place and the same machine."""


def visit(world: World, settings: Settings, *, detail: Callable[[str], None]) -> Scene:
    """Look at everything; nothing is changed, and nothing is fetched.

    Args:
        world: the doors.
        settings: of the verb.
        detail: told what is looked at, for `-v`.

    Raises:
        TorchInstallError: there is no environment, no uv, or a bad flag.
    """
    from torchinstall.cli.request import order_of
    from torchinstall.doctor.inventory import take_inventory
    from torchinstall.doctor.surroundings import look_around
    from torchinstall.install.store import read_decision
    from torchinstall.line import catalog_of
    from torchinstall.where import machine_of, place_of

    catalog = catalog_of(world)
    uv = world.find_uv(world.env)
    machine = machine_of(world, settings)
    target = place_of(world, settings, catalog, uv).target
    detail(f"looking at Python {target.python_version} in {target.prefix} ({target.why})")
    family = [row.package for row in catalog.families]
    python, prefix = str(target.python), str(target.prefix)
    inventory = take_inventory(python, family, env=world.env)
    around = look_around(
        env=world.env, cwd=world.cwd, prefix=prefix, uv=uv.path, packages=_import_names(target)
    )
    request = order_of(settings, world, machine, catalog).request
    catalog = _with_folders(catalog, request)
    scene = Scene(
        machine=machine,
        target=target,
        inventory=inventory,
        surroundings=around,
        catalog=catalog,
        choice=_choice(request, machine, target, catalog),
        free=_plan(request, ("torch",), machine, target, catalog, upgrade=True),
        decision=read_decision(prefix),
        flags=_flags(settings),
        python=(sys.executable, "-m", "torchinstall"),
        uv=uv.path,
    )
    if not settings.on("verify") or scene.installed("torch") is None:
        return scene
    detail("checking that torch computes")
    return dataclasses.replace(scene, report=_verify(scene, world, described=settings.given("machine")))


def _import_names(target: Target) -> tuple[str, ...]:
    names = ["torch", *(item.name.replace("-", "_") for item in target.installed)]
    return tuple(dict.fromkeys(names))


def _choice(request: Request, machine: Machine, target: Target, catalog: Catalog) -> Plan | None:
    """The planner's choice for the release that is installed, with the companions that are installed."""
    torch = next((item for item in target.installed if item.name == "torch"), None)
    if torch is None:
        return None
    rest = [item.name for item in target.installed if item.name != "torch" and _paired(catalog, item.name)]
    return _plan(request, (f"torch=={torch.version.partition('+')[0]}", *rest), machine, target, catalog)


def _paired(catalog: Catalog, package: str) -> bool:
    family = catalog.family(package)
    return family is not None and family.routed and family.pairing != "free"


def _plan(
    request: Request,
    requirements: tuple[str, ...],
    machine: Machine,
    target: Target,
    catalog: Catalog,
    *,
    upgrade: bool = False,
) -> Plan:
    from packaging.requirements import Requirement

    from torchinstall.planner.plan import plan

    asked = dataclasses.replace(
        request,
        requirements=tuple(Requirement(text) for text in requirements),
        constraints=(),
        upgrade=upgrade,
    )
    return plan(asked, machine, target, catalog)


def _with_folders(catalog: Catalog, request: Request) -> Catalog:
    if not request.find_links:
        return catalog
    from torchinstall.catalog.find_links import local_wheels

    wheels, _ = local_wheels(request.find_links)
    return type(catalog)(catalog.tables, local=wheels)


def _verify(scene: Scene, world: World, *, described: bool) -> Report:
    from torchinstall.install.verify import verify

    return verify(str(scene.target.python), _wanted(scene, described=described), env=world.env)


def _wanted(scene: Scene, *, described: bool) -> Wanted:
    """What the installed build promises; a device only where the machine is this one and the build fits."""
    from torchinstall.install.verify import Wanted, wanted_of

    choice = scene.choice
    info = None if scene.backend is None else scene.catalog.backend(scene.backend)
    if choice is None or choice.error is not None or choice.backend != scene.backend:
        return Wanted()
    wanted = wanted_of(dataclasses.replace(choice, packages=()), info)
    return dataclasses.replace(wanted, device=None) if described else wanted


def _flags(settings: Settings) -> tuple[str, ...]:
    """What was typed, as it has to be typed again."""
    words: list[str] = []
    for name in _PLACE_FLAGS:
        if not settings.source(name).startswith("flag "):
            continue
        flag, value = settings.flags[name], settings.values[name]
        if value is True:
            words.append(flag)
        elif isinstance(value, tuple):
            words += [item for one in value for item in (flag, str(one))]
        else:
            words += [flag, str(value)]
    return tuple(words)
