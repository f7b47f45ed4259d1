"""What people copy out of a terminal: nvidia-smi's own output, and labels of nodes as kubectl prints them."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from typing import Any

from torchinstall.catalog.catalog import Catalog
from torchinstall.core.machine import Gpu
from torchinstall.fleet.nodes import Facts, Said, gpu_of

_HEADER = r"(?=.*\bname\b)(?=.*\bdriver_version\b)(?!.*\b(?:node|host|hostname|machine|server|gpu)\b)[\w.]+, "
SMI = re.compile(rf"(?:.*\n)*?(?:\|? ?NVIDIA-SMI +\d|=+NVSMI LOG=+|GPU \d+: .+ \(UUID: |{_HEADER})")
"""How the output of nvidia-smi is known: its table, `-q`, `-L`, or `--query-gpu` as CSV with its header."""

LABELS = re.compile(r"(?s:.*?)\b(?:nvidia|amd|intel)\.com/[\w.-]+\"?[=:]")
"""How a text with labels of GPUs is known."""

_VERSION = r"[ |:]+(\d+(?:\.\d+)+)"
_ROW = re.compile(
    r"^\| +\d+ +(\S.*?) +(?:On|Off|N/A|WDDM|TCC|MCDM) +\| *[0-9A-Fa-f]+:[0-9A-Fa-f]+:[0-9A-Fa-f]+\.\d", re.M
)
_LISTED = re.compile(r"^GPU \d+: (.+) \(UUID: ", re.M)
_ASKED = re.compile(r"^ *Product Name *: (.+?) *$", re.M)
_CUT = "..."
"""Where nvidia-smi before R535 cuts a name that is longer than its column."""

_SHOWN = re.compile(r"^([\w.-]+) .*?(\S+=\S*,\S*)$", re.M)
_LABEL = re.compile(r"([\w.-]+/[\w./-]+)\"?(?:=|: *)\"?([\w.-]*)")


def nvidia_smi(text: str, name: str, catalog: Catalog) -> Iterator[Said]:
    """The machine on which nvidia-smi printed this.

    From R610 on it calls the driver's version KMD version, and the CUDA version that of the CUDA UMD.
    """
    driver = re.search(rf"\b(?:Driver|KMD) Version{_VERSION}", text)
    cuda = re.search(rf"\bCUDA (?:UMD )?Version{_VERSION}", text)
    names = _LISTED.findall(text) or _ASKED.findall(text) or _ROW.findall(text)
    rows = [{"name": found} for found in names] or list(_queried(text))
    gpus = [_gpu(row, catalog) for row in rows]
    cut = next((row["name"] for row, gpu in zip(rows, gpus, strict=True) if gpu is None), None)
    yield Said(
        name,
        Facts(
            os="windows" if re.search(r"\b(?:WDDM|TCC|MCDM)\b", text) else "linux",
            driver=driver[1] if driver else next((row.get("driver_version") for row in rows), None),
            cuda=cuda[1] if cuda else None,
            gpus=tuple(gpus),
            unusable=None if cut is None else f"no GPU is called {cut!r}; nvidia-smi -L prints whole names",
        ),
    )


def _queried(text: str) -> Iterator[dict[str, str]]:
    """The rows of `--query-gpu=name,driver_version,... --format=csv`, by the names of its header."""
    lines = text.splitlines()
    start = next((place for place, line in enumerate(lines) if "driver_version" in line), len(lines))
    rows = csv.reader(lines[start:], skipinitialspace=True)
    header = next(rows, [])
    for cells in rows:
        if len(cells) == len(header) and "name" in header:
            yield dict(zip(header, cells, strict=True))


def _gpu(row: dict[str, str], catalog: Catalog) -> Gpu | None:
    """A GPU by its name, whole or cut; None: products with different code have such a name."""
    name, cut = row["name"].removesuffix(_CUT), row["name"].endswith(_CUT)
    found = gpu_of(catalog, product=name, code=row.get("compute_cap"))
    if found is None and cut:
        start = name.removeprefix("NVIDIA ").lower()
        like = [fact for fact in catalog.tables.gpus("nvidia") if (fact.name or "").lower().startswith(start)]
        if len({fact.code for fact in like}) == 1:
            found = gpu_of(catalog, product=name, code=like[0].code)
    return found


def labels(text: str, name: str) -> Iterator[dict[str, Any]]:
    """Nodes of Kubernetes, of `kubectl get nodes --show-labels`, `kubectl describe node`, or labels alone."""
    told = re.search(r"^Name: +(\S+)", text, re.M)
    for node, found in _SHOWN.findall(text) or [(told[1] if told else name, text)]:
        yield {"kind": "Node", "metadata": {"name": node, "labels": dict(_LABEL.findall(found))}}
