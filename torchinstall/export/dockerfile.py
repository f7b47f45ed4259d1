"""`--format dockerfile`: a small, cached, non-root image without a CUDA base image.

The wheels carry CUDA, ROCm or XPU user code and the host brings the driver, so a slim Python image is enough.
Dependencies are written down once: in the project's lock where there is one, else here.
"""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import unquote

from torchinstall.core.errors import UsageError
from torchinstall.export.inputs import Given
from torchinstall.export.steps import joined, steps, words

__all__ = ["DEBIAN", "GLIBC", "render"]

DEBIAN = "bookworm"
GLIBC = "2.36"
"""Of that Debian release: what the plan is made for, whatever the host has."""

_USER = 10001
_ENVIRONMENT = "/opt/venv"
"""Not below the folder of the project, so that copying the project never covers it."""

_CACHE_FOLDER = "/var/cache/build"
_CACHE = f"--mount=type=cache,target={_CACHE_FOLDER}"
"""pip and uv both keep their caches below XDG_CACHE_HOME."""

_SMOKE = "import torch; print(torch.__version__)"

_VENDOR_ENV = {
    "nvidia": ("NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_DRIVER_CAPABILITIES=compute,utility"),
}
"""What a vendor's container runtime is told by variables of the image."""

_VENDOR_RUN = {
    "nvidia": "docker run --gpus all IMAGE",
    "amd": "docker run --device=/dev/kfd --device=/dev/dri --group-add video IMAGE",
    "intel": "docker run --device=/dev/dri IMAGE",
}


def render(given: Given) -> str:
    """A Dockerfile of two stages: one that installs, and one that has only what was installed.

    Raises:
        UsageError: `not-exportable`, or `outside-build-context` for a wheel that the build cannot see.
    """
    if given.target.abi.endswith("t"):
        raise UsageError(
            "not-exportable",
            "there is no official image of a free-threaded Python",
            wanted="a Python such as 3.12",
            found=given.target.abi,
            hints=(f"torchinstall export --format dockerfile --python-version {given.python}",),
        )
    image = f"python:{given.python}-slim-{DEBIAN}"
    lock = given.lock
    vendor = given.backend.kind.vendor if given.backend is not None else None
    lines = [
        "# syntax=docker/dockerfile:1",
        *given.head(f"docker build -t IMAGE . && {_VENDOR_RUN.get(vendor or '', 'docker run IMAGE')}"),
        *(("# Keep the project's own .venv out of the image: echo .venv >> .dockerignore",) if lock else ()),
        f"FROM {image} AS build",
        f"ENV XDG_CACHE_HOME={_CACHE_FOLDER}",
        f"RUN {_CACHE} pip install --root-user-action=ignore uv=={given.uv}",
        "# A volume of another file system cannot be linked to; bytecode makes the first start fast.",
        "ENV UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 UV_PYTHON_DOWNLOADS=never",
        f"ENV VIRTUAL_ENV={_ENVIRONMENT} UV_PROJECT_ENVIRONMENT={_ENVIRONMENT}",
        "WORKDIR /app",
        *(_locked(lock.flags, package=lock.package) if lock is not None else _pinned(given)),
        "",
        f"FROM {image}",
        f"RUN useradd --create-home --uid {_USER} app",
        f"ENV PATH={_ENVIRONMENT}/bin:$PATH PYTHONUNBUFFERED=1"
        + "".join(f" {item}" for item in _VENDOR_ENV.get(vendor or "", ())),
        "WORKDIR /app",
        f"COPY --from=build {_ENVIRONMENT} {_ENVIRONMENT}",
        *(("COPY --chown=app:app . .",) if lock is not None and not lock.package else ()),
        "USER app",
        f"CMD {json.dumps(['python', '-c', _SMOKE])}",
    ]
    return "\n".join(lines) + "\n"


def _locked(flags: tuple[str, ...], *, package: bool) -> list[str]:
    """Dependencies first, in a layer that a change of the code does not touch; then the project."""
    sync = joined(("uv", "sync", "--frozen", "--no-dev", *flags), "linux")
    lines = ["COPY pyproject.toml uv.lock ./", f"RUN {_CACHE} {sync} --no-install-project"]
    return [*lines, "COPY . .", f"RUN {_CACHE} {sync} --no-editable"] if package else lines


def _pinned(given: Given) -> list[str]:
    """The plan itself: each decided package from its one index, then the rest."""
    context = _Context(given.base)
    files = tuple(context.seen_there(path) for path in given.constraint_files)
    runs = [
        f"RUN {_CACHE} {joined(('uv', 'pip', 'install', *words(step, given, 'uv', files)), 'linux')}"
        for step in steps(given, context.place)
    ]
    copies = [f"COPY {json.dumps([source, there])}" for source, there in context.copies.items()]
    return [*copies, "RUN uv venv $VIRTUAL_ENV", *runs]


class _Context:
    """The folder that the image is built from, and what of it the build needs."""

    def __init__(self, base: str) -> None:
        self.base = Path(base)
        self.copies: dict[str, str] = {}

    def place(self, text: str) -> str:
        """Where a folder or a file's URL lies in the build; what is on the web stays as it is."""
        if text.startswith(("http://", "https://")):
            return text
        path = unquote(text.removeprefix("file://"))
        there = self.seen_there(path)
        return there if Path(path).is_dir() else f"file://{there}"

    def seen_there(self, text: str) -> str:
        """The path in the build of a file or folder, which is copied there.

        Raises:
            UsageError: `outside-build-context`.
        """
        path = Path(text)
        try:
            inside = path.resolve().relative_to(self.base.resolve()).as_posix()
        except ValueError:
            raise UsageError(
                "outside-build-context",
                f"{path} lies outside of the folder that the image is built from",
                wanted=f"a path below {self.base}",
                found=str(path),
                hints=("copy it into the project and name it there",),
            ) from None
        there = "/given" if inside == "." else f"/given/{inside}"
        self.copies[inside] = f"{there}/" if path.is_dir() else there
        return there
