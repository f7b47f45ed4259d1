"""Is a package that uv chose far older than it could be, because of the torch that was planned?

uv goes back as far as to releases that do not say which torch they need: `torch==2.15.0 vllm` once was
vllm 0.2.5. Nobody who asks for a package means such a release.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping

from packaging.version import InvalidVersion, Version

from torchinstall.core.errors import NoCompatibleBuildError
from torchinstall.core.messages import Message
from torchinstall.core.plan import Package, Plan
from torchinstall.core.request import canonical_name, requirement
from torchinstall.install.backup import Due

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


def check_age(
    plan: Plan, coming: Due, there: Mapping[str, str], of_torch: Callable[[str], bool], ask: Ask
) -> Iterator[Message]:
    """Warnings about what was named and comes out far older than it could, because of other packages.

    Args:
        plan: what was planned.
        coming: what uv said that will change.
        there: name -> version of what is installed.
        of_torch: whether an installed package depends on torch.
        ask: asks uv what it would do.

    Raises:
        NoCompatibleBuildError: `package-far-older`: because of torch.
    """
    pinned = {item.name for item in plan.packages if item.version is not None or item.routed}
    named = {
        canonical_name(asked.name): text for text in plan.requirements if not (asked := requirement(text)).url
    }
    free = {name: text for name, text in named.items() if name not in pinned and coming.get(name)}
    newest = _newest(free, ask)
    for name, version in coming.items():
        known = newest.get(name) or there.get(name)
        if version is None or name in pinned or not far_older(version, known):
            continue
        if name not in named:
            if of_torch(name):
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
    asked = {canonical_name(requirement(text).name): text for text in plan.requirements}
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
