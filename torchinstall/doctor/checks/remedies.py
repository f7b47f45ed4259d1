"""What to type: commands that mend, aimed at the environment that the doctor looked at."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from torchinstall.doctor.model import Remedy, Scene

__all__ = ["auto", "by_hand", "family_requirements", "reinstall", "remove", "uv_pip"]


def auto(scene: Scene, *arguments: str) -> Remedy:
    """`torchinstall auto` for the place that the doctor was asked about."""
    words = [*scene.flags, *arguments]
    return Remedy(command=shlex.join(["torchinstall", "auto", *words]), argv=(*scene.python, "auto", *words))


def family_requirements(scene: Scene) -> tuple[str, ...]:
    """What is installed of torch's family, asked for again: torch by its release, the rest to go with it.

    Where no build of that release runs here, torch by name only.
    """
    torch = scene.installed("torch")
    possible = scene.choice is None or scene.choice.error is None
    first = f"torch=={torch.partition('+')[0]}" if torch is not None and possible else "torch"
    rest = [
        item.name
        for item in scene.target.installed
        if item.name != "torch" and (family := scene.catalog.family(item.name)) is not None
        if family.routed and family.pairing != "free"
    ]
    return (first, *dict.fromkeys(rest))


def reinstall(scene: Scene, *packages: str) -> Remedy:
    """The same build again, its files written anew."""
    again = [item for name in packages for item in ("--reinstall-package", name)]
    return auto(scene, *family_requirements(scene), "--", *again)


def uv_pip(scene: Scene, action: str, *arguments: str) -> Remedy:
    """`uv pip install` or `uv pip uninstall` in this environment."""
    python = scene.target.python or "python"
    words = ["pip", action, "--python", python, *arguments]
    return Remedy(command=shlex.join(["uv", *words]), argv=(scene.uv, *words))


def remove(scene: Scene, paths: Iterable[str]) -> Remedy:
    """Remove files or folders."""
    gone = tuple(paths)
    tool = "Remove-Item -Recurse" if scene.target.os == "windows" else "rm -r"
    return Remedy(command=f"{tool} {shlex.join(gone)}", remove=gone)


def by_hand(command: str) -> Remedy:
    """Something that the doctor does not do itself: it reaches beyond the environment."""
    return Remedy(command=command)
