"""Put an environment back after an install that failed half-way.

uv resolves and downloads before it touches an environment, so most failures leave it alone. A full disk, a
file in use or a killed uv can still strike between taking the old files away and putting the new ones in.
`protected` runs the install and, if it fails, looks whether anything is different from before; what is, is
put back from links to the very files (`keep`), or else by uv, offline, from its cache.
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from torchinstall.errors import InstallFailedError
from torchinstall.install.keep import Dist, Snapshot, forget, snapshot
from torchinstall.install.put_back import changed, clear, put_back, strays_of

__all__ = ["Outcome", "Reinstall", "protected", "restore"]

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of the environment after a failure.

    Attributes:
        status: as it was all along, put back, or broken.
        message: one sentence.
        command: what to type where it is broken.
    """

    status: Literal["untouched", "restored", "broken"]
    message: str
    command: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reinstall:
    """How uv can put packages back without a network.

    Attributes:
        uv: path of uv.
        python: interpreter of the environment.
        env: of the child.
        places: arguments that say where packages come from (`--find-links`, `--index` …).
    """

    uv: str
    python: str
    env: Mapping[str, str]
    places: tuple[str, ...] = ()

    def argv(self, dists: Iterable[Dist], *, offline: bool = True) -> list[str]:
        """The command that installs exactly these again, and nothing else."""
        wanted = [dist.requirement for dist in dists]
        names = [item for dist in dists for item in ("--reinstall-package", dist.name)]
        mode = ["--offline"] if offline else []
        head = [self.uv, "pip", "install", "--python", self.python]
        return [*head, *mode, "--no-deps", *names, *self.places, *wanted]


def protected(
    work: Callable[[], Result],
    *,
    sites: Iterable[Path],
    prefix: Path,
    changing: Collection[str] | None = None,
    reinstall: Reinstall | None = None,
    tell: Callable[[str], None] = lambda _text: None,
) -> Result:
    """Run an install so that its failure leaves the environment as it was.

    Args:
        work: runs uv.
        sites: the environment's site-packages folders.
        prefix: the environment.
        changing: names of packages about to change; None: all.
        reinstall: how uv puts packages back where links could not be kept.
        tell: hears, after a failure, what became of the environment.

    Returns:
        What `work` returned.

    Raises:
        InstallFailedError: of `work`, its hints led by what became of the environment.
        BaseException: whatever else `work` raised (Ctrl-C), after putting things back.
    """
    before = snapshot(sites, prefix, changing)
    base = _base_python(prefix)
    try:
        result = work()
    except InstallFailedError as error:
        outcome = restore(before, reinstall, base=base)
        tell(outcome.message)
        hints = (
            f"{outcome.message}: {outcome.command}" if outcome.command else outcome.message,
            *error.hints,
        )
        raise InstallFailedError(
            error.slug, error.message, wanted=error.wanted, found=error.found, hints=hints
        ) from error
    except BaseException:
        tell(restore(before, reinstall).message)
        raise
    forget(before)
    return result


def restore(before: Snapshot, reinstall: Reinstall | None = None, *, base: str | None = None) -> Outcome:
    """Put back what is different from before; the links are given up unless that failed.

    Args:
        before: taken before the install.
        reinstall: how uv does it where there are no links.
        base: the Python that the environment was made with, for making it anew.
    """
    if not all(site.is_dir() for site in before.sites):
        where = shlex.quote(str(before.prefix))
        python = f"--python {shlex.quote(base)} " if base else ""
        return Outcome(
            status="broken",
            message="the environment is gone: its folder was removed during the install",
            command=f"uv venv {python}{where} && torchinstall auto --venv {where}",
        )
    lost = changed(before)
    strays = strays_of(before)
    if not lost and not strays:
        forget(before)
        return Outcome(status="untouched", message="the environment is as it was before")
    problem = put_back(before, lost) if before.links is not None else _by_uv(lost, reinstall)
    if problem is None:
        problem = clear(before, strays)
    names = ", ".join(f"{dist.name} {dist.version}" for dist in lost)
    if problem is not None or changed(before):
        return Outcome(
            status="broken",
            message=f"the environment is broken, and {names or 'it'} could not be put back"
            + (f" ({problem})" if problem else ""),
            command=_again(before, reinstall),
        )
    forget(before)
    return Outcome(
        status="restored",
        message=f"the environment was put back as it was: {names}"
        if names
        else "what was half installed is removed",
    )


def _base_python(prefix: Path) -> str | None:
    """The interpreter that an environment was made with, as its `pyvenv.cfg` tells."""
    try:
        lines = (prefix / "pyvenv.cfg").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    pairs = {name.strip(): value.strip() for name, _, value in (line.partition("=") for line in lines)}
    version = pairs.get("version_info") or pairs.get("version") or ""
    home, short = pairs.get("home"), ".".join(version.split(".")[:2])
    if not home:
        return short or None
    named = (Path(home) / name for name in (f"python{short}", "python3", "python", "python.exe"))
    return next((str(path) for path in named if path.exists()), short or None)


def _by_uv(lost: Collection[Dist], reinstall: Reinstall | None) -> str | None:
    if not lost:
        return None
    if reinstall is None:
        return "its files were not kept"
    done = subprocess.run(
        reinstall.argv(lost),
        env=dict(reinstall.env),
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    return None if done.returncode == 0 else "uv's cache does not hold them"


def _again(before: Snapshot, reinstall: Reinstall | None) -> str:
    """What to type where nothing helped."""
    if reinstall is None:
        return "uv pip install " + shlex.join(dist.requirement for dist in before.kept)
    return shlex.join(["uv", *reinstall.argv(before.kept, offline=False)[1:]])
