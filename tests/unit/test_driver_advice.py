"""What to do about a driver: computed from every build that some driver would let run."""

from __future__ import annotations

import pytest
from msgspec import structs

from tests.support.planning import amd, decide, intel, linux, mac, nvidia, windows
from torchinstall.core.machine import Driver, Gpu, Libc, Machine
from torchinstall.core.plan import Plan


def jetson(l4t: str) -> Machine:
    """A board whose GPU nothing describes further; its driver is part of the system."""
    board = linux(Gpu(vendor="nvidia", index=0, name="Jetson"), arch="aarch64", l4t=l4t)
    return structs.replace(board, drivers=(Driver(vendor="nvidia"),))


def said(plan: Plan) -> str:
    return next(w.message for w in plan.warnings if w.slug == "gpu-not-used")


@pytest.mark.parametrize(
    ("name", "code", "driver", "parts"),
    [
        ("Tesla K80", "3.7", "418.67", ["update the driver: 450.80.02 to R470", "cu118"]),
        ("Tesla K80", "3.7", "580.95.05", ["older driver: 450.80.02 to R470", "cu118"]),
        ("Quadro P400", "6.1", "418.43", ["525.60.13 to R580", "cu126", "450.80.02 to R580", "cu118"]),
        ("GeForce GTX 1080 Ti", "6.1", "595.45.04", ["older driver: 525.60.13 to R580", "2.14.1+cu126"]),
        ("Tesla V100", "7.0", "595.45.04", ["older driver: 525.60.13 to R580", "2.14.1+cu126"]),
        ("GeForce GTX 580", "2.0", "580.95.05", ["no published torch for Python 3.12", "any driver"]),
        ("GeForce GTX 580", "2.0", "390.157", ["no published torch for Python 3.12", "any driver"]),
        ("GeForce GTX 780", "3.5", "470.256.02", ["no published torch for Python 3.12", "any driver"]),
        (
            "NVIDIA GeForce RTX 5090",
            "12.0",
            "550.163.01",
            ["update the driver", "580 or newer", "R570 or newer"],
        ),
        ("NVIDIA H100", "9.0", "470.256.02", ["update the driver", "580 or newer", "R520 or newer"]),
        ("NVIDIA B300", "10.3", "575.57.08", ["update the driver: 580 or newer"]),
    ],
)
def test_the_drivers_that_would_work_are_named(name: str, code: str, driver: str, parts: list[str]) -> None:
    plan = decide(linux(nvidia(name, code), driver=driver))
    assert plan.backend == "cpu"
    for part in parts:
        assert part in said(plan), said(plan)


def test_following_the_advice_works() -> None:
    """Every driver that is named runs the build that is named beside it."""
    for driver in ("450.80.02", "470.256.02"):
        assert decide(linux(nvidia("Tesla K80", "3.7"), driver=driver)).torch == "2.7.1+cu118"
    for driver in ("525.60.13", "580.95.05"):
        assert decide(linux(nvidia("Tesla V100", "7.0"), driver=driver)).torch == "2.14.1+cu126"


def test_windows_counts_its_own_driver_numbers() -> None:
    plan = decide(windows(nvidia("NVIDIA GeForce GTX 1080 Ti", "6.1"), driver="417.35"))
    assert "528.33 to R580" in said(plan)


def test_the_driver_is_blamed_where_it_is_the_driver() -> None:
    plan = decide(linux(nvidia("NVIDIA GeForce RTX 3090", "8.6"), driver="470.256.02"), "torch==2.2.1+cu121")
    assert plan.error is not None
    assert plan.error.slug == "driver-too-old"
    assert plan.error.found == "driver 470.256.02"
    assert plan.error.hints[0].startswith("update the driver: 525.60.13 or newer")
    assert plan.error.hints[1] == "or ask for torch==2.2.1+cu118, which runs here"
    follow = decide(
        linux(nvidia("NVIDIA GeForce RTX 3090", "8.6"), driver="470.256.02"), "torch==2.2.1+cu118"
    )
    assert follow.torch == "2.2.1+cu118"


@pytest.mark.parametrize(("backend", "driver"), [("cu121", "470.256.02"), ("cu128", "550.54.14")])
def test_no_output_says_both_that_it_cannot_run_and_that_it_runs(backend: str, driver: str) -> None:
    plan = decide(linux(nvidia("NVIDIA GeForce GTX 1060", "6.1"), driver=driver), backend=backend)
    slugs = [w.slug for w in plan.warnings]
    assert "backend-cannot-run" in slugs
    assert "toolkit-newer-than-driver" not in slugs


@pytest.mark.parametrize(
    ("machine", "python", "way"),
    [
        (
            linux(nvidia("Tesla K80", "3.7"), driver="470.256.02"),
            "3.14",
            "2.7.1+cu118 could, with Python 3.13",
        ),
        (linux(amd("gfx906")), "3.15", "2.9.1+rocm6.3 could, with Python 3.14"),
        (linux(intel("8086:56a0", integrated=False)), "3.8", "2.14.1+xpu could, with Python 3.10"),
        (mac("13.7"), "3.14", "2.8.0+cpu could, with Python 3.13"),
        (mac("11.7"), "3.12", "mps of torch 2.11 needs macOS 14.0"),
        (linux(amd("gfx1201"), glibc="2.27"), "3.12", "could, with glibc 2.28 or newer"),
        (
            linux(nvidia("NVIDIA GeForce RTX 5090", "12.0"), driver="580.95.05", glibc="2.27"),
            "3.12",
            "could, with glibc 2.28 or newer",
        ),
    ],
)
def test_a_python_or_a_system_that_would_do_is_named(machine: Machine, python: str, way: str) -> None:
    assert way in said(decide(machine, python=python))


@pytest.mark.parametrize(
    ("code", "torch", "driver", "ways"),
    [
        ("8.0", "2.15.0", "535.161.08", ["update the driver: 580 or newer"]),
        (
            "8.0",
            "2.9.1",
            "470.256.02",
            ["update the driver: 580 or newer (torch 2.9.1+cu130), or 525.60.13 or newer"],
        ),
        ("12.0", "2.5.1", "580.95.05", []),
    ],
)
def test_a_driver_under_which_the_pins_would_do_is_named(
    code: str, torch: str, driver: str, ways: list[str]
) -> None:
    error = decide(linux(nvidia("a GPU", code), driver=driver), f"torch=={torch}").error
    assert error is not None
    assert error.slug == "pins-exclude-gpu"
    named = [hint for hint in error.hints if "driver" in hint]
    assert [hint.startswith(way) for hint, way in zip(named, ways, strict=True)] == [True] * len(ways), named


@pytest.mark.parametrize(
    ("gpu", "backend"),
    [
        (nvidia("NVIDIA GeForce RTX 5090", "12.0"), "--backend cu130"),
        (nvidia("NVIDIA GeForce GTX 1080", "6.1"), "--backend cu126"),
        (nvidia("Tesla K80", "3.7"), "--backend cu118"),
    ],
)
def test_a_backend_that_is_offered_has_code_for_the_gpu(gpu: Gpu, backend: str) -> None:
    error = decide(linux(gpu)).error
    assert error is not None
    assert error.slug == "driver-missing"
    assert backend in error.hints[1]


def test_a_gpu_that_no_build_ever_supported_stops_nobody() -> None:
    old = nvidia("NVIDIA GeForce GT 710", "3.5")
    alone = decide(linux(old))
    assert (alone.error, alone.backend) == (None, "cpu")
    assert "no published torch for Python 3.12 can use compute capability 3.5" in said(alone)
    assert (decide(linux(old, amd("gfx1100"))).backend or "").startswith("rocm")


def test_a_build_that_the_pins_exclude_is_no_way_out() -> None:
    kepler = linux(nvidia("Tesla K80", "3.7"), driver="470.256.02")
    plan = decide(kepler, "torch>=2.9", python="3.14")
    assert plan.backend == "cpu"
    assert "could, with" not in said(plan)


@pytest.mark.parametrize(
    ("machine", "python"),
    [
        # Jetson Linux 32 to 36 runs only NVIDIA's own builds, whatever the Python.
        (jetson("32.7.1"), "3.10"),
        (jetson("36.4.3"), "3.9"),
        # It would need another Python and another glibc.
        (linux(nvidia("NVIDIA B200", "10.0"), driver="580.95.05", glibc="2.17"), "3.8"),
    ],
)
def test_another_python_is_no_way_out_where_it_is_not_enough(machine: Machine, python: str) -> None:
    plan = decide(machine, python=python)
    assert "could, with Python" not in said(plan)


@pytest.mark.parametrize(
    "machine",
    [
        linux(nvidia("NVIDIA B200", "10.0"), driver="580.95.05", glibc="2.17"),
        structs.replace(
            linux(nvidia("NVIDIA H100", "9.0"), driver="580.95.05"), libc=Libc(family="musl", version="1.2")
        ),
    ],
)
def test_the_system_is_blamed_where_it_is_the_system(machine: Machine) -> None:
    (gpu,) = decide(machine, allow_cpu=True).gpus
    assert "with any driver" not in gpu.by
    assert "glibc" in gpu.by
