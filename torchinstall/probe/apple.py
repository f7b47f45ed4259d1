"""Apple: the chip, and whether this process is translated (Rosetta)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from torchinstall.core.machine import Gpu, machine_arch
from torchinstall.probe.host import report
from torchinstall.probe.system import Fact, HostFact, System, clean, pairs

_KEYS = ("machdep.cpu.brand_string", "hw.optional.arm64", "sysctl.proc_translated")
_TIMEOUT_S = 1.0

_apple = partial(report, "apple")


def probe_apple(system: System) -> Iterator[Fact]:
    """Yield Apple's GPU: every Apple Silicon chip has one that torch uses through MPS."""
    if system.platform != "darwin":
        return
    # `-i` omits the keys that this Mac does not have.
    values = pairs(system.run(("sysctl", "-i", *_KEYS), _TIMEOUT_S).stdout, ":")
    chip = clean(values.get("machdep.cpu.brand_string"))
    native = machine_arch(system.machine) == "aarch64"
    silicon = native or values.get("hw.optional.arm64") == "1" or (chip or "").startswith("Apple")
    if not silicon:
        yield _apple(system, "intel-mac", chip=chip or "chip unknown")
        return
    yield Gpu(vendor="apple", index=0, name=chip or "Apple Silicon", integrated=True, source="sysctl")
    if values.get("sysctl.proc_translated") == "1" or not native:
        yield HostFact("rosetta", value=True)
        yield _apple(system, "rosetta")
