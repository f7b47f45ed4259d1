"""Hosts outside of Kubernetes, as Slurm, Ansible, Nomad and Prometheus describe them."""

from __future__ import annotations

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
    host_names,
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
    operating_system: str | None = None


SLURM = re.compile(r"NodeName=|(?=.*\bGRES\b)(?=.*\b(?:NODELIST|HOSTNAMES)\b)")
"""How the text of scontrol, slurm.conf and sinfo is known."""


def slurm_text(text: str, name: str, catalog: Catalog) -> Iterator[Entry]:
    """Nodes of `scontrol show node`, of slurm.conf, or of sinfo where it prints gres."""
    if text.startswith("NodeName="):
        rows = [
            dict(re.findall(r"(\w+)=((?<=OS=).*?(?= \w+=|$)|\S*)", block, re.M))
            for block in re.split(r"(?m)^(?=NodeName=)", text)
        ]
    else:
        header, *lines = map(str.split, text.splitlines())
        rows = [dict(zip(header, line, strict=False)) for line in lines]
    names = names_of("slurm")["text"]
    found = [by_our_names(row, names) for row in rows if row]
    nodes = [{**row, "name": node} for row in found for node in host_names(row["name"] or "")]
    yield from slurm(nodes, name, catalog)


def slurm(items: Iterable[Raw | Any], _: str, catalog: Catalog) -> Iterator[Entry]:
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
        facts = Facts(os=node.operating_system, arch=node.architecture, **values, gpus=tuple(gpus))
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
