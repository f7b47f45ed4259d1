"""Does what uv says or did agree with the plan, and if not, what interfered?"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from torchinstall.core.errors import InstallFailedError
from torchinstall.core.plan import Plan
from torchinstall.core.request import canonical_name, requirement
from torchinstall.install.distributions import distributions, same_version

_LISTS = ("override-dependencies", "constraint-dependencies", "exclude-dependencies")
_ELSEWHERE = ("target", "prefix")
_VARIABLES = ("UV_OVERRIDE", "UV_CONSTRAINT", "UV_EXCLUDE", "UV_EXCLUDE_NEWER", "UV_BUILD_CONSTRAINT")


def check_destination(env: Mapping[str, str], cwd: Path) -> None:
    """Refuse a configuration of uv that installs elsewhere than into the environment that was inspected.

    Raises:
        InstallFailedError: `plan-not-kept`.
    """
    for file, table in _configurations(env, cwd):
        for key in _ELSEWHERE:
            value = (table.get("pip") or {}).get(key)
            if value:
                raise _not_kept(
                    "uv is configured to install outside the environment that was planned for",
                    wanted="packages installed into the environment itself",
                    found=f"pip.{key} = {value!r} in {file}",
                    culprits=(f"`{key}` in {file}",),
                )


def check_rehearsal(
    plan: Plan, there: Mapping[str, str], coming: Mapping[str, str | None], env: Mapping[str, str], cwd: Path
) -> None:
    """Compare what uv says it will do with the plan, while nothing was touched.

    Args:
        plan: the plan.
        there: name -> version of what is installed.
        coming: name -> version of what uv will change, None: it goes.
        env: of the user, as uv sees it.
        cwd: where uv looks for configuration.

    Raises:
        InstallFailedError: `plan-not-kept`.
    """
    end = {**there, **coming}
    wrong = [
        (name, version, end.get(name) or "nothing")
        for name, version in _pins(plan)
        if not same_version(end.get(name) or "", version)
    ]
    if wrong:
        raise _disagreement("uv would not install what was planned", wrong, env, cwd)


def check_installed(
    plan: Plan | None,
    due: Mapping[str, str | None],
    sites: Iterable[Path],
    state: Path,
    env: Mapping[str, str],
    cwd: Path,
) -> None:
    """Compare the environment with what was to happen: one whole distribution of the right version each.

    Args:
        plan: says in addition where packages come from; None: somebody else planned.
        due: name -> version of what was to change, None: to go.
        sites: the site-packages folders.
        state: our folder, which no package may write to.
        env: of the user, as uv sees it.
        cwd: where uv looks for configuration.

    Raises:
        InstallFailedError: `plan-not-kept`.
    """
    wanted = {**due, **dict(_pins(plan) if plan is not None else ())}
    by_url = (
        {canonical_name(requirement(text).name) for text in plan.requirements if "@" in text} if plan else ()
    )
    named = {item.name: item.url for item in plan.packages if item.url is not None} if plan else {}
    placed = {name for name, _ in _pins(plan)} - {*by_url, *named} if plan is not None else set()
    found = distributions(sites, wanted)
    wrong = []
    for name, version in wanted.items():
        dists = [dist for dist in found if dist.name == name]
        if version is None or len(dists) != 1:
            if dists or version is not None:
                there = " and ".join(dist.version for dist in dists) or "nothing"
                wrong.append((name, version or "nothing", there))
            continue
        (dist,) = dists
        if not same_version(dist.version, version):
            wrong.append((name, version, dist.version))
        elif name in due and (lacking := dist.lacking) is not None:
            wrong.append((name, f"{version}, whole", f"{lacking} is missing or cut short"))
        elif name in named and dist.url != named[name]:
            wrong.append((name, f"{version} from {named[name]}", f"{dist.version} from {dist.url}"))
        elif name in placed and dist.url is not None:
            wrong.append((name, f"{version} from an index", f"{dist.version} from {dist.url}"))
        elif dist.brings(state):
            wrong.append((name, "a package of its own files", f"files in {state}"))
    if wrong:
        raise _disagreement("uv did not install what was planned", wrong, env, cwd)


def _pins(plan: Plan) -> Iterator[tuple[str, str]]:
    return ((item.name, item.version) for item in plan.packages if item.version is not None)


def _disagreement(
    message: str, rows: Collection[tuple[str, str, str]], env: Mapping[str, str], cwd: Path
) -> InstallFailedError:
    names = {name for name, _, _ in rows}
    return _not_kept(
        message,
        wanted=", ".join(f"{name} {wanted}" for name, wanted, _ in rows),
        found=", ".join(f"{name} {found}" for name, _, found in rows),
        culprits=tuple(_culprits(names, env, cwd)),
    )


def _not_kept(message: str, *, wanted: str, found: str, culprits: tuple[str, ...]) -> InstallFailedError:
    hints = tuple(f"this interferes, remove it and try again: {text}" for text in culprits)
    nobody = ("torchinstall auto -v -v shows what uv does and why",)
    return InstallFailedError("plan-not-kept", message, wanted=wanted, found=found, hints=hints or nobody)


def _culprits(names: Collection[str], env: Mapping[str, str], cwd: Path) -> Iterator[str]:
    """Rows of uv's configuration that speak of these packages, and variables that may."""
    for file, table in _configurations(env, cwd):
        for key in _LISTS:
            for row in table.get(key) or ():
                match = re.match(r"[\w.-]+", str(row))
                if match and canonical_name(match[0]) in names:
                    yield f"{key}: {row!s} in {file}"
        for key in _ELSEWHERE:
            if (table.get("pip") or {}).get(key):
                yield f"`{key}` in {file}"
    yield from (f"{name}={env[name]}" for name in _VARIABLES if env.get(name))


def _configurations(env: Mapping[str, str], cwd: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The configuration that uv reads: the project's nearest file, then the user's, then the system's."""
    if env.get("UV_CONFIG_FILE"):
        files = [Path(env["UV_CONFIG_FILE"])]
    elif env.get("UV_NO_CONFIG"):
        return
    else:
        own = (folder / name for folder in (cwd, *cwd.parents) for name in ("uv.toml", "pyproject.toml"))
        nearest = next((file for file in own if _table(file)), None)
        home = env.get("XDG_CONFIG_HOME") or os.path.join(env.get("HOME", ""), ".config")  # noqa: PTH118
        user = Path(env.get("APPDATA", "") if sys.platform == "win32" else home) / "uv/uv.toml"
        files = [*([nearest] if nearest else []), user, Path("/etc/uv/uv.toml")]
    for file in files:
        if table := _table(file):
            yield file, table


def _table(file: Path) -> dict[str, Any]:
    """The settings of uv in a file; empty where there are none or nobody can read them."""
    if sys.version_info >= (3, 11):
        import tomllib  # only a run that changes something looks
    else:
        import tomli as tomllib
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
        table = table if file.name != "pyproject.toml" else table["tool"]["uv"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return table if isinstance(table, dict) else {}
