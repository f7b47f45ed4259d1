"""Every start of uv: find it, check its version, choose its environment, run it, explain its failures."""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from msgspec import Struct

from torchinstall.core.decoding import own_data
from torchinstall.core.errors import InstallFailedError, ToolMissingError
from torchinstall.core.files import parse_toml, read_text, upward, user_path
from torchinstall.core.versions import at_least, dotted, dotted_or_none
from torchinstall.install.distributions import distributions

if TYPE_CHECKING:
    from torchinstall.core.processes import Completed

UV_FLOOR = "0.13"
"""The oldest uv with all that we use: JSON output of `uv pip install`, flat and explicit indexes.

`pyproject.toml` names the same floor; a test compares the two.
"""

UNDOES_SOURCES = ("UV_TORCH_BACKEND", "UV_NO_SOURCES", "UV_NO_SOURCES_PACKAGE")
"""Variables that make uv ignore the index that a package is pinned to."""

_UNREADABLE = ("UV_NO_INSTALLER_METADATA",)
"""Variables that make uv leave out what tells a whole package from one that was cut off."""

_OTHER_PROJECT = ("UV_PROJECT", "UV_NO_PROJECT", "UV_WORKING_DIR")
"""Variables that make uv work on another project than the one that it is started for."""

_VERSION_TIMEOUT = 10.0
_BESIDE = "beside torchinstall"
_NAMED = "TORCHINSTALL_UV"
_NAME_ANOTHER = ("unset TORCHINSTALL_UV, or set it to the path of a uv",)
_HOW_TO_GET_UV = ("uv pip install --upgrade 'uv>=" + UV_FLOOR + "'", "python -m pip install --upgrade uv")


class Uv(Struct, frozen=True, kw_only=True):
    """A uv that runs; `source` is how it was found: `TORCHINSTALL_UV`, `beside torchinstall`, `PATH`."""

    path: str
    version: str
    source: str


def uv_beside_us() -> str | None:
    """The uv that was installed together with us (the package `uv` carries the program)."""
    try:
        return str(importlib.import_module("uv").find_uv_bin())
    except (ImportError, FileNotFoundError):
        return None


def recorded_version(path: str) -> str | None:
    """The version of the uv that was installed together with us, as its package's metadata has it.

    None where `path` is not that package's program, or the package is not whole: such a uv must show that it
    runs, which costs a process.
    """
    try:
        site = Path(str(importlib.import_module("uv").__file__)).parents[1]
    except ImportError:
        return None
    ours = (dist for dist in distributions((site,), {"uv"}) if Path(path) in dist.files())
    return next((dist.version for dist in ours if not any(dist.faults()) and os.access(path, os.X_OK)), None)


def find_uv(
    env: Mapping[str, str],
    *,
    beside: Callable[[], str | None] = uv_beside_us,
    timeout: float = _VERSION_TIMEOUT,
) -> Uv:
    """Find uv: the one named by `TORCHINSTALL_UV`, else beside the running interpreter, else on PATH.

    One that is too old, broken or slower than `timeout` to say its version is passed over where another may
    do, but never one that was named.

    Raises:
        ToolMissingError: `uv-not-found`, `uv-too-old` or `uv-broken`.
    """
    named = env.get(_NAMED)
    places = [(beside(), _BESIDE), (_which("uv", env), "PATH")]
    if named:
        places = [(_which(named, env), _NAMED)]
    problems: list[ToolMissingError] = []
    for path, source in places:
        if path is not None:
            try:
                return _checked(path, source, env, timeout)
            except ToolMissingError as error:
                problems.append(error)
    if problems:
        raise problems[0]
    raise ToolMissingError(
        "uv-not-found",
        f"there is no uv at {named}" if named else "uv was not found beside torchinstall or on PATH",
        wanted=f"uv {UV_FLOOR} or newer",
        found=f"{named} (from TORCHINSTALL_UV)" if named else None,
        hints=_NAME_ANOTHER if named else _HOW_TO_GET_UV,
    )


def own_default_index(uv: Uv, env: Mapping[str, str]) -> str:
    """The index that uv takes packages from where nothing names another, as its help says it (PyPI).

    Raises:
        ToolMissingError: `uv-broken`: it does not say so.
    """
    argv = [uv.path, "pip", "install", "--help"]
    done = run_uv(argv, env=env, changes=(("NO_COLOR", "1"),), timeout=_VERSION_TIMEOUT)
    found = re.search(r"default package index\s+\(by\s+default:\s+<([^>\s]+)>\)", done.stdout)
    if found is None:
        raise _broken(uv.path, "its help does not say which index it takes packages from")
    return found[1]


def uv_cache(uv: str, env: Mapping[str, str], cwd: Path, named: Sequence[str] = ()) -> Path | None:
    """Uv's cache: what its arguments name, else its variable or what it says itself; None: it says nothing.

    Raises:
        ToolMissingError: `uv-broken`.
    """
    place = next(filter(None, (*named, env.get("UV_CACHE_DIR"))), None)
    if place is None:
        place = run_uv([uv, "cache", "dir"], env=env, cwd=cwd, timeout=_VERSION_TIMEOUT).stdout.strip()
    return user_path(cwd, place) if place else None


def _which(name: str, env: Mapping[str, str]) -> str | None:
    """As `shutil.which`, whose module brings every compression library with it."""
    names = [name] if sys.platform != "win32" else [name, f"{name}.exe", f"{name}.bat", f"{name}.cmd"]
    folders = [""] if os.path.dirname(name) else env.get("PATH", "").split(os.pathsep)  # noqa: PTH120  plain text, as PATH is
    found = (os.path.join(folder, item) for folder in folders for item in names)  # noqa: PTH118  plain text, as PATH is
    return next((path for path in found if os.path.isfile(path) and os.access(path, os.X_OK)), None)  # noqa: PTH113  plain text, as PATH is


def _checked(path: str, source: str, env: Mapping[str, str], timeout: float) -> Uv:
    version = recorded_version(path) if source == _BESIDE else None
    if version is None:
        done = run_uv([path, "--version"], env=env, timeout=timeout)
        words = done.stdout.split()
        version = words[1] if len(words) > 1 and words[0] == "uv" else ""
        if done.returncode != 0 or dotted_or_none(version) is None:
            said = f"`--version` said {done.stdout.strip()[:60]!r}"
            raise _broken(path, f"{said if done.returncode == 0 else done.problem} ({source})")
    if not at_least(dotted(version), dotted(UV_FLOOR)):
        raise ToolMissingError(
            "uv-too-old",
            f"uv {version} is too old",
            wanted=f"uv {UV_FLOOR} or newer",
            found=f"uv {version} at {path} ({source})",
            hints=_NAME_ANOTHER if source == _NAMED else _HOW_TO_GET_UV,
        )
    return Uv(path=path, version=version, source=source)


def _broken(path: str, found: str) -> ToolMissingError:
    return ToolMissingError(
        "uv-broken",
        f"uv at {path} does not run",
        wanted="a uv that runs",
        found=found,
        hints=("uv pip install --reinstall uv", "set TORCHINSTALL_UV to the path of a uv that runs"),
    )


def uv_env(
    env: Mapping[str, str], *, project: bool = False, changes: Iterable[tuple[str, str | None]] = ()
) -> dict[str, str]:
    """The environment of a uv that we start: the user's, without what would change which build it takes.

    Indexes, proxies, certificates, caches and bounds on versions are the user's and stay. With `project` uv
    works on the project of its folder, whatever the variables name; `changes` with None unset a variable.
    """
    gone = dict.fromkeys((*UNDOES_SOURCES, *_UNREADABLE, *(_OTHER_PROJECT if project else ())))
    return {name: value for name, value in {**env, **gone, **dict(changes)}.items() if value is not None}


def run_uv(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    project: bool = False,
    changes: Iterable[tuple[str, str | None]] = (),
    cwd: Path | None = None,
    timeout: float | None = None,
    sink: BinaryIO | None = None,
    inherit: bool = False,
    inherited: tuple[int, ...] = (),
) -> Completed:
    """Run a command of uv; the only place that starts one, but for `EarlyRehearsal`.

    `env`, `project` and `changes` make its environment (`uv_env`), and from `cwd` on it looks for the user's
    configuration. What it prints is captured and must come within `timeout` seconds. With a `sink` its stderr
    is copied there as it comes, its stdin is ours, and it inherits the files `inherited`. With `inherit` all
    of its streams are ours.

    Raises:
        ToolMissingError: `uv-broken`: it does not start.
        KeyboardInterrupt: Ctrl-C, after uv has ended.
    """
    from torchinstall.core import processes
    from torchinstall.install import stream

    child = uv_env(env, project=project, changes=changes)
    try:
        if inherit:
            return stream.attach(argv, env=child, cwd=cwd)
        if sink is not None:
            return stream.stream(argv, env=child, cwd=cwd, sink=sink, inherited=inherited)
        return processes.capture(argv, env=child, cwd=cwd, timeout=timeout)
    except OSError as error:
        raise _broken(argv[0], str(error)) from error


def install_failure(
    done: Completed, what: str, routed: Iterable[str] = (), *, project: bool = False
) -> InstallFailedError:
    """The error for a uv that failed, by the first row of `hints.json` whose pattern occurs in its words.

    Its slug is that of the row, or `uv-failed` / `uv-killed`; `found` is the telling line of uv's own. `what`
    is what uv could not do, and `{routed}` in a pattern any of the packages that come from one index only.
    With `project` the hint is one for the files of a project.
    """
    said = done.stderr
    slug, hint, pattern = "uv-failed", "uv's own words above say why; -v shows more of them", r"error: "
    if done.returncode is None or done.returncode < 0:
        slug = "uv-killed"
        hint = "something ended uv, often for lack of memory: free some and run the same command again"
        said = f"uv was {done.ending}"
    else:
        table = own_data(__file__, "hints.json", dict[str, Any])
        names = "(?:" + ("|".join(re.escape(name) for name in routed) or "(?!)") + ")"
        words = re.sub(r"\s+", " ", said)
        for row in table["rows"]:
            candidate = row["pattern"].replace("{routed}", names)
            if re.search(candidate, words):
                slug, pattern = row["slug"], candidate
                hint = row.get("in_project", row["hint"]) if project else row["hint"]
                break
    return InstallFailedError(slug, f"uv could not {what}", found=_telling_line(said, pattern), hints=(hint,))


def _telling_line(said: str, pattern: str) -> str:
    """The line of uv's that the pattern fits, else its first error, else its last line."""
    lines = [line.strip() for line in said.splitlines() if line.strip()] or ["uv said nothing"]
    # uv says that there is no solution first, and why on the next line.
    telling = [line for line in lines if "No solution found when" not in line]
    found = (line for wanted in (pattern, r"^error\b") for line in telling if re.search(wanted, line))
    return re.sub(r"^(error|cause|hint): ", "", next(found, lines[-1]))[:300]


class UvSettings(NamedTuple):
    """A configuration file of uv, and whether it is a project's (which may have been cloned)."""

    file: Path
    table: dict[str, Any]
    of_project: bool = False


def uv_settings(env: Mapping[str, str], cwd: Path) -> Iterator[UvSettings]:
    """The configuration that uv reads: the project's nearest file, then the user's, then the system's."""
    if env.get("UV_CONFIG_FILE"):
        files = [Path(env["UV_CONFIG_FILE"])]
    elif env.get("UV_NO_CONFIG"):
        files = []
    else:
        own = upward(cwd, "uv.toml", "pyproject.toml")
        nearest = ((file, table) for file in own if (table := _table(file)))
        yield from (UvSettings(*found, of_project=True) for found in islice(nearest, 1))
        home = env.get("XDG_CONFIG_HOME") or os.path.join(env.get("HOME", ""), ".config")  # noqa: PTH118  as uv joins it
        folders = [home, *(env.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":"), "/etc"]
        if sys.platform == "win32":
            folders = [env.get("APPDATA", ""), env.get("PROGRAMDATA") or r"C:\ProgramData"]
        files = [Path(folder, "uv/uv.toml") for folder in folders]
    yield from (UvSettings(file, table) for file in files if (table := _table(file)))


def _table(file: Path) -> dict[str, Any]:
    """The settings of uv in a file; empty where there are none or nobody can read them."""
    try:
        table = parse_toml(read_text(file))
        table = table if file.name != "pyproject.toml" else table["tool"]["uv"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return table if isinstance(table, dict) else {}
