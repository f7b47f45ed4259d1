"""Formats for containers and CI: `dockerfile`, `devcontainer`, `github-actions`.

The wheels carry the CUDA, ROCm or XPU user code and the host brings the driver, so a slim Python image is
enough. Dependencies are written down once: in the project's lock where there is one, else here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from msgspec import structs

from torchinstall.core.errors import UsageError
from torchinstall.core.files import real_path
from torchinstall.core.machine import Libc, Machine
from torchinstall.export.inputs import ExportInput, LockedProject, not_exportable
from torchinstall.export.requirements import install_commands, shell_command
from torchinstall.index.urls import file_path

_DEBIAN = "bookworm"
IMAGE_LIBC = Libc(family="glibc", version="2.36")
"""Of that Debian release: what the plan is made for, whatever the host has."""

_USER = 10001
_ENVIRONMENT = "/opt/venv"
"""Outside of the project's folder, so that copying the project never covers it."""

_COPIES = "/files"
"""Where wheels and constraints files of the user are in the build."""

_CACHE_FOLDER = "/var/cache/build"
_CACHE = f"--mount=type=cache,target={_CACHE_FOLDER}"
"""pip and uv both keep their caches below XDG_CACHE_HOME."""

_SMOKE_TEST = ("python", "-c", "import torch; print(torch.__version__)")

_VENDOR_ENV = {"nvidia": " NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility"}
"""Variables of the image that tell a vendor's container runtime what to bring."""

_DEVICES = {
    "nvidia": ("--gpus all",),
    "amd": ("--device=/dev/kfd", "--device=/dev/dri", "--group-add=video"),
    "intel": ("--device=/dev/dri",),
}
"""Options of `docker run` by which a container gets a vendor's GPUs."""

_HOSTED_RUNNERS = {
    ("linux", "x86_64"): "ubuntu-latest",
    ("linux", "aarch64"): "ubuntu-24.04-arm",
    ("windows", "x86_64"): "windows-latest",
    ("windows", "aarch64"): "windows-11-arm",
    ("macos", "aarch64"): "macos-latest",
    ("macos", "x86_64"): "macos-15-intel",
}
_LABELS = {"linux": "Linux", "windows": "Windows", "macos": "macOS", "x86_64": "X64", "aarch64": "ARM64"}
"""Labels that a self-hosted runner has by itself."""


def container_machine(machine: Machine) -> Machine:
    """The Linux machine that a container on this machine sees: the image's libc, and the host's GPUs.

    An NVIDIA driver of Windows reaches containers through WSL. A Mac's GPU does not reach them: there,
    containers run in a virtual machine, on Linux for the Mac's own architecture.
    """
    has_gpu = machine.os != "macos"
    environment = (*machine.environment, "container", *(("wsl2",) if machine.os == "windows" else ()))
    return structs.replace(
        machine,
        os="linux",
        os_version="12",
        libc=IMAGE_LIBC,
        environment=tuple(dict.fromkeys(environment)),
        gpus=machine.gpus if has_gpu else (),
        drivers=machine.drivers if has_gpu else (),
        findings=machine.findings if has_gpu else (),
        rosetta=False,
    )


def dockerfile(export: ExportInput) -> str:
    """A small, cached, non-root image in two stages: one installs, one has only what was installed.

    Raises:
        UsageError: `not-exportable`, or `outside-build-context` for a file that the build cannot see.
    """
    if export.target.abi.endswith("t"):
        hint = f"torchinstall export --format dockerfile --python-version {export.python}"
        raise not_exportable("a free-threaded Python, which has no official image", "dockerfile", hint)
    image, vendor, lock = f"python:{export.python}-slim-{_DEBIAN}", export.vendor or "", export.lock
    docker_run = " ".join(("docker run", *_DEVICES.get(vendor, ()), "IMAGE"))
    ignored = "# Keep the project's own .venv out of the image: echo .venv >> .dockerignore"
    lines = [
        "# syntax=docker/dockerfile:1",
        *export.head(f"docker build -t IMAGE . && {docker_run}"),
        *((ignored,) if lock else ()),
        f"FROM {image} AS build",
        f"ENV XDG_CACHE_HOME={_CACHE_FOLDER}",
        f"RUN {_CACHE} pip install --root-user-action=ignore uv=={export.uv.version}",
        "# A cache volume is another file system, so files are copied; bytecode makes the first start fast.",
        "ENV UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 UV_PYTHON_DOWNLOADS=never",
        f"ENV VIRTUAL_ENV={_ENVIRONMENT} UV_PROJECT_ENVIRONMENT={_ENVIRONMENT}",
        "WORKDIR /app",
        *(_build_from_lock(export) if lock else _build_from_plan(export)),
        "",
        f"FROM {image}",
        f"RUN useradd --create-home --uid {_USER} app",
        f"ENV PATH={_ENVIRONMENT}/bin:$PATH PYTHONUNBUFFERED=1{_VENDOR_ENV.get(vendor, '')}",
        "WORKDIR /app",
        f"COPY --from=build {_ENVIRONMENT} {_ENVIRONMENT}",
        *(("COPY --chown=app:app . .",) if lock and not lock.package else ()),
        f"USER {_USER}",
        f"CMD {json.dumps(_SMOKE_TEST)}",
    ]
    return "\n".join(lines) + "\n"


def _build_from_lock(export: ExportInput) -> list[str]:
    """Dependencies first, in a layer that a change of the code does not touch; then the project."""
    sync, lock = f"RUN {_CACHE} {_sync(export, '--no-dev')}", export.lock or LockedProject()
    if outside := [name for name in lock.local if name.startswith(("/", "../")) or Path(name).is_absolute()]:
        raise UsageError(
            "outside-build-context",
            f"the project's lock takes a package from {outside[0]}, which the build cannot see",
            wanted="folders and files below the project's",
            found=", ".join(outside),
            hints=(
                "move it below the project's folder, then: uv lock",
                "or name its repository: uv add git+https://…",
            ),
        )
    # Nothing of it is there yet.
    what = "local" if lock.local else "workspace" if lock.workspace else "project"
    lines = ["COPY pyproject.toml uv.lock ./", f"{sync} --no-install-{what}"]
    if lock.workspace or lock.package or lock.local:
        lines += ["COPY . .", f"{sync} --no-editable"]
    return lines


def _build_from_plan(export: ExportInput) -> list[str]:
    """Each decided package from its one index, then the rest; files of the user are copied in."""
    copies: dict[str, str] = {}

    def locate(text: str) -> str:
        path = file_path(text)
        try:
            inside = real_path(path).relative_to(real_path(export.base)).as_posix()
        except ValueError:
            raise UsageError(
                "outside-build-context",
                f"{path} lies outside of the folder that the image is built from",
                wanted=f"a path below {export.base}",
                found=str(path),
                hints=("copy it into the project and name it there",),
            ) from None
        copied = _COPIES if inside == "." else f"{_COPIES}/{inside}"
        copies[inside] = f"{copied}/" if path.is_dir() else copied
        return f"file://{copied}" if text.startswith("file://") else copied

    runs = [f"RUN {_CACHE} {command}" for command in install_commands(export, "uv", locate)]
    return [*(f"COPY {json.dumps(pair)}" for pair in copies.items()), "RUN uv venv $VIRTUAL_ENV", *runs]


def devcontainer(export: ExportInput) -> str:
    """A `devcontainer.json` that also works where the host has no GPU.

    Raises:
        UsageError: `not-exportable`: a local file is not in the container.
    """
    data: dict[str, Any] = {"name": export.title, "image": f"python:{export.python}-{_DEBIAN}"}
    if export.vendor == "nvidia":
        data["hostRequirements"] = {"gpu": "optional"}
    elif export.vendor in _DEVICES:
        data["runArgs"] = _DEVICES[export.vendor]
    data["containerEnv"] = {"UV_LINK_MODE": "copy", "UV_PYTHON_DOWNLOADS": "never"}
    commands = [f"pip install uv=={export.uv.version}"]
    commands += _install(export, "a development container", "uv venv --allow-existing")
    data["postCreateCommand"] = " && ".join(commands)
    python = "${containerWorkspaceFolder}/.venv/bin/python"
    data["customizations"] = {"vscode": {"settings": {"python.defaultInterpreterPath": python}}}
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"


def github_actions(export: ExportInput) -> str:
    """A workflow that tests with the plan's build; a GPU build runs on a self-hosted runner labelled `gpu`.

    Raises:
        UsageError: `not-exportable`: a local file is not on the runner.
    """
    os, arch = export.target.os, export.target.arch
    if export.vendor is None:
        runner = _HOSTED_RUNNERS[os, arch]
    else:
        runner = json.dumps(["self-hosted", _LABELS[os], _LABELS[arch], "gpu"])
    commands = ["uv lock --check"] if export.lock else []
    commands += _install(export, "a workflow", "uv venv")
    unasked = "--no-sync" if export.lock else "--no-project"
    commands.append(shell_command(export, "uv", "run", unasked, *_SMOKE_TEST))
    lines = [
        *export.head(),
        "name: tests",
        "on: [push, pull_request]",
        "permissions:",
        "  contents: read",
        "jobs:",
        "  tests:",
        f"    runs-on: {runner}",
        "    steps:",
        "      - uses: actions/checkout@v5",
        "        with:",
        "          persist-credentials: false",
        "      - uses: astral-sh/setup-uv@v7",
        "        with:",
        f"          version: {json.dumps(export.uv.version)}",
        f"          python-version: {json.dumps(export.python)}",
        "          enable-cache: true",
        *(f"      - run: {json.dumps(command)}" for command in commands),
    ]
    return "\n".join(lines) + "\n"


def _sync(export: ExportInput, *more: str) -> str:
    flags = export.lock.flags if export.lock is not None else ()
    return shell_command(export, "uv", "sync", "--frozen", *more, *flags)


def _install(export: ExportInput, format_name: str, venv: str) -> list[str]:
    """The commands for a machine that has no other files than the project's."""

    def locate(text: str) -> str:
        hint = "torchinstall configure, uv lock, and export again: the project's lock knows the file"
        raise not_exportable(f"a file of this machine ({text})", format_name, hint)

    return [_sync(export)] if export.lock else [venv, *install_commands(export, "uv", locate)]
