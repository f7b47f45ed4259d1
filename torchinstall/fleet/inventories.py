"""Read inventories: of which kind each is, and the nodes of all of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import DecodeError, Raw, Struct, json, structs

from torchinstall.catalog.catalog import Catalog
from torchinstall.core.errors import UsageError
from torchinstall.core.machine import Libc, decode_machine
from torchinstall.fleet.hosts import Sample, ansible, ansible_hosts, nomad, prometheus, samples, slurm, table
from torchinstall.fleet.kubernetes import kubernetes
from torchinstall.fleet.nodes import Assumption, Facts, Node, Nodes, Said, bad_inventory, decoded
from torchinstall.planning.context import Context

INVENTORIES = ("kubernetes", "slurm", "ansible", "nomad", "prometheus", "machine", "csv")
"""What `--format` takes; ResourceSlices of DRA are of Kubernetes."""

_MOST_BYTES = 128 * 1024 * 1024
"""Of one file: the nodes of the largest clusters, with room."""


class Inventory(Struct, frozen=True):
    """All nodes of the inventories."""

    nodes: tuple[Node, ...]

    @property
    def assumed(self) -> dict[Assumption, int]:
        """What was assumed or stays unknown, and for how many nodes."""
        counts: dict[Assumption, int] = {}
        for node in self.nodes:
            for row in node.assumed:
                counts[row] = counts.get(row, 0) + 1
        return counts


def read_inventories(
    context: Context,
    names: Sequence[str],
    format_name: str | None,
    catalog: Catalog,
    assumed: Mapping[str, str],
    image: Libc,
) -> Inventory:
    """Read files, folders and stdin (`-`).

    Args:
        context: where relative paths start, and stdin.
        names: of files and folders.
        format_name: one of INVENTORIES; None: each file shows it.
        catalog: knows products.
        assumed: of `--assume`.
        image: the libc of the container image.

    Raises:
        UsageError: `bad-inventory`, with the node where one is at fault.
    """
    reader = _Reader(Nodes(catalog, assumed, image), catalog, format_name)
    for name in names:
        if name == "-":
            stream = getattr(context.stdin, "buffer", None)
            most = _MOST_BYTES + 1
            data = context.stdin.read(most).encode() if stream is None else stream.read(most)
            if len(data) > _MOST_BYTES:
                raise bad_inventory("stdin", f"it is larger than {_MOST_BYTES >> 20} MiB")
            reader.read(data, "stdin", "stdin")
            continue
        path = context.path(name)
        inside = path.is_dir()
        files = sorted(file for file in path.iterdir() if file.is_file()) if inside else [path]
        for file in files:
            if inside and file.name.startswith("."):
                continue
            try:
                with file.open("rb") as opened:
                    data = opened.read(_MOST_BYTES + 1)
            except OSError as error:
                raise bad_inventory(str(file), "it cannot be read", found=error.strerror or error) from error
            if len(data) > _MOST_BYTES:
                raise bad_inventory(str(file), f"it is larger than {_MOST_BYTES >> 20} MiB")
            host = file.stem if file.suffix in (".json", ".prom", ".txt") else file.name
            reader.read(data, str(Path(name, file.name)) if inside else name, host)
    nodes = reader.finish()
    if not nodes:
        hint = "kubectl get nodes -o json > nodes.json"
        raise bad_inventory(", ".join(names), "there is no node in it", hint=hint)
    return Inventory(nodes)


class _Top(Struct, rename={"resources": "NodeResources", "attributes": "Attributes"}):
    """The top of a JSON inventory; what is large stays undecoded."""

    kind: Any = None
    items: list[Raw] | None = None
    nodes: list[Raw] | None = None
    schema_version: Any = None
    ansible_facts: Raw = Raw()
    ansible_architecture: Any = None
    plays: Raw = Raw()
    status: Any = None
    data: Raw = Raw()
    resources: Raw = Raw()
    attributes: Raw = Raw()


class _Results(Struct):
    result: list[Sample]


_KINDS: dict[str, Callable[[_Top], bool]] = {
    "machine": lambda top: top.schema_version is not None,
    "slurm": lambda top: top.nodes is not None,
    "prometheus": lambda top: bool(top.data) and top.status == "success",
    "ansible": lambda top: bool(top.ansible_facts or top.ansible_architecture or top.plays),
    "kubernetes": lambda top: top.items is not None or top.kind in ("Node", "ResourceSlice"),
    "nomad": lambda top: bool(top.resources or top.attributes),
}
"""How the JSON of each kind of inventory is known."""

_TEXTS = {
    "kubernetes": re.compile(r"(?:---\s*\n)?(?:#.*\n)*(?:apiVersion|items|kind):"),
    "prometheus": re.compile(r"(?:.*\n)*?(?:# (?:HELP|TYPE) |\w+\{)"),
    "csv": re.compile(""),
}
"""How their texts are known."""


class _Reader:
    """Collects the nodes of several files; what a cluster says may be in several."""

    def __init__(self, nodes: Nodes, catalog: Catalog, format_name: str | None) -> None:
        self._nodes = nodes
        self._catalog = catalog
        self._forced = format_name
        self._found: dict[str, tuple[Node, str]] = {}
        self._objects: list[Raw | Any] = []
        self._clusters: list[str] = []

    def finish(self) -> tuple[Node, ...]:
        """Every node, in the order in which they were read."""
        source = ", ".join(self._clusters)
        self._add(kubernetes(self._objects, source, self._catalog), source, "kubernetes")
        self._objects = []
        return tuple(node for node, _ in self._found.values())

    def _add(self, said: Iterable[Said], source: str, format_name: str) -> None:
        for row in said:
            node = self._nodes.make(row, source, format_name)
            known, before = self._found.setdefault(row.name, (node, source))
            joined = _joined(known, node)
            if joined is not None:
                self._found[row.name] = joined, before
            else:
                hint = "give each node a name of its own, or plan for one inventory at a time"
                raise bad_inventory(source, f"{before} describes it otherwise", node=row.name, hint=hint)

    def read(self, data: bytes, source: str, name: str) -> None:
        """Read one file; `name` is the node's where the file describes one and does not name it."""
        start = data.removeprefix(b"\xef\xbb\xbf")[:4096].lstrip()
        if not start:
            raise bad_inventory(source, "it is empty")
        if start[:1] in (b"{", b"["):
            self._read_json(data.removeprefix(b"\xef\xbb\xbf"), source, name, array=start[:1] == b"[")
            return
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise bad_inventory(source, "it is not text in UTF-8", found=f"byte {error.start}") from error
        if text.startswith("NodeName="):
            hint = "scontrol show node --json > nodes.json"
            raise bad_inventory(source, "scontrol's text is not read, its JSON is", hint=hint)
        kind = self._forced or next(kind for kind, pattern in _TEXTS.items() if pattern.match(text))
        if kind == "kubernetes":
            self._objects += _yaml(text, source)
            self._clusters.append(source)
        elif kind == "prometheus":
            self._add(prometheus(samples(text), source, name, self._catalog), source, kind)
        elif kind == "csv":
            self._add(table(text, source, self._catalog), source, kind)
        else:
            raise bad_inventory(source, f"it is no inventory of {kind}: that is JSON", found=text[:60])

    def _read_json(self, data: bytes, source: str, name: str, *, array: bool) -> None:
        try:
            rows = json.decode(data, type=list[Raw]) if array else [Raw(data)]
            top = json.decode(rows[0], type=_Top) if rows else _Top()
        except (DecodeError, RecursionError) as error:
            raise _broken(data, source, error) from error
        kind = self._forced or next((kind for kind, test in _KINDS.items() if test(top)), None)
        if kind == "kubernetes":
            self._objects += rows if top.items is None else top.items
            self._clusters.append(source)
            return
        reader = _JSON.get(kind or "")
        if kind is None or reader is None:
            hint = f"name its kind: --format {'|'.join(INVENTORIES)}"
            raise bad_inventory(source, "nothing shows what kind of inventory it is", hint=hint)
        try:
            self._add(reader(top, rows, source, name, self._catalog), source, kind)
        except (AttributeError, TypeError) as error:
            raise bad_inventory(source, f"it is no inventory of {kind}", found=str(error)) from error


def _joined(one: Node, other: Node) -> Node | None:
    """Both in one: equal nodes, or a node of a cluster with its machine file, which knows best."""
    if one == other:
        return one
    probed = next((node for node in (one, other) if node.format in ("machine", "ansible")), None)
    node = next((node for node in (one, other) if node.format in ("kubernetes", "slurm")), None)
    if probed is None or node is None or probed.machine is None:
        return None
    return structs.replace(node, machine=probed.machine, unusable=None, assumed=())


def _machines(_: _Top, rows: list[Raw], source: str, name: str, _catalog: Catalog) -> Iterable[Said]:
    for row in rows:
        try:
            machine = decode_machine(bytes(row).decode(), source)
        except RecursionError as error:
            raise _broken(bytes(row), source, error) from error
        yield Said(name, Facts(machine=machine))


def _samples(top: _Top, rows: list[Raw], source: str, name: str, catalog: Catalog) -> Iterable[Said]:
    found = decoded(top.data or rows[0], _Results, source, lambda _: "").result
    return prometheus(found, source, name, catalog)


def _facts(_: _Top, rows: list[Raw], source: str, name: str, _catalog: Catalog) -> Iterable[Said]:
    top = decoded(rows[0], dict[str, Any], source, lambda _: "")
    return ansible(ansible_hosts(top, name), source)


_JSON: dict[str, Callable[[_Top, list[Raw], str, str, Catalog], Iterable[Said]]] = {
    "machine": _machines,
    "slurm": lambda top, rows, source, _, catalog: slurm(top.nodes or rows, source, catalog),
    "prometheus": _samples,
    "ansible": _facts,
    "nomad": lambda _, rows, source, name, catalog: nomad(rows, source, name, catalog),
}


def _yaml(text: str, source: str) -> list[Any]:
    """The objects of YAML, which is read where PyYAML happens to be installed.

    Raises:
        UsageError: `bad-inventory`: it is not, or the text is none that Kubernetes writes.
    """
    try:
        import yaml
    except ImportError:
        hint = "kubectl get nodes,resourceslices -o json > nodes.json"
        what = "it is YAML, and PyYAML is not installed; give its JSON"
        raise bad_inventory(source, what, hint=hint) from None
    try:
        documents = list(yaml.load_all(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    except (yaml.YAMLError, RecursionError) as error:
        raise _broken(text.encode(), source, error) from error
    lists = [item.get("items", [item]) if isinstance(item, dict) else None for item in documents if item]
    if not all(isinstance(rows, list) for rows in lists):
        raise bad_inventory(source, "it is no list of objects of Kubernetes")
    return [row for rows in lists for row in rows or ()]


_NAMES = re.compile(
    rb'"(?:kubernetes\.io/hostname|hostname|nodeName|ansible_hostname|ansible_nodename)"\s*:\s*"([^"\\]{1,253})"'
    rb'|"metadata"\s*:\s*\{\s*"name"\s*:\s*"([^"\\]{1,253})"'
    rb"|(?:nodeName|kubernetes\.io/hostname):[ \t]*([^\s\"']{1,253})"
)
_PLAIN_NAMES = re.compile(rb'"[Nn]ame"\s*:\s*"([^"\\]{1,253})"')


def _broken(data: bytes, source: str, error: Exception) -> UsageError:
    """The error of text that does not parse, with the last node before the fault."""
    place = re.search(r"byte (\d+)", str(error))
    before = data[: int(place[1]) + 1] if place else data
    names = list(_NAMES.finditer(before)) or list(_PLAIN_NAMES.finditer(before))
    node = next((part for part in names[-1].groups() if part), b"").decode(errors="replace") if names else ""
    what = "it is cut off there" if "truncated" in str(error) else "it is not valid there"
    found = str(error).partition("\n")[0]
    return bad_inventory(source, what, node=node, found=found, hint="write the inventory again")
