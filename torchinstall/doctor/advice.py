"""Which command helps in the situation of an error text: what the planner says, or none.

`torchinstall auto` is offered where the planner finds a build that runs in that situation: on the GPU,
driver, system and Python that the text mentions, or here if the text is about the environment here. Otherwise
the commands that change nothing are named.
"""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Literal

from msgspec import Struct

from torchinstall.catalog.catalog import Catalog
from torchinstall.core.errors import UsageError
from torchinstall.core.machine import Driver, Gpu, Machine, capability_text
from torchinstall.core.plan import Plan
from torchinstall.core.request import Request, requirement
from torchinstall.core.target import Target, foreign_target
from torchinstall.core.versions import Dotted, dotted, version_text
from torchinstall.doctor.facts import Mentions
from torchinstall.planner.selection import plan
from torchinstall.planning.gpu_names import declared_gpus


class Here(Struct, frozen=True, kw_only=True):
    """The environment and the machine that a text may be about.

    Attributes:
        flags: `--venv DIR` and the like, so that commands go to the same environment.
        certain: the text comes from this environment, whatever it names.
    """

    machine: Machine
    target: Target
    flags: tuple[str, ...] = ()
    certain: bool = False


class Offer(Struct, frozen=True, kw_only=True):
    """A command to plan.

    Attributes:
        build: `right`: the build that runs; `same`: the installed release again, its files written again;
            `cpu`: a CPU build.
        gpu: the vendor whose GPU must be used by it; None: any build will do.
        packages: what is installed beside torch.
        again: packages whose files are written again.
    """

    build: Literal["right", "same", "cpu"] = "right"
    gpu: Literal["nvidia", "amd", "intel", "apple", "mentioned"] | None = None
    packages: tuple[str, ...] = ()
    again: tuple[str, ...] = ()


class Advice(Struct, frozen=True, kw_only=True):
    """What may be typed, and what is now known of the situation."""

    commands: tuple[str, ...] = ()
    note: str | None = None
    values: Mapping[str, str] = {}


_PYTHON = "3.12"
"""Which Python is meant where the text names none: one that every release since 2.2 has wheels for."""
_EXAMINE = ("torchinstall doctor", "torchinstall plan")
_RELEASED_TOGETHER = frozenset({"torchvision", "torchaudio", "torchcodec"})


def advise(
    offer: Offer,
    values: Mapping[str, str],
    mentions: Mentions,
    catalog: Catalog,
    here: Here | None,
) -> Advice:
    """The command of an offer, if the planner says that it leads to a build that runs."""
    known = here if here is not None and _is_about(mentions, here) else None
    machine, target = _situation(offer, values, mentions, known, catalog)
    facts = _driver(mentions, target, catalog)
    names = _companions(offer, mentions, known)
    installed = mentions.torch or _release(known)
    words: tuple[str, ...] = ("torch", *names)
    made = _plan(offer, words, machine, target, catalog)
    if offer.build == "same" and installed:
        same = (f"torch=={installed.partition('+')[0]}", *names)
        kept = _plan(offer, same, machine, target, catalog)
        words, made = (same, kept) if _runs(kept, offer) else (words, made)
    facts |= _values(made, machine)
    if _runs(made, offer):
        return Advice(commands=(_command(offer, words, names, known),), values=facts)
    newer = foreign_target(machine, _PYTHON)
    if known is None and mentions.python and _runs(_plan(offer, words, machine, newer, catalog), offer):
        again = (f"uv venv --clear --python {_PYTHON}", _command(offer, words, names, known))
        note = f"no build that runs here has wheels for Python {mentions.python}"
        return Advice(commands=again, note=note, values=facts)
    if made.error is None and made.backend == "cpu" and any(gpu.compute_capability for gpu in machine.gpus):
        values = {**facts, "nothing_published": "yes"}
        return Advice(commands=("torchinstall auto --allow-cpu",), values=values)
    reason = None if made.error is None else made.error.message
    return Advice(commands=_EXAMINE, note=reason, values=facts)


def runs_there(command: str, mentions: Mentions, catalog: Catalog, here: Here | None) -> bool:
    """Whether a command may be named: `torchinstall auto` only with a plan in the situation of the text."""
    words = shlex.split(command) if command.startswith("torchinstall auto") else []
    if not words:
        return True
    known = here if here is not None and _is_about(mentions, here) else None
    flags = dict(itertools.pairwise(words))
    names = [word for word in itertools.takewhile(lambda word: word != "--", words[2:]) if word[0] != "-"]
    taken = {flags.get("--backend"), flags.get("--venv"), flags.get("--index-base"), flags.get("--channel")}
    machine, target = _situation(Offer(), {}, mentions, known, catalog)
    try:
        wanted = tuple(requirement(name) for name in names if name not in taken)
    except ValueError:  # what was captured is no requirement
        return False
    asked = Request(
        requirements=wanted or (requirement("torch"),),
        backend=flags.get("--backend", "auto"),
        allow_cpu=True,
    )
    return plan(asked, machine, target, catalog).error is None


def _is_about(mentions: Mentions, here: Here) -> bool:
    """Whether the text comes from the environment here, or names files in it."""
    prefix = here.target.prefix
    return here.certain or (prefix is not None and PurePath(prefix).as_posix() in mentions.prefixes)


def _situation(
    offer: Offer, values: Mapping[str, str], mentions: Mentions, known: Here | None, catalog: Catalog
) -> tuple[Machine, Target]:
    if known is not None:
        return known.machine, known.target
    vendor = offer.gpu if offer.gpu != "mentioned" else mentions.vendor
    system = mentions.os or "linux"
    arch = mentions.arch or ("aarch64" if system == "macos" else "x86_64")
    if system == "macos" and vendor == "nvidia":
        system = "linux"
    gpus = _gpus(mentions, values, catalog) if vendor is not None else ()
    if vendor is not None and not any(gpu.vendor == vendor for gpu in gpus):
        gpus = (Gpu(vendor=vendor, index=0, source="error text"),)
    drivers: tuple[Driver, ...] = ()
    if any(gpu.vendor == "nvidia" for gpu in gpus):
        version, cuda = mentions.driver, mentions.driver_cuda
        drivers = (Driver(vendor="nvidia", version=version, cuda_version=cuda, source="error text"),)
    machine = Machine(
        os=system,
        arch=arch,
        gpus=gpus,
        drivers=drivers,
        environment=mentions.environment,
    )
    return machine, foreign_target(machine, mentions.python or _PYTHON)


def _gpus(mentions: Mentions, values: Mapping[str, str], catalog: Catalog) -> tuple[Gpu, ...]:
    """The GPUs of the text: by their code, else by their name."""
    code = values.get("sm") or values.get("capability")
    own = (code if code is None or "." in code or code.startswith(("sm", "gfx")) else f"sm_{code}",)
    for names in (own, mentions.codes, (mentions.gpu,)):
        try:
            found = declared_gpus(tuple(name for name in names if name), "error text", catalog)
        except UsageError:
            continue
        if found:
            return found
    return ()


def _companions(offer: Offer, mentions: Mentions, known: Here | None) -> tuple[str, ...]:
    """What must stay beside torch: what the text or the environment shows, and what the offer names."""
    there = known.target.installed if known is not None else ()
    names = (*mentions.packages, *(item.name for item in there), *offer.packages)
    return tuple(
        name for name in dict.fromkeys(names) if name in _RELEASED_TOGETHER or name in offer.packages
    )


def _release(known: Here | None) -> str | None:
    there = known.target.installed if known is not None else ()
    return next((item.version for item in there if item.name == "torch"), None)


def _plan(offer: Offer, words: Iterable[str], machine: Machine, target: Target, catalog: Catalog) -> Plan:
    asked = Request(
        requirements=tuple(map(requirement, words)), backend="cpu" if offer.build == "cpu" else "auto"
    )
    return plan(asked, machine, target, catalog)


def _runs(made: Plan, offer: Offer) -> bool:
    """Whether the plan changes something, and what it installs uses the GPU that it must use."""
    if made.error is not None or (made.status == "satisfied" and not offer.again):
        return False
    return offer.gpu is None or any(gpu.covered for gpu in made.gpus) or made.backend not in ("cpu", None)


def _command(offer: Offer, words: tuple[str, ...], names: tuple[str, ...], known: Here | None) -> str:
    parts = ["torchinstall", "auto", *map(shlex.quote, known.flags if known is not None else ())]
    if offer.build == "cpu":
        parts += ["--backend", "cpu"]
    if names not in ((), ("torchvision",)) or words[0] != "torch" or offer.again:
        parts += words
    if offer.again:
        parts.append("--")
        parts += [word for name in offer.again for word in ("--reinstall-package", name)]
    return " ".join(parts)


def _values(made: Plan, machine: Machine) -> dict[str, str]:
    gpu = next(iter(machine.gpus), None)
    code = gpu.compute_capability if gpu is not None else None
    found = {
        "backend": made.backend,
        "new_torch": made.torch.partition("+")[0] if made.torch else None,
        "capability": capability_text(code) if code else None,
        "gfx": gpu.gfx_target if gpu is not None else None,
    }
    return {name: value for name, value in found.items() if value}


def _driver(mentions: Mentions, target: Target, catalog: Catalog) -> dict[str, str]:
    """What the driver of the text supports, and which one the next CUDA major version needs."""
    if mentions.driver_cuda is None:
        return {}
    spoken = dotted(mentions.driver_cuda)
    found = {"driver_cuda": mentions.driver_cuda, "cuda_major": str(spoken[0])}
    newer: list[tuple[Dotted, str]] = []
    for row in catalog.wheels("torch", target.platform):
        info = catalog.backend(row.backend)
        if (
            info is None
            or info.toolkit is None
            or info.kind.vendor != "nvidia"
            or info.toolkit[0] <= spoken[0]
        ):
            continue
        floor = catalog.floor(info)
        if floor is not None:
            newer.append((info.toolkit, floor.windows if target.os == "windows" else floor.linux))
    if newer:
        toolkit, lowest = min(newer)
        found |= {"next_major": version_text(toolkit[:1]), "next_driver": lowest}
    return found
