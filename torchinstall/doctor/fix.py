"""Carry out what the doctor may do by itself, after it was shown."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TextIO

from torchinstall.doctor.model import Diagnosis, Remedy
from torchinstall.install.stream import attach
from torchinstall.install.uv import uv_env

__all__ = ["carry_out", "safe_remedies"]


def safe_remedies(found: Iterable[Diagnosis]) -> tuple[Remedy, ...]:
    """What `--fix` does, in order, each thing once; what is merely worth knowing is left alone."""
    safe = (
        remedy
        for item in found
        if item.severity != "info" and all(remedy.safe for remedy in item.remedies)
        for remedy in item.remedies
    )
    return tuple(dict.fromkeys(safe))


def carry_out(
    remedy: Remedy, *, env: Mapping[str, str], cwd: Path, talk: TextIO, tell: Callable[[str], None]
) -> bool:
    """Do one thing; whether it went well.

    Args:
        remedy: one that is safe.
        env: of the child.
        cwd: where it runs.
        talk: stream for what the child says.
        tell: hears what went wrong.
    """
    if remedy.restore is not None:
        return _restore(Path(remedy.restore), tell)
    try:
        for path in map(Path, remedy.remove):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        if remedy.argv:
            return _run(remedy.argv, env, cwd, talk)
    except OSError as error:
        tell(f"that did not work: {error}")
        return False
    return True


def _run(argv: tuple[str, ...], env: Mapping[str, str], cwd: Path, talk: TextIO) -> bool:
    """Run a command: uv, or torchinstall, which reads variables that uv must not see."""
    is_uv = Path(argv[0]).stem == "uv"
    done = attach(argv, env=uv_env(env) if is_uv else env, cwd=cwd, output=talk)
    return done.returncode == 0


def _restore(folder: Path, tell: Callable[[str], None]) -> bool:
    from torchinstall.install.backup import forget, load_snapshot
    from torchinstall.install.rollback import finished, restore

    taken = load_snapshot(folder)
    if taken is None:
        shutil.rmtree(folder, ignore_errors=True)
        tell("what was kept is not complete, so it is removed")
        return True
    if finished(taken):
        forget(taken)
        tell("that installation had come to its end, so what was kept is removed")
        return True
    outcome = restore(taken)
    tell(outcome.message)
    return outcome.status != "broken"
