"""The refreshers that read PyPI, PyTorch's build scripts, CUDA's release notes and pci.ids."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from scripts import refresh_assets, refresh_code, refresh_drivers, refresh_gpus, refresh_pypi
from scripts.invariants import verify
from tests.support.index_server import IndexServer
from tests.support.index_tree import IndexTree
from tests.support.tables import copied, row_of
from tests.support.wheelhouse import TinyWheel, torch_wheel, write_wheels
from torchinstall.catalog.tables import Tables

LINUX = """
TORCH_CUDA_ARCH_LIST_TABLE: dict[str, dict[str, set[int]]] = {
    "13.0": {"x86_64": {80, 75, 120}, "aarch64": {80, 110}},
}
def _is_release_build() -> bool: ...
"""

LINUX_OLD = """
case ${CUDA_VERSION} in
    #a comment
    12.8)
        TORCH_CUDA_ARCH_LIST="7.0;12.0"
        ;;
    12.9)
        TORCH_CUDA_ARCH_LIST="7.0;12.0+PTX"
        ;;
esac
export TORCH_CUDA_ARCH_LIST=${TORCH_CUDA_ARCH_LIST}
"""

WINDOWS = """
if "%CUDA_VER%"=="126" (
    set "CUDA_DOTTED_VERSION=12.6"
    set "CUDA_ARCH_LIST=5.0;6.1"
) else if "%CUDA_VER%"=="130" (
    set "CUDA_ARCH_LIST=7.5;12.0"
)
"""

ROCM = """
        PYTORCH_ROCM_ARCH="gfx908;gfx1103"
            PYTORCH_ROCM_ARCH="gfx900;${PYTORCH_ROCM_ARCH}"
"""


def test_a_measured_wheel_replaces_weaker_evidence(folder: Path, tmp_path: Path) -> None:
    def argv(flags: str) -> list[str]:
        files = {"torch/include/ATen/cuda/CUDAConfig.h": flags}
        item = torch_wheel("2.9.1+cu128", "cp312-cp312-manylinux_2_28_x86_64", files=files)
        (path,) = write_wheels(tmp_path / "wheels", [item])
        return ["--measured", str(path), "--data", str(folder), "--as-of", "2026-12-01", "--write"]

    assert refresh_code.main(argv("code=sm_70 code=sm_90a code=compute_120")) == 0
    row = row_of(rows(folder, "code.json"), torch="2.9", backend="cu128", platform="linux_x86_64")
    assert (row["native"], row["ptx"], row["confidence"]) == (["7.0", "9.0"], ["12.0"], "high")
    sources = json.loads((folder / "code.json").read_text(encoding="utf-8"))["sources"]
    assert sources[row["source"]].startswith(
        "measured wheel: torch/include/ATen/cuda/CUDAConfig.h of torch-2.9.1"
    )
    before = rows(folder, "code.json")
    assert refresh_code.main(argv("no list")) == 0
    assert rows(folder, "code.json") == before


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return copied(tmp_path)


def rows(folder: Path, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / name).read_text(encoding="utf-8"))["rows"]
    return found


def test_build_scripts_are_read() -> None:
    assert refresh_code.linux(LINUX) == {
        ("cu130", "linux_x86_64"): (["7.5", "8.0", "12.0"], []),
        ("cu130", "linux_aarch64"): (["8.0", "11.0"], []),
    }
    assert (
        refresh_code.linux(LINUX.replace("_is_release_build", "other"))["cu130", "linux_aarch64"][1] is None
    )
    assert refresh_code.linux_old(LINUX_OLD) == {
        ("cu128", "linux_x86_64"): (["7.0", "12.0"], []),
        ("cu129", "linux_x86_64"): (["7.0", "12.0"], ["12.0"]),
    }
    assert refresh_code.windows(WINDOWS) == {
        ("cu126", "win_amd64"): (["5.0", "6.1"], []),
        ("cu130", "win_amd64"): (["7.5", "12.0"], []),
    }
    assert refresh_code.rocm(ROCM) == {
        ("rocm", "linux_x86_64"): (["gfx908", "gfx1103"], []),
        ("rocm-legacy", "linux_x86_64"): (["gfx900", "gfx908", "gfx1103"], []),
    }
    assert refresh_code.rocm("nothing of the kind") == {}


def checkout(folder: Path) -> Path:
    for name, text in (
        (refresh_code.LINUX, LINUX),
        (refresh_code.WINDOWS, WINDOWS),
        (refresh_code.ROCM, ROCM),
    ):
        path = folder / "pytorch" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder / "pytorch"


def code(folder: Path, tmp_path: Path, *more: str) -> int:
    source = ["--torch", "2.14", "--pytorch", str(checkout(tmp_path))]
    return refresh_code.main([*source, "--data", str(folder), "--as-of", "2027-01-02", *more])


def test_scripts_replace_weaker_evidence_and_not_measured_wheels(folder: Path, tmp_path: Path) -> None:
    measured = row_of(rows(folder, "code.json"), torch="2.14", backend="cu130", platform="linux_x86_64")
    assert code(folder, tmp_path, "--write") == 0
    after = rows(folder, "code.json")
    assert row_of(after, torch="2.14", backend="cu130", platform="linux_x86_64") == measured
    windows = row_of(after, torch="2.14", backend="cu126", platform="win_amd64")
    assert windows["native"] == ["5.0", "6.1"]
    assert windows["confidence"] == "medium"
    rocm = row_of(after, torch="2.14", backend="rocm7.14", platform="linux_x86_64")
    assert rocm["native"] == ["gfx908", "gfx1103"]
    assert verify(Tables(folder)) == ()


def test_code_is_only_shown_without_write(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (folder / "code.json").read_text(encoding="utf-8")
    assert code(folder, tmp_path) == 0
    assert (folder / "code.json").read_text(encoding="utf-8") == before
    out, err = capsys.readouterr()
    assert "+++ b/code.json" in out
    assert ".ci/manywheel/build_cuda.sh: not there" in err


def test_a_checkout_without_build_scripts_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="none of the build scripts"):
        refresh_code.main(["--torch", "2.14", "--pytorch", str(tmp_path), "--data", str(folder)])


NOTES = """
<table><caption>Minimum Required Driver Version for CUDA Minor Version Compatibility</caption>
<tr><td>CUDA 13.x</td><td>&gt;=580</td><td>N/A</td></tr></table>
<table><tr><td><p>CUDA 13.5 Update 1</p></td><td><p>&gt;=620.40.02</p></td><td>N/A</td></tr>
<tr><td><p>CUDA 13.5 GA</p></td><td><p>&gt;=620.31.01</p></td><td>N/A</td></tr>
<tr><td>CUDA 12.4 GA</td><td>≥550.54.14</td><td>≥551.61</td></tr></table>
"""


def test_driver_branches_come_from_release_notes(folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "notes.html"
    page.write_text(NOTES, encoding="utf-8")
    assert refresh_drivers.paired(NOTES) == {620: "13.5", 550: "12.4"}
    known = row_of(rows(folder, "driver_branches.json"), branch=550)
    assert refresh_drivers.main(["--release-notes", str(page), "--data", str(folder), "--write"]) == 0
    tables = Tables(folder)
    assert tables.branch_cuda[620] == "13.5"
    assert row_of(rows(folder, "driver_branches.json"), branch=550) == known
    assert verify(tables) == ()


def test_a_page_that_would_make_a_later_branch_speak_less_is_not_written(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "notes.html"
    page.write_text("CUDA 11.9 GA >=620.31.01", encoding="utf-8")
    assert refresh_drivers.main(["--release-notes", str(page), "--data", str(folder), "--write"]) == 1
    assert "branch-steps-back" in capsys.readouterr().out


def test_a_page_without_the_table_is_refused(folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "notes.html"
    page.write_text("<h1>Not found</h1>", encoding="utf-8")
    with pytest.raises(SystemExit, match="has no row"):
        refresh_drivers.main(["--release-notes", str(page), "--data", str(folder)])
    with pytest.raises(SystemExit, match=r"missing\.html"):
        refresh_drivers.main(["--release-notes", str(tmp_path / "missing.html"), "--data", str(folder)])


PCI_IDS = """
#	a comment
1002  Advanced Micro Devices, Inc. [AMD/ATI]
	744c  Navi 31 [Radeon RX 7900 XT/7900 XTX/7900 GRE/7900M]
	7ffe  Navi 31 [Radeon RX 7950 XTX]
		1002 0e3b  a subsystem
	7fff  Navi 99 [Radeon RX 10000]
10de  NVIDIA Corporation
	2684  AD102 [GeForce RTX 4090]
	2fff  AD102GL [RTX 6001 Ada Generation]
	3ffe  GX100 [Unheard of]
	0040  NV40 [GeForce 6800 Ultra]
8086  Intel Corporation
	56a0  DG2 [Arc A770]
	56fe  DG2 [Arc A790]
	e20b  Battlemage G21 [Arc B580]
	e2fe  Battlemage G21 [Arc Pro B55]
	e2ff  Unheard-of Lake [Arc X1]
	1533  I210 Gigabit Network Connection
10df  Emulex Corporation
	2ffe  AD102 [of another vendor]
"""


def test_new_products_of_known_chips_are_added(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "pci.ids"
    source.write_text(PCI_IDS, encoding="utf-8")
    assert refresh_gpus.main(["--pci-ids", str(source), "--data", str(folder), "--write"]) == 0
    err = capsys.readouterr().err
    assert "nvidia: no capability known for GX100" in err
    assert "amd: no capability known for Navi 99" in err
    nvidia = row_of(rows(folder, "gpus_nvidia.json"), pci_id="10de:2fff")
    assert (nvidia["code"], nvidia["name"]) == ("8.9", "RTX 6001 Ada Generation")
    amd = row_of(rows(folder, "gpus_amd.json"), pci_id="1002:7ffe")
    assert (amd["code"], amd["integrated"]) == ("gfx1100", False)
    ids = {row["pci_id"] for row in rows(folder, "gpus_nvidia.json")}
    assert not {"10de:3ffe", "10de:0040", "10de:2ffe"} & ids
    intel = row_of(rows(folder, "gpus_intel.json"), pci_id="8086:e2fe")
    assert (intel["code"], intel["name"], intel["supported"]) == ("BMG", "Arc Pro B55", True)
    assert row_of(rows(folder, "gpus_intel.json"), pci_id="8086:56fe")["code"] == "DG2"
    assert "intel: no capability known for Unheard-of Lake" in err
    assert verify(Tables(folder)) == ()


@pytest.mark.parametrize(
    ("lines", "platform", "backend"),
    [
        (["cuda-toolkit[cudart]==13.2.2; platform_system == 'Linux'"], "linux_x86_64", "cu132"),
        (["cuda-toolkit[cudart]==13.2.2; platform_system == 'Linux'"], "macos_arm64", "cpu"),
        (["nvidia-cuda-runtime-cu12==12.8.90; platform_machine == 'x86_64'"], "linux_x86_64", "cu128"),
        (["nvidia-cuda-runtime-cu12==12.8.90; platform_machine == 'x86_64'"], "linux_aarch64", "cpu"),
        (["filelock", "triton==3.5.0"], "linux_x86_64", "cpu"),
    ],
)
def test_the_backend_of_a_pypi_wheel_follows_from_its_requirements(
    lines: list[str], platform: str, backend: str
) -> None:
    assert refresh_pypi.backend_of([Requirement(line) for line in lines], platform) == backend


def wheel(name: str, version: str, tag: str, *requires: str) -> TinyWheel:
    return TinyWheel(name=name, version=version, tag=tag, requires=requires)


@pytest.mark.parametrize("as_json", [False, True])
def test_a_new_release_on_pypi_brings_rows_hashes_and_companions(folder: Path, as_json: bool) -> None:
    linux, mac = "cp313-cp313-manylinux_2_28_x86_64", "cp313-cp313-macosx_14_0_arm64"
    toolkit = "cuda-toolkit==13.4.1; platform_system == 'Linux'"
    index = IndexTree(kind="pypi")
    index.add(
        "",
        wheel("torch", "2.16.0", linux, toolkit),
        wheel("torch", "2.16.0", mac, toolkit),
        wheel("torch", "2.17.0rc1", linux),
        wheel("torchvision", "0.30.0", "py3-none-manylinux_2_28_x86_64", "torch>=2.16.0"),
        wheel("torchvision", "0.31.0", "py3-none-manylinux_2_28_x86_64", "torch>=2.17.0"),
        wheel("torchaudio", "2.11.0", linux),
    )
    with IndexServer(default=index, json_pages=as_json) as server:
        arguments = ["--index", server.default_index, "--data", str(folder), "--as-of", "2027-01-02"]
        assert refresh_pypi.main([*arguments, "--write"]) == 0
    tables = Tables(folder)
    assert verify(tables) == ()
    new = {(row.package, row.platform_tag): row for row in tables.wheels if row.source == "pypi-files"}
    assert new["torch", "manylinux_2_28_x86_64"].backend == "cu134"
    assert new["torch", "macosx_14_0_arm64"].backend == "cpu"
    assert new["torchvision", "manylinux_2_28_x86_64"].backend == "cu134"
    assert {row.version for row in new.values()} == {"2.16.0", "0.30.0"}
    companions = {(row.torch, row.package): row for row in tables.companions}
    assert (companions["2.16.0", "torchvision"].version, companions["2.16.0", "torchvision"].exact) == (
        "0.30.0",
        False,
    )
    assert companions["2.16.0", "torchaudio"].version == "2.11.0"
    assert tables.sha256("", f"torch-2.16.0-{linux}.whl") is not None


def test_release_pages_become_rows_with_their_release(tmp_path: Path) -> None:
    base = "https://github.com/mjun0812/flash-attention-prebuild-wheels/releases/download"
    wheel = "flash_attn-{}%2Bcu130torch2.14-cp31{}-cp31{}-{}.whl"
    files = [
        ("v0.9.8", wheel.format("2.8.3", 2, 2, "linux_x86_64")),
        ("v0.9.10", wheel.format("2.8.3", 2, 2, "linux_x86_64")),
        ("v0.9.10", wheel.format("2.8.3", 2, 2, "manylinux_2_28_x86_64")),
        ("v0.9.10", wheel.format("2.8.3", 3, 3, "manylinux_2_28_x86_64")),
        ("v0.9.10", wheel.format("2.0.1", 2, 2, "linux_x86_64")),
        ("v0.9.11", wheel.format("2.9.0", 2, 2, "win_amd64")),
        ("v0.9.11", "notes.txt"),
    ]
    pages = [
        {"tag_name": release, "assets": [{"browser_download_url": f"{base}/{release}/{name}"}]}
        for release, name in files
    ]
    listing, folder = tmp_path / "releases.json", copied(tmp_path)
    listing.write_text(json.dumps(pages), encoding="utf-8")
    assert refresh_assets.main(["--assets", str(listing), "--data", str(folder), "--write"]) == 0
    rows = [row for row in Tables(folder).companion_builds if row.place == "mjun"]
    assert [(row.versions, row.release, row.tags, row.platforms, row.torch) for row in rows] == [
        ("2.9.0", "v0.9.11", "cp312-cp312", ("win_amd64",), "==2.14.*"),
        ("2.8.3", "v0.9.10", "cp312-cp312 cp313-cp313", ("manylinux_2_28_x86_64",), "==2.14.*"),
    ]
    assert {row.code for row in rows} == {("8.0", "9.0", "10.0", "12.0")}
    assert verify(Tables(folder)) == ()
