"""Tables that people fill in, and what the tools of GPU makers print, of one machine or of several."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, zip_longest
from typing import Any

from msgspec import Raw, structs

from torchinstall.catalog.catalog import Catalog
from torchinstall.core.machine import Gpu
from torchinstall.core.versions import driver_of_windows
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
from torchinstall.planning.gpus import gpu_named

_SAID: dict[str, list[re.Pattern[str]]] = {
    what: [re.compile(pattern, re.M | re.I) for pattern in patterns]
    for what, patterns in names_of("printed").items()
}
_FAILED = re.compile(r"\s*((?:NVIDIA-SMI has failed|No devices were found|Failed to initialize NVML).*)")

_PREFIXED = re.compile(r"([\w.@-]+)(?::(?: |$)| \| [A-Z]+ \| rc=-?\d+ \| \(stdout\) )(.*)")
"""A line behind its host, as pdsh, clush and `ansible --one-line` print it."""

_HEADING = re.compile(
    r"^(?:-{3,}\n([\w.,\[\]-]+)(?: \(\d+\))?\n-{3,}|([\w.-]+) \| [A-Z]+!?(?: \| rc=-?\d+)? (?:>>|=> \{)"
    r"|[=#-]{2,12}>? ?(\w[\w.,\[\]-]*):? ?<?[=#-]*|\[\d+\] [\d:]+ \[\w+\] (\S+).*"
    r"|([\w.-]+):(?=\n\s)|([\w.-]+)(?=\n(?:GPU 0: |\+-{5,}|(?:index|name|uuid), |\w{3} \w{3} +\d)))[ \t]*$",
    re.MULTILINE,
)
"""Above what each host prints: clush, ansible, a loop with echo, `tail`, pssh, salt."""

_DISPLAY = re.compile("intel|amd|advanced micro|radeon|microsoft|aspeed|matrox", re.IGNORECASE)
"""Makers of displays that count for nothing beside a GPU, where nobody knows them."""

_ROW = re.compile(r"\b\d{3}\.\d{2,3}(?:\.\d{2})?\b")

_NOTHING = ("none", "<none>", "no", "false", "-", "n/a", "na", "null", "cpu")
"""What people write into a cell of a table to say that there is nothing."""


def is_printed(text: str, *more: str) -> bool:
    """Whether a tool printed this, by its patterns, and by what `more` of those of `fields.json` says."""
    known = chain(*(_SAID[what] for what in ("known", "code", "product", *more)))
    return _FAILED.match(text) is not None or any(pattern.search(text) for pattern in known)


def printed(text: str, name: str, catalog: Catalog) -> Iterator[Entry]:
    """The machines of a text; `name` is that of the only one which the text does not name."""
    parts = _by_host(text, name)
    for host, part in parts:
        if is_printed(part):
            yield Entry(host, _machine(part, catalog))
        elif len(parts) == 1 or _ROW.search(part):
            yield from _nodes(_rows(part, host, catalog), host, catalog)
        else:
            said = next(filter(None, map(str.strip, part.splitlines())), "nothing")
            yield Entry(host, Facts(unusable=f"it printed: {said[:120]}"))


def _by_host(text: str, name: str) -> list[tuple[str, str]]:
    """What each host printed, where a text holds what several did."""
    lines = [line for line in text.splitlines() if line.strip()]
    matches = [match for match in map(_PREFIXED.fullmatch, lines) if match is not None]
    heads = list(_HEADING.finditer(text))
    parts: dict[str, list[str]] = {}
    if len(matches) == len(lines):
        for match in matches:
            parts.setdefault(match[1], []).append(match[2].replace("\\n", "\n"))
    elif heads:
        ends = [*(head.start() for head in heads[1:]), len(text)]
        for head, end in zip(heads, ends, strict=True):
            for host in host_names(next(filter(None, head.groups()))):
                parts.setdefault(host, []).append(text[head.end() : end])
        if is_printed(before := text[: heads[0].start()]):
            parts.setdefault(name, []).append(before)
    found = [(host, "\n".join(rows)) for host, rows in parts.items()]
    several = any(is_printed(part) or _ROW.search(part) for _, part in found)
    return found if several else [(name, text)]


def _all(what: str, text: str) -> list[str]:
    """Everything that the first pattern finds which finds anything."""
    return next(filter(None, (pattern.findall(text) for pattern in _SAID[what])), [])


def _machine(text: str, catalog: Catalog) -> Facts:
    """The machine on which this was printed.

    From R610 on nvidia-smi calls the driver's version KMD version, and the CUDA version that of the CUDA UMD.
    """
    drivers = dict.fromkeys(_all("driver", text))
    if failed := _FAILED.match(text):
        return Facts(unusable=f"it printed: {failed[1]}")
    if "(nvgpu)" in text:
        little = "nvidia-smi says too little of a Jetson; torchinstall probe --json says it there"
        return Facts(unusable=little)
    numbers = dict(re.findall(r"\b(GPU (\d+): .+ \(UUID: .*)", text))
    if len(drivers) > 1 or len(numbers) > len({*numbers.values()}):
        hint = "write the name of each host above what it printed: == gpu1 =="
        what = "several machines printed it, and nothing says which"
        raise OddEntryError(what, found=", ".join(drivers), hint=hint)
    products, codes, ids = (_all(what, text) for what in ("product", "code", "pci_id"))
    many = len(codes or ids or products)
    products = products if len(products) == many else []
    rows = list(zip_longest(products, codes[:many], ids[:many] if not codes else ()))
    found = [(product, _gpu(catalog, product, code, pci_id)) for product, code, pci_id in rows]
    kept = [(name, gpu) for name, gpu in found if gpu or not _DISPLAY.search(name or "")] or found
    mac = bool(_all("macos", text))
    return Facts(
        os="windows" if _all("windows", text) else "macos" if mac else "linux",
        arch="x86_64" if mac and not re.search(r"\bApple M\d|\barm64\b", text) else None,
        driver=next(iter(drivers), None),
        cuda=next(iter(_all("cuda", text)), None),
        libc=next(iter(_all("libc", text)), None),
        gpus=tuple(gpu for _, gpu in kept) or (None,),
        called=next((name for name, gpu in kept if gpu is None), None),
    )


def _gpu(catalog: Catalog, product: str | None, code: str | None, pci_id: str | None = None) -> Gpu | None:
    """A GPU by its name, whole or cut; None: products with different code have such a name."""
    name = (product or "").removesuffix("...")  # so nvidia-smi before R535 cuts names to its column
    found = gpu_of(catalog, product=name or None, code=code, pci_id=pci_id)
    if found is None and product and name != product:
        start, known = name.removeprefix("NVIDIA ").lower(), catalog.tables.gpus("nvidia")
        codes = {fact.code for fact in known if (fact.name or "").lower().startswith(start)}
        found = gpu_of(catalog, product=name, code=codes.pop()) if len(codes) == 1 else None
    return found


_Row = dict[str, str]


def _key(text: object) -> str:
    return re.sub(r"[\W_]+", "_", str(text).strip().lower()).strip("_")


def _rows(text: str, name: str, catalog: Catalog) -> list[_Row]:
    """The lines of a table by the names of its columns: CSV, aligned with spaces, or Markdown.

    What stands above the line of names is left out; lines without one are those of the machine `name`.
    """
    lines = [line for line in text.splitlines() if not re.match(r"#|sep=|[-\s:|+=,;]*$", line)]
    lines = [re.sub(r"^\s*\|(.*?)\|?\s*$", r"\1", line) for line in lines]
    pair = re.compile(r"(\w[\w ]*?) *: ?(.*)")
    if len(lines) > 1 and all(map(pair.match, lines)):  # PowerShell's Format-List
        blocks = (map(pair.match, block.splitlines()) for block in re.split(r"\n\s*\n", text))
        return [{_key(match[1]): match[2].strip() for match in block if match} for block in blocks]
    columns = {*names_of("table")["node"], *_gpu_columns(), *chain(*names_of("table")["facts"].values())}
    start: _Row = {}
    for place, line in enumerate(lines[:10], 1):
        header = [*map(_key, _cells([line], line)[0])]
        if len({*header} & columns) > (re.search(r"[,;\t|]", line) is None):
            lines = lines[place:]
            break
    else:
        line, start = lines[0] if lines else "", {"node": name}
        header = _unnamed_columns(_cells([line], line)[0], catalog)
    found = []
    for cells in _cells(lines, line) if header else ():
        row = {**start, **dict(zip(header, map(str.strip, cells), strict=False))}
        if len(cells) < len(header) or any(cells[len(header) :]):
            if any(pattern.search(text) for pattern in _SAID["queried"]):
                continue  # a shell printed it, or nvidia-smi of a GPU that it cannot ask
            if re.fullmatch(r"[^\s,;|]+(?: [^\s,;|]+)*", line):
                return []  # sentences
            node = first_of(row, names_of("table")["node"]) or ""
            raise OddEntryError(f"the line needs {len(header)} cells", node=node, found=",".join(cells))
        found.append(row)
    return found


def _cells(lines: list[str], first: str) -> list[list[str]]:
    """The cells of lines, by what parts those of the first."""
    mark = max((",", ";", "\t", "|"), key=first.count)
    if mark not in first:
        gap = r"\s{2,}" if re.search(r"\S\s{2,}\S", first) else r"\s+"
        return [re.split(gap, line.strip()) for line in lines]
    try:
        return list(csv.reader(lines, delimiter=mark, skipinitialspace=True))
    except (csv.Error, ValueError) as error:
        raise OddEntryError("it is neither an inventory nor a table", found=str(error)) from error


def _gpu_columns() -> set[str]:
    names = names_of("table")
    return {*filter(re.compile("gpu").search, names["count"]), *chain(*names["gpu"].values())}


def _unnamed_columns(cells: list[str], catalog: Catalog) -> list[str]:
    """The columns of a table without a header, by what is in them (`--format=csv,noheader`)."""
    tests: dict[str, Callable[[str], object]] = {
        "driver": lambda text: re.fullmatch(r"\d{3}\.\d{2,3}(\.\d{2})?", text),
        "compute_cap": lambda text: re.fullmatch(r"\d{1,2}\.\d", text),
        "gpu": lambda text: " " in text and gpu_of(catalog, product=text),
        "node": lambda text: text is cells[0] and re.search("[A-Za-z]", text),
    }
    header = [next((name for name, test in tests.items() if test(text)), "") for text in cells]
    return header if {"driver", "gpu"} <= set(header) else []


def listed(items: Sequence[Raw | Any], name: str, catalog: Catalog) -> list[Entry]:
    """The machines of JSON that somebody wrote: tables in a list, on lines, or by the names of machines."""
    values = [decoded(item, Any) for item in items]
    tables = values if len(values) > 1 else _tables(values[0]) if values else []
    dicts = (row for row in tables if isinstance(row, dict))
    rows = [{_key(key): _text(value) for key, value in row.items()} for row in dicts]
    return list(_nodes(rows, name, catalog)) if any(map(_tells, rows)) else []


def _tables(value: Any) -> list[Any]:
    if not isinstance(value, dict) or _tells({_key(key): "" for key in value}):
        return [value]
    for key in ("_meta", "hostvars"):  # ansible-inventory --list
        value = value[key] if isinstance(value.get(key), dict) else value
    lists = (inside for inside in value.values() if isinstance(inside, list))
    tables = ([row for row in rows if isinstance(row, dict)] for rows in lists)
    named = [{"node": key, **inside} for key, inside in value.items() if isinstance(inside, dict)]
    return next(filter(None, tables), named)


def _tells(row: _Row) -> bool:
    """Whether it names a node and a GPU."""
    places = {*row} & {*names_of("table")["node"]}
    return bool(places and {*row} & _gpu_columns()) or {"name"} < places


def _text(value: object, levels: int = 3) -> str:
    """What would stand in a cell; of `{"model": "H100", "count": 8}`, `8x H100`; nothing from far within."""
    if isinstance(value, dict) and levels:
        row = {_key(key): _text(inside, levels - 1) for key, inside in value.items()}
        names = names_of("table")
        said = f"{first_of(row, names['inside']) or ''} {row.get('version', '')}".strip()
        count = first_of(row, names["count"])
        return f"{count}x {said}" if count and said else said or ", ".join(map(" ".join, row.items()))
    if isinstance(value, list) and levels:
        return ", ".join(_text(inside, levels - 1) for inside in value)
    return "" if value is None or isinstance(value, dict | list) else str(value)


def _nodes(rows: list[_Row], name: str, catalog: Catalog) -> Iterator[Entry]:
    """The nodes of a table; one on several lines has the GPUs of all of them."""
    names = names_of("table")
    rows = [{key: "" if value.lower() in _NOTHING else value for key, value in row.items()} for row in rows]
    keys = {key for row in rows for key in row}
    places = [key for key in names["node"] if key in keys]
    facts_of = {what: [key for key in found if key in keys] for what, found in names["facts"].items()}
    words = [row.get("name", "") for row in rows]
    coded = keys & {*names["gpu"]["code"]}
    named = any(gpu_named(text, catalog, within=" " in text) or (coded and " " in text) for text in words)
    named = named or any(text.startswith("NVIDIA ") for text in words)
    if named and not keys & _gpu_columns() - coded:  # as nvidia-smi and Windows call it
        start = {} if len(places) > 1 else {"node": name, "count": ""}  # nvidia-smi counts on each line
        rows = [{**row, "name": "", **start, "gpu": word} for row, word in zip(rows, words, strict=True)]
        places, keys = ["node", *places], keys | {"gpu"}
    if not places or not keys & _gpu_columns():
        what = "it is neither an inventory nor a table with a column of nodes and one of GPUs"
        raise OddEntryError(what, hint="name the columns: node,gpu,gpus,driver,libc")
    nodes: dict[str, Facts] = {}
    node = ""
    products = [name for name in names["gpu"]["product"] if name != "gpu"]
    first = any(row.get("gpu") == "0" and first_of(row, products) for row in rows)  # numbers, not how many
    for row in rows:
        count = first_of(row, names["count"])
        if count is None and re.fullmatch(r"\d{1,2}", row.get("gpu", "")):
            count, row["gpu"] = None if first else row["gpu"], ""
        facts, gpu = by_our_names(row, facts_of), by_our_names(row, names["gpu"])
        node = first_of(row, places) or (node if any(gpu.values()) else "")  # cells that were merged
        found = _gpus(gpu, count, node, catalog)
        nvidia = any(one is not None and one.vendor == "nvidia" for _, one in found)
        if nvidia and (driver := driver_of_windows(facts["driver"] or "")):
            facts |= {"os": "windows", "driver": driver}
        known = nodes.setdefault(node, Facts())
        before = any(one is not None and one.vendor == "nvidia" for one in known.gpus)
        if before and nvidia and known.driver and facts["driver"] not in (None, known.driver):
            both = f"{known.driver}, {facts['driver']}"
            raise OddEntryError("its lines name different drivers", node=node, found=both)
        told = {
            what: value for what, value in facts.items() if value and (nvidia or not getattr(known, what))
        }
        called = next((text for text, one in found if one is None), known.called)
        gpus = (*known.gpus, *(one for _, one in found))
        nodes[node] = structs.replace(known, **told, gpus=gpus, called=called)
    yield from (Entry(node, machine) for node, machine in nodes.items())


def _gpus(
    said: Mapping[str, str | None], count: str | None, node: str, catalog: Catalog
) -> list[tuple[str | None, Gpu | None]]:
    """The GPUs of a line, each with what it is called there: `8x H100`, `2x RTX 3090, 1x GTX 1080`."""
    product = said["product"] or ""
    if count and not product and not count.replace(".", "").isdecimal():
        product, count = count, None
    parts = [_counted(part) for part in re.split(r"\s*[,;+&/]\s*|\s+and\s+", product)]
    if len(parts) == 1 or not all(gpu_of(catalog, product=text) for _, text in parts):
        number, text = _counted(product)
        parts = [(count or number or ("1" if product or any(said.values()) else "0"), text)]
    found = []
    for number, text in parts:
        one = _gpu(catalog, text or None, said["code"], said["pci_id"])
        found += [(text or None, one)] * number_of(number or "1", node)
    return found


def _counted(text: str) -> tuple[str | None, str]:
    """The number in front of a product or behind it, and the product."""
    match = re.fullmatch(r"(\d{1,3}) ?[x\u00d7*] ?(.+)|(.+?)[ (]+[x\u00d7*] ?(\d{1,3})\)?", text)
    return (match[1] or match[4], match[2] or match[3]) if match else (None, text)
