"""What a plan says about a GPU that it does not use is true, whatever was asked for."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.planning import decide, linux, nvidia, windows
from torchinstall.core.machine import Machine
from torchinstall.core.plan import Plan

CODES = (
    "2.0",
    "3.5",
    "3.7",
    "5.2",
    "6.1",
    "7.0",
    "7.5",
    "8.6",
    "8.7",
    "8.9",
    "9.0",
    "10.0",
    "10.3",
    "12.0",
    "12.1",
)
DRIVERS = (
    "390.157",
    "418.226",
    "450.80.02",
    "470.256.02",
    "525.60.13",
    "550.54.14",
    "580.95.05",
    "590.44.01",
)
ASKED = (
    ("torch",),
    ("torch==2.9.1",),
    ("torch==2.4.0",),
    ("torch<2.6",),
    ("torch>=2.10",),
    ("torch==2.0.1",),
    ("torch", "torchvision==0.21.0"),
)
BACKENDS = ("auto", "auto", "auto", "cpu", "cu118", "cu126", "cu130")


def uses_gpu(made: Plan) -> bool:
    return made.error is None and any(gpu.covered for gpu in made.gpus)


def said(made: Plan) -> Iterator[str]:
    yield from (gpu.by for gpu in made.gpus)
    yield from (row.message for row in made.warnings)
    if made.error is not None:
        yield from (made.error.message, made.error.found or "", *made.error.hints)


@pytest.mark.parametrize("seed", range(4))
def test_advice_about_drivers_and_pins_is_true(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311  reproducible on purpose
    for _ in range(25):
        code, asked, system = chance.choice(CODES), chance.choice(ASKED), chance.choice((linux, windows))
        more: dict[str, Any] = {"python": chance.choice(("3.9", "3.11", "3.12"))}
        more |= {"backend": chance.choice(BACKENDS), "allow_cpu": chance.random() < 0.5}

        def on(driver: str, code: str = code, system: Any = system) -> Machine:
            machine: Machine = system(nvidia("a GPU", code), driver=driver)
            return machine

        driver = chance.choice(DRIVERS)
        made = decide(on(driver), *asked, **more)
        for text in said(made):
            case = (code, driver, asked, more, text)
            for version in re.findall(r"update the driver: ([\d.]+) (?:or newer|to)", text):
                assert uses_gpu(decide(on(version), *asked, **more)), case
            for branch in re.findall(r"install an older driver: [\d.]+ to R(\d+)", text):
                assert uses_gpu(decide(on(branch), *asked, **more)), case
            if "with any driver" in text:
                free = {"python": more["python"], "allow_cpu": True}
                free |= {"backend": more["backend"]} if "torch of" in text else {}
                pins = asked if "that meets" in text else ("torch",)
                assert not any(uses_gpu(decide(on(other), *pins, **free)) for other in (*DRIVERS, "999")), (
                    case
                )
        for hint in made.error.hints if made.error is not None else ():
            for pin in re.findall(r"torch==[\d.]*\d", hint):
                again = decide(on(driver), pin, *asked[1:], **more).error
                assert again is None or hint not in again.hints, (code, driver, asked, more, hint)
