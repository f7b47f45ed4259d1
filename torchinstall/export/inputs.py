"""What every format is made from: the plan in the shape that files need. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from msgspec import Struct

from torchinstall.core.errors import UsageError

if TYPE_CHECKING:
    from packaging.requirements import Requirement

    from torchinstall.catalog.model import BackendInfo
    from torchinstall.core.machine import Machine
    from torchinstall.core.plan import Plan
    from torchinstall.core.target import Target

__all__ = ["Given", "Locked", "Pin", "no_way_to_say", "title_of"]

_SYSTEMS = {"linux": "Linux", "windows": "Windows", "macos": "macOS"}


class Pin(Struct, frozen=True, kw_only=True):
    """One package whose build is decided.

    Attributes:
        line: the requirement to write where the source is written elsewhere: `torch[opt]==2.9.1+cu128`.
        version: with its local segment; None for a file that does not say.
        index: the only index it may come from; None: the default index, or `folders` or `url`.
        folders: where its wheel lies.
        url: of the very file, where the user named one or the folder's file is known.
    """

    name: str
    line: str
    version: str | None
    index: str | None = None
    folders: tuple[str, ...] = ()
    url: str | None = None

    @property
    def exact(self) -> str:
        """The name with its version, for a tool that has the file already."""
        return self.line if self.version is None else f"{self.name}=={self.version}"

    @property
    def by_file(self) -> str:
        """The requirement with its file where that is known: for tools that know no folders."""
        return f"{self.name} @ {self.url}" if self.url is not None else self.line


class Locked(Struct, frozen=True, kw_only=True):
    """A project with a lock.

    Attributes:
        flags: for `uv sync`, so that it takes what fits the plan's machine.
        backend: what those flags choose; None: the project has no choice.
        package: it has a build backend, so that it is itself installed.
    """

    flags: tuple[str, ...] = ()
    backend: str | None = None
    package: bool = False


class Given(Struct, frozen=True, kw_only=True):
    """A plan and what formats need besides.

    Attributes:
        backend: of the plan; None on platforms without one.
        pins: packages whose build is decided, in the plan's order.
        others: requirements that the tool resolves from the user's own indexes.
        tool: of this program, for the head of a file: `torchinstall 1.2`.
        uv: version of the uv that served here.
        uv_args: the user's own indexes and switches, as uv spells them.
        constraint_files: as typed.
        resolve: asks uv for everything that will be installed, as PEP 751 text.
        lock: the project at hand; None: there is none, or the format does not use it.
    """

    plan: Plan
    target: Target
    machine: Machine
    backend: BackendInfo | None
    pins: tuple[Pin, ...]
    others: tuple[str, ...]
    tool: str
    resolve: Callable[[], str]
    uv: str = ""
    uv_args: tuple[str, ...] = ()
    constraint_files: tuple[str, ...] = ()
    lock: Locked | None = None
    base: str = ""

    @property
    def python(self) -> str:
        """`3.12`."""
        return ".".join(self.target.python_version.split(".")[:2])

    @property
    def indexes(self) -> dict[str, str]:
        """Name -> URL of every index that a pin names, in order."""
        found: dict[str, str] = {}
        for pin in self.pins:
            if pin.index is not None and pin.index not in found.values():
                stem = name = "pytorch-" + pin.index.rstrip("/").rpartition("/")[2].lower().replace(".", "-")
                number = 2
                while name in found:
                    name, number = f"{stem}-{number}", number + 1
                found[name] = pin.index
        return found

    def index_name(self, pin: Pin) -> str | None:
        """The name of the index that a pin comes from."""
        return next((name for name, url in self.indexes.items() if url == pin.index), None)

    def requirements(self) -> tuple[Requirement, ...]:
        """`others`, parsed; those whose marker does not hold for the target are left out."""
        from packaging.requirements import Requirement

        from torchinstall.project.platforms import marker_environment

        environment = marker_environment(self.target.platform, self.python)
        rows = (Requirement(line) for line in self.others)
        return tuple(row for row in rows if row.marker is None or row.marker.evaluate(dict(environment)))

    @property
    def title(self) -> str:
        """What it is for, in one line."""
        return title_of(self.plan, self.target)

    def head(self, how: str = "") -> list[str]:
        """The comment at the head of a file: what it is for, who wrote it, how it is used."""
        made = f"# Written by {self.tool} from tables of {self.plan.catalog.snapshot}."
        return [f"# {self.title}.", made, *([f"# {how}"] if how else [])]


def title_of(plan: Plan, target: Target) -> str:
    """What a plan is for, in one line without a full stop."""
    build = f"torch {plan.torch}" if plan.torch else "torch"
    if plan.backend is not None and plan.backend not in build:
        build += f" ({plan.backend})"
    version = ".".join(target.python_version.split(".")[:2])
    where = f"CPython {version} on {_SYSTEMS[target.os]} {target.arch}"
    gpus = dict.fromkeys(gpu.name or f"{gpu.vendor} {gpu.by}" for gpu in plan.gpus if gpu.covered)
    return f"{build} for {where}" + (f", {', '.join(gpus)}" if gpus else "")


def no_way_to_say(what: str, name: str, *hints: str) -> UsageError:
    """The error of a format that cannot hold something of the plan."""
    return UsageError(
        "not-exportable",
        f"{name} has no way to say {what}",
        wanted="a plan that the format can hold",
        found=what,
        hints=hints or ("torchinstall export --format uv",),
    )
