"""Options and files made into the one value that the planner reads."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec import Struct

from torchinstall.core.errors import UsageError
from torchinstall.core.request import Request
from torchinstall.core.versions import dotted
from torchinstall.planning.gpus import declared_gpus, visible_gpus
from torchinstall.planning.options import PlanOptions
from torchinstall.planning.requirements import ParsedRequirements, Reader

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torchinstall.catalog.catalog import Catalog
    from torchinstall.core.machine import Machine
    from torchinstall.planning.context import Context

__all__ = ["DEFAULT_REQUIREMENTS", "ImageHint", "image_hint", "index_base_of", "request_of"]


DEFAULT_REQUIREMENTS = ("torch", "torchvision")


def request_of(
    options: PlanOptions, context: Context, machine: Machine, catalog: Catalog
) -> tuple[Request, ParsedRequirements]:
    """Make the request, and what else the arguments and files ask of uv.

    Args:
        options: of the verb.
        context: where relative paths start, and the variables of visible devices.
        machine: whose GPUs `--respect-visible-devices` counts.
        catalog: knows backends and products.

    Raises:
        UsageError: a requirement, backend, GPU, driver version or file that is not right.
    """
    base = index_base_of(options.index_base, options.source("index_base"))
    reader = Reader(context.cwd, context.env, base)
    for text in options.reqs:
        reader.argument(text)
    for name in options.requirement:
        reader.file(name)
    for name in options.constraint:
        reader.file(name, constraints=True)
    asked = reader.parsed
    if not asked.requirements and not options.requirement and not asked.uv_args:
        for text in DEFAULT_REQUIREMENTS:
            reader.argument(text)
    # A URL is kept as it is: whoever reads the folders says that it is none.
    folders = [text if "://" in text else str(context.path(text)) for text in options.find_links]
    hint = _hint(options, context, machine)
    if hint is not None:
        asked.notes.append(_hint_note(hint))
    request = Request(
        requirements=tuple(asked.requirements),
        constraints=tuple(asked.constraints),
        backend=_backend(options, catalog),
        channel=options.channel,
        require_gpu=options.require_gpu,
        allow_cpu=options.allow_cpu,
        prefer_gpu=options.prefer_gpu,
        visible=visible_gpus(context.env, machine) if options.respect_visible_devices else None,
        target_gpus=declared_gpus(options.target_gpu, options.source("target_gpu"), catalog),
        target_driver=_version(options.target_driver, options.source("target_driver")),
        target_cuda=_version(options.target_cuda, options.source("target_cuda"))
        if hint is None
        else hint.cuda,
        index_base=base,
        find_links=tuple(dict.fromkeys([*folders, *asked.find_links])),
        offline=options.offline,
        upgrade=options.upgrade,
        settings=options.listing(),
    )
    for host in options.allow_insecure_host:  # uv must trust the hosts that our own reading trusts
        asked.uv_args += ["--allow-insecure-host", host]
    asked.uv_args += options.rest
    return request, asked


_SAYS_WHAT_FOR = (
    "target_cuda",
    "target_driver",
    "target_gpu",
    "machine",
    "root",
    "allow_cpu",
    "respect_visible_devices",
)


def _hint(options: PlanOptions, context: Context, machine: Machine) -> ImageHint | None:
    """What the image says about its machines, in a container build where nothing else says what it is for."""
    told = any(options.is_set(name) for name in _SAYS_WHAT_FOR) or options.backend not in ("", "auto")
    if told or machine.gpus or "container" not in machine.environment:
        return None
    return image_hint(context.env)


def _hint_note(hint: ImageHint) -> tuple[str, str]:
    message = (
        f"no GPU is visible in this container; its image counts on CUDA {hint.cuda} ({hint.variable}), so "
        "the build is chosen for that; say --target-driver and --target-gpu to be exact, or --backend cpu"
    )
    return "target-from-image", message


def _backend(options: PlanOptions, catalog: Catalog) -> str:
    name = (options.backend or "auto").strip().lower()
    if name == "auto" or catalog.backend(name) is not None:
        return name
    known = ("auto", *catalog.known_backends())
    import difflib

    close = difflib.get_close_matches(name, known, n=4, cutoff=0.5)
    raise UsageError(
        "unknown-backend",
        f"no backend is called {name!r}",
        wanted="auto, cpu, xpu, or a name such as cu128 or rocm6.4",
        found=f"{name} ({options.source('backend')})",
        hints=tuple(f"--backend {item}" for item in close) or ("--backend auto",),
    )


def _version(text: str | None, source: str) -> str | None:
    if not text:
        return text
    try:
        dotted(text)
    except ValueError:
        raise UsageError(
            "bad-value",
            f"{text!r} is not a version",
            wanted="a version such as 580.95 or 12.8",
            found=f"{text} ({source})",
        ) from None
    return text


def index_base_of(base: str, source: str) -> str:
    """The base URL of the PyTorch index or of its mirror.

    Raises:
        UsageError: it is no URL.
    """
    if base.startswith(("https://", "http://", "file://")):
        return base.rstrip("/")
    raise UsageError(
        "bad-value",
        f"{base!r} is not the URL of an index",
        wanted="a URL that begins with https://",
        found=f"{base} ({source})",
        hints=("a folder of wheels is given with --find-links DIR",),
    )


_REQUIRED_CUDA = re.compile(r"(?:^|[\s,])cuda>=(\d+\.\d+)")
_CUDA = re.compile(r"(\d+\.\d+)")
_NO_DEVICES = ("none", "void")


class ImageHint(Struct, frozen=True):
    """The driver CUDA version that an image counts on, and the variable that says so."""

    cuda: str
    variable: str


def image_hint(env: Mapping[str, str]) -> ImageHint | None:
    """Read the hint from an image's variables; None where there is none, or the image wants no GPU."""
    if env.get("NVIDIA_VISIBLE_DEVICES") in _NO_DEVICES:
        return None
    if match := _REQUIRED_CUDA.search(env.get("NVIDIA_REQUIRE_CUDA", "")):
        return ImageHint(match[1], "NVIDIA_REQUIRE_CUDA")
    if match := _CUDA.match(env.get("CUDA_VERSION", "")):
        return ImageHint(match[1], "CUDA_VERSION")
    return None
