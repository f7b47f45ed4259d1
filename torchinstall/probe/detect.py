"""Run the probes side by side within a time budget, and put together what they found as one machine."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

from msgspec import Struct, field

from torchinstall.core.machine import OS_NAMES, Driver, Finding, Gpu, Machine, machine_arch
from torchinstall.probe.amd import probe_amd
from torchinstall.probe.apple import probe_apple
from torchinstall.probe.host import probe_host, probe_surroundings, report, without_gpu
from torchinstall.probe.intel import probe_intel
from torchinstall.probe.nvidia import probe_nvidia
from torchinstall.probe.system import Fact, HostFact, Probe, System

PROBES = {
    "host": probe_host,
    "nvidia": probe_nvidia,
    "amd": probe_amd,
    "intel": probe_intel,
    "apple": probe_apple,
    "surroundings": probe_surroundings,
}
"""One row a probe; a new vendor is one more."""

BUDGET_S = 2.8
"""All probes together may take this long; the design promises an answer within three seconds."""


def probe_machine(system: System) -> Machine:
    """What this machine is; never raises, and answers within three seconds."""
    facts = collect(PROBES, system)
    gpus = tuple(fact for fact in facts if isinstance(fact, Gpu))
    findings = [fact for fact in facts if isinstance(fact, Finding)]
    if not gpus:
        findings.extend(without_gpu(system))
    host = [fact for fact in facts if isinstance(fact, HostFact)]
    marks = [fact.value for fact in host if fact.name == "environment"]
    values: dict[str, Any] = {fact.name: fact.value for fact in reversed(host) if fact.name != "environment"}
    return Machine(
        os=OS_NAMES.get(system.platform, "linux"),
        arch="aarch64" if values.get("rosetta") else machine_arch(system.machine),
        environment=tuple(mark for mark in ("wsl2", "container", "ci", "jetson") if mark in marks),
        drivers=tuple(fact for fact in facts if isinstance(fact, Driver)),
        gpus=gpus,
        findings=tuple(dict.fromkeys(findings)),
        **values,
    )


class _Run(Struct):
    name: str
    facts: list[Fact] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)

    def work(self, probe: Probe, system: System) -> None:
        try:
            for fact in probe(system):
                self.facts.append(fact)
        except Exception as error:  # noqa: BLE001 - whatever a machine holds, the probe itself must answer
            problem = f"{type(error).__name__}: {error}"[:270]
            self.facts.append(report("host", system, "probe-crashed", name=self.name, error=problem))
        finally:
            self.done.set()


def collect(probes: Mapping[str, Probe], system: System, budget: float = BUDGET_S) -> list[Fact]:
    """Everything that the probes found within `budget` seconds, in the order of `probes`.

    A probe that is not ready by then keeps what it has found so far and gets a finding; its thread is a
    daemon, so a stuck file system cannot keep the process from ending.
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
            facts.append(report("host", system, "probe-timeout", name=run.name, budget=budget))
    return facts
