"""Indexes of GPU vendors, from loopback copies that are laid out as the real ones."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.support import RunResult, run
from tests.support.index_server import IndexServer
from tests.support.index_tree import IndexTree
from tests.support.installing import an_environment, here
from tests.support.tables import copied
from tests.support.wheelhouse import TinyWheel, torch_wheel, wheel

PYTHON = f"cp3{sys.version_info[1]}"
MINOR = f"3.{sys.version_info[1]}"
DEVICE = "device-gfx1032 device-gfx1151"

STRIX_HALO = {
    "os": "windows",
    "os_version": "10.0.26100",
    "arch": "x86_64",
    "drivers": [{"vendor": "amd", "version": "32.0.21025.1024"}],
    "gpus": [
        {"vendor": "amd", "index": 0, "name": "AMD Radeon 8060S", "gfx_target": "gfx1151", "integrated": True}
    ],
}
RX_6600 = {
    "os": "linux",
    "os_version": "12",
    "arch": "x86_64",
    "libc": {"family": "glibc", "version": "2.36"},
    "drivers": [{"vendor": "amd", "version": "6.12.12"}],
    "gpus": [{"vendor": "amd", "index": 0, "name": "AMD Radeon RX 6600", "gfx_target": "gfx1032"}],
}
ORIN = {
    "os": "linux",
    "os_version": "22.04",
    "arch": "aarch64",
    "libc": {"family": "glibc", "version": "2.35"},
    "l4t": "36.4.3",
    "environment": ["jetson"],
    "drivers": [{"vendor": "nvidia", "version": "540.4.0", "cuda_version": "12.6"}],
    "gpus": [
        {
            "vendor": "nvidia",
            "index": 0,
            "name": "Orin (nvgpu)",
            "compute_capability": "8.7",
            "integrated": True,
        }
    ],
}


def with_extras(item: TinyWheel) -> TinyWheel:
    """A wheel of AMD's: the code for each GPU is a package that an extra brings."""
    extras = tuple(f"amd-{item.name}-{name}=={item.version} ; extra == '{name}'" for name in DEVICE.split())
    return wheel(item.name, item.version, item.tag, requires=(*item.requires, *extras), files=item.files)


def amd_wheels() -> list[TinyWheel]:
    """Torch for ROCm 10 on both systems, an older one, and the packages that they depend on."""
    found = [wheel("rocm", "10.0.0"), wheel("rocm-sdk-core", "10.0.0")]
    for platform in ("win_amd64", "linux_x86_64"):
        tag = f"{PYTHON}-{PYTHON}-{platform}"
        for torch, vision, local in (("2.13.0", "0.28.0", "rocm10.0.0"), ("2.12.0", "0.27.0", "rocm7.14.0")):
            runtime = ("rocm", "filelock")
            found.append(with_extras(torch_wheel(f"{torch}+{local}", tag, requires=runtime)))
            found.append(
                with_extras(wheel("torchvision", f"{vision}+{local}", tag, requires=(f"torch=={torch}",)))
            )
    for name in DEVICE.split():
        found += [
            wheel(f"amd-torch-{name}", "2.13.0+rocm10.0.0"),
            wheel(f"amd-torchvision-{name}", "0.28.0+rocm10.0.0"),
        ]
    return found


@pytest.fixture
def amd() -> Iterator[IndexServer]:
    """AMD's multi-arch index: a page for each package, no backends."""
    tree = IndexTree({"": amd_wheels()}, kind="pypi", root="/rocm/whl-multi-arch")
    with IndexServer(default=tree) as server:
        yield server


def machine(folder: Path, data: dict[str, Any]) -> str:
    """A machine file."""
    (folder / "machine.json").write_text(json.dumps({"schema_version": 1, **data}), encoding="utf-8")
    return "machine.json"


def plan(folder: Path, data: dict[str, Any], *argv: str, env: dict[str, str] | None = None) -> RunResult:
    """Plan for a described machine."""
    where = ("--machine", machine(folder, data), "--python-version", MINOR)
    return run(folder, "plan", *where, *argv, env=env)


def tables(folder: Path, url: str, copy: str) -> dict[str, str]:
    """An environment whose tables name a copy in place of a vendor's index."""
    directory = copied(folder)
    path = directory / "vendor_indexes.json"
    path.write_text(path.read_text(encoding="utf-8").replace(url, copy), encoding="utf-8")
    return {"TORCHINSTALL_CATALOG_DIR": str(directory)}


def assert_every_file_exists(data: dict[str, Any], server: IndexServer) -> None:
    files = {path.rpartition("/")[2] for path in server.default.stored}
    assert data["packages"]
    for package in data["packages"]:
        assert package["wheel"] is None or package["wheel"] in files
        assert package["index_url"].rstrip("/") == server.default_index


@pytest.mark.parametrize(("described", "gfx"), [(STRIX_HALO, "gfx1151"), (RX_6600, "gfx1032")])
@pytest.mark.parametrize("slash", ["", "/"])
def test_a_copy_of_amds_index_is_planned_from(
    described: dict[str, Any], gfx: str, slash: str, amd: IndexServer, tmp_path: Path
) -> None:
    result = plan(tmp_path, described, "--index-base", f"{amd.default_index}{slash}", "--json")
    assert result.code == 0, result.err
    data = result.json
    assert data["backend"] == "rocm10.0.0"
    assert [gpu["by"] for gpu in data["gpus"]] == [gfx]
    torch, vision, *runtime = data["packages"]
    assert (torch["version"], torch["extras"]) == ("2.13.0+rocm10.0.0", [f"device-{gfx}"])
    assert (vision["version"], vision["extras"]) == ("0.28.0+rocm10.0.0", [f"device-{gfx}"])
    # Only what the index has is taken from it.
    names = {package["name"] for package in runtime}
    assert names == {"rocm", "rocm-sdk-core", f"amd-torch-device-{gfx}", f"amd-torchvision-device-{gfx}"}
    assert_every_file_exists(data, amd)
    assert not any(row["slug"] == "vendor-index" for row in data["warnings"])


def test_the_hint_leads_on_when_it_is_typed(amd: IndexServer, tmp_path: Path) -> None:
    env = tables(tmp_path, "https://repo.amd.com/rocm/whl-multi-arch/", f"{amd.default_index}/")
    first = plan(tmp_path, STRIX_HALO, "--offline", env=env)
    assert "--vendor-index" in first.err
    assert "warning[vendor-index]" in first.err

    second = plan(tmp_path, STRIX_HALO, "--vendor-index", env=env)
    assert second.code == 0, second.err
    assert "torch[device-gfx1151] 2.13.0+rocm10.0.0" in second.out
    assert "vendor-index" not in second.err
    # What was read a moment ago is enough for a plan without a network.
    assert plan(tmp_path, STRIX_HALO, "--vendor-index", "--offline", env=env).out.count("rocm10.0.0") > 1


def test_an_extra_that_the_user_asks_for_stays(amd: IndexServer, tmp_path: Path) -> None:
    argv = ("torch[device-gfx1151]==2.12.0", "--index-base", amd.default_index, "--json")
    result = plan(tmp_path, STRIX_HALO, *argv)
    assert result.code == 0, result.err
    assert result.json["packages"][0]["version"] == "2.12.0+rocm7.14.0"


def test_it_installs_from_the_vendors_index_and_the_rest_from_pypi(amd: IndexServer, tmp_path: Path) -> None:
    others = IndexTree({"": [wheel("filelock", "3.20.0"), wheel("rocm", "0.0.1")]}, kind="pypi")
    with IndexServer(default=others) as pypi:
        place = here(tmp_path / "env", an_environment(tmp_path, pypi))
        argv = ("auto", "--machine", machine(tmp_path, RX_6600), "--no-verify", "--python", str(place.python))
        result = run(tmp_path, *argv, "--index-base", amd.default_index, env=place.env)
    assert result.code == 0, result.err
    versions = place.versions()
    assert versions["torch"] == "2.13.0+rocm10.0.0"
    assert versions["amd-torch-device-gfx1032"] == "2.13.0+rocm10.0.0"
    assert (versions["rocm"], versions["filelock"]) == ("10.0.0", "3.20.0")
    # The doctor judges it as a build of that index, not as one that PyTorch does not have.
    judged = ("--machine", "machine.json", "--offline", "--no-verify", "--python", str(place.python))
    found = run(tmp_path, "doctor", *judged, env=place.env)
    assert (found.code, "right for this machine" in found.out) == (0, True), found.out


def test_it_is_exported(amd: IndexServer, tmp_path: Path) -> None:
    others = IndexTree({"": [wheel("filelock", "3.20.0")]}, kind="pypi")
    with IndexServer(default=others) as pypi:
        argv = (
            "--machine",
            machine(tmp_path, STRIX_HALO),
            "--python-version",
            MINOR,
            "--index-base",
            amd.default_index,
        )
        env = an_environment(tmp_path, pypi)
        result = run(tmp_path, "export", "--format", "requirements", *argv, env=env)
    assert result.code == 0, result.err
    assert (
        f"torch @ {amd.origin}/packages/torch-2.13.0%2Brocm10.0.0-{PYTHON}-{PYTHON}-win_amd64.whl"
        in result.out
    )
    assert "amd-torch-device-gfx1151" in result.out


def test_orin_on_jetpack_6_takes_builds_made_for_it(tmp_path: Path) -> None:
    tag = f"{PYTHON}-{PYTHON}-linux_aarch64"
    wheels = [
        torch_wheel("2.8.0", tag, cuda="12.6"),
        torch_wheel("2.9.1", tag, cuda="12.6"),
        wheel("torchvision", "0.24.1", tag, requires=("torch==2.9.1",)),
    ]
    with IndexServer(default=IndexTree({"": wheels}, kind="pypi", root="/jp6/cu126")) as jetson:
        direct = plan(tmp_path, ORIN, "--index-base", jetson.default_index, "--json")
        env = tables(tmp_path, "https://pypi.jetson-ai-lab.io/jp6/cu126", jetson.default_index)
        named = plan(tmp_path, ORIN, "--vendor-index", "--json", env=env)
        for result in (direct, named):
            assert result.code == 0, result.err
            data = result.json
            assert (data["backend"], data["packages"][0]["version"]) == ("cu126", "2.9.1")
            assert data["gpus"][0]["covered"]
            assert_every_file_exists(data, jetson)


def test_one_page_with_every_file_is_planned_from(tmp_path: Path) -> None:
    """As NVIDIA publishes builds for JetPack 5: versions of their own, no local version that tells."""
    item = torch_wheel("2.1.0a0+41361538.nv23.6", f"{PYTHON}-{PYTHON}-linux_aarch64", cuda="11.4")
    old = {**ORIN, "l4t": "35.4.1", "os_version": "20.04", "libc": {"family": "glibc", "version": "2.31"}}
    with IndexServer(default=IndexTree({"": [item]}, kind="pypi", root="/redist/jp/v51")) as nvidia:
        page = f"{nvidia.default_index}/torch/"
        real = "https://developer.download.nvidia.com/compute/redist/jp/v51/pytorch/"
        result = plan(tmp_path, old, "torch", "--vendor-index", "--json", env=tables(tmp_path, real, page))
    assert result.code == 0, result.err
    data = result.json
    assert (data["backend"], data["packages"][0]["version"]) == ("cu114", "2.1.0a0+41361538.nv23.6")
    assert data["packages"][0]["index_url"] == f"{page}#links"


def test_any_index_without_backends_is_read_where_its_wheels_say_what_they_are_for(tmp_path: Path) -> None:
    tag = f"{PYTHON}-{PYTHON}-manylinux_2_28_x86_64"
    wheels = [torch_wheel("2.9.1+cu128", tag), torch_wheel("2.9.1+cpu", tag)]
    with IndexServer(default=IndexTree({"": wheels}, kind="pypi", root="/our/wheels")) as server:
        argv = ("torch", "--target-gpu", "sm_90", "--target-driver", "580", "--python-version", MINOR)
        result = run(tmp_path, "plan", *argv, "--index-base", server.default_index, "--json")
    assert result.code == 0, result.err
    assert (result.json["backend"], result.json["gpus"][0]["by"]) == ("cu128", "sm_90")


def test_a_machine_that_no_vendor_serves_is_told_so(tmp_path: Path) -> None:
    result = run(tmp_path, "plan", "--target-gpu", "sm_90", "--python-version", MINOR, "--vendor-index")
    assert (result.code, "error[no-vendor-index]" in result.err) == (2, True)


def test_a_vendors_index_that_does_not_answer_is_an_error_and_no_cpu_build(tmp_path: Path) -> None:
    with IndexServer() as server:
        gone = server.origin
    result = plan(tmp_path, STRIX_HALO, "--index-base", f"{gone}/rocm/whl-multi-arch")
    assert (result.code, "error[index-unreachable]" in result.err) == (8, True)
    result = plan(tmp_path, STRIX_HALO, "--vendor-index", "--offline")
    assert (result.code, "error[index-not-found]" in result.err) == (8, True)
