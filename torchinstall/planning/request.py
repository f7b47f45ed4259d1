"""Options and files made into the one value that the planner reads, and the GPUs that they declare."""

from __future__ import annotations

import contextlib
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from msgspec import Struct

from torchinstall.core.errors import UsageError
from torchinstall.core.machine import Gpu, Machine
from torchinstall.core.messages import Message, close_matches, redact
from torchinstall.core.request import DEFAULT_INDEX_BASE, Request, canonical_name
from torchinstall.core.versions import dotted
from torchinstall.planning.context import Context
from torchinstall.planning.gpu_names import declared_gpus
from torchinstall.planning.options import PlanOptions
from torchinstall.planning.requirements import ParsedRequirements, Reader

if TYPE_CHECKING:
    from torchinstall.catalog.catalog import Catalog

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
    base = index_base_of(options)
    reader = Reader(context.cwd, context.env, base)
    for text in options.reqs:
        reader.argument(text)
    for name in options.requirement:
        reader.file(name)
    asked = reader.parsed
    before = (len(asked.uv_args), len(asked.find_links), len(asked.constraints))
    for name in options.constraint:
        reader.file(name, constraints=True)
    if options.of_project("constraint"):
        _check_only_versions(asked, before, options)
    by_default = not asked.requirements and not options.requirement and not asked.uv_args
    for text in DEFAULT_REQUIREMENTS if by_default else ():
        reader.argument(text)
    # A URL is kept as it is: whoever reads the folders says that it is none.
    folders = [text if "://" in text else str(context.path(text)) for text in options.find_links]
    hint = _hint(options, context, machine)
    if hint is not None:
        message = (
            f"no GPU is visible in this container; its image expects CUDA {hint.cuda} ({hint.variable}), so "
            "the build is chosen for that; use --target-driver and --target-gpu to be exact, or --backend cpu"
        )
        asked.notes.append(Message("target-from-image", message))
    request = Request(
        requirements=tuple(asked.requirements),
        constraints=tuple(asked.constraints),
        backend=_backend(options, catalog),
        channel=options.channel,
        require_gpu=options.require_gpu,
        allow_cpu=options.allow_cpu,
        prefer_gpu=options.prefer_gpu,
        need=options.need,
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
        allow_build=tuple(map(canonical_name, options.allow_build)),
        companion_source=options.companion_source,
        wanted=DEFAULT_REQUIREMENTS[1:] if by_default else (),
        settings=options.listing(),
    )
    for host in options.allow_insecure_host:  # uv must trust the hosts that our own reading trusts
        asked.uv_args += ["--allow-insecure-host", host]
    asked.uv_args += options.rest
    _check_index_is_safe(options, asked.uv_args, context.env)
    return request, asked


def _check_only_versions(
    asked: ParsedRequirements, before: tuple[int, int, int], options: PlanOptions
) -> None:
    """Constraints that a project names may limit versions; they do not say where packages come from."""
    urls = [row.url for row in asked.constraints[before[2] :] if row.url is not None]
    foreign = [*asked.uv_args[before[0] :], *asked.find_links[before[1] :], *urls]
    if foreign:
        files = " ".join(f"-c {shlex.quote(name)}" for name in options.constraint)
        raise UsageError(
            "project-constraint-redirects",
            "the constraints that a project's file names say where packages come from",
            wanted="versions only",
            found=" ".join(foreign[:2]),
            hints=(f"to accept them, type {files}", "correct the file, or ignore it with --no-config"),
        )


def _check_index_is_safe(options: PlanOptions, uv_args: Sequence[str], env: Mapping[str, str]) -> None:
    """An index that a project names is not combined with a lack of checks, whoever asked for that."""
    insecure = next((text for text in uv_args if text.partition("=")[0] in _INSECURE), None)
    insecure = insecure or ("UV_INSECURE_HOST" if env.get("UV_INSECURE_HOST") else None)
    if insecure is None or not options.of_project("index_base") or options.index_base == DEFAULT_INDEX_BASE:
        return
    raise UsageError(
        "project-index-insecure",
        "the index that a project's file names is not used while hosts are allowed to be insecure",
        wanted="an index that you name yourself, or every host checked",
        found=f"index-base in pyproject.toml, and {insecure}",
        hints=(f"to accept it, type --index-base {options.index_base}", f"omit {insecure}"),
    )


_INSECURE = ("--allow-insecure-host", "--trusted-host")


_DESCRIBES = (
    "target_cuda",
    "target_driver",
    "target_gpu",
    "machine",
    "root",
    "allow_cpu",
    "respect_visible_devices",
)
"""Options that say what machine a build is for."""


def _hint(options: PlanOptions, context: Context, machine: Machine) -> ImageHint | None:
    """What the image says about its machines, in a container build where nothing else says what it is for."""
    told = any(options.is_set(name) for name in _DESCRIBES) or options.backend not in ("", "auto")
    if told or machine.gpus or "container" not in machine.environment:
        return None
    return image_hint(context.env)


_SPELLED = re.compile(r"(?:cu|cuda)[-_ ]?(\d+)\.?(\d)(?:\.\d+)?")


def plain_backend(name: str) -> str:
    """`cuda12.4`, `cu12.4`, `cuda-12.4.1` as `cu124`; `rocm-6.4` as `rocm6.4`."""
    if match := _SPELLED.fullmatch(name):
        return f"cu{match[1]}{match[2]}"
    return re.sub(r"^(?:rocm|hip)[-_ ]?(?=\d)", "rocm", name)


def _backend(options: PlanOptions, catalog: Catalog) -> str:
    name = (options.backend or "auto").strip().lower()
    for spelling in (name, plain_backend(name)):
        if spelling == "auto" or catalog.backend(spelling) is not None:
            return spelling
    known = ("auto", *catalog.known_backends())
    close = close_matches(name, known, most=4, cutoff=0.5)
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


def index_base_of(options: PlanOptions) -> str:
    """The base URL of the PyTorch index or of its mirror, which `default` leaves out.

    Raises:
        UsageError: it is no URL.
    """
    base = options.index_base if options.index_base != "default" else DEFAULT_INDEX_BASE
    with contextlib.suppress(ValueError):  # of a host or port that cannot be
        if base.startswith(("https://", "http://", "file://")) and urlsplit(base).port != 0:
            return base.rstrip("/")
    shown = redact(base if "//" in base else f"//{base}").removeprefix("" if "//" in base else "//")
    raise UsageError(
        "bad-value",
        f"{shown!r} is not the URL of an index",
        wanted="a URL that begins with https://, or default for the index that uv uses",
        found=f"{shown} ({options.source('index_base')})",
        hints=("for a folder of wheels: omit --index-base, and give --find-links DIR",),
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


_VARIABLES = {
    "nvidia": ("CUDA_VISIBLE_DEVICES",),
    # The second counts within what the first left; CUDA_VISIBLE_DEVICES is HIP's fallback.
    "amd": ("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"),
}


def visible_gpus(env: Mapping[str, str], machine: Machine) -> tuple[tuple[str, int], ...] | None:
    """The GPUs left, as (vendor, index); None where no variable says anything.

    A set but empty variable hides every GPU of its vendor, as the drivers read it.
    """
    left: list[tuple[str, int]] = []
    restricted = False
    for vendor in dict.fromkeys(gpu.vendor for gpu in machine.gpus):
        gpus = list(enumerate(gpu for gpu in machine.gpus if gpu.vendor == vendor))
        select = _of_selector if vendor == "intel" else _of_list
        for value in _values(vendor, env):
            restricted = True
            gpus = [gpus[number] for number in select(value, [gpu for _, gpu in gpus])]
        left += [(vendor, number if gpu.index is None else gpu.index) for number, gpu in gpus]
    return tuple(left) if restricted else None


def _values(vendor: str, env: Mapping[str, str]) -> list[str]:
    if vendor == "intel":
        return [env["ONEAPI_DEVICE_SELECTOR"]] if env.get("ONEAPI_DEVICE_SELECTOR") else []
    found = [env[name] for name in _VARIABLES.get(vendor, ()) if name in env]
    if vendor == "amd" and "HIP_VISIBLE_DEVICES" not in env and "CUDA_VISIBLE_DEVICES" in env:
        found.append(env["CUDA_VISIBLE_DEVICES"])
    return found


def _of_list(value: str, gpus: list[Gpu]) -> list[int]:
    """Positions that a list of numbers and UUIDs names; the first entry that names nothing ends the list.

    That is CUDA's rule, and why -1 hides everything that follows it.
    """
    positions: list[int] = []
    for item in (part.strip() for part in value.split(",")):
        if item.upper().startswith("MIG-"):
            found = _mig_parents(item, gpus)
        elif item.upper().startswith("GPU-"):
            found = [number for number, gpu in enumerate(gpus) if _same_uuid(gpu, item)]
        else:
            found = [int(item)] if item.isdigit() and int(item) < len(gpus) else []
        if not found:
            break
        positions += [number for number in found if number not in positions]
    return positions


def _same_uuid(gpu: Gpu, prefix: str) -> bool:
    return gpu.uuid is not None and gpu.uuid.lower().startswith(prefix.lower())


def _mig_parents(item: str, gpus: list[Gpu]) -> list[int]:
    """The GPU of `MIG-GPU-<uuid>/1/0`; a plain `MIG-<uuid>` does not say whose slice it is: any GPU's."""
    body = item[4:].partition("/")[0]
    if body.upper().startswith("GPU-"):
        return [number for number, gpu in enumerate(gpus) if _same_uuid(gpu, body)]
    return list(range(len(gpus)))


def _of_selector(value: str, gpus: list[Gpu]) -> list[int]:
    """Devices that `level_zero:0,1;opencl:*` selects; `!` removes, `0.1` is a part of device 0."""
    everything = set(range(len(gpus)))
    selected: set[int] = set()
    removed: set[int] = set()
    entries = [entry.strip() for entry in value.split(";")]
    for entry in entries:
        backend, _, devices = entry.lstrip("!").partition(":")
        if backend.lower() not in ("level_zero", "opencl", "*"):
            continue
        into = removed if entry.startswith("!") else selected
        for device in devices.split(","):
            number = device.strip().partition(".")[0]
            if number.lower() in ("*", "gpu"):
                into |= everything
            elif number.isdigit():
                into.add(int(number))
    if all(entry.startswith("!") for entry in entries):
        selected = everything
    return sorted((selected - removed) & everything)
