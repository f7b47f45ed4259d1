"""`torchinstall fleet`: what it prints, and how it ends."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import FrameType

import pytest

from tests.cli.support import run
from tests.fleet.made import gfd, kube_list, kube_node
from tests.support.planning import linux, nvidia
from torchinstall.core.machine import machine_to_json
from torchinstall.planner import rules

OFFLINE = ("--offline", "--python-version", "3.12")
NODES = kube_list(
    *(kube_node(f"hopper-{n}", gfd("NVIDIA-H100", "9.0", "580.105.08", "13.0", 8)) for n in range(6)),
    *(kube_node(f"volta-{n}", gfd("Tesla-V100", "7.0", "570.124.06", "12.8", 4)) for n in range(3)),
    *(kube_node(f"ada-{n}", gfd("NVIDIA-L4", "8.9", "470.82.01", "11.4")) for n in range(2)),
    kube_node("bare", {"feature.node.kubernetes.io/pci-10de.present": "true"}),
    kube_node("blackwell", gfd("NVIDIA-B200", "10.0", "580.105.08", "13.0", 8)),
)


def test_a_person_reads_who_gets_which_build_and_why_not(tmp_path: Path) -> None:
    said = run(tmp_path, "fleet", "-", "torch", *OFFLINE, stdin=NODES)
    assert said.code == 0, said.err
    assert "13 nodes (kubernetes), 4 kinds of machines" in said.out
    assert "libc glibc 2.36 for 12 nodes (the container image)" in said.out
    assert "2 builds serve 12 nodes; fewer do not." in said.out
    assert "6 nodes: 8 x NVIDIA-H100 (sm_90), driver 580.105.08" in said.out
    assert "no label describes it" in said.out
    assert "Drivers of 2 nodes to 525.60.13 or newer (R525): 1 build instead of 2" in said.out
    assert "hopper-0, hopper-1" in said.out
    for line in said.out.splitlines():
        assert len(line) <= 80


def test_json_has_all_of_it(tmp_path: Path) -> None:
    (tmp_path / "nodes.json").write_text(NODES)
    data = run(tmp_path, "fleet", "nodes.json", "torch", "--json", *OFFLINE).json
    assert (data["status"], data["nodes"], data["builds"], data["proven"]) == ("partial", 13, 2, True)
    names = [name for row in data["classes"] for name in row["nodes"]]
    assert sorted(names) == sorted(set(names) - {"bare"})
    assert len(names) == 12
    assert data["left_out"] == [{"reason": data["left_out"][0]["reason"], "nodes": ["bare"]}]
    assert data["savings"][0]["names"] == ["ada-0", "ada-1"]
    plans = [kind["plan"] for row in data["classes"] for kind in row["kinds"]]
    assert {plan["status"] for plan in plans} == {"ready"}
    assert data["assumed"] == [
        {"fact": "libc", "value": "glibc 2.36", "why": "the container image", "nodes": 12}
    ]


def test_a_warning_names_an_option_that_fleet_has(tmp_path: Path) -> None:
    (tmp_path / "fleet.csv").write_text("host,gpu\na,T4\n")
    said = run(tmp_path, "fleet", "fleet.csv", "torch", *OFFLINE)
    assert "name it: --assume driver=580" in said.err
    again = run(tmp_path, "fleet", "fleet.csv", "torch", "--assume", "driver=580", *OFFLINE)
    assert (again.code, "driver-unknown" in again.err) == (0, False)


def test_a_saving_is_true(tmp_path: Path) -> None:
    """With the drivers that it names, one build does serve all."""
    newer = NODES.replace("470.82.01", "525.60.13").replace('"470"', '"525"').replace('"82"', '"60"')
    said = run(tmp_path, "fleet", "-", "torch", "--json", *OFFLINE, stdin=newer.replace('"11.4"', '"12.0"'))
    assert said.json["builds"] == 1


@pytest.mark.follow_hints
@pytest.mark.parametrize(
    ("argv", "stdin", "code", "slug"),
    [
        ((), "", 2, "no-inventory"),
        (("-",), kube_list(), 2, "bad-inventory"),
        (("no-such.json",), "", 2, "bad-inventory"),
        (("-", "torch=="), NODES, 2, "bad-requirement"),
        (("-",), kube_list(kube_node("p", {}, arch="ppc64le")), 3, "no-usable-node"),
        (("-", "torch==1.0.0"), NODES, 3, "pinned-out"),
        (("-", "--format", "slurm"), NODES, 2, "bad-inventory"),
    ],
)
def test_what_goes_wrong(tmp_path: Path, argv: tuple[str, ...], stdin: str, code: int, slug: str) -> None:
    said = run(tmp_path, "fleet", *argv, "--json", *OFFLINE, stdin=stdin)
    assert (said.code, said.json["error"]["slug"]) == (code, slug), said.err


def test_a_folder_called_as_a_package_is_no_inventory(tmp_path: Path) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "nodes.json").write_text(NODES)
    said = run(tmp_path, "fleet", "nodes.json", "torch", "einops", "--json", *OFFLINE)
    assert said.code == 0, said.err
    assert said.json["classes"][0]["kinds"][0]["plan"]["requirements"] == ["torch", "einops"]


def test_equal_machines_are_planned_once(tmp_path: Path) -> None:
    """Counted: three thousand nodes of four kinds cost as many evaluations as four nodes."""

    def evaluations(copies: int) -> int:
        nodes = [
            kube_node(f"{name}-{n}", gfd(name, code, driver, cuda))
            for n in range(copies)
            for name, code, driver, cuda in (
                ("NVIDIA-H100", "9.0", "580.105.08", "13.0"),
                ("Tesla-V100", "7.0", "570.124.06", "12.8"),
                ("NVIDIA-L4", "8.9", "550.54.14", "12.4"),
            )
        ]
        count = 0

        def watch(frame: FrameType, event: str, _: object) -> None:
            nonlocal count
            count += event == "call" and frame.f_code is rules.evaluate.__code__

        sys.setprofile(watch)
        try:
            said = run(tmp_path, "fleet", "-", "torch", *OFFLINE, stdin=kube_list(*nodes))
        finally:
            sys.setprofile(None)
        assert said.code == 0, said.err
        return count

    assert evaluations(300) == evaluations(1)


def test_plan_for_several_machines_is_the_same_code(tmp_path: Path) -> None:
    text = json.dumps(machine_to_json(linux(nvidia("NVIDIA H100", "9.0"), driver="580.95.05")))
    names = [f"m{n}.json" for n in range(6)]
    for name in names:
        (tmp_path / name).write_text(text)
    said = run(tmp_path, "plan", *(word for name in names for word in ("--machine", name)), "torch", *OFFLINE)
    assert said.code == 0, said.err
    assert "One build serves all 6 machines." in said.out
    assert "6 machines: NVIDIA H100 (sm_90), driver 580.95.05" in said.out
    alone = run(tmp_path, "plan", "--machine", names[0], "torch", "--json", *OFFLINE).json
    assert "m0.json, m1.json, m2.json, m3.json and 2 more" in said.out
    fleet = run(tmp_path, "fleet", *names, "torch", "--json", *OFFLINE)
    plan = run(tmp_path, "plan", *(w for n in names for w in ("--machine", n)), "torch", "--json", *OFFLINE)
    (row,) = fleet.json["classes"]
    (group,) = plan.json["groups"]
    assert (row["torch"], row["backend"]) == (group["torch"], group["backend"])
    assert f"{row['torch']}+{row['backend']}" == alone["packages"][0]["version"], (
        "as one of them alone gets it"
    )
