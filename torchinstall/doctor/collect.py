"""Collect what the checks need: the machine, what is installed, what lies around, what the planner says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import structs

from torchinstall.catalog.catalog import Catalog
from torchinstall.core.errors import TargetError
from torchinstall.core.machine import Machine
from torchinstall.core.plan import Plan
from torchinstall.core.request import Request, requirement
from torchinstall.core.target import Target
from torchinstall.doctor.model import Environment, Inventory
from torchinstall.doctor.surroundings import surroundings
from torchinstall.index.find_links import local_wheels
from torchinstall.install.backup import KEEP_PREFIX
from torchinstall.install.record import read_decision
from torchinstall.install.verify import Wanted, verify, wanted_of
from torchinstall.planner.selection import plan
from torchinstall.planning.assemble import catalog_of, machine_of, place_of
from torchinstall.planning.context import Context
from torchinstall.planning.request import order_of

if TYPE_CHECKING:
    from torchinstall.cli.settings import Settings

__all__ = ["collect", "take_inventory"]

_PLACE_FLAGS = (
    "python", "venv", "system", "backend", "channel", "allow_cpu", "prefer_gpu", "machine", "target_driver",
    "target_cuda", "target_gpu", "index_base", "find_links", "offline",
)  # fmt: skip
"""Flags of the doctor that its commands repeat, so that they mean the same environment and machine."""


def collect(context: Context, settings: Settings, *, detail: Callable[[str], None]) -> Environment:
    """Read everything; nothing is changed, and nothing is fetched.

    Args:
        context: the process's surroundings.
        settings: of the verb.
        detail: told what is read, for `-v`.

    Raises:
        TorchInstallError: there is no environment, no uv, or a bad flag.
    """
    catalog = catalog_of(context)
    uv = context.find_uv(context.env)
    machine = machine_of(context, settings)
    target = place_of(context, settings, catalog, uv).target
    detail(f"examining Python {target.python_version} in {target.prefix} ({target.why})")
    python, prefix = str(target.python), str(target.prefix)
    names = dict.fromkeys(("torch", *(item.name.replace("-", "_") for item in target.installed)))
    request = order_of(settings, context, machine, catalog).request
    if request.find_links:
        catalog = Catalog(catalog.tables, local=local_wheels(request.find_links).wheels)
    seen = Environment(
        machine=machine,
        target=target,
        inventory=take_inventory(python, [row.package for row in catalog.families], env=context.env),
        surroundings=surroundings(
            env=context.env, cwd=context.cwd, prefix=prefix, uv=uv.path, packages=tuple(names)
        ),
        catalog=catalog,
        free=_plan(request, ("torch",), machine, target, catalog, upgrade=True),
        decision=read_decision(prefix),
        flags=_flags(settings),
        python=(sys.executable, "-m", "torchinstall"),
        uv=uv.path,
    )
    if seen.release is None:
        return seen
    same = (f"torch=={seen.release}", *seen.companions)
    seen = structs.replace(seen, choice=_plan(request, same, machine, target, catalog))
    if not settings.on("verify"):
        return seen
    detail("checking that torch computes")
    promised = _promised(seen, described=settings.given("machine"))
    return structs.replace(seen, report=verify(python, promised, env=context.env))


def _plan(
    request: Request,
    texts: tuple[str, ...],
    machine: Machine,
    target: Target,
    catalog: Catalog,
    *,
    upgrade: bool = False,
) -> Plan:
    requirements = tuple(requirement(text) for text in texts)
    asked = structs.replace(request, requirements=requirements, constraints=(), upgrade=upgrade)
    return plan(asked, machine, target, catalog)


def _promised(seen: Environment, *, described: bool) -> Wanted:
    """What the installed build promises; a device only where the machine is this one and the build fits."""
    choice = seen.choice
    info = None if seen.backend is None else seen.catalog.backend(seen.backend)
    if choice is None or choice.error is not None or choice.backend != seen.backend:
        return Wanted()
    promised = wanted_of(structs.replace(choice, packages=()), info)
    return structs.replace(promised, device=None) if described else promised


def _flags(settings: Settings) -> tuple[str, ...]:
    """What was typed, as it has to be typed again."""
    words: list[str] = []
    for name in _PLACE_FLAGS:
        if not settings.source(name).startswith("flag "):
            continue
        flag, value = settings.flags[name], settings.values[name]
        if value is True:
            words.append(flag)
        else:
            for item in value if isinstance(value, tuple) else (value,):
                words += [flag, str(item)]
    return tuple(words)


_MARKER = "@torchinstall@"
_DEADLINE = 60.0
"""Seconds; torch alone is a list of ten thousand files, and the filesystem may be a slow network one."""

_LIBRARIES = (r"nvidia-", r"cuda-", r"triton", r"pytorch-triton")
"""Distributions with libraries that torch loads, besides its own family."""


def take_inventory(
    python: str, family: Iterable[str], *, env: Mapping[str, str], deadline: float = _DEADLINE
) -> Inventory:
    """Run the script in `python`.

    Args:
        python: interpreter of the environment.
        family: names of the packages that move with torch; their files are checked.
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
    return msgspec.json.decode(text, type=Inventory)


def _unreadable(python: str, found: str) -> TargetError:
    return TargetError(
        "environment-unreadable",
        f"the packages installed for {python} cannot be read",
        wanted="an interpreter that runs a script",
        found=found,
        hints=("recreate the environment: uv venv --clear, then torchinstall auto",),
    )
