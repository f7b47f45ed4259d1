"""What a build needs: read from locks, agreed with the planner, in every form, for one machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.support import RunResult, run
from tests.fleet.made import gfd, kube_list, kube_node, read
from tests.fleet.selecting import constraint_holds, selects
from tests.requires_agreement import agreement
from tests.support.planning import amd, linux, mac, nvidia, shipped
from torchinstall.core.errors import UsageError
from torchinstall.core.machine import Machine, machine_to_json
from torchinstall.core.target import foreign_target
from torchinstall.core.versions import dotted
from torchinstall.fleet.locked import builds_of, pinned_in
from torchinstall.fleet.manifests import needs_affinity, needs_filter, needs_slurm
from torchinstall.fleet.requires import PinnedBuild, PlatformNeed, needs_of, runs_on

CU128 = PinnedBuild("2.9.1", "cu128")


def need(build: PinnedBuild, platform: str, *, wsl: bool = False) -> PlatformNeed:
    found = [row for row in needs_of(build, shipped()) if (row.platform, row.wsl) == (platform, wsl)]
    assert len(found) == 1
    return found[0]


def test_requires_and_plan_agree() -> None:
    """A hundred and fifty pairs here; `python -m tests.requires_agreement --pairs 2000` asks more."""
    found = agreement(150, builds=5)
    assert [pair for pair in found if not pair.agrees] == []
    assert sum(pair.forward is None for pair in found) > 10, "both answers occur"


def test_each_bound_of_a_cuda_build_and_the_fact_that_sets_it() -> None:
    row = need(CU128, "linux_x86_64")
    windows = {code: [w.text for w in gpus.drivers] for gpus in row.gpus for code in gpus.codes}
    assert windows["9.0"] == ["525.60.13 or newer"]
    assert windows["7.0"] == ["525.60.13 or newer, older than 590"]
    assert windows["12.0"] == ["570 or newer"]
    assert "6.1" not in windows
    assert row.systems["cp312"] == "2.28"
    assert "cp39" not in row.systems
    facts = {(fact.bound, fact.table) for fact in row.facts}
    assert facts >= {("driver", "driver_floors.json"), ("gpu", "code.json"), ("system", "wheels.json")}
    assert all(fact.source and fact.confidence in ("high", "medium", "low") for fact in row.facts)
    assert need(CU128, "linux_x86_64", wsl=True).gpus[1].drivers[0].low == "528.33", "WSL has Windows' driver"
    assert need(CU128, "win_amd64").gpus[1].drivers[0].low == "528.33"
    assert need(CU128, "linux_aarch64").l4t == "38"


def test_bounds_of_other_builds() -> None:
    assert "gfx942" in need(PinnedBuild("2.9.1", "rocm6.4"), "linux_x86_64").gpus[0].codes
    assert "8086:0bda" in need(PinnedBuild("2.9.1", "xpu"), "linux_x86_64").gpus[0].codes
    cpu = need(PinnedBuild("2.9.1", "cpu"), "macos_arm64")
    assert (cpu.gpus, cpu.systems["cp312"]) == ((), "11.0")
    old = need(PinnedBuild("1.13.1", "cu117"), "win_amd64")
    ptx = next(gpus for gpus in old.gpus if "9.0" in gpus.codes)
    assert ptx.cuda == "11.7", "only PTX runs there, which the driver must be able to compile"
    arm = need(PinnedBuild("2.10.0", "cpu"), "linux_aarch64")
    assert arm.cpu == ("atomics",), "it ends the process on older processors"
    assert ("cpu", "limits.json") in {(fact.bound, fact.table) for fact in arm.facts}
    assert need(PinnedBuild("2.9.1", "cpu"), "linux_aarch64").cpu == ()
    assert needs_of(PinnedBuild("2.9.1", "nope"), shipped()) == ()
    assert needs_of(PinnedBuild("99.0", "cu128"), shipped()) == ()


UV_LOCK = """\
version = 1
requires-python = ">=3.11"

[[package]]
name = "torch"
version = "2.9.1+cu128"
source = { registry = "https://download.pytorch.org/whl/cu128" }
wheels = [{ url = "https://download.pytorch.org/whl/cu128/torch-2.9.1%2Bcu128-cp311-cp311-win_amd64.whl" }]

[[package]]
name = "torchvision"
version = "0.24.1+cu128"
source = { registry = "https://download.pytorch.org/whl/cu128" }
"""
PYLOCK = """\
lock-version = "1.0"

[[packages]]
name = "torch"
version = "2.9.1"
index = "https://download.pytorch.org/whl/cu126"
"""
POETRY = """\
[[package]]
name = "torch"
version = "2.9.1+cu130"

[package.source]
type = "legacy"
url = "https://download.pytorch.org/whl/cu130"
reference = "pytorch"
"""
HASHED = """\
--index-url https://download.pytorch.org/whl/cu128
torch==2.9.1 \\
    --hash=sha256:0000000000000000000000000000000000000000000000000000000000000000
einops==0.8.1
"""
BY_URL = "torch @ https://download.pytorch.org/whl/cu126/torch-2.9.1%2Bcu126-cp312-cp312-manylinux_2_28_x86_64.whl\n"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (UV_LOCK, "2.9.1+cu128"),
        (PYLOCK, "2.9.1+cu126"),
        (POETRY, "2.9.1+cu130"),
        (HASHED, "2.9.1+cu128"),
        (BY_URL, "2.9.1+cu126"),
        ("torch==2.9.1+rocm6.4\n", "2.9.1+rocm6.4"),
        ("TORCH==2.9.1+CU126\n", "2.9.1+cu126"),
        ("Package Version\r\n------- ------\r\ntorch   2.9.1+cu126\r\n", "2.9.1+cu126"),
    ],
)
def test_builds_of_locks(text: str, name: str) -> None:
    assert [build.name for build in builds_of(pinned_in(text, "lock", shipped()), shipped())] == [name]


def test_a_lock_brings_its_companions_and_pypi_differs_by_platform() -> None:
    (build,) = builds_of(pinned_in(UV_LOCK, "uv.lock", shipped()), shipped())
    assert build.packages == ("torchvision==0.24.1",)
    found = builds_of(pinned_in("torch==2.9.1\n", "r.txt", shipped()), shipped())
    platforms = {build.backend: build.platforms for build in found}
    assert "linux_x86_64" in platforms["cu128"]
    assert {"macos_arm64", "win_amd64"} <= set(platforms["cpu"])


@pytest.mark.parametrize("text", ["", "[package\n", "[tool]\nx = 1\n", "<html>"])
def test_what_is_no_lock(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        pinned_in(text, "a file", shipped())
    assert caught.value.slug == "bad-lock"


def requires(folder: Path, *words: str, machine: Machine | None = None) -> RunResult:
    stdin = "" if machine is None else json.dumps(machine_to_json(machine))
    return run(folder, "requires", *words, "--python-version", "3.12", stdin=stdin)


def test_a_person_reads_what_is_needed(tmp_path: Path) -> None:
    (tmp_path / "uv.lock").write_text(UV_LOCK)
    said = requires(tmp_path, "uv.lock")
    assert said.code == 0, said.err
    assert "torch 2.9.1+cu128 with torchvision==0.24.1 needs one of:" in said.out
    assert "Linux x86_64, WSL 2" in said.out
    assert "driver 525.60.13 or newer" in said.out
    assert "driver_floors.json" in said.out
    assert all(len(line) <= 80 for line in said.out.splitlines())
    data = requires(tmp_path, "uv.lock", "--json").json
    assert data["builds"][0]["name"] == "2.9.1+cu128"
    assert data["builds"][0]["platforms"][0]["gpus"][0]["drivers"]


def test_on_a_machine(tmp_path: Path) -> None:
    h100 = linux(nvidia("NVIDIA H100", "9.0"), driver="570.86.15")
    yes = requires(tmp_path, "torch==2.9.1+cu128", "--on", "-", machine=h100)
    assert (yes.code, yes.out.startswith("yes: ")) == (0, True), yes.err
    assert "sm_90" in yes.out
    no = requires(tmp_path, "torch==2.9.1+cu130", "--on", "-", machine=h100)
    assert (no.code, no.out.startswith("no: ")) == (3, True)
    assert "driver-too-old" in no.err
    older = requires(
        tmp_path, "torch==2.9.1+cu128", "--on", "-", "--if", "driver=470.256.02", "--json", machine=h100
    )
    assert older.code == 3
    assert older.json["on"]["runs"] is False
    assert requires(tmp_path, "torch==2.9.1", "--on", "-", machine=mac()).code == 0
    assert requires(tmp_path, "torch==2.9.1+cu128", "--on", "-", machine=linux(amd("gfx942"))).code == 3
    arm = requires(tmp_path, "torch==2.9.1+rocm6.3", "--on", "-", machine=linux(arch="aarch64"))
    assert arm.code == 3
    assert "no build of torch 2.9.1+rocm6.3 is known for linux_aarch64" in arm.err


def test_what_breaks_with_another_driver(tmp_path: Path) -> None:
    said = requires(tmp_path, "torch==2.9.1+cu128", "--if", "driver=550.54.14", "--json")
    (row,) = [
        row
        for row in said.json["if"]["platforms"]
        if (row["platform"], row["wsl"]) == ("linux_x86_64", False)
    ]
    assert "9.0" in row["runs"]
    assert row["breaks"]["12.0"] == "570 or newer"
    for code in (*row["runs"], *row["breaks"]):
        machine = linux(nvidia("a GPU", code), driver="550.54.14")
        plan = runs_on(CU128, machine, foreign_target(machine, "3.12"), shipped())
        assert (plan.error is None) is (code in row["runs"]), code
    text = requires(tmp_path, "torch==2.9.1+cu128", "--if", "driver=R470").out
    assert "525.60.13 or newer is needed" in text
    assert "runs    nothing" in text


@pytest.mark.follow_hints
@pytest.mark.parametrize(
    ("words", "code", "slug"),
    [
        ((), 2, "not-one-build"),
        (("torch",), 2, "not-one-build"),
        (("torch>=2.6",), 2, "not-one-build"),
        (("torch==abc",), 2, "not-one-build"),
        (("torch==2.9.1+nothing",), 3, "build-unknown"),
        (("no-such/uv.lock",), 2, "bad-lock"),
        (("torch==99.0+cu128",), 3, "build-unknown"),
        (("torch==1.0.0",), 3, "build-unknown"),
        (("torch==2.9.1", "torchvision==0.23.0"), 3, "pinned-out"),
        (("torch==2.9.1+cu128", "--backend", "cu126"), 2, "not-one-build"),
        (("torch==2.9.1+cu128", "--if", "colour=red"), 2, "bad-value"),
        (("torch==2.9.1+cu128", "--if", "driver=new"), 2, "bad-value"),
    ],
)
def test_what_goes_wrong(tmp_path: Path, words: tuple[str, ...], code: int, slug: str) -> None:
    said = requires(tmp_path, *words, "--json")
    assert (said.code, said.json["error"]["slug"]) == (code, slug), said.err


NODES: list[dict[str, Any]] = [
    kube_node(f"{product}-{driver}", gfd(product, code, driver, cuda))
    for product, code in (("V100", "7.0"), ("T4", "7.5"), ("H100", "9.0"), ("B200", "10.0"), ("P100", "6.0"))
    for driver, cuda in (
        ("470.256.02", "11.4"),
        ("525.60.11", "12.0"),
        ("525.60.13", "12.0"),
        ("525.105.17", "12.0"),
        ("570.86.15", "12.8"),
        ("580.65.06", "13.0"),
        ("590.44.01", "13.1"),
    )
]


@pytest.mark.parametrize("build", [CU128, PinnedBuild("2.14.1", "cu126"), PinnedBuild("2.15.0", "cu130")])
def test_the_node_affinity_selects_what_the_planner_accepts(tmp_path: Path, build: PinnedBuild) -> None:
    (tmp_path / "n.json").write_text(kube_list(*NODES))
    machines = read(tmp_path, "n.json")
    found = needs_affinity(needs_of(build, shipped()), shipped())
    answers = set()
    for node in NODES:
        name = node["metadata"]["name"]
        machine = machines[name].machine
        assert machine is not None
        plan = runs_on(build, machine, foreign_target(machine, "3.12"), shipped())
        assert selects(found, name, node["metadata"]["labels"]) is (plan.error is None), name
        answers.add(plan.error is None)
    assert answers == {True, False}


def test_constraint_and_filter_say_the_same(tmp_path: Path) -> None:
    needs = needs_of(CU128, shipped())
    text = needs_slurm(needs, shipped())
    assert constraint_holds(text, {"sm_90", "r570"})
    assert not constraint_holds(text, {"sm_90", "r470"})
    assert not constraint_holds(text, {"sm_120", "r550"})
    assert not constraint_holds(text, {"sm_70", "r590"})
    lines = needs_filter(needs, shipped())
    hopper = next(line for line in lines if "900" in line and "amd64" in line)
    assert "driver_version>=525.60.13" in hopper
    for form in ("node-affinity", "slurm", "filter"):
        said = requires(tmp_path, "torch==2.9.1+cu128", "--format", form)
        assert said.code == 0, said.err
    assert dotted("525.60.13") > dotted("525.60.11")
    assert requires(tmp_path, "--backend", "cpu", "--format", "slurm").out.startswith("# any node will do")
