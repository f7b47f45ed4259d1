"""What to type against a fault, aimed at the environment that was examined; `--fix` does what is safe."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct

from torchinstall.core.errors import InstallFailedError
from torchinstall.core.files import real_path
from torchinstall.doctor.model import Diagnosis, Environment, Remedy
from torchinstall.install.lock import EnvironmentLock
from torchinstall.install.transaction import change_with_uv


def auto(seen: Environment, *arguments: str) -> Remedy:
    """`torchinstall auto` for this environment."""
    words = ("torchinstall", "auto", *seen.flags, *arguments)
    return Remedy(command=shlex.join(words), argv=words)


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


def next_remedies(found: Iterable[Diagnosis], done: Collection[Remedy]) -> tuple[Remedy, ...]:
    """What `--fix` does next: all that one fault needs, and nothing twice."""
    safe = (
        item.remedies
        for item in found
        if item.severity != "info" and all(remedy.safe and not remedy.first for remedy in item.remedies)
    )
    return next((remedies for remedies in safe if not set(remedies) <= set(done)), ())


class Fixer(Struct, frozen=True, kw_only=True):
    """Does what is safe, in the environment that was examined.

    Attributes:
        env: of the user.
        cwd: where it was typed.
        output: takes what uv prints.
        tell: is told what happens.
        wait: for other runs in this environment.
        torchinstall: runs a command of ours, its arguments given, and returns the exit code.
    """

    env: Mapping[str, str]
    cwd: Path
    output: BinaryIO
    tell: Callable[[str], None]
    wait: bool
    torchinstall: Callable[[tuple[str, ...]], int]

    def apply(self, remedy: Remedy, seen: Environment) -> bool:
        """Do one safe thing; returns whether it succeeded."""
        if remedy.argv[:1] == ("torchinstall",):
            return self.torchinstall(remedy.argv[1:]) == 0
        try:
            with EnvironmentLock(wait=self.wait, tell=self.tell) as lock:
                lock.take(Path(str(seen.target.prefix)))
                for path in map(Path, remedy.remove):
                    if path.is_dir() and not path.is_symlink():
                        shutil.rmtree(path)
                    else:
                        path.unlink(missing_ok=True)
                if remedy.argv:
                    self._run(remedy.argv, seen)
        except (OSError, InstallFailedError) as error:
            self.tell(f"this failed: {error}")
            return False
        return True

    def _run(self, argv: tuple[str, ...], seen: Environment) -> None:
        sites = [real_path(site) for site in dict.fromkeys(dist.site for dist in seen.inventory.dists)]
        change_with_uv(
            argv,
            sites=sites,
            prefix=real_path(str(seen.target.prefix)),
            env=self.env,
            cwd=self.cwd,
            sink=self.output,
            tell=self.tell,
        )
