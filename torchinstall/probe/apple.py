"""Apple: the chip, and whether this process is translated (Rosetta)."""

from __future__ import annotations

from collections.abc import Iterator

from torchinstall.core.machine import Finding, Gpu
from torchinstall.probe.facts import Fact, HostFact, clean
from torchinstall.probe.host import machine_arch
from torchinstall.probe.system import System

__all__ = ["apple_silicon", "probe_apple"]

_KEYS = ("machdep.cpu.brand_string", "hw.optional.arm64", "sysctl.proc_translated")
_TIMEOUT_S = 1.0


def probe_apple(system: System) -> Iterator[Fact]:
    """Yield Apple's GPU: every Apple Silicon chip has one that torch uses through MPS."""
    if system.platform != "darwin":
        return
    said = _sysctl(system)
    chip = clean(said.get("machdep.cpu.brand_string"))
    native = machine_arch(system.machine) == "aarch64"
    silicon = native or said.get("hw.optional.arm64") == "1" or (chip or "").startswith("Apple")
    if not silicon:
        yield Finding(
            probe="apple",
            status="absent",
            slug="intel-mac",
            detail=f"an Intel Mac ({chip or 'chip unknown'}): torch uses no GPU, and builds end at 2.2.2",
            source="sysctl",
        )
        return
    yield Gpu(vendor="apple", index=0, name=chip or "Apple Silicon", integrated=True, source="sysctl")
    if said.get("sysctl.proc_translated") == "1" or not native:
        yield HostFact("rosetta", value=True)
        yield Finding(
            probe="apple",
            status="found",
            slug="rosetta",
            detail="Rosetta translates this x86-64 Python; it gets neither current builds nor MPS",
            source="sysctl sysctl.proc_translated",
            hint="make an environment with an arm64 Python: uv venv --python cpython-3.12-macos-aarch64-none",
        )


def apple_silicon(system: System) -> bool:
    """Whether the chip is Apple's, also for a translated process."""
    return machine_arch(system.machine) == "aarch64" or _sysctl(system).get("hw.optional.arm64") == "1"


def _sysctl(system: System) -> dict[str, str]:
    """All keys at once; `-i` leaves out those that this Mac does not have."""
    result = system.run(("sysctl", "-i", *_KEYS), _TIMEOUT_S)
    pairs = (line.partition(":") for line in result.stdout.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}
