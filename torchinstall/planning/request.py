"""Settings and files made into the one value that the planner reads."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, cast

from msgspec import Struct

from torchinstall.core.errors import UsageError
from torchinstall.core.request import Channel, Request
from torchinstall.core.versions import dotted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torchinstall.catalog.catalog import Catalog
    from torchinstall.cli.settings import Settings
    from torchinstall.core.machine import Machine
    from torchinstall.planning.context import Context

__all__ = ["DEFAULT_REQUIREMENTS", "ImageHint", "Order", "image_hint", "index_base_of", "order_of"]


DEFAULT_REQUIREMENTS = ("torch", "torchvision")


class Order(Struct, frozen=True, kw_only=True):
    """What was asked for.

    Attributes:
        uv_args: for uv as they are: what followed `--`, editables, the user's own indexes.
        constraint_files: paths, for uv.
        notes: (slug, message) of what was left out on purpose.
    """

    request: Request
    uv_args: tuple[str, ...] = ()
    constraint_files: tuple[str, ...] = ()
    notes: tuple[tuple[str, str], ...] = ()


def order_of(settings: Settings, context: Context, machine: Machine, catalog: Catalog) -> Order:
    """Make the request.

    Args:
        settings: of the verb.
        context: where relative paths start, and the variables of visible devices.
        machine: whose GPUs `--respect-visible-devices` counts.
        catalog: knows backends and products.

    Raises:
        UsageError: a requirement, backend, GPU, driver version or file that is not right.
    """
    from torchinstall.planning.gpus import declared_gpus
    from torchinstall.planning.requirements import Reader

    base = index_base_of(settings)
    reader = Reader(context.cwd, context.env, base)
    for text in settings.texts("reqs"):
        reader.argument(text)
    for name in settings.texts("requirement"):
        reader.file(name)
    for name in settings.texts("constraint"):
        reader.file(name, constraints=True)
    asked = reader.asked
    if not asked.requirements and not settings.texts("requirement") and not asked.uv_args:
        for text in DEFAULT_REQUIREMENTS:
            reader.argument(text)
    folders = [*_folders(settings, context), *asked.find_links]
    hint = _hint(settings, context, machine)
    if hint is not None:
        asked.notes.append(_hint_note(hint))
    request = Request(
        requirements=tuple(asked.requirements),
        constraints=tuple(asked.constraints),
        backend=_backend(settings, catalog),
        channel=cast("Channel", settings.text("channel") or "stable"),
        require_gpu=settings.on("require_gpu"),
        allow_cpu=settings.on("allow_cpu"),
        prefer_gpu=settings.number("prefer_gpu"),
        visible=_visible(settings, context, machine),
        target_gpus=declared_gpus(settings.texts("target_gpu"), settings.source("target_gpu"), catalog),
        target_driver=_version(settings, "target_driver"),
        target_cuda=_version(settings, "target_cuda") if hint is None else hint.cuda,
        index_base=base,
        find_links=tuple(dict.fromkeys(folders)),
        offline=settings.on("offline"),
        upgrade=settings.on("upgrade"),
        settings=settings.listing(),
    )
    return Order(
        request=request,
        uv_args=(*asked.uv_args, *_insecure(settings), *settings.rest),
        constraint_files=tuple(asked.constraint_files),
        notes=tuple(asked.notes),
    )


_SAYS_WHAT_FOR = (
    "target_cuda",
    "target_driver",
    "target_gpu",
    "machine",
    "root",
    "allow_cpu",
    "respect_visible_devices",
)


def _hint(settings: Settings, context: Context, machine: Machine) -> ImageHint | None:
    """What the image says about its machines, in a container build where nothing else says what it is for."""
    told = any(settings.given(name) for name in _SAYS_WHAT_FOR) or settings.text("backend") not in (
        None,
        "auto",
    )
    if told or machine.gpus or "container" not in machine.environment:
        return None
    return image_hint(context.env)


def _hint_note(hint: ImageHint) -> tuple[str, str]:
    message = (
        f"no GPU is visible in this container; its image counts on CUDA {hint.cuda} ({hint.variable}), so "
        "the build is chosen for that; say --target-driver and --target-gpu to be exact, or --backend cpu"
    )
    return "target-from-image", message


def _backend(settings: Settings, catalog: Catalog) -> str:
    name = (settings.text("backend") or "auto").strip().lower()
    if name == "auto" or catalog.backend(name) is not None:
        return name
    known = ("auto", *catalog.known_backends())
    import difflib

    close = difflib.get_close_matches(name, known, n=4, cutoff=0.5)
    raise UsageError(
        "unknown-backend",
        f"no backend is called {name!r}",
        wanted="auto, cpu, xpu, or a name such as cu128 or rocm6.4",
        found=f"{name} ({settings.source('backend')})",
        hints=tuple(f"--backend {item}" for item in close) or ("--backend auto",),
    )


def _version(settings: Settings, name: str) -> str | None:
    text = settings.text(name)
    if not text:
        return text
    try:
        dotted(text)
    except ValueError:
        raise UsageError(
            "bad-value",
            f"{text!r} is not a version",
            wanted="a version such as 580.95 or 12.8",
            found=f"{text} ({settings.source(name)})",
        ) from None
    return text


def index_base_of(settings: Settings) -> str:
    """The base URL of the PyTorch index or of its mirror.

    Raises:
        UsageError: it is no URL.
    """
    base = settings.text("index_base") or ""
    if base.startswith(("https://", "http://", "file://")):
        return base.rstrip("/")
    raise UsageError(
        "bad-value",
        f"{base!r} is not the URL of an index",
        wanted="a URL that begins with https://",
        found=f"{base} ({settings.source('index_base')})",
        hints=("a folder of wheels is given with --find-links DIR",),
    )


def _folders(settings: Settings, context: Context) -> list[str]:
    # A URL is kept as it is: whoever reads the folders says that it is none.
    return [text if "://" in text else str(context.path(text)) for text in settings.texts("find_links")]


def _insecure(settings: Settings) -> tuple[str, ...]:
    """Hosts that our own reading of the index trusts, uv must trust too."""
    return tuple(
        part for host in settings.texts("allow_insecure_host") for part in ("--allow-insecure-host", host)
    )


def _visible(settings: Settings, context: Context, machine: Machine) -> tuple[tuple[str, int], ...] | None:
    if not settings.on("respect_visible_devices"):
        return None
    from torchinstall.planning.gpus import visible_gpus

    return visible_gpus(context.env, machine)


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
