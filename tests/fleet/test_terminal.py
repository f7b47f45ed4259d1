"""What people copy out of a terminal is an inventory: output of nvidia-smi, labels as kubectl prints them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fleet.made import read_text
from tests.fleet.test_inventories import codes, driver
from torchinstall.core.errors import UsageError

TABLE = """\
Wed Nov 25 09:12:40 2026
+-----------------------------------------------------------------------------------------+
| NVIDIA-SMI {driver:<22} {kmd} Version: {driver:<14} {cuda:<22} |
|-----------------------------------------+------------------------+----------------------+
| GPU  Name                 {model:<13} | Bus-Id          Disp.A | Volatile Uncorr. ECC |
| Fan  Temp   Perf          Pwr:Usage/Cap |           Memory-Usage | GPU-Util  Compute M. |
|                                         |                        |               MIG M. |
|=========================================+========================+======================|
|   0  {name:<29} {mode:>4} |   00000000:2D:00.0  On |                  N/A |
|  0%   36C    P5             17W /  200W |     430MiB /  12282MiB |      1%      Default |
|                                         |                        |                  N/A |
+-----------------------------------------+------------------------+----------------------+
| Processes:                                                                              |
|    0   N/A  N/A            4021      G   /usr/bin/gnome-shell                     12MiB |
+-----------------------------------------------------------------------------------------+
"""
LINUX = {"driver": "550.40.07", "kmd": "Driver", "cuda": "CUDA Version: 12.4", "model": "Persistence-M"}
NEW = {"driver": "610.43", "kmd": "KMD", "cuda": "CUDA UMD Version: 13.3", "model": "Driver-Model"}
QUERY = """\
==============NVSMI LOG==============
Timestamp                                 : Wed Nov 25 09:12:40 2026
Driver Version                            : 535.129.03
CUDA Version                              : 12.2
Attached GPUs                             : 2
GPU 00000000:06:00.0
    Product Name                          : Quadro RTX 4000
GPU 00000000:07:00.0
    Product Name                          : Tesla V100-SXM2-16GB
"""
DESCRIBED = """\
Name:               gpu-7
Labels:             kubernetes.io/arch=arm64
                    nvidia.com/cuda.driver.major=580
                    nvidia.com/cuda.driver.minor=95
                    nvidia.com/gpu.count=2
                    nvidia.com/gpu.product=NVIDIA-GH200-480GB
Annotations:        nfd.node.kubernetes.io/feature-labels: x
"""


def test_the_table_of_nvidia_smi(tmp_path: Path) -> None:
    text = TABLE.format(**LINUX, name="NVIDIA GeForce RTX 4070", mode="Off")
    node = read_text(tmp_path, text, "gpu7.txt")["gpu7"]
    assert node.machine is not None
    assert (codes(node), driver(node), node.machine.os) == (["sm_89"], "550.40.07", "linux")
    assert node.machine.drivers[0].cuda_version == "12.4"


def test_the_table_of_windows_with_the_words_of_r610(tmp_path: Path) -> None:
    text = TABLE.format(**NEW, name="NVIDIA GeForce RTX 5070 Ti", mode="WDDM")
    node = read_text(tmp_path, text, "desk.txt")["desk"]
    assert node.machine is not None
    assert (codes(node), driver(node), node.machine.os) == (["sm_120"], "610.43", "windows")
    assert node.machine.drivers[0].cuda_version == "13.3"


def test_a_name_that_was_cut_counts_where_only_one_code_can_be_meant(tmp_path: Path) -> None:
    text = TABLE.format(**LINUX, name="Tesla V100-SXM2...", mode="Off")
    assert codes(read_text(tmp_path, text, "a.txt")["a"]) == ["sm_70"]
    text = TABLE.format(**LINUX, name="NVIDIA GeForce ...", mode="Off")
    said = read_text(tmp_path, text, "b.txt")["b"].unusable
    assert said == "no GPU is called 'NVIDIA GeForce ...'; nvidia-smi -L prints whole names"
    listed = "GPU 0: NVIDIA GeForce RTX 2080 Ti (UUID: GPU-f2d0)\n" + text
    assert codes(read_text(tmp_path, listed, "c.txt")["c"]) == ["sm_75"]


@pytest.mark.parametrize(
    ("text", "gpus", "version"),
    [
        (QUERY, ["sm_75", "sm_70"], "535.129.03"),
        ("GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-1)\n", ["sm_90"], None),
        ("name, driver_version, compute_cap\nSomething new, 615.10, 12.1\n", ["sm_121"], "615.10"),
        (
            "index, name, driver_version\n0, Tesla T4, 550.54.15\n1, Tesla T4, 550.54.15\n",
            ["sm_75"] * 2,
            "550.54.15",
        ),
    ],
)
def test_other_output_of_nvidia_smi(tmp_path: Path, text: str, gpus: list[str], version: str | None) -> None:
    node = read_text(tmp_path, text, "node.txt")["node"]
    assert (codes(node), driver(node)) == (gpus, version)


def test_labels_as_kubectl_prints_them(tmp_path: Path) -> None:
    node = read_text(tmp_path, DESCRIBED, "any.txt")["gpu-7"]
    assert node.machine is not None
    assert (codes(node), driver(node), node.machine.arch) == (["sm_90"] * 2, "580.95", "aarch64")
    shown = (
        "NAME   STATUS   ROLES    AGE   VERSION   LABELS\n"
        "a      Ready    <none>   9d    v1.33.1   kubernetes.io/os=linux,nvidia.com/gpu.product=Tesla-T4\n"
        "b      Ready    <none>   9d    v1.33.1   kubernetes.io/os=linux,amd.com/gpu.device-id=74a1\n"
    )
    nodes = read_text(tmp_path, shown, "nodes.txt")
    assert (codes(nodes["a"]), codes(nodes["b"])) == (["sm_75"], ["1002:74a1"])
    for alone in (
        "nvidia.com/gpu.product=NVIDIA-L4\nnvidia.com/gpu.count=1\n",
        "  nvidia.com/gpu.product: NVIDIA-L4\n  nvidia.com/gpu.count: '1'\n",
        '{"nvidia.com/gpu.product": "NVIDIA-L4", "nvidia.com/gpu.count": "1"}',
    ):
        assert codes(read_text(tmp_path, alone, "node.txt")["node"]) == ["sm_89"]


def test_a_table_of_nodes_is_none_of_nvidia_smi(tmp_path: Path) -> None:
    nodes = read_text(tmp_path, "name, gpu, driver_version\nn1, h100, 580.95.05\n", "table.csv")
    assert (codes(nodes["n1"]), driver(nodes["n1"])) == (["sm_90"], "580.95.05")


def test_a_text_that_is_nothing_is_refused(tmp_path: Path) -> None:
    failed = "https://docs.nvidia.com/cuda: NVIDIA-SMI has failed because it couldn't communicate.\n"
    devices = "Error: setting up CDI devices: unresolvable CDI devices nvidia.com/gpu=all\n"
    for text in (failed, devices):
        with pytest.raises(UsageError, match="a column of nodes"):
            read_text(tmp_path, text, "x.txt")
