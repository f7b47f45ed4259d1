"""What the doctor examines (`Environment`) and what it reports (`Diagnosis`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from msgspec import Struct, field

from torchinstall.catalog.catalog import Catalog
from torchinstall.core.machine import Machine
from torchinstall.core.messages import Message
from torchinstall.core.plan import Plan
from torchinstall.core.target import Target
from torchinstall.install.interpreter import Inventory
from torchinstall.install.record import Decision
from torchinstall.install.verify import Report

Severity = Literal["error", "warning", "info"]
"""An error makes `doctor` exit 7; a warning is a fault that has not struck yet; info is worth knowing."""


class Remedy(Struct, frozen=True, kw_only=True):
    """One thing to do.

    Attributes:
        command: as a person types it.
        argv: what `--fix` runs for it, uv or torchinstall; empty: `--fix` runs nothing.
        remove: paths that `--fix` removes.
        first: `--fix` does it before it looks at anything else.
    """

    command: str
    argv: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    first: bool = False

    @property
    def safe(self) -> bool:
        """Whether `--fix` may do it: it changes nothing outside this environment."""
        return bool(self.argv or self.remove or self.first)


class Diagnosis(Struct, frozen=True, kw_only=True):
    """One finding of the doctor.

    Attributes:
        slug: stable kebab-case name.
        message: one sentence, no full stop.
        evidence: what was found, and where.
        remedies: what to type, in this order.
        advice: what cannot be typed.
    """

    slug: str
    severity: Severity
    message: str
    evidence: tuple[str, ...] = ()
    remedies: tuple[Remedy, ...] = ()
    advice: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "slug": self.slug,
            "severity": self.severity,
            "message": self.message,
            "evidence": list(self.evidence),
            "commands": [remedy.command for remedy in self.remedies],
            "fixable": any(remedy.safe for remedy in self.remedies),
            "advice": self.advice,
        }


class Disk(Struct, frozen=True, kw_only=True):
    """A folder that an installation writes to.

    Attributes:
        what: `environment`, `uv cache`, `temporary files`.
        device: number of the filesystem.
        free: bytes that this user may still write.
    """

    what: str
    path: str
    device: int
    free: int


class Project(Struct, frozen=True, kw_only=True):
    """The project that the current folder belongs to.

    Attributes:
        files: name -> text of `pyproject.toml`, `uv.toml`, `requirements*.txt` … in `root`.
        changes: what `uv sync` would do to this environment, as (name, version, action); None: unknown,
            or the project uses another environment.
        choice: the flags of uv for the extra or group of the project that is installed, where a bare
            `uv sync` takes another one.
    """

    root: str
    files: Mapping[str, str] = field(default_factory=dict)
    changes: tuple[tuple[str, str, str], ...] | None = None
    choice: tuple[str, ...] = ()


class Surroundings(Struct, frozen=True, kw_only=True):
    """What lies around the environment.

    Attributes:
        env: variables that matter.
        path_python: the `python` on PATH; links out of its environment are not followed.
        shadows: paths that would be imported instead of an installed package, from the current folder.
        libraries: folder of `LD_LIBRARY_PATH` -> names of CUDA libraries in it.
        disks: where an installation writes.
    """

    env: Mapping[str, str] = field(default_factory=dict)
    path_python: str | None = None
    shadows: tuple[str, ...] = ()
    libraries: tuple[tuple[str, tuple[str, ...]], ...] = ()
    disks: tuple[Disk, ...] = ()
    project: Project | None = None


class Environment(Struct, frozen=True, kw_only=True):
    """Everything that a check may use.

    Attributes:
        choice: what the planner would choose for the torch release that is installed.
        free: what it would choose if no release were asked for.
        report: what verify found; None: it did not run.
        flags: `--venv DIR` and the like, as given to doctor, so that commands go to the same environment.
        uv: path of uv.
        unfinished: a change of this environment that has not come to its end.
    """

    machine: Machine
    target: Target
    inventory: Inventory
    surroundings: Surroundings
    catalog: Catalog
    choice: Plan | None = None
    free: Plan | None = None
    decision: Decision | None = None
    report: Report | None = None
    flags: tuple[str, ...] = ()
    uv: str = "uv"
    unfinished: Message | None = None

    def installed(self, name: str) -> str | None:
        """The version of a torch-family package."""
        return next((item.version for item in self.target.installed if item.name == name), None)

    @property
    def release(self) -> str | None:
        """The public version of the installed torch, without its local segment."""
        torch = self.installed("torch")
        return None if torch is None else torch.partition("+")[0]

    @property
    def backend(self) -> str | None:
        """The backend that the installed torch was built for."""
        return next((item.backend for item in self.target.installed if item.name == "torch"), None)

    @property
    def companions(self) -> tuple[str, ...]:
        """Installed packages whose version follows from torch's, such as torchvision."""
        return tuple(
            dict.fromkeys(
                item.name
                for item in self.target.installed
                if item.name != "torch" and (family := self.catalog.family(item.name)) is not None
                if family.routed and family.pairing != "free"
            )
        )

    def moves_with_torch(self, package: str) -> bool:
        """Whether a package is torch, or is built for one torch and one backend."""
        family = self.catalog.family(package)
        return family is not None and not family.own_cuda

    @property
    def better(self) -> Plan | None:
        """What should be installed instead: the same release where one of its builds fits, else any."""
        return self.choice if self.choice is not None and self.choice.error is None else self.free
