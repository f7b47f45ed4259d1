"""Read inventories: of which kind each is, and the nodes of all of them."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import DecodeError, Raw, Struct, json, structs

from torchinstall.catalog.catalog import Catalog
from torchinstall.core.decoding import decoder
from torchinstall.core.files import encoding_of
from torchinstall.core.machine import Libc, decode_machine
from torchinstall.fleet.hosts import SLURM, ansible, answer, metrics, nomad, slurm, slurm_text
from torchinstall.fleet.kubernetes import LABELS, kubernetes, labels
from torchinstall.fleet.listings import is_printed, listed, printed
from torchinstall.fleet.nodes import Entry, Facts, Node, Nodes, OddEntryError
from torchinstall.planning.context import Context

INVENTORIES = ("kubernetes", "slurm", "ansible", "nomad", "prometheus", "nvidia-smi", "machine", "csv")
"""What `--format` takes; ResourceSlices of DRA, and labels as text, are of Kubernetes."""

_READABLE = "name a file or folder that is there and can be read"
_MOST_BYTES = 128 * 1024 * 1024
"""Of one file: the nodes of the largest clusters, with room."""

_SUFFIXES = (".json", ".prom", ".txt", ".csv", ".xml", ".log")
"""Of files that may be called after the machine that they describe."""


def read_inventories(
    context: Context,
    names: Sequence[str],
    format_name: str | None,
    catalog: Catalog,
    assumed: Mapping[str, str],
    image: Libc,
) -> tuple[Node, ...]:
    """Read files, folders and stdin (`-`) of one of INVENTORIES; None: each file shows of which.

    Where an inventory does not say a fact, it is `assumed`, or the libc of the container image.

    Raises:
        UsageError: `bad-inventory`, with the node where one is at fault.
    """
    reader = _Reader(Nodes(catalog, assumed, image), catalog, format_name)
    source = ""
    try:
        for name in names:
            for source, file in _files(context, name):
                host = file.stem if file.suffix in _SUFFIXES else file.name
                data = _bytes(context, None if name == "-" else file)
                reader.read(data, source, "stdin" if name == "-" else host)
        source = reader.clusters
        nodes = reader.finish()
    except OddEntryError as error:
        raise error.of(source) from error
    if not nodes:
        hint = "kubectl get nodes -o json > nodes.json"
        raise OddEntryError("there is no node in it", hint=hint).of(", ".join(names))
    return nodes


def _files(context: Context, name: str) -> Iterator[tuple[str, Path]]:
    """What to call each file of an argument, and its path."""
    path = context.path(name)
    if name == "-" or not path.is_dir():
        yield ("stdin" if name == "-" else name), path
        return
    for file in sorted(path.iterdir()):
        if file.is_file() and not file.name.startswith("."):
            yield str(Path(name, file.name)), file


def _bytes(context: Context, file: Path | None) -> bytes:
    """The bytes of a file, or of stdin."""
    most = _MOST_BYTES + 1
    try:
        if file is not None:
            with file.open("rb") as opened:
                data = opened.read(most)
        else:
            stream = getattr(context.stdin, "buffer", None)
            data = context.stdin.read(most).encode() if stream is None else stream.read(most)
    except OSError as error:
        raise OddEntryError("it cannot be read", found=error.strerror or error, hint=_READABLE) from error
    if len(data) == most:
        raise OddEntryError(f"it is larger than {_MOST_BYTES >> 20} MiB")
    return data


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
    data: Any = None
    resources: Raw = Raw()
    attributes: Raw = Raw()


def _have(rows: list[Raw] | None, key: bytes) -> bool:
    """Whether an item has a key; those of an empty list have every one."""
    return rows is not None and (not rows or any(key in bytes(row) for row in rows))


_KINDS: dict[str, Callable[[_Top], bool]] = {
    "machine": lambda top: top.schema_version is not None,
    "slurm": lambda top: _have(top.nodes, b'"gres"'),
    "prometheus": lambda top: top.data is not None and top.status == "success",
    "ansible": lambda top: bool(top.ansible_facts or top.ansible_architecture or top.plays),
    "kubernetes": lambda top: _have(top.items, b'"metadata"') or top.kind in ("Node", "ResourceSlice"),
    "nomad": lambda top: bool(top.resources or top.attributes),
}
"""How the JSON of each kind of inventory is known."""

_HOSTS = {"slurm": slurm, "prometheus": answer, "ansible": ansible, "nomad": nomad}

_TEXT_READERS = {"slurm": slurm_text, "prometheus": metrics, "nvidia-smi": printed, "csv": printed}

_TEXTS: dict[str, Callable[[str], object]] = {
    "kubernetes": re.compile(r"(?:---\s*\n)?(?:#.*\n)*(?:apiVersion|items|kind):").match,
    "prometheus": re.compile(r"^(?:# (?:HELP|TYPE) |\w+\{)", re.MULTILINE).search,
    "slurm": SLURM.match,
    "nvidia-smi": lambda text: is_printed(text, "queried"),
    "labels": LABELS.search,
    "yaml": re.compile(r"(?:---\s*\n)?(?:#.*\n)*(?:- \w+: |[\w.-]+:\s*\n\s*(?:- )?\w+: )").match,
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
        self.clusters = ""

    def finish(self) -> tuple[Node, ...]:
        self._add(kubernetes(self._objects, self._catalog), self.clusters, "kubernetes")
        self._objects = []
        return tuple(node for node, _ in self._found.values())

    def _add(self, said: Iterable[Entry], source: str, kind: str) -> None:
        for row in said:
            node = self._nodes.make(row, kind)
            known, before = self._found.setdefault(row.name, (node, source))
            joined = _joined(known, node)
            if joined is None:
                hint = "give each node a name of its own, or plan for one inventory at a time"
                raise OddEntryError(f"{before} describes it otherwise", node=row.name, hint=hint)
            self._found[row.name] = joined, before

    def _collect(self, objects: Iterable[Raw | Any], source: str) -> None:
        self._objects += objects
        self.clusters += f"{', ' if self.clusters else ''}{source}"

    def read(self, data: bytes, source: str, name: str) -> None:
        """Read one file; `name` is the node's where the file describes one and does not name it."""
        if encoding_of(data) == "utf-16":
            data = data.decode("utf-16", "replace").encode()
        data = data.removeprefix(codecs.BOM_UTF8)
        start = data[:4096].lstrip()
        if re.match(rb'\{|\[\s*[\[{"\]]', start):
            self._read_json(data, source, name, array=start[:1] == b"[")
        elif start:
            self._read_text(data, source, name)
        else:
            raise OddEntryError("it is empty")

    def _read_text(self, data: bytes, source: str, name: str) -> None:
        if b"\0" in data:
            raise OddEntryError("it is not text", found=ascii(data[:4]), hint="save the table as CSV")
        try:
            text = data.decode()
        except UnicodeDecodeError:
            text = data.decode("cp1252", "replace")  # what spreadsheets write
        kind = self._forced or next((kind for kind, test in _TEXTS.items() if test(text)), "csv")
        if kind in ("kubernetes", "labels"):
            self._collect(_yaml(text) if kind == "kubernetes" else labels(text, name), source)
        elif kind == "yaml":
            rows = listed(_yaml(text), name, self._catalog)
            self._add(rows or printed(text, name, self._catalog), source, "csv")
        elif kind in _TEXT_READERS:
            self._add(_TEXT_READERS[kind](text, name, self._catalog), source, kind)
        else:
            raise OddEntryError(f"it is no inventory of {kind}: that is JSON", found=text[:60])

    def _read_json(self, data: bytes, source: str, name: str, *, array: bool) -> None:
        try:
            rows = decoder(list[Raw]).decode(data) if array else [Raw(data)]
            if not array and re.match(rb"\{[^\n]*\}\s*\n\s*\{", data):  # one object on each line
                rows = json.Decoder(Raw).decode_lines(data)
            top = decoder(_Top).decode(rows[0]) if rows else _Top()
        except (DecodeError, RecursionError) as error:
            raise _broken(data, error) from error
        kind = self._forced or next((kind for kind, test in _KINDS.items() if test(top)), "")
        rows = next((part for part in (top.items, top.nodes) if part is not None), rows)
        if kind == "kubernetes":
            self._collect(rows, source)
        elif kind == "machine":
            machines = (decode_machine(bytes(row).decode(), source) for row in rows)
            self._add((Entry(name, Facts(machine=machine)) for machine in machines), source, kind)
        elif kind in _HOSTS:
            self._add(_HOSTS[kind](rows, name, self._catalog), source, kind)
        elif LABELS.search(text := data.decode(errors="replace")) and top.kind is None:
            self._collect(labels(text, name), source)
        elif found := listed(rows, name, self._catalog):
            self._add(found, source, "csv")
        elif is_printed(text):
            self._add(printed(text, name, self._catalog), source, "nvidia-smi")
        else:
            hint = f"name its kind: --format {'|'.join(INVENTORIES)}"
            raise OddEntryError("nothing shows what kind of inventory it is", hint=hint)


def _joined(one: Node, other: Node) -> Node | None:
    """Both in one: equal nodes, or a node of a cluster with its machine file, which knows best."""
    if one == other:
        return one
    probed = next((node for node in (one, other) if node.format in ("machine", "ansible")), None)
    node = next((node for node in (one, other) if node.format in ("kubernetes", "slurm")), None)
    if probed is None or node is None or probed.machine is None:
        return None
    return structs.replace(node, machine=probed.machine, unusable=None, assumed=())


def _yaml(text: str) -> list[Any]:
    """The objects or rows of YAML, which is read where PyYAML happens to be installed."""
    try:
        import yaml
    except ImportError:
        hint = "install PyYAML beside torchinstall, or: kubectl get nodes,resourceslices -o json > nodes.json"
        raise OddEntryError("it is YAML, and PyYAML is not installed; give its JSON", hint=hint) from None
    try:
        documents = list(yaml.load_all(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    except (yaml.YAMLError, RecursionError) as error:
        raise _broken(text.encode(), error) from error
    lists = (item.get("items") if isinstance(item, dict) else item for item in documents)
    pairs = zip(documents, lists, strict=True)
    return [row for item, rows in pairs if item for row in (rows if isinstance(rows, list) else [item])]


_NAMES = re.compile(
    rb'"(?:kubernetes\.io/hostname|hostname|nodeName|ansible_hostname|ansible_nodename)"\s*:\s*"([^"\\]{1,253})"'
    rb'|"metadata"\s*:\s*\{\s*"name"\s*:\s*"([^"\\]{1,253})"'
    rb"|(?:nodeName|kubernetes\.io/hostname):[ \t]*([^\s\"']{1,253})"
)
_PLAIN_NAMES = re.compile(rb'"[Nn]ame"\s*:\s*"([^"\\]{1,253})"')


def _broken(data: bytes, error: Exception) -> OddEntryError:
    """The error of text that does not parse, with the last node before the fault."""
    place = re.search(r"byte (\d+)", str(error))
    before = data[: int(place[1]) + 1] if place else data
    names = list(_NAMES.finditer(before)) or list(_PLAIN_NAMES.finditer(before))
    node = next((part for part in names[-1].groups() if part), b"").decode(errors="replace") if names else ""
    what = "it is cut off there" if "truncated" in str(error) else "it is not valid there"
    found = str(error).partition("\n")[0]
    return OddEntryError(what, node=node, found=found, hint="write the inventory again")
