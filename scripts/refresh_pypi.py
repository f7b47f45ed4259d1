"""Bring the rows of PyPI's wheels (origin `default`), their hashes and torch's companions up to date.

    python -m scripts.refresh_pypi --index URL            # URL of a simple index, without a package

Which backend a torch wheel on PyPI was built for follows from its own metadata (`cuda-toolkit==13.2.2` and
`nvidia-*-cu12==12.8.90` name the toolkit; neither means CPU). Releases that are already known keep their rows
but for new files. A torch release without a companion gets the newest one whose metadata allows it.
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from packaging.requirements import Requirement

from scripts.refreshing import (
    Row,
    arguments,
    backend_rows,
    file_names,
    finish,
    fold,
    hash_order,
    parser,
    read_source,
    version_of,
    wheel_order,
)
from torchinstall.catalog.model import Wheels
from torchinstall.catalog.tables import Table, Tables, platform_of
from torchinstall.index.pages import links_of
from torchinstall.index.wheels import parse_name

SOURCE = "pypi-files"
METADATA = "pypi-metadata"
COMPANIONS = ("torchvision", "torchaudio")

_ENVIRONMENTS = {
    "linux_x86_64": {"platform_system": "Linux", "platform_machine": "x86_64", "sys_platform": "linux"},
    "linux_aarch64": {"platform_system": "Linux", "platform_machine": "aarch64", "sys_platform": "linux"},
    "win_amd64": {"platform_system": "Windows", "platform_machine": "AMD64", "sys_platform": "win32"},
    "win_arm64": {"platform_system": "Windows", "platform_machine": "ARM64", "sys_platform": "win32"},
    "macos_arm64": {"platform_system": "Darwin", "platform_machine": "arm64", "sys_platform": "darwin"},
    "macos_x86_64": {"platform_system": "Darwin", "platform_machine": "x86_64", "sys_platform": "darwin"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A wheel on PyPI."""

    filename: str
    name: Wheels
    url: str
    sha256: str | None

    @property
    def platform(self) -> str | None:
        """Table key of its platform."""
        return platform_of(self.name.platform_tag)


def main(argv: list[str] | None = None) -> int:
    """Run the refresher; returns its exit code."""
    options = parser(__doc__ or "")
    options.add_argument("--index", required=True, help="simple index, without a package")
    args = arguments(options, argv)
    tables = Tables(args.data)
    files = {package: listed(args.index, package) for package in ("torch", *COMPANIONS)}
    return finish(tables, refreshed(tables, files, args.as_of), write=args.write)


def listed(index: str, package: str) -> tuple[File, ...]:
    """The wheels on a package's page, yanked ones left out."""
    url = f"{index.rstrip('/')}/{package}/"
    text = read_source(url)
    found: list[File] = []
    for link in links_of(text, url):
        name = parse_name(link.filename)
        if name is not None and name.package == package and not name.local:
            found.append(File(filename=link.filename, name=name, url=link.url, sha256=link.sha256))
    return tuple(found)


def requirements(file: File) -> list[Requirement]:
    """The wheel's Requires-Dist lines (PEP 658: its metadata lies beside it)."""
    lines = read_source(f"{file.url.partition('#')[0]}.metadata").splitlines()
    return [
        Requirement(line.partition(":")[2].strip()) for line in lines if line.startswith("Requires-Dist:")
    ]


def backend_of(found: list[Requirement], platform: str) -> str:
    """The backend that a torch wheel's requirements on a platform name."""
    for requirement in found:
        environment = {**_ENVIRONMENTS[platform], "extra": "", "python_version": "3.12"}
        if requirement.marker is not None and not requirement.marker.evaluate(environment):
            continue
        version = next((item.version for item in requirement.specifier if item.operator == "=="), None)
        toolkit = re.fullmatch(r"cuda-toolkit|nvidia-cuda-runtime(?:-cu\d+)?", requirement.name)
        if toolkit and version is not None:
            major, minor = version.split(".")[:2]
            return f"cu{major}{minor}"
    return "cpu"


def refreshed(tables: Tables, files: dict[str, tuple[File, ...]], as_of: str) -> tuple[Table, ...]:
    """wheels.json, hashes.json, companions.json and backends.json with what PyPI has now."""
    sources = {
        SOURCE: f"PyPI's file list of {as_of}; the backend is that of the torch wheel of the same release",
        METADATA: f"Requires-Dist of the wheels on PyPI, {as_of}",
    }
    companions = [*tables.file("companions.json").rows]
    companions += _new_companions(tables, files)
    paired = {(row["package"], row["version"]): row["torch"] for row in companions}
    wheels = [row for row in tables.file("wheels.json").rows if row["origin"] != "default"]
    wheels += _default_rows(tables, files, paired)
    wheels.sort(key=wheel_order(tables))
    kept = tables.file("hashes.json").rows
    known = {(row["backend"], row["file"]) for row in kept}
    usable = {name for row in wheels if row["origin"] == "default" for name in file_names(row)}
    hashes = [*kept, *_new_hashes(files, known, usable)]
    hashes.sort(key=hash_order(tables))
    companions.sort(key=lambda row: version_of(row["torch"]))
    return (
        fold(tables.file("wheels.json"), wheels, sources, as_of),
        fold(tables.file("hashes.json"), hashes, sources, as_of),
        fold(tables.file("companions.json"), companions, sources, as_of),
        fold(tables.file("backends.json"), backend_rows(tables, wheels, SOURCE), sources, as_of),
    )


def _oldest(tables: Tables, package: str) -> str:
    return min((row.version for row in tables.wheels if row.package == package), key=version_of)


def _default_rows(
    tables: Tables, files: dict[str, tuple[File, ...]], paired: dict[tuple[str, str], str]
) -> Iterator[Row]:
    """Old rows as they are, a row for each file that is new."""
    old = [row for row in tables.file("wheels.json").rows if row["origin"] == "default"]
    yield from old
    known: set[tuple[str, ...]] = set()
    backends: dict[tuple[str, str], str] = {}
    for row in old:
        platform = platform_of(row["platform_tag"]) or ""
        if row["package"] == "torch":
            backends[row["version"], platform] = row["backend"]
        for tag in row["tags"].split(" "):
            known.add((row["package"], row["version"], row["platform_tag"], row.get("build", ""), tag))
    fresh: dict[tuple[str, str, str, str], list[File]] = defaultdict(list)
    for package, listing in files.items():
        oldest = version_of(_oldest(tables, package))
        for file in listing:
            name = file.name
            key = package, name.version, name.platform_tag, name.build
            usable = file.platform is not None and version_of(name.version) >= oldest
            if usable and not version_of(name.version).is_prerelease and (*key, name.tag_list) not in known:
                fresh[key].append(file)
    for (package, version, platform_tag, build), group in fresh.items():
        platform = group[0].platform or ""
        torch = version if package == "torch" else paired.get((package, version))
        if torch is None:
            continue
        if package == "torch" and (version, platform) not in backends:
            backends[version, platform] = backend_of(requirements(group[0]), platform)
        if (torch, platform) in backends:
            yield {
                "package": package,
                "version": version,
                "local": "",
                "backend": backends[torch, platform],
                "platform_tag": platform_tag,
                "tags": " ".join(sorted({file.name.tag_list for file in group})),
                "origin": "default",
                "build": build,
                "confidence": "high",
                "source": SOURCE,
            }


def _new_companions(tables: Tables, files: dict[str, tuple[File, ...]]) -> Iterator[Row]:
    known = {(row["torch"], row["package"]) for row in tables.file("companions.json").rows}
    oldest = version_of(_oldest(tables, "torch"))
    releases = {version_of(file.name.version) for file in files["torch"]}
    for package in COMPANIONS:
        one = {version_of(file.name.version): file for file in files[package]}
        for release in sorted(releases):
            if release < oldest or release.is_prerelease or (str(release), package) in known:
                continue
            for version in sorted(one, reverse=True):
                pin = next((item for item in requirements(one[version]) if item.name == "torch"), None)
                if pin is None or release in pin.specifier:
                    yield {
                        "torch": str(release),
                        "package": package,
                        "version": one[version].name.version,
                        "exact": pin is not None and any(item.operator == "==" for item in pin.specifier),
                        "confidence": "high" if pin is not None else "medium",
                        "source": METADATA,
                    }
                    break


def _new_hashes(
    files: dict[str, tuple[File, ...]], known: set[tuple[str, str]], usable: set[str]
) -> Iterator[Row]:
    for listing in files.values():
        for file in listing:
            if file.filename in usable and file.sha256 is not None and ("", file.filename) not in known:
                yield {
                    "backend": "",
                    "file": file.filename,
                    "sha256": file.sha256,
                    "confidence": "high",
                    "source": SOURCE,
                }


if __name__ == "__main__":
    sys.exit(main())
