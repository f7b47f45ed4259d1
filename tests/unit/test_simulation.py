"""The simulation in small, the oracle against facts known by heart, and the judge against wrong plans."""

from __future__ import annotations

import dataclasses

import pytest
from msgspec import structs

from tests.simulation.__main__ import main
from tests.simulation.case import Case, System
from tests.simulation.facts import GUESS, NO, PROVEN
from tests.simulation.hardware import AMD, INTEL, NVIDIA, NVIDIA_ARM, Part
from tests.simulation.judge import judge
from tests.simulation.machines import all_cases
from tests.simulation.oracle import Box, Device, compiles, runs
from tests.simulation.published import companions_of, offers
from tests.simulation.questions import ARM, LINUX, WINDOWS
from tests.simulation.run import plan_for
from tests.simulation.slices import slices
from torchinstall.core.errors import NoCompatibleBuildError
from torchinstall.core.plan import Plan

_DESKTOP = {"3.5", "3.7", "5.0", "5.2", "6.0", "6.1", "7.0", "7.5", "8.0", "8.6", "8.9"}
_DESKTOP |= {"9.0", "10.0", "10.3", "12.0", "12.1"}
_BY_CODE = {part.code: part for part in (*NVIDIA, *AMD)}


def test_every_plan_for_a_fair_pick_of_all_machines_exists_and_runs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--pick", "1500", "--jobs", "1", "--show", "2"]) == 0, capsys.readouterr().out


def test_the_full_simulation_has_at_least_ten_thousand_machines() -> None:
    cases = all_cases(20_500, 1)
    assert len(cases) == len(set(cases)) >= 10_000
    groups = {case.group for case in cases}
    assert len(groups) >= 20
    codes = {part.code for case in cases for part in case.parts if part.vendor == "nvidia"}
    assert codes >= _DESKTOP
    assert codes >= {"5.3", "7.2", "8.7", "11.0"}  # Jetson


def test_the_sample_is_the_same_for_the_same_seed() -> None:
    count = sum(1 for _ in dict.fromkeys(slices())) + 200
    assert all_cases(count, 7)[-200:] == all_cases(count, 7)[-200:] != all_cases(count, 8)[-200:]


def _box(driver: str, cuda: str, platform: str = "linux_x86_64", **more: bool) -> Box:
    return Box(platform, driver, cuda, windows_driver=more.get("windows", platform.startswith("win")))


_R580 = _box("580.126.09", "13.0")
_W581 = _box("581.42", "13.0", "win_amd64")


@pytest.mark.parametrize(
    ("backend", "torch", "code", "box", "wanted"),
    [
        ("cu126", (2, 14), "6.1", _R580, "sm_60"),  # GTX 1080 Ti: the last build for Pascal
        ("cu130", (2, 14), "6.1", _R580, None),
        ("cu128", (2, 8), "7.0", _R580, "sm_70"),  # V100: cu128 carried it in 2.8 to 2.10 only
        ("cu128", (2, 7), "7.0", _R580, None),
        ("cu128", (2, 11), "7.0", _R580, None),
        ("cu124", (2, 5), "12.0", _R580, None),  # RTX 5090
        ("cu128", (2, 7), "12.0", _R580, "sm_120"),
        ("cu118", (2, 7), "8.0", _box("470.256.02", "11.4"), "sm_80"),  # minor-version compatibility
        ("cu121", (2, 5), "8.0", _box("470.256.02", "11.4"), None),
        ("cu118", (2, 7), "3.7", _box("470.256.02", "11.4"), "sm_37"),  # K80
        ("cu102", (1, 12), "3.7", _box("440.100", "10.2"), "sm_37"),
        ("cu102", (1, 12), "3.7", _box("418.226.00", "10.1"), None),  # no such thing before CUDA 11
        ("cu126", (2, 14), "6.1", _W581, "sm_61"),  # Windows 581.42 is of R580, which still serves Pascal
        ("cu118", (2, 7), "3.7", _box("475.14", "11.4", "win_amd64"), "sm_37"),
        ("cu126", (2, 14), "6.1", _box("590.48.01", "13.1"), None),  # R590 dropped Pascal
        ("cu126", (2, 14), "8.9", _box("527.41", "12.0", "win_amd64"), None),  # the Windows floor is higher
        ("cu126", (2, 14), "8.9", _box("527.41", "12.0", windows=True), None),  # and WSL has that driver
        ("cu126", (2, 14), "8.9", _box("527.41", "12.0"), "sm_86"),
        ("cu132", (2, 14), "12.1", _box("580.65.06", "13.0", "linux_aarch64"), "sm_120"),  # GB10
        ("cu130", (2, 14), "11.0", _box("580.65.06", "13.0", "linux_aarch64"), "sm_110"),  # Thor
        ("cu130", (2, 9), "11.0", _box("580.65.06", "13.0"), None),  # in aarch64 builds only
        ("cu126", (2, 14), "7.5", _box("580.65.06", "13.0", "linux_aarch64"), None),
        ("cu118", (2, 5), "8.6", _box("455.45.01", "11.1"), "sm_86"),
        ("cu118", (2, 5), "8.6", _box("452.06", "11.0", "win_amd64"), None),
        ("cu113", (1, 12), "8.9", _box("522.25", "11.8", "win_amd64"), "sm_86"),
        ("cu113", (1, 12), "9.0", _box("522.25", "11.8", "win_amd64"), "compute_37"),
    ],
)
def test_the_oracle_knows_who_runs_what_on_nvidia(
    backend: str, torch: tuple[int, int], code: str, box: Box, wanted: str | None
) -> None:
    trust, by = runs(backend, torch, Device("nvidia", code), box)
    assert (by if trust else None) == wanted


def test_orin_runs_ordinary_builds_from_cuda_13_2_on_jetpack_7() -> None:
    orin = Device("nvidia", "8.7")
    new = Box("linux_aarch64", "595.45.04", "13.2", l4t=39)
    assert runs("cu132", (2, 14), orin, new) == (PROVEN, "sm_80")
    assert runs("cu130", (2, 14), orin, new)[0] == NO
    assert runs("cu132", (2, 14), orin, dataclasses.replace(new, l4t=36))[0] == NO


def test_the_oracle_knows_amd_and_intel() -> None:
    linux = Box("linux_x86_64")
    assert runs("rocm6.3", (2, 9), Device("amd", "gfx906"), linux)[0] == PROVEN
    assert runs("rocm6.4", (2, 9), Device("amd", "gfx906"), linux)[0] == NO
    assert runs("rocm7.2", (2, 14), Device("amd", "gfx906"), linux)[0] == NO
    assert runs("rocm7.14", (2, 14), Device("amd", "gfx906"), linux)[0] == NO
    assert runs("rocm7.2", (2, 12), Device("amd", "gfx1103"), linux)[0] == NO
    assert runs("rocm7.2", (2, 14), Device("amd", "gfx1100"), Box("win_amd64"))[0] == NO
    assert runs("xpu", (2, 14), Device("intel", "8086:e20b"), linux)[0] == PROVEN  # Arc B580
    assert runs("xpu", (2, 14), Device("intel", "8086:4680"), linux)[0] == NO  # UHD 770
    assert runs("xpu", (2, 14), Device("intel", "8086:d750"), linux)[0] == GUESS  # Nova Lake


def test_the_oracle_knows_kernels_macs_and_compilers() -> None:
    strix = Device("amd", "gfx1151")
    assert runs("rocm7.1", (2, 10), strix, Box("linux_x86_64", kernel="6.18.3"))[0] == PROVEN
    assert runs("rocm7.1", (2, 10), strix, Box("linux_x86_64", kernel="6.18.4"))[0] == NO
    assert runs("rocm7.2", (2, 11), strix, Box("linux_x86_64", kernel="6.18.4"))[0] == PROVEN
    apple = Device("apple", "M3")
    macs = {(minor, version) for minor in ((2, 4), (2, 8), (2, 9)) for version in ("12.5", "13.6", "14.0")}
    working = {key for key in macs if runs("cpu", key[0], apple, Box("macos_arm64", macos=key[1]))[0]}
    assert macs - working == {((2, 8), "12.5"), ((2, 9), "12.5"), ((2, 9), "13.6")}
    r575, r580 = Box("linux_x86_64", "575.57.08", "12.9"), Box("linux_x86_64", "580.95.05", "13.0")
    assert not compiles((2, 13), (10, 0), r575)
    assert compiles((2, 11), (10, 0), r575)
    assert compiles((2, 13), (10, 0), r580)
    assert compiles((2, 13), (9, 0), r575)
    assert not compiles((2, 9), (12, 1), r580)
    assert not compiles((2, 14), (6, 1), r580)


def test_the_oracle_knows_what_was_published() -> None:
    def torch(version: str, backend: str, platform: str = "linux_x86_64", python: str = "cp312-cp312") -> int:
        return max((offer.trust for offer in offers("torch", version, backend, platform, python)), default=NO)

    assert torch("2.14.1", "cu126") == PROVEN
    assert torch("2.15.0", "cu126") == NO
    assert torch("2.15.0", "cu132") == PROVEN
    assert torch("2.15.0", "rocm7.14") == GUESS
    assert torch("2.9.1", "cu129", "win_amd64") == NO
    assert torch("2.13.0", "cu130", python="cp315-cp315t") == PROVEN
    assert torch("2.12.1", "cu130", python="cp313-cp313t") == NO
    assert torch("2.8.0", "cu128", python="cp38-cp38") == NO
    assert companions_of("2.15.0", "torchaudio") == ("2.11.0",)
    assert "0.29.2" in companions_of("2.14.1", "torchvision")
    assert companions_of("2.9.1", "torchvision") == ("0.24.1",)


_RIGHT = Case("", LINUX, (_BY_CODE["8.6"],), driver="550.163.01")
_PASCAL = Case("", LINUX, (_BY_CODE["6.1"],), driver="580.126.09")


def _with(plan: Plan, torch: str, backend: str, vision: str) -> Plan:
    versions = {"torch": torch, "torchvision": vision}
    packages = tuple(
        structs.replace(
            package,
            version=f"{versions[package.name]}+{backend}",
            wheel=None,
            index_url=f"https://download.pytorch.org/whl/{backend}",
        )
        for package in plan.packages
        if package.name in versions
    )
    return structs.replace(plan, backend=backend, packages=packages)


def _rules(case: Case, plan: Plan) -> set[str]:
    return {rule for rule, _ in judge(case, plan)}


def test_the_judge_finds_nothing_wrong_with_a_right_plan() -> None:
    assert judge(_RIGHT, plan_for(_RIGHT)) == []


@pytest.mark.parametrize(
    ("torch", "backend", "vision", "rule"),
    [
        ("2.13.0", "cu126", "0.28.0", "newest"),
        ("2.14.1", "cu130", "0.29.1", "runs"),
        ("2.14.1", "cpu", "0.29.1", "traded away"),
        ("2.15.0", "cu126", "0.29.2", "exists"),
        ("2.14.1", "cu126", "0.24.1", "pairs"),
        ("2.14.1", "rocm7.2", "0.29.1", "runs"),
    ],
)
def test_the_judge_finds_a_wrong_build(torch: str, backend: str, vision: str, rule: str) -> None:
    assert rule in _rules(_RIGHT, _with(plan_for(_RIGHT), torch, backend, vision))


def test_the_judge_finds_the_wrong_toolkit_for_a_driver() -> None:
    case = Case("", LINUX, (_BY_CODE["8.6"],), driver="595.45.04", pins=("torch==2.14.1",))
    wrong = _with(plan_for(case), "2.14.1", "cu126", "0.29.1")
    assert _rules(case, wrong) == {"toolkit"}


def test_the_judge_finds_a_gpu_that_is_said_to_be_covered() -> None:
    plan = plan_for(_PASCAL)
    lying = structs.replace(
        _with(plan, "2.14.1", "cu130", "0.29.1"),
        gpus=tuple(structs.replace(gpu, covered=True, by="sm_75") for gpu in plan.gpus),
    )
    assert "runs" in _rules(_PASCAL, lying)


def test_the_judge_finds_missing_packages_broken_pins_and_silence() -> None:
    plan = plan_for(_RIGHT)
    torch_only = tuple(package for package in plan.packages if package.name == "torch")
    assert "complete" in _rules(_RIGHT, structs.replace(plan, packages=torch_only))
    pinned = dataclasses.replace(_RIGHT, pins=("torch==2.5.1",))
    assert "pins" in _rules(pinned, plan)
    windows_amd = Case("", WINDOWS, (_BY_CODE["gfx1100"],))
    silent = structs.replace(plan_for(windows_amd), warnings=())
    assert _rules(windows_amd, silent) >= {"names losers"}
    b300 = Case("", LINUX, (_BY_CODE["10.3"],), packages=("torch",), driver="580.126.09")
    guess = _with(plan_for(b300), "2.10.0", "cu129", "0.25.0")
    assert "says so" in _rules(b300, structs.replace(guess, warnings=()))


def test_the_judge_finds_refusals_that_nothing_justifies() -> None:
    blackwell = Case("", LINUX, (_BY_CODE["12.0"],), driver="580.126.09", pins=("torch==2.5.1",))
    refused = plan_for(blackwell)
    assert refused.error is not None
    assert judge(blackwell, refused) == []
    assert _rules(_RIGHT, refused) == {"refusal"}
    assert _rules(dataclasses.replace(blackwell, allow_cpu=True), refused) == {"refusal"}
    nameless = NoCompatibleBuildError(refused.error.slug, "no", hints=("pip",))
    assert _rules(blackwell, structs.replace(refused, error=nameless)) == {"way out"}


def test_mixed_gpus_are_all_covered_where_one_build_covers_them() -> None:
    case = Case("", WINDOWS, (_BY_CODE["6.1"], _BY_CODE["12.0"]), "3.11", "580.88")
    plan = plan_for(case)
    assert judge(case, plan) == []
    assert "covers more" in _rules(case, _with(plan, "2.14.1", "cu130", "0.29.1"))


def test_a_case_says_how_to_put_it_to_the_command() -> None:
    thor = Part("nvidia", "NVIDIA Thor", "11.0", discrete=False)
    case = Case("", ARM, (thor, *NVIDIA_ARM[:1]), "3.13t", "580.65.06", declared=True, pins=("torch<2.14",))
    line = case.reproduce()
    assert "'--target-gpu' 'sm_110' '--target-gpu' 'sm_90' '--target-driver' '580.65.06'" in line
    assert "'--python-version' '3.13t'" in line
    assert line.startswith("echo '{")
    assert Case("", System("linux", glibc="2.17"), (INTEL[0],)).reproduce().endswith("'torch' 'torchvision'")
