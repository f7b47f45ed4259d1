"""A small world that stands still: a catalog of a few releases, and an index with exactly those wheels."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

from tests.support.index_tree import IndexTree
from tests.support.wheelhouse import TinyWheel, torch_wheel, wheel
from torchinstall.catalog.catalog import Catalog
from torchinstall.catalog.model import Companion, Family, Wheels
from torchinstall.catalog.tables import Tables

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torchinstall.catalog.model import Origin

PLATFORMS = {
    "LX": "manylinux_2_28_x86_64",
    "LA": "manylinux_2_28_aarch64",
    "W": "win_amd64",
    "M": "macosx_11_0_arm64",
}
PYTHONS = {
    "2.5.1": ("cp310", "cp311", "cp312"),
    "2.8.0": ("cp310", "cp311", "cp312", "cp313"),
    "2.9.1": ("cp310", "cp311", "cp312", "cp313"),
    "2.10.0": ("cp310", "cp311", "cp312", "cp313", "cp314"),
    "2.11.0": ("cp311", "cp312", "cp313", "cp314"),
}
VISION = {"2.5.1": "0.20.1", "2.8.0": "0.23.0", "2.9.1": "0.24.1", "2.10.0": "0.25.0", "2.11.0": "0.26.0"}
AUDIO = {"2.5.1": "2.5.1", "2.8.0": "2.8.0", "2.9.1": "2.9.1", "2.10.0": "2.10.0"}
PUBLISHED = {
    "cpu": dict.fromkeys(PYTHONS, "LX LA W"),
    "cu121": {"2.5.1": "LX W"},
    "cu126": {"2.8.0": "LX W", "2.9.1": "LX LA W", "2.10.0": "LX LA W"},
    "cu128": {"2.8.0": "LX W", "2.9.1": "LX LA W", "2.10.0": "LX LA W", "2.11.0": "LX LA W"},
    "cu129": {"2.8.0": "LX LA W", "2.10.0": "LX LA"},
    "cu130": {"2.9.1": "LX LA W", "2.10.0": "LX LA W", "2.11.0": "LX LA W"},
    "rocm6.4": {"2.8.0": "LX", "2.9.1": "LX"},
    "rocm7.1": {"2.10.0": "LX", "2.11.0": "LX"},
    "xpu": {"2.8.0": "LX W", "2.9.1": "LX W", "2.10.0": "LX W"},
}
RUNTIME = {
    ("rocm6.4", "2.8.0"): ("pytorch-triton-rocm", "3.4.0"),
    ("rocm6.4", "2.9.1"): ("pytorch-triton-rocm", "3.5.1"),
    ("rocm7.1", "2.10.0"): ("triton-rocm", "3.6.0"),
    ("rocm7.1", "2.11.0"): ("triton-rocm", "3.6.0"),
    ("xpu", "2.8.0"): ("pytorch-triton-xpu", "3.4.0"),
    ("xpu", "2.9.1"): ("pytorch-triton-xpu", "3.5.0"),
    ("xpu", "2.10.0"): ("triton-xpu", "3.6.0"),
}
FAMILIES = {
    "torch": (),
    "torchvision": (),
    "torchaudio": (),
    "pytorch-triton-rocm": ("rocm",),
    "triton-rocm": ("rocm",),
    "pytorch-triton-xpu": ("xpu",),
    "triton-xpu": ("xpu",),
}


def _rows() -> Iterator[Wheels]:
    for backend, releases in PUBLISHED.items():
        for release, platforms in releases.items():
            for key in platforms.split():
                tags = frozenset(f"{python}-{python}" for python in PYTHONS[release])
                for package, version in _together(release):
                    yield _row(package, version, backend, backend, PLATFORMS[key], tags, "index")
                if runtime := RUNTIME.get((backend, release)):
                    yield _row(*runtime, "", backend, PLATFORMS[key], tags, "index")
    for release, pythons in PYTHONS.items():
        tags = frozenset(f"{python}-{python}" for python in pythons)
        for platform in PLATFORMS.values():
            for package, version in _together(release):
                yield _row(package, version, "", "cpu", platform, tags, "default")


def _together(release: str) -> Iterator[tuple[str, str]]:
    yield "torch", release
    yield "torchvision", VISION[release]
    if release in AUDIO:
        yield "torchaudio", AUDIO[release]


def _row(
    package: str, version: str, local: str, backend: str, platform: str, tags: frozenset[str], origin: Origin
) -> Wheels:
    return Wheels(
        package=package,
        version=version,
        local=local,
        backend=backend,
        platform_tag=platform,
        tag_list=" ".join(sorted(tags)),
        origin=origin,
        source="small",
        confidence="high",
    )


def _companions() -> Iterator[Companion]:
    for table, package in ((VISION, "torchvision"), (AUDIO, "torchaudio")):
        for release, version in table.items():
            yield Companion(release, package, version, exact=True, source="small", confidence="high")
    for (_, release), (package, version) in RUNTIME.items():
        yield Companion(release, package, version, exact=True, source="small", confidence="high")


class SmallTables(Tables):
    """The shipped tables with their publications replaced; the rest of the world is real."""

    wheels = tuple(_rows())
    companions = tuple(_companions())
    families = tuple(
        Family(
            package=name,
            routed=True,
            pairing="table",
            runtime_of=runtime,
            own_cuda=False,
            source="small",
            confidence="high",
        )
        for name, runtime in FAMILIES.items()
    )


@lru_cache(maxsize=1)
def small_catalog() -> Catalog:
    """The catalog of the small world."""
    return Catalog(SmallTables())


def _wheel(row: Wheels, tag: str) -> TinyWheel:
    full = f"{tag}-{row.platform_tag}"
    if row.package == "torch":
        needs = ["filelock"]
        if runtime := RUNTIME.get((row.backend, row.version)):
            needs.append("{}=={}".format(*runtime))
        return torch_wheel(row.full_version, full, requires=needs)
    table = VISION if row.package == "torchvision" else AUDIO
    pinned = next((release for release, version in table.items() if version == row.version), None)
    needs = [f"torch=={pinned}"] if row.package in ("torchvision", "torchaudio") else []
    return wheel(row.package, row.full_version, full, requires=needs)


def _wheels(rows: Iterable[Wheels]) -> Iterator[tuple[str, TinyWheel]]:
    for row in rows:
        for tag in sorted(row.tags):
            yield row.backend if row.origin == "index" else "", _wheel(row, tag)


@lru_cache(maxsize=1)
def pytorch_tree() -> IndexTree:
    """An index with every wheel of the small catalog; what is missing is 404, as on a mirror."""
    tree = IndexTree(missing_status=404)
    for backend, item in _wheels(row for row in SmallTables.wheels if row.origin == "index"):
        tree.add(backend, item)
    return tree


@lru_cache(maxsize=1)
def default_tree() -> IndexTree:
    """A default index: the default builds, and a few packages around them."""
    tree = IndexTree(kind="pypi")
    for _, item in _wheels(row for row in SmallTables.wheels if row.origin == "default"):
        tree.add("", item)
    tree.add(
        "",
        wheel("filelock", "3.20.0"),
        wheel("numpy", "2.3.0"),
        wheel("pytest", "8.4.0"),
        wheel("accelerate", "1.12.0", requires=["torch>=2.0", "numpy"]),
        wheel("timm", "1.0.22", requires=["torch", "torchvision"]),
    )
    return tree
