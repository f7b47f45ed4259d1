"""The facts that people trip over most, read from the shipped tables as the planner reads them."""

from __future__ import annotations

import pytest

from torchinstall.catalog.catalog import Catalog, load_catalog
from torchinstall.catalog.model import Wheels
from torchinstall.catalog.tables import platform_of
from torchinstall.core.versions import dotted


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load_catalog()


def rows(
    catalog: Catalog, package: str, platform: str, *, backend: str | None = None, origin: str = "index"
) -> list[Wheels]:
    return [
        row
        for row in catalog.wheels(package, platform)
        if row.origin == origin and (backend is None or row.backend == backend)
    ]


def newest(found: list[Wheels]) -> str:
    return max((row.version for row in found), key=dotted)


def tags(found: list[Wheels], version: str) -> set[str]:
    return {tag for row in found if row.version == version for tag in row.tags}


def native(catalog: Catalog, torch: str, backend: str, platform: str = "linux_x86_64") -> set[str]:
    info = catalog.backend(backend)
    assert info is not None
    code = catalog.code(torch, info, platform)
    assert code is not None
    assert code.assumed is None
    return set(code.native)


@pytest.mark.parametrize("platform", ["linux_x86_64", "win_amd64"])
def test_cuda_126_ends_with_2_14_1(catalog: Catalog, platform: str) -> None:
    assert newest(rows(catalog, "torch", platform, backend="cu126")) == "2.14.1"
    info = catalog.backend("cu126")
    assert info is not None
    assert info.retired == "2.14.1"


@pytest.mark.parametrize(
    ("torch", "platform", "has_volta"),
    [
        ("2.7.0", "linux_x86_64", False),
        ("2.8.0", "linux_x86_64", True),
        ("2.10.0", "linux_x86_64", True),
        ("2.11.0", "linux_x86_64", False),
        ("2.7.0", "win_amd64", True),
    ],
)
def test_cuda_128_carries_volta_only_sometimes(
    catalog: Catalog, torch: str, platform: str, has_volta: bool
) -> None:
    assert ("7.0" in native(catalog, torch, "cu128", platform)) is has_volta


def test_windows_cuda_128_once_reached_down_to_maxwell_and_pascal(catalog: Catalog) -> None:
    assert {"5.0", "6.1"} <= native(catalog, "2.7.0", "cu128", "win_amd64")
    assert "6.1" in native(catalog, "2.8.0", "cu128", "win_amd64")
    assert not {"5.0", "6.0", "6.1"} & native(catalog, "2.8.0", "cu128")


def test_aarch64_has_no_turing_and_thor_only_with_cuda_13(catalog: Catalog) -> None:
    for row in catalog.tables.code:
        if row.platform == "linux_aarch64":
            assert "7.5" not in row.native
            assert ("11.0" in row.native) <= row.backend.startswith("cu13")
        elif row.backend.startswith("cu"):
            assert "11.0" not in row.native
    assert "11.0" in native(catalog, "2.9.0", "cu130", "linux_aarch64")


def test_measured_release_wheels_from_2_11_on_hold_no_ptx(catalog: Catalog) -> None:
    for row in catalog.tables.code:
        if dotted(row.torch) >= (2, 11) and row.backend in ("cu130", "cu132") and row.confidence == "high":
            assert row.ptx == ()


def test_what_pypi_installs_on_linux(catalog: Catalog) -> None:
    found = {row.version: row.backend for row in rows(catalog, "torch", "linux_x86_64", origin="default")}
    assert found["2.10.0"] == "cu128"
    assert found["2.11.0"] == found["2.14.1"] == "cu130"
    assert found["2.15.0"] == "cu132"
    assert {row.local for row in rows(catalog, "torch", "linux_x86_64", origin="default")} == {""}
    assert {row.backend for row in rows(catalog, "torch", "win_amd64", origin="default")} == {"cpu"}


def test_torchaudio_is_frozen_and_absent_on_cuda_132(catalog: Catalog) -> None:
    assert rows(catalog, "torchaudio", "linux_x86_64", backend="cu132") == []
    companion = catalog.companion("2.14.1", "torchaudio")
    assert companion is not None
    assert (companion.version, companion.exact) == ("2.11.0", False)


def test_torchvision_pins_torch_until_0_29_0(catalog: Catalog) -> None:
    exact = {
        torch: catalog.companion(torch, "torchvision") for torch in ("2.9.1", "2.14.0", "2.14.1", "2.15.0")
    }
    assert [(row.version, row.exact) for row in exact.values() if row] == [
        ("0.24.1", True),
        ("0.29.0", True),
        ("0.29.1", False),
        ("0.29.2", False),
    ]


def test_old_aarch64_companions_have_no_local_version_beside_cuda(catalog: Catalog) -> None:
    for package, last in (("torchvision", (0, 24, 1)), ("torchaudio", (2, 9, 1))):
        for row in rows(catalog, package, "linux_aarch64"):
            assert row.local == ("" if dotted(row.version) <= last else row.backend)


def test_rocm_7_14_is_newer_than_7_2_and_drops_vega(catalog: Catalog) -> None:
    new, old = catalog.backend("rocm7.14"), catalog.backend("rocm7.2")
    assert new is not None
    assert old is not None
    assert (new.toolkit or ()) > (old.toolkit or ())
    assert not {"gfx900", "gfx906"} & native(catalog, "2.14.0", "rocm7.14")
    assert {"gfx900", "gfx906"} <= native(catalog, "2.14.0", "rocm7.2")


def test_macs(catalog: Catalog) -> None:
    assert newest(rows(catalog, "torch", "macos_x86_64", origin="default")) == "2.2.2"
    for row in rows(catalog, "torch", "macos_arm64", origin="default"):
        if dotted(row.version) >= (2, 12):
            assert row.platform_tag == "macosx_14_0_arm64"


@pytest.mark.parametrize(
    ("tag", "first", "last"),
    [
        ("cp39-cp39", "1.11.0", "2.8.0"),
        ("cp312-cp312", "2.2.0", "2.15.0"),
        ("cp313-cp313t", "2.6.0", "2.12.0"),
    ],
)
def test_pythons_on_linux(catalog: Catalog, tag: str, first: str, last: str) -> None:
    found = [row for row in rows(catalog, "torch", "linux_x86_64") if tag in row.tags]
    assert (min((row.version for row in found), key=dotted), newest(found)) == (first, last)


def test_python_3_15_on_the_index_came_with_2_13_and_only_where_seen(catalog: Catalog) -> None:
    found = [
        row
        for row in rows(catalog, "torch", "linux_x86_64")
        if "cp315-cp315" in row.tags and dotted(row.version) < (2, 14)
    ]
    assert {(row.version, row.backend) for row in found} == {
        ("2.13.0", name) for name in ("cpu", "cu126", "cu130")
    }


def test_torch_2_15_on_the_index_is_never_certain(catalog: Catalog) -> None:
    for platform in ("linux_x86_64", "linux_aarch64", "win_amd64", "win_arm64"):
        for row in rows(catalog, "torch", platform):
            assert row.version != "2.15.0" or row.confidence != "high"


def test_plain_cpu_wheels_at_the_root_never_count_as_cuda(catalog: Catalog) -> None:
    found = [row for row in rows(catalog, "torch", "linux_aarch64") if row.version == "2.0.1"]
    assert {row.backend for row in found} == {"cpu"}


def test_rocm_and_xpu_triton_lie_beside_the_torch_that_needs_them(catalog: Catalog) -> None:
    for torch, package, backend in (
        ("2.9.1", "pytorch-triton-rocm", "rocm6.4"),
        ("2.11.0", "triton-rocm", "rocm7.2"),
        ("2.9.0", "pytorch-triton-xpu", "xpu"),
    ):
        companion = catalog.companion(torch, package)
        assert companion is not None
        found = rows(catalog, package, "linux_x86_64", backend=backend)
        assert companion.version in {row.version for row in found}


def test_drivers(catalog: Catalog) -> None:
    served = {row.capability: row.last_branch for row in catalog.tables.gpu_service}
    assert served["3.7"] == 470
    assert served["6.1"] == served["7.0"] == 580
    assert served["7.5"] is None
    assert catalog.cuda_of_branch(550) == "12.4"
    assert catalog.cuda_of_branch(470) == "11.4"


@pytest.mark.parametrize(
    ("vendor", "pci_id", "code"),
    [
        ("nvidia", "10de:2684", "8.9"),
        ("nvidia", "10de:1b06", "6.1"),
        ("amd", "1002:744c", "gfx1100"),
        ("amd", "1002:1586", "gfx1151"),
        ("intel", "8086:e20b", "BMG"),
    ],
)
def test_products_by_pci_id(catalog: Catalog, vendor: str, pci_id: str, code: str) -> None:
    fact = catalog.gpu_fact(vendor, pci_id, None)
    assert fact is not None
    assert fact.code == code


@pytest.mark.parametrize(
    ("vendor", "name", "code"),
    [
        ("nvidia", "NVIDIA H100 80GB HBM3", "9.0"),
        ("nvidia", "GeForce RTX 5090", "12.0"),
        ("nvidia", "NVIDIA GeForce GTX 1080 Ti", "6.1"),
        ("nvidia", "NVIDIA GeForce RTX 3060 12GB", "8.6"),
        ("nvidia", "Jetson AGX Orin", "8.7"),
        ("amd", "Radeon RX 7900 XTX", "gfx1100"),
        ("amd", "AMD Instinct MI300X", "gfx942"),
        ("amd", "MI250X", "gfx90a"),
        ("intel", "Intel Arc B580 Graphics", "BMG"),
    ],
)
def test_products_by_name(catalog: Catalog, vendor: str, name: str, code: str) -> None:
    fact = catalog.gpu_fact(vendor, None, name)
    assert fact is not None
    assert fact.code == code


def test_a_name_sold_with_several_chips_decides_nothing(catalog: Catalog) -> None:
    fact = catalog.gpu_fact("nvidia", None, "GeForce GTX 860M")
    assert fact is None or fact.code is None


def test_integrated_and_unsupported_intel_graphics(catalog: Catalog) -> None:
    uhd = catalog.gpu_fact("intel", "8086:4680", None)
    assert uhd is not None
    assert (uhd.supported, uhd.integrated) == (False, True)
    arc = catalog.gpu_fact("intel", "8086:e20b", None)
    assert arc is not None
    assert (arc.supported, arc.integrated) == (True, False)


def test_vendor_indexes(catalog: Catalog) -> None:
    windows = catalog.advice("amd", "gfx1100", "windows")
    assert [row.confidence for row in windows] == ["high"]
    assert catalog.advice("amd", "gfx1201", "windows")[0].confidence == "low"
    assert catalog.advice("nvidia", "l4t36", "linux")[0].url.startswith("https://")


def test_every_wheel_of_a_plan_has_a_platform(catalog: Catalog) -> None:
    assert {platform_of(row.platform_tag) for row in catalog.tables.wheels} == {
        "any",
        "linux_x86_64",
        "linux_aarch64",
        "win_amd64",
        "win_arm64",
        "macos_arm64",
        "macos_x86_64",
    }
