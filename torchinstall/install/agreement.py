"""Does what uv says or did agree with the plan, and if not, what interfered?

And is a package that uv chose far older than it could be? uv goes back as far as to releases that do not say
which torch they need: `torch==2.15.0 vllm` once was vllm 0.2.5. Nobody who asks for a package means that.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct
from packaging.version import InvalidVersion, Version

from torchinstall.core.errors import InstallFailedError, NoCompatibleBuildError
from torchinstall.core.messages import Message
from torchinstall.core.plan import Package, Plan
from torchinstall.core.request import canonical_name, requirement
from torchinstall.install.backup import Due
from torchinstall.install.distributions import DistInfo, distributions, same_version
from torchinstall.install.uv import uv_settings

_LISTS = ("override-dependencies", "constraint-dependencies", "exclude-dependencies")
_ELSEWHERE = ("target", "prefix")
_VARIABLES = ("UV_OVERRIDE", "UV_CONSTRAINT", "UV_EXCLUDE", "UV_EXCLUDE_NEWER", "UV_BUILD_CONSTRAINT")


class Agreement(Struct, frozen=True, kw_only=True):
    """Compares a plan with what becomes of it; each method raises InstallFailedError `plan-not-kept`.

    `plan` None: somebody else planned; then what uv announced is compared.
    """

    plan: Plan | None = None
    env: Mapping[str, str]
    cwd: Path

    @property
    def _pins(self) -> dict[str, str]:
        packages = self.plan.packages if self.plan is not None else ()
        return {item.name: item.version for item in packages if item.version is not None}

    def check_destination(self) -> None:
        """Uv must install into the environment that was inspected."""
        for file, key, value in self._elsewhere():
            raise _not_kept(
                "uv is configured to install outside the environment that was planned for",
                wanted="packages installed into the environment itself",
                found=f"pip.{key} = {value!r} in {file}",
                culprits=[f"`{key}` in {file}"],
            )

    def check_rehearsal(self, sites: Iterable[Path], coming: Due) -> None:
        """What uv says that it will do is what was planned; nothing was touched yet."""
        end = {**{dist.name: dist.version for dist in distributions(sites)}, **coming}
        self._refuse(
            "uv would not install what was planned",
            [
                (name, version, end.get(name) or "nothing")
                for name, version in self._pins.items()
                if not same_version(end.get(name) or "", version)
            ],
        )

    def check_installed(self, sites: Iterable[Path], due: Due, state: Path) -> None:
        """There is one whole distribution of each, as planned or due, and none writes to `state`."""
        wanted: Due = {**due, **self._pins}
        found = distributions(sites, wanted)
        wrong: list[tuple[str, str, str]] = []
        for name, version in wanted.items():
            dists = [dist for dist in found if dist.name == name]
            if version is not None and len(dists) == 1 and same_version(dists[0].version, version):
                wrong += self._faults(dists[0], version, state, changed=name in due)
            elif dists or version is not None:
                there = " and ".join(dist.version for dist in dists) or "nothing"
                wrong.append((name, version or "nothing", there))
        self._refuse("uv did not install what was planned", wrong)

    def _faults(
        self, dist: DistInfo, version: str, state: Path, *, changed: bool
    ) -> Iterator[tuple[str, str, str]]:
        lacking = next(dist.faults(), None) if changed else None
        # URL that it must come from; None: an index.
        origin = dist.url
        if self.plan is not None:
            named = self.plan.direct
            planned = (item for item in self.plan.packages if item.name == dist.name)
            decided = (item.url for item in planned if item.url or (item.version and item.name not in named))
            origin = next(decided, origin)
        if lacking is not None:
            yield dist.name, f"{version}, whole", f"{lacking[0]} is missing or cut short"
        elif dist.url != origin:
            found = f"{dist.version} from {dist.url or 'an index'}"
            yield dist.name, f"{version} from {origin or 'an index'}", found
        elif dist.brings(state):
            yield dist.name, "a package of its own files", f"files in {state}"

    def _refuse(self, message: str, wrong: Collection[tuple[str, str, str]]) -> None:
        if wrong:
            raise _not_kept(
                message,
                wanted=", ".join(f"{name} {wanted}" for name, wanted, _ in wrong),
                found=", ".join(f"{name} {found}" for name, _, found in wrong),
                culprits=self._culprits({name for name, *_ in wrong}),
            )

    def _culprits(self, names: Collection[str]) -> Iterator[str]:
        """Rows of uv's configuration that speak of these packages, and variables that may."""
        for file, table, _ in uv_settings(self.env, self.cwd):
            for key in _LISTS:
                for row in map(str, table.get(key) or ()):
                    match = re.match(r"[\w.-]+", row)
                    if match and canonical_name(match[0]) in names:
                        yield f"{key}: {row} in {file}"
        yield from (f"`{key}` in {file}" for file, key, _ in self._elsewhere())
        yield from (f"{name}={self.env[name]}" for name in _VARIABLES if self.env.get(name))

    def _elsewhere(self) -> Iterator[tuple[Path, str, Any]]:
        """File, key and value of each setting that installs outside the environment."""
        for file, table, _ in uv_settings(self.env, self.cwd):
            pip = table.get("pip") or {}
            yield from ((file, key, pip[key]) for key in _ELSEWHERE if pip.get(key))


def _not_kept(message: str, *, wanted: str, found: str, culprits: Iterable[str]) -> InstallFailedError:
    hints = tuple(f"this interferes, remove it and try again: {text}" for text in culprits)
    nobody = ("torchinstall auto -v -v shows what uv does and why",)
    return InstallFailedError("plan-not-kept", message, wanted=wanted, found=found, hints=hints or nobody)


Ask = Callable[[Iterable[str], tuple[Package, ...], tuple[str, ...]], Due | None]
"""(requirements, planned packages, arguments for uv) -> what would come; None: uv cannot say."""

_APART = (1, 3, 10)
"""Releases are far apart that differ by so many major, minor or patch numbers, the first that differs."""

_READY = ("--only-binary=:all:", "--upgrade")
_ALONE = ("--no-deps", *_READY)


def far_older(found: str | None, newest: str | None) -> bool:
    """Whether a release is far older than another one."""
    try:
        pair = [(*Version(text or "0").release, 0, 0)[:3] for text in (found, newest)]
    except InvalidVersion:
        return False
    steps = [new - old for old, new in zip(*pair, strict=True)]
    first = next((place for place, step in enumerate(steps) if step), 0)
    return found is not None and newest is not None and steps[first] >= _APART[first]


def check_age(plan: Plan, coming: Due, dists: Collection[DistInfo], ask: Ask) -> Iterator[Message]:
    """Warnings about what was named and comes out far older than it could, because of other packages.

    What is installed (`dists`) and depends on torch counts as named.

    Raises:
        NoCompatibleBuildError: `package-far-older`: because of torch.
    """
    there = {dist.name: dist.version for dist in dists}
    pinned = {item.name for item in plan.packages if item.version is not None or item.routed}
    named = {asked.package: text for text in plan.requirements if not (asked := requirement(text)).url}
    free = {name: text for name, text in named.items() if name not in pinned and coming.get(name)}
    newest = _newest(free, ask)
    for name, version in coming.items():
        known = newest.get(name) or there.get(name)
        if version is None or name in pinned or not far_older(version, known):
            continue
        if name not in named:
            if any(dist.name == name and dist.needs("torch") for dist in dists):
                raise _error(plan, name, version, str(known), None)
            continue
        beside = [text for other, text in named.items() if other in pinned]
        alone = ask([*beside, named[name]], plan.packages, ())
        if alone is not None and not far_older(alone.get(name) or there.get(name), known):
            text = f"{name} {version} and not {known}, because of what other packages need"
            yield Message("package-held-back", text)
        else:
            raise _error(plan, name, version, str(known), ask([f"{name}=={known}"], (), _READY))


def _newest(free: Mapping[str, str], ask: Ask) -> Due:
    """The newest ready release of each; one that has none is left out."""
    if not free:
        return {}
    together = ask(free.values(), (), _ALONE)
    return together or {k: v for text in free.values() for k, v in (ask([text], (), _ALONE) or {}).items()}


def _error(plan: Plan, name: str, version: str, newest: str, of_newest: Due | None) -> NoCompatibleBuildError:
    torch = ((of_newest or {}).get("torch") or "").partition("+")[0]
    asked = {requirement(text).package: text for text in plan.requirements}
    hints = []
    if torch:
        words = {**asked, "torch": f"torch=={torch}"}
        hints.append(
            f"torchinstall auto {shlex.join(words.values())}  # the torch that {name} {newest} needs"
        )
    words = {**asked, name: f"{name}=={version}"}
    hints.append(f"torchinstall auto {shlex.join(words.values())}  # the old one all the same")
    return NoCompatibleBuildError(
        "package-far-older",
        f"the only {name} that goes with torch {plan.torch} is far older than its newest ready release",
        wanted=f"{name} {newest}, or nearly as new",
        found=f"{name} {version}, which uv would install",
        hints=tuple(hints),
    )
