"""The one line of data that every verb is a prefix of: machine, target, catalog, plan, command."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchinstall.errors import UsageError

if TYPE_CHECKING:
    from torchinstall.cli.settings import Settings
    from torchinstall.cli.world import World
    from torchinstall.machine import Machine

__all__ = ["machine_of", "probed"]


def probed(world: World, settings: Settings) -> Machine:
    """The machine of `--root`, or this one.

    Raises:
        UsageError: the folder of `--root` is not there.
    """
    from torchinstall.probe import folder_system, probe_machine

    root = settings.text("root")
    if root is None:
        return probe_machine(world.system(world.env))
    folder = world.path(root)
    if not folder.is_dir():
        raise UsageError(
            "bad-root",
            f"there is no machine folder at {folder}",
            wanted="a folder with etc, proc and sys below it",
            found="no such folder",
        )
    return probe_machine(folder_system(folder))


def machine_of(world: World, settings: Settings) -> Machine:
    """The machine of `--machine FILE` (`-`: stdin), of `--root`, or this one.

    Raises:
        UsageError: the file cannot be read or is not a machine file.
    """
    from torchinstall.machine import parse_machine

    name = settings.text("machine")
    if name is None:
        return probed(world, settings)
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
