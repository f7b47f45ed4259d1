"""Tables as people fill them, and what tools print of GPUs, of one machine or of several in one text."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.fleet.made import kube_list, kube_node, read, read_text
from tests.fleet.test_inventories import codes, driver
from tests.support.planning import shipped
from torchinstall.core.errors import UsageError
from torchinstall.fleet.nodes import Node, gpu_of, names_of

TABLE = """\
+-----------------------------------------------------------------------------------------+
| NVIDIA-SMI {0:<22} Driver Version: {0:<14} CUDA Version: 12.4     |
|=========================================+========================+======================|
|   0  {1:<29}  Off |   00000000:01:00.0 Off |                    0 |
| N/A   31C    P0              62W / 400W |       4MiB / 81920MiB  |      0%      Default |
+-----------------------------------------+------------------------+----------------------+
"""
OLD = TABLE.format("470.223.02", "Tesla P40")
NEW = TABLE.format("550.90.07", "NVIDIA L40S")
ONE = "GPU 0: Tesla T4 (UUID: GPU-1)"
TWO = "GPU 0: NVIDIA A30 (UUID: GPU-2)\nGPU 1: NVIDIA A30 (UUID: GPU-3)"


def gpus(nodes: dict[str, Node]) -> dict[str, list[str]]:
    return {name: codes(node) for name, node in nodes.items() if node.machine is not None}


def prefixed(host: str, text: str) -> str:
    return "".join(f"{host}: {line}\n" for line in text.splitlines())


@pytest.mark.parametrize(
    "text",
    [
        prefixed("n1", ONE) + prefixed("n2", TWO),
        f"{'-' * 15}\nn1\n{'-' * 15}\n{ONE}\n{'-' * 15}\nn2 (1)\n{'-' * 15}\n{TWO}\n",
        f"n1 | CHANGED | rc=0 >>\n{ONE}\nn2 | CHANGED | rc=0 >>\n{TWO}\n",
        f"== n1 ==\n{ONE}\n== n2 ==\n{TWO}\n",
        f"### n1\n{ONE}\n### n2\n{TWO}\n",
        f"==> n1 <==\n{ONE}\n\n==> n2 <==\n{TWO}\n",
        f"[1] 14:02:11 [SUCCESS] n1\n{ONE}\n[2] 14:02:12 [SUCCESS] n2\n{TWO}\n",
        f"n1:\n    {ONE}\nn2:\n    " + TWO.replace("\n", "\n    "),
        f"n1\n{ONE}\nn2\n{TWO}\n",
        f"n1 | CHANGED | rc=0 | (stdout) {ONE}\nn2 | CHANGED | rc=0 | (stdout) " + TWO.replace("\n", "\\n"),
        "n1\nname, driver_version\nTesla T4, 535.54.03\nn2\nname, driver_version\n"
        + "NVIDIA A30, 535.54.03\n" * 2,
        "n1: name, driver_version\nn1: Tesla T4, 535.54.03\nn2: name, driver_version\n"
        + "n2: NVIDIA A30, 535.54.03\n" * 2,
        "n1: Tesla T4, 535.54.03\n" + "n2: NVIDIA A30, 535.54.03\n" * 2,
        "n1,Tesla T4,535.54.03,15360 MiB\n" + "n2,NVIDIA A30,535.54.03,24576 MiB\n" * 2,
    ],
)
def test_what_several_hosts_printed_is_that_of_each(tmp_path: Path, text: str) -> None:
    assert gpus(read_text(tmp_path, text, "all.txt")) == {"n1": ["sm_75"], "n2": ["sm_80", "sm_80"]}


def test_a_table_under_each_host_keeps_its_driver(tmp_path: Path) -> None:
    nodes = read_text(tmp_path, f"--- n[1-2] ---\n{OLD}--- n3 ---\n{NEW}", "all.txt")
    assert {name: driver(node) for name, node in nodes.items()} == {
        "n1": "470.223.02",
        "n2": "470.223.02",
        "n3": "550.90.07",
    }
    with pytest.raises(UsageError, match="nothing says which") as caught:
        read_text(tmp_path, OLD + NEW, "joined.txt")
    assert "== gpu1 ==" in caught.value.hints[0]


@pytest.mark.parametrize(
    "text",
    [
        f"{ONE}\nGPU 0: NVIDIA L4 (UUID: GPU-2)\n",
        "Tesla T4, 535.54.03\nNVIDIA L4, 550.54.15\n",
        "host,gpu,driver\na,T4,535.54.03\na,T4,550.54.15\n",
    ],
)
def test_one_machine_has_one_driver_and_one_first_gpu(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match=r"nothing says which|different drivers"):
        read_text(tmp_path, text, "a.csv")


def test_a_host_that_failed_is_left_out_with_what_it_printed(tmp_path: Path) -> None:
    text = f"a | CHANGED | rc=0 >>\n{ONE}\nb | FAILED | rc=127 >>\n/bin/sh: 1: nvidia-smi: not found\n"
    nodes = read_text(tmp_path, text, "all.txt")
    assert (codes(nodes["a"]), nodes["b"].unusable) == (
        ["sm_75"],
        "it printed: /bin/sh: 1: nvidia-smi: not found",
    )
    alone = read_text(tmp_path, "No devices were found\n", "c.txt")["c"]
    assert alone.unusable == "it printed: No devices were found"


ROCM = "GPU[{0}]\t\t: Card Series: \t\tAMD Instinct MI300X\nGPU[{0}]\t\t: GFX Version: \t\tgfx942\n"
ASIC = {"market_name": "AMD Radeon RX 9070 XT", "target_graphics_version": "gfx1201"}
XML = (
    '<?xml version="1.0" ?>\n<nvidia_smi_log>\n\t<driver_version>550.144.03</driver_version>\n'
    "\t<gpu>\n\t\t<product_name>NVIDIA L40S</product_name>\n\t</gpu>\n</nvidia_smi_log>\n"
)
ENV = (
    "OS: {0}\nLibc version: {1}\nGPU models and configuration: \nGPU 0: NVIDIA RTX A6000\n\n"
    "Nvidia driver version: 535.171.04\n"
)
TOOLS: dict[str, tuple[str, list[str], str | None]] = {
    "nvidia-smi -q -x": (XML, ["sm_89"], "550.144.03"),
    "nvidia-smi, quoted": ("".join(f"> {line}\n" for line in NEW.splitlines()), ["sm_89"], "550.90.07"),
    "csv without driver": ("name, memory.total [MiB]\nNVIDIA RTX A6000, 49140 MiB\n", ["sm_86"], None),
    "csv without header": ("0, NVIDIA L40S, 550.54.15, 8.9, 46068 MiB\n", ["sm_89"], "550.54.15"),
    "rocm-smi": (ROCM.format(0) + ROCM.format(1), ["gfx942"] * 2, None),
    "rocm-smi --json": (
        json.dumps(
            {
                "card0": {"Card series": "AMD INSTINCT MI250 (MCM) OAM AC MBA", "Card model": "0x0b0c"},
                "system": {"Driver version": "6.2.4"},
            }
        ),
        ["gfx90a"],
        "6.2.4",
    ),
    "amd-smi static --json": (
        json.dumps([{"gpu": 0, "asic": ASIC}, {"gpu": 1, "asic": ASIC}]),
        ["gfx1201"] * 2,
        None,
    ),
    "amd-smi static": (
        (
            "GPU: 0\n    ASIC:\n        TARGET_GRAPHICS_VERSION: gfx1100\n    DRIVER:\n        NAME: amdgpu\n"
            "        VERSION: 6.8.5\n"
        ),
        ["gfx1100"],
        "6.8.5",
    ),
    "rocminfo": (
        "Agent 1\n  Name:                    AMD EPYC\nAgent 2\n  Name:                    gfx90a\n",
        ["gfx90a"],
        None,
    ),
    "xpu-smi discovery": (
        "| 0         | Device Name: Intel(R) Arc(TM) A770 Graphics       |\n",
        ["8086:56a0"],
        None,
    ),
    "lspci": (
        (
            "00:02.0 VGA compatible controller: Intel Corporation AlderLake-S GT1 (rev 0c)\n"
            "01:00.0 VGA compatible controller: NVIDIA Corporation AD102 [GeForce RTX 4090] (rev a1)\n"
        ),
        ["sm_89"],
        None,
    ),
    "lspci -nn": (
        "01:00.0 3D controller [0302]: NVIDIA Corporation GA100 [10de:20b0] (rev a1)\n",
        ["10de:20b0"],
        None,
    ),
    "collect_env": (ENV.format("Ubuntu 22.04.4 LTS (x86_64)", "glibc-2.35"), ["sm_86"], "535.171.04"),
    "gpustat": (
        "n1   Tue Mar  5 10:21:32 2024  535.161.07\n[0] NVIDIA A30 | 31'C,   0 % |\n",
        ["sm_80"],
        "535.161.07",
    ),
    "dcgmi": ("| 0      | Name: NVIDIA H100 80GB HBM3          |\n", ["sm_90"], None),
}


@pytest.mark.parametrize("tool", TOOLS)
def test_what_other_tools_print_of_a_machine(tmp_path: Path, tool: str) -> None:
    text, wanted, version = TOOLS[tool]
    node = read_text(tmp_path, text, "box.txt")["box"]
    assert node.machine is not None, node.unusable
    vendor = node.machine.gpus[0].vendor
    assert (codes(node), driver(node, vendor)) == (wanted, version)


def test_the_system_that_a_text_is_of(tmp_path: Path) -> None:
    windows = "\r\nName       DriverVersion\r\n----  ----\r\nNVIDIA GeForce RTX 3060  31.0.15.5222\r\n"
    mac = "Graphics/Displays:\n\n    Apple M3 Max:\n\n      Chipset Model: Apple M3 Max\n"
    fields = "Name          : NVIDIA GeForce RTX 3060\r\nDriverVersion : 31.0.15.5222\r\n"
    texts = {
        "table": windows,
        "fields": fields,
        "mac": mac,
        "env": ENV.format("Microsoft Windows 11 Pro", "N/A"),
    }
    found = {name: read_text(tmp_path, text, f"{name}.txt")[name] for name, text in texts.items()}
    systems = {name: node.machine and (node.machine.os, node.machine.arch) for name, node in found.items()}
    assert systems == {
        "table": ("windows", "x86_64"),
        "fields": ("windows", "x86_64"),
        "mac": ("macos", "aarch64"),
        "env": ("windows", "x86_64"),
    }
    assert [driver(found[name]) for name in ("table", "fields")] == ["552.22", "552.22"], "as NVIDIA counts"
    spark = read_text(tmp_path, TABLE.format("580.95.05", "NVIDIA GB10"), "spark.txt")["spark"]
    assert spark.machine is not None
    assert spark.machine.arch == "aarch64", "a GB10 has an Arm processor"


def test_a_gpu_that_is_there_is_never_no_gpu(tmp_path: Path) -> None:
    jetson = OLD.replace("Tesla P40  ", "Orin (nvgpu)").replace("00000000:01:00.0", "N/A             ")
    assert "Jetson" in str(read_text(tmp_path, jetson, "orin.txt")["orin"].unusable)
    head = "\n".join(NEW.splitlines()[:2])
    assert "nothing says which" in str(read_text(tmp_path, head, "cut.txt")["cut"].unusable)
    broken = NEW.replace("NVIDIA L40S", "ERR!       ")
    assert "no GPU is called 'ERR!'" in str(read_text(tmp_path, broken, "err.txt")["err"].unusable)
    odd = read_text(tmp_path, "host,gpu\na,RTX 9999\nb,T4\n", "odd.csv")
    assert "no GPU is called 'RTX 9999'" in str(odd["a"].unusable)
    for text in (
        "name,version\nnumpy,2.0\n",
        "host,os,cpu\na,Ubuntu 22.04,EPYC\n",
        '[{"name": "numpy", "version": "2"}]',
    ):
        with pytest.raises(UsageError, match="inventory"):
            read_text(tmp_path, text, "other")


ROWS = {"a": ["sm_86", "sm_86"], "b": ["sm_75"]}
COLUMNS = (
    "Host Name,GPU Model,# GPUs,Driver Ver.\na,NVIDIA RTX A5000,2,535.183.01\nb,RTX 2080 Ti,1,535.183.01\n"
)


@pytest.mark.parametrize(
    "text",
    [
        COLUMNS,
        COLUMNS.replace(",", "\t"),
        f"sep=;\n{COLUMNS.replace(',', ';')}",
        f"GPU servers of 2025,,,\n{COLUMNS}",
        "| host | gpu | qty |\n|---|:---|--:|\n| a | RTX A5000 | 2 |\n| b | RTX 2080 Ti | 1 |\n",
        "HOST   GPU              COUNT\na      NVIDIA RTX A5000     2\nb      RTX 2080 Ti          1\n",
        "server,GPUs,driver\na,2x RTX A5000,535.1\nb,RTX 2080 Ti,535.1\n",
        "fqdn,gpu,driver\na,RTX A5000 (x2),nvidia-driver-535\nb,RTX 2080 Ti,535.x\n",
        "host,gpu,gpus,driver\na,RTX A5000,1.0,535.1\n,RTX A5000,1.0,\nb,RTX 2080 Ti,1.0,?\n",
        'host,gpu,driver\na,"RTX A5000, RTX A5000",535.1\nb,RTX 2080 Ti,tbd\n',
        "host,gpu,gpu model\na,2,RTX A5000\nb,1,RTX 2080 Ti\n",
        "PSComputerName,Name,DriverVersion\n"
        + "a,NVIDIA RTX A5000,31.0.15.5222\n" * 2
        + "b,NVIDIA GeForce RTX 2080 Ti,31.0.15.5222\n",
    ],
)
def test_tables_of_other_shapes_and_with_other_names(tmp_path: Path, text: str) -> None:
    assert gpus(read_text(tmp_path, text, "fleet.csv")) == ROWS


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_what_spreadsheets_and_powershell_save(tmp_path: Path, encoding: str) -> None:
    text = "Host;GPU;Count;Place\r\na;RTX A5000;2;Köln\r\nb;RTX 2080 Ti;1;Bonn\r\n"
    (tmp_path / "fleet.csv").write_bytes(text.encode(encoding))
    assert gpus(read(tmp_path, "fleet.csv")) == ROWS
    if encoding != "cp1252":
        (tmp_path / "nodes.json").write_bytes(kube_list(kube_node("n", {})).encode(encoding))
        assert list(read(tmp_path, "nodes.json")) == ["n"]


def test_a_workbook_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "fleet.xlsx").write_bytes(b"PK\x03\x04\x14\x00\x06\x00")
    with pytest.raises(UsageError) as caught:
        read(tmp_path, "fleet.xlsx")
    assert caught.value.hints == ("save the table as CSV",)


LIST: list[dict[str, Any]] = [
    {"host": "a", "gpu": "RTX A5000", "count": 2},
    {"host": "b", "gpu": "RTX 2080 Ti", "count": None},
]


@pytest.mark.parametrize(
    "value",
    [
        LIST,
        {"version": 1, "machines": LIST},
        {row["host"]: row for row in LIST},
        {"_meta": {"hostvars": {row["host"]: row for row in LIST}}, "all": {"children": ["ungrouped"]}},
        [{"hostname": "a", "gpus": ["RTX A5000"] * 2}, {"hostname": "b", "gpus": [{"name": "RTX 2080 Ti"}]}],
        [{"node": "a", "product_name": "RTX A5000", "gpus": 2}, {"node": "b", "product_name": "RTX 2080 Ti"}],
    ],
)
def test_json_that_somebody_wrote(tmp_path: Path, value: Any) -> None:
    assert gpus(read_text(tmp_path, json.dumps(value), "fleet.json")) == ROWS
    if value is LIST:
        lines = "\n".join(map(json.dumps, value))
        assert gpus(read_text(tmp_path, lines, "fleet.jsonl")) == ROWS


SCONTROL = """\
NodeName=a Arch=x86_64 CoresPerSocket=32
   AvailableFeatures=ib,glibc2.28
   ActiveFeatures=ib,glibc2.28
   Gres=gpu:rtx_a5000:2(S:0-1)
   OS=Linux 5.14.0-362.el9.x86_64 #1 SMP
   Extra=driver=535.183.01

NodeName=b Arch=x86_64 CoresPerSocket=24
   ActiveFeatures=(null)
   Gres=gpu:rtx_2080_ti:1
"""


@pytest.mark.parametrize(
    "text",
    [
        SCONTROL,
        SCONTROL.replace("\n   ", " "),
        "NodeName=a Gres=gpu:rtx_a5000:2 Feature=ib\nNodeName=b CPUs=64 Gres=gpu:rtx_2080_ti:1\n",
        "NODELIST GRES              FEATURES\na  gpu:rtx_a5000:2   ib\nb  gpu:rtx_2080_ti:1 (null)\n",
        "HOSTNAMES GRES\na gpu:rtx_a5000:2\nb gpu:rtx_2080_ti:1\n",
    ],
)
def test_slurm_as_text(tmp_path: Path, text: str) -> None:
    nodes = read_text(tmp_path, text, "nodes.txt")
    assert gpus(nodes) == ROWS
    assert nodes["a"].format == "slurm"
    ranges = read_text(tmp_path, "NodeName=g[08-10,12] Gres=gpu:t4:1\n", "conf.txt")
    assert list(ranges) == ["g08", "g09", "g10", "g12"]
    with pytest.raises(UsageError, match="too many nodes"):
        read_text(tmp_path, "NodeName=g[1-99999999] Gres=gpu:t4:1\n", "conf.txt")


def test_clouds_types_of_machines_name_their_gpus(tmp_path: Path) -> None:
    def node(name: str, kind: str, amount: str = "0", arch: str = "amd64") -> dict[str, Any]:
        labels = {"node.kubernetes.io/instance-type": kind}
        return kube_node(name, labels, resources={"nvidia.com/gpu": amount}, arch=arch)

    text = kube_list(
        node("aws", "p4d.24xlarge", "8"),
        node("arm", "g5g.xlarge", "1", "arm64"),
        node("azure", "Standard_NC24ads_A100_v4", "1"),
        node("cpu", "m6i.large"),
        node("bare", "g5.xlarge"),
        kube_node(
            "gke",
            {"cloud.google.com/gke-accelerator": "nvidia-l4", "cloud.google.com/gke-accelerator-count": "2"},
        ),
    )
    assert gpus(read_text(tmp_path, text)) == {
        "aws": ["sm_80"] * 8,
        "arm": ["sm_75"],
        "azure": ["sm_80"],
        "cpu": [],
        "bare": ["sm_86"],
        "gke": ["sm_89"] * 2,
    }
    table = "name,instance_type\na,p3.2xlarge\nb,g2-standard-4\nc,Standard_ND96isr_MI300X_v5\n"
    assert gpus(read_text(tmp_path, table, "cloud.csv")) == {"a": ["sm_70"], "b": ["sm_89"], "c": ["gfx942"]}


def test_several_nodes_that_kubectl_describes(tmp_path: Path) -> None:
    text = "".join(
        f"Name:               {name}\nLabels:             kubernetes.io/arch=amd64\n"
        f"                    nvidia.com/gpu.product={gpu}\n\n"
        for name, gpu in (("a", "NVIDIA-L4"), ("b", "Tesla-T4"))
    )
    assert gpus(read_text(tmp_path, text, "nodes.txt")) == {"a": ["sm_89"], "b": ["sm_75"]}


@pytest.mark.parametrize(
    ("system", "libc"),
    [
        ("CentOS Linux 7.9", "2.17"),
        ("Rocky Linux 8.9", "2.28"),
        ("RHEL 9", "2.34"),
        ("Ubuntu 22.04.4 LTS", "2.35"),
        ("Debian GNU/Linux 12 (bookworm)", "2.36"),
        ("Amazon Linux 2", "2.26"),
        ("Amazon Linux 2023", "2.34"),
        ("Arch", None),
    ],
)
def test_a_distribution_says_its_libc(tmp_path: Path, system: str, libc: str | None) -> None:
    node = read_text(tmp_path, f"host,gpu,os\na,A100,{system}\n", "fleet.csv")["a"]
    assert node.machine is not None
    assert (node.machine.libc and node.machine.libc.version) == libc
    said = read_text(tmp_path, f"host,gpu,os,libc\na,A100,{system},2.40\n", "other.csv")["a"]
    assert said.machine is not None
    assert said.machine.libc is not None
    assert said.machine.libc.version == "2.40", "what the table says counts"


def test_musl_and_old_kernels_of_red_hat_show(tmp_path: Path) -> None:
    alpine = read_text(tmp_path, "host,gpu,os\na,A100,Alpine 3.20\n", "fleet.csv")["a"].machine
    assert alpine is not None
    assert alpine.libc is not None
    assert alpine.libc.family == "musl"
    text = "NodeName=a Arch=x86_64\n   Gres=gpu:v100:4\n   OS=Linux 3.10.0-1160.el7.x86_64 #1 SMP\n"
    old = read_text(tmp_path, text, "nodes.txt")["a"].machine
    assert old is not None
    assert old.libc is not None
    assert old.libc.version == "2.17"


@pytest.mark.parametrize(
    "text",
    [
        "GPU 0: NVIDIA GeForce RTX 5090 with CUDA capability sm_120 is not compatible with this PyTorch\n",
        "RuntimeError: GPU 0: out of memory\n",
        "GPU 0: 80% busy\nGPU 1: 24 GB free\n",
        "System Information\n\tProduct Name: DGX A100 920-23687\n",
        "Device Name: printer\n",
        "name,driver_version\na100-01,535.104.05\n",
        "host,cpu,count\na,EPYC,2\n",
        "Each server has one GPU today.\nMore will come.\n",
        "host,part,qty\na,NVIDIA A100,2\n",
        json.dumps({"kind": "Pod", "spec": {"limits": {"nvidia.com/gpu": 1}}}),
    ],
)
def test_what_is_no_machine_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match=r"neither an inventory|kind of inventory"):
        read_text(tmp_path, text, "a.txt")


@pytest.mark.parametrize(
    "text",
    [
        "Name:     a\nCapacity:\n  nvidia.com/gpu:  8\nAllocatable:\n  nvidia.com/gpu:  8\n",
        "name,gpus,driver\na,8,535.104.05\n",
        json.dumps([{"host": "a", "gpu": {"vendor": "nvidia"}}]),
    ],
)
def test_gpus_without_a_name_are_still_there(tmp_path: Path, text: str) -> None:
    assert "gpu=h100" in str(read_text(tmp_path, text, "b.txt")["a"].unusable)
    hosts = "name,gpus,driver\na100-01,8,535.1\nt4-01,1,535.1\n"
    assert {node.machine for node in read_text(tmp_path, hosts, "c.csv").values()} == {None}


ROW = {"name": "b", "gpu": "T4"}


@pytest.mark.parametrize(
    "text",
    [
        "host,product,gpu,card\na,ThinkStation P620,A100,ConnectX-6\nb,Precision T5000,T4,HBA\n",
        "host,gpu,gpu model\na,0,A100\nb,0,T4\n",
        "+---+------+\n| host | gpu  |\n+---+------+\n| a | A100 |\n| b | T4 |\n+---+------+\n",
        json.dumps({"nodes": [{"name": "a", "gpu": "A100"}, {"name": "b", "gpu": "T4"}]}),
        json.dumps(
            {"items": [{"name": "a", "gpu": {"model": "A100", "count": 1}}, {"name": "b", "gpu": "T4"}]}
        ),
        json.dumps(
            {"tags": ["x"], "hosts": [{"host": "a", "gpus": [{"type": "A100"}]}, {"host": "b", "gpu": "T4"}]}
        ),
    ],
)
def test_the_gpu_is_found_beside_other_things(tmp_path: Path, text: str) -> None:
    assert gpus(read_text(tmp_path, text, "a.txt")) == {"a": ["sm_80"], "b": ["sm_75"]}
    both = "host,gpu\nc,A100/T4\n"
    assert gpus(read_text(tmp_path, both, "b.csv")) == {"c": ["sm_80", "sm_75"]}
    mac = read_text(tmp_path, "host,os,gpu\nm,,Apple M3 Max\n", "c.csv")["m"].machine
    assert mac is not None
    assert mac.os == "macos"


def test_yaml_that_somebody_wrote(tmp_path: Path, yaml_python: str, monkeypatch: pytest.MonkeyPatch) -> None:
    show = "import pathlib, yaml; print(pathlib.Path(yaml.__file__).parent.parent)"
    found = subprocess.run([yaml_python, "-c", show], capture_output=True, text=True, check=True)
    monkeypatch.syspath_prepend(found.stdout.strip())
    for number, text in enumerate(
        (
            "- host: a\n  gpu: RTX A5000\n  count: 2\n- host: b\n  gpu: RTX 2080 Ti\n",
            "# fleet\na:\n  gpu: RTX A5000\n  count: 2\nb:\n  gpu: RTX 2080 Ti\n",
            "machines:\n  - name: a\n    gpus: [RTX A5000, RTX A5000]\n  - name: b\n    gpu: RTX 2080 Ti\n",
        )
    ):
        assert gpus(read_text(tmp_path, text, f"{number}.yaml")) == ROWS
    with pytest.raises(UsageError, match="inventory"):
        read_text(tmp_path, "name: app\nservices:\n  - image: x\n", "compose.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "name, driver_version\nTesla T4, 535.104.05\n",
        "driver_version, name\n535.104.05, Tesla T4\n",
        "index, name, memory.total [MiB]\n0, Tesla T4, 15360 MiB\n",
        "n1: uuid, name, driver_version\nn1: GPU-1, Tesla T4, 535.104.05\n",
    ],
)
def test_what_nvidia_smi_prints_as_csv_is_of_its_format(tmp_path: Path, text: str) -> None:
    (node,) = read_text(tmp_path, text, "n1.csv").values()
    assert (node.name, node.format, codes(node)) == ("n1", "nvidia-smi", ["sm_75"])
    (other,) = read_text(tmp_path, "name, gpu, driver_version\nn2, T4, 535.1\n", "fleet.csv").values()
    assert (other.name, other.format) == ("n2", "csv")


def test_a_version_of_cuda_is_no_driver(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no NVIDIA driver has that version") as caught:
        read_text(tmp_path, "host,gpu,driver\na,A100,12.4\n", "a.csv")
    assert "CUDA" in caught.value.message
    other = read_text(tmp_path, "host,gpu,driver\na,MI210,6.10.5\n", "b.csv")["a"]
    assert driver(other, "amd") == "6.10.5"


def test_values_within_values(tmp_path: Path) -> None:
    inside = {
        "os": {"name": "Ubuntu", "version": "22.04"},
        "driver": {"name": "nvidia", "version": "535.104"},
    }
    node = read_text(tmp_path, json.dumps([{"host": "a", "gpu": "T4", **inside}]), "a.json")["a"]
    assert node.machine is not None
    assert node.machine.libc is not None
    assert (driver(node), node.machine.libc.version) == ("535.104", "2.35")
    deep = f'[{{"host": "a", "gpu": "T4", "disks": {"[" * 900}{"]" * 900}}}]'
    assert gpus(read_text(tmp_path, deep, "c.json")) == {"a": ["sm_75"]}
    odd = json.dumps({"_meta": None, "a": {"gpu": "T4"}})
    assert gpus(read_text(tmp_path, odd, "b.json")) == {"a": ["sm_75"]}


def test_what_a_shell_prints_around_csv_is_left_out(tmp_path: Path) -> None:
    text = "ann@gpu3:~$ nvidia-smi --query-gpu=name,driver_version --format=csv\nname, driver_version\n"
    found = read_text(tmp_path, f"{text}Tesla T4, 535.104.05\nann@gpu3:~$ \n", "gpu3.txt")
    assert gpus(found) == {"gpu3": ["sm_75"]}


def test_facts_of_clouds_and_distributions_have_a_source_and_a_confidence() -> None:
    for table in ("instances", "libc"):
        for pattern, row in names_of(table).items():
            assert row["source"], pattern
            assert row["confidence"] in ("high", "medium"), pattern
            if table == "instances":
                assert gpu_of(shipped(), product=row["means"]) is not None, row
