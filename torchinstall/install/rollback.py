"""What is different from a snapshot, and how it becomes as it was: files only, no uv."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Literal, TypeVar

from msgspec import Struct

from torchinstall.core.errors import InstallFailedError, ToolMissingError
from torchinstall.install.backup import (
    Dist,
    Snapshot,
    distributions,
    forget,
    kept_files,
    normalised,
    snapshot,
)
from torchinstall.install.uv import run_uv

__all__ = [
    "Outcome",
    "Reinstall",
    "changed",
    "clear",
    "finished",
    "protected",
    "put_back",
    "restore",
    "strays_of",
]


def changed(before: Snapshot) -> tuple[Dist, ...]:
    """The kept distributions that are not there any more as they were: another version, or files gone."""
    now = {(dist.site, dist.info) for dist in distributions(before.sites)}
    was = {(dist.site, dist.info) for dist in before.dists}
    successors = {dist.name for dist in distributions(before.sites) if (dist.site, dist.info) not in was}
    return tuple(
        dist
        for number, dist in enumerate(before.kept)
        if (dist.site, dist.info) not in now or dist.name in successors or not _intact(before, number, dist)
    )


def finished(before: Snapshot) -> bool:
    """Whether the install had come to its end: each kept distribution has a whole successor.

    For a run that was killed after uv was done and before the links were given up.
    """
    was = {(dist.site, dist.info) for dist in before.dists}
    successors = {
        dist.name: dist for dist in distributions(before.sites) if (dist.site, dist.info) not in was
    }
    gone = [dist for dist in before.kept if not (dist.site / dist.info).is_dir()]
    return bool(gone) and all(
        dist.name in successors and _whole(successors[dist.name])
        for dist in before.kept
        if dist in gone or dist.name in successors
    )


def _whole(dist: Dist) -> bool:
    names = [name for name in dist.files() if not name.endswith(".pyc")]
    return bool(names) and all((dist.site / name).exists() for name in names)


def _intact(before: Snapshot, number: int, dist: Dist) -> bool:
    if before.links is None:
        return all((dist.site / name).exists() for name in dist.files() if not name.endswith(".pyc"))
    return all(_same(dist.site / name, link) for name, link in kept_files(before.links, number))


def _same(path: Path, link: Path) -> bool:
    try:
        return path.samefile(link) or path.stat().st_size == link.stat().st_size
    except OSError:
        return False


def put_back(before: Snapshot, lost: Collection[Dist]) -> str | None:
    """Take away what came in their place and link the files back; the problem, if there is one."""
    assert before.links is not None  # noqa: S101  # the caller looked
    try:
        names = {item.name for item in lost}
        _remove(before.sites, lambda dist: dist.name in names)
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


def _remove(sites: Iterable[Path], chosen: Callable[[Dist], bool]) -> None:
    """Take distributions away by their own lists, except for files that another one lists too."""
    there = distributions(sites)
    shared = {dist.site / name for dist in there if not chosen(dist) for name in dist.files()}
    for dist in there:
        if chosen(dist):
            for path in {dist.site / name for name in dist.files()} - shared:
                path.unlink(missing_ok=True)
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


def strays_of(before: Snapshot) -> tuple[Path, ...]:
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


def clear(before: Snapshot, strays: Iterable[Path]) -> str | None:
    """Remove what `strays_of` found; the problem, if there is one."""
    wanted = frozenset(strays)
    try:
        _remove(before.sites, lambda dist: dist.site / dist.info in wanted)
        for path in wanted:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    except OSError as error:
        return error.strerror or str(error)
    return None


Result = TypeVar("Result")


class Outcome(Struct, frozen=True, kw_only=True):
    """What became of the environment after a failure.

    Attributes:
        status: as it was all along, put back, or broken.
        message: one sentence.
        command: what to type where it is broken.
    """

    status: Literal["untouched", "restored", "broken"]
    message: str
    command: str | None = None


class Reinstall(Struct, frozen=True, kw_only=True):
    """How uv can put packages back without a network.

    Attributes:
        uv: path of uv.
        python: interpreter of the environment.
        env: of the user.
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
    try:
        done = run_uv(reinstall.argv(lost), env=reinstall.env)
    except ToolMissingError as error:
        return error.message
    return None if done.returncode == 0 else "uv's cache does not hold them"


def _again(before: Snapshot, reinstall: Reinstall | None) -> str:
    """What to type where nothing helped."""
    if reinstall is None:
        return "uv pip install " + shlex.join(dist.requirement for dist in before.kept)
    return shlex.join(["uv", *reinstall.argv(before.kept, offline=False)[1:]])
