"""Inventories of every kind give the right machines; a hostile one gives one error with the node's name."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fleet.made import gfd, gfd_old, kube_list, kube_node, read, read_text, resource_slice
from tests.support.planning import linux, nvidia, shipped
from torchinstall.core.errors import UsageError
from torchinstall.core.machine import Libc, machine_to_json
from torchinstall.fleet.nodes import Node, gpu_of

H100 = "NVIDIA-H100-80GB-HBM3"


def driver(node: Node, vendor: str = "nvidia") -> str | None:
    assert node.machine is not None, node.unusable
    row = node.machine.driver(vendor)
    return None if row is None else row.version


def codes(node: Node) -> list[str]:
    assert node.machine is not None, node.unusable
    return [
        f"sm_{''.join(map(str, gpu.compute_capability))}"
        if gpu.compute_capability
        else gpu.gfx_target or gpu.pci_id or ""
        for gpu in node.machine.gpus
    ]


def assumed(node: Node) -> dict[str, str | None]:
    return {row.fact: row.value for row in node.assumed}


def test_kubernetes_with_labels_new_and_old(tmp_path: Path) -> None:
    text = kube_list(
        kube_node("new", gfd(H100, "9.0", "580.105.08", "13.0", 8)),
        kube_node("old", gfd_old("Tesla-V100-SXM2-32GB", "7.0", "460.91.03", "11.2")),
        kube_node("two-parts", gfd("NVIDIA-L4", "8.9", "565.77", "12.7"), arch="arm64"),
        kube_node("plain", {}),
    )
    nodes = read_text(tmp_path, text)
    new, old = nodes["new"].machine, nodes["old"].machine
    assert new is not None
    assert old is not None
    assert (driver(nodes["new"]), codes(nodes["new"])) == ("580.105.08", ["sm_90"] * 8)
    assert [gpu.index for gpu in new.gpus] == list(range(8))
    assert (driver(nodes["old"]), codes(nodes["old"])) == ("460.91.03", ["sm_70"])
    assert [row.cuda_version for row in (*new.drivers, *old.drivers)] == ["13.0", "11.2"]
    assert driver(nodes["two-parts"]) == "565.77"
    assert nodes["two-parts"].machine is not None
    assert nodes["two-parts"].machine.arch == "aarch64"
    assert nodes["plain"].machine is not None
    assert nodes["plain"].machine.gpus == ()
    assert new.libc == Libc(family="glibc", version="2.36"), "pods bring the libc of their image"
    assert assumed(nodes["new"]) == {"libc": "glibc 2.36"}
    assert nodes["new"].hostname == "new"


def test_kubernetes_slices_shared_and_virtual_gpus(tmp_path: Path) -> None:
    mixed = {
        "mig.strategy": "mixed",
        "mig-1g.5gb.count": "7",
        "mig-1g.5gb.product": "NVIDIA-A100-SXM4-40GB-MIG-1g.5gb",
    }
    text = kube_list(
        kube_node("mig-single", gfd("NVIDIA-A100-SXM4-40GB-MIG-1g.5gb", "8.0", "570.124.06", "12.8", 7)),
        kube_node("mig-mixed", gfd("NVIDIA-A100-SXM4-40GB", "8.0", "570.124.06", "12.8", 0, **mixed)),
        kube_node(
            "shared", gfd("NVIDIA-A10-SHARED", "8.6", "570.124.06", "12.8", 1, **{"gpu.replicas": "4"})
        ),
        kube_node(
            "virtual",
            gfd(
                "GRID-A100-10C",
                "8.0",
                "550.144.03",
                "12.4",
                1,
                **{"vgpu.present": "true", "vgpu.host-driver-version": "550.144.02"},
            ),
        ),
    )
    nodes = read_text(tmp_path, text)
    assert codes(nodes["mig-single"]) == ["sm_80"] * 7
    assert codes(nodes["mig-mixed"]) == ["sm_80"]
    assert codes(nodes["shared"]) == ["sm_86"]
    assert driver(nodes["virtual"]) == "550.144.03", "the guest's driver counts, not the host's"


def test_kubernetes_gpus_of_amd_and_intel(tmp_path: Path) -> None:
    text = kube_list(
        kube_node(
            "mi300x",
            {
                "amd.com/gpu.device-id": "74a1",
                "amd.com/gpu.product-name": "AMD_Instinct_MI300X_OAM",
                "amd.com/gpu.driver-version": "6.12.12",
            },
        ),
        kube_node("twin", {"beta.amd.com/gpu.device-id": "740f", "beta.amd.com/gpu.device-id.740f": "1"}),
        kube_node("two", {"amd.com/gpu.device-id.740f": "1", "amd.com/gpu.device-id.74a1": "2"}),
        kube_node(
            "max",
            {
                "gpu.intel.com/device-id.0380-0bda.count": "2",
                "gpu.intel.com/device-id.0380-0bda.present": "true",
            },
        ),
        kube_node("flex", {"gpu.intel.com/product": "Flex_170", "gpu.intel.com/family": "Flex_Series"}),
    )
    nodes = read_text(tmp_path, text)
    assert codes(nodes["mi300x"]) == ["1002:74a1"]
    assert driver(nodes["mi300x"], "amd") == "6.12.12"
    assert codes(nodes["twin"]) == ["1002:740f"]
    assert sorted(codes(nodes["two"])) == ["1002:740f", "1002:74a1"]
    assert codes(nodes["max"]) == ["8086:0bda"]
    assert codes(nodes["flex"]) == ["8086:56c0"]


def test_kubernetes_says_which_gpus_nothing_describes(tmp_path: Path) -> None:
    text = kube_list(
        kube_node("no-driver", {"feature.node.kubernetes.io/pci-10de.present": "true"}),
        kube_node("no-labels", {}, resources={"nvidia.com/gpu": "4"}),
        kube_node(
            "gke", {"cloud.google.com/gke-accelerator": "nvidia-tesla-t4"}, resources={"nvidia.com/gpu": "1"}
        ),
        kube_node("power", {}, arch="ppc64le"),
    )
    nodes = read_text(tmp_path, text)
    assert "no label describes it" in str(nodes["no-driver"].unusable)
    assert "--assume gpu=h100" in str(nodes["no-labels"].unusable)
    assert "ppc64le" in str(nodes["power"].unusable)
    assert codes(nodes["gke"]) == ["sm_75"]
    assert assumed(nodes["gke"])["driver"] is None
    again = read(tmp_path, "nodes.json", assume=("gpu=a100", "driver=535.104.05", "libc=2.31"))
    assert codes(again["no-labels"]) == ["sm_80"]
    assert driver(again["gke"]) == "535.104.05"
    assert assumed(again["gke"]) == {"driver": "535.104.05", "libc": "2.31"}


def h100_device(place: int, **more: Any) -> dict[str, Any]:
    return {
        "type": {"string": "gpu"},
        "uuid": {"string": f"GPU-{place}"},
        "productName": {"string": "NVIDIA H100 80GB HBM3"},
        "cudaComputeCapability": {"version": "9.0.0"},
        "cudaDriverVersion": {"version": "13.0.0"},
        "driverVersion": {"version": "580.105.8"},
        **more,
    }


def test_resource_slices_know_the_driver_of_each_device(tmp_path: Path) -> None:
    part = {"type": {"string": "mig"}, "parentUUID": {"string": "GPU-7"}, "profile": {"string": "1g.10gb"}}
    text = kube_list(
        resource_slice("a", "compute-domain.nvidia.com", [{"type": {"string": "daemon"}, "id": {"int": 0}}]),
        resource_slice("a", "gpu.nvidia.com", [h100_device(0), h100_device(1)]),
        resource_slice("b", "gpu.nvidia.com", [h100_device(2, **part), h100_device(3, **part)], basic=True),
        resource_slice(
            "c",
            "gpu.amd.com",
            [
                {
                    "type": {"string": "amdgpu"},
                    "productName": {"string": "AMD_Instinct_MI300X_OAM"},
                    "driverVersion": {"version": "6.12.12"},
                }
            ],
        ),
        resource_slice(
            "d", "gpu.intel.com", [{"model": {"string": "Unknown"}, "pciId": {"string": "0xe211"}}]
        ),
        resource_slice("e", "gpu.nvidia.com", [h100_device(4, type={"string": "vfio"})]),
    )
    nodes = read_text(tmp_path, text)
    assert (driver(nodes["a"]), codes(nodes["a"])) == ("580.105.08", ["sm_90", "sm_90"])
    assert codes(nodes["b"]) == ["sm_90"], "slices of one GPU are that GPU"
    assert (driver(nodes["c"], "amd"), codes(nodes["c"])) == ("6.12.12", ["gfx942"])
    assert codes(nodes["d"]) == ["8086:e211"]
    assert codes(nodes["e"]) == [], "a virtual machine has it"
    assert assumed(nodes["a"])["arch"] == "x86_64"


def test_slices_and_labels_of_one_node_join(tmp_path: Path) -> None:
    (tmp_path / "nodes.json").write_text(
        kube_list(kube_node("a", gfd(H100, "9.0", "570.124.06", "12.8", 8), arch="arm64"))
    )
    (tmp_path / "slices.json").write_text(kube_list(resource_slice("a", "gpu.nvidia.com", [h100_device(0)])))
    node = read(tmp_path, "nodes.json", "slices.json")["a"]
    assert (driver(node), codes(node)) == ("580.105.08", ["sm_90"])
    assert node.machine is not None
    assert node.machine.arch == "aarch64"


@pytest.mark.skipif("yaml" in sys.modules, reason="PyYAML is there")
@pytest.mark.may_skip("where PyYAML is installed, YAML is read")
def test_yaml_without_pyyaml_names_what_to_type(tmp_path: Path) -> None:
    try:
        import yaml  # noqa: F401  only whether it is there
    except ImportError:
        with pytest.raises(UsageError) as caught:
            read_text(tmp_path, "apiVersion: v1\nitems: []\nkind: List\n", "slices.yaml")
        assert "-o json" in caught.value.hints[0]


def slurm_node(name: str, gres: str | None, **more: Any) -> dict[str, Any]:
    return {
        "architecture": "x86_64",
        "boot_time": {"set": True, "infinite": False, "number": 1},
        "name": name,
        "hostname": name,
        "gres": gres,
        "features": [],
        "extra": "",
        "operating_system": "Linux 6.1.0-18-amd64 #1 SMP",
        "real_memory": 515000,
        **more,
    }


def slurm_text(*nodes: dict[str, Any]) -> str:
    return json.dumps(
        {"nodes": list(nodes), "meta": {"slurm": {"release": "25.05.4"}}, "errors": []}, indent=1
    )


def test_slurm_gres_features_and_extra(tmp_path: Path) -> None:
    text = slurm_text(
        slurm_node("typed", "gpu:h100:4(S:0-1),shard:h100:16"),
        slurm_node("autodetected", "gpu:nvidia_a100_80gb_pcie:2(S:0,2),craynetwork:4"),
        slurm_node("by-feature", "gpu:4", features=["skylake", "v100", "V100-SXM2", "ib"]),
        slurm_node("by-feature-text", "gpu:8(S:0-1)", features="x86_64,turing,48gb,rtx8000"),
        slurm_node("by-extra", "gpu:2", extra="driver=550.54.14,libc=2.34,gpu=l40s"),
        slurm_node("by-json", "gpu:1", extra=json.dumps({"nvidia_driver": "470.256.02", "gpu_type": "a30"})),
        slurm_node("sliced", "gpu:1g.10gb:7", features=["h100", "driver-580.95.05", "glibc2.28"]),
        slurm_node("amd", "gpu:mi250x:8"),
        slurm_node("unclear", "gpu:4"),
        slurm_node("cpu", None),
        slurm_node("arm", "gpu:gh200:1", architecture="aarch64"),
    )
    nodes = read_text(tmp_path, text)
    assert codes(nodes["typed"]) == ["sm_90"] * 4
    assert codes(nodes["autodetected"]) == ["sm_80"] * 2
    assert codes(nodes["by-feature"]) == ["sm_70"] * 4
    assert codes(nodes["by-feature-text"]) == ["sm_75"] * 8
    assert (codes(nodes["by-extra"]), driver(nodes["by-extra"])) == (["sm_89"] * 2, "550.54.14")
    assert (codes(nodes["by-json"]), driver(nodes["by-json"])) == (["sm_80"], "470.256.02")
    sliced = nodes["sliced"].machine
    assert sliced is not None
    assert (codes(nodes["sliced"]), driver(nodes["sliced"])) == (["sm_90"] * 7, "580.95.05")
    assert sliced.libc == Libc(family="glibc", version="2.28")
    assert codes(nodes["amd"]) == ["gfx90a"] * 8
    assert "nothing says which" in str(nodes["unclear"].unusable)
    assert codes(nodes["cpu"]) == []
    assert nodes["arm"].machine is not None
    assert nodes["arm"].machine.arch == "aarch64"
    assert assumed(nodes["typed"]) == {"driver": None, "libc": None}
    assert [key for key, _ in nodes["by-feature"].labels] == ["V100-SXM2", "ib", "skylake", "v100"]


MACHINE = machine_to_json(linux(nvidia("NVIDIA L40S", "8.9"), driver="570.124.06"))


def test_ansible_facts_of_one_host_of_a_tree_and_of_several(tmp_path: Path) -> None:
    good = {
        "ansible_facts": {"ansible_architecture": "x86_64", "ansible_local": {"torchinstall": MACHINE}},
        "changed": False,
    }
    none = {"ansible_facts": {"ansible_local": {"date": {"date": "today"}}}, "changed": False}
    broken = {
        "ansible_facts": {"ansible_local": {"torchinstall": "error loading fact - please check content"}}
    }
    away = {"msg": "Failed to connect to the host via ssh", "unreachable": True, "changed": False}
    tree = tmp_path / "facts"
    tree.mkdir()
    for name, row in {"gpu1.example": good, "gpu2": none, "gpu3": broken, "gpu4": away}.items():
        (tree / name).write_text(json.dumps(row))
    nodes = read(tmp_path, "facts", form="ansible")
    assert codes(nodes["gpu1.example"]) == ["sm_89"]
    assert "no torchinstall fact" in str(nodes["gpu2"].unusable)
    assert "error loading fact" in str(nodes["gpu3"].unusable)
    assert "Failed to connect" in str(nodes["gpu4"].unusable)
    assert codes(read_text(tmp_path, json.dumps(good), "host.json")["host"]) == ["sm_89"]
    cached = {"ansible_local": {"torchinstall": MACHINE}, "ansible_architecture": "x86_64"}
    assert codes(read_text(tmp_path, json.dumps(cached), "cached")["cached"]) == ["sm_89"]
    several = {"one": good, "two": good}
    assert list(read_text(tmp_path, json.dumps(several), "all.json", form="ansible")) == ["one", "two"]
    play = {"plays": [{"tasks": [{"hosts": {"three": good}}, {"hosts": {"three": {"changed": False}}}]}]}
    assert list(read_text(tmp_path, json.dumps(play), "play.json")) == ["three"]


def nomad_node(name: str, *devices: dict[str, Any]) -> dict[str, Any]:
    return {
        "ID": "5c6d3e6a-0000-4000-8000-000000000000",
        "Name": name,
        "Attributes": {
            "cpu.arch": "amd64",
            "kernel.name": "linux",
            "os.name": "ubuntu",
            "os.version": "24.04",
        },
        "NodeResources": {"Devices": list(devices)},
    }


def nomad_gpu(name: str, driver_version: str | None, count: int = 1) -> dict[str, Any]:
    attributes = {"memory": {"Int": 15360, "Unit": "MiB"}, "display_state": {"String": "Enabled"}}
    attributes |= {"driver_version": {"String": driver_version}} if driver_version else {}
    rows = [{"ID": f"GPU-{n}", "Healthy": True} for n in range(count)]
    return {"Vendor": "nvidia", "Type": "gpu", "Name": name, "Attributes": attributes, "Instances": rows}


def test_nomad_fingerprints(tmp_path: Path) -> None:
    nodes = [
        nomad_node("t4", nomad_gpu("Tesla T4", "535.104.05", 2)),
        nomad_node("mock", nomad_gpu("1080ti", None)),
    ]
    found = read_text(tmp_path, json.dumps([*nodes, nomad_node("cpu")]))
    assert (codes(found["t4"]), driver(found["t4"])) == (["sm_75"] * 2, "535.104.05")
    assert (codes(found["mock"]), driver(found["mock"])) == (["sm_61"], None)
    assert codes(found["cpu"]) == []
    assert list(read_text(tmp_path, json.dumps(nodes[0]), "one.json")) == ["t4"]


H100_INFO = (
    'nvidia_smi_gpu_info{driver_model_current="N/A",driver_version="535.129.03",name="NVIDIA H100 80GB HBM3"'
)
EXPORTER = f"""\
# HELP nvidia_smi_gpu_info A metric with a constant '1' value labeled by gpu uuid, name
# TYPE nvidia_smi_gpu_info gauge
{H100_INFO},uuid="one"}} 1
{H100_INFO},uuid="two"}} 1
nvidia_smi_utilization_gpu_ratio{{uuid="one"}} 0.5
"""
WINDOWS = """\
# TYPE nvidia_smi_gpu_info gauge
nvidia_smi_gpu_info{driver_model_current="WDDM",driver_version="571.96",name="NVIDIA GeForce RTX 2080"} 1
"""


def test_prometheus_text_and_api(tmp_path: Path) -> None:
    node = read_text(tmp_path, EXPORTER, "gpu7.prom")["gpu7"]
    assert (codes(node), driver(node)) == (["sm_90"] * 2, "535.129.03")
    windows = read_text(tmp_path, WINDOWS, "desk.txt")["desk"].machine
    assert windows is not None
    assert windows.os == "windows", "Windows counts its drivers differently"
    metric = {
        "__name__": "nvidia_smi_gpu_info",
        "instance": "gpu8:9835",
        "name": "Tesla V100-SXM2-32GB",
        "driver_version": "470.223.02",
        "uuid": "u",
    }
    answer = {
        "status": "success",
        "data": {"resultType": "vector", "result": [{"metric": metric, "value": [1, "1"]}]},
    }
    found = read_text(tmp_path, json.dumps(answer), "answer.json")
    assert (list(found), codes(found["gpu8"])) == (["gpu8"], ["sm_70"])
    labels = 'gpu="0",UUID="a",modelName="Tesla T4",Hostname="n1",DCGM_FI_DRIVER_VERSION="550.90.07"'
    dcgm = f"DCGM_FI_DEV_GPU_TEMP{{{labels}}} 40\n"
    assert driver(read_text(tmp_path, dcgm, "dcgm.prom")["n1"]) == "550.90.07"


def test_machine_files_and_folders(tmp_path: Path) -> None:
    folder = tmp_path / "machines"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / f"{name}.json").write_text(json.dumps(MACHINE))
    (folder / ".hidden").write_text("no inventory")
    assert list(read(tmp_path, "machines")) == ["a", "b"]


def test_a_machine_file_completes_the_node_that_it_is_of(tmp_path: Path) -> None:
    (tmp_path / "machines").mkdir()
    (tmp_path / "machines" / "gpu-1.json").write_text(json.dumps(MACHINE))
    (tmp_path / "nodes.json").write_text(GOOD)
    for order in (("nodes.json", "machines"), ("machines", "nodes.json")):
        node = read(tmp_path, *order)["gpu-1"]
        assert (codes(node), driver(node), node.hostname) == (["sm_89"], "570.124.06", "gpu-1")
        assert node.assumed == ()


def test_tables_with_named_columns(tmp_path: Path) -> None:
    text = (
        "Host;GPU;GPUs;Driver version;glibc;gfx\n"
        "a;h100;8;580.95.05;2.35;\n"
        "a;t4;1;580.95.05;2.35;\n"
        "# a comment\n"
        "b;;4;;2.31;gfx942\n"
        "c;;;;2.31;\n"
    )
    nodes = read_text(tmp_path, text, "table.csv")
    assert codes(nodes["a"]) == ["sm_90"] * 8 + ["sm_75"]
    assert codes(nodes["b"]) == ["gfx942"] * 4
    assert codes(nodes["c"]) == []


def test_tables_are_read_as_people_fill_them(tmp_path: Path) -> None:
    text = (
        "node,os,gpu,driver\n"
        "a,Ubuntu 22.04,NVIDIA H100,R535\n"
        "b,Windows 11,RTX 3060,v581.15\n"
        "c,,none,-\n"
        "d,macOS,M3,\n"
        "e,Rocky Linux 9,gfx90a:sramecc+,\n"
        "f,Pop!_OS 22.04,H100,\n"
        "g,FreeBSD 14,H100,\n"
    )
    nodes = read_text(tmp_path, text, "table.csv")
    systems = {name: node.machine.os for name, node in nodes.items() if node.machine is not None}
    assert systems == {"a": "linux", "b": "windows", "c": "linux", "d": "macos", "e": "linux", "f": "linux"}
    assert [driver(nodes[name]) for name in "abc"] == ["535", "581.15", None]
    assert codes(nodes["c"]) == []
    assert codes(nodes["e"]) == ["gfx90a"]
    mac = nodes["d"].machine
    assert mac is not None
    assert (mac.arch, [gpu.vendor for gpu in mac.gpus]) == ("aarch64", ["apple"])


def test_cells_with_numbers_and_codes_of_every_spelling(tmp_path: Path) -> None:
    text = "node,gpu,compute_cap,pci_id\na,8x H100,,\nb,A100 x2,,\nc,,90,\nd,,sm_120,\ne,,,0x10de:0x2684\n"
    nodes = read_text(tmp_path, text, "table.csv")
    assert [codes(nodes[name]) for name in "abcde"] == [
        ["sm_90"] * 8,
        ["sm_80"] * 2,
        ["sm_90"],
        ["sm_120"],
        ["10de:2684"],
    ]


def test_nodes_one_on_each_line(tmp_path: Path) -> None:
    lines = (json.dumps(kube_node(name, gfd(H100, "9.0", "580.1", "13.0"))) for name in ("a", "b"))
    assert list(read_text(tmp_path, "\n".join(lines), "nodes.ndjson")) == ["a", "b"]


def test_a_driver_is_not_that_of_another_makers_gpu(tmp_path: Path) -> None:
    both = {**gfd(H100, "9.0", "580.1", "13.0"), "amd.com/gpu.device-id": "74a1"}
    node = read_text(tmp_path, kube_list(kube_node("a", both)))["a"]
    assert (driver(node), driver(node, "amd")) == ("580.1", None)


def test_a_products_own_code_counts_before_that_of_the_node(tmp_path: Path) -> None:
    text = slurm_text(slurm_node("mixed", "gpu:h100:2,gpu:a100:1", features=["sm_90"]))
    assert codes(read_text(tmp_path, text)["mixed"]) == ["sm_90", "sm_90", "sm_80"]


@pytest.mark.parametrize(
    ("name", "code"),
    [("m3", None), ("m2", None), ("t4", (7, 5)), ("compute_90", (9, 0)), ("sm_90a", (9, 0)), ("tesla", None)],
)
def test_short_names_mean_one_product_or_none(name: str, code: tuple[int, int] | None) -> None:
    found = gpu_of(shipped(), product=name)
    assert (found and found.compute_capability) == code


GOOD = kube_list(kube_node("gpu-1", gfd(H100, "9.0", "580.105.08", "13.0")), kube_node("gpu-2", {}))
HOSTILE: dict[str, tuple[str, str]] = {
    "cut off": (GOOD[: GOOD.index("nvidia.com/gpu.count")], "gpu-1"),
    "cut off in the second": (GOOD[: GOOD.rindex("podCIDR")], "gpu-2"),
    "a label that is a list": (
        kube_list({"kind": "Node", "metadata": {"name": "odd", "labels": {"a": []}}}),
        "odd",
    ),
    "a driver that is a word": (kube_list(kube_node("bad", gfd(H100, "9.0", "new.er", "13.0"))), "bad"),
    "a capability that is a word": (kube_list(kube_node("bad", gfd(H100, "9.x", "580.1", "13.0"))), "bad"),
    "a billion GPUs": (kube_list(kube_node("big", gfd(H100, "9.0", "580.1", "13.0", 10**9))), "big"),
    "GPUs that are no number": (
        kube_list(kube_node("nan", {**gfd(H100, "9.0", "580.1", "13.0"), "nvidia.com/gpu.count": "many"})),
        "nan",
    ),
    "GPUs in another script": (
        kube_list(kube_node("sup", {**gfd(H100, "9.0", "580.1", "13.0"), "nvidia.com/gpu.count": "\u00b2"})),
        "sup",
    ),
    "a driver without an end": (
        kube_list(kube_node("long", gfd(H100, "9.0", "5" * 6000 + ".1", "13.0"))),
        "long",
    ),
    "a libc without an end": (f"node,gpu,libc\nd,h100,2.{'3' * 6000}\n", "d"),
    "a number without an end": (f"node,gpu,gpus\ne,h100,{'9' * 6000}\n", "e"),
    "one node twice": (kube_list(kube_node("twin", {}), kube_node("twin", {})), "twin"),
    "a name that clears the screen": (kube_list(kube_node("\x1b[2Jx", {})), r"\x1b[2Jx"),
    "no name": (kube_list({"kind": "Node", "metadata": {}}), ""),
    "a slice without attributes": (
        kube_list({"kind": "ResourceSlice", "metadata": {"name": "s"}, "spec": {"devices": 3}}),
        "s",
    ),
    "gres that is a table": (slurm_text(slurm_node("s1", {"gpu": 1})), "s1"),  # type: ignore[arg-type]  # a literal that comes as plain text
    "a fact that is no machine": (
        json.dumps({"ansible_facts": {"ansible_local": {"torchinstall": {"schema_version": 1}}}}),
        "nodes",
    ),
    "a machine of tomorrow": (json.dumps({**MACHINE, "schema_version": 99}), ""),
    "nested deeply": ('{"items": [' + '{"metadata":' * 100_000, ""),
    "not an inventory": ("{}", ""),
    "an empty list": (kube_list(), ""),
    "nothing": ("", ""),
    "half a row": ("node,gpu,driver\na,h100,580\nb,h100\n", "b"),
    "a libc of one's own": ("node,gpu,libc\nc,h100,diet\n", "c"),
    "a page of a login": ("<html><body>Sign in</body></html>", ""),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_inventory_gives_one_error_with_the_nodes_name(tmp_path: Path, name: str) -> None:
    text, node = HOSTILE[name]
    with pytest.raises(UsageError) as caught:
        read_text(tmp_path, text)
    error = caught.value
    said = f"{error.message} {error.found}"
    assert error.slug in ("bad-inventory", "machine-file-too-new"), said
    assert node in said
    assert "nodes.json" in said
    assert "\x1b" not in said
    assert len(said) < 500


def test_one_node_of_two_inventories_must_be_the_same(tmp_path: Path) -> None:
    for name, gpu in (("a.csv", "h100"), ("b.csv", "a100"), ("c.csv", "h100")):
        (tmp_path / name).write_text(f"node,gpu,driver\nn1,{gpu},580\n")
    assert len(read(tmp_path, "a.csv", "c.csv")) == 1
    with pytest.raises(UsageError, match=r"b\.csv, node n1: a\.csv describes it otherwise"):
        read(tmp_path, "a.csv", "b.csv")


@pytest.mark.parametrize("text", ["colour=red", "driver=new", "libc=diet", "gpu=tesla", "arch=vax", "driver"])
def test_what_cannot_be_assumed_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_text(tmp_path, GOOD, assume=(text,))
    assert caught.value.slug == "bad-value"
