"""Run probes side by side, each in a thread of its own, and stop waiting when the time is up."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from torchinstall.machine import Finding
from torchinstall.probe.facts import Fact, Probe
from torchinstall.probe.system import System

__all__ = ["BUDGET_S", "collect"]

BUDGET_S = 2.8
"""All probes together may take this long; the design promises an answer within three seconds."""


@dataclass(slots=True)
class _Run:
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
