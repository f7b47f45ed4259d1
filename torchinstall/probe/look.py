"""Put everything that the probes saw together into one machine."""

from __future__ import annotations

from torchinstall.machine import Driver, Finding, Gpu, Libc, Machine, Os
from torchinstall.probe.amd import probe_amd
from torchinstall.probe.apple import probe_apple
from torchinstall.probe.facts import Fact, HostFact, Word
from torchinstall.probe.host import machine_arch, probe_host
from torchinstall.probe.intel import probe_intel
from torchinstall.probe.nvidia import probe_nvidia
from torchinstall.probe.runner import collect
from torchinstall.probe.surroundings import probe_surroundings, without_gpu
from torchinstall.probe.system import System

__all__ = ["PROBES", "probe_machine"]

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
