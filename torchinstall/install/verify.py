"""Prove that what is installed computes: run the checks in the target and read their results."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field, to_builtins

from torchinstall.core.errors import VerifyFailedError

if TYPE_CHECKING:
    from torchinstall.catalog.model import BackendInfo
    from torchinstall.core.plan import Plan

__all__ = ["Check", "Report", "Wanted", "failure", "report_to_json", "verify", "wanted_of"]

_DEADLINE = 300.0
"""Seconds for all checks: the first use of a GPU may load gigabytes or compile PTX."""

_MARKER = "@torchinstall@"

_DEVICES = {"sm": "cuda", "gfx": "cuda", "device": "xpu"}
"""What torch calls the devices of a backend, by how its code is matched; ROCm builds say `cuda` too."""


class Check(Struct, frozen=True, kw_only=True):
    """One check; its name is stable, `import-torch`, `matrix-product-cuda-0`."""

    name: str
    ok: bool
    wanted: str
    found: str
    detail: str = ""


class Report(Struct, frozen=True, kw_only=True):
    """All checks, in the order in which they ran; `ok`: none failed and they ran to the end."""

    ok: bool
    checks: tuple[Check, ...]

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if not check.ok)

    @property
    def blames_build(self) -> bool:
        """Whether another build may work: the device was not seen, has no code, or does not compute.

        An import that fails, a wrong version or the CPU computing wrong is no matter of the backend.
        """
        return any(_about_device(check.name) for check in self.failed)


def _about_device(name: str) -> bool:
    if name.endswith("-cpu"):
        return False
    return name.startswith(("device-", "code-", "matrix-product-", "convolution-", "nms-"))


class Wanted(Struct, frozen=True, kw_only=True):
    """What the checks compare with.

    Attributes:
        packages: name -> version with local segment.
        toolkit: attribute of `torch.version` -> its version, `any` or `none`.
        device: the device that must be seen, `cuda`, `xpu`, `mps`; None: none must.
    """

    packages: Mapping[str, str] = field(default_factory=dict)
    toolkit: Mapping[str, str] = field(default_factory=dict)
    device: str | None = None


def wanted_of(plan: Plan, info: BackendInfo | None) -> Wanted:
    """What the plan promises.

    Args:
        plan: with pinned packages.
        info: the catalog's row of the plan's backend; None: nothing is known of its toolkit.

    A device must be seen where the plan says that the build covers a GPU of this machine.
    """
    toolkit: dict[str, str] = {}
    device = None
    covered = {gpu.vendor for gpu in plan.gpus if gpu.covered}
    if info is not None:
        number = ".".join(str(part) for part in info.toolkit) if info.toolkit else "any"
        strategy = info.kind.strategy
        toolkit = {
            "cuda": number if strategy == "sm" else "none",
            "hip": number if strategy == "gfx" else "none",
        }
        if strategy == "device":
            toolkit["xpu"] = "any"
        if info.kind.vendor in covered:
            device = _DEVICES.get(strategy)
    if "apple" in covered:
        device = "mps"
    packages = {package.name: package.version for package in plan.packages if package.version is not None}
    return Wanted(packages=packages, toolkit=toolkit, device=device)


def verify(python: str, wanted: Wanted, *, env: Mapping[str, str], deadline: float = _DEADLINE) -> Report:
    """Run every check in `python`, apart from the user's site, PYTHONPATH and the current folder.

    Args:
        python: interpreter of the environment.
        wanted: what to compare with.
        env: its environment; variables that hide GPUs hide them from the checks too.
        deadline: seconds for all checks together.

    A crash or a hang is a failed check named after the one that was running.
    """
    script = (Path(__file__).parent / "verify_script.py").read_text(encoding="utf-8")
    job = json.dumps(
        {"packages": dict(wanted.packages), "toolkit": dict(wanted.toolkit), "device": wanted.device}
    )
    try:
        done = subprocess.run(
            [python, "-I", "-c", script, job],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=deadline,
            env={**env, "PYTHONIOENCODING": "utf-8"},
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        return _report(late.stdout or b"", late.stderr or b"", f"no answer within {deadline:g} s")
    except OSError as error:
        return _report(b"", b"", str(error))
    return _report(done.stdout, done.stderr, _ending(done.returncode))


def _ending(returncode: int) -> str:
    if returncode >= 0:
        return f"exit status {returncode}"
    try:
        return f"ended by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"ended by signal {-returncode}"


def _report(stdout: bytes, stderr: bytes, ending: str) -> Report:
    checks: list[Check] = []
    running, done = "start", False
    for line in stdout.decode("utf-8", "replace").splitlines():
        if not line.startswith(_MARKER):
            continue
        value = _value(line.removeprefix(_MARKER))
        if isinstance(value, str):
            running = value
        elif isinstance(value, dict) and value.get("done"):
            done = True
        elif isinstance(value, dict):
            checks.append(Check(**value))
    if not done:
        said = stderr.decode("utf-8", "replace").strip()[-1500:]
        checks.append(Check(name=running, ok=False, wanted="an answer", found=ending, detail=said))
    return Report(ok=all(check.ok for check in checks), checks=tuple(checks))


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        # A line that the end of the process cut off.
        return None


def report_to_json(report: Report) -> dict[str, Any]:
    """The report as plain JSON values."""
    return {"ok": report.ok, "checks": [to_builtins(check) for check in report.checks]}


def failure(report: Report) -> VerifyFailedError:
    """The error for a report with a failed check: about the first one, naming how many there are.

    Raises:
        ValueError: nothing failed.
    """
    if not report.failed:
        raise ValueError("every check passed")
    first = report.failed[0]
    others = len(report.failed) - 1
    text = f"the check {first.name} failed" + (f", and {others} more" if others else "")
    wanted, found = first.wanted, first.found
    if first.found.startswith(("no answer within", "ended by", "exit status")):
        return VerifyFailedError(
            "verify-crashed",
            f"the check {first.name} did not come to an end",
            wanted=wanted,
            found=found,
            hints=("torchinstall doctor", "run the same command again with -v"),
        )
    if first.name.startswith("import-"):
        return VerifyFailedError(
            "import-failed",
            f"{first.name.removeprefix('import-')} is installed and does not import",
            wanted=wanted,
            found=found,
            hints=("torchinstall doctor", "torchinstall auto -- --reinstall"),
        )
    if _about_device(first.name):
        return VerifyFailedError(
            "gpu-does-not-compute",
            text,
            wanted=wanted,
            found=found,
            hints=("torchinstall doctor", "torchinstall auto --backend cpu"),
        )
    if first.name.endswith("-cpu"):
        return VerifyFailedError(
            "cpu-does-not-compute",
            text,
            wanted=wanted,
            found=found,
            hints=("torchinstall doctor", "torchinstall auto -- --reinstall"),
        )
    return VerifyFailedError(
        "wrong-build-installed",
        text,
        wanted=wanted,
        found=found,
        hints=("torchinstall auto -- --reinstall-package torch", "torchinstall doctor"),
    )
