"""Wheel variants: read from a page, chosen by our planner, installed by a uv that cannot choose another."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.support import RunResult, run
from tests.support.index_server import IndexServer
from tests.support.index_tree import IndexTree
from tests.support.installing import an_environment, here
from tests.support.variant_wheels import nvidia, variant_wheels
from tests.support.wheelhouse import torch_wheel, wheel, write_wheels
from torchinstall.index.wheels import parse_name, read_variants, variant_code

PYTHON = f"cp3{sys.version_info[1]}"
MINOR = f"3.{sys.version_info[1]}"
TAG = f"{PYTHON}-{PYTHON}-manylinux_2_17_x86_64"
CODE = {"cu126": ("12.6", ("6.0", "7.0", "9.0")), "cu130": ("13.0", ("7.5", "9.0", "12.0"))}


@pytest.fixture
def index() -> Iterator[IndexServer]:
    """One flat index with two CUDA variants, a CPU one and a plain wheel of one torch, and a dependency."""
    variants = {
        label: (torch_wheel("2.14.1", TAG, cuda=toolkit, requires=("filelock",)), nvidia(toolkit, sm))
        for label, (toolkit, sm) in CODE.items()
    }
    variants["null"] = (torch_wheel("2.14.1", TAG, requires=("filelock",)), {})
    tree = IndexTree(kind="pypi", root="/variants")
    tree.add("", *variant_wheels(variants), described=False)
    tree.add("", torch_wheel("2.14.1", TAG), wheel("filelock", "3.20.0"))
    with IndexServer(default=tree) as server:
        yield server


def plan(folder: Path, index: IndexServer, driver: str, gpu: str, *argv: str) -> RunResult:
    where = ("--index-base", index.default_index, "--python-version", MINOR)
    return run(
        folder, "plan", "torch", *where, "--target-driver", driver, "--target-gpu", gpu, "--json", *argv
    )


def test_names_with_a_label() -> None:
    found = parse_name(f"torch-2.14.1-{TAG}-cu130.whl", variants=True)
    assert found is not None
    assert (found.package, found.build, found.platform_tag, found.variant) == (
        "torch",
        "",
        "manylinux_2_17_x86_64",
        "cu130",
    )
    assert parse_name(f"torch-2.14.1-1-{TAG}-cu130.whl", variants=True) is not None
    for ordinary in (f"torch-2.14.1-{TAG}.whl", f"torch-2.14.1-1-{TAG}.whl", "torch-2.14.1.tar.gz"):
        found = parse_name(ordinary, variants=True)
        assert found is None or not found.variant
    assert parse_name(f"torch-2.14.1-{TAG}-cu130.whl") is None


def test_properties_become_a_build() -> None:
    text = '{"cuda_version_lower_bound": ["12.8"], "sm_arch": ["90a_real", "120"]}'
    row = parse_name(f"torch-2.14.1-{TAG}-cu130.whl", variants=True)
    assert row is not None
    build = variant_code(row, read_variants(f'{{"variants": {{"a": {{"nvidia": {text}}}}}}}')["a"])
    assert build is not None
    assert (build.backend, build.native, build.ptx) == ("cu128", ("9.0", "12.0"), ("12.0",))
    assert variant_code(row, {"amd": {"gfx_arch": ("gfx942",)}}) is None
    assert variant_code(row, {"nvidia": {"sm_arch": ("90_real",)}}) is None
    with pytest.raises(ValueError, match="no list of variants"):
        read_variants("<html>")


@pytest.mark.parametrize(
    ("driver", "gpu", "label", "by"),
    [
        ("580", "sm_120", "cu130", "sm_120"),
        ("580", "sm_61", "cu126", "sm_60"),
        # uv counts the CUDA version of R535 (12.2) and takes CPU; minor-version compatibility runs 12.6.
        ("535", "sm_90", "cu126", "sm_90"),
        ("550", "sm_86", None, None),
    ],
)
def test_our_planner_chooses(
    driver: str, gpu: str, label: str | None, by: str | None, index: IndexServer, tmp_path: Path
) -> None:
    result = plan(tmp_path, index, driver, gpu)
    assert result.code == 0, result.err
    torch = result.json["packages"][0]
    if label is None:  # nothing of this torch runs on the GPU: CPU, and it says so
        assert (torch["variant"], result.json["backend"]) == ("null", "cpu")
        assert "warning[gpu-not-used]" in result.err
        return
    assert (torch["variant"], result.json["backend"]) == (label, label)
    assert result.json["gpus"][0]["by"] == by
    assert torch["url"].endswith(f"/torch-2.14.1-{TAG}-{label}.whl")
    assert torch["sha256"] is not None
    assert result.json["env"] == {
        "NV_VARIANT_PROVIDER_FORCE_CUDA_DRIVER_VERSION": CODE[label][0],
        "NV_VARIANT_PROVIDER_FORCE_SM_ARCH": f"{gpu[3:-1]}.{gpu[-1]}",
    }


def test_uv_installs_what_was_chosen_and_doctor_knows_it(index: IndexServer, tmp_path: Path) -> None:
    place = here(tmp_path / "env", an_environment(tmp_path, index))
    where = ("--index-base", index.default_index, "--python", place.python)
    machine = ("--target-driver", "535", "--target-gpu", "sm_90")
    result = run(tmp_path, "auto", "torch", *where, *machine, "--no-verify", env=place.env)
    assert result.code == 0, result.err
    installed = {item.name: item for item in place.ask().target.installed}
    assert (installed["torch"].variant, installed["torch"].backend) == ("cu126", "cu126")
    assert place.versions()["filelock"] == "3.20.0"
    again = run(tmp_path, "plan", "torch", *where, *machine, "--json", env=place.env)
    assert again.json["status"] == "satisfied"
    said = run(tmp_path, "doctor", "--offline", "--python", place.python, "--no-verify", env=place.env)
    assert "wheel variant cu126" in said.out


def test_a_requirements_file_pins_the_variant(index: IndexServer, tmp_path: Path) -> None:
    where = ("--index-base", index.default_index, "--python-version", MINOR)
    machine = ("--target-driver", "580", "--target-gpu", "sm_120")
    for name in ("requirements", "pylock"):
        env = an_environment(tmp_path, index)
        result = run(tmp_path, "export", "--format", name, "torch", *where, *machine, env=env)
        assert result.code == 0, result.err
        assert f"torch-2.14.1-{TAG}-cu130.whl" in result.out
        assert "sha256" in result.out
        assert "filelock" in result.out


def test_a_list_of_variants_that_cannot_be_read_leaves_none(index: IndexServer, tmp_path: Path) -> None:
    index.default.remove("torch-2.14.1-variants.json")
    result = plan(tmp_path, index, "580", "sm_120")
    assert result.code != 0 or result.json["packages"][0]["variant"] is None


def test_inspect_prints_the_properties(tmp_path: Path) -> None:
    item = torch_wheel("2.14.1", TAG, cuda="13.0")
    (path, _) = write_wheels(tmp_path, variant_wheels({"cu130": (item, nvidia("13.0", ("9.0",), ("12.0",)))}))
    data = run(tmp_path, "inspect", "--json", path.name).json
    assert data["variant"] == [
        "nvidia :: cuda_version_lower_bound :: 13.0",
        "nvidia :: sm_arch :: 90_real",
        "nvidia :: sm_arch :: 120_virtual",
    ]
