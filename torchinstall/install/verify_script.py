"""The script that is run in the interpreter installed into, to see whether its torch computes.

It is sent as text with `python -I -c`, so it must work on Python 3.7 and import nothing but the standard
library and what it checks. Each line after a marker is one JSON value: the name of a check that begins, then
its result; so a crash in the middle still says which check it was.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
import sys
import sysconfig
import traceback
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

COMPANIONS = ("torchvision", "torchaudio")
MATRIX = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 10.0]]
SQUARE = [[30.0, 36.0, 45.0], [66.0, 81.0, 102.0], [109.0, 134.0, 169.0]]
"""`MATRIX @ MATRIX`; small integers, exact in every float format that a GPU multiplies in."""

CONVOLVED = 54.0
"""Sum over a 3 x 3 kernel of twos on ones times three."""


def say(value: object) -> None:
    """One line for the process that started us."""
    sys.stdout.write("\n@torchinstall@" + json.dumps(value) + "\n")
    sys.stdout.flush()


def check(name: str, wanted: object, look: Callable[[], tuple[bool, object]]) -> bool:
    """Announce a check, run it, say what came out; an exception is a failed check."""
    say(name)
    detail = ""
    try:
        ok, found = look()
    except Exception as error:  # noqa: BLE001  whatever a broken torch raises is the finding
        ok, found = False, f"{type(error).__name__}: {str(error).strip()[:500]}"
        detail = traceback.format_exc(limit=-3)[-1500:]
    tell(name, wanted, ok, found, detail)
    return ok


def tell(name: str, wanted: object, ok: bool, found: object, detail: str = "") -> None:
    """What came out of a check."""
    say({"name": name, "ok": ok, "wanted": str(wanted), "found": str(found), "detail": detail})


def distribution(name: str) -> Any:
    """The installed distribution, None where it is missing or this Python cannot say."""
    try:
        metadata = importlib.import_module("importlib.metadata")
        return metadata.distribution(name)
    except Exception:  # noqa: BLE001  PackageNotFoundError, or a folder of metadata without METADATA
        return None


def public(version: str) -> str:
    """The version without its local segment."""
    return version.partition("+")[0]


def compare_versions(job: dict[str, Any], torch: Any) -> None:
    """What is installed against what the plan pinned."""
    for name, wanted in sorted(job["packages"].items()):
        here = distribution(name)
        found = "not installed" if here is None else str(here.version)
        tell(f"version-{name}", wanted, found == wanted, found)
    told, here = str(getattr(torch, "__version__", "no version")), distribution("torch")
    if here is not None:
        version = str(here.version)
        # Torch from PyPI names its local version in its files only.
        tell("torch-files", version, told == version or public(told) == version, told)


def compare_companions(modules: dict[str, Any]) -> None:
    """Each companion against torch: the release it pins, and the build (`+cu128`)."""
    here = distribution("torch")
    if here is None:
        return
    for name in sorted(modules):
        other = distribution(name)
        if other is None:
            continue
        pins = [match.group(1) for line in other.requires or () for match in [PIN.match(line)] if match]
        if pins:
            good = any(public(pin) == public(here.version) for pin in pins)
            tell(f"{name}-pins-torch", f"torch {pins[0]}", good, f"torch {here.version}")
        ours, theirs = here.version.partition("+")[2], other.version.partition("+")[2]
        if ours and theirs:
            tell(f"{name}-build", f"+{ours}", ours == theirs, f"+{theirs}")


PIN = re.compile(r"torch\s*\(?\s*==\s*([^\s;,)]+)")


def toolkit(job: dict[str, Any], torch: Any) -> None:
    """`torch.version.cuda`, `.hip`, `.xpu` against the plan."""
    for key, wanted in sorted(job["toolkit"].items()):
        found = getattr(torch.version, key, None)
        if wanted in ("none", "any"):
            good = (found is None) == (wanted == "none")
        else:
            good = found is not None and f"{found}.".startswith(f"{wanted}.")
        tell(f"toolkit-{key}", wanted, good, found or "none")


def devices(job: dict[str, Any], torch: Any) -> list[tuple[str, int]]:
    """The devices that torch sees, as (kind, index); the CPU is always one."""
    seen: list[tuple[str, int]] = [("cpu", 0)]
    for kind in ("cuda", "xpu", "mps"):
        module = getattr(torch.backends, "mps", None) if kind == "mps" else getattr(torch, kind, None)
        if module is None:
            continue
        if kind != job["device"]:
            if available(module):
                seen += [(kind, index) for index in range(count(module))]
            continue
        if check(f"device-{kind}", "seen", partial(see, module)):
            seen += [(kind, index) for index in range(count(module))]
    return seen


def available(module: Any) -> bool:
    """`is_available()`, False where that raises."""
    try:
        return bool(module.is_available())
    except Exception:  # noqa: BLE001  nobody asked for this device
        return False


def count(module: Any) -> int:
    """How many devices; MPS has one."""
    return int(module.device_count()) if hasattr(module, "device_count") else 1


def see(module: Any) -> tuple[bool, object]:
    """Whether the device is there; where it is not, why torch thinks so."""
    if module.is_available():
        return True, f"{count(module)} seen"
    if hasattr(module, "init"):
        module.init()
    return False, "not available"


def code_for(torch: Any, index: int) -> tuple[bool, object]:
    """Whether the build has code for a GPU: an SM target, PTX, or its gfx target."""
    listed = list(torch.cuda.get_arch_list())
    if getattr(torch.version, "hip", None):
        name = str(torch.cuda.get_device_properties(index).gcnArchName).partition(":")[0]
        return name in listed, f"{name}; the build has {' '.join(listed)}"
    mine = tuple(torch.cuda.get_device_capability(index))
    found = f"{mine[0]}.{mine[1]}; the build has {' '.join(listed)}"
    return any(runs_on(target, mine) for target in listed), found


def runs_on(target: str, mine: tuple[int, int]) -> bool:
    """Whether code for `target` runs on a GPU of this compute capability."""
    match = re.match(r"(sm|compute)_(\d+)(\d)([af]?)$", target)
    if match is None:
        return False
    built = (int(match.group(2)), int(match.group(3)))
    if match.group(4) == "a":
        return built == mine
    if match.group(1) == "compute" and not match.group(4):
        return built <= mine
    return built[0] == mine[0] and built[1] <= mine[1]


def compute(torch: Any, kind: str, index: int, vision: Any) -> None:
    """A matrix product, a convolution and torchvision's `nms` on one device."""
    where = "cpu" if kind == "cpu" else kind if kind == "mps" else f"{kind}:{index}"
    name = where.replace(":", "-")
    if kind == "cuda":
        check(f"code-{name}", "code for this GPU", lambda: code_for(torch, index))

    def multiply() -> tuple[bool, object]:
        left = torch.tensor(MATRIX).to(where)
        found = (left @ left).cpu().tolist()
        return near(found, SQUARE), found

    def convolve() -> tuple[bool, object]:
        image = (torch.ones(1, 1, 5, 5) * 3.0).to(where)
        kernel = (torch.ones(1, 1, 3, 3) * 2.0).to(where)
        found = torch.nn.functional.conv2d(image, kernel).cpu().tolist()
        return near(found, [[[[CONVOLVED] * 3] * 3]]), found

    def suppress() -> tuple[bool, object]:
        boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [1.0, 1.0, 10.0, 10.0], [20.0, 20.0, 30.0, 30.0]])
        scores = torch.tensor([0.9, 0.8, 0.7])
        found = vision.ops.nms(boxes.to(where), scores.to(where), 0.5).cpu().tolist()
        return found == [0, 2], found

    check(f"matrix-product-{name}", SQUARE, multiply)
    # Every torch since 0.1 has `nn`; what has not is a stand-in, which is checked as far as it goes.
    if hasattr(torch, "nn"):
        check(f"convolution-{name}", CONVOLVED, convolve)
    if hasattr(vision, "ops"):
        check(f"nms-{name}", [0, 2], suppress)


def near(found: Any, wanted: Any) -> bool:
    """Whether nested lists of numbers agree to a thousandth."""
    if isinstance(wanted, list):
        return len(found) == len(wanted) and all(near(found[i], wanted[i]) for i in range(len(wanted)))
    return bool(abs(found - wanted) <= 1e-3 * max(1.0, abs(wanted)))


def main() -> None:
    """Run every check that applies."""
    job = json.loads(sys.argv[1])
    loaded: dict[str, Any] = {}

    def load(name: str) -> bool:
        def look() -> tuple[bool, object]:
            loaded[name] = importlib.import_module(name)
            return True, getattr(loaded[name], "__version__", "imported")

        return check(f"import-{name}", "imports", look)

    if load("torch"):
        torch = loaded["torch"]
        homes = [Path(sysconfig.get_path(key)).resolve() for key in ("purelib", "platlib")]
        file = Path(getattr(torch, "__file__", None) or ".").resolve()
        check("torch-origin", homes[0], lambda: (any(home in file.parents for home in homes), file))
        wanted = [name for name in COMPANIONS if name in job["packages"] or importlib.util.find_spec(name)]
        for name in wanted:
            load(name)
        compare_versions(job, torch)
        compare_companions({name: module for name, module in loaded.items() if name != "torch"})
        toolkit(job, torch)
        for kind, index in devices(job, torch):
            compute(torch, kind, index, loaded.get("torchvision"))
    say({"done": True})


if __name__ == "__main__":
    main()
