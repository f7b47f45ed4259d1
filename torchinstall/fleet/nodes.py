"""Nodes of inventories: what an inventory says of each, and the machine that follows from it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import DecodeError, Raw, Struct, structs

from torchinstall.catalog.catalog import Catalog
from torchinstall.core.errors import UsageError
from torchinstall.core.machine import Driver, Gpu, Libc, Machine, Os
from torchinstall.fleet.products import gpu_named

T = TypeVar("T")

_MOST_GPUS = 1024
_NAME = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]{1,512}")
_VERSION = re.compile(r"[0-9]{1,5}(?:\.[0-9]{1,6}){0,4}(?![0-9.])")
_NUMBER = re.compile(r"[0-9]{1,4}")
_SYSTEMS: dict[str, Os] = {"linux": "linux", "windows": "windows", "macos": "macos", "darwin": "macos"}
_ARCHS = {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64"}
_ASSUMABLE = {"driver": "580.95.05", "libc": "2.36", "arch": "x86_64", "gpu": "h100", "os_version": "14.5"}
"""What can be assumed, each with an example."""


class Facts(Struct, frozen=True, kw_only=True):
    """What an inventory says of a node; None: it does not say.

    Attributes:
        gpus: whatever is known of each.
        unnamed: further GPUs that are there and that nothing names.
        machine: whole, where the inventory holds a machine file.
        unusable: why nothing can be planned for the node.
        in_image: it runs containers, so that the image's libc counts.
    """

    os: str = "linux"
    arch: str | None = None
    os_version: str | None = None
    libc: str | None = None
    driver: str | None = None
    cuda: str | None = None
    gpus: tuple[Gpu, ...] = ()
    unnamed: int = 0
    machine: Machine | None = None
    unusable: str | None = None
    in_image: bool = False


class Said(Struct):
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
    """A node: `machine`, or why nothing can be planned for it (`unusable`); the rest as in `Said`."""

    name: str
    format: str
    machine: Machine | None
    unusable: str | None = None
    assumed: tuple[Assumption, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    hostname: str | None = None


@lru_cache(maxsize=1)
def _fields() -> dict[str, Any]:
    text = Path(__file__).with_name("fields.json").read_text(encoding="utf-8")
    data: dict[str, Any] = json.loads(text)
    return data


def names_of(format_name: str) -> dict[str, Any]:
    """How a kind of inventory calls what a machine has (`fields.json`)."""
    found: dict[str, Any] = _fields()[format_name]
    return found


def first_of(values: Mapping[str, Any], names: Sequence[str]) -> str | None:
    """The first of several names that has a value."""
    return next((str(values[name]) for name in names if values.get(name)), None)


def number_of(text: str) -> int | None:
    """A number of GPUs as it is written; None: it is none, or none that a machine has."""
    return int(text) if _NUMBER.fullmatch(text) else None


def bad_inventory(
    source: str, what: str, *, node: str = "", found: object = "", hint: str = "", wanted: str | None = None
) -> UsageError:
    """The error of an inventory, with the node that it is about."""
    where = f"{source}, node {_printable(node)}" if node else source
    return UsageError(
        "bad-inventory",
        f"{where}: {what}",
        wanted=wanted,
        found=_printable(str(found)) if found != "" else None,
        hints=(hint or "correct the inventory, or leave the node out of it",),
    )


def _printable(text: str) -> str:
    shown = text if _NAME.fullmatch(text) else ascii(text)
    return shown if len(shown) <= 160 else shown[:157] + "..."


def decoded(item: Raw | Any, kind: type[T], source: str, name: Callable[[Any], object]) -> T:
    """An entry of an inventory as its type.

    Args:
        item: undecoded JSON, or values.
        kind: its type.
        source: the inventory, for messages.
        name: finds the node's name in the values, where they are not of that type.

    Raises:
        UsageError: `bad-inventory`: it is of another shape.
    """
    try:
        return msgspec.json.decode(item, type=kind) if isinstance(item, Raw) else msgspec.convert(item, kind)
    except (DecodeError, RecursionError) as error:
        try:
            node = str(name(msgspec.json.decode(item) if isinstance(item, Raw) else item))
        except (DecodeError, RecursionError, AttributeError, KeyError, TypeError):
            node = ""
        what = "it does not have the shape that its maker documents"
        raise bad_inventory(source, what, node=node, found=error) from error


def parse_assumed(texts: Iterable[str], catalog: Catalog) -> dict[str, str]:
    """`--assume driver=580.95.05`, checked.

    Raises:
        UsageError: `bad-value`: an unknown key, or a value that cannot be.
    """
    found: dict[str, str] = {}
    for text in texts:
        key, _, value = (part.strip() for part in text.partition("="))
        right = {
            "arch": _ARCHS.get(value.lower(), value) in ("x86_64", "aarch64"),
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

    Args:
        catalog: knows products.
        assumed: by `--assume`, where an inventory does not say.
        image: the libc of the container image that nodes of clusters run.
    """

    def __init__(self, catalog: Catalog, assumed: Mapping[str, str], image: Libc) -> None:
        self._catalog = catalog
        self._assumed = assumed
        self._image = image
        self._made: dict[tuple[str, Facts], Node] = {}

    def make(self, said: Said, source: str, format_name: str) -> Node:
        """A node.

        Raises:
            UsageError: `bad-inventory`: its name or a value cannot be.
        """
        if not _NAME.fullmatch(said.name):
            raise bad_inventory(source, "a node's name is empty or cannot be printed", found=ascii(said.name))
        key = (format_name, said.facts)
        if key not in self._made:
            self._made[key] = _Making(self._catalog, self._assumed, self._image, source, said).node(
                format_name
            )
        return structs.replace(self._made[key], name=said.name, labels=said.labels, hostname=said.hostname)


class _Making:
    """One machine in the making."""

    def __init__(
        self, catalog: Catalog, assumed: Mapping[str, str], image: Libc, source: str, said: Said
    ) -> None:
        self._catalog = catalog
        self._assume = assumed
        self._image = image
        self._source = source
        self._said = said
        self._taken: list[Assumption] = []

    def node(self, format_name: str) -> Node:
        facts = self._said.facts
        machine, unusable = facts.machine, facts.unusable
        if machine is None and unusable is None:
            made = self._machine(facts)
            machine, unusable = (None, made) if isinstance(made, str) else (made, None)
        return Node(self._said.name, format_name, machine, unusable, tuple(self._taken))

    def _machine(self, facts: Facts) -> Machine | str:
        """The machine, or why there is none."""
        os = _SYSTEMS.get(facts.os.strip().lower())
        text = self._value("arch", facts.arch, "x86_64", "most machines have it") or ""
        arch = _ARCHS.get(text.strip().lower(), text.strip().lower())
        if os is None or arch not in ("x86_64", "aarch64"):
            return f"PyTorch publishes nothing for {_printable(facts.os)} on {_printable(arch)}"
        gpus = facts.gpus
        if len(gpus) + facts.unnamed > _MOST_GPUS:
            raise self._bad("no machine has that many GPUs", f"more than {_MOST_GPUS}")
        if facts.unnamed:
            gpu = gpu_named(self._value("gpu", None) or "", self._catalog)
            if gpu is None:
                return "it has GPUs, and nothing says which; --assume gpu=h100 would"
            gpus = (*gpus, *([gpu] * facts.unnamed))
        counts: dict[str, int] = {}
        for gpu in gpus:
            counts[gpu.vendor] = counts.get(gpu.vendor, 0) + 1
        places = dict.fromkeys(counts, 0)
        numbered = []
        for gpu in gpus:
            numbered.append(structs.replace(gpu, index=places[gpu.vendor]))
            places[gpu.vendor] += 1
        version = self._version(facts.os_version, "the version of its system")
        return Machine(
            os=os,
            arch=arch,
            os_version=self._value("os_version", version) if os == "macos" else version,
            libc=self._libc(facts) if os == "linux" else None,
            drivers=tuple(self._driver(vendor, facts) for vendor in counts),
            gpus=tuple(numbered),
        )

    def _value(self, fact: str, said: str | None, other: str | None = None, why: str = "") -> str | None:
        """What the inventory says, else what `--assume` says, else something else."""
        if said:
            return said
        if fact in self._assume:
            other, why = self._assume[fact], f"--assume {fact}"
        self._taken.append(Assumption(fact, other, why or f"--assume {fact}={_ASSUMABLE[fact]} would say it"))
        return other

    def _libc(self, facts: Facts) -> Libc | None:
        image = f"{self._image.family} {self._image.version}" if facts.in_image else None
        text = self._value("libc", facts.libc, image, "the container image" if image else "")
        libc = None if text is None else _libc(text)
        if text is not None and libc is None:
            raise self._bad("that is no C library", text)
        return libc

    def _driver(self, vendor: Any, facts: Facts) -> Driver:
        version = self._version(facts.driver, "the driver version")
        cuda = None
        if vendor == "nvidia":
            version = self._value("driver", version)
            cuda = self._version(facts.cuda, "the CUDA version of its driver")
        return Driver(vendor=vendor, version=version, cuda_version=cuda)

    def _version(self, text: str | None, what: str) -> str | None:
        plain = (text or "").strip()
        if plain.lower().strip("[]") in ("", "n/a", "unknown", "none"):
            return None
        if not _VERSION.match(plain):
            raise self._bad(f"{what} is no version", plain)
        return plain

    def _bad(self, what: str, found: str) -> UsageError:
        return bad_inventory(self._source, what, node=self._said.name, found=found)


def _libc(text: str) -> Libc | None:
    match = re.fullmatch(
        r"(?:(glibc|musl)[ =-]?)?([0-9]{1,3}\.[0-9]{1,3}(?:\.[0-9]{1,3})?)", text.strip().lower()
    )
    if match is None:
        return None
    return Libc(family="musl" if match[1] == "musl" else "glibc", version=match[2])
