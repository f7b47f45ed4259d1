"""Formats for environments with conda packages: `conda` (conda-forge's PyTorch) and `pixi` (the wheels)."""

from __future__ import annotations

import json
from urllib.parse import unquote

from packaging.requirements import Requirement

from torchinstall.export.inputs import ExportInput, Pin, not_exportable
from torchinstall.project.files import array, quoted

PIXI_PLATFORMS = {
    "linux_x86_64": "linux-64",
    "linux_aarch64": "linux-aarch64",
    "win_amd64": "win-64",
    "win_arm64": "win-arm64",
    "macos_arm64": "osx-arm64",
    "macos_x86_64": "osx-64",
}


def conda(export: ExportInput) -> str:
    """An `environment.yml` that is as near to the plan as conda-forge's own builds come.

    Their versions have no local segment, so the release and the toolkit are pinned and not the build. Other
    requirements come through pip: names on conda-forge are not always those on PyPI.

    Raises:
        UsageError: `not-exportable`: conda-forge has no such build.
    """
    use_pixi = "torchinstall export --format pixi"
    if export.backend is not None and export.backend.kind.kind not in ("cuda", "cpu"):
        what = f"the backend {export.backend.name}: conda-forge builds PyTorch for CPU and CUDA only"
        raise not_exportable(what, "conda", use_pixi)
    if export.plan.channel != "stable" or any(pin.url is not None for pin in export.pins):
        raise not_exportable("a build that conda-forge does not have", "conda", use_pixi)
    toolkit = export.cuda_toolkit
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
        packages += [f"__cuda>={toolkit[0]}", f"cuda-version={_dotted(toolkit)}"]
    # conda-forge's builds bring triton, the runtime package of the wheels, themselves.
    pins = [pin for pin in export.pins if not pin.name.startswith(("triton", "pytorch-triton"))]
    packages += [_conda_package(pin, cuda=toolkit is not None) for pin in pins]
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
    platform = PIXI_PLATFORMS.get(export.target.platform)
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
    lines += [f"{pin.name} = {_pixi_pin(pin)}" for pin in export.pins]
    environment = export.target.marker_environment()
    for row in map(Requirement, export.others):
        if row.marker is None or row.marker.evaluate(environment):
            lines.append(f"{row.name} = {_pixi_requirement(row)}")
    return "\n".join(lines) + "\n"


def _dotted(toolkit: tuple[int, ...]) -> str:
    return ".".join(map(str, toolkit))


def _override(toolkit: tuple[int, ...] | None) -> list[str]:
    if not toolkit:
        return []
    return [f"# A machine that solves or locks without a GPU needs: CONDA_OVERRIDE_CUDA={_dotted(toolkit)}"]


def _conda_package(pin: Pin, *, cuda: bool) -> str:
    release = (pin.version or "").partition("+")[0]
    if pin.name != "torch":  # only torch has another name there
        return f"{pin.name}={release}"
    return f"pytorch={release}={'*cuda*' if cuda else 'cpu*'}"


def _pixi_pin(pin: Pin) -> str:
    if pin.url is not None and pin.url.startswith("file://"):
        return f"{{ path = {quoted(unquote(pin.url.removeprefix('file://')))} }}"
    if pin.url is not None:
        return f"{{ url = {quoted(pin.url)} }}"
    version = "*" if pin.version is None else f"=={pin.version}"
    return _pixi_table(version, Requirement(pin.requirement), pin.index)


def _pixi_requirement(row: Requirement) -> str:
    if row.url is not None:
        return f"{{ url = {quoted(row.url)} }}"
    version = str(row.specifier) or "*"
    return _pixi_table(version, row) if row.extras else quoted(version)


def _pixi_table(version: str, row: Requirement, index: str | None = None) -> str:
    parts = [f"version = {quoted(version)}"]
    if row.extras:
        parts.append(f"extras = {array(map(quoted, sorted(row.extras)), multiline=False)}")
    if index is not None:
        parts.append(f"index = {quoted(index)}")
    return "{ " + ", ".join(parts) + " }"
