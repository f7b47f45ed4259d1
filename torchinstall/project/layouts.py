"""Which layout a project gets: the one in its file, completed by what the user asked for and by a plan."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import structs

from torchinstall.catalog.catalog import Catalog
from torchinstall.core.errors import UsageError
from torchinstall.core.plan import Plan
from torchinstall.core.request import canonical_name
from torchinstall.index.urls import backend_in
from torchinstall.planner.builds import version_key
from torchinstall.project.choices import Availability, routed_in
from torchinstall.project.model import PLATFORMS, Layout, LayoutName, Route, points_of
from torchinstall.project.pyproject import ProjectView

_MACHINE_RULES = frozenset({"driver-too-old", "no-code-for-gpu", "jetson-needs-own-build"})
"""Refusals that a newer torch will repeat on this machine; a lock must not move past them."""

DEFAULT_INDEX = "default"
"""The default index where the name of a backend is expected."""


def current_layout(view: ProjectView, catalog: Catalog) -> Layout | None:
    """The layout in the file, all of it kept; None where torch comes from no index of PyTorch.

    An index that may serve every package serves torch too: its backend is the one of this layout.
    """
    routes = routed_in(view, catalog)
    if not routes:
        open_ = [row.url for row in view.indexes if not row.explicit]
        open_ += view.texts("extra-index-url") or ()
        backend = backend_in(open_, catalog.backend)
        asks = view.scopes_of("torch") and "torch" not in view.sources
        return Layout(name="this-machine", backends=(backend,)) if backend and asks else None
    backends = tuple(dict.fromkeys(route.backend for route in routes))
    kinds = {route.scope.kind for route in routes}
    if "extra" in kinds:
        return Layout(name="extras", backends=backends, kept=routes)
    if "group" in kinds:
        defaults = {("group", canonical_name(name)) for name in view.default_groups}
        default = next((route.backend for route in routes if route.scope.key in defaults), None)
        return Layout(name="groups", backends=backends, default=default, kept=routes)
    if len(backends) == 1:
        return Layout(name="this-machine", backends=backends, kept=routes)
    on: dict[str, str] = {}
    for route in routes:
        on = {**dict.fromkeys(route.platforms, route.backend), **on}
    return Layout(name="markers", backends=backends, on=_routed(on), kept=routes)


def _routed(on: dict[str, str]) -> tuple[tuple[str, str], ...]:
    """Without the platforms that take the default index."""
    return tuple((item, on[item]) for item in PLATFORMS if on.get(item, DEFAULT_INDEX) != DEFAULT_INDEX)


def plan_platform(plan: Plan) -> str | None:
    """The platform key of the plan's target in a project; None where projects have none for it."""
    key = plan.target.platform.replace("win_arm64", "win_amd64")
    return key if key in PLATFORMS else None


def plan_caps(plan: Plan) -> tuple[tuple[str, str], ...]:
    """Backend -> the lowest torch above the chosen one that this machine cannot use as well."""
    chosen = plan.chosen
    if chosen is None:
        return ()
    above = [
        candidate.torch
        for candidate in plan.candidates
        if candidate.backend == chosen.backend
        and version_key(candidate.torch) > version_key(chosen.torch)
        and (
            candidate.rule in _MACHINE_RULES
            if candidate.verdict == "rejected"
            else plan.status == "ready"  # accepted, but it serves fewer of the GPUs
        )
    ]
    tied = {item.name for item in plan.companions if item.kind.startswith("tagged")}
    if tied & {item.name for item in plan.packages}:  # their files are for one minor release of torch
        major, minor, *_ = map(int, version_key(chosen.torch).release)
        above.append(f"{major}.{minor + 1}")
    if not above:
        return ()
    lowest = min(above, key=version_key)
    # `2.11.0` as `2.11`: what a bound looks like when a person writes it.
    return ((chosen.backend, lowest.removesuffix(".0") if lowest.count(".") > 1 else lowest),)


def layout_for(
    view: ProjectView,
    asked: Layout,
    plan: Plan,
    catalog: Catalog,
    *,
    without: tuple[str, ...] = (),
    named: bool = True,
    planned: bool = False,
) -> Layout:
    """The layout for a project: what was not asked for stays as the file has it, and a plan completes it.

    `asked` is what was typed: its backends are added to those of a choice and replace others, its name counts
    where the layout was `named`, and the plan's backend was typed where it is `planned`. The project shall no
    longer offer what is `without`.

    Raises:
        TorchInstallError: `not-offered`, `nothing-left`, `not-carried`, and those of `complete`.
    """
    current = current_layout(view, catalog)
    offered = current.backends if current is not None else ()
    if missing := [backend for backend in without if backend not in offered]:
        raise UsageError(
            "not-offered",
            f"this project does not offer {', '.join(missing)}",
            wanted="one of " + (", ".join(offered) or "none: it chooses no build"),
            found=", ".join(missing),
            hints=tuple(f"torchinstall configure --without {name}" for name in offered[:1])
            or ("torchinstall configure --dry-run shows what it would write",),
        )
    if current is not None:
        by_plan = planned or (named and asked.name == "this-machine" != current.name)
        if by_plan and plan.backend and not asked.backends:
            asked = structs.replace(asked, backends=(plan.backend,))
        return complete(_changed(current, asked, without, catalog, named=named), plan, catalog)
    if not named:
        name: LayoutName = "groups" if len(asked.backends) > 1 else "this-machine"
        asked = structs.replace(asked, name="markers" if asked.on else name)
    return complete(asked, plan, catalog)


def _changed(
    current: Layout, asked: Layout, without: tuple[str, ...], catalog: Catalog, *, named: bool
) -> Layout:
    """The layout in a file with a second thought."""
    left = tuple(backend for backend in current.backends if backend not in without)
    if not (left or asked.backends or asked.on):
        raise UsageError(
            "nothing-left",
            f"without {', '.join(without)} this project offers no build",
            wanted="a backend that stays",
            found="none",
            hints=("torchinstall configure --remove", "torchinstall configure --backend cpu"),
        )
    one = bool(asked.backends) and current.name == "markers"  # for every platform
    name = asked.name if named or one else current.name
    name = "markers" if asked.on and not named else name
    there = current.default if current.default in left else None
    default = asked.default or (there if name == "groups" else None)
    made, same = structs.replace(asked, name=name, default=default), name == current.name
    if same and made.offers_choice:
        backends = tuple(dict.fromkeys((*left, *asked.backends)))
        kept = () if without else current.kept
        return structs.replace(made, backends=backends, kept=kept, replaces=bool(without))
    if same and not (asked.backends or asked.on or without):
        return structs.replace(made, backends=current.backends, on=current.on, kept=current.kept)
    if name != "markers":
        return structs.replace(made, backends=asked.backends or left, replaces=True)
    pythons = {python for item in current.kept for _, python in item.points}
    if same and any(len(item.points) < len(item.platforms) * len(pythons) for item in current.kept):
        raise UsageError(
            "not-carried",
            "this project chooses builds by the version of Python too, so no platform can be changed alone",
            wanted="sources of torch that hold for every Python",
            found=", ".join(current.backends),
            hints=(
                "edit [tool.uv.sources], then: torchinstall configure",
                "torchinstall configure --layout groups",
            ),
        )
    if named and asked.on and not same:
        return structs.replace(made, replaces=True)
    known = Availability(catalog, asked.channel)
    routes = {
        item: route.backend
        for route in current.kept
        for item in sorted(route.platforms & known.platforms("torch", route.backend))
    }
    if current.offers_choice:
        base = (*asked.backends, *((there,) if there else left[::-1]))[:1]
        routes = {item: backend for item, backend in routes.items() if backend in base}
    if asked.backends and not asked.on:
        routes = dict.fromkeys(known.platforms("torch", asked.backends[0]), asked.backends[0])
    on = dict.fromkeys(PLATFORMS[:3], DEFAULT_INDEX)
    on |= {item: backend for item, backend in routes.items() if backend not in without}
    return structs.replace(made, backends=(), on=tuple({**on, **dict(asked.on)}.items()), replaces=True)


def complete(asked: Layout, plan: Plan, catalog: Catalog) -> Layout:
    """The layout that the user asked for, completed by a plan for one machine.

    Without backends: CPU and the planned one; without a default: the planned one.

    Raises:
        TorchInstallError: there is no plan to take the backend from; the plan's own error.
        UsageError: `backends-missing`: a choice between backends needs two; `bad-default`.
    """
    platform = plan_platform(plan)
    planned = None if platform is None or platform.startswith("macos") else plan.backend
    if not (asked.backends or asked.on or asked.kept) and plan.error is not None:
        raise plan.error
    ours = (planned,) if planned else ()
    if asked.default and asked.name != "groups":
        raise UsageError(
            "bad-default",
            f"the layout {asked.name} has no default: only a dependency group can be taken unasked",
            wanted="--layout groups",
            found=f"--default {asked.default}",
            hints=(f"torchinstall configure --layout groups --default {asked.default}",),
        )
    on, default, required = asked.on, None, PLATFORMS
    if asked.name == "this-machine":
        backends = asked.backends if asked.kept else asked.backends[:1] or ours
        required = (platform,) if platform is not None else ()
    elif asked.name == "markers":
        known, base = Availability(catalog, plan.channel), (asked.backends or ours)[:1]
        there = {item: name for name in base for item in known.platforms("torch", name)}
        on = asked.on if asked.kept else _routed({**there, **dict(asked.on)})
        backends = tuple(dict.fromkeys(backend for _, backend in on))
    else:
        backends = asked.backends or tuple(dict.fromkeys(("cpu", *ours)))
        if len(backends) < 2 and not (asked.kept or asked.replaces):
            raise UsageError(
                "backends-missing",
                f"the layout {asked.name} is a choice between backends, and only {backends[0]} is known here",
                wanted="two backends or more",
                found=", ".join(backends),
                hints=(f"torchinstall configure --layout {asked.name} --with cpu --with cu130",),
            )
        if asked.name == "groups" and (asked.default or not asked.kept):
            default = asked.default or (planned if planned in backends else None) or backends[-1]
            if default not in backends:
                raise UsageError(
                    "bad-default",
                    f"{default} cannot be the default: it is not among the backends of this layout",
                    wanted=", ".join(backends),
                    found=default,
                    hints=(f"--default {backends[-1]}",),
                )
    return structs.replace(
        asked,
        backends=backends,
        on=on,
        default=default,
        packages=tuple(dict.fromkeys(("torch", *asked.packages))),
        required=(() if asked.kept else required) if asked.required is None else asked.required,
        channel=plan.channel,
        caps=() if asked.kept and asked.offers_choice else plan_caps(plan),
        split=not (asked.kept and set(backends) <= {route.backend for route in asked.kept}),
        torch=plan.chosen.torch if plan.chosen else None,
        companions=tuple(_companions(plan, catalog, platform, asked.packages) if planned in backends else ()),
    )


def _companions(
    plan: Plan, catalog: Catalog, platform: str | None, asked: tuple[str, ...]
) -> Iterator[Route]:
    """What the plan says of packages that are built against torch, on the platform that it is for.

    One file is for one Python; an index may have others.
    """
    python = plan.target.python_minor
    for item in plan.packages:
        family, exact = catalog.family(item.name), item.url or item.index_url
        if (family and family.routed) or not catalog.companion_builds(item.name) or platform is None:
            continue
        if not exact and item.name not in asked:
            continue  # listed already, and it comes from where everything comes from
        pythons = (python,) if item.url else (f"3.{minor}" for minor in range(6, 30))
        digest = f"#sha256={item.sha256}" if item.url and item.sha256 else ""
        bound = "" if item.url or not item.version else f"{'==' if exact else '>='}{item.version}"
        yield Route(
            package=item.name,
            backend=plan.backend or "",
            url=f"{item.url}{digest}" if item.url else item.index_url or "",
            index="" if item.url or not item.index_url else f"{item.name}-{plan.backend}",
            points=points_of([platform], pythons),
            bounds=item.name + bound,
        )
