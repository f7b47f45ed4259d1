"""Hosts outside of Kubernetes: Slurm, Ansible, Nomad, Prometheus, and tables with named columns."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from msgspec import DecodeError, Raw, Struct, field, json

from torchinstall.catalog.catalog import Catalog
from torchinstall.core.errors import UsageError
from torchinstall.core.machine import Gpu, decode_machine
from torchinstall.fleet.nodes import Facts, Said, bad_inventory, decoded, first_of, names_of, number_of
from torchinstall.fleet.products import gpu_named, gpu_of


class _SlurmNode(Struct):
    name: str
    architecture: str | None = None
    gres: str | None = None
    features: list[str] | str | None = None
    active_features: list[str] | str | None = None
    extra: str | None = None
    comment: str | None = None


def slurm(items: Iterable[Raw], source: str, catalog: Catalog) -> Iterator[Said]:
    """Nodes of `scontrol show node --json`: GPUs of gres, the rest of features and `extra`."""
    rows = names_of("slurm")
    for item in items:
        node = decoded(item, _SlurmNode, source, lambda values: values["name"])
        features = _listed(node.active_features) or _listed(node.features)
        told = _extra(node.extra) or _extra(node.comment)
        values = {what: first_of(told, keys) for what, keys in rows["extra"].items()}
        for what, pattern in rows["features"].items():
            matches = (re.fullmatch(pattern, feature, re.IGNORECASE) for feature in features)
            found = next((".".join(match.groups()) for match in matches if match is not None), None)
            values[what] = values[what] or (found and found.replace("_", "."))
        gpus: list[Gpu] = []
        unnamed = 0
        for kind, count in _gres(node.gres or ""):
            gpu = _slurm_gpu(kind, features, values, catalog)
            gpus += [gpu] * count if gpu is not None else []
            unnamed += count if gpu is None else 0
        facts = Facts(
            arch=node.architecture,
            os_version=values["os_version"],
            libc=values["libc"],
            driver=values["driver"],
            cuda=values["cuda"],
            gpus=tuple(gpus),
            unnamed=unnamed,
        )
        yield Said(node.name, facts, tuple((feature, "") for feature in sorted(set(features))))


def _gres(text: str) -> Iterator[tuple[str, int]]:
    """Type (empty: none) and number of `gpu:h100:4(S:0-1),gpu:1g.10gb:7,shard:8`."""
    for part in re.split(r",(?![^(]*\))", text):
        kind, *words = [word for word in part.partition("(")[0].strip().split(":") if word != "no_consume"]
        if kind == "gpu":
            number = number_of(words[-1]) if words else None
            yield (words[0] if words[number is not None :] else ""), 1 if number is None else number


def _slurm_gpu(
    kind: str, features: Sequence[str], values: Mapping[str, str | None], catalog: Catalog
) -> Gpu | None:
    """What the type of a gres means; else what `extra` says, or the one feature that names a GPU."""
    named = gpu_named(kind, catalog) if kind else None
    if values["capability"] and (named is None or named.vendor == "nvidia"):
        return gpu_of(catalog, product=kind or None, code=values["capability"])
    by_feature = {found for word in features if (found := gpu_named(word, catalog)) is not None}
    return (
        named
        or gpu_named(values["product"] or "", catalog)
        or (next(iter(by_feature)) if len(by_feature) == 1 else None)
    )


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


def ansible_hosts(top: dict[str, Any], name: str) -> dict[str, Any]:
    """Facts by host: of one host (a file of `--tree`), of several by name, or of the results of a play."""
    if "plays" in top:
        tasks = (task for play in top["plays"] for task in play.get("tasks", ()))
        results = (pair for task in tasks for pair in task.get("hosts", {}).items())
        return {host: row for host, row in results if "ansible_facts" in row}
    if not {"ansible_facts", "ansible_architecture", "ansible_local"} & set(top):
        return top if not {"changed", "msg", "unreachable"} & set(top) else {name: top}
    facts = top.get("ansible_facts", top)
    told = first_of(facts, names_of("ansible")["hostname"]) if isinstance(facts, dict) else None
    return {told or name if name == "stdin" else name: top}


def ansible(hosts: Mapping[str, Any], source: str) -> Iterator[Said]:
    """Hosts with a machine file among their local facts; those without one are left out, with the reason."""
    rows = names_of("ansible")
    for host, row in hosts.items():
        whole = _facts_of(row, host, source)
        facts = _facts_of(whole.get("ansible_facts", whole), host, source)
        local = next((facts[key] for key in rows["local"] if key in facts), None)
        fact = local.get(rows["fact"]) if isinstance(local, dict) else None
        if isinstance(fact, dict):
            try:
                machine = decode_machine(json.encode(fact).decode(), "its torchinstall fact")
            except UsageError as error:
                raise bad_inventory(source, error.message, node=host, found=error.found or "") from error
            yield Said(host, Facts(machine=machine))
        else:
            said = fact or whole.get("msg") or "there is no torchinstall fact"
            yield Said(
                host, Facts(unusable=f"{str(said)[:120]}; the role in docs/how-to/fleets.md places one")
            )


def _facts_of(value: Any, host: str, source: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise bad_inventory(source, "its facts are no table", node=host, found=value)
    return value


class _NomadDevice(Struct, rename="pascal"):
    vendor: str = ""
    type: str = ""
    name: str = ""
    attributes: dict[str, Any] | None = None
    instances: list[Any] | None = None


class _NomadResources(Struct, rename="pascal"):
    devices: list[_NomadDevice] | None = None


class _NomadNode(
    Struct, rename={"id": "ID", "name": "Name", "attributes": "Attributes", "resources": "NodeResources"}
):
    id: str = ""
    name: str = ""
    attributes: dict[str, Any] | None = None
    resources: _NomadResources = field(default_factory=_NomadResources)


def nomad(items: Iterable[Raw], source: str, name: str, catalog: Catalog) -> Iterator[Said]:
    """Nodes of `nomad node status -json ID`, with the fingerprints of their devices."""
    names = names_of("nomad")
    for item in items:
        node = decoded(item, _NomadNode, source, lambda values: values["Name"])
        gpus: list[Gpu] = []
        told: dict[str, Any] = {}
        unnamed = 0
        for device in node.resources.devices or ():
            if device.type == "gpu":
                count = len(device.instances or ()) or 1
                gpu = gpu_of(catalog, product=device.name)
                known = gpu is not None and gpu.vendor == device.vendor.lower()
                gpus += [gpu] * count if gpu is not None and known else []
                unnamed += 0 if known else count
                told |= {key: _nomad_value(value) for key, value in (device.attributes or {}).items()}
        host = node.attributes or {}
        facts = Facts(
            os=first_of(host, names["os"]) or "linux",
            arch=first_of(host, names["arch"]),
            driver=first_of(told, names["driver"]),
            cuda=first_of(told, names["cuda"]),
            gpus=tuple(gpus),
            unnamed=unnamed,
        )
        yield Said(node.name or node.id or name, facts)


def _nomad_value(value: Any) -> Any:
    """`{"String": "580.95.05"}`, `{"Int": 11, "Unit": "GiB"}`."""
    kinds = ("String", "Int", "Float", "Bool")
    return (
        next((value[key] for key in kinds if value.get(key) is not None), None)
        if isinstance(value, dict)
        else value
    )


class Sample(Struct):
    """A sample of Prometheus; in the API's JSON the name is one of the labels."""

    metric: dict[str, str]
    value: Any = None


_SAMPLE = re.compile(r"^([A-Za-z_:][\w:]*)\{(.*)\}\s+(\S+)")
_LABEL = re.compile(r'([A-Za-z_]\w*)="((?:[^"\\]|\\.)*)"')


def samples(text: str) -> Iterator[Sample]:
    """The samples of Prometheus' text format."""
    for match in filter(None, map(_SAMPLE.match, text.splitlines())):
        labels = {key: re.sub(r"\\(.)", r"\1", value) for key, value in _LABEL.findall(match[2])}
        yield Sample({"__name__": match[1], **labels}, match[3])


def prometheus(rows: Iterable[Sample], source: str, name: str, catalog: Catalog) -> Iterator[Said]:
    """Hosts of metrics that name a GPU; `name` is the host of metrics without one."""
    names = names_of("prometheus")
    nodes: dict[str, dict[str, dict[str, str]]] = {}
    codes: dict[str | None, str] = {}
    for row in rows:
        uuid = first_of(row.metric, names["uuid"])
        if row.metric.get("__name__", "").endswith("compute_cap"):
            codes[uuid] = str(row.value[-1] if isinstance(row.value, list) else row.value)
        if first_of(row.metric, names["product"]) is not None:
            gpus = nodes.setdefault(re.sub(r":\d+$", "", first_of(row.metric, names["node"]) or name), {})
            key = uuid or f"#{len(gpus)}"
            gpus[key] = {**gpus.get(key, {}), **row.metric}
    if not nodes:
        hint = "curl -s http://NODE:9835/metrics, or the API's answer to nvidia_smi_gpu_info"
        raise bad_inventory(source, "no metric names a GPU", hint=hint)
    for host, metrics in nodes.items():
        found = [
            gpu_of(
                catalog,
                product=first_of(labels, names["product"]),
                code=first_of(labels, names["capability"]) or codes.get(uuid),
            )
            for uuid, labels in metrics.items()
        ]
        first = next(iter(metrics.values()))
        facts = Facts(
            os="windows" if first_of(first, names["model"]) in names["windows"] else "linux",
            driver=first_of(first, names["driver"]),
            cuda=first_of(first, names["cuda"]),
            gpus=tuple(gpu for gpu in found if gpu is not None),
            unnamed=found.count(None),
        )
        yield Said(host, facts)


def table(text: str, source: str, catalog: Catalog) -> Iterator[Said]:
    """Lines of a table with named columns; a node on several lines has the GPUs of all of them."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    mark = max(",;\t", key=lines[0].count)
    header, *rows = csv.reader(lines, delimiter=mark)
    header = [re.sub(r"[\s-]+", "_", cell.strip().lower()) for cell in header]
    names: dict[str, list[str]] = names_of("csv")["names"]
    if not set(header) & set(names["node"]):
        hint = "name the columns: node,gpu,gpus,driver,libc"
        raise bad_inventory(
            source, "it is neither an inventory nor a table with a column of nodes", hint=hint
        )
    nodes: dict[str, Facts] = {}
    for cells in rows:
        row = dict(zip(header, (cell.strip() for cell in cells), strict=False))
        value = {what: first_of(row, keys) for what, keys in names.items()}
        node, count = value["node"] or "", number_of(value["count"] or "1")
        if len(cells) != len(header) or count is None:
            what = f"the line needs {len(header)} cells, and the number of GPUs must be a number"
            raise bad_inventory(source, what, node=node, found=mark.join(cells))
        code = value["capability"] or value["gfx"]
        gpu = gpu_of(catalog, product=value["product"], code=code, pci_id=value["pci"])
        there = bool(code or value["product"] or value["pci"] or value["count"])
        number = count if there else 0
        before = nodes.get(node, Facts())
        nodes[node] = Facts(
            os=value["os"] or "linux",
            arch=value["arch"],
            os_version=value["os_version"],
            libc=value["libc"],
            driver=value["driver"],
            cuda=value["cuda"],
            gpus=(*before.gpus, *([gpu] * number if gpu is not None else ())),
            unnamed=before.unnamed + (number if gpu is None else 0),
        )
    for node, facts in nodes.items():
        yield Said(node, facts)
