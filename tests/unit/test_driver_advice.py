"""What to do about a driver: computed from every build that some driver would let run."""

from __future__ import annotations

import pytest

from tests.support.planning import decide, linux, nvidia, windows
from torchinstall.core.plan import Plan


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
