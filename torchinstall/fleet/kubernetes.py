"""Nodes of a Kubernetes cluster: labels of Nodes, and devices of ResourceSlices."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from msgspec import Raw, Struct, field, structs

from torchinstall.catalog.catalog import Catalog
from torchinstall.core.machine import Gpu
from torchinstall.fleet.nodes import Facts, Said, bad_inventory, decoded, first_of, names_of, number_of
from torchinstall.fleet.products import gpu_of

_ROWS: dict[str, Any] = names_of("kubernetes")
_NAMES: dict[str, list[str]] = _ROWS["names"]
_NO = ("false", "0", "")
_MIG_COUNT = re.compile(r"nvidia\.com/mig-[^/]+\.count")
_INTEL_DEVICE = re.compile(r"gpu\.intel\.com/device-id\.[0-9a-f]{4}-([0-9a-f]{4})\.(?:count|present)")
_GPU_TYPES = re.compile(r"gpu|amdgpu|mig|.*partition")
"""Types of devices that compute on the node; one that a virtual machine has (`vfio`) does not."""

_UNDESCRIBED = "a GPU is there, but no label describes it (does its driver run?)"


class _Metadata(Struct):
    name: str = ""
    labels: dict[str, str] | None = None


class _NodeInfo(Struct, rename="camel"):
    architecture: str | None = None
    operating_system: str | None = None


class _Status(Struct, rename="camel"):
    node_info: _NodeInfo = field(default_factory=_NodeInfo)
    allocatable: dict[str, str | int] | None = None
    capacity: dict[str, str | int] | None = None


class _Device(Struct):
    attributes: dict[str, dict[str, Any]] | None = None
    basic: _Device | None = None


class _Pool(Struct):
    name: str = ""


class _Spec(Struct, rename="camel"):
    driver: str = ""
    node_name: str | None = None
    pool: _Pool = field(default_factory=_Pool)
    devices: list[_Device] | None = None


class _Object(Struct):
    kind: str = "Node"
    metadata: _Metadata = field(default_factory=_Metadata)
    status: _Status = field(default_factory=_Status)
    spec: _Spec = field(default_factory=_Spec)


def kubernetes(items: Iterable[Raw | Any], source: str, catalog: Catalog) -> Iterator[Said]:
    """Every node of a list of Nodes and ResourceSlices; where both tell of a device, the slice counts.

    Raises:
        UsageError: `bad-inventory`: an object is none that Kubernetes writes.
    """
    nodes: dict[str, Said] = {}
    slices: dict[str, list[_Spec]] = {}
    reader = _Labels(catalog, source)
    for item in items:
        seen = decoded(item, _Object, source, lambda values: values["metadata"]["name"])
        if seen.kind == "ResourceSlice":
            slices.setdefault(seen.spec.node_name or seen.spec.pool.name, []).append(seen.spec)
        elif seen.kind == "Node":
            if seen.metadata.name in nodes:
                raise bad_inventory(source, "it is there twice", node=seen.metadata.name)
            nodes[seen.metadata.name] = reader.node(seen)
    for name, specs in slices.items():
        node = nodes.setdefault(name, Said(name, Facts(in_image=True)))
        node.facts = _with_devices(node.facts, specs, catalog)
    yield from nodes.values()


class _Labels:
    """Reads labels of nodes; nodes with equal labels are read once."""

    def __init__(self, catalog: Catalog, source: str) -> None:
        self._catalog = catalog
        self._source = source
        self._facts: dict[object, Facts] = {}
        self._shared: dict[object, tuple[tuple[str, str], ...]] = {}

    def node(self, seen: _Object) -> Said:
        name, labels, status = seen.metadata.name, seen.metadata.labels or {}, seen.status
        amounts = {**(status.capacity or {}), **(status.allocatable or {})}
        resources = tuple(
            vendor
            for vendor, keys in _ROWS["resources"].items()
            if any(str(amounts.get(key, "0")) != "0" for key in keys)
        )
        told = tuple((key, value) for key, value in labels.items() if _tells(key))
        info = status.node_info
        key = (told, resources, info.operating_system, info.architecture)
        if key not in self._facts:
            self._facts[key] = self._read(name, dict(told), resources, info)
        selectable = tuple(sorted(pair for pair in told if _selectable(pair[0])))
        shared = self._shared.setdefault(selectable, selectable)
        return Said(name, self._facts[key], shared, first_of(labels, _NAMES["hostname"]))

    def _read(self, name: str, labels: dict[str, str], resources: tuple[str, ...], info: _NodeInfo) -> Facts:
        nvidia, unnamed = self._nvidia(name, labels)
        gpus = (*nvidia, *_amd(labels, self._catalog), *_intel(labels, self._catalog))
        described = {gpu.vendor for gpu in gpus} | ({"nvidia"} if unnamed else set())
        there = {vendor for vendor in _ROWS["resources"] if vendor in resources or _is(labels, vendor)}
        unnamed += len(there - described)
        driver = _version(labels, "driver") if nvidia else first_of(labels, _NAMES["amd.driver"])
        return Facts(
            os=first_of(labels, _NAMES["os"]) or info.operating_system or "linux",
            arch=first_of(labels, _NAMES["arch"]) or info.architecture,
            driver=driver,
            cuda=_version(labels, "cuda"),
            gpus=gpus,
            unnamed=unnamed,
            unusable=_UNDESCRIBED if there - described and not (gpus or resources) else None,
            in_image=True,
        )

    def _nvidia(self, name: str, labels: dict[str, str]) -> tuple[tuple[Gpu, ...], int]:
        """NVIDIA's GPUs, and how many of them no table knows."""
        code, product = _version(labels, "capability"), first_of(labels, _NAMES["product"])
        count = first_of(labels, _NAMES["count"]) or "1"
        number = number_of(count)
        if number is None:
            raise bad_inventory(self._source, "no machine has that number of GPUs", node=name, found=count)
        if code is not None and not re.fullmatch(r"\d{1,2}\.\d", code):
            raise bad_inventory(self._source, "that is no compute capability", node=name, found=code)
        if any(_MIG_COUNT.fullmatch(key) and value not in _NO for key, value in labels.items()):
            number = max(number, 1)  # GPUs that are cut into slices are not counted as whole ones
        if number == 0 or not (code or product):
            return (), 0
        gpu = gpu_of(self._catalog, product=product, code=code)
        return ((), number) if gpu is None else ((structs.replace(gpu, source="labels"),) * number, 0)


@lru_cache(maxsize=8192)
def _tells(key: str) -> bool:
    """Whether a label says something of the machine, or can select it."""
    known = (name for what, names in _NAMES.items() if what != "hostname" for name in names)
    return _selectable(key) or any(key == name or key.startswith(f"{name}.") for name in known)


@lru_cache(maxsize=8192)
def _selectable(key: str) -> bool:
    return key.startswith(tuple(_ROWS["selectable"])) and not key.startswith(tuple(_ROWS["volatile"]))


def _is(labels: Mapping[str, str], what: str) -> bool:
    return any(labels.get(name, "").lower() not in _NO for name in _NAMES[what])


def _version(labels: Mapping[str, str], what: str) -> str | None:
    """A version that is written whole, or in parts."""
    if whole := first_of(labels, _NAMES.get(what, ())):
        return whole
    known: list[str] = []
    for part in (1, 2, 3):
        value = first_of(labels, _NAMES.get(f"{what}.{part}", ()))
        if not value:
            break
        known.append(value)
    return ".".join(known) or None


def _amd(labels: Mapping[str, str], catalog: Catalog) -> Iterator[Gpu]:
    """AMD's GPUs: the device id is a label's value, or the end of its name where there are several."""
    found: dict[str, None] = {}
    for name in _NAMES["amd.device"]:
        found |= {labels[name]: None} if labels.get(name) else {}
        found |= {key.removeprefix(f"{name}."): None for key in labels if key.startswith(f"{name}.")}
    product = (first_of(labels, _NAMES["amd.product"]) or "").replace("_", " ") or None
    ids: list[str | None] = [f"1002:{device.lower().removeprefix('0x')}" for device in found]
    ids += [None] if product and not ids else []
    for pci_id in ids:
        gpu = gpu_of(catalog, product=product if len(ids) == 1 else None, pci_id=pci_id)
        if gpu is not None:
            yield structs.replace(gpu, source="labels")


def _intel(labels: Mapping[str, str], catalog: Catalog) -> Iterator[Gpu]:
    """Intel's GPUs: `gpu.intel.com/device-id.0300-56c0.count`, else the product."""
    matches = (_INTEL_DEVICE.fullmatch(key.lower()) for key, value in labels.items() if value not in _NO)
    ids: list[str | None] = list({f"8086:{match[1]}": None for match in matches if match is not None})
    product = first_of(labels, _NAMES["intel.product"])
    for pci_id in ids or ([None] if product else []):
        gpu = gpu_of(catalog, product=product if len(ids) < 2 else None, pci_id=pci_id)
        if gpu is not None:
            yield structs.replace(gpu, source="labels")


def _with_devices(facts: Facts, specs: list[_Spec], catalog: Catalog) -> Facts:
    """The node with the GPUs of its slices; a slice of a GPU counts once, with the GPU that it is of."""
    gpus: list[Gpu] = []
    driver = cuda = None
    unnamed, whole = 0, set[str]()
    for spec in specs:
        row = names_of("dra").get(spec.driver)
        if not isinstance(row, dict):
            continue
        for device in spec.devices or ():
            values = _attributes(device, spec.driver)
            parent = values.get(row.get("parent", ""), values.get("uuid", ""))
            if not _GPU_TYPES.fullmatch(values.get("type", "gpu")) or parent in whole:
                continue
            whole |= {parent} if parent else set()
            pci_id = values.get(row.get("pci", ""), "").lower().removeprefix("0x")
            product = values.get(row["product"], "").replace("_", " ").removeprefix("Unknown")
            code = _two(values.get(row.get("capability", "")))
            gpu = gpu_of(catalog, product=product or None, code=code, pci_id=pci_id and f"8086:{pci_id}")
            gpus += [] if gpu is None else [structs.replace(gpu, source="resourceslice")]
            unnamed += gpu is None
            driver = driver or _driver_text(values.get(row.get("driver", "")))
            cuda = cuda or _two(values.get(row.get("cuda", "")))
    if not gpus and not unnamed:
        return facts
    return structs.replace(facts, gpus=tuple(gpus), driver=driver, cuda=cuda, unnamed=unnamed, unusable=None)


def _attributes(device: _Device, driver: str) -> dict[str, str]:
    """Attributes by their short names, whatever kind of value they have (below `basic` before v1)."""
    basic = device.basic.attributes if device.basic is not None else None
    rows = device.attributes or basic or {}
    return {key.removeprefix(f"{driver}/"): str(next(iter(row.values()), "")) for key, row in rows.items()}


def _two(text: str | None) -> str | None:
    """`9.0.0` as `9.0`: semantic versions have three parts."""
    return ".".join(text.split(".")[:2]) if text else None


def _driver_text(text: str | None) -> str | None:
    """A driver as its maker writes it: `580.105.8` is 580.105.08, and `565.77.0` is 565.77.

    A semantic version has three numbers, none with a zero in front; the last of NVIDIA's has two digits.
    """
    if text is None or not re.fullmatch(r"\d{3}\.\d+\.\d+", text):
        return text
    branch, number, last = text.split(".")
    return f"{branch}.{number}" if last == "0" else f"{branch}.{number}.{last:0>2}"
