"""What the doctor examines (`Environment`), what it reports (`Diagnosis`), and what to type against it."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Literal

from msgspec import Struct, field

from torchinstall.catalog.catalog import Catalog
from torchinstall.catalog.model import BackendInfo, Companion
from torchinstall.core.machine import Machine
from torchinstall.core.messages import Message
from torchinstall.core.plan import Plan
from torchinstall.core.target import Installed, Target
from torchinstall.install.interpreter import Inventory
from torchinstall.install.record import Decision
from torchinstall.install.verify import Report
from torchinstall.project.files import loads
from torchinstall.project.pyproject import ProjectView

Severity = Literal["error", "warning", "info"]
"""An error makes `doctor` exit 7; a warning is a fault that has not struck yet; info is worth knowing."""


class Remedy(Struct, frozen=True):
    """One thing to do, as a person types it.

    Attributes:
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


class Diagnosis(Struct, frozen=True):
    """One finding of the doctor.

    Attributes:
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


class Project(Struct, frozen=True, kw_only=True):
    """The project that the current folder belongs to.

    Attributes:
        files: name -> text of `pyproject.toml`, `uv.toml`, `requirements*.txt` … in `root`.
        changes: the version that each package has after `uv sync`, None where it is removed; None in all:
            unknown, or the project uses another environment.
        choice: the flags of uv for the extra or group of the project that is installed, where a bare
            `uv sync` takes another one.
    """

    root: str
    files: Mapping[str, str] = field(default_factory=dict)
    changes: Mapping[str, str | None] | None = None
    choice: tuple[str, ...] = ()

    @property
    def view(self) -> ProjectView:
        """What `pyproject.toml` says; nothing where it is not TOML: uv itself reports that."""
        return ProjectView(loads(self.files.get("pyproject.toml", "")) or {})


class Surroundings(Struct, frozen=True, kw_only=True):
    """What lies around the environment.

    Attributes:
        env: variables that matter.
        path_python: the `python` on PATH; links out of its environment are not followed.
        shadows: paths that would be imported instead of an installed package, from the current folder.
        on_path: such paths in folders of `PYTHONPATH`.
        libraries: folder of `LD_LIBRARY_PATH` -> names of CUDA libraries in it.
        own_libraries: names of those that the packages in the environment bring.
    """

    env: Mapping[str, str] = field(default_factory=dict)
    path_python: str | None = None
    shadows: tuple[str, ...] = ()
    on_path: tuple[str, ...] = ()
    libraries: tuple[tuple[str, tuple[str, ...]], ...] = ()
    own_libraries: frozenset[str] = frozenset()
    project: Project | None = None


class Environment(Struct, frozen=True, kw_only=True):
    """Everything that a check may use.

    Attributes:
        choice: what the planner would choose for the torch release that is installed.
        free: what it would choose if no release were asked for.
        report: what verify found; None: it did not run.
        flags: `--venv DIR` and the like, as given to doctor, so that commands go to the same environment.
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
    def build(self) -> BackendInfo | None:
        """That backend, where it is known."""
        return None if self.backend is None else self.catalog.backend(self.backend)

    @property
    def own_build(self) -> bool:
        """Whether somebody else than PyTorch built this torch (NVIDIA's `+nv25.10`, `+git1234567`)."""
        local = (self.installed("torch") or "").partition("+")[2]
        return bool(local) and local != self.backend

    @property
    def companions(self) -> tuple[str, ...]:
        """Installed packages whose version follows from torch's, such as torchvision."""
        return tuple(
            dict.fromkeys(
                item.name
                for item in self.target.installed
                if item.name != "torch" and (family := self.catalog.family(item.name)) is not None
                if family.follows_torch and not family.ended
            )
        )

    @property
    def twice(self) -> frozenset[str]:
        """Packages that are recorded more than once: nobody knows which version their files are of."""
        count = Counter(dist.name for dist in self.inventory.dists)
        return frozenset(name for name, number in count.items() if number > 1)

    def moves_with_torch(self, package: str) -> bool:
        """Whether a package is torch, or is built for one torch and one backend."""
        family = self.catalog.family(package)
        return family is not None and not family.own_cuda

    @property
    def better(self) -> Plan | None:
        """What should be installed instead: the same release where one of its builds fits, else any."""
        return self.choice if self.choice is not None and self.choice.error is None else self.free


def misfits(seen: Environment) -> Iterator[tuple[Installed, Companion | None]]:
    """Packages of torch's family for another backend, or, with the row of what fits, for another torch.

    What torch's own metadata asks for (Triton), and what says itself what it was built for, is left out.
    """
    for item in seen.target.installed if "torch" not in seen.twice else ():
        family, row = seen.catalog.family(item.name), seen.catalog.companion(seen.release or "", item.name)
        if item.name in ("torch", *seen.twice) or family is None or family.own_cuda:
            continue
        public = item.version.partition("+")[0].removesuffix("a0")  # a checkout of 0.18.0 is 0.18.0a0+6043bc2
        if None not in (item.backend, seen.backend) and item.backend != seen.backend:
            yield item, None
        elif row is not None and not family.runtime_of and row.version != public:
            yield item, row


def auto(seen: Environment, *arguments: str) -> Remedy:
    """`torchinstall auto` for this environment; where a nightly build is installed, on its channel."""
    nightly = ".dev" in (seen.installed("torch") or "") and "--channel" not in seen.flags
    words = ("torchinstall", "auto", *seen.flags, *(("--channel", "nightly") if nightly else ()), *arguments)
    return Remedy(shlex.join(words), argv=words)


def family_requirements(seen: Environment) -> tuple[str, ...]:
    """The installed release of torch, and the companions by name.

    Where no build of that release runs here, torch by name only.
    """
    possible = seen.choice is None or seen.choice.error is None
    first = f"torch=={seen.release}" if seen.release is not None and possible else "torch"
    return (first, *seen.companions)


def right(seen: Environment) -> Remedy:
    """The right build of the installed release, with the companions."""
    return auto(seen, *family_requirements(seen))


def reinstall(seen: Environment, *packages: str) -> Remedy:
    """The same build again, its files written again."""
    again = [item for name in packages for item in ("--reinstall-package", name)]
    return auto(seen, *family_requirements(seen), "--", *again)


def uv_pip(seen: Environment, action: str, *arguments: str) -> Remedy:
    """`uv pip install` or `uv pip uninstall` in this environment."""
    words = ["pip", action, "--python", seen.target.python or "python", *arguments]
    return Remedy(shlex.join(["uv", *words]), argv=(seen.uv, *words))


def remove(seen: Environment, paths: Iterable[str]) -> Remedy:
    """Remove files or folders."""
    gone = tuple(paths)
    tool = "Remove-Item -Recurse" if seen.target.os == "windows" else "rm -r"
    return Remedy(f"{tool} {shlex.join(gone)}", remove=gone)


def next_remedies(found: Iterable[Diagnosis], done: Collection[Remedy]) -> tuple[Remedy, ...]:
    """What `--fix` does next: all that one fault needs, and nothing twice."""
    safe = (
        item.remedies
        for item in found
        if item.severity != "info" and all(remedy.safe and not remedy.first for remedy in item.remedies)
    )
    return next((remedies for remedies in safe if not set(remedies) <= set(done)), ())
