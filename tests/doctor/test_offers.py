"""Every command that is offered for a text is run in the situation of that text, and the doctor agrees.

The index is a loopback one with tiny wheels; uv and the environment are real. Texts of other systems than the
one that runs the tests are planned only.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.support import run
from tests.doctor.test_explain import ERRORS, explain
from tests.support.index_server import IndexServer
from tests.support.index_tree import IndexTree
from tests.support.installing import Place, an_environment, here
from tests.support.planning import amd, decide, intel, linux, nvidia, shipped, windows
from tests.support.systems import LINUX_X86
from tests.support.wheelhouse import TinyWheel, torch_wheel, wheel
from torchinstall.core.errors import UsageError
from torchinstall.core.machine import Driver, Machine, machine_to_json
from torchinstall.doctor.cleaning import clean
from torchinstall.doctor.facts import Reading
from torchinstall.planning.gpus import declared_gpus

PYTHON = f"cp3{sys.version_info[1]}"
TAG = f"{PYTHON}-{PYTHON}-manylinux_2_17_x86_64"
BACKENDS = ("cpu", "cu126", "cu128", "cu130", "rocm6.4", "xpu")


def wheels(backend: str) -> list[TinyWheel]:
    """What the index has for a backend: one release and its companions."""
    torch = "torch==2.9.1"
    return [
        torch_wheel(f"2.9.1+{backend}", TAG, xpu="20250101" if backend == "xpu" else None),
        *(
            wheel(name, f"{version}+{backend}", TAG, requires=(torch,))
            for name, version in (("torchvision", "0.24.1"), ("torchaudio", "2.9.1"), ("torchcodec", "0.9.1"))
        ),
        wheel("pytorch_triton_rocm", "3.5.1", TAG),
        wheel("pytorch_triton_xpu", "3.5.0", TAG),
        wheel("xformers", "0.0.33.post2", TAG, requires=(torch,)),
    ]


@pytest.fixture(scope="module")
def server() -> Iterator[IndexServer]:
    default = IndexTree({"": [wheel("torchao", "0.15.0"), wheel("triton", "3.5.1", TAG)]}, kind="pypi")
    older = [
        torch_wheel("2.6.0+cu124", TAG),
        wheel("torchvision", "0.21.0+cu124", TAG, requires=("torch==2.6.0",)),
    ]
    tree = IndexTree({"cu124": older, **{name: wheels(name) for name in BACKENDS}}, missing_status=404)
    with IndexServer(tree, default=default) as running:
        yield running


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def place(tmp_path: Path, cache: Path, server: IndexServer) -> Place:
    return here(tmp_path / ".venv", an_environment(tmp_path, server, UV_CACHE_DIR=str(cache)))


def machine_in(text: str) -> Machine:
    """The machine that a text is about; where it names no GPU, a usual one of the maker that it names."""
    said = Reading(clean(text)).mentions
    try:
        gpus = declared_gpus(said.codes or ((said.gpu,) if said.gpu else ()), "text", shipped())
    except UsageError:
        gpus = ()
    usual = {"amd": amd("gfx1100"), "intel": intel("8086:e20b", integrated=False)}
    gpus = gpus or (usual.get(said.vendor or "", nvidia("NVIDIA GeForce RTX 3060", "8.6")),)
    if gpus[0].vendor != "nvidia":
        return linux(*gpus)
    driver = Driver(
        vendor="nvidia",
        version=said.driver or (None if said.driver_cuda else "580.95.05"),
        cuda_version=said.driver_cuda,
    )
    return Machine(
        os="linux", os_version="24.04", arch="x86_64", libc=linux().libc, gpus=gpus, drivers=(driver,)
    )


def offers() -> dict[tuple[str, Machine], list[str]]:
    """(command, machine) -> the texts for which it is offered."""
    found: dict[tuple[str, Machine], list[str]] = {}
    for heading, text in ERRORS:
        if Reading(clean(text)).mentions.os in ("windows", "macos"):
            continue
        for match in explain(text):
            for command in match.commands:
                if command.startswith("torchinstall auto") and "--index-base URL" not in command:
                    found.setdefault((command, machine_in(text)), []).append(heading)
    return found


OFFERS = offers()


def test_there_are_enough_offers() -> None:
    assert sum(map(len, OFFERS.values())) >= 40


@pytest.mark.e2e
@pytest.mark.only_on(LINUX_X86, "the wheels that it installs are built for it")
@pytest.mark.parametrize(
    ("command", "machine"),
    OFFERS,
    ids=[f"{command} for {texts[0]}" for (command, _), texts in OFFERS.items()],
)
def test_the_command_leads_to_what_the_doctor_calls_right(
    command: str, machine: Machine, place: Place, server: IndexServer
) -> None:
    folder = place.folder.parent
    (folder / "machine.json").write_text(json.dumps(machine_to_json(machine)), encoding="utf-8")
    where = ("--machine", "machine.json", "--index-base", server.index_base)
    words = shlex.split(command)[1:]
    verb, rest = words[0], words[1:]

    done = run(folder, verb, *where, "--no-verify", *rest, env=place.env)
    assert done.code == 0, done.err

    chosen = rest[rest.index("--backend") :][:2] if "--backend" in rest else []
    chosen += [word for word in rest if word == "--allow-cpu"]
    said = run(folder, "doctor", *where, *chosen, "--no-verify", "--json", env=place.env)
    faults = [row["slug"] for row in said.json["findings"] if row["severity"] == "error"]
    assert faults == []
    assert said.json["choice"]["status"] == "satisfied"


def first_commands(text: str) -> tuple[str, ...]:
    return explain(text)[0].commands


def test_a_gpu_in_the_text_is_planned_for() -> None:
    """Pascal is told the last build that has its code, a GPU that nothing serves is told so."""
    told = "{} with CUDA capability {} is not compatible with the current PyTorch installation."
    (pascal,) = explain(told.format("NVIDIA GeForce GTX 1080", "sm_61"))
    assert pascal.commands == ("torchinstall auto",)
    assert pascal.values["backend"] == decide(linux(nvidia("GTX", "6.1"), driver="580.95.05")).backend
    assert pascal.values["backend"] in pascal.cause
    (kepler,) = explain(told.format("NVIDIA GeForce GTX 680", "sm_30"))
    assert "no published CUDA build" in kepler.cause
    assert kepler.commands == ("torchinstall auto --allow-cpu",)


def test_the_driver_in_the_text_is_planned_for() -> None:
    told = "The NVIDIA driver on your system is too old (found version {})."
    (match,) = explain(told.format(12080))
    assert "CUDA 12.8" in match.cause
    assert match.advice is not None
    assert "driver 580" in match.advice
    (older,) = explain(told.format(11040))
    assert older.values["next_driver"] == "525.60.13"
    assert older.values["backend"].startswith("cu11")
    (elsewhere,) = explain("C:\\venv\\torch " + told.format(12080))
    assert elsewhere.values["next_driver"] != ""


def test_a_python_without_wheels_is_replaced_first() -> None:
    text = (
        "/opt/v/lib/python3.6/site-packages/torch/cuda/__init__.py:52: UserWarning: "
        "NVIDIA GeForce RTX 5090 with CUDA capability sm_120 is not compatible with the current "
        "PyTorch installation."
    )
    assert first_commands(text) == ("uv venv --clear --python 3.12", "torchinstall auto")


def test_companions_in_the_text_stay() -> None:
    text = (
        '  File "/opt/v/lib/python3.11/site-packages/torchaudio/__init__.py", line 2, in <module>\n'
        '  File "/opt/v/lib/python3.11/site-packages/torchvision/__init__.py", line 6, in <module>\n'
        "RuntimeError: operator torchvision::nms does not exist"
    )
    assert first_commands(text) == ("torchinstall auto torch torchaudio torchvision",)


@pytest.mark.e2e
@pytest.mark.only_on(LINUX_X86, "the wheels that it installs are built for it")
def test_a_text_about_the_environment_here_is_planned_for_here(place: Place) -> None:
    """It names files of this environment: its companions and this machine count."""
    folder = place.folder.parent
    (folder / "here.json").write_text(json.dumps(machine_to_json(linux())), encoding="utf-8")
    file = f"{place.folder}/lib/python3.{sys.version_info[1]}/site-packages/torch/cuda/__init__.py"
    text = f'  File "{file}", line 310\nAssertionError: Torch not compiled with CUDA enabled'
    said = run(folder, "doctor", "--machine", "here.json", "--explain", text, "--json", env=place.env)
    (match,) = said.json["matches"]
    assert "torchinstall doctor" in match["commands"]
    assert not any(command.startswith("torchinstall auto") for command in match["commands"])


def test_windows_builds_are_meant_where_the_text_is_of_windows() -> None:
    text = """C:\\v\\Lib\\site-packages\\torch\\x.py
        Found GPU0 which is of cuda capability 5.0.
        PyTorch no longer supports this GPU because it is too old."""
    assert first_commands(text)[0].startswith("torchinstall auto")
    plan = decide(windows(nvidia("GTX 960", "5.2"), driver="580.95"))
    assert explain(text)[0].values["backend"] == plan.backend
