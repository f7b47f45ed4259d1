"""Nodes of inventories: what an inventory says of each, which GPUs it means, and the machine that follows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import takewhile
from typing import Any, TypeVar

import msgspec
from msgspec import DecodeError, Raw, Struct, structs

from torchinstall.catalog.catalog import Catalog
from torchinstall.core.decoding import convert, decoder, own_data
from torchinstall.core.errors import UsageError
from torchinstall.core.machine import ARCHES, PCI_VENDORS, Driver, Gpu, Libc, Machine, Os, machine_arch
from torchinstall.core.versions import dotted, unprefixed
from torchinstall.planning.gpus import gpu_named, gpu_with_code, numbered
from torchinstall.planning.request import OLDEST_DRIVER

T = TypeVar("T")

_MOST_GPUS = 1024
_MOST_HOSTS = 100_000
_NAME = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]{1,512}")
_VERSION = re.compile(r"[0-9]{1,5}(?:\.[0-9]{1,6}){0,4}(?![0-9.])")
_WITHIN = re.compile(r"(?<![0-9.])[0-9]{1,5}(?:\.[0-9]{1,6}){0,4}(?![0-9])")
_UNKNOWN = re.compile(
    r"[\W_]*(?:n/?a|unknown|none|null|tbd|not (?:installed|available|found|supported))?[\W_]*", re.I
)
_ON_ARM = re.compile(r"\b(?:G(?:H200|B[23]00|B10)|T4G|Thor)\b", re.IGNORECASE)
"""Products that are one with an Arm processor, or are rented with one only."""
_LIBC = re.compile(r"(?:(glibc|musl)[ =-]?)?([0-9]{1,3}\.[0-9]{1,3}(?:\.[0-9]{1,3})?)")
_SYSTEMS: dict[str, Os | None] = {
    r"win(?:dows|server|\b|[\d_])|microsoft": "windows",
    "mac|darwin|os x": "macos",
    ".*(?:bsd|android|solaris|aix)": None,
    "": "linux",
}
"""Beginnings of names of systems, of which the first that fits counts; most are those of distributions."""

_ASSUMABLE = {"driver": "580.95.05", "libc": "2.36", "arch": "x86_64", "gpu": "h100", "os_version": "14.5"}
"""What can be assumed, each with an example."""


class Facts(Struct, frozen=True, kw_only=True):
    """What an inventory says of a node; None: it does not say.

    Attributes:
        gpus: what is known of each; None for one that is there and that nothing names.
        machine: whole, where the inventory holds a machine file.
        called: the name of a GPU that nothing is known by.
        unusable: why nothing can be planned for the node.
        in_image: it runs containers, so that the image's libc counts.
    """

    os: str | None = None
    arch: str | None = None
    os_version: str | None = None
    libc: str | None = None
    driver: str | None = None
    cuda: str | None = None
    gpus: tuple[Gpu | None, ...] = ()
    called: str | None = None
    machine: Machine | None = None
    unusable: str | None = None
    in_image: bool = False


class Entry(Struct):
    """What an inventory says of one node.

    Attributes:
        labels: what a scheduler can select it by: labels of Kubernetes; features of Slurm, without values.
        hostname: the value of Kubernetes' own label for this one node.
    """

    name: str
    facts: Facts
    labels: tuple[tuple[str, str], ...] = ()
    hostname: str | None = None


class Assumption(Struct, frozen=True):
    """A fact that the inventory does not say, what is taken instead (None: it stays unknown), and why."""

    fact: str
    value: str | None
    why: str


class Node(Struct, frozen=True):
    """A node: `machine`, or why nothing can be planned for it (`unusable`); the rest as in `Entry`."""

    name: str
    format: str
    machine: Machine | None
    unusable: str | None = None
    assumed: tuple[Assumption, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    hostname: str | None = None


class OddEntryError(Exception):
    """An entry cannot be what it says; who knows the inventory makes `bad-inventory` of it."""

    def __init__(self, what: str, *, node: str = "", found: object = "", hint: str = "") -> None:
        super().__init__(what)
        self.node, self.found, self.hint = node, found, hint

    def of(self, source: str) -> UsageError:
        """The error of an inventory, with the node that it is about."""
        place = f"{source}, node {_printable(self.node)}" if self.node else source
        return UsageError(
            "bad-inventory",
            f"{place}: {self}",
            found=_printable(str(self.found)) if self.found != "" else None,
            hints=(self.hint or "correct the inventory, or leave the node out of it",),
        )


def _printable(text: str) -> str:
    shown = text if _NAME.fullmatch(text) else ascii(text)
    return shown if len(shown) <= 160 else shown[:157] + "..."


@cache
def names_of(format_name: str) -> dict[str, Any]:
    """How a kind of inventory calls what a machine has (`fields.json`)."""
    data = own_data(__file__, "fields.json", dict[str, Any])
    return {name: row for name, row in data[format_name].items() if name != "source"}


def first_of(values: Mapping[str, Any], names: Iterable[str | Sequence[str]]) -> str | None:
    """The first of several names that has a value; a name may be a list: the parts of a version."""
    for name in names:
        parts = (name,) if isinstance(name, str) else name
        if known := tuple(takewhile(bool, (str(values.get(part) or "") for part in parts))):
            return ".".join(known)
    return None


def by_our_names(values: Mapping[str, Any], names: Mapping[str, Iterable[str]]) -> dict[str, Any]:
    """What is said, under our names for it."""
    return {ours: first_of(values, theirs) for ours, theirs in names.items()}


def number_of(text: str, node: str) -> int:
    """A number of GPUs that a machine may have; spreadsheets write `8.0`."""
    match = re.fullmatch(r"([0-9]{1,4})(?:\.0)?", text)
    if match is None:
        raise OddEntryError("no machine has that number of GPUs", node=node, found=text)
    return int(match[1])


def host_names(text: str) -> list[str]:
    """The names that Slurm and clush write as `gpu[1-3,07],login`."""
    found: list[str] = []
    for part in re.findall(r"(?:[^,\[]|\[[^\]]*\])+", text):
        stem, ranges, end = (*re.split(r"[\[\]]", part, maxsplit=2), "", "")[:3]
        for run in ranges.split(","):
            first, _, last = run.partition("-")
            numbers = range(int(first), int(last) + 1) if first.isdigit() and last.isdigit() else None
            if numbers is not None and len(numbers) > _MOST_HOSTS:
                raise OddEntryError("it names too many nodes at once", found=text)
            texts = [run] if numbers is None else [f"{number:0{len(first)}}" for number in numbers]
            found += [f"{stem}{number}{end}" for number in texts]
    return found


def decoded(item: Raw | Any, kind: type[T]) -> T:
    """An entry of an inventory, undecoded JSON or values, as its type."""
    try:
        return decoder(kind).decode(item) if isinstance(item, Raw) else convert(item, kind)
    except (DecodeError, RecursionError) as error:
        try:
            values = msgspec.json.decode(item) if isinstance(item, Raw) else item
            node = str(first_of(values.get("metadata", values), ("name", "Name")) or "")
        except (DecodeError, RecursionError, AttributeError):
            node = ""
        what = "it does not have the shape that its maker documents"
        raise OddEntryError(what, node=node, found=error) from error


def parse_assumed(texts: Iterable[str], catalog: Catalog) -> dict[str, str]:
    """`--assume driver=580.95.05`, checked.

    Raises:
        UsageError: `bad-value`: an unknown key, or a value that cannot be.
    """
    found: dict[str, str] = {}
    for text in texts:
        key, _, value = (part.strip() for part in text.partition("="))
        value = unprefixed(value) if key == "driver" else value
        right = {
            "arch": machine_arch(value) in ARCHES,
            "libc": _libc(value) is not None,
            "gpu": gpu_named(value, catalog) is not None,
        }.get(key, _VERSION.fullmatch(value) is not None)
        if key not in _ASSUMABLE or not right:
            raise UsageError(
                "bad-value",
                f"--assume {text} is nothing that can be assumed",
                wanted=", ".join(f"{name}={example}" for name, example in _ASSUMABLE.items()),
                found=text,
                hints=(f"--assume {key}={_ASSUMABLE[key]}" if key in _ASSUMABLE else "--assume driver=580",),
            )
        found[key] = value
    return found


class Nodes:
    """Makes nodes out of what is said of them; equal facts share one machine.

    Nodes of clusters have the libc of the container image that they run.
    """

    def __init__(self, catalog: Catalog, assumed: Mapping[str, str], image: Libc) -> None:
        self._catalog = catalog
        self._assumed = assumed
        self._image = f"{image.family} {image.version}"
        self._made: dict[tuple[str, Facts], Node] = {}

    def make(self, said: Entry, format_name: str) -> Node:
        """A node."""
        if not _NAME.fullmatch(said.name):
            raise OddEntryError("a node's name is empty or cannot be printed", found=ascii(said.name))
        if len(said.facts.gpus) > _MOST_GPUS:
            raise OddEntryError("no machine has that many GPUs", node=said.name, found=len(said.facts.gpus))
        key = (format_name, said.facts)
        if key not in self._made:
            taken: list[Assumption] = []
            try:
                made = said.facts.machine or said.facts.unusable or self._machine(said.facts, taken)
            except OddEntryError as error:
                error.node = said.name
                raise
            machine, unusable = (None, made) if isinstance(made, str) else (made, None)
            self._made[key] = Node(said.name, format_name, machine, unusable, tuple(taken))
        return structs.replace(self._made[key], name=said.name, labels=said.labels, hostname=said.hostname)

    def _machine(self, facts: Facts, taken: list[Assumption]) -> Machine | str:
        """The machine, or why there is none; what was assumed is added to `taken`."""

        def value(fact: str, said: str | None, other: str | None = None, why: str = "") -> str | None:
            """What the inventory says, else what `--assume` says, else something else."""
            if said:
                return said
            if fact in self._assumed:
                other, why = self._assumed[fact], f"--assume {fact}"
            taken.append(Assumption(fact, other, why or f"--assume {fact}={_ASSUMABLE[fact]} would say it"))
            return other

        name = facts.os or ("macos" if any(gpu and gpu.vendor == "apple" for gpu in facts.gpus) else "linux")
        os = next(os for start, os in _SYSTEMS.items() if re.match(start, name.strip().lower()))
        arch = machine_arch(value("arch", facts.arch, *_usual_arch(os, facts.gpus)) or "")
        if os is None or arch not in ARCHES:
            return f"PyTorch publishes nothing for {_printable(name)} on {_printable(arch)}"
        there = facts.gpus
        if os == "macos":
            there = (Gpu(vendor="apple", integrated=True),) if arch == "aarch64" else ()
        unnamed = gpu_of(self._catalog, product=value("gpu", None)) if None in there else None
        known = [gpu or unnamed for gpu in there]
        gpus = numbered(filter(None, known))
        if None in known:
            return _unnamed(facts.called)
        said = _WITHIN.search(facts.os_version or (name if os == "macos" else ""))
        version = said and said[0]
        libc = None
        if os == "linux":
            release = f"{name} {facts.os_version or ''}".strip()
            usual = self._image if facts.in_image else _of_pattern("libc", release)
            why = "the container image" if facts.in_image else f"that of {_printable(release)}"
            text = value("libc", facts.libc, usual, why if usual else "")
            libc = None if text is None else _libc(text)
            if text is not None and libc is None:
                raise OddEntryError("that is no C library", found=text)
        driver = _version(facts.driver, "the driver version")
        drivers = []
        vendors = dict.fromkeys(gpu.vendor for gpu in gpus)
        for vendor in vendors:
            mine, cuda = driver if len(vendors) == 1 else None, None  # of several, an inventory says NVIDIA's
            if vendor == "nvidia":
                mine = value("driver", driver)
                if mine and dotted(mine)[0] < OLDEST_DRIVER:
                    raise OddEntryError("no NVIDIA driver has that version, but perhaps its CUDA", found=mine)
                cuda = _version(facts.cuda, "the CUDA version of its driver")
            drivers.append(Driver(vendor=vendor, version=mine, cuda_version=cuda))
        return Machine(
            os=os,
            arch=arch,
            os_version=value("os_version", version) if os == "macos" else version,
            libc=libc,
            drivers=tuple(drivers),
            gpus=gpus,
        )


def _usual_arch(os: Os | None, gpus: Iterable[Gpu | None]) -> tuple[str, str]:
    """The processor where nothing says it, and why."""
    if os == "macos":
        return "aarch64", "Macs of today"
    on_arm = next((gpu.name for gpu in gpus if gpu and _ON_ARM.search(gpu.name or "")), None)
    return ("aarch64", f"that of {on_arm}") if on_arm else ("x86_64", "most machines have it")


def _unnamed(called: str | None) -> str:
    """Why nothing can be planned for a node: which GPUs it has is not known."""
    if called is None:
        return "it has GPUs, and nothing says which; --assume gpu=h100 would"
    cut = called.endswith("...")
    hint = "nvidia-smi -L prints whole names" if cut else "--assume gpu=h100 would say which it is"
    return f"no GPU is called {_printable(called)!r}; {hint}"


def _version(text: str | None, what: str) -> str | None:
    """A version within what people write: `v580.95`, `nvidia-driver-550`, `535.x`."""
    plain = unprefixed(text or "")
    if _UNKNOWN.fullmatch(plain):
        return None
    found = _VERSION.match(plain) or _WITHIN.search(plain)
    if found is None or "cuda" in plain.lower():
        raise OddEntryError(f"{what} is no version", found=plain)
    return found[0]


def _libc(text: str) -> Libc | None:
    match = _LIBC.fullmatch(text.strip().lower())
    if match is None:
        return None
    return Libc(family="musl" if match[1] == "musl" else "glibc", version=match[2])


def gpu_of(
    catalog: Catalog, *, product: str | None = None, code: str | None = None, pci_id: str | None = None
) -> Gpu | None:
    """A GPU by its code, its PCI id, its name, or a cloud's type of machine; None: nothing identifies it."""
    pci_id = (pci_id or "").lower().replace("0x", "")
    product = product and (_of_pattern("instances", product) or product)
    if code and (coded := gpu_with_code(code)):
        found = structs.replace(coded, integrated=False if coded.vendor == "nvidia" else None)
    elif vendor := PCI_VENDORS.get(pci_id[:4]):
        found = Gpu(vendor=vendor, pci_id=pci_id)
    elif not product or (named := gpu_named(product, catalog, within=True)) is None:
        return None
    else:
        found = named if named.vendor == "intel" else structs.replace(named, pci_id=None)
    return structs.replace(found, name=product)


@cache
def _of_pattern(table: str, text: str) -> str | None:
    """What the first fact of a table of `fields.json` says whose pattern is in a text."""
    rows: dict[str, dict[str, str]] = names_of(table)
    return next((row["means"] for pattern, row in rows.items() if re.search(pattern, text.lower())), None)
