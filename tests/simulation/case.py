"""One simulated machine with one question put to the planner."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal

from tests.simulation.oracle import Box, cuda_of_driver
from torchinstall.core.machine import Driver, Finding, Gpu, Libc, Machine, Os, machine_to_json
from torchinstall.core.request import Request, requirement
from torchinstall.core.target import foreign_target

if TYPE_CHECKING:
    from tests.simulation.hardware import Part
    from torchinstall.core.target import Target


@dataclass(frozen=True, slots=True)
class System:
    """An operating system to put GPUs under."""

    os: Os
    arch: str = "x86_64"
    glibc: str | None = None
    musl: str | None = None
    macos: str | None = None
    wsl: bool = False
    rosetta: bool = False

    @property
    def platform(self) -> str:
        """As the matrix calls it: `linux_x86_64`, `win_arm64`, `macos_arm64`."""
        if self.os == "linux":
            return f"linux_{self.arch}"
        arm = self.arch == "aarch64" and not self.rosetta
        if self.os == "windows":
            return "win_arm64" if arm else "win_amd64"
        return "macos_arm64" if arm else "macos_x86_64"


@dataclass(frozen=True, slots=True)
class Case:
    """A machine and a request; the GPUs' true codes are known here even where the machine file omits them.

    Attributes:
        group: which slice it belongs to.
        python: `3.12`, `3.13t`.
        driver: NVIDIA driver version; None with an NVIDIA GPU: not known.
        cuda: driver CUDA version where it is not the driver's own, or where the driver's version is unknown.
        packages: asked for by name; `pins` are further requirements.
        bare: the machine file holds no compute capability and no gfx target, only PCI ids.
        unreadable: slug of a finding that says why the GPU cannot be read.
        declared: the GPUs are named with `--target-gpu`, the machine file shows none.
        kernel: Linux release, as the machine file has it.
        need: `--need`.
    """

    group: str
    system: System
    parts: tuple[Part, ...] = ()
    python: str = "3.12"
    driver: str | None = None
    cuda: str | None = None
    l4t: str | None = None
    packages: tuple[str, ...] = ("torch", "torchvision")
    pins: tuple[str, ...] = ()
    backend: str = "auto"
    allow_cpu: bool = False
    require_gpu: bool = False
    prefer_gpu: int | None = None
    bare: bool = False
    unreadable: str | None = None
    declared: bool = False
    kernel: str | None = None
    need: Literal["compile"] | None = None

    @property
    def speaks(self) -> str | None:
        """The newest CUDA that the driver speaks."""
        return self.cuda or (cuda_of_driver(self.driver) if self.driver else None)

    def box(self) -> Box:
        """The machine as the oracle sees it."""
        return Box(
            platform=self.system.platform,
            driver=self.driver,
            cuda=self.speaks,
            windows_driver=self.system.wsl or self.system.os == "windows",
            macos=self.system.macos,
            l4t=int(self.l4t.split(".")[0]) if self.l4t else None,
            declared=self.declared and self.driver is None,
            kernel=self.kernel,
        )

    def machine(self) -> Machine:
        """The machine file's content."""
        system = self.system
        environment = ("wsl2",) if system.wsl else ("jetson",) if self.l4t else ()
        drivers: list[Driver] = []
        if (self.driver or self.cuda) and not self.declared:
            drivers.append(
                Driver(vendor="nvidia", version=self.driver, cuda_version=self.speaks, source="nvml")
            )
        if any(part.vendor == "amd" for part in self.parts) and not self.declared:
            drivers.append(Driver(vendor="amd", source="sysfs"))
        findings: tuple[Finding, ...] = ()
        if self.unreadable:
            findings = (
                Finding(probe="nvidia", status="broken", detail="cannot be read", slug=self.unreadable),
            )
        return Machine(
            os=system.os,
            arch=system.arch,
            os_version=system.macos or ("22.04" if system.os == "linux" else "26100"),
            libc=_libc(system),
            environment=environment,
            drivers=tuple(drivers),
            gpus=() if self.declared else self._gpus(),
            findings=findings,
            rosetta=system.rosetta,
            l4t=self.l4t,
            kernel_version=self.kernel,
        )

    def _gpus(self) -> tuple[Gpu, ...]:
        counts: dict[str, int] = {}
        gpus = []
        for part in self.parts:
            index = counts.get(part.vendor, 0)
            counts[part.vendor] = index + 1
            gpus.append(part.gpu(index, bare=self.bare and part.vendor != "intel"))
        return tuple(gpus)

    def request(self) -> Request:
        """What is asked of the planner."""
        names = {_name_of(pin) for pin in self.pins}
        wanted = [requirement(name) for name in self.packages if name not in names]
        return Request(
            requirements=(*wanted, *(requirement(pin) for pin in self.pins)),
            backend=self.backend,
            allow_cpu=self.allow_cpu,
            require_gpu=self.require_gpu,
            prefer_gpu=self.prefer_gpu,
            need=self.need,
            target_gpus=self._gpus() if self.declared else (),
            target_driver=self.driver if self.declared else None,
            offline=True,
        )

    def target(self) -> Target:
        """The interpreter installed into."""
        return _target(self.system, self.python)

    def words(self) -> list[str]:
        """The arguments that put the same question to `torchinstall plan --machine -`."""
        words = ["--offline", "--machine", "-", "--python-version", self.python]
        if self.backend != "auto":
            words += ["--backend", self.backend]
        if self.declared:
            words += [word for part in self.parts for word in ("--target-gpu", _declared_as(part))]
            words += ["--target-driver", self.driver] if self.driver else []
        words += ["--allow-cpu"] * self.allow_cpu + ["--require-gpu"] * self.require_gpu
        words += ["--need", self.need] if self.need else []
        words += ["--prefer-gpu", str(self.prefer_gpu)] if self.prefer_gpu is not None else []
        return words + [str(requirement) for requirement in self.request().requirements]

    def reproduce(self) -> str:
        """A shell line that puts this question to the command."""
        quoted = " ".join(f"'{word}'" for word in self.words())
        return f"echo '{json.dumps(machine_to_json(self.machine()))}' | torchinstall plan {quoted}"


def _declared_as(part: Part) -> str:
    return "sm_" + part.code.replace(".", "") if part.vendor == "nvidia" else part.code


def _libc(system: System) -> Libc | None:
    if system.musl:
        return Libc(family="musl", version=system.musl)
    return Libc(family="glibc", version=system.glibc) if system.os == "linux" else None


def _name_of(text: str) -> str:
    return requirement(text).name


@cache
def _target(system: System, python: str) -> Target:
    return foreign_target(Case("", system).machine(), python)
