"""Formats for project managers: `uv`, `poetry`, `pdm`, and `conda` and `pixi`, which have conda packages too.

A decided package may come from its one index only, and nothing else may come from there.
"""

from __future__ import annotations

import json

from packaging.requirements import Requirement

from torchinstall.core.files import quoted
from torchinstall.core.messages import is_url
from torchinstall.core.versions import version_text
from torchinstall.export.inputs import ExportInput, Pin, not_exportable
from torchinstall.index.urls import file_path
from torchinstall.project.files import array, inline
from torchinstall.project.model import PLATFORMS, marker_of

_PIXI_PLATFORMS = {
    "linux_x86_64": "linux-64",
    "linux_aarch64": "linux-aarch64",
    "win_amd64": "win-64",
    "win_arm64": "win-arm64",
    "macos_arm64": "osx-arm64",
    "macos_x86_64": "osx-64",
}


def uv(export: ExportInput) -> str:
    """For `uv sync` and `uv pip install -r`: explicit indexes, and a source for each decided package."""
    lines = _project(export, "uv sync, or: uv pip install -r pyproject.toml", f"=={export.python}.*")
    lines += ["[tool.uv]", "package = false"]
    if export.target.platform in PLATFORMS:
        lines.append(f"environments = [{quoted(str(marker_of([export.target.platform])))}]")
    if export.plan.channel != "stable":
        lines.append('prerelease = "if-necessary-or-explicit"')
    for name, url in export.indexes.items():
        lines += _index("[[tool.uv.index]]", name, url, "explicit = true")
    pages = {pin.name: pin.folders[0] for pin in export.pins if pin.folders and is_url(pin.folders[0])}
    names = {url: f"links-{number}" for number, url in enumerate(dict.fromkeys(pages.values()), 1)}
    for url, name in names.items():  # pages of links, not indexes
        lines += _index("[[tool.uv.index]]", name, url, 'format = "flat"', "explicit = true")
    lines += _sources(export, "[tool.uv.sources]", "index")
    lines += [f"{package} = {inline({'index': names[url]})}" for package, url in pages.items()]
    return "\n".join(lines) + "\n"


def poetry(export: ExportInput) -> str:
    """For Poetry 2: an explicit source serves only the packages that name it."""
    minor = int(export.python.partition(".")[2])
    lines = _project(export, "poetry install", f">={export.python},<3.{minor + 1}")
    lines += ["[tool.poetry]", "package-mode = false"]
    lines += _sources(export, "[tool.poetry.dependencies]", "source")
    for name, url in export.indexes.items():
        lines += _index("[[tool.poetry.source]]", name, url, 'priority = "explicit"')
    return "\n".join(lines) + "\n"


def pdm(export: ExportInput) -> str:
    """For PDM: it asks no other source for `include_packages`, and this source for nothing else."""
    lines = _project(export, "pdm install", f"=={export.python}.*")
    lines += ["[tool.pdm]", "distribution = false"]
    for name, url in export.indexes.items():
        packages = [quoted(pin.name) for pin in export.pins if export.index_name(pin) == name]
        included = f"include_packages = {array(packages, multiline=False)}"
        lines += _index("[[tool.pdm.source]]", name, url, included, 'exclude_packages = ["*"]')
    return "\n".join(lines) + "\n"


def _project(export: ExportInput, usage: str, requires_python: str) -> list[str]:
    dependencies = [*(pin.by_file for pin in export.pins), *export.others]
    return [
        *export.head(usage),
        "[project]",
        'name = "your-project"',
        'version = "0"',
        f"requires-python = {quoted(requires_python)}",
        f"dependencies = {array(map(quoted, dependencies))}",
        "",
    ]


def _index(table: str, name: str, url: str, *more: str) -> list[str]:
    return ["", table, f"name = {quoted(name)}", f"url = {quoted(url)}", *more]


def _sources(export: ExportInput, table: str, key: str) -> list[str]:
    rows = [
        f"{pin.name} = {inline({key: name})}"
        for pin in export.pins
        if (name := export.index_name(pin)) is not None
    ]
    return ["", table, *rows] if rows else []


def conda(export: ExportInput) -> str:
    """An `environment.yml` that is as near to the plan as conda-forge's own builds come.

    The release and the toolkit are pinned, not the build. Other requirements come through pip: names on
    conda-forge are not always those on PyPI.

    Raises:
        UsageError: `not-exportable`: conda-forge has no such build.
    """
    use_pixi = "torchinstall export --format pixi"
    if export.backend is not None and export.backend.kind.kind not in ("cuda", "cpu"):
        what = f"the backend {export.backend.name}: conda-forge builds PyTorch for CPU and CUDA only"
        raise not_exportable(what, "conda", use_pixi)
    if export.plan.channel != "stable" or any(pin.url is not None for pin in export.pins):
        raise not_exportable("a build that conda-forge does not have", "conda", use_pixi)
    toolkit, pins = export.cuda_toolkit, export.pins
    lines = [
        *export.head("conda env create -f environment.yml"),
        "# PyTorch is conda-forge's own build here: the release and the toolkit are pinned, not the wheel.",
        *_override(toolkit),
        "name: your-project",
        "channels:",
        "  - conda-forge",
        "  - nodefaults",
        "dependencies:",
    ]
    packages = [f"python={export.python}.*"]
    if toolkit:
        packages += [f"__cuda>={toolkit[0]}", f"cuda-version={version_text(toolkit)}"]
    # conda-forge's builds bring triton, the runtime package of the wheels, themselves.
    for pin in pins:
        release, build = (pin.version or "").partition("+")[0], "*cuda*" if toolkit else "cpu*"
        if pin.name == "torch":  # only torch has another name there
            packages.append(f"pytorch={release}={build}")
        elif not pin.name.startswith(("triton", "pytorch-triton")):
            packages.append(f"{pin.name}={release}")
    lines += [f"  - {json.dumps(package)}" for package in packages]
    if export.others:
        lines += ['  - "pip"', "  - pip:", *(f"      - {json.dumps(line)}" for line in export.others)]
    return "\n".join(lines) + "\n"


def pixi(export: ExportInput) -> str:
    """A `pixi.toml` for the plan's platform, with torch from the PyTorch index.

    `system-requirements.cuda` is the major version of the toolkit: a driver that runs one toolkit of a major
    version runs them all.

    Raises:
        UsageError: `not-exportable`.
    """
    platform = _PIXI_PLATFORMS.get(export.target.platform)
    if platform is None:
        raise not_exportable(f"the platform {export.target.platform}", "pixi")
    if export.constraint_files:
        raise not_exportable("a constraints file", "pixi", "write its bounds into the requirements")
    lines = [
        *export.head("pixi install"),
        "[workspace]",
        'name = "your-project"',
        'channels = ["conda-forge"]',
        f"platforms = [{quoted(platform)}]",
    ]
    needed = _override(export.cuda_toolkit)
    if export.cuda_toolkit:
        needed.append(f'cuda = "{export.cuda_toolkit[0]}"')
    if export.target.os == "macos" and export.target.os_version:
        needed.append(f'macos = "{export.target.os_version}"')
    lines += ["", "[system-requirements]", *needed] if needed else []
    lines += ["", "[dependencies]", f'python = "{export.python}.*"', "", "[pypi-dependencies]"]
    lines += [f"{pin.name} = {_pixi_row(Requirement(pin.requirement), pin)}" for pin in export.pins]
    environment = export.target.marker_environment()
    for row in map(Requirement, export.others):
        if row.marker is None or row.marker.evaluate(environment):
            lines.append(f"{row.name} = {_pixi_row(row)}")
    return "\n".join(lines) + "\n"


def _override(toolkit: tuple[int, ...] | None) -> list[str]:
    value = version_text(toolkit or ())
    line = f"# A machine that solves or locks without a GPU needs: CONDA_OVERRIDE_CUDA={value}"
    return [line] if value else []


def _pixi_row(row: Requirement, pin: Pin | None = None) -> str:
    url = pin.url if pin is not None else row.url
    if url is not None and url.startswith("file://"):
        return inline({"path": str(file_path(url))})
    if url is not None:
        return inline({"url": url})
    version = f"=={pin.version}" if pin is not None and pin.version else str(row.specifier) or "*"
    parts = [f"version = {quoted(version)}"]
    if row.extras:
        parts.append(f"extras = {array(map(quoted, sorted(row.extras)), multiline=False)}")
    if pin is not None and pin.index is not None:
        parts.append(f"index = {quoted(pin.index)}")
    return quoted(version) if pin is None and not row.extras else "{ " + ", ".join(parts) + " }"
