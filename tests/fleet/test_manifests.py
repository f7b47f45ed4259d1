"""Files of a class select exactly its nodes, are read as they are meant, and are written whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cli.support import RunResult, run
from tests.exports.support import MINOR, index
from tests.fleet.made import gfd, kube_list, kube_node, resource_slice
from tests.fleet.selecting import constraint_holds, selects
from tests.support.installing import an_environment
from torchinstall.fleet.manifests import affinity, hostlist, slurm_constraint, to_yaml
from torchinstall.fleet.nodes import Node

SCHEMA = Path(__file__).with_name("affinity.schema.json")
CHECK = """
import json, sys, yaml, jsonschema
schema = json.load(open(sys.argv[1]))
found = {}
for name in sys.argv[2:]:
    found[name] = yaml.safe_load(open(name))
    jsonschema.Draft202012Validator(schema).validate(found[name])
print(json.dumps(found))
"""


def cluster() -> list[dict[str, Any]]:
    return [
        *(kube_node(f"hopper-{n}", gfd("NVIDIA-H100", "9.0", "580.105.08", "13.0", 8)) for n in range(4)),
        *(kube_node(f"volta-{n}", gfd("Tesla-V100", "7.0", "570.124.06", "12.8", 4)) for n in range(3)),
        *(kube_node(f"ada-{n}", gfd("NVIDIA-L4", "8.9", "470.82.01", "11.4")) for n in range(2)),
        kube_node("b200", gfd("NVIDIA-B200", "10.0", "580.105.08", "13.0", 8)),
        kube_node("old-h100", gfd("NVIDIA-H100", "9.0", "470.82.01", "11.4", 8)),
        kube_node("amd", {"amd.com/gpu.device-id": "74a1"}),
        kube_node("cpu", {}),
        kube_node("cpu-arm", {}, arch="arm64"),
        kube_node("bare", {"feature.node.kubernetes.io/pci-10de.present": "true"}),
    ]


def export(folder: Path, nodes: list[dict[str, Any]], *more: str) -> RunResult:
    (folder / "nodes.json").write_text(kube_list(*nodes))
    path = os.environ["PATH"]
    words = ("--offline", "--python-version", "3.12", "--export-dir", "out", *more)
    return run(folder, "fleet", "nodes.json", "torch", *words, env={"PATH": path})


def test_affinity_selects_exactly_its_class_and_fits_the_schema(tmp_path: Path, yaml_python: str) -> None:
    nodes = cluster()
    said = export(tmp_path, nodes)
    assert said.code == 0, said.err
    listed = json.loads((tmp_path / "out" / "index.json").read_text())
    paths = {row["name"]: str(tmp_path / "out" / row["name"] / "affinity.yaml") for row in listed["classes"]}
    words = [yaml_python, "-c", CHECK, str(SCHEMA), *paths.values()]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(listed["classes"]) >= 4
    for row in listed["classes"]:
        chosen = [
            node["metadata"]["name"]
            for node in nodes
            if selects(found[paths[row["name"]]], node["metadata"]["name"], node["metadata"]["labels"])
        ]
        assert sorted(chosen) == sorted(row["nodes"]), row["name"]
        assert (tmp_path / "out" / row["name"] / "nodes.txt").read_text().split() == row["nodes"]


def test_every_class_has_its_lock_and_its_image(tmp_path: Path) -> None:
    said = export(tmp_path, cluster())
    assert said.code == 0, said.err
    listed = json.loads((tmp_path / "out" / "index.json").read_text())
    written = {
        p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*") if p.is_file()
    }
    assert written == {"index.json", *listed["files"]}
    for row in listed["classes"]:
        folder = tmp_path / "out" / row["name"]
        pin = f"torch=={row['torch']}"
        assert pin in (folder / "constraints.txt").read_text()
        rocm = row["backend"].startswith("rocm7.14")
        assert rocm or pin in (folder / "Dockerfile").read_text(), "its runtime is known to the index only"
    assert listed["left_out"][0]["nodes"] == ["bare"]


def test_a_lock_is_resolved_where_there_is_a_network(tmp_path: Path) -> None:
    with index() as server:
        env = {**an_environment(tmp_path, server), "PATH": os.environ["PATH"]}
        node = kube_node("h", gfd("NVIDIA-H100", "9.0", "570.124.06", "12.8", 8))
        (tmp_path / "nodes.json").write_text(kube_list(node))
        words = ("--python-version", MINOR, "--export-dir", "out", f"--index-base={server.index_base}")
        said = run(tmp_path, "fleet", "nodes.json", "torch", *words, env=env)
        assert said.code == 0, said.err
    (lock,) = (tmp_path / "out").glob("*/pylock.toml")
    assert 'name = "torch"' in lock.read_text()
    assert "2.9.1+cu128" in lock.read_text()


def test_a_folder_is_replaced_only_where_fleet_wrote_it(tmp_path: Path) -> None:
    assert export(tmp_path, cluster()).code == 0
    again = export(tmp_path, cluster()[:4])
    assert again.code == 0, again.err
    listed = json.loads((tmp_path / "out" / "index.json").read_text())
    files = {p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert files == {"index.json", *listed["files"]}, "what the first run wrote is gone"
    (tmp_path / "out" / "mine.txt").write_text("notes")
    refused = export(tmp_path, cluster())
    assert (refused.code, "export-folder" in refused.err) == (2, True)
    assert (tmp_path / "out" / "mine.txt").read_text() == "notes"
    assert not list(tmp_path.glob(".torchinstall-*")), "nothing half-written"


def test_nodes_that_no_label_tells_apart_are_named() -> None:
    labels = (("kubernetes.io/os", "linux"),)
    inside = [
        Node("a", "kubernetes", None, labels=labels, hostname="a"),
        Node("b", "kubernetes", None, labels=labels),
    ]
    outside = [Node("c", "kubernetes", None, labels=labels, hostname="c")]
    found = affinity(inside, outside)
    everything = {**dict(labels)}
    assert selects(found, "a", {**everything, "kubernetes.io/hostname": "a"})
    assert selects(found, "b", everything)
    assert not selects(found, "c", {**everything, "kubernetes.io/hostname": "c"})


KEYS = ("nvidia.com/gpu.product", "nvidia.com/cuda.driver.major", "kubernetes.io/arch", "amd.com/gpu.family")
labels = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(("1", "2", "3")))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(labels, st.booleans()), min_size=1, max_size=12))
def test_affinity_is_exact_for_any_labels(rows: list[tuple[dict[str, str], bool]]) -> None:
    nodes = [
        (Node(f"n{n}", "kubernetes", None, labels=tuple(sorted(row.items())), hostname=f"h{n}"), mine)
        for n, (row, mine) in enumerate(rows)
    ]
    inside, outside = ([node for node, mine in nodes if mine is wanted] for wanted in (True, False))
    if not inside:
        return
    found = affinity(inside, outside)
    for node, mine in nodes:
        carried = {**dict(node.labels), "kubernetes.io/hostname": node.hostname or ""}
        assert selects(found, node.name, carried) is mine


features = st.frozensets(st.sampled_from(("a100", "h100", "ib", "nvme", "r535", "r580")), max_size=4)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(features, st.booleans()), min_size=1, max_size=10))
def test_a_constraint_is_exact_or_there_is_none(rows: list[tuple[frozenset[str], bool]]) -> None:
    nodes = [
        (Node(f"n{n}", "slurm", None, labels=tuple((name, "") for name in sorted(row))), mine)
        for n, (row, mine) in enumerate(rows)
    ]
    inside, outside = ([node for node, mine in nodes if mine is wanted] for wanted in (True, False))
    if not inside:
        return
    found = slurm_constraint(inside, outside)
    if found is None:
        plain = [{name for name, _ in node.labels} for node in outside]
        assert any(not node.labels or any({n for n, _ in node.labels} <= o for o in plain) for node in inside)
        return
    for node, mine in nodes:
        assert constraint_holds(found, {name for name, _ in node.labels}) is mine


def test_slurm_files_name_the_nodes(tmp_path: Path) -> None:
    rows = [
        {
            "name": f"gpu{n:02}",
            "architecture": "x86_64",
            "gres": f"gpu:{gpu}:4",
            "features": [gpu, "ib"],
            "extra": f"driver={d},libc=2.34",
        }
        for n, (gpu, d) in enumerate(
            [("h100", "580.95.05")] * 3 + [("v100", "570.86.15")] * 2 + [("b200", "580.95.05")]
        )
    ]
    (tmp_path / "slurm.json").write_text(json.dumps({"nodes": rows}))
    words = ("--offline", "--python-version", "3.12", "--export-dir", "out")
    said = run(tmp_path, "fleet", "slurm.json", "torch", *words, env={"PATH": os.environ["PATH"]})
    assert said.code == 0, said.err
    texts = [path.read_text() for path in (tmp_path / "out").glob("*/slurm.conf")]
    assert any("Nodes=gpu[00-05]" in text for text in texts), texts
    assert all("sbatch --constraint=" in text for text in texts), texts


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (["gpu1", "gpu2", "gpu3", "gpu7", "login"], "gpu[1-3,7],login"),
        (["gpu01", "gpu02", "gpu10"], "gpu[01-02,10]"),
        (["a1"], "a1"),
        (["x"], "x"),
        (["n9", "n10", "n11"], "n[9-11]"),
    ],
)
def test_names_as_slurm_writes_them(names: list[str], text: str) -> None:
    assert hostlist(names) == text


def test_yaml_is_read_as_it_was_meant(tmp_path: Path, yaml_python: str) -> None:
    value = {"a": [{"b": ["1", "no", "x: y"], "c": "#"}, {"d": []}], "e": {"f": 'say "hi"\n'}}
    (tmp_path / "v.yaml").write_text(to_yaml(value))
    script = f"import yaml, json; print(json.dumps(yaml.safe_load(open({str(tmp_path / 'v.yaml')!r}))))"
    done = subprocess.run([yaml_python, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == value


def test_yaml_of_slices_is_read_where_pyyaml_is(tmp_path: Path, yaml_python: str) -> None:
    device = {
        "type": {"string": "gpu"},
        "productName": {"string": "NVIDIA H100 80GB HBM3"},
        "cudaComputeCapability": {"version": "9.0.0"},
        "driverVersion": {"version": "580.105.8"},
    }
    lists = {
        "apiVersion": "v1",
        "kind": "List",
        "items": [resource_slice("a", "gpu.nvidia.com", [device] * 2)],
    }
    (tmp_path / "slices.yaml").write_text(to_yaml(lists))
    where = subprocess.run(
        [yaml_python, "-c", "import yaml, pathlib; print(pathlib.Path(yaml.__file__).parents[1])"],
        capture_output=True,
        text=True,
        check=True,
    )
    words = ["fleet", "slices.yaml", "torch", "--offline", "--json", "--python-version", "3.12"]
    done = subprocess.run(
        [sys.executable, "-m", "torchinstall", *words],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([where.stdout.strip(), str(Path(__file__).parents[2])]),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    machine = json.loads(done.stdout)["classes"][0]["kinds"][0]["machine"]
    assert machine["drivers"][0]["version"] == "580.105.08"
    assert len(machine["gpus"]) == 2
