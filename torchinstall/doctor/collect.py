"""Make the environment: probe, ask the environment, plan for what is installed, verify."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import structs

from torchinstall.core.errors import TargetError
from torchinstall.doctor.model import Dist, Environment, Inventory
from torchinstall.install.backup import KEEP_PREFIX

if TYPE_CHECKING:
    from torchinstall.catalog.catalog import Catalog
    from torchinstall.cli.settings import Settings
    from torchinstall.core.machine import Machine
    from torchinstall.core.plan import Plan
    from torchinstall.core.request import Request
    from torchinstall.core.target import Target
    from torchinstall.install.verify import Report, Wanted
    from torchinstall.planning.context import Context

__all__ = ["take_inventory", "visit"]


_PLACE_FLAGS = (
    "python", "venv", "system", "backend", "channel", "allow_cpu", "prefer_gpu", "machine", "target_driver",
    "target_cuda", "target_gpu", "index_base", "find_links", "offline",
)  # fmt: skip
"""Flags of the doctor that its commands repeat, so that they mean the same place and the same machine."""


def visit(context: Context, settings: Settings, *, detail: Callable[[str], None]) -> Environment:
    """Look at everything; nothing is changed, and nothing is fetched.

    Args:
        context: the doors.
        settings: of the verb.
        detail: told what is looked at, for `-v`.

    Raises:
        TorchInstallError: there is no environment, no uv, or a bad flag.
    """
    from torchinstall.doctor.surroundings import look_around
    from torchinstall.install.record import read_decision
    from torchinstall.planning.assemble import catalog_of, machine_of, place_of
    from torchinstall.planning.request import order_of

    catalog = catalog_of(context)
    uv = context.find_uv(context.env)
    machine = machine_of(context, settings)
    target = place_of(context, settings, catalog, uv).target
    detail(f"looking at Python {target.python_version} in {target.prefix} ({target.why})")
    family = [row.package for row in catalog.families]
    python, prefix = str(target.python), str(target.prefix)
    inventory = take_inventory(python, family, env=context.env)
    around = look_around(
        env=context.env, cwd=context.cwd, prefix=prefix, uv=uv.path, packages=_import_names(target)
    )
    request = order_of(settings, context, machine, catalog).request
    catalog = _with_folders(catalog, request)
    seen = Environment(
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
    if not settings.on("verify") or seen.installed("torch") is None:
        return seen
    detail("checking that torch computes")
    return structs.replace(seen, report=_verify(seen, context, described=settings.given("machine")))


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

    from torchinstall.planner.selection import plan

    asked = structs.replace(
        request,
        requirements=tuple(Requirement(text) for text in requirements),
        constraints=(),
        upgrade=upgrade,
    )
    return plan(asked, machine, target, catalog)


def _with_folders(catalog: Catalog, request: Request) -> Catalog:
    if not request.find_links:
        return catalog
    from torchinstall.index.find_links import local_wheels

    wheels, _ = local_wheels(request.find_links)
    return type(catalog)(catalog.tables, local=wheels)


def _verify(seen: Environment, context: Context, *, described: bool) -> Report:
    from torchinstall.install.verify import verify

    return verify(str(seen.target.python), _wanted(seen, described=described), env=context.env)


def _wanted(seen: Environment, *, described: bool) -> Wanted:
    """What the installed build promises; a device only where the machine is this one and the build fits."""
    from torchinstall.install.verify import Wanted, wanted_of

    choice = seen.choice
    info = None if seen.backend is None else seen.catalog.backend(seen.backend)
    if choice is None or choice.error is not None or choice.backend != seen.backend:
        return Wanted()
    wanted = wanted_of(structs.replace(choice, packages=()), info)
    return structs.replace(wanted, device=None) if described else wanted


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


_MARKER = "@torchinstall@"
_DEADLINE = 60.0
"""Seconds; torch alone is a list of ten thousand files, and the filesystem may be a slow network one."""

_LIBRARIES = (r"nvidia-", r"cuda-", r"triton", r"pytorch-triton")
"""Distributions that carry what torch loads, besides torch's own family."""


def take_inventory(
    python: str, family: Iterable[str], *, env: Mapping[str, str], deadline: float = _DEADLINE
) -> Inventory:
    """Run the script in `python`.

    Args:
        python: interpreter of the environment.
        family: names of the packages that move with torch; their files are looked at.
        env: its environment.
        deadline: seconds that it may take.

    Raises:
        TargetError: `environment-unreadable`: it gave no answer.
    """
    script = (Path(__file__).parent / "inventory_script.py").read_text(encoding="utf-8")
    watched = [*(re.escape(name) + "$" for name in sorted(family)), *_LIBRARIES]
    try:
        done = subprocess.run(
            [python, "-I", "-c", script, json.dumps([watched, KEEP_PREFIX])],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=deadline,
            env={**env, "PYTHONIOENCODING": "utf-8"},
            check=False,
            encoding="utf-8",
            errors="replace",
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _unreadable(python, str(error)) from error
    _, marker, text = done.stdout.rpartition(_MARKER)
    if done.returncode != 0 or not marker:
        raise _unreadable(python, (done.stderr.strip().splitlines() or ["no answer"])[-1])
    return _inventory(json.loads(text))


def _inventory(data: dict[str, Any]) -> Inventory:
    return Inventory(
        python=data["python"],
        prefix=data["prefix"],
        sites=tuple(data["sites"]),
        dists=tuple(
            Dist(
                name=row["name"],
                version=row["version"],
                requires=tuple(row["requires"]),
                site=row["site"],
                missing=tuple(row["missing"]),
                altered=tuple(row["altered"]),
                built_for=row["built_for"],
            )
            for row in data["dists"]
        ),
        leftovers=tuple(data["leftovers"]),
        kept=tuple(data["kept"]),
        user_torch=data["user_torch"],
        markers=data["markers"],
    )


def _unreadable(python: str, found: str) -> TargetError:
    return TargetError(
        "environment-unreadable",
        f"what is installed for {python} cannot be read",
        wanted="an answer to one script of the standard library",
        found=found,
        hints=("make the environment anew: uv venv --clear, then torchinstall auto",),
    )
