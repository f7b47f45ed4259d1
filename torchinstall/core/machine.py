"""What a machine is: the values that the probe produces and the planner reads. No I/O."""

import re
from functools import lru_cache
from typing import Annotated, Any, Literal

from msgspec import DecodeError, Meta, Struct, ValidationError, json, structs, to_builtins

from torchinstall.core.decoding import convert
from torchinstall.core.errors import UsageError

Os = Literal["linux", "windows", "macos"]
Vendor = Literal["nvidia", "amd", "intel", "apple"]
Status = Literal["found", "absent", "denied", "broken", "overridden"]

_Version = Annotated[str, Meta(pattern=r"^\s*[0-9]")]
"""Text that `versions.dotted` can read."""

_Few = Meta(max_length=512)
"""More than any machine has; a plan's work grows with them."""

VENDOR_NAMES: dict[Vendor, str] = {"nvidia": "NVIDIA", "amd": "AMD", "intel": "Intel", "apple": "Apple"}
"""How each vendor is written in a sentence."""

PCI_VENDORS: dict[str, Vendor] = {"10de": "nvidia", "1002": "amd", "8086": "intel"}
"""By the first half of a PCI id."""

OS_NAMES: dict[str, Os] = {"linux": "linux", "win32": "windows", "darwin": "macos"}
"""By `sys.platform`."""

OS_LABELS: dict[Os, str] = {"linux": "Linux", "windows": "Windows", "macos": "macOS"}
"""How each system is written in a sentence."""

ARCHES = ("x86_64", "aarch64")


def machine_arch(name: str) -> str:
    """`AMD64` as `x86_64`, `arm64` as `aarch64`; others by their own name."""
    plain = name.strip().lower()
    return {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64"}.get(plain, plain or "unknown")


Capability = tuple[int, int]
"""A CUDA compute capability, `(8, 9)` for text `8.9`; never a float."""


@lru_cache(maxsize=256)
def capability(text: str) -> Capability:
    """Parse `8.9`.

    Raises:
        ValueError: not two integers with a dot between them.
    """
    major, dot, minor = text.partition(".")
    if not (dot and major.isdigit() and minor.isdigit()):
        raise ValueError(f"not a compute capability: {text!r}")
    return int(major), int(minor)


def capability_text(value: Capability) -> str:
    """`(8, 9)` as `8.9`."""
    return f"{value[0]}.{value[1]}"


_SM = r"(?:(?:sm|compute|cc|lto)[-_. ]?)?(\d{1,2})[._]?(\d)[af]?(?:\+ptx|[-_](?:real|virtual))?"


@lru_cache(maxsize=512)
def capability_named(text: str) -> Capability | None:
    """The capability of code in any spelling: `sm_90a`, `compute_90`, `9.0+PTX`, `90-real`."""
    match = re.fullmatch(_SM, text.strip().lower())
    return (int(match[1]), int(match[2])) if match else None


def sm_text(code: str) -> str:
    """`8.9` as `sm_89`; a gfx target stays."""
    return f"sm_{code.replace('.', '')}" if "." in code else code


def cuda_text(number: int | None) -> str | None:
    """A CUDA version as NVIDIA's libraries give it: 13000 as `13.0`; None for nonsense."""
    number = number or 0
    return f"{number // 1000}.{number % 1000 // 10}" if 1000 <= number < 100_000 else None


class Libc(Struct, frozen=True, kw_only=True):
    """The C library of a Linux machine; wheels name the lowest glibc they run on."""

    family: Literal["glibc", "musl"]
    version: _Version | None = None


class Driver(Struct, frozen=True, kw_only=True):
    """A GPU driver. `cuda_version` is the newest CUDA it speaks; `rocm_version` is the ROCm userland."""

    vendor: Vendor
    version: _Version | None = None
    cuda_version: _Version | None = None
    rocm_version: _Version | None = None
    source: str | None = None


class Gpu(Struct, frozen=True, kw_only=True):
    """One GPU. Everything but the vendor may be unknown (None); unknown is not absent.

    Attributes:
        index: position among the GPUs of its vendor.
        compute_capability: NVIDIA only.
        gfx_target: AMD only, `gfx1100`.
        pci_id: `vendor:device` in lower-case hex, `10de:2684`.
        integrated: whether it shares the processor's memory; None where nobody said.
        source: how this was learnt: `nvml`, `kfd`, `pci`, `--target-gpu` …
    """

    vendor: Vendor
    index: int | None = None
    name: str | None = None
    compute_capability: Capability | None = None
    gfx_target: str | None = None
    memory_bytes: int | None = None
    pci_id: str | None = None
    uuid: str | None = None
    integrated: bool | None = None
    source: str | None = None

    @property
    def code(self) -> str | None:
        """What builds need code for: `8.9`, `gfx1100`."""
        return capability_text(self.compute_capability) if self.compute_capability else self.gfx_target

    @property
    def label(self) -> str:
        """What to call it in a sentence."""
        return self.name or f"{VENDOR_NAMES[self.vendor]} GPU {self.code or self.pci_id or ''}".strip()


class Finding(Struct, frozen=True, kw_only=True):
    """What one probe has to say.

    Attributes:
        probe: `nvidia`, `amd`, `intel`, `apple`, `host` …
        status: absent is not broken; denied and broken mean hardware may be there and cannot be read.
        detail: one sentence for a person.
        source: which file, library or command said so.
        slug: stable name of a fault (`driver-library-mismatch`), None for plain news.
        hint: what to type to fix it.
    """

    probe: str = "unknown"
    status: Status
    detail: str = ""
    source: str | None = None
    slug: str | None = None
    hint: str | None = None


class Machine(Struct, frozen=True, kw_only=True):
    """A machine as the probe saw it, or as a machine file describes it.

    Attributes:
        os_version: distribution version, Windows build, macOS product version.
        arch: of the machine, `x86_64` or `aarch64` (Apple Silicon and Windows on ARM are `aarch64`).
        libc: None where it has no meaning.
        environment: any of `wsl2`, `container`, `ci`, `jetson` and what later probes add.
        rosetta: an x86-64 Python runs on Apple Silicon.
        l4t: Jetson Linux release, `36.4.3`.
        kernel_version: of Linux, as `uname -r` prints it; None: not known.
        cpu_features: as `/proc/cpuinfo` or `sysctl` names them; empty: not known.
    """

    os: Os
    os_version: str | None = None
    arch: Annotated[str, Meta(pattern="^(x86_64|aarch64)$")]
    libc: Libc | None = None
    environment: tuple[str, ...] = ()
    memory_bytes: int | None = None
    drivers: Annotated[tuple[Driver, ...], _Few] = ()
    gpus: Annotated[tuple[Gpu, ...], _Few] = ()
    findings: Annotated[tuple[Finding, ...], _Few] = ()
    rosetta: bool = False
    l4t: str | None = None
    kernel_version: str | None = None
    cpu_features: tuple[str, ...] = ()

    def driver(self, vendor: str) -> Driver | None:
        """The driver of that vendor, or None."""
        return next((driver for driver in self.drivers if driver.vendor == vendor), None)

    def anonymous(self) -> "Machine":
        """The same machine without anything that names it (UUIDs)."""
        return structs.replace(self, gpus=tuple(structs.replace(gpu, uuid=None) for gpu in self.gpus))


SCHEMA_VERSION = 1

_WRITTEN_WHEN_NONE = ("version", "source")


def machine_to_json(machine: Machine) -> dict[str, Any]:
    """The machine file as plain JSON values; keys that say nothing are omitted from the rows."""
    data: dict[str, Any] = {"schema_version": SCHEMA_VERSION, **to_builtins(machine)}
    for table in ("drivers", "gpus", "findings"):
        data[table] = [
            {key: value for key, value in row.items() if value is not None or key in _WRITTEN_WHEN_NONE}
            for row in data[table]
        ]
    for row in data["gpus"]:
        if code := row.get("compute_capability"):
            row["compute_capability"] = capability_text(code)
    data["environment"] = list(machine.environment)
    if not machine.rosetta:
        del data["rosetta"]
    data["cpu_features"] = list(machine.cpu_features)
    for name in ("l4t", "kernel_version", "cpu_features"):
        if not data[name]:
            del data[name]
    return data


class _Schema(Struct, frozen=True):
    schema_version: Annotated[int, Meta(ge=1)]


def decode_machine(text: str, source: str) -> Machine:
    """Read a machine file's JSON; unknown keys are ignored, and `source` names the file in messages.

    Raises:
        UsageError: not JSON, of a newer schema, or a value is missing or wrong; the path of the fault
            (`$.gpus[0].index`) is in `found`.
    """
    try:
        data = json.decode(text.removeprefix("\ufeff"))
        version = convert(data, _Schema).schema_version
        if version <= SCHEMA_VERSION:
            return convert(_with_capabilities(data), Machine)
    except (DecodeError, UnicodeError, RecursionError) as error:
        fault, _, path = str(error).partition(" - at ")
        place = f"{path.strip('`')}: " if path else ""
        raise UsageError(
            "bad-machine-file",
            f"{source} is not a machine file",
            wanted="the JSON that `torchinstall probe --json` prints",
            found=place + fault if text.strip() else "nothing",
            hints=("torchinstall probe --json > machine.json",),
        ) from error
    raise UsageError(
        "machine-file-too-new",
        f"{source} has schema_version {version}",
        wanted=f"schema_version {SCHEMA_VERSION} or lower",
        found=str(version),
        hints=("upgrade torchinstall on this machine: uv pip install --upgrade torchinstall",),
    )


def _with_capabilities(data: dict[str, Any]) -> dict[str, Any]:
    """The file with `"8.9"` read as `(8, 9)`."""
    gpus = data.get("gpus", [])
    if not isinstance(gpus, list):
        return data
    rows = []
    for index, row in enumerate(gpus):
        text = row.get("compute_capability") if isinstance(row, dict) else None
        try:
            rows.append(row if text is None else {**row, "compute_capability": capability(text)})
        except (ValueError, TypeError, AttributeError):
            path = f"$.gpus[{index}].compute_capability"
            raise ValidationError(f'Expected text such as "8.9", got {text!r} - at `{path}`') from None
    return {**data, "gpus": rows}
