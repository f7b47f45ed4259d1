"""Put everything that the probes saw together into one machine."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

from msgspec import Struct, field

from torchinstall.core.machine import Driver, Finding, Gpu, Libc, Machine, Os
from torchinstall.probe.amd import probe_amd
from torchinstall.probe.apple import probe_apple
from torchinstall.probe.facts import Fact, HostFact, Probe, Word
from torchinstall.probe.host import machine_arch, probe_host
from torchinstall.probe.intel import probe_intel
from torchinstall.probe.nvidia import probe_nvidia
from torchinstall.probe.surroundings import probe_surroundings, without_gpu
from torchinstall.probe.system import System

__all__ = ["BUDGET_S", "PROBES", "collect", "probe_machine"]


PROBES = {
    "host": probe_host,
    "nvidia": probe_nvidia,
    "amd": probe_amd,
    "intel": probe_intel,
    "apple": probe_apple,
    "surroundings": probe_surroundings,
}
"""One row a probe; a new vendor is one more."""

_SYSTEMS: dict[str, Os] = {"win32": "windows", "darwin": "macos"}

_WORDS = ("wsl2", "container", "ci", "jetson")


def probe_machine(system: System) -> Machine:
    """Look at everything at once; never raises, and answers within three seconds."""
    facts = collect(PROBES, system)
    gpus = tuple(fact for fact in facts if isinstance(fact, Gpu))
    words = {fact.text for fact in facts if isinstance(fact, Word)}
    values = _values(facts)
    rosetta = values.get("rosetta") is True
    findings = [fact for fact in facts if isinstance(fact, Finding)]
    if not gpus:
        findings.extend(without_gpu(system))
    return Machine(
        os=_SYSTEMS.get(system.platform, "linux"),
        arch="aarch64" if rosetta else machine_arch(system.machine),
        os_version=_text(values.get("os_version")),
        libc=libc if isinstance(libc := values.get("libc"), Libc) else None,
        environment=tuple(word for word in _WORDS if word in words),
        memory_bytes=memory if type(memory := values.get("memory_bytes")) is int else None,
        drivers=tuple(fact for fact in facts if isinstance(fact, Driver)),
        gpus=gpus,
        findings=tuple(dict.fromkeys(findings)),
        rosetta=rosetta,
        l4t=_text(values.get("l4t")),
    )


def _values(facts: list[Fact]) -> dict[str, object]:
    values: dict[str, object] = {}
    for fact in facts:
        if isinstance(fact, HostFact):
            values.setdefault(fact.name, fact.value)
    return values


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


BUDGET_S = 2.8
"""All probes together may take this long; the design promises an answer within three seconds."""


class _Run(Struct):
    name: str
    facts: list[Fact] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)

    def work(self, probe: Probe, system: System) -> None:
        try:
            for fact in probe(system):
                self.facts.append(fact)
        except Exception as error:  # noqa: BLE001 - whatever a machine holds, the probe itself must answer
            self.facts.append(
                Finding(
                    probe="host",
                    status="broken",
                    detail=f"the {self.name} probe failed: {type(error).__name__}: {error}"[:300],
                    source="torchinstall",
                    slug="probe-crashed",
                    hint="report this with the folder that scripts/capture_machine.py writes",
                )
            )
        finally:
            self.done.set()


def collect(probes: Mapping[str, Probe], system: System, budget: float = BUDGET_S) -> list[Fact]:
    """Everything the probes said within `budget` seconds, in the order of `probes`.

    A probe that is not ready by then keeps what it said so far and gets a finding; its thread is a daemon,
    so a stuck file system cannot hold the process.
    """
    end = time.monotonic() + budget
    runs = [_Run(name) for name in probes]
    for run, probe in zip(runs, probes.values(), strict=True):
        threading.Thread(target=run.work, args=(probe, system), name=f"probe-{run.name}", daemon=True).start()
    facts: list[Fact] = []
    for run in runs:
        ready = run.done.wait(max(0.0, end - time.monotonic()))
        facts.extend(list(run.facts))
        if not ready:
            facts.append(
                Finding(
                    probe="host",
                    status="broken",
                    detail=f"the {run.name} probe did not finish within {budget:g} s",
                    source="torchinstall",
                    slug="probe-timeout",
                    hint="look for a file system or driver that hangs (df, ls /opt, nvidia-smi)",
                )
            )
    return facts
