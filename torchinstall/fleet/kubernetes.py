"""Nodes of a Kubernetes cluster: labels of Nodes, also as kubectl prints them, and ResourceSlices."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

from msgspec import Raw, Struct, field, structs

from torchinstall.catalog.catalog import Catalog
from torchinstall.core.machine import Gpu
from torchinstall.fleet.nodes import (
    Entry,
    Facts,
    OddEntryError,
    by_our_names,
    decoded,
    first_of,
    gpu_of,
    names_of,
    number_of,
)

_ROWS: dict[str, Any] = names_of("kubernetes")
_NAMES: dict[str, list[Any]] = _ROWS["names"]
_SELECTABLE = tuple(_ROWS["selectable"])
_TELLING = (*_SELECTABLE, *_ROWS["telling"])
"""Starts of labels that can select a node, and of those that say something of its machine."""
_VOLATILE = tuple(_ROWS["volatile"])
_NO = ("false", "0", "")
_MIG_COUNT = re.compile(r"nvidia\.com/mig-[^/]+\.count")
_DEVICES = {
    "amd": ("1002", re.compile(r"(?:beta\.)?amd\.com/gpu\.device-id\.(?:0x)?([0-9a-f]{4})")),
    "intel": ("8086", re.compile(r"gpu\.intel\.com/device-id\.[0-9a-f]{4}-([0-9a-f]{4})\.(?:count|present)")),
}
"""Vendor in PCI ids, and labels whose names end in a device id."""

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


def kubernetes(items: Iterable[Raw | Any], catalog: Catalog) -> Iterator[Entry]:
    """Every node of a list of Nodes and ResourceSlices; where both tell of a device, the slice counts."""
    nodes: dict[str, Entry] = {}
    slices: dict[str, list[_Spec]] = {}
    for item in items:
        seen = decoded(item, _Object)
        name = seen.metadata.name
        if seen.kind == "ResourceSlice":
            slices.setdefault(seen.spec.node_name or seen.spec.pool.name, []).append(seen.spec)
        elif seen.kind == "Node":
            if name in nodes:
                raise OddEntryError("it is there twice", node=name)
            nodes[name] = _node(seen, catalog)
    for name, specs in slices.items():
        node = nodes.setdefault(name, Entry(name, Facts(in_image=True)))
        node.facts = _with_devices(node.facts, specs, catalog)
    yield from nodes.values()


def _node(seen: _Object, catalog: Catalog) -> Entry:
    """A node by its labels; those with equal labels are read once, and share what was read."""
    name, labels, status = seen.metadata.name, seen.metadata.labels or {}, seen.status
    amounts = {**(status.capacity or {}), **(status.allocatable or {})}
    found = ((vendor, first_of(amounts, keys) or "0") for vendor, keys in _ROWS["resources"].items())
    resources = tuple((vendor, amount) for vendor, amount in found if amount != "0")
    telling = tuple(pair for pair in labels.items() if pair[0].startswith(_TELLING))
    telling = tuple(pair for pair in telling if not pair[0].startswith(_VOLATILE))
    os, arch = status.node_info.operating_system, status.node_info.architecture

    def read() -> Facts:
        facts = _read(name, dict(telling), resources, catalog)
        return structs.replace(facts, os=facts.os or os, arch=facts.arch or arch)

    facts = catalog.once(("labels", telling, resources, os, arch), read)
    selectable = tuple(sorted(pair for pair in telling if pair[0].startswith(_SELECTABLE)))
    shared = catalog.once(("selectable", selectable), lambda: selectable)
    return Entry(name, facts, shared, first_of(labels, _NAMES["hostname"]))


def _read(
    name: str, labels: dict[str, str], resources: tuple[tuple[str, str], ...], catalog: Catalog
) -> Facts:
    """What labels and resources say; where no label describes a GPU, the cloud's type of the node may."""
    amounts = dict(resources)
    found = {"nvidia": _nvidia(name, labels, amounts.get("nvidia"), catalog)}
    found |= {vendor: _others(labels, vendor, catalog) for vendor in _DEVICES}
    rented = gpu_of(catalog, product=first_of(labels, _NAMES["instance"]))
    kind = rented and rented.vendor
    silent = [
        vendor
        for vendor, gpus in found.items()
        if not gpus and (vendor in amounts or vendor == kind or _is(labels, vendor))
    ]
    for vendor in silent:
        many = number_of(amounts.get(vendor, "1"), name)
        found[vendor] = [rented] * many if vendor == kind else [None]
    gpus = [*chain.from_iterable(found.values())]
    values = by_our_names(labels, _ROWS["facts"])
    if found["amd"] and not found["nvidia"]:
        values["driver"] = first_of(labels, _NAMES["amd.driver"])
    unusable = _UNDESCRIBED if silent and not any(gpus) and not resources else None
    return Facts(**values, gpus=tuple(gpus), unusable=unusable, in_image=True)


def _nvidia(name: str, labels: dict[str, str], amount: str | None, catalog: Catalog) -> list[Gpu | None]:
    values = by_our_names(labels, _ROWS["gpu"])
    number = number_of(first_of(labels, _NAMES["count"]) or amount or "1", name)
    code = values["code"]
    if code is not None and not re.fullmatch(r"\d{1,2}\.\d", code):
        raise OddEntryError("that is no compute capability", node=name, found=code)
    if any(_MIG_COUNT.fullmatch(key) and value not in _NO for key, value in labels.items()):
        number = max(number, 1)  # GPUs that are cut into slices are not counted as whole ones
    return [_gpu(catalog, "labels", **values)] * number if any(values.values()) else []


def _others(labels: Mapping[str, str], vendor: str, catalog: Catalog) -> list[Gpu | None]:
    """GPUs by the device ids in the names or values of labels, else the product."""
    prefix, pattern = _DEVICES[vendor]
    matches = (pattern.fullmatch(key.lower()) for key, value in labels.items() if value not in _NO)
    ids = {match[1]: None for match in matches if match is not None}
    values = (labels.get(name, "").lower() for name in _NAMES.get(f"{vendor}.device", ()))
    ids |= {value.removeprefix("0x"): None for value in values if value}
    product = (first_of(labels, _NAMES[f"{vendor}.product"]) or "").replace("_", " ") or None
    named = product if len(ids) < 2 else None
    pci_ids: list[str | None] = [f"{prefix}:{device}" for device in ids]
    pci_ids += [None] if product and not ids else []
    return [_gpu(catalog, "labels", product=named, pci_id=pci_id) for pci_id in pci_ids]


def _gpu(catalog: Catalog, source: str, **known: str | None) -> Gpu | None:
    gpu = gpu_of(catalog, **known)
    return None if gpu is None else structs.replace(gpu, source=source)


def _is(labels: Mapping[str, str], vendor: str) -> bool:
    return any(labels.get(name, "").lower() not in _NO for name in _NAMES[vendor])


def _with_devices(facts: Facts, specs: list[_Spec], catalog: Catalog) -> Facts:
    """The node with the GPUs of its slices; a slice of a GPU counts once, with the GPU that it is of."""
    gpus: list[Gpu | None] = []
    driver = cuda = None
    seen = set[str]()
    for spec in specs:
        names: dict[str, str] = names_of("dra").get(spec.driver, {})
        for device in (spec.devices or ()) if names else ():
            attributes = _attributes(device, spec.driver)
            values = {ours: attributes.get(theirs, "") for ours, theirs in names.items()}
            whole = values.get("parent") or attributes.get("uuid", "")
            if not _GPU_TYPES.fullmatch(attributes.get("type", "gpu")) or whole in seen:
                continue
            seen |= {whole} if whole else set()
            pci_id = values.get("pci", "").lower().removeprefix("0x")
            product = values["product"].replace("_", " ").removeprefix("Unknown") or None
            known = {"product": product, "code": _two(values.get("capability"))}
            gpus.append(_gpu(catalog, "resourceslice", **known, pci_id=pci_id and f"8086:{pci_id}"))
            driver = driver or _driver_text(values.get("driver"))
            cuda = cuda or _two(values.get("cuda"))
    return (
        structs.replace(facts, gpus=tuple(gpus), driver=driver, cuda=cuda, unusable=None) if gpus else facts
    )


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
    if not text or not re.fullmatch(r"\d{3}\.\d+\.\d+", text):
        return text or None
    branch, number, last = text.split(".")
    return f"{branch}.{number}" if last == "0" else f"{branch}.{number}.{last:0>2}"


LABELS = re.compile(r"(?<![\w/.-])(?:[\w-]+\.)*(?:nvidia|amd|intel)\.com/(?!gpu=)[\w.-]+\"?[=:]")
"""How a text with labels of GPUs is known; `nvidia.com/gpu=all` is a device of a container."""

_SHOWN = re.compile(r"^([\w.-]+) .*?(\S+=\S*,\S*)$", re.M)
_LABEL = re.compile(r"([\w.-]+/[\w./-]+)\"?(?:=|: *)\"?([\w.-]*)")


def labels(text: str, name: str) -> Iterator[dict[str, Any]]:
    """Nodes of Kubernetes, of `kubectl get nodes --show-labels`, `kubectl describe node`, or labels alone."""
    parts = re.split(r"(?m)^Name: +(\S+)", text)
    described = list(zip(parts[1::2], parts[2::2], strict=True))
    for node, found in _SHOWN.findall(text) or described or [(name, text)]:
        pairs = dict(_LABEL.findall(found))  # of resources, too: what is allocatable comes last
        yield {"kind": "Node", "metadata": {"name": node, "labels": pairs}, "status": {"allocatable": pairs}}
