"""Let uv lock a project, read which build each platform gets, and verify that it is the right one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from torchinstall.catalog.catalog import Catalog
from torchinstall.catalog.tables import platform_of
from torchinstall.core.errors import InstallFailedError, VerifyFailedError
from torchinstall.core.files import MOST_BYTES_OF_TOOLS, read_text
from torchinstall.core.messages import Message
from torchinstall.core.request import canonical_name
from torchinstall.install.uv import install_failure, run_uv
from torchinstall.project.files import loads
from torchinstall.project.model import ALWAYS, Entries, Route, Scope, holds, marker_environment
from torchinstall.project.pyproject import ProjectView, same_url

_EXTRA = re.compile(r"extra\s*(==|!=)\s*'([^']*)'")

_TELLING = 12
"""Lines of uv's output that an error quotes; it explains a failure at the end."""

_MISSING_PLATFORM = (
    r"has no wheels with a matching platform tag",
    r"no `[^`]+`-compatible wheels",
    r"required.environments?",
)
"""uv's words for a platform that the lock must serve and that a package has no wheel for."""

_UNREACHABLE = (
    "check the network, HTTPS_PROXY and --index-base",
    "add --no-lock to write the entries now, and lock where the index can be reached: uv lock",
)
_HINTS = dict.fromkeys(("index-unreachable", "offline"), _UNREACHABLE)
"""Slug of a failure -> what to do about it in a project."""

_KINDS = ("extra", "group")

_Row = Mapping[str, Any]
"""A `[[package]]`, or an edge to one: its name, perhaps version, source, marker and extras."""


def lock_project(
    uv: str, directory: Path, env: Mapping[str, str], *, offline: bool = False, script: Path | None = None
) -> None:
    """Run `uv lock` in a project, or resolve a script.

    Raises:
        InstallFailedError: `lock-failed`, with uv's own words and the hint that follows from them.
        ToolMissingError: `uv-broken`.
    """
    argv = [uv, "lock", "--color", "never", *(["--offline"] if offline else [])]
    if script is not None:
        locked = script.with_name(script.name + ".lock").is_file()
        argv += ["--script", str(script), *([] if locked else ["--dry-run"])]
    # The caller wants a new lock, whatever the user's variables say about the one that is there.
    changes = (("UV_FROZEN", None), ("UV_LOCKED", None))
    done = run_uv(argv, env=env, project=True, changes=changes, cwd=directory)
    if done.returncode == 0:
        return
    why, words = install_failure(done, "lock the project", project=True), " ".join(done.stderr.split())
    hints = _HINTS.get(why.slug, why.hints)
    if any(re.search(row, words) for row in _MISSING_PLATFORM):
        hints = ("require fewer platforms: --require-platform linux_x86_64",)
    raise InstallFailedError(
        "lock-failed",
        "uv cannot resolve the project with these entries, so nothing was changed",
        wanted="a lock for every platform" if script is None else "versions that fit together",
        found=_told(done.stderr, why.found or done.ending),
        hints=(*hints, "see the entries without locking: torchinstall configure --dry-run"),
    )


def _told(said: str, telling: str) -> str:
    """The telling line first, then the end of uv's words."""
    lines = [line for line in said.splitlines() if line.strip()]
    rest = [line for line in lines if telling not in line and not line.startswith("Using CPython")]
    return "\n".join([telling, *rest[-_TELLING:]])


def read_lock(path: Path, name: str) -> Lockfile | None:
    """The lock in a file; None where there is none, or one that does not parse."""
    try:
        data = loads(read_text(path, MOST_BYTES_OF_TOOLS))
    except (OSError, ValueError):
        return None
    return Lockfile(data, name) if data is not None else None


class Locked(Struct, frozen=True, kw_only=True):
    """One package that a platform gets.

    Attributes:
        url: the index, or the wheel that is named by its URL; None where it comes from a folder or git.
        platforms: platform keys that it has wheels for (`any` for pure ones).
    """

    version: str
    url: str | None
    platforms: frozenset[str]
    sdist: bool = False

    def serves(self, platform: str) -> bool:
        """Whether something can be installed on the platform."""
        return self.sdist or "any" in self.platforms or platform in self.platforms


class Lockfile:
    """A parsed lock; `name` is the project's own: the lock holds all members and their dependencies."""

    def __init__(self, data: Mapping[str, Any], name: str) -> None:
        self.packages: list[_Row] = list(data.get("package", []))
        self.name = canonical_name(name)
        local = ("virtual", "editable", "directory")
        mine = [row for row in self.packages if any(key in row.get("source", {}) for key in local)]
        only = mine[0] if len(mine) == 1 else {}
        self._root: _Row = next((row for row in mine if row["name"] == self.name), only)

    def folders(self) -> tuple[str, ...]:
        """The folders and files of this machine that packages come from, relative to the lock."""
        sources = [row.get("source", {}) for row in self.packages]
        kinds = ("directory", "editable", "virtual", "path")
        return tuple(str(source[kind]) for source in sources for kind in kinds if kind in source)

    def transitive(self) -> frozenset[str]:
        """Packages that the project may need, with any extra or group, and requires nowhere itself."""
        direct = frozenset(str(edge["name"]) for edge in _edges(self._root))
        todo, found = list(direct), set(direct)
        while todo:
            rows = (row for row in self.packages if row["name"] == todo[-1])
            needed = {str(edge["name"]) for row in rows for edge in _edges(row)} - found
            todo = [*todo[:-1], *needed]
            found |= needed
        return frozenset(found - direct)

    def tree(self, platform: str, python: str, scopes: tuple[Scope, ...] = ()) -> dict[str, Locked]:
        """What is installed on a platform with these extras and groups (default groups too), by name."""
        environment = marker_environment(platform, python)
        # How uv writes a conflicting extra or group into markers: `extra-4-name-cu128`, 4 for `name`.
        active = {f"{kind}-{len(self.name)}-{self.name}-{name}" for kind, name in (s.key for s in scopes)}
        found: dict[str, Locked] = {}
        seen: set[tuple[str, str, str]] = set()
        todo = list(_edges(self._root, scopes))
        while todo:
            edge = todo.pop()
            if not _holds(str(edge.get("marker", "")), environment, active):
                continue
            for row in self._rows(edge):
                for extra in ("", *map(str, edge.get("extra", ()))):
                    key = (str(row["name"]), str(row.get("version")), extra)
                    if key not in seen:
                        seen.add(key)
                        found[key[0]] = _locked(row)
                        more = row.get("optional-dependencies", {}).get(extra, ())
                        todo += more if extra else row.get("dependencies", ())
        return found

    def _rows(self, edge: _Row) -> Iterator[_Row]:
        """The packages that an edge may mean; it names version and source only where there are several."""
        keys = [key for key in ("name", "version", "source") if key in edge]
        return (row for row in self.packages if all(row.get(key) == edge[key] for key in keys))


def _edges(row: _Row, scopes: tuple[Scope, ...] | None = None) -> Iterator[_Row]:
    """What a package requires itself and with these extras and groups; None: with all that it has."""
    yield from row.get("dependencies", ())
    active = scopes and {scope.key for scope in scopes}
    for kind, key in zip(_KINDS, ("optional-dependencies", "dev-dependencies"), strict=True):
        for name, edges in row.get(key, {}).items():
            if active is None or (kind, name) in active:
                yield from edges


def _holds(marker: str, environment: dict[str, str], active: set[str]) -> bool:
    """Whether a marker of the lock holds; uv's conflict markers compare `extra` with each active one."""

    def fixed(match: re.Match[str]) -> str:
        true = (match[2] in active) == (match[1] == "==")
        return f"sys_platform {'==' if true else '!='} '{environment['sys_platform']}'"

    return holds(_EXTRA.sub(fixed, marker), environment)


def _locked(row: _Row) -> Locked:
    source = row.get("source", {})
    wheels = row.get("wheels", ())
    names = [str(item.get("url") or item.get("filename") or item.get("path", "")) for item in wheels]
    tags = [name.rpartition("/")[2].removesuffix(".whl").rpartition("-")[2] for name in names]
    platforms = {platform_of(part) for tag in tags for part in (tag, *tag.split("."))}
    return Locked(
        version=str(row.get("version", "")),
        url=source.get("registry") or source.get("url"),
        platforms=frozenset(platform for platform in platforms if platform),
        sdist="sdist" in row,
    )


class LockedBuild(Struct, frozen=True, kw_only=True):
    """What one platform gets of one package when one extra or group (or none) is active.

    Attributes:
        python: the version for which it does, where that makes a difference; else empty.
        wanted: the index that was meant; None: the default index.
        locked: what the lock has; None: nothing.
    """

    package: str
    platform: str
    python: str
    scope: Scope
    wanted: str | None
    locked: Locked | None

    @property
    def installable(self) -> Locked | None:
        """What the lock has, where it has a file for the platform."""
        return self.locked if self.locked is not None and self.locked.serves(self.platform) else None


def verify_lock(
    lock: Lockfile, entries: Entries, view: ProjectView, catalog: Catalog, kept: tuple[Route, ...] = ()
) -> tuple[LockedBuild, ...]:
    """Every routed package at every point, for every choice that the project offers.

    What is not required directly at a point has no source there (uv ignores it), so nothing is meant for it.
    What only a backend's torch needs follows torch. Where the locked build of a choice that a person made
    (`kept`) has no file, that is theirs to say.

    Raises:
        VerifyFailedError: `lock-wrong-build`: it is not what was meant.
    """
    found, wrong = [], []
    urls = tuple(item.url for item in entries.routes)
    packages = [name for name in entries.packages if not (row := catalog.family(name)) or not row.runtime_of]
    for scope in dict.fromkeys(item.scope for item in entries.routes) or (ALWAYS,):
        groups = [name for name in view.default_groups if name not in view.rival_groups(scope)]
        active = (*(Scope("group", name) for name in groups), *(() if scope == ALWAYS else (scope,)))
        asking = tuple(item.key for item in (scope, *active, ALWAYS))
        for platform, python, shown in _points_to_try(entries, view):
            tree = lock.tree(platform, python, active)
            for package in packages:
                here = [item for item in entries.choices if (platform, python) in item.points]
                mine = [item for item in here if item.package == package and item.scope.key in asking]
                choice = min(mine, key=lambda item: asking.index(item.scope.key), default=None)
                locked = tree.get(package)
                known = urls
                if choice and (platform, python) not in view.required_at(package, choice.scope):
                    # Its source does not count there, but what counts elsewhere may decide for all.
                    known, choice = tuple(url for url in urls if url != choice.url), None
                own = choice and any((row.url, row.scope) == (choice.url, choice.scope) for row in kept)
                if own and locked and not locked.serves(platform):
                    continue
                wanted = choice.url if choice is not None else None
                build = LockedBuild(
                    package=package,
                    platform=platform,
                    python=shown,
                    scope=scope,
                    wanted=wanted,
                    locked=locked,
                )
                found.append(build)
                wrong += [] if _is_right(build, known) else [build]
    if wrong:
        raise _wrong_build(wrong)
    return tuple(found)


def _points_to_try(entries: Entries, view: ProjectView) -> Iterator[tuple[str, str, str]]:
    """Platform, Python, and what to call it; one Python stands for all for which the same choices hold."""
    alike: dict[tuple[frozenset[str], ...], str] = {}
    for python in view.versions:
        key = tuple(frozenset(there for there, at in item.points if at == python) for item in entries.choices)
        alike.setdefault(key, python)
    for platform in view.platforms:
        for python in alike.values():
            yield platform, python, python if len(alike) > 1 else ""


def _is_right(build: LockedBuild, known: tuple[str, ...]) -> bool:
    """Whether it comes from where it was meant to; uv sees to it that required platforms have files."""
    if build.locked is None:
        return True
    url = build.locked.url
    if build.wanted is not None:
        return url is not None and same_url(url, build.wanted.partition("#")[0])
    return url is None or not any(same_url(url, index) for index in known)


def _wrong_build(wrong: list[LockedBuild]) -> VerifyFailedError:
    rows = []
    for build in wrong[:6]:
        got = f"{build.locked.version} from {build.locked.url}" if build.locked else "nothing"
        choice = f" with {build.scope.text}" if build.scope != ALWAYS else ""
        choice += f" with Python {build.python}" if build.python else ""
        rows.append(f"{build.package} on {build.platform}{choice}: {got}")
    first = wrong[0]
    return VerifyFailedError(
        "lock-wrong-build",
        "uv's lock has another build than the layout asks for, so nothing was changed",
        wanted=f"{first.package} on {first.platform} from {first.wanted or 'the default index'}",
        found="\n".join(rows),
        hints=(
            "torchinstall configure --dry-run shows the entries",
            "entries of your own in [tool.uv] (environments, sources, index) may be in the way",
        ),
    )


def uv_command_notes(
    builds: tuple[LockedBuild, ...], entries: Entries, view: ProjectView, catalog: Catalog
) -> Iterator[Message]:
    """Where a later `uv add`, `uv sync` or `uv run` would take another build, or finds none."""
    if lacking := {item.platform: item for item in builds if item.locked and not item.installable}:
        rows = (
            f"{name} ({item.package} {item.locked.version})" for name, item in lacking.items() if item.locked
        )
        message = f"nothing in uv.lock can be installed on {', '.join(rows)}; to have it resolved for a "
        message += "platform too, name each one that you need: --require-platform " + next(iter(lacking))
        yield Message(slug="platform-without-file", message=message)
    scopes = [item.scope for item in entries.routes if item.package == "torch"]
    names = {kind: [scope.name for scope in scopes if scope.kind == kind] for kind in _KINDS}
    defaults = {canonical_name(name) for name in view.default_groups}
    active = [name for name in names["group"] if canonical_name(name) in defaults]
    use = "use `torchinstall run -- …` and `torchinstall sync`"
    if names["extra"]:
        message = "`uv run`, `uv sync` and `uv add` without `--extra` take the default index's torch, or "
        message += f"none; {use}, or `--extra {names['extra'][-1]}` each time, or the layout groups"
        yield Message(slug="bare-uv-run-drops-extra", message=message)
    if active:
        message = f"`uv run`, `uv sync` and `uv add` take the group {active[0]} on every machine; on one "
        yield Message(slug="default-group", message=f"{message}that needs another, {use}")
    elif names["group"]:
        message = f"no backend's group is in default-groups, so `uv run` and `uv sync` install none; {use}"
        yield Message(slug="bare-uv-run-drops-group", message=message)
    torch = (build.locked for build in builds if build.package == "torch" and build.locked is not None)
    releases = {locked.version.partition("+")[0] for locked in torch}
    unrouted = sorted(
        row.package
        for row in catalog.families
        if row.routed_when_asked and row.package not in entries.packages
        if any(catalog.companion(release, row.package) for release in releases)
    )
    if unrouted:
        message = f"a later `uv add` of {', '.join(unrouted)} takes it from the default index; run "
        message += "`torchinstall configure` again after it"
        yield Message(slug="later-companions", message=message)
