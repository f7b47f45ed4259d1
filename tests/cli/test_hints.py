"""Whoever types what an error says comes on: each refusal of the planner, met on a machine of its kind.

`python -m tests.hints` follows the hints of every error that the other tests provoke, too.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from msgspec import structs

from tests.cli.support import run
from tests.support.planning import amd, intel, linux, mac, nvidia, windows
from torchinstall.core.machine import Finding, Libc, Machine, machine_to_json

pytestmark = pytest.mark.follow_hints

H100 = nvidia("NVIDIA H100", "9.0")
BLACKWELL = nvidia("NVIDIA GeForce RTX 5090", "12.0")
DENIED = Finding(
    probe="nvidia", status="denied", detail="no permission", source="nvml", slug="gpu-permission-denied"
)
SITUATIONS: dict[str, tuple[str, Machine, tuple[str, ...]]] = {
    "a pin older than the GPU": ("pins-exclude-gpu", linux(BLACKWELL, driver="580.95.05"), ("torch==2.4.0",)),
    "a bound older than the GPU": ("pins-exclude-gpu", linux(BLACKWELL, driver="580.95.05"), ("torch<2.5",)),
    "a GPU that nothing serves": (
        "gpu-required",
        linux(nvidia("NVIDIA GeForce GTX 580", "2.0"), driver="390.157"),
        ("torch", "--require-gpu"),
    ),
    "no GPU": ("gpu-required", linux(), ("torch", "--require-gpu")),
    "a Python without files": ("python-not-published", linux(), ("torch==1.13.1",)),
    "an old release for macOS": ("python-not-published", mac(), ("torch==2.0.1",)),
    "a companion that cannot compile": (
        "pins-exclude-gpu",
        windows(intel("8086:56a0", integrated=False)),
        ("torch", "torchvision==0.21.0", "--need", "compile"),
    ),
    "a pin that was never": ("pinned-out", linux(), ("torch==9.9.9",)),
    "a pin in a backend without it": ("pinned-out", linux(), ("torch==2.4.0", "--backend", "cu130")),
    "CUDA on macOS": ("backend-not-published", mac(), ("torch", "--backend", "cu126")),
    "ROCm on Windows": ("backend-not-published", windows(), ("torch", "--backend", "rocm6.4")),
    "musl": ("musl", structs.replace(linux(), libc=Libc(family="musl", version="1.2")), ("torch",)),
    "an old glibc": ("glibc-too-old", linux(glibc="2.11"), ("torch==2.9.1",)),
    "an old macOS": ("macos-too-old", mac("10.9"), ("torch",)),
    "Rosetta": ("rosetta", mac(rosetta=True), ("torch",)),
    "denied": ("gpu-permission-denied", linux(findings=(DENIED,)), ("torch",)),
    "a channel that was not read": ("channel-not-read", linux(), ("torch", "--channel", "nightly")),
    "a GPU of nobody": ("unknown-gpu", linux(), ("torch", "--target-gpu", "RTX 9999")),
    "a code of nobody": ("unknown-gpu", linux(), ("torch", "--target-gpu", "sm_999")),
    "a backend without a number": ("unknown-backend", linux(), ("torch", "--backend", "cuda")),
    "a backend of nobody": ("backend-not-published", linux(), ("torch", "--backend", "cu999")),
    "a companion of another time": (
        "pinned-out",
        linux(H100, driver="580.95.05"),
        ("torch==2.9.1", "torchvision==0.2.0"),
    ),
    "an extension without ready files": (
        "companion-missing",
        linux(H100, driver="580.95.05"),
        ("torch==2.14.1", "flash-attn"),
    ),
    "what must compile and cannot": (
        "pins-exclude-gpu",
        linux(nvidia("NVIDIA B200", "10.0"), driver="575.57.08"),
        ("torch==2.13.0", "--need", "compile"),
    ),
    "an AMD GPU with too new a pin": (
        "pins-exclude-gpu",
        linux(amd("gfx906")),
        ("torch==2.14.1",),
    ),
    "an Intel GPU on an old release": (
        "pins-exclude-gpu",
        linux(intel("8086:e20b", integrated=False)),
        ("torch==2.4.0",),
    ),
}


@pytest.mark.parametrize("name", SITUATIONS)
def test_a_refusal_of_the_planner_leads_on(tmp_path: Path, name: str) -> None:
    slug, machine, words = SITUATIONS[name]
    (tmp_path / "m.json").write_text(json.dumps(machine_to_json(machine)), encoding="utf-8")
    where = ("--machine", "m.json", "--python-version", "3.12", "--offline")
    said = run(tmp_path, "plan", *words, *where)
    assert (f"error[{slug}]" in said.err, said.code != 0) == (True, True), said.err or said.out
