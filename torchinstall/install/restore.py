"""Put an environment back after an install that failed half-way.

uv resolves and downloads before it touches an environment, so most failures leave it alone. A full disk, a
file in use or a killed uv can still strike between taking the old files away and putting the new ones in.
`protected` runs the install and, if it fails, looks whether anything is different from before; what is, is
put back from links to the very files (`keep`), or else by uv, offline, from its cache.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, TypeVar

from torchinstall.errors import InstallFailedError
from torchinstall.install.keep import Dist, Snapshot, distributions, kept_files, normalised, snapshot

__all__ = ["Outcome", "Reinstall", "changed", "forget", "protected", "restore"]

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
        return [
            self.uv, "pip", "install", "--python", self.python, *mode, "--no-deps", *names, *self.places, *wanted
        ]  # fmt: skip


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
    try:
        result = work()
    except InstallFailedError as error:
        outcome = restore(before, reinstall)
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


def changed(before: Snapshot) -> tuple[Dist, ...]:
    """The kept distributions that are not there any more as they were: other version, or files gone."""
    now = {(dist.site, dist.info) for dist in distributions(before.sites)}
    other = {dist.name for dist in distributions(before.sites)} - {dist.name for dist in before.dists}
    del other
    found = []
    for number, dist in enumerate(before.kept):
        if (dist.site, dist.info) not in now or not _intact(before, number, dist):
            found.append(dist)
    return tuple(found)


def _intact(before: Snapshot, number: int, dist: Dist) -> bool:
    if before.links is None:
        return all((dist.site / name).exists() for name in dist.files() if not name.endswith(".pyc"))
    return all(_same(dist.site / name, link) for name, link in kept_files(before.links, number))


def _same(path: Path, link: Path) -> bool:
    try:
        return path.samefile(link) or path.stat().st_size == link.stat().st_size
    except OSError:
        return False


def restore(before: Snapshot, reinstall: Reinstall | None = None) -> Outcome:
    """Put back what is different from before; the links are given up unless that failed.

    Args:
        before: taken before the install.
        reinstall: how uv does it where there are no links.
    """
    if not all(site.is_dir() for site in before.sites) or not before.sites:
        return Outcome(
            status="broken",
            message="the environment is gone: its folder was removed during the install",
            command=_again(before, reinstall),
        )
    lost = changed(before)
    strays = _strays(before)
    if not lost and not strays:
        forget(before)
        return Outcome(status="untouched", message="the environment is as it was before")
    problem = _put_back(before, lost) if before.links is not None else _by_uv(lost, reinstall)
    if problem is None:
        problem = _clear(before, strays)
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


def forget(before: Snapshot) -> None:
    """Give up the links."""
    if before.links is not None:
        shutil.rmtree(before.links, ignore_errors=True)


def _put_back(before: Snapshot, lost: Collection[Dist]) -> str | None:
    """Take away what came in their place and link the files back; the problem, if there is one."""
    assert before.links is not None  # noqa: S101  # the caller looked
    try:
        for dist in distributions(before.sites):
            if dist.name in {item.name for item in lost}:
                _remove(dist)
        for number, dist in enumerate(before.kept):
            if dist not in lost:
                continue
            wanted = dict(kept_files(before.links, number))
            _sweep(dist, wanted, before)
            for name, link in wanted.items():
                place = dist.site / name
                place.parent.mkdir(parents=True, exist_ok=True)
                place.unlink(missing_ok=True)
                os.link(link, place)
    except OSError as error:
        return error.strerror or str(error)
    return None


def _remove(dist: Dist) -> None:
    """Take a distribution away by its own list, then its metadata."""
    for name in dist.files():
        (dist.site / name).unlink(missing_ok=True)
    shutil.rmtree(dist.site / dist.info, ignore_errors=True)


def _sweep(dist: Dist, wanted: Collection[str], before: Snapshot) -> None:
    """Remove files of a half-installed successor from the folders that belong to this distribution alone."""
    others = {
        _top(name)
        for other in distributions(before.sites)
        if other.name != dist.name and other.site == dist.site
        for name in other.files()
    }
    for top in {_top(name) for name in wanted if not name.startswith("../")} - others:
        folder = dist.site / top
        for path, _, names in os.walk(folder) if folder.is_dir() else ():
            for name in names:
                file = Path(path, name)
                if file.relative_to(dist.site).as_posix() not in wanted:
                    file.unlink(missing_ok=True)


def _top(name: str) -> str:
    """The folder that a file belongs to; two levels below the namespace that NVIDIA's packages share."""
    parts = PurePosixPath(name).parts
    return "/".join(parts[:2]) if parts[0] == "nvidia" and len(parts) > 2 else parts[0]


def _strays(before: Snapshot) -> tuple[Path, ...]:
    """What a package that was not there before has left: its metadata and the folders of its name."""
    there = {dist.name for dist in before.dists}
    new = before.changing - there
    found = []
    for site, names in zip(before.sites, before.entries, strict=True):
        for entry in sorted(os.scandir(site), key=lambda item: item.name):
            stem = entry.name.removesuffix(".libs").removesuffix(".dist-info").removesuffix(".py")
            name = normalised(stem.partition("-")[0] if entry.name.endswith(".dist-info") else stem)
            if entry.name not in names and name in new:
                found.append(Path(entry.path))
    return tuple(found)


def _clear(before: Snapshot, strays: Iterable[Path]) -> str | None:
    for dist in distributions(before.sites):
        if dist.site / dist.info in strays:
            _remove(dist)
    try:
        for path in strays:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    except OSError as error:
        return error.strerror or str(error)
    return None


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
