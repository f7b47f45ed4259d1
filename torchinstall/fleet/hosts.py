"""Hosts outside of Kubernetes: Slurm, Ansible, Nomad, Prometheus, tables with named columns, nvidia-smi."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from msgspec import DecodeError, Raw, Struct, field, json

from torchinstall.catalog.catalog import Catalog
from torchinstall.core.errors import UsageError
from torchinstall.core.machine import Gpu, decode_machine
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


class _SlurmNode(Struct):
    name: str
    architecture: str | None = None
    gres: str | None = None
    features: list[str] | str | None = None
    active_features: list[str] | str | None = None
    extra: str | None = None
    comment: str | None = None


def slurm(items: Iterable[Raw], _: str, catalog: Catalog) -> Iterator[Entry]:
    """Nodes of `scontrol show node --json`: GPUs of gres, the rest of features and `extra`."""
    names = names_of("slurm")
    for item in items:
        node = decoded(item, _SlurmNode)
        features = _listed(node.active_features) or _listed(node.features)
        extra = _extra(node.extra) or _extra(node.comment)
        values = by_our_names(extra, {**names["facts"], **names["gpu"]})
        for what, pattern in names["features"].items():
            matches = (re.fullmatch(pattern, feature, re.IGNORECASE) for feature in features)
            found = next((".".join(match.groups()) for match in matches if match is not None), None)
            values[what] = values[what] or (found and found.replace("_", "."))
        product, code = values.pop("product"), values.pop("code")
        gpus: list[Gpu | None] = []
        for kind, count in _gres(node.gres or "", node.name):
            gpus += [_slurm_gpu(kind, product, code, features, catalog)] * count
        facts = Facts(arch=node.architecture, **values, gpus=tuple(gpus))
        yield Entry(node.name, facts, tuple((feature, "") for feature in sorted(set(features))))


def _gres(text: str, node: str) -> Iterator[tuple[str, int]]:
    """Type (empty: none) and number of `gpu:h100:4(S:0-1),gpu:1g.10gb:7,shard:8`."""
    for part in re.split(r",(?![^(]*\))", text):
        kind, *words = [word for word in part.partition("(")[0].strip().split(":") if word != "no_consume"]
        if kind == "gpu":
            counted = bool(words) and words[-1].isdigit()
            yield (words[0] if words[counted:] else ""), number_of(words[-1], node) if counted else 1


def _slurm_gpu(
    kind: str, product: str | None, code: str | None, features: Sequence[str], catalog: Catalog
) -> Gpu | None:
    """What the type of a gres means; else what `extra` says, or the one feature that names a GPU."""
    named = gpu_of(catalog, product=kind)
    if named is not None or code:
        return named or gpu_of(catalog, product=kind or None, code=code)
    words = (word for word in features if re.search("[A-Za-z]", word))
    found = filter(None, (gpu_of(catalog, product=word) for word in words))
    by_feature = {(gpu.vendor, gpu.code): gpu for gpu in found}
    return gpu_of(catalog, product=product) or (by_feature.popitem()[1] if len(by_feature) == 1 else None)


def _listed(value: list[str] | str | None) -> list[str]:
    """Features: a list, or text with commas (before Slurm 22.05)."""
    words = value.split(",") if isinstance(value, str) else value or []
    return [word.strip() for word in words if word.strip() not in ("", "(null)")]


def _extra(text: str | None) -> dict[str, Any]:
    """Slurm's free text where a site writes facts into it: JSON, or `driver=580.95.05,libc=2.34`."""
    plain = (text or "").strip()
    if plain.startswith("{"):
        try:
            value = json.decode(plain)
        except (DecodeError, RecursionError):
            return {}
        return value if isinstance(value, dict) else {}
    pairs = (part.partition("=") for part in re.split(r"[,;\s]+", plain))
    return {key.strip().lower(): value.strip() for key, equals, value in pairs if equals}


class _Task(Struct):
    hosts: dict[str, dict[str, Any]] = {}


class _Play(Struct):
    tasks: list[_Task] = []


def ansible(items: Sequence[Raw], name: str, _: Catalog) -> Iterator[Entry]:
    """Hosts with a machine file among their local facts; those without one are left out, with the reason."""
    names = names_of("ansible")
    for host, row in _ansible_hosts(decoded(items[0], dict[str, Any]), name).items():
        whole = _table(row, host)
        facts = _table(whole.get("ansible_facts", whole), host)
        local = next((facts[key] for key in names["local"] if key in facts), None)
        fact = local.get(names["fact"]) if isinstance(local, dict) else None
        if isinstance(fact, dict):
            try:
                machine = decode_machine(json.encode(fact).decode(), "its torchinstall fact")
            except UsageError as error:
                raise OddEntryError(error.message, node=host, found=error.found or "") from error
            yield Entry(host, Facts(machine=machine))
        else:
            said = str(fact or whole.get("msg") or "there is no torchinstall fact")[:120]
            yield Entry(host, Facts(unusable=f"{said}; the role in docs/how-to/fleets.md places one"))


def _ansible_hosts(top: dict[str, Any], name: str) -> dict[str, Any]:
    """Facts by host: of one host (a file of `--tree`), of several by name, or of the results of a play."""
    if "plays" in top:
        tasks = (task for play in decoded(top["plays"], list[_Play]) for task in play.tasks)
        results = (pair for task in tasks for pair in task.hosts.items())
        return {host: row for host, row in results if "ansible_facts" in row}
    if not {"ansible_facts", "ansible_architecture", "ansible_local"} & set(top):
        return top if not {"changed", "msg", "unreachable"} & set(top) else {name: top}
    facts = top.get("ansible_facts", top)
    said = first_of(facts, names_of("ansible")["hostname"]) if isinstance(facts, dict) else None
    return {said or name if name == "stdin" else name: top}


def _table(value: Any, host: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise OddEntryError("its facts are no table", node=host, found=value)
    return value


class _NomadDevice(Struct, rename="pascal"):
    vendor: str = ""
    type: str = ""
    name: str = ""
    attributes: dict[str, Any] | None = None
    instances: list[Any] | None = None


class _NomadResources(Struct, rename="pascal"):
    devices: list[_NomadDevice] | None = None


class _NomadNode(Struct, rename="pascal"):
    i_d: str = field(default="", name="ID")
    name: str = ""
    attributes: dict[str, Any] | None = None
    node_resources: _NomadResources = field(default_factory=_NomadResources)


def nomad(items: Iterable[Raw], name: str, catalog: Catalog) -> Iterator[Entry]:
    """Nodes of `nomad node status -json ID`, with the fingerprints of their devices."""
    for item in items:
        node = decoded(item, _NomadNode)
        gpus: list[Gpu | None] = []
        values = dict(node.attributes or {})
        for device in node.node_resources.devices or ():
            if device.type == "gpu":
                gpu = gpu_of(catalog, product=device.name)
                known = gpu is not None and gpu.vendor == device.vendor.lower()
                gpus += [gpu if known else None] * (len(device.instances or ()) or 1)
                values |= {key: _nomad_value(value) for key, value in (device.attributes or {}).items()}
        facts = Facts(**by_our_names(values, names_of("nomad")["facts"]), gpus=tuple(gpus))
        yield Entry(node.name or node.i_d or name, facts)


def _nomad_value(value: Any) -> Any:
    """`{"String": "580.95.05"}`, `{"Int": 11, "Unit": "GiB"}`."""
    return first_of(value, ("String", "Int", "Float", "Bool")) if isinstance(value, dict) else value


class _Sample(Struct):
    """A sample of Prometheus; in the API's JSON the name is one of the labels."""

    metric: dict[str, str]
    value: Any = None


_SAMPLE = re.compile(r"^([A-Za-z_:][\w:]*)\{(.*)\}\s+(\S+)")
_LABEL = re.compile(r'([A-Za-z_]\w*)="((?:[^"\\]|\\.)*)"')


def metrics(text: str, name: str, catalog: Catalog) -> Iterator[Entry]:
    """Prometheus' text format."""
    rows = []
    for match in filter(None, map(_SAMPLE.match, text.splitlines())):
        labels = {key: re.sub(r"\\(.)", r"\1", value) for key, value in _LABEL.findall(match[2])}
        rows.append(_Sample({"__name__": match[1], **labels}, match[3]))
    return _hosts_of(rows, name, catalog)


class _Result(Struct):
    result: list[_Sample]


def answer(items: Sequence[Raw], name: str, catalog: Catalog) -> Iterator[Entry]:
    """What the API of Prometheus answers to a query."""
    data = decoded(items[0], dict[str, Any]).get("data")
    return _hosts_of(decoded(data, _Result).result, name, catalog)


def _hosts_of(rows: Iterable[_Sample], name: str, catalog: Catalog) -> Iterator[Entry]:
    """Hosts of metrics that name a GPU; `name` is the host of metrics without one."""
    names = names_of("prometheus")
    nodes: dict[str, dict[str, dict[str, str]]] = {}
    codes: dict[str | None, str] = {}
    for row in rows:
        uuid = first_of(row.metric, names["uuid"])
        if row.metric.get("__name__", "").endswith("compute_cap"):
            codes[uuid] = str(row.value[-1] if isinstance(row.value, list) else row.value)
        if first_of(row.metric, names["gpu"]["product"]) is not None:
            gpus = nodes.setdefault(re.sub(r":\d+$", "", first_of(row.metric, names["node"]) or name), {})
            key = uuid or f"#{len(gpus)}"
            gpus[key] = {**gpus.get(key, {}), **row.metric}
    if not nodes:
        hint = "curl -s http://NODE:9835/metrics, or the API's answer to nvidia_smi_gpu_info"
        raise OddEntryError("no metric names a GPU", hint=hint)
    for host, metrics in nodes.items():
        known: list[Gpu | None] = []
        for uuid, labels in metrics.items():
            values = by_our_names(labels, names["gpu"])
            known.append(gpu_of(catalog, **{**values, "code": values["code"] or codes.get(uuid)}))
        first = next(iter(metrics.values()))
        os = "windows" if first_of(first, names["model"]) in names["windows"] else "linux"
        yield Entry(host, Facts(os=os, **by_our_names(first, names["facts"]), gpus=tuple(known)))


_NOTHING = ("none", "no", "-", "n/a", "na", "null", "cpu")
"""What people write into a cell of a table to say that there is nothing."""


def table(text: str, _: str, catalog: Catalog) -> Iterator[Entry]:
    """Lines of a table with named columns; a node on several lines has the GPUs of all of them."""
    names = names_of("csv")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    mark = max(",;\t", key=lines[0].count) if lines else ","
    try:
        header, *rows = csv.reader(lines, delimiter=mark)
    except (csv.Error, ValueError) as error:
        raise OddEntryError("it is neither an inventory nor a table", found=str(error)) from error
    header = [re.sub(r"[\s-]+", "_", value.strip().lower()) for value in header]
    if not set(header) & set(names["node"]):
        hint = "name the columns: node,gpu,gpus,driver,libc"
        raise OddEntryError("it is neither an inventory nor a table with a column of nodes", hint=hint)
    nodes: dict[str, Facts] = {}
    for cells in rows:
        plain = (value.strip() for value in cells)
        row = dict(zip(header, ("" if value.lower() in _NOTHING else value for value in plain), strict=False))
        node = first_of(row, names["node"]) or ""
        if len(cells) != len(header):
            what = f"the line needs {len(header)} cells"
            raise OddEntryError(what, node=node, found=mark.join(cells))
        gpu, count = by_our_names(row, names["gpu"]), first_of(row, names["count"])
        if times := re.fullmatch(r"(\d+) ?x (.+)|(.+) x ?(\d+)", gpu["product"] or ""):
            gpu["product"], count = times[2] or times[3], count or times[1] or times[4]
        number = number_of(count or "1", node) if count or any(gpu.values()) else 0
        before = nodes[node].gpus if node in nodes else ()
        gpus = (*before, *[gpu_of(catalog, **gpu)] * number)
        nodes[node] = Facts(**by_our_names(row, names["facts"]), gpus=gpus)
    for node, facts in nodes.items():
        yield Entry(node, facts)


_HEADER = r"(?=.*\bname\b)(?=.*\bdriver_version\b)(?!.*\b(?:node|host|hostname|machine|server|gpu)\b)[\w.]+, "
SMI = re.compile(rf"(?:.*\n)*?(?:\|? ?NVIDIA-SMI +\d|=+NVSMI LOG=+|GPU \d+: .+ \(UUID: |{_HEADER})")
"""How the output of nvidia-smi is known: its table, `-q`, `-L`, or `--query-gpu` as CSV with its header."""

_VERSION = r"[ |:]+(\d+(?:\.\d+)+)"
_ROW = re.compile(
    r"^\| +\d+ +(\S.*?) +(?:On|Off|N/A|WDDM|TCC|MCDM) +\| *[0-9A-Fa-f]+:[0-9A-Fa-f]+:[0-9A-Fa-f]+\.\d", re.M
)
_LISTED = re.compile(r"^GPU \d+: (.+) \(UUID: ", re.M)
_ASKED = re.compile(r"^ *Product Name *: (.+?) *$", re.M)
_CUT = "..."
"""Where nvidia-smi before R535 cuts a name that is longer than its column."""


def nvidia_smi(text: str, name: str, catalog: Catalog) -> Iterator[Entry]:
    """The machine on which nvidia-smi printed this.

    From R610 on it calls the driver's version KMD version, and the CUDA version that of the CUDA UMD.
    """
    driver = re.search(rf"\b(?:Driver|KMD) Version{_VERSION}", text)
    cuda = re.search(rf"\bCUDA (?:UMD )?Version{_VERSION}", text)
    names = _LISTED.findall(text) or _ASKED.findall(text) or _ROW.findall(text)
    rows = [{"name": found} for found in names] or list(_queried(text))
    gpus = [_printed(row, catalog) for row in rows]
    cut = next((row["name"] for row, gpu in zip(rows, gpus, strict=True) if gpu is None), None)
    yield Entry(
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


def _printed(row: dict[str, str], catalog: Catalog) -> Gpu | None:
    """A GPU by its name, whole or cut; None: products with different code have such a name."""
    name, cut = row["name"].removesuffix(_CUT), row["name"].endswith(_CUT)
    found = gpu_of(catalog, product=name, code=row.get("compute_cap"))
    if found is None and cut:
        start = name.removeprefix("NVIDIA ").lower()
        like = [fact for fact in catalog.tables.gpus("nvidia") if (fact.name or "").lower().startswith(start)]
        if len({fact.code for fact in like}) == 1:
            found = gpu_of(catalog, product=name, code=like[0].code)
    return found
