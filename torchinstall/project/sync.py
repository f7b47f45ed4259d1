"""Choose the extra or group of a project that fits a machine, and the flags that make uv take it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from msgspec import Struct, structs

from torchinstall.catalog.catalog import Catalog
from torchinstall.core.errors import GpuUnavailableError, NoCompatibleBuildError
from torchinstall.core.messages import Message
from torchinstall.core.plan import Plan
from torchinstall.core.request import canonical_name
from torchinstall.planner.builds import version_key
from torchinstall.project.choices import routed_in
from torchinstall.project.layouts import plan_platform
from torchinstall.project.lock import read_lock
from torchinstall.project.model import ALWAYS, Route, Scope, points_of
from torchinstall.project.pyproject import ProjectView, below, view_in, workspace_root


class Selection(Struct, frozen=True, kw_only=True):
    """What to ask of uv.

    Attributes:
        route: None: torch comes from no index of PyTorch.
        flags: for `uv sync` and `uv run`; empty where the project offers no choice.
        reason: one clause for the line that is printed.
        version: of torch in the lock, with its local segment; None: the lock does not say.
        platform: platform key that it was chosen for.
    """

    route: Route | None
    flags: tuple[str, ...]
    reason: str
    version: str | None = None
    platform: str | None = None
    notes: tuple[Message, ...] = ()

    def backend(self, catalog: Catalog) -> str | None:
        """The backend of what is installed; None where nobody knows."""
        if self.route is not None and (self.platform is None or self.platform in self.route.platforms):
            return self.route.backend
        return _default_backend(self.platform, self.version or "", catalog) if self.platform else None


def choose(
    view: ProjectView,
    plan: Plan,
    catalog: Catalog,
    *,
    locked: Mapping[Scope, str] = MappingProxyType({}),
    require_gpu: bool = False,
) -> Selection:
    """The offer of a project that fits the machine of a plan best.

    The plan is for `torch` without bounds: its candidates are the judgement on every build. `locked` has the
    version that the project's lock holds on this platform for what asks for torch. With `require_gpu`, rather
    fail than take an offer without a GPU.

    Raises:
        NoCompatibleBuildError: nothing that the project offers runs here.
        GpuUnavailableError: `require_gpu`, and only a CPU build fits.
    """
    routes = routed_in(view, catalog)
    offers = offers_of(view, plan, catalog, locked)
    if not offers:
        return _without_choice(routes, plan, locked)
    names = [route.backend for route in offers]
    fitting = [route for route in offers if _accepted(route, plan, locked)]
    if not fitting:
        raise NoCompatibleBuildError(
            "nothing-offered-fits",
            f"none of the builds that the project offers ({', '.join(names)}) runs on this machine",
            wanted=f"an extra or group for {plan.backend or 'cpu'}",
            found="\n".join(_reasons(names, plan)),
            hints=(f"torchinstall configure --with {plan.backend or 'cpu'}",),
        )
    # The planned backend, then one with a GPU, then that of the newest build: candidates come in this order.
    able = [item.backend for item in plan.candidates if item.verdict != "rejected"]
    able.sort(key=lambda name: (name != plan.backend, _vendor(name, catalog) is None))
    best = min(fitting, key=lambda route: able.index(route.backend))
    uses_gpu = _vendor(best.backend, catalog) is not None
    notes: tuple[Message, ...] = ()
    if not uses_gpu and plan.backend and _vendor(plan.backend, catalog) is not None:
        lost = f"this machine could use {plan.backend}, but the project offers only {', '.join(names)}"
        hint = f"torchinstall configure --with {plan.backend}"
        if require_gpu:
            raise GpuUnavailableError(
                "gpu-not-offered",
                lost,
                wanted=f"an extra or group for {plan.backend}",
                found="; ".join(_reasons(names, plan)),
                hints=(hint,),
            )
        notes = (Message(slug="gpu-not-offered", message=f"{lost}; {hint}"),)
    gpu = next((item.name or item.vendor for item in plan.gpus if item.covered), None)
    reason = f"for {gpu}" if gpu and uses_gpu else "no GPU build of the project fits here"
    return Selection(
        route=best,
        flags=scope_flags(best.scope, view),
        reason=reason if plan.gpus else "no GPU here",
        notes=notes,
    )


def offers_of(view: ProjectView, plan: Plan, catalog: Catalog, locked: Mapping[Scope, str]) -> list[Route]:
    """The extras and groups that choose a build on the plan's platform.

    One that conflicts with such an extra or group and requires torch without a source of its own takes the
    build of the default index, which has a backend too.
    """
    platform = plan_platform(plan)
    routed = [route for route in routed_in(view, catalog) if route.scope != ALWAYS]
    here = [route for route in routed if platform is None or platform in route.platforms]
    keys = {route.scope.key for route in here}
    rivals = {key for row in view.conflicts for key in row if {*row} & {route.scope.key for route in routed}}
    for scope in view.scopes_of("torch"):
        if scope.key in rivals - keys and platform is not None:
            backend = _default_backend(platform, locked.get(scope, ""), catalog)
            if backend is not None:
                points = points_of([platform], view.versions)
                here.append(Route(backend=backend, url="", points=points, scope=scope))
    return here


def _default_backend(platform: str, version: str, catalog: Catalog) -> str | None:
    """The backend of a torch of the default index; of its newest one where the version is not known."""
    rows = [row for row in catalog.wheels("torch", platform) if row.origin == "default"]
    rows.sort(key=lambda row: version_key(row.version))
    mine = [row for row in rows if row.version == version] or rows
    return mine[-1].backend if mine else None


def _without_choice(routes: tuple[Route, ...], plan: Plan, locked: Mapping[Scope, str]) -> Selection:
    """A project with one build a platform: nothing to choose, but something to say where it does not fit."""
    names = [route.backend for route in routes]
    notes: tuple[Message, ...] = ()
    if names and plan.backend and not any(_accepted(route, plan, locked) for route in routes):
        text = f"the project uses {', '.join(names)}, but on this machine " + "; ".join(_reasons(names, plan))
        offered = " ".join(f"--with {name}" for name in dict.fromkeys(("cpu", names[0], plan.backend)))
        message = f"{text}; torchinstall configure --layout groups {offered}"
        notes = (Message(slug="project-for-another-machine", message=message),)
    first = routes[0] if routes else None
    return Selection(route=first, flags=(), reason="the project offers no choice", notes=notes)


def scope_flags(scope: Scope, view: ProjectView) -> tuple[str, ...]:
    """The flags that make uv take an extra or group and none of those that conflict with it."""
    if scope == ALWAYS:
        return ()
    off = [flag for name in view.rival_groups(scope) for flag in ("--no-group", name)]
    if scope.kind == "extra":
        return (*off, "--extra", scope.name)
    defaults = {canonical_name(name) for name in view.default_groups}
    return (*off, *(() if scope.key[1] in defaults else ("--group", scope.name)))


def _vendor(backend: str, catalog: Catalog) -> str | None:
    info = catalog.backend(backend)
    return info.kind.vendor if info is not None else None


def _accepted(route: Route, plan: Plan, locked: Mapping[Scope, str]) -> bool:
    """Whether the locked build runs here; where that is not known, whether any build of the backend does."""
    mine = [item for item in plan.candidates if item.backend == route.backend]
    version = locked.get(route.scope, "").partition("+")[0]
    return any(item.verdict != "rejected" for item in [row for row in mine if row.torch == version] or mine)


def _reasons(backends: list[str], plan: Plan) -> Iterable[str]:
    """Why these backends do not run here, each reason once."""
    refused = {item.backend: item for item in reversed(plan.candidates) if item.verdict == "rejected"}
    return dict.fromkeys(
        f"{name} needs {refused[name].wanted}, found {refused[name].found}"
        if name in refused
        else f"{name} is not published for this platform and Python"
        for name in backends
    )


def choose_locked(
    directory: Path, view: ProjectView, plan: Plan, catalog: Catalog, *, require_gpu: bool = False
) -> Selection:
    """`choose`, with the versions that the project's lock holds for the plan's platform and Python."""
    root = workspace_root(directory)
    view = below(view, view_in(root)) if root != directory.resolve() else view
    lock = read_lock(root / "uv.lock", view.name)
    platform = plan_platform(plan)
    locked = {}
    if lock is not None and platform is not None:
        python = plan.target.python_minor
        scopes = {route.scope for route in routed_in(view, catalog)} | {*view.scopes_of("torch")}
        for scope in scopes:
            torch = lock.tree(platform, python, (scope,)).get("torch")
            if torch is not None:
                locked[scope] = torch.version
    selected = choose(view, plan, catalog, locked=locked, require_gpu=require_gpu)
    scope = selected.route.scope if selected.route is not None else ALWAYS
    return structs.replace(selected, version=locked.get(scope), platform=platform)


def environment_of(directory: Path, env: Mapping[str, str], *, active: bool = False) -> Path:
    """The environment that uv keeps for a project, whether it is there or not."""
    if active and env.get("VIRTUAL_ENV"):
        return Path(env["VIRTUAL_ENV"])
    return workspace_root(directory) / (env.get("UV_PROJECT_ENVIRONMENT") or ".venv")
