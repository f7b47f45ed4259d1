"""A second opinion on companions: try every build of torch, newest first, against file names and pins.

Nothing here asks the planner which builds of a companion fit. What a file is for is read from its name with
`packaging`, pins and code lists are written down a second time, and every combination is tried. Only which
builds of torch run on a machine, without companions, is taken from a plan for torch alone.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.utils import parse_wheel_filename
from packaging.version import Version

from tests.support.index_server import IndexServer
from tests.support.index_tree import IndexTree
from tests.support.planning import linux, nvidia
from tests.support.tables import Rows, changed, copied
from tests.support.wheelhouse import TinyWheel, wheel, wheel_of_name
from torchinstall.catalog.catalog import Catalog, load_catalog
from torchinstall.core.request import Request, requirement
from torchinstall.core.target import foreign_target
from torchinstall.index.fetch import LiveOptions, LiveResult, fetch_pages
from torchinstall.planner.selection import plan
from torchinstall.planning.companion_pages import with_companions
from torchinstall.planning.inputs import Inputs

if TYPE_CHECKING:
    from torchinstall.catalog.tables import PageKey
    from torchinstall.core.machine import Machine
    from torchinstall.core.plan import Plan

MATRIX = {
    "2.6": "12.4 12.6",
    "2.7": "12.6 12.8",
    "2.8": "12.6 12.8 12.9",
    "2.9": "12.6 12.8 12.9 13.0",
    "2.10": "12.6 12.8 12.9 13.0",
    "2.11": "12.6 12.8 12.9 13.0",
    "2.12": "12.6 13.0 13.2",
    "2.13": "13.0",
}
"""torch -> toolkits that the GPU index has files for; 2.13 is newer than any table knows."""

OLD: tuple[tuple[int, int], ...] = ((7, 0), (7, 5), (8, 0), (8, 6), (9, 0))
NEW = (*OLD, (10, 0), (12, 0))
TAGGED = {
    "flash-attn": "2.8.3",
    "mamba-ssm": "2.3.2.post1",
    "causal-conv1d": "1.6.2.post1",
    "sageattention": "2.2.0",
}
Release = tuple[str, str, str, int, int, int, str | None, str, str]
"""Version, torch, backends, first and last Python, glibc, pins of tilelang, torchvision, torchaudio."""

VLLM: list[Release] = [
    # version, torch, backends, first and last Python, glibc, tilelang, torchvision, torchaudio
    ("0.33.0", "2.14.0", r"cu13\d", 11, 14, 28, "0.1.12", "0.29.0", "2.11.0"),
    ("0.32.0", "2.13.0", r"cu13\d", 11, 14, 28, "0.1.12", "0.28.0", "2.11.0"),
    ("0.31.0", "2.13.0", r"cu13\d", 10, 14, 28, "0.1.12", "0.28.0", "2.11.0"),
    ("0.30.0+cu129", "2.13.0", r"cu129", 10, 14, 28, "0.1.12", "0.28.0", "2.11.0"),
    ("0.26.0", "2.11.0", r"cu13\d", 10, 14, 28, "0.1.9", "0.26.0", "2.11.0"),
    ("0.26.0+cu129", "2.11.0", r"cu129", 10, 14, 28, "0.1.9", "0.26.0", "2.11.0"),
    ("0.19.1", "2.10.0", r"cu12\d", 10, 13, 31, None, "0.25.0", "2.10.0"),
    ("0.16.0", "2.9.1", r"cu12\d", 10, 13, 31, None, "0.24.1", "2.9.1"),
    ("0.13.0", "2.9.0", r"cu12\d", 10, 13, 31, None, "0.24.0", "2.9.0"),
    ("0.11.2", "2.9.0", r"cu12\d", 10, 13, 5, None, "0.24.0", "2.9.0"),
    ("0.10.2", "2.8.0", r"cu12\d", 9, 13, 5, None, "0.23.0", "2.8.0"),
    ("0.9.2", "2.7.0", r"cu12\d", 9, 12, 5, None, "0.22.0", "2.7.0"),
    ("0.8.5.post1", "2.6.0", r"cu12\d", 9, 12, 5, None, "0.21.0", "2.6.0"),
]
UNKNOWN = ("0.34.0", "2.15.0", r"cu13\d", 11, 14, 28, "0.1.12", "0.29.2", "2.11.0")
"""A release that no table knows: only its metadata on the default index says what it needs."""

XFORMERS = [
    (">=2.10", "cu126 cu128 cu129 cu130"),
    ("==2.9.1", "cu126 cu128 cu129 cu130"),
    ("==2.9.0", "cu126 cu128 cu129 cu130"),
    ("==2.8.0", "cu126 cu128 cu129"),
    ("==2.7.1", "cu126 cu128"),
    ("==2.7.0", "cu126 cu128"),
    ("==2.6.0", "cu124 cu126 cu128"),
]
GPUS = [
    ("T4", 7, 5),
    ("V100", 7, 0),
    ("A100", 8, 0),
    ("A10G", 8, 6),
    ("L4", 8, 9),
    ("H100", 9, 0),
    ("B200", 10, 0),
    ("RTX 5090", 12, 0),
]
DRIVERS = {"550.163.01": (12, 4), "570.86.15": (12, 8), "580.95.05": (13, 0), "610.43.02": (13, 3)}


@dataclass
class Published:
    """One GPU index (the file names of each of its pages) and the releases of vllm that are published."""

    pages: dict[str, list[str]]
    vllm: list[Release]
    default: str
    catalog: Catalog = field(default_factory=load_catalog)
    read: dict[tuple[str, str], LiveResult] = field(default_factory=dict)


@dataclass(frozen=True)
class Question:
    """A machine, a Python and what is asked for."""

    gpu: tuple[str, int, int]
    driver: str
    python: int
    glibc: int
    asked: tuple[str, ...]

    @property
    def machine(self) -> Machine:
        name, major, minor = self.gpu
        return linux(nvidia(name, f"{major}.{minor}"), driver=self.driver, glibc=f"2.{self.glibc}")


def _pages(rng: random.Random) -> dict[str, list[str]]:
    """Names as the index really writes them, with holes."""
    pages: dict[str, list[str]] = {}
    for torch, toolkits in MATRIX.items():
        for cuda in toolkits.split():
            page = pages.setdefault("cu" + cuda.replace(".", ""), [])
            for name, version in TAGGED.items():
                if rng.random() < 0.25 or (torch == "2.13" and rng.random() < 0.7):
                    continue
                for minor in range(10, 15):
                    if rng.random() < 0.85:
                        stem = f"{name.replace('-', '_')}-{version}+cu.{cuda}.torch.{torch}"
                        page.append(
                            f"{stem}-cp3{minor}-cp3{minor}-manylinux_2_24_x86_64.manylinux_2_28_x86_64.whl"
                        )
    return pages


def _releases(rng: random.Random) -> Iterator[Release]:
    """What is published of vllm; other places than the default index are not read."""
    for release in (UNKNOWN, *VLLM):
        if rng.random() < (0.6 if release is UNKNOWN else 0.75) or "+" in release[0]:
            yield release


def _wheel_of(release: Release) -> TinyWheel:
    version, torch, _, first, last, glibc, tilelang, vision, audio = release
    pins = (f"torch=={torch}", f"torchvision=={vision}", f"torchaudio=={audio}", "numpy")
    more = (f"tilelang=={tilelang}",) if tilelang else ()
    tag = f"cp38-abi3-manylinux_2_{glibc}_x86_64"
    return wheel("vllm", version, tag, requires=(*pins, *more), requires_python=f">=3.{first},<3.{last + 1}")


def worlds(number: int, seed: int, folder: Path) -> list[tuple[Published, IndexServer]]:
    """Loopback servers, each with another index; the caller enters and leaves them."""
    found = []
    for count in range(number):
        pages = _pages(random.Random(seed * 1000 + count))  # noqa: S311  seeded, so that a run can be repeated
        tree = IndexTree(
            {backend: map(wheel_of_name, names) for backend, names in pages.items()}, missing_status=404
        )
        vllm = list(_releases(random.Random(seed * 1000 + count)))  # noqa: S311  as above
        on_default = [_wheel_of(release) for release in vllm if "+" not in release[0]]
        server = IndexServer(tree, default=IndexTree({"": on_default}, kind="pypi"))
        home = folder / str(count)
        home.mkdir()
        tables = copied(home)

        def loopback(rows: Rows, base: str = server.index_base) -> None:
            for row in rows:
                if row["id"] == "astral":
                    row["url"] = f"{base}/{{backend}}"

        def served(rows: Rows) -> None:
            rows[:] = [
                row for row in rows if row.get("place", "pypi") in ("pypi", "astral", "vllm", "pytorch")
            ]

        changed(tables, "places.json", loopback)
        changed(tables, "companion_builds.json", served)
        found.append((Published(pages, vllm, server.default_index, load_catalog(tables)), server))
    return found


def questions(number: int, seed: int) -> list[Question]:
    """Random machines and requests."""
    rng = random.Random(seed)  # noqa: S311  seeded, so that a run can be repeated
    names = [*TAGGED, "vllm", "xformers", "bitsandbytes"]
    return [
        Question(
            gpu=rng.choice(GPUS),
            driver=rng.choice(list(DRIVERS)),
            python=rng.choice((10, 11, 12, 13, 14)),
            glibc=rng.choice((28, 39, 39)),
            asked=tuple(sorted(rng.sample(names, rng.choice((1, 1, 2, 2, 3))))),
        )
        for _ in range(number)
    ]


def ask(question: Question, world: Published) -> tuple[tuple[str, str] | None, tuple[str, str] | None]:
    """The build (torch, backend) of the planner and of brute force; None: there is none."""
    return _planned(question, world), _tried(question, world)


def _plan(question: Question, catalog: Catalog, *names: str) -> Plan:
    target = foreign_target(question.machine, f"3.{question.python}")
    asked = tuple(map(requirement, ("torch", *names)))
    return plan(Request(requirements=asked), question.machine, target, catalog)


def _planned(question: Question, world: Published) -> tuple[str, str] | None:
    def read(keys: tuple[PageKey, ...], base: str) -> LiveResult:
        options = LiveOptions(index_base=base, allow_insecure=("127.0.0.1",))
        key = (base, str(keys))
        if key not in world.read:
            world.read[key] = fetch_pages(keys, options)
        return world.read[key]

    def describe(names: Mapping[str, str]) -> LiveResult:
        key = (world.default, str(sorted(names)))
        if key not in world.read:
            options = LiveOptions(
                index_base=f"{world.default}/{{package}}",
                allow_insecure=("127.0.0.1",),
                any_host=True,
                described=names,
            )
            world.read[key] = fetch_pages([(name, "") for name in sorted(names)], options)
        return world.read[key]

    inputs = Inputs(
        machine=question.machine,
        target=foreign_target(question.machine, f"3.{question.python}"),
        catalog=world.catalog,
        request=Request(requirements=tuple(map(requirement, ("torch", *question.asked)))),
    )
    made = _plan(question, with_companions(inputs, read, describe).catalog, *question.asked)
    chosen = made.chosen
    return (chosen.torch, chosen.backend) if chosen is not None and chosen.backend != "cpu" else None


def _tried(question: Question, world: Published) -> tuple[str, str] | None:
    alone = _plan(question, world.catalog)
    able = [
        (row.torch, row.backend)
        for row in alone.candidates
        if row.verdict != "rejected" and row.backend[:2] == "cu"
    ]

    def order(build: tuple[str, str]) -> tuple[object, ...]:
        toolkit = (int(build[1][2:4]), int(build[1][4:]))
        within = toolkit <= DRIVERS[question.driver]
        size = toolkit[0] * 100 + toolkit[1]
        return Version(build[0]), within, size if within else -size

    for torch, backend in sorted(able, key=order, reverse=True):
        if _goes(question, world, torch, backend):
            return torch, backend
    return None


def _goes(question: Question, world: Published, torch: str, backend: str) -> bool:
    """Whether every combination fails or one holds: pins of tilelang must agree."""
    pins = [list(_ways(name, question, world, torch, backend)) for name in question.asked]
    return any(len(set(combination) - {None}) < 2 for combination in itertools.product(*pins))


def _ways(name: str, question: Question, world: Published, torch: str, backend: str) -> set[str | None]:
    """The pins of tilelang of every file of a package that goes with a build; empty: no file does."""
    if name in TAGGED:
        found = any(_fits(file, name, question, torch, backend) for file in world.pages.get(backend, ()))
        pin = "0.1.8" if name == "mamba-ssm" else None
        return {pin} if found and _code(name, question, backend) else set()
    if name == "bitsandbytes":
        return {None} if _bitsandbytes(question, backend) else set()
    if name == "xformers":
        goes = any(
            (Version(torch) >= Version(rule[2:]) if rule[0] == ">" else torch == rule[2:])
            and backend in names.split()
            for rule, names in XFORMERS
        )
        old = torch in ("2.7.0", "2.6.0")
        code = question.gpu[1:] in ((7, 5), (9, 0), (10, 0), (12, 0)) or question.gpu[1] == 8
        return {None} if goes and code and not (old and question.python > 12) else set()
    return {
        tilelang
        for _, pinned, backends, first, last, glibc, tilelang, vision, audio in world.vllm
        if pinned == torch
        and re.fullmatch(backends, backend)
        and first <= question.python <= last
        and glibc <= question.glibc
        and (question.gpu[1:] >= (7, 5) or (question.gpu[1:] >= (7, 0) and tilelang is None))
        and all(
            _published(world, *pair, backend, question)
            for pair in (("torchvision", vision), ("torchaudio", audio))
        )
    }


def _published(world: Published, package: str, version: str, backend: str, question: Question) -> bool:
    tag = f"cp3{question.python}"
    return any(
        row.package == package
        and row.version == version
        and row.backend == backend
        and row.origin == "index"
        and row.platform_tag.endswith("_x86_64")
        and {f"{tag}-{tag}", "py3-none"} & row.tags
        for row in world.catalog.tables.wheels
    )


def _fits(file: str, name: str, question: Question, torch: str, backend: str) -> bool:
    project, version, _, tags = parse_wheel_filename(file)
    local = str(version).partition("+")[2].split(".")
    wanted = ["cu", backend[2:4], backend[4:], "torch", *torch.split(".")[:2]]
    python = f"cp3{question.python}"
    return project == name and local == wanted and any(tag.interpreter == python == tag.abi for tag in tags)


def _code(name: str, question: Question, backend: str) -> bool:
    """Code of the index's builds: the whole list, and PTX of its last entry for all that is newer."""
    if name in ("mamba-ssm", "causal-conv1d"):
        return True  # nobody wrote down which
    new = (int(backend[2:4]), int(backend[4:])) >= (12, 8)
    device = question.gpu[1:]
    listed = NEW if new else OLD
    if name == "flash-attn":
        listed = tuple(code for code in listed if code in ((8, 0), (9, 0), (10, 0), (12, 0)))
    own = any(code[0] == device[0] and code[1] <= device[1] for code in listed)
    jit = DRIVERS[question.driver] >= (int(backend[2:4]), int(backend[4:]))
    return own or (name == "sageattention" and jit and device >= listed[-1])


def _bitsandbytes(question: Question, backend: str) -> bool:
    toolkit, device = (int(backend[2:4]), int(backend[4:])), question.gpu[1:]
    if toolkit >= (13, 0):
        return device >= (7, 5)
    return device >= (7, 0) if toolkit >= (12, 8) else device < (10, 0)
