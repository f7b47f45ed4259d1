"""Prove that what is installed computes: run the checks in the target and read their results."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct, field, structs

from torchinstall.catalog.model import BackendInfo
from torchinstall.core.decoding import decoder
from torchinstall.core.errors import VerifyFailedError
from torchinstall.core.plan import Plan
from torchinstall.install.interpreter import MARKER, run_script

_TIMEOUT = 300.0
"""Seconds for all checks: the first use of a GPU may load gigabytes or compile PTX."""

_DEVICES = {"sm": "cuda", "gfx": "cuda", "device": "xpu"}
"""What torch calls the devices of a backend, by how its code is matched; ROCm builds say `cuda` too."""

_TOOLKITS = {"sm": "cuda", "gfx": "hip", "device": "xpu"}
"""The attribute of `torch.version` that tells the toolkit of a backend."""


class Check(Struct, frozen=True, kw_only=True):
    """One check; its name is stable, `import-torch`, `matrix-product-cuda-0`."""

    name: str
    ok: bool
    wanted: str
    found: str
    detail: str = ""

    @property
    def about_device(self) -> bool:
        """Whether it is about a GPU and what the build has for it."""
        kinds = ("device-", "code-", "matrix-product-", "convolution-", "nms-")
        return self.name.startswith(kinds) and not self.name.endswith("-cpu")


class Report(Struct, frozen=True, kw_only=True):
    """All checks, in the order in which they ran; `ok`: none failed and they ran to the end.

    Attributes:
        crashed: the last check did not come to an end, and with it all that would have followed.
        proved_at: the date on which they ran, where they were not repeated; None: they just ran.
    """

    ok: bool
    checks: tuple[Check, ...]
    crashed: bool = False
    proved_at: str | None = None
    seconds: float = 0.0

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if not check.ok)

    @property
    def computes(self) -> bool:
        """Whether torch itself does; not whether its companions go with it."""
        own = r"import-torch$|(matrix-product|convolution|device|code)-"
        return not self.crashed and not any(re.match(own, check.name) for check in self.failed)

    @property
    def blames_build(self) -> bool:
        """Whether another build may work: the device was not seen, has no code, or does not compute.

        An import that fails, a wrong version or the CPU computing wrong is no matter of the backend.
        """
        return any(check.about_device for check in self.failed)

    @property
    def blames_backend(self) -> bool:
        """Whether a library of the backend is at fault, so that its other releases would fail as well."""
        return any(re.search(_LIBRARY_FAULT, f"{check.found}\n{check.detail}") for check in self.failed)


_LIBRARY_FAULT = (
    r"(?i)rocBLAS error|TensileLibrary|SIGABRT|SIGILL|SIGSEGV|illegal instruction|invalid (device )?image|"
    r"hipErrorInvalidImage|CUDA_ERROR_INVALID_IMAGE|kernel image is invalid|0xC00000|3221225(477|501)"
)
"""What a library of the backend says, or how the process ends in it; every release brings the same."""


class Checklist(Struct, frozen=True, kw_only=True):
    """What the checks compare with.

    Attributes:
        packages: name -> version with local segment.
        toolkit: attribute of `torch.version` -> its version, `any` or `none`.
        device: the device that must be seen, `cuda`, `xpu`, `mps`; None: none must.
    """

    packages: Mapping[str, str] = field(default_factory=dict)
    toolkit: Mapping[str, str] = field(default_factory=dict)
    device: str | None = None


def checklist_of(plan: Plan, info: BackendInfo | None, *, described: bool) -> Checklist:
    """What the plan promises: a device must be seen where it says that the build covers a GPU here.

    `info` is the catalog's row of its backend; None: nothing is known of its toolkit. GPUs that were only
    `described` need not be here.
    """
    packages = {package.name: package.version for package in plan.packages if package.version is not None}
    covered = {gpu.vendor for gpu in plan.gpus if gpu.covered and not described}
    device = "mps" if "apple" in covered else None
    if info is None:
        return Checklist(packages=packages, device=device)
    strategy, number = info.kind.strategy, ".".join(map(str, info.toolkit or ())) or "any"
    toolkit = {"cuda": "none", "hip": "none"}
    if strategy in _TOOLKITS:
        toolkit[_TOOLKITS[strategy]] = number if strategy != "device" else "any"
    if device is None and info.kind.vendor in covered:
        device = _DEVICES.get(strategy)
    return Checklist(packages=packages, toolkit=toolkit, device=device)


def verify(python: str, checklist: Checklist, *, env: Mapping[str, str], timeout: float = _TIMEOUT) -> Report:
    """Run every check in `python`, apart from the user's site, PYTHONPATH and the current folder.

    A crash, or a hang of `timeout` seconds, is a failed check named after the one that was running. Variables
    of `env` that hide GPUs hide them from the checks too.
    """
    job = msgspec.json.encode(checklist).decode()
    begun = time.monotonic()
    try:
        done = run_script("verify_script", python, job, env=env, timeout=timeout)
    except OSError as error:
        return _report("", "", str(error))
    report = _report(done.stdout, done.stderr, done.ending)
    return structs.replace(report, seconds=time.monotonic() - begun)


def _report(stdout: str, stderr: str, ending: str) -> Report:
    checks: list[Check] = []
    running: str | None = "start"
    for line in stdout.splitlines():
        if not line.startswith(MARKER):
            continue
        try:
            value = decoder(Check | str | None).decode(line.removeprefix(MARKER))
        except msgspec.MsgspecError:
            continue  # the end of the process cut it off
        if isinstance(value, Check):
            checks.append(value)
        else:
            running = value
    if running is not None:
        last = stderr.strip()[-1500:]
        checks.append(Check(name=running, ok=False, wanted="an answer", found=ending, detail=last))
    ok = all(check.ok for check in checks)
    return Report(ok=ok, checks=tuple(checks), crashed=running is not None)


def report_to_json(report: Report) -> dict[str, Any]:
    """The report as plain JSON values."""
    checks = msgspec.to_builtins(report.checks)
    return {"ok": report.ok, "checks": checks, "proved_at": report.proved_at}


def failure(report: Report) -> VerifyFailedError:
    """The error for a report with a failed check: about the first one, naming how many there are."""
    first, others = report.failed[0], len(report.failed) - 1
    message = f"the check {first.name} failed" + (f", and {others} more" if others else "")
    reinstall = "torchinstall auto -- --reinstall"
    if report.crashed and not others:
        slug, message = "verify-crashed", f"the check {first.name} did not come to an end"
        hint = "run the same command again with -v"
    elif first.name.startswith("import-"):
        package = first.name.removeprefix("import-")
        slug, message, hint = "import-failed", f"{package} is installed but cannot be imported", reinstall
    elif first.about_device:
        slug, hint = "gpu-does-not-compute", "torchinstall auto --backend cpu"
    elif first.name.endswith("-cpu"):
        slug, hint = "cpu-does-not-compute", reinstall
    else:
        slug, hint = "wrong-build-installed", f"{reinstall}-package torch"
    hints = ("torchinstall doctor", hint)
    return VerifyFailedError(slug, message, wanted=first.wanted, found=first.found, hints=hints)
