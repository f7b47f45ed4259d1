"""Inventories in the shapes that their makers document, of nodes that nobody has."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from msgspec import structs

from tests.cli.support import context
from tests.support.planning import shipped
from torchinstall.export.containers import IMAGE_LIBC
from torchinstall.fleet.inventories import read_inventories
from torchinstall.fleet.nodes import Node, parse_assumed


def gfd(product: str, code: str, driver: str, cuda: str, count: int = 1, **more: str) -> dict[str, str]:
    """Labels as GPU feature discovery writes them today."""
    major, minor, *rest = driver.split(".")
    return {
        "nvidia.com/gfd.timestamp": "1767000000",
        "nvidia.com/cuda.driver-version.full": driver,
        "nvidia.com/cuda.driver-version.major": major,
        "nvidia.com/cuda.driver-version.minor": minor,
        "nvidia.com/cuda.driver-version.revision": rest[0] if rest else "",
        "nvidia.com/cuda.driver.major": major,
        "nvidia.com/cuda.driver.minor": minor,
        "nvidia.com/cuda.driver.rev": rest[0] if rest else "",
        "nvidia.com/cuda.runtime-version.full": cuda,
        "nvidia.com/gpu.compute.major": code.split(".")[0],
        "nvidia.com/gpu.compute.minor": code.split(".")[1],
        "nvidia.com/gpu.count": str(count),
        "nvidia.com/gpu.product": product,
        "nvidia.com/gpu.replicas": "1",
        "nvidia.com/gpu.sharing-strategy": "none",
        "nvidia.com/mig.strategy": "single",
        **{f"nvidia.com/{key}": value for key, value in more.items()},
    }


def gfd_old(product: str, code: str, driver: str, cuda: str) -> dict[str, str]:
    """Labels as it wrote them before 2024: the driver only in parts."""
    major, minor, *rest = driver.split(".")
    return {
        "nvidia.com/cuda.driver.major": major,
        "nvidia.com/cuda.driver.minor": minor,
        "nvidia.com/cuda.driver.rev": rest[0] if rest else "",
        "nvidia.com/cuda.runtime.major": cuda.split(".")[0],
        "nvidia.com/cuda.runtime.minor": cuda.split(".")[1],
        "nvidia.com/gpu.compute.major": code.split(".")[0],
        "nvidia.com/gpu.compute.minor": code.split(".")[1],
        "nvidia.com/gpu.count": "1",
        "nvidia.com/gpu.product": product,
    }


def kube_node(
    name: str,
    labels: Mapping[str, str],
    *,
    arch: str = "amd64",
    os: str = "linux",
    resources: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """A Node as kubectl prints it, shortened."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "annotations": {"node.alpha.kubernetes.io/ttl": "0"},
            "labels": {
                "kubernetes.io/arch": arch,
                "kubernetes.io/os": os,
                "kubernetes.io/hostname": name,
                **labels,
            },
            "name": name,
            "resourceVersion": "42",
        },
        "spec": {"podCIDR": "10.0.0.0/24"},
        "status": {
            "allocatable": {"cpu": "32", "memory": "131072Ki", **(resources or {})},
            "capacity": {"cpu": "32", **(resources or {})},
            "nodeInfo": {"architecture": arch, "operatingSystem": os, "kernelVersion": "6.8.0-40-generic"},
        },
    }


def kube_list(*items: Mapping[str, Any]) -> str:
    """What `kubectl get … -o json` prints."""
    return json.dumps({"apiVersion": "v1", "items": list(items), "kind": "List"}, indent=1)


def resource_slice(
    node: str, driver: str, devices: Iterable[Mapping[str, Any]], *, basic: bool = False
) -> dict[str, Any]:
    """A ResourceSlice; `basic`: as before resource.k8s.io/v1."""
    rows = [
        {"name": f"gpu-{place}", **({"basic": {"attributes": row}} if basic else {"attributes": row})}
        for place, row in enumerate(devices)
    ]
    return {
        "apiVersion": "resource.k8s.io/v1beta1" if basic else "resource.k8s.io/v1",
        "kind": "ResourceSlice",
        "metadata": {"generateName": f"{node}-{driver}-", "name": f"{node}-{driver}-x1"},
        "spec": {"devices": rows, "driver": driver, "nodeName": node, "pool": {"name": node}},
    }


def read(folder: Path, *names: str, form: str | None = None, assume: tuple[str, ...] = ()) -> dict[str, Node]:
    """The nodes of files in a folder, by name."""
    found = read_inventories(
        context(folder), names, form, shipped(), parse_assumed(assume, shipped()), IMAGE_LIBC
    )
    return {node.name: node for node in found}


def read_text(folder: Path, text: str, name: str = "nodes.json", **more: Any) -> dict[str, Node]:
    """The nodes of one file with this text."""
    (folder / name).write_text(text, encoding="utf-8")
    return read(folder, name, **more)


def plain(node: Node) -> Node:
    """Without what only selects it."""
    return structs.replace(node, labels=(), hostname=None)
