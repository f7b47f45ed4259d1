"""What to type against a fault, aimed at the environment that was examined; `--fix` does what is safe."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import BinaryIO

from torchinstall.doctor.model import Diagnosis, Environment, Remedy
from torchinstall.install.backup import load_backup
from torchinstall.install.stream import stream
from torchinstall.install.transaction import restore
from torchinstall.install.uv import uv_env

__all__ = [
    "apply",
    "auto",
    "by_hand",
    "family_requirements",
    "reinstall",
    "remove",
    "safe_remedies",
    "uv_pip",
]


def auto(seen: Environment, *arguments: str) -> Remedy:
    """`torchinstall auto` for this environment."""
    words = [*seen.flags, *arguments]
    return Remedy(command=shlex.join(["torchinstall", "auto", *words]), argv=(*seen.python, "auto", *words))


def family_requirements(seen: Environment) -> tuple[str, ...]:
    """The installed release of torch, and the companions by name.

    Where no build of that release runs here, torch by name only.
    """
    possible = seen.choice is None or seen.choice.error is None
    first = f"torch=={seen.release}" if seen.release is not None and possible else "torch"
    return (first, *seen.companions)


def reinstall(seen: Environment, *packages: str) -> Remedy:
    """The same build again, its files written again."""
    again = [item for name in packages for item in ("--reinstall-package", name)]
    return auto(seen, *family_requirements(seen), "--", *again)


def uv_pip(seen: Environment, action: str, *arguments: str) -> Remedy:
    """`uv pip install` or `uv pip uninstall` in this environment."""
    words = ["pip", action, "--python", seen.target.python or "python", *arguments]
    return Remedy(command=shlex.join(["uv", *words]), argv=(seen.uv, *words))


def remove(seen: Environment, paths: Iterable[str]) -> Remedy:
    """Remove files or folders."""
    gone = tuple(paths)
    tool = "Remove-Item -Recurse" if seen.target.os == "windows" else "rm -r"
    return Remedy(command=f"{tool} {shlex.join(gone)}", remove=gone)


def by_hand(command: str) -> Remedy:
    """Something that `--fix` does not do, because it changes more than this environment."""
    return Remedy(command=command)


def safe_remedies(found: Iterable[Diagnosis]) -> tuple[Remedy, ...]:
    """What `--fix` does, in order, each thing once; nothing for what is merely worth knowing."""
    safe = (
        remedy
        for item in found
        if item.severity != "info" and all(remedy.safe for remedy in item.remedies)
        for remedy in item.remedies
    )
    return tuple(dict.fromkeys(safe))


def apply(
    remedy: Remedy, *, env: Mapping[str, str], cwd: Path, output: BinaryIO, tell: Callable[[str], None]
) -> bool:
    """Do one safe thing; returns whether it succeeded.

    Args:
        remedy: one that is safe.
        env: of the child.
        cwd: where it runs.
        output: takes what the child prints.
        tell: is told what went wrong.
    """
    if remedy.restore is not None:
        return _restore(Path(remedy.restore), tell)
    try:
        for path in map(Path, remedy.remove):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        return not remedy.argv or _run(remedy.argv, env, cwd, output)
    except OSError as error:
        tell(f"this failed: {error}")
        return False


def _run(argv: tuple[str, ...], env: Mapping[str, str], cwd: Path, output: BinaryIO) -> bool:
    """Run uv, or torchinstall, which reads variables that uv must not see."""
    is_uv = Path(argv[0]).stem == "uv"
    done = stream(argv, env=uv_env(env) if is_uv else env, cwd=cwd, sink=output)
    output.write(done.stdout.encode())
    output.flush()
    return done.returncode == 0


def _restore(folder: Path, tell: Callable[[str], None]) -> bool:
    backup = load_backup(folder)
    if backup is None:
        shutil.rmtree(folder, ignore_errors=True)
        tell("the backup is not complete, so it was removed")
        return True
    if backup.finished():
        backup.discard()
        tell("that installation had finished, so its backup was removed")
        return True
    outcome = restore(backup)
    tell(outcome.message)
    return outcome.status != "broken"
