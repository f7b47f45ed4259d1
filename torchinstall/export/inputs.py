"""The input of every format: a plan in the form that files need, without anything that no file can hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from msgspec import Struct, structs
from packaging.requirements import Requirement

from torchinstall import __version__
from torchinstall.catalog.model import BackendInfo
from torchinstall.core.errors import UsageError
from torchinstall.core.files import real_path
from torchinstall.core.machine import OS_LABELS
from torchinstall.core.messages import redact
from torchinstall.core.plan import Package, Plan
from torchinstall.core.request import canonical_name
from torchinstall.index.urls import LINKS, file_path, without_credentials
from torchinstall.index.wheels import version_at
from torchinstall.install.command import new_index_name, options_in, project_text
from torchinstall.install.uv import Uv
from torchinstall.planning.inputs import Prepared
from torchinstall.project.files import loads

PIP_OPTIONS = {
    "--default-index": "--index-url",
    "--index": "--extra-index-url",
    "--no-index": "--no-index",
    "--no-binary": "--no-binary",
    "--only-binary": "--only-binary",
    "--find-links": "--find-links",
    "--allow-insecure-host": "--trusted-host",
    "--keyring-provider": "--keyring-provider",
    "--prerelease": "",
    "--index-strategy": "",
}
"""The options of uv that a file can hold -> pip's name for each; empty: pip has none."""


class Pin(Struct, frozen=True, kw_only=True):
    """One package whose build is decided.

    Attributes:
        requirement: to write where the source is written elsewhere: `torch[opt]==2.9.1+cu128`.
        version: with its local segment; None for a file whose name does not say.
        index: the only index it may come from; None: the default index, or `folders`, or `url`.
        folders: of wheels, one of which has it.
        url: of the very file, where the user named one or the folder's file is known.
    """

    name: str
    requirement: str
    version: str | None
    index: str | None = None
    folders: tuple[str, ...] = ()
    url: str | None = None

    @property
    def exact(self) -> str:
        """The name with its version, for a tool that has the file already."""
        return self.requirement if self.version is None else f"{self.name}=={self.version}"

    @property
    def by_file(self) -> str:
        """The requirement with its file where that is known, for tools that know no folders."""
        return f"{self.name} @ {self.url}" if self.url is not None else self.requirement


class LockedProject(Struct, frozen=True, kw_only=True):
    """A project with a lock.

    Attributes:
        flags: for `uv sync`, so that it takes what fits the plan's machine.
        package: the project has a build backend, so it is itself installed.
        workspace: the folders of its workspace's members, relative to the root.
        local: folders and files beside these that it takes packages from.
        backend: of the torch that the lock has for these flags; None: nobody knows.
        torch: its version with the local segment.
    """

    flags: tuple[str, ...] = ()
    package: bool = False
    workspace: tuple[str, ...] = ()
    local: tuple[str, ...] = ()
    backend: str | None = None
    torch: str | None = None


class ExportInput(Prepared, frozen=True, kw_only=True):
    """A plan and what formats need besides.

    Attributes:
        pins: packages whose build is decided, in the plan's order.
        others: requirements that the tool resolves from the user's own indexes.
        resolve: asks uv for everything that will be installed, as PEP 751 text.
        base: the folder that files are written for; paths in them start there.
        lock: of the project at hand; None: there is none, or the format does not use it.
    """

    uv: Uv
    pins: tuple[Pin, ...]
    others: tuple[str, ...]
    resolve: Callable[[], str]
    base: Path
    lock: LockedProject | None = None

    @property
    def backend(self) -> BackendInfo | None:
        """Of the lock or else of the plan; None on platforms without backends."""
        name = (self.lock.backend if self.lock is not None else None) or self.plan.backend
        return self.catalog.backend(name) if name else None

    @property
    def title(self) -> str:
        """What the file installs and where, in one line without a full stop."""
        plan, lock = self.plan, self.lock
        if lock is None or lock.torch is None:
            return title_of(plan)
        return f"{title_of(plan, torch=lock.torch, backend=lock.backend)}, from uv.lock"

    @property
    def python(self) -> str:
        """`3.12`."""
        return self.target.python_minor

    @property
    def vendor(self) -> str | None:
        """Whose GPUs the build uses; None: it is a CPU build."""
        return self.backend.kind.vendor if self.backend is not None else None

    @property
    def cuda_toolkit(self) -> tuple[int, ...] | None:
        """`(12, 8)`; None: the build is not a CUDA build."""
        backend = self.backend
        return backend.toolkit if backend is not None and backend.kind.kind == "cuda" else None

    @property
    def indexes(self) -> dict[str, str]:
        """Name -> URL of every index that a pin names, in order."""
        found: dict[str, str] = {}
        for url in dict.fromkeys(pin.index for pin in self.pins if pin.index is not None):
            found[new_index_name("pytorch", url, found)] = url
        return found

    def index_name(self, pin: Pin) -> str | None:
        """The name of the index that a pin comes from."""
        return next((name for name, url in self.indexes.items() if url == pin.index), None)

    def head(self, usage: str = "") -> list[str]:
        """The comment at the top of a file: what it is for, who wrote it, how it is used."""
        wrote = f"Written by torchinstall {__version__} from tables of {self.plan.catalog.snapshot}."
        return [f"# {line}" for line in (f"{self.title}.", wrote, usage) if line]


def export_input(
    prepared: Prepared, *, uv: Uv, resolve: Callable[[], str], base: Path, lock: LockedProject | None = None
) -> ExportInput:
    """The input of formats from a plan that is not impossible; URLs lose user names and passwords.

    Raises:
        UsageError: `not-exportable`: an argument of uv cannot be written down.
    """
    check_exportable(prepared.uv_args)
    pins, others = _pins(prepared.plan)
    fields = structs.asdict(prepared) | {"uv": uv, "uv_args": tuple(map(_public, prepared.uv_args))}
    return ExportInput(**fields, pins=pins, others=others, resolve=resolve, base=base, lock=lock)


def _public(text: str) -> str:
    """A requirement or URL without user, password and token."""
    return redact(without_credentials(text))


def holds_credentials(prepared: Prepared) -> bool:
    """Whether a URL that would be written down has a user name, a password or a token."""
    plan = prepared.plan
    texts = (*(item.index_url or "" for item in plan.packages), *plan.requirements, *prepared.uv_args)
    return any(_public(text) != text for text in texts)


def check_exportable(uv_args: tuple[str, ...]) -> None:
    """Refuse arguments of uv that no file can hold: editable installs, folders, other switches.

    Raises:
        UsageError: `not-exportable`.
    """
    for name, _ in options_in(uv_args):
        if name not in PIP_OPTIONS:
            raise not_exportable(name, "a file", "omit it, or build a wheel of it first: uv build --wheel")


def not_exportable(what: str, format_name: str, *hints: str) -> UsageError:
    """The error of a format that cannot hold something of the plan."""
    return UsageError(
        "not-exportable",
        f"{format_name} cannot express {what}",
        wanted="a plan that the format can hold",
        found=what,
        hints=hints or ("torchinstall export --format uv",),
    )


def title_of(plan: Plan, *, torch: str | None = None, backend: str | None = None) -> str:
    """What a plan is for, in one line without a full stop; `torch` and `backend`: what comes in its place."""
    same = torch is None or backend == plan.backend
    torch, backend = torch or plan.torch, backend if torch else plan.backend
    build = f"torch {torch}" if torch else "torch"
    if backend is not None and backend not in build:
        build += f" ({backend})"
    gpus = dict.fromkeys(gpu.name or f"{gpu.vendor} {gpu.by}" for gpu in plan.gpus if gpu.covered and same)
    target = plan.target
    platform = f"CPython {target.python_minor} on {OS_LABELS[target.os]} {target.arch}"
    return ", ".join([f"{build} for {platform}", *gpus])


def _pins(plan: Plan) -> tuple[tuple[Pin, ...], tuple[str, ...]]:
    """Packages whose build is decided, and the requirements that are left to the tool."""
    packages = {item.name: item for item in plan.packages if item.version is not None or item.index_url}
    pins: list[Pin] = []
    others: list[str] = []
    for text in (loads(project_text(plan)) or {})["project"]["dependencies"]:
        requirement = Requirement(text)
        name = canonical_name(requirement.name)
        package = packages.get(name)
        if requirement.url is not None:
            version = version_at(requirement.url) or (package.version if package is not None else None)
            url = _public(requirement.url)
            pins.append(Pin(name=name, requirement=_public(text), version=version, url=url))
        elif package is not None:
            pins.append(_pin(package, text, plan.find_links))
        else:
            others.append(_public(text))
    return tuple(pins), tuple(others)


def _pin(package: Package, requirement: str, folders: tuple[str, ...]) -> Pin:
    pin = Pin(name=package.name, requirement=requirement, version=package.version)
    if package.index_url and package.index_url.endswith(LINKS):
        return structs.replace(pin, folders=(without_credentials(package.index_url.removesuffix(LINKS)),))
    if package.index_url:
        return structs.replace(pin, index=_public(package.index_url))
    if not package.routed:
        return pin
    paths = (file_path(folder) / (package.wheel or "") for folder in folders)
    file = next((path for path in paths if path.is_file()), None)
    return structs.replace(pin, folders=folders, url=real_path(file).as_uri() if file is not None else None)
