"""`--format conda`: an environment file with PyTorch from conda-forge, as near to the plan as that comes."""

from __future__ import annotations

import json

from torchinstall.export.inputs import Given, Pin, no_way_to_say

__all__ = ["render"]

_NAMES = {"torch": "pytorch"}
"""Names that conda-forge spells its own way; companions have their PyPI name there."""


def render(given: Given) -> str:
    """An `environment.yml`.

    conda-forge builds PyTorch itself, for CPU and CUDA, and its versions have no local segment: so the
    release and the toolkit are pinned, not the build. What was asked for besides comes through pip from
    PyPI: names on conda-forge are not always those of PyPI.

    Raises:
        UsageError: `not-exportable`: conda-forge has no such build.
    """
    backend = given.backend
    kind = backend.kind.kind if backend is not None else "cpu"
    if kind not in ("cuda", "cpu"):
        name = backend.name if backend is not None else kind
        raise no_way_to_say(
            f"the backend {name}: conda-forge builds PyTorch for CPU and CUDA only",
            "conda",
            "torchinstall export --format pixi",
        )
    if given.plan.channel != "stable" or any(pin.url is not None for pin in given.pins):
        raise no_way_to_say(
            "a build that conda-forge does not have", "conda", "torchinstall export --format pixi"
        )
    lines = [
        *given.head("conda env create -f environment.yml"),
        "# PyTorch is conda-forge's own build here: the release and the toolkit are pinned, not the wheel.",
    ]
    if kind == "cuda" and backend is not None and backend.toolkit:
        toolkit = ".".join(map(str, backend.toolkit))
        lines.append(f"# A machine that solves without a GPU needs: CONDA_OVERRIDE_CUDA={toolkit}")
    lines += ["name: your-project", "channels:", "  - conda-forge", "  - nodefaults", "dependencies:"]
    specs = [
        f"python={given.python}.*",
        *_gpu(given),
        *(_spec(pin, kind) for pin in given.pins if _wanted(pin)),
    ]
    lines += [f"  - {json.dumps(spec)}" for spec in specs]
    if given.others:
        lines += ['  - "pip"', "  - pip:", *(f"      - {json.dumps(line)}" for line in given.others)]
    return "\n".join(lines) + "\n"


def _gpu(given: Given) -> list[str]:
    """The driver that must be there, and the toolkit to build with."""
    backend = given.backend
    if backend is None or backend.kind.kind != "cuda" or not backend.toolkit:
        return []
    return [f"__cuda>={backend.toolkit[0]}", "cuda-version=" + ".".join(map(str, backend.toolkit))]


def _wanted(pin: Pin) -> bool:
    """Runtime packages of the wheels (triton) are dependencies that conda-forge's builds bring themselves."""
    return not pin.name.startswith(("triton", "pytorch-triton"))


def _spec(pin: Pin, kind: str) -> str:
    public = (pin.version or "").partition("+")[0]
    name = _NAMES.get(pin.name, pin.name)
    build = {"cuda": "=*cuda*", "cpu": "=cpu*"}.get(kind, "") if pin.name == "torch" else ""
    return f"{name}={public}{build}"
