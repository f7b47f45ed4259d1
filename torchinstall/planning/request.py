"""Options and files made into the one value that the planner reads, and the GPUs that they declare."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

from torchinstall.core.errors import UsageError
from torchinstall.core.machine import Machine
from torchinstall.core.messages import Message, close_matches
from torchinstall.core.request import DEFAULT_INDEX_BASE, Request, canonical_name
from torchinstall.core.versions import dotted, driver_of_windows, unprefixed
from torchinstall.index.urls import checked_base
from torchinstall.install.command import values_of
from torchinstall.planning.context import Context, PlanOptions
from torchinstall.planning.gpus import ImageHint, declared_gpus, image_hint, visible_gpus
from torchinstall.planning.requirements import ANY_GPU, Reader

if TYPE_CHECKING:
    from torchinstall.catalog.catalog import Catalog

DEFAULT_REQUIREMENTS = ("torch", "torchvision")


def request_of(
    options: PlanOptions, context: Context, machine: Machine, catalog: Catalog
) -> tuple[Request, Reader]:
    """The request, and what else the arguments and files ask of uv.

    Raises:
        UsageError: a requirement, backend, GPU, driver version or file that is not right.
    """
    base = index_base_of(options)
    asked = Reader(context.cwd, context.env, base)
    for text in options.reqs:
        asked.argument(text)
    for name in options.requirement:
        asked.file(name)
    before = (len(asked.uv_args), len(asked.find_links), len(asked.constraints))
    for name in options.constraint:
        asked.file(name, constraints=True)
    if options.of_project("constraint"):
        _check_only_versions(asked, before, options)
    by_default = not asked.requirements and not options.requirement and not asked.uv_args
    for text in DEFAULT_REQUIREMENTS if by_default else ():
        asked.argument(text)
    # A URL is kept as it is: whoever reads the folders says that it is none.
    folders = [text if "://" in text else str(context.path(text)) for text in options.find_links]
    hint = _hint(options, context, machine)
    if hint is not None:
        message = (
            f"no GPU is visible in this container; its image expects CUDA {hint.cuda} ({hint.variable}), so "
            "the build is chosen for that; use --target-driver and --target-gpu to be exact, or --backend cpu"
        )
        asked.notes.append(Message("target-from-image", message))
    for row in asked.requirements:
        meant = package_meant(row.name, catalog) if row.url is None else None
        if meant is not None:
            message = f"{row.name} is not known here; the package that goes with torch is called {meant}"
            asked.notes.append(Message("similar-name", message))
    numbers = [gpu.index for gpu in machine.gpus if gpu.index is not None and not options.target_gpu]
    if options.prefer_gpu is not None and numbers and options.prefer_gpu not in numbers:
        raise UsageError(
            "bad-value",
            f"this machine has no GPU {options.prefer_gpu}",
            wanted=", ".join(map(str, dict.fromkeys(numbers))),
            found=f"{options.prefer_gpu} ({options.source('prefer_gpu')})",
            hints=(f"--prefer-gpu {numbers[0]}",),
        )
    request = Request(
        requirements=tuple(asked.requirements),
        constraints=tuple(asked.constraints),
        backend=backend_called(options.backend or "auto", options.source("backend"), catalog),
        channel=options.channel,
        require_gpu=options.require_gpu,
        allow_cpu=options.allow_cpu,
        prefer_gpu=options.prefer_gpu,
        need=options.need,
        visible=visible_gpus(context.env, machine) if options.respect_visible_devices else None,
        target_gpus=declared_gpus(options.target_gpu, options.source("target_gpu"), catalog),
        target_driver=_version(options, "target_driver"),
        target_cuda=_version(options, "target_cuda") if hint is None else hint.cuda,
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


def package_meant(name: str, catalog: Catalog, *, guess: bool = False) -> str | None:
    """The package that goes with torch and is spelled in another way; None for one of them, or for no such.

    `guess`: a letter may be wrong too.
    """
    known = {row.package for row in catalog.families}
    known |= {row.package for row in catalog.tables.companion_builds}
    if canonical_name(name) in known:
        return None
    word, spelled = _without_marks(name), {_without_marks(package): package for package in known}
    near = [text for text in spelled if guess and abs(len(text) - len(word)) <= 1]
    close = close_matches(word, near, most=1, cutoff=1 - 1 / max(len(word), 1))
    return spelled.get(word) or next((spelled[text] for text in close), None)


def _without_marks(name: str) -> str:
    """`flashattn` of `Flash_Attention`, `torchscatter` of `pytorch-scatter`."""
    return re.sub(r"[-_.]+", "", name).lower().replace("attention", "attn").replace("pytorch", "torch")


def _check_only_versions(asked: Reader, before: tuple[int, int, int], options: PlanOptions) -> None:
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
    insecure = "--allow-insecure-host" if values_of("--allow-insecure-host", uv_args) else None
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


_DESCRIBES = ("target_cuda", "target_driver", "target_gpu", "machine", "root", "allow_cpu")
"""Options that say what machine a build is for, as `--respect-visible-devices` does."""


def _hint(options: PlanOptions, context: Context, machine: Machine) -> ImageHint | None:
    """What the image says about its machines, in a container build where nothing else says what it is for."""
    told = any(options.is_set(name) for name in (*_DESCRIBES, "respect_visible_devices"))
    told = told or options.backend not in ("", "auto")
    if told or machine.gpus or "container" not in machine.environment:
        return None
    return image_hint(context.env)


_SPELLED = r"(?:cu|cuda)[-_ ]?(\d+)\.?(\d)(?:\.\d+)?"


def plain_backend(name: str) -> str:
    """`cuda12.4`, `cu12.4`, `cuda-12.4.1` as `cu124`; `rocm-6.4` as `rocm6.4`."""
    if match := re.fullmatch(_SPELLED, name):
        return f"cu{match[1]}{match[2]}"
    return re.sub(r"^(?:rocm|hip)[-_ ]?(?=\d)", "rocm", name)


def backend_called(text: str, source: str, catalog: Catalog, flag: str = "--backend ") -> str:
    """The name of a backend that somebody spelled in some way; behind `--backend` it may be `auto`.

    Raises:
        UsageError: `unknown-backend`.
    """
    name, auto = text.strip().lower(), ("auto",) if flag == "--backend " else ()
    for spelling in (name, plain_backend(name)):
        if spelling in auto or catalog.backend(spelling) is not None:
            return spelling
    known = (*auto, *catalog.known_backends())
    close = () if name in ANY_GPU else close_matches(name, known, most=4, cutoff=0.5)
    raise UsageError(
        "unknown-backend",
        f"no backend is called {name!r}",
        wanted=", ".join((*auto, "cpu, xpu, or a name such as cu128 or rocm6.4")),
        found=f"{name} ({source})",
        hints=tuple(flag + item for item in close or auto) or ("torchinstall catalog show",),
    )


OLDEST_DRIVER, _NEWEST_CUDA = 100, 20
"""Major versions: no driver is below the one, and CUDA is far from the other."""


def _version(options: PlanOptions, name: str) -> str | None:
    """The version of a driver, or of the CUDA that it supports."""
    text, driver = getattr(options, name), name == "target_driver"
    if not text:
        return cast("str | None", text)
    said: str = unprefixed(text)
    major = dotted(said)[0] if re.fullmatch(r"\d+(\.\d+)*([-+ ].*)?", said) else -1
    if major >= OLDEST_DRIVER if driver else 0 <= major <= _NEWEST_CUDA:
        return said
    digits = re.sub(r"\D", "", said)
    meant = "--target-driver 580.95" if driver else "--target-cuda 12.8"
    if driver and (counted := driver_of_windows(said)):
        meant = f"--target-driver {counted}"
    elif driver and 0 <= major <= _NEWEST_CUDA:
        meant = f"omit --target-driver, and add --target-cuda {said}"
    elif not driver and 2 <= len(digits) <= 3 and digits[:-1] <= str(_NEWEST_CUDA):  # cu128, 12,8
        meant = f"--target-cuda {digits[:-1]}.{digits[-1]}"
    raise UsageError(
        "bad-value",
        f"{text!r} is not a version" + (" of a driver" if driver else " of CUDA"),
        wanted=f"a version such as {'580.95' if driver else '12.8'}",
        found=f"{text} ({options.source(name)})",
        hints=(meant,),
    )


def index_base_of(options: PlanOptions) -> str:
    """The base URL of the PyTorch index or of its mirror, which `default` leaves out.

    Raises:
        UsageError: `bad-index-base`.
    """
    named = options.index_base if options.index_base != "default" else DEFAULT_INDEX_BASE
    return checked_base(named, options.source("index_base"))
