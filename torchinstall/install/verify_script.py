"""The script that is run in the interpreter installed into, to see whether its torch computes.

It is sent as text with `python -I -c`, so it must work on Python 3.7 and import nothing but the standard
library and what it checks. Each line after a marker is one JSON value: the name of a check that begins, then
its result, in the end null; so a crash in the middle still says which check it was.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
import sys
import sysconfig
import traceback
from pathlib import Path
from typing import Any

_COMPANIONS = ("torchvision", "torchaudio")
_MATRIX = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 10.0]]
_SQUARE = [[30.0, 36.0, 45.0], [66.0, 81.0, 102.0], [109.0, 134.0, 169.0]]
"""`_MATRIX @ _MATRIX`; small integers, exact in every float format that a GPU multiplies in."""

_CONVOLVED = 54.0
"""Sum over a 3 x 3 kernel of twos on ones times three."""

_BACKEND = re.compile(r"\+(cpu|cu\d+|rocm[\d.]+|xpu)$")
"""A local version that names a backend; others are those of builds that somebody made himself."""

_PIN = re.compile(r"torch\s*\(?\s*==\s*([^\s;,)]+)")


def _say(value: object) -> None:
    sys.stdout.write("\n@torchinstall@" + json.dumps(value) + "\n")
    sys.stdout.flush()


def _tell(name: str, wanted: object, ok: bool, found: object, detail: str = "") -> bool:
    """What came out of a check."""
    _say({"name": name, "ok": ok, "wanted": str(wanted), "found": str(found), "detail": detail})
    return ok


def _check(name: str, wanted: object, test: Any, *arguments: Any) -> bool:
    """Announce a check, run it, say what came out; an exception is a failed check."""
    _say(name)
    try:
        ok, found = test(*arguments)
    except Exception as error:  # noqa: BLE001  whatever a broken torch raises is the finding
        problem = f"{type(error).__name__}: {str(error).strip()[:500]}"
        return _tell(name, wanted, False, problem, traceback.format_exc(limit=-3)[-1500:])  # noqa: FBT003  by position, as below: a script for Python 3.7 stays small
    return _tell(name, wanted, ok, found)


def _distribution(name: str) -> Any:
    """The installed distribution, None where it is missing or this Python cannot say."""
    try:
        return importlib.import_module("importlib.metadata").distribution(name)
    except Exception:  # noqa: BLE001  PackageNotFoundError, or a folder of metadata without METADATA
        return None


def _public(version: str) -> str:
    return version.partition("+")[0]


def _compare_versions(job: dict[str, Any], torch: Any) -> None:
    """What is installed against what the plan pinned."""
    for name, wanted in sorted(job["packages"].items()):
        installed = _distribution(name)
        found = "not installed" if installed is None else str(installed.version)
        _tell(f"version-{name}", wanted, found == wanted, found)
    said, installed = str(getattr(torch, "__version__", "no version")), _distribution("torch")
    if installed is not None and installed.version:
        version = str(installed.version)
        # Torch from PyPI names its local version in its files only.
        _tell("torch-files", version, version in (said, _public(said)), said)


def _compare_companions(names: list[str]) -> None:
    """Each companion against torch: the release it pins, and the build (`+cu128`)."""
    torch = _distribution("torch")
    for name, other in ((name, _distribution(name)) for name in names):
        if torch is None or other is None or not (torch.version and other.version):
            continue
        pins = [match.group(1) for text in other.requires or () for match in [_PIN.match(text)] if match]
        if pins:
            ok = any(_public(pin) == _public(torch.version) for pin in pins)
            _tell(f"{name}-pins-torch", f"torch {pins[0]}", ok, f"torch {torch.version}")
        ours, theirs = _BACKEND.search(torch.version), _BACKEND.search(other.version)
        if ours and theirs:
            _tell(f"{name}-build", ours.group(), ours.group() == theirs.group(), theirs.group())


def _compare_toolkit(job: dict[str, Any], torch: Any) -> None:
    """`torch.version.cuda`, `.hip`, `.xpu` against the plan."""
    for key, wanted in sorted(job["toolkit"].items()):
        found = getattr(torch.version, key, None)
        if wanted in ("none", "any"):
            ok = (found is None) == (wanted == "none")
        else:
            ok = found is not None and f"{found}.".startswith(f"{wanted}.")
        _tell(f"toolkit-{key}", wanted, ok, found or "none")


def _devices(job: dict[str, Any], torch: Any) -> list[tuple[str, int]]:
    """The devices that torch sees, as (kind, index); the CPU is always one."""
    seen = [("cpu", 0)]
    for kind in ("cuda", "xpu", "mps"):
        module = getattr(torch.backends, "mps", None) if kind == "mps" else getattr(torch, kind, None)
        if module is None:
            continue
        asked = kind == job["device"]
        if _check(f"device-{kind}", "seen", _see, module) if asked else _available(module):
            seen += [(kind, index) for index in range(_count(module))]
    return seen


def _available(module: Any) -> bool:
    try:
        return bool(module.is_available())
    except Exception:  # noqa: BLE001  nobody asked for this device
        return False


def _count(module: Any) -> int:
    """How many devices; MPS has one."""
    return int(module.device_count()) if hasattr(module, "device_count") else 1


def _see(module: Any) -> tuple[bool, object]:
    """Whether the device is seen; where it is not, why torch thinks so."""
    if module.is_available():
        return True, f"{_count(module)} seen"
    if hasattr(module, "init"):
        module.init()
    return False, "not available"


def _has_code(torch: Any, index: int) -> tuple[bool, object]:
    """Whether the build has code for a GPU: an SM target, PTX, or its gfx target."""
    listed = list(torch.cuda.get_arch_list())
    if getattr(torch.version, "hip", None):
        name = str(torch.cuda.get_device_properties(index).gcnArchName).partition(":")[0]
        return name in listed, f"{name}; the build has {' '.join(listed)}"
    gpu = tuple(torch.cuda.get_device_capability(index))
    found = f"{gpu[0]}.{gpu[1]}; the build has {' '.join(listed)}"
    return any(_runs_on(target, gpu) for target in listed), found


def _runs_on(target: str, gpu: tuple[int, int]) -> bool:
    """Whether code for `target` runs on a GPU of this compute capability."""
    match = re.match(r"(sm|compute)_(\d+)(\d)([af]?)$", target)
    if match is None:
        return False
    built = (int(match.group(2)), int(match.group(3)))
    if match.group(4) == "a":
        return built == gpu
    if match.group(1) == "compute" and not match.group(4):
        return built <= gpu
    return built[0] == gpu[0] and built[1] <= gpu[1]


def _compute(torch: Any, kind: str, index: int, vision: Any) -> None:
    """A matrix product, a convolution and torchvision's `nms` on one device."""
    device = kind if kind in ("cpu", "mps") else f"{kind}:{index}"
    name = device.replace(":", "-")
    if kind == "cuda":
        _check(f"code-{name}", "code for this GPU", _has_code, torch, index)

    def multiply() -> tuple[bool, object]:
        left = torch.tensor(_MATRIX).to(device)
        found = (left @ left).cpu().tolist()
        return _near(found, _SQUARE), found

    def convolve() -> tuple[bool, object]:
        image = (torch.ones(1, 1, 5, 5) * 3.0).to(device)
        kernel = (torch.ones(1, 1, 3, 3) * 2.0).to(device)
        found = torch.nn.functional.conv2d(image, kernel).cpu().tolist()
        return _near(found, [[[[_CONVOLVED] * 3] * 3]]), found

    def suppress() -> tuple[bool, object]:
        boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [1.0, 1.0, 10.0, 10.0], [20.0, 20.0, 30.0, 30.0]])
        scores = torch.tensor([0.9, 0.8, 0.7])
        found = vision.ops.nms(boxes.to(device), scores.to(device), 0.5).cpu().tolist()
        return found == [0, 2], found

    _check(f"matrix-product-{name}", _SQUARE, multiply)
    # Every torch since 0.1 has `nn`; what has not is a stand-in, which is checked as far as it goes.
    if hasattr(torch, "nn"):
        _check(f"convolution-{name}", _CONVOLVED, convolve)
    if hasattr(vision, "ops"):
        _check(f"nms-{name}", [0, 2], suppress)


def _near(found: Any, wanted: Any) -> bool:
    """Whether nested lists of numbers agree to a thousandth."""
    if isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(_near, found, wanted))
    return bool(abs(found - wanted) <= 1e-3 * max(1.0, abs(wanted)))


def _main() -> None:
    job = json.loads(sys.argv[1])
    loaded: dict[str, Any] = {}

    def load(name: str) -> tuple[bool, object]:
        loaded[name] = importlib.import_module(name)
        return True, getattr(loaded[name], "__version__", "imported")

    def origin() -> tuple[bool, object]:
        file = Path(getattr(loaded["torch"], "__file__", None) or ".").resolve()
        installed = _distribution("torch")
        source = (installed is not None and installed.read_text("direct_url.json")) or ""
        editable = re.search(r'"editable":\s*true', source)
        return bool(editable) or any(site in file.parents for site in sites), file

    if _check("import-torch", "imports", load, "torch"):
        torch = loaded["torch"]
        sites = [Path(sysconfig.get_path(key)).resolve() for key in ("purelib", "platlib")]
        _check("torch-origin", sites[0], origin)
        for name in _COMPANIONS:
            if name in job["packages"] or importlib.util.find_spec(name):
                _check(f"import-{name}", "imports", load, name)
        _compare_versions(job, torch)
        _compare_companions(sorted(loaded.keys() - {"torch"}))
        _compare_toolkit(job, torch)
        for kind, index in _devices(job, torch):
            _compute(torch, kind, index, loaded.get("torchvision"))
    _say(None)


if __name__ == "__main__":
    _main()
