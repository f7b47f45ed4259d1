"""What the README says of light-the-torch and torchruntime: they are asked, and their answers are judged.

Both are installed from the default index at the versions that the README names. Each is asked for its backend
the way it decides: light-the-torch through `nvidia-smi` (a script that says the driver's version),
torchruntime through the GPU's device name. A backend is judged by the planner's rules for the described
machine.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.planning import decide, linux, nvidia
from tests.support.systems import LINUX
from torchinstall.core.machine import Machine
from torchinstall.install.uv import find_uv

pytestmark = [pytest.mark.e2e, pytest.mark.only_on(LINUX, "the peers' answers are those of Linux")]

README = Path(__file__).parents[2] / "README.md"
LTT, RUNTIME = "light-the-torch==0.8.1", "torchruntime==2.24.0"

PASCAL = ("GP102 [GeForce GTX 1080 Ti]", linux(nvidia("GTX 1080 Ti", "6.1"), driver="580.95.05"))
AMPERE_470 = ("GA100 [A100 SXM4 80GB]", linux(nvidia("A100", "8.0"), driver="470.256.02"))

_ASK = """
import json, sys
from light_the_torch._cb import CPUBackend, detect_compatible_computation_backends
found = [item for item in detect_compatible_computation_backends() if not isinstance(item, CPUBackend)]
from torchruntime.consts import NVIDIA
from torchruntime.device_db import GPU
from torchruntime.platform_detection import get_torch_platform
gpu = GPU(NVIDIA, "NVIDIA", "0000", sys.argv[1], True)
ltt = [item.local_specifier for item in sorted(found, reverse=True)]
print(json.dumps({"ltt": ltt, "runtime": get_torch_platform([gpu])}))
"""


@pytest.fixture(scope="module")
def peers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with both."""
    folder = tmp_path_factory.mktemp("peers")
    uv = find_uv({}).path
    subprocess.run([uv, "venv", "-q", "-p", sys.executable, str(folder / "venv")], check=True)
    python = folder / "venv" / "bin" / "python"
    subprocess.run([uv, "pip", "install", "-q", "-p", str(python), LTT, RUNTIME, "setuptools"], check=True)
    return python


def ask(peers: Path, folder: Path, device: str, machine: Machine) -> tuple[list[str], str]:
    """light-the-torch's CUDA backends, the one it likes best first, and torchruntime's one."""
    driver = machine.drivers[0].version
    smi = folder / "nvidia-smi"
    smi.write_text(f"#!/bin/sh\necho driver_version\necho {driver}\n", encoding="ascii")
    smi.chmod(0o755)
    said = subprocess.run(
        [str(peers), "-c", _ASK, device],
        env={"PATH": f"{folder}:/usr/bin:/bin"},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    ).stdout
    data = json.loads(said.splitlines()[-1])
    return data["ltt"], data["runtime"]


def objection(machine: Machine, backend: str) -> str | None:
    """The rule that stands against the newest build of a backend on a machine; None: it runs."""
    plan = decide(machine, "torch", backend=backend)
    cannot = any(item.slug == "backend-cannot-run" for item in plan.warnings)
    automatic = decide(machine, "torch")
    newest = next(item for item in automatic.candidates if item.backend == backend)
    return newest.rule if cannot else None


def test_light_the_torch_knows_the_driver_and_not_the_gpu(peers: Path, tmp_path: Path) -> None:
    backends, _ = ask(peers, tmp_path, *PASCAL)
    published = [name for name in backends if decide(PASCAL[1], "torch", backend=name).status == "ready"]
    assert published[0] == "cu130"
    assert objection(PASCAL[1], published[0]) == "no-code-for-gpu"
    assert decide(PASCAL[1], "torch").backend == "cu126"


def test_torchruntime_knows_the_gpu_and_not_the_driver(peers: Path, tmp_path: Path) -> None:
    backends, backend = ask(peers, tmp_path, *AMPERE_470)
    published = [name for name in backends if decide(AMPERE_470[1], "torch", backend=name).status == "ready"]
    assert published[0] == "cu118"
    assert backend == "cu128"
    assert objection(AMPERE_470[1], backend) == "driver-too-old"
    assert decide(AMPERE_470[1], "torch").backend == "cu118"


def test_torchruntime_stays_with_an_old_build_for_old_gpus(peers: Path, tmp_path: Path) -> None:
    _, backend = ask(peers, tmp_path, *PASCAL)
    assert backend == "cu124"
    assert (decide(PASCAL[1], "torch", backend=backend).torch or "").startswith("2.6.0")
    assert (decide(PASCAL[1], "torch").torch or "").startswith("2.14.1")


def test_the_readme_names_what_was_asked() -> None:
    text = README.read_text(encoding="utf-8")
    assert LTT.replace("==", " ") in text
    assert RUNTIME.replace("==", " ") in text
