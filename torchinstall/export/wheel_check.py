"""Look into a wheel before it is downloaded, and compare it with what a plan says of it.

Importing this module imports the HTTP client, so only a run that looks into a wheel does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from msgspec import structs

from torchinstall.catalog.model import Code
from torchinstall.core.errors import CatalogError, NoCompatibleBuildError
from torchinstall.core.machine import capability_named, capability_text
from torchinstall.core.messages import Message, redact
from torchinstall.core.plan import Plan
from torchinstall.core.request import canonical_name
from torchinstall.export.resolve import client_of, files_of, resolve
from torchinstall.index.archives import remote_file
from torchinstall.index.client import Client
from torchinstall.index.faults import FetchError
from torchinstall.index.inspect import WheelReport, inspect_wheel
from torchinstall.index.urls import file_name, file_path
from torchinstall.index.wheels import existing_wheel
from torchinstall.planner.coverage import Coverage, cover_gpu
from torchinstall.planner.situation import make_situation
from torchinstall.planning.context import Context
from torchinstall.planning.inputs import Prepared


def read_wheel(
    context: Context, place: str, allow_insecure: tuple[str, ...] = (), client: Client | None = None
) -> WheelReport:
    """Read a wheel that is a file here (a path, or a `file:` URL), or at a URL.

    Raises:
        UsageError: `wheel-not-found`, `bad-wheel`, `insecure-index`.
        CatalogError: a remote wheel cannot be read.
    """
    url, _, _ = place.partition("#")
    if url.startswith(("http://", "https://")):
        with contextlib.closing(client or Client(context.env, allow_insecure)) as client:
            try:
                return inspect_wheel(remote_file(client, url), file_name(url))
            except FetchError as error:
                raise CatalogError(
                    error.slug,
                    error.message,
                    wanted="a wheel on a server that sends parts of a file",
                    found=redact(url),
                    hints=(*error.hints, "download the wheel, then type: torchinstall inspect FILE"),
                ) from error
    path = existing_wheel(context.path(str(file_path(place))))
    return inspect_wheel(path, path.name)


def checked(context: Context, prepared: Prepared) -> Plan:
    """The plan after a look into the torch wheel that uv would take.

    What was found is among its warnings, or it is impossible with `wheel-lacks-gpu`.

    Raises:
        TorchInstallError: uv finds no solution, or the wheel cannot be read.
    """
    plan, uv = prepared.plan, prepared.uv or context.find_uv(context.env)
    alone = structs.replace(prepared, uv_args=(*prepared.uv_args, "--no-deps"))
    files = files_of(resolve(context, alone, uv, only_wheels=True), prepared.target)
    url = next(file.url for file in files if canonical_name(file.name) == "torch")
    report = read_wheel(context, url, client=client_of(context, prepared))
    if report.transferred is not None:
        context.detail(f"{report.filename}: {report.transferred} of {report.size} bytes were read")
    try:
        return structs.replace(plan, warnings=(*plan.warnings, *check_wheel(prepared, report)))
    except NoCompatibleBuildError as error:
        return structs.replace(plan, status="impossible", error=error, command=(), project=None)


def check_wheel(prepared: Prepared, report: WheelReport) -> tuple[Message, ...]:
    """Compare the chosen torch wheel with the GPUs that the plan uses it for; says what lacks one.

    Raises:
        NoCompatibleBuildError: `wheel-lacks-gpu`.
    """
    plan = prepared.plan
    backend = prepared.catalog.backend(plan.backend or "")
    used = {(gpu.vendor, gpu.index, gpu.name) for gpu in plan.gpus if gpu.covered}
    if backend is None or backend.kind.strategy not in ("sm", "gfx") or not used:
        return ()
    if not report.targets:
        message = f"{report.filename} does not say which GPUs it has code for, so this was not checked"
        return (Message("wheel-not-checked", message),)
    situation = make_situation(prepared.request, prepared.machine, prepared.target, prepared.catalog)
    gpus = [gpu for gpu in situation.gpus if (gpu.vendor, gpu.index, gpu.name) in used]

    def lacking(targets: tuple[str, ...]) -> Iterator[Coverage]:
        native, ptx = code_of(targets)
        code = Code(
            torch=".".join((plan.torch or "").split(".")[:2]),
            backend=backend.name,
            platform=prepared.target.platform,
            native=native,
            ptx=ptx,
            confidence="high",
            source="the wheel itself",
        )
        return (found for gpu in gpus if not (found := cover_gpu(backend, code, gpu, situation)).covered)

    kernels = [set(row) for name, row in report.kernels.items() if name == "rocBLAS"]
    targets = tuple(name for name in report.targets if all(name in row for row in kernels))
    for missing in lacking(targets):
        others = [row.backend for row in plan.candidates if row.verdict == "accepted"]
        infos = [info for name in others if (info := prepared.catalog.backend(name))]
        same = [info.name for info in infos if info.name != plan.backend and info.kind == backend.kind]
        raise NoCompatibleBuildError(
            "wheel-lacks-gpu",
            f"{report.filename} has no code for {missing.gpu.label}, although the tables say that it has",
            wanted=missing.wanted,
            found=f"{' '.join(targets) or 'no code'} ({report.targets_from})",
            hints=(f"torchinstall plan --check-wheel --backend {(same or ['cpu'])[0]}",),
        )
    notes = []
    for row in report.libraries:
        code = (*row.sm, *row.ptx, *row.gfx)
        for missing in lacking(code) if row.whole else ():
            lack = f"{row.name.rpartition('/')[2]} in {report.filename} has no code for {missing.gpu.label}"
            notes.append(Message("library-lacks-gpu", f"{lack}: some of its functions may fail"))
    return tuple(dict.fromkeys(notes))


def code_of(targets: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Targets as a wheel spells them (`sm_90a`, `gfx1100`, `compute_90`), as the tables do: native, PTX."""
    native, ptx = dict[str, None](), dict[str, None]()
    for target in targets:
        value = capability_named(target)
        (ptx if target.startswith("compute") else native)[capability_text(value) if value else target] = None
    return tuple(native), tuple(ptx)
