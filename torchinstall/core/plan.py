"""The planner's values: candidates, packages, the plan, and its JSON.

The JSON keys are a contract (`docs/reference/plan.md`); more may be added, none renamed.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct, to_builtins

from torchinstall.core.errors import TorchInstallError
from torchinstall.core.machine import VENDOR_NAMES, Vendor
from torchinstall.core.messages import Message
from torchinstall.core.request import Channel, Setting, requirement
from torchinstall.core.target import Target

SCHEMA_VERSION = 1

_OF_TARGET = ("python_version", "implementation", "abi", "platform_tags", "python", "prefix", "why")
"""What the JSON of a plan shows of its target."""

PlanStatus = Literal["ready", "satisfied", "impossible"]
Verdict = Literal["chosen", "accepted", "rejected"]


class Package(Struct, frozen=True, kw_only=True):
    """One package that the plan installs.

    Attributes:
        version: with its local segment; None where uv will choose.
        extras: that bring the code for a GPU, on an index of a vendor.
        variant: label of the wheel variant.
        wheel: file name, where known.
        index_url: where it comes from; None: the user's default index.
        url: of that very file, where nothing else would make uv take it.
        routed: it must come from `index_url` (or from `--find-links`) and from nowhere else.
    """

    name: str
    version: str | None
    extras: tuple[str, ...] = ()
    variant: str | None = None
    url: str | None = None
    wheel: str | None = None
    sha256: str | None = None
    index_url: str | None = None
    routed: bool = True


class GpuVerdict(Struct, frozen=True, kw_only=True):
    """Whether the chosen build runs on one GPU, and through which code (`sm_86`, `gfx1100`) or why not."""

    vendor: Vendor
    index: int | None
    name: str | None
    covered: bool
    by: str

    @property
    def label(self) -> str:
        """What to call it in a sentence."""
        return self.name or f"{VENDOR_NAMES[self.vendor]} GPU"


class Candidate(Struct, frozen=True):
    """One build (backend x torch release) that was considered.

    Attributes:
        rule: the rule that rejected it; None unless rejected.
        wanted: what the rule needed.
        found: what was there.
    """

    backend: str
    torch: str
    verdict: Verdict
    rule: str | None = None
    wanted: str | None = None
    found: str | None = None


class KnownLimit(Struct, frozen=True, kw_only=True):
    """What a build, or a newer one that was left out because of it, cannot do on this machine.

    Attributes:
        severity: `blocks`: it does not compute; `degrades`: it does, but `effect` does not work or is slow.
        gpu: name of the GPU that it is about; None: the machine.
        effect: `compile`, `attention`, `gemm` …
        source: where that is known from.
    """

    slug: str
    severity: Literal["blocks", "degrades"]
    gpu: str | None
    effect: str
    message: str
    source: str


class CompanionUse(Struct, frozen=True, kw_only=True):
    """A package that is built against torch, and its part in the choice.

    Attributes:
        version: that is planned, or bounds where uv chooses within them; None: uv chooses, or there is none.
        kind: how it says what it is built for: see `companion_builds.json`.
        allows: releases of torch that it has ready files for here, newest first.
        held_back: the newest torch that would be possible without it; None: it keeps none out.
    """

    name: str
    version: str | None
    kind: str
    allows: tuple[str, ...] = ()
    held_back: str | None = None


class CatalogUse(Struct, frozen=True, kw_only=True):
    """How old the knowledge is: date of the shipped tables, and which pages were read live."""

    snapshot: str
    live: tuple[str, ...] = ()


class Room(Struct, frozen=True, kw_only=True):
    """A folder that gets files: about how many bytes they take there, and how many its disk has left."""

    folder: str
    bytes: int
    free: int


class Download(Struct, frozen=True, kw_only=True):
    """What an installation brings down and puts on the disk.

    Attributes:
        bytes: that come over the network, of the files whose size is known.
        disk_bytes: that all of it takes unpacked, about.
        unknown: packages whose size nobody says.
        files: how many come over the network.
        rooms: where it goes; uv's cache, which the environment shares files with where it can.
    """

    bytes: int
    disk_bytes: int
    unknown: tuple[str, ...] = ()
    files: int = 0
    rooms: tuple[Room, ...] = ()


class Plan(Struct, frozen=True, kw_only=True):
    """The decision. `command`, `env` and `project` are filled by `install.command`, the rest by `plan()`.

    Attributes:
        index_url: of the chosen backend; None: the default index.
        kept: torch is installed already and stays, whatever is added beside it.
        find_links: folders that the chosen build comes from.
        requirements: as asked, torch added.
        candidates: newest first, one per backend and release considered.
        ready_only: packages that uv must not build from source.
        builds: packages that it builds from source, against the torch that is installed by then.
        build_tools: what these builds need in the environment.
        project: the generated project file that `command` installs from.
        download: None until uv has said what it would do.
    """

    status: PlanStatus
    backend: str | None
    channel: Channel
    index_url: str | None
    requirements: tuple[str, ...]
    packages: tuple[Package, ...]
    target: Target
    gpus: tuple[GpuVerdict, ...]
    candidates: tuple[Candidate, ...]
    warnings: tuple[Message, ...]
    settings: tuple[Setting, ...]
    catalog: CatalogUse
    kept: bool = False
    find_links: tuple[str, ...] = ()
    companions: tuple[CompanionUse, ...] = ()
    ready_only: tuple[str, ...] = ()
    builds: tuple[str, ...] = ()
    build_tools: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    env: tuple[tuple[str, str | None], ...] = ()
    project: str | None = None
    error: TorchInstallError | None = None
    limits: tuple[KnownLimit, ...] = ()
    download: Download | None = None

    @property
    def chosen(self) -> Candidate | None:
        """The candidate that won."""
        return next((item for item in self.candidates if item.verdict == "chosen"), None)

    @property
    def torch(self) -> str | None:
        """The torch version that will be installed, local segment included."""
        return next((package.version for package in self.packages if package.name == "torch"), None)

    @property
    def direct(self) -> dict[str, str]:
        """Name -> text of the requirements that name their file."""
        texts = (text for text in self.requirements if " @ " in text)
        return {requirement(text).package: text for text in texts}


def plan_to_json(plan: Plan) -> dict[str, Any]:
    """The plan as plain JSON values; what shows it hides credentials, as it does in everything."""
    data = to_builtins(plan, enc_hook=TorchInstallError.to_json)
    target = to_builtins({name: getattr(plan.target, name) for name in _OF_TARGET})
    return {"schema_version": SCHEMA_VERSION, **data, "target": target, "env": dict(plan.env)}
