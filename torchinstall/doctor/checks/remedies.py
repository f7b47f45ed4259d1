"""What to type: commands that mend, aimed at the environment that the doctor looked at."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from torchinstall.doctor.model import Environment, Remedy

__all__ = ["auto", "by_hand", "family_requirements", "reinstall", "remove", "uv_pip"]


def auto(seen: Environment, *arguments: str) -> Remedy:
    """`torchinstall auto` for the place that the doctor was asked about."""
    words = [*seen.flags, *arguments]
    return Remedy(command=shlex.join(["torchinstall", "auto", *words]), argv=(*seen.python, "auto", *words))


def family_requirements(seen: Environment) -> tuple[str, ...]:
    """What is installed of torch's family, asked for again: torch by its release, the rest to go with it.

    Where no build of that release runs here, torch by name only.
    """
    torch = seen.installed("torch")
    possible = seen.choice is None or seen.choice.error is None
    first = f"torch=={torch.partition('+')[0]}" if torch is not None and possible else "torch"
    rest = [
        item.name
        for item in seen.target.installed
        if item.name != "torch" and (family := seen.catalog.family(item.name)) is not None
        if family.routed and family.pairing != "free"
    ]
    return (first, *dict.fromkeys(rest))


def reinstall(seen: Environment, *packages: str) -> Remedy:
    """The same build again, its files written anew."""
    again = [item for name in packages for item in ("--reinstall-package", name)]
    return auto(seen, *family_requirements(seen), "--", *again)


def uv_pip(seen: Environment, action: str, *arguments: str) -> Remedy:
    """`uv pip install` or `uv pip uninstall` in this environment."""
    python = seen.target.python or "python"
    words = ["pip", action, "--python", python, *arguments]
    return Remedy(command=shlex.join(["uv", *words]), argv=(seen.uv, *words))


def remove(seen: Environment, paths: Iterable[str]) -> Remedy:
    """Remove files or folders."""
    gone = tuple(paths)
    tool = "Remove-Item -Recurse" if seen.target.os == "windows" else "rm -r"
    return Remedy(command=f"{tool} {shlex.join(gone)}", remove=gone)


def by_hand(command: str) -> Remedy:
    """Something that the doctor does not do itself: it reaches beyond the environment."""
    return Remedy(command=command)
