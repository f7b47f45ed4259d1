"""The doctor's values: what it looks at (`Environment`) and what it has to say (`Diagnosis`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from msgspec import Struct, field

if TYPE_CHECKING:
    from torchinstall.catalog.catalog import Catalog
    from torchinstall.core.machine import Machine
    from torchinstall.core.plan import Plan
    from torchinstall.core.target import Target
    from torchinstall.install.record import Decision
    from torchinstall.install.verify import Report

__all__ = [
    "Diagnosis",
    "Disk",
    "Dist",
    "Environment",
    "Inventory",
    "Project",
    "Remedy",
    "Severity",
    "Surroundings",
    "diagnosis_to_json",
]

Severity = Literal["error", "warning", "info"]
"""An error makes `doctor` exit 7; a warning is a trap that has not closed yet; info is worth knowing."""


class Remedy(Struct, frozen=True, kw_only=True):
    """One thing to type.

    Attributes:
        command: as a person types it.
        argv: what `--fix` runs for it; empty: it is not run for you.
        remove: paths that `--fix` removes instead of running anything.
        restore: folder of kept files that `--fix` puts back instead of running anything.
    """

    command: str
    argv: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    restore: str | None = None

    @property
    def safe(self) -> bool:
        """Whether `--fix` may do it: it changes nothing but this environment."""
        return bool(self.argv or self.remove or self.restore)


class Diagnosis(Struct, frozen=True, kw_only=True):
    """One finding of the doctor.

    Attributes:
        slug: stable kebab-case name.
        message: one sentence, no full stop.
        evidence: what was seen, and where.
        remedies: what to type, the best first; all of them where several are needed.
        advice: what cannot be typed.
    """

    slug: str
    severity: Severity
    message: str
    evidence: tuple[str, ...] = ()
    remedies: tuple[Remedy, ...] = ()
    advice: str | None = None


def diagnosis_to_json(item: Diagnosis) -> dict[str, Any]:
    """One finding as plain JSON values."""
    return {
        "slug": item.slug,
        "severity": item.severity,
        "message": item.message,
        "evidence": list(item.evidence),
        "commands": [remedy.command for remedy in item.remedies],
        "fixable": any(remedy.safe for remedy in item.remedies),
        "advice": item.advice,
    }


class Dist(Struct, frozen=True, kw_only=True):
    """An installed distribution as the doctor sees it.

    Attributes:
        name: normalised.
        requires: its `Requires-Dist` lines.
        site: folder that it is installed in.
        missing: files that its list names and that are not there (at most 20).
        altered: files whose size is not what its list says (at most 20).
        built_for: what its binaries were made for, where it says: `torch`, `cuda`.
    """

    name: str
    version: str
    requires: tuple[str, ...] = ()
    site: str = ""
    missing: tuple[str, ...] = ()
    altered: tuple[str, ...] = ()
    built_for: Mapping[str, str] = field(default_factory=dict)


class Inventory(Struct, frozen=True, kw_only=True):
    """What is in an environment, read by one script in its interpreter.

    Attributes:
        python: the interpreter as it names itself.
        sites: site-packages folders.
        leftovers: paths of folders that begin with `~`, left by an interrupted uninstall.
        kept: paths of folders with files of an install that was killed (`install.keep`).
        user_torch: a torch in the user's own site-packages that this interpreter would import too.
        markers: PEP 508 marker variables of the interpreter.
    """

    python: str
    prefix: str
    sites: tuple[str, ...] = ()
    dists: tuple[Dist, ...] = ()
    leftovers: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    user_torch: str | None = None
    markers: Mapping[str, str] = field(default_factory=dict)

    def named(self, name: str) -> tuple[Dist, ...]:
        """Every distribution of that name: more than one is a fault."""
        return tuple(dist for dist in self.dists if dist.name == name)

    def get(self, name: str) -> Dist | None:
        """The distribution of that name."""
        return next(iter(self.named(name)), None)


class Disk(Struct, frozen=True, kw_only=True):
    """A place that an installation writes to.

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
    """

    root: str
    files: Mapping[str, str] = field(default_factory=dict)
    changes: tuple[tuple[str, str, str], ...] | None = None


class Surroundings(Struct, frozen=True, kw_only=True):
    """What lies around the environment.

    Attributes:
        env: variables that matter.
        cwd: the current folder.
        path_python: what `python` on PATH is, resolved as far as the environment that it belongs to.
        shadows: paths that would be imported instead of an installed package, from the current folder.
        libraries: folder of `LD_LIBRARY_PATH` -> names of CUDA libraries in it.
        compat: folders with a forward-compatibility `libcuda.so` that the loader would take.
        disks: where bytes go.
    """

    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str = ""
    path_python: str | None = None
    shadows: tuple[str, ...] = ()
    libraries: tuple[tuple[str, tuple[str, ...]], ...] = ()
    compat: tuple[str, ...] = ()
    disks: tuple[Disk, ...] = ()
    project: Project | None = None


class Environment(Struct, frozen=True, kw_only=True):
    """Everything that a check may look at.

    Attributes:
        choice: what the planner would choose for the torch release that is installed.
        free: what it would choose with no release asked for.
        report: what verify found; None: it was not asked.
        flags: `--venv DIR` and the like, as given to doctor, so that commands go to the same place.
        python: argument list that runs this torchinstall.
        uv: path of uv.
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
    python: tuple[str, ...] = ("torchinstall",)
    uv: str = "uv"

    def installed(self, name: str) -> str | None:
        """The version of a torch-family package."""
        return next((item.version for item in self.target.installed if item.name == name), None)

    @property
    def backend(self) -> str | None:
        """The backend that the installed torch was built for."""
        return next((item.backend for item in self.target.installed if item.name == "torch"), None)
