"""The line on real NVIDIA hardware, against witnesses that share nothing with it: nvidia-smi and torch.

Nothing is fetched and nothing is installed. The tests about torch use a torch that is already there: of the
interpreter that `--torch-python` names, else of the first of this interpreter and `python3` that has one.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest

pytestmark = pytest.mark.gpu

ROOT = Path(__file__).parents[2]
QUERY = ("index", "name", "uuid", "driver_version", "memory.total", "compute_cap", "pci.bus_id")


class Run(NamedTuple):
    """A run of torchinstall that printed JSON."""

    code: int
    out: dict[str, Any]
    err: str
    seconds: float


def torchinstall(*argv: str, env: dict[str, str] | None = None, cwd: Path = ROOT) -> Run:
    """Run the command line as a user would; `env` is added to the environment."""
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "torchinstall", *argv],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})},
        check=False,
    )
    seconds = time.monotonic() - start
    assert done.returncode != 70, done.stderr
    return Run(done.returncode, json.loads(done.stdout), done.stderr, seconds)


def in_torch(python: str, script: str) -> Any:
    """What a script prints as JSON in the interpreter that has torch."""
    done = subprocess.run(
        [python, "-I", "-c", script], capture_output=True, text=True, timeout=120, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def seen_by_smi() -> list[dict[str, str]]:
    """What nvidia-smi says of each GPU."""
    done = subprocess.run(
        ["nvidia-smi", f"--query-gpu={','.join(QUERY)}", "--format=csv,noheader,nounits"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return [
        dict(zip(QUERY, row, strict=True))
        for row in csv.reader(done.stdout.splitlines(), skipinitialspace=True)
    ]


@pytest.fixture(scope="module")
def machine() -> dict[str, Any]:
    found = torchinstall("probe", "--json").out
    assert nvidia(found), "these tests need an NVIDIA GPU"
    return found


@pytest.fixture(scope="module")
def torch_python(request: pytest.FixtureRequest) -> str:
    """An interpreter that has torch."""
    named = request.config.getoption("--torch-python")
    candidates = [named] if named else [sys.executable, shutil.which("python3") or "python3"]
    for python in candidates:
        found = subprocess.run(
            [python, "-I", "-c", "import torch"], capture_output=True, timeout=120, check=False
        )
        if found.returncode == 0:
            return str(python)
    pytest.fail(f"no torch in {', '.join(candidates)}; name an interpreter with --torch-python")


def nvidia(machine: dict[str, Any]) -> list[dict[str, Any]]:
    return [gpu for gpu in machine["gpus"] if gpu["vendor"] == "nvidia"]


def chosen(plan: dict[str, Any]) -> Any:
    """What a plan decides, without where it was asked."""
    return plan["status"], plan["backend"], plan["packages"], plan["gpus"], plan["candidates"], plan["limits"]


def test_probe_agrees_with_nvidia_smi(machine: dict[str, Any], seen_by_smi: list[dict[str, str]]) -> None:
    gpus = nvidia(machine)
    assert [(gpu["index"], gpu["name"], gpu["uuid"], gpu["compute_capability"]) for gpu in gpus] == [
        (int(row["index"]), row["name"], row["uuid"], row["compute_cap"]) for row in seen_by_smi
    ]
    for gpu, row in zip(gpus, seen_by_smi, strict=True):
        assert gpu["memory_bytes"] == pytest.approx(int(row["memory.total"]) * 2**20, rel=0.02)
        assert gpu["source"] == "nvml"
    driver = next(row for row in machine["drivers"] if row["vendor"] == "nvidia")
    assert driver["version"] == seen_by_smi[0]["driver_version"]


def test_driver_cuda_version_agrees_with_nvidia_smi(machine: dict[str, Any]) -> None:
    driver = next(row for row in machine["drivers"] if row["vendor"] == "nvidia")
    said = subprocess.run(["nvidia-smi"], capture_output=True, text=True, timeout=60, check=True).stdout
    assert (
        f"CUDA Version: {driver['cuda_version']} " in said
        or f"CUDA UMD Version: {driver['cuda_version']} " in said
    )


def test_every_gpu_is_covered_by_the_plan(machine: dict[str, Any]) -> None:
    plan = torchinstall("plan", "--offline", "--json", "--python-version", "3.12")
    assert plan.code == 0, plan.err
    assert plan.out["backend"].startswith("cu")
    assert [gpu["index"] for gpu in plan.out["gpus"] if gpu["covered"]] == [
        gpu["index"] for gpu in nvidia(machine)
    ]


def test_plans_elsewhere_are_the_plan_here(
    tmp_path: Path, machine: dict[str, Any], seen_by_smi: list[dict[str, str]]
) -> None:
    """The machine file, the recorded folder and the flags of a build machine lead to one decision."""
    words = ("plan", "--offline", "--json", "--python-version", "3.12")
    here = torchinstall(*words).out
    file = tmp_path / "machine.json"
    file.write_text(json.dumps(machine), encoding="utf-8")
    assert chosen(torchinstall(*words, "--machine", str(file)).out) == chosen(here)

    folder = tmp_path / "recorded"
    torchinstall("probe", "--json", "--record", str(folder))
    replayed = torchinstall("probe", "--json", "--root", str(folder)).out
    for gpu in nvidia(replayed):
        alike = nvidia(machine)[gpu["index"]]
        assert {**gpu, "uuid": None} == {**alike, "uuid": None}
    assert replayed["drivers"] == machine["drivers"]
    assert chosen(torchinstall(*words, "--root", str(folder)).out)[:3] == chosen(here)[:3]
    assert not [
        path
        for path in folder.rglob("*")
        if path.is_file() and seen_by_smi[0]["uuid"] in path.read_text("utf-8", "ignore")
    ]

    row = seen_by_smi[0]
    target = (
        "--target-driver",
        row["driver_version"],
        "--target-gpu",
        "sm_" + row["compute_cap"].replace(".", ""),
    )
    assert chosen(torchinstall(*words, *target).out)[:3] == chosen(here)[:3]


def test_without_nvml_the_gpu_is_still_found(machine: dict[str, Any], tmp_path: Path) -> None:
    """Where NVML cannot be loaded, the driver's own library or nvidia-smi answers in its place."""
    broken = tmp_path / "libnvidia-ml.so.1"
    broken.write_bytes(b"no library")
    found = torchinstall("probe", "--json", env={"TORCHINSTALL_NVML_LIBRARY": str(broken)})
    assert [gpu["name"] for gpu in nvidia(found.out)] == [gpu["name"] for gpu in nvidia(machine)]
    assert [gpu["compute_capability"] for gpu in nvidia(found.out)] == [
        gpu["compute_capability"] for gpu in nvidia(machine)
    ]
    assert {gpu["source"] for gpu in nvidia(found.out)} <= {"libcuda", "nvidia-smi"}


def test_hidden_gpus_are_still_installed_for(machine: dict[str, Any]) -> None:
    """An installation serves the machine, not one process, unless that was asked for."""
    hidden = {"CUDA_VISIBLE_DEVICES": "-1"}
    words = ("plan", "--offline", "--json", "--python-version", "3.12")
    plan = torchinstall(*words, env=hidden).out
    assert len([gpu for gpu in plan["gpus"] if gpu["covered"]]) == len(nvidia(machine))
    assert torchinstall(*words, "--respect-visible-devices", env=hidden).out["backend"] == "cpu"


def test_torch_sees_what_the_probe_saw(machine: dict[str, Any], torch_python: str) -> None:
    seen = in_torch(
        torch_python,
        "import json, torch\n"
        "print(json.dumps([[torch.cuda.get_device_name(i), '%d.%d' % torch.cuda.get_device_capability(i)]"
        " for i in range(torch.cuda.device_count())]))",
    )
    assert seen == [[gpu["name"], gpu["compute_capability"]] for gpu in nvidia(machine)]


def test_catalog_knows_the_targets_of_this_torch(torch_python: str) -> None:
    """The row of the installed build, against the list that torch itself returns."""
    version, cuda, listed = in_torch(
        torch_python,
        "import json, torch\n"
        "print(json.dumps([torch.__version__, torch.version.cuda, torch.cuda.get_arch_list()]))",
    )
    key = (version.rpartition(".")[0], "cu" + cuda.replace(".", ""), "linux_x86_64")
    rows = torchinstall("catalog", "show", "code", "--json").out["tables"]["code"]["rows"]
    (row,) = [row for row in rows if (row["torch"], row["backend"], row["platform"]) == key]
    native = ["sm_" + target.replace(".", "") for target in row["native"]]
    ptx = ["compute_" + target.replace(".", "") for target in row["ptx"] or ()]
    assert sorted(listed) == sorted(native + ptx)


def test_doctor_proves_that_torch_computes(torch_python: str, machine: dict[str, Any]) -> None:
    """The checks run on the GPU; what the doctor finds besides is about versions, never about computing."""
    report = torchinstall("doctor", "--json", "--python", torch_python)
    assert report.code in (0, 7), report.err
    checks = {check["name"]: check for check in report.out["verify"]["checks"]}
    for gpu in nvidia(machine):
        for name in ("code", "matrix-product", "convolution"):
            assert checks[f"{name}-cuda-{gpu['index']}"]["ok"], checks
    assert report.out["verify"]["ok"], checks
    assert report.seconds < 60


def test_doctor_names_what_hides_the_gpu(torch_python: str) -> None:
    report = torchinstall("doctor", "--json", "--python", torch_python, env={"CUDA_VISIBLE_DEVICES": "-1"})
    assert "CUDA_VISIBLE_DEVICES" in json.dumps(report.out["findings"]), report.out["findings"]


def test_probe_is_quick(machine: dict[str, Any]) -> None:
    """A probe that hangs costs at most three seconds (design, section 9); one that works costs far less."""
    again = torchinstall("probe", "--json")
    assert nvidia(again.out) == nvidia(machine)
    assert again.seconds < 6
