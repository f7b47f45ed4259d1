"""What selects the nodes of a class, or the machines that a build needs, in the words of schedulers."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from torchinstall.catalog.catalog import Catalog
from torchinstall.core.decoding import load
from torchinstall.core.errors import UsageError
from torchinstall.core.files import cannot_write, write_file
from torchinstall.core.machine import sm_text
from torchinstall.core.versions import dotted, dotted_or_none
from torchinstall.fleet.nodes import Node, names_of
from torchinstall.fleet.requires import GpuNeed, PlatformNeed
from torchinstall.planner.drivers import Window

INDEX = "index.json"
_HOSTNAME = "kubernetes.io/hostname"
_ARCH = {"x86_64": "amd64", "aarch64": "arm64"}
_DRIVER = "nvidia.com/cuda.driver-version"
_GPU = "nvidia.com/gpu.compute"
_Rules = list[dict[str, Any]]
_Term = dict[str, tuple[str, ...]]
"""Values by label; no values: the label is not there."""


def affinity(inside: Sequence[Node], outside: Sequence[Node]) -> dict[str, Any]:
    """A Kubernetes Affinity that selects exactly these nodes of a cluster, by labels that they carry.

    Nodes without labels, or with the same as one outside, are selected by their own names.
    """
    others = {node.labels for node in outside}
    shared = {(), *({node.labels for node in inside} & others)}
    terms = [_expressions(term) for term in _terms({node.labels for node in inside} - shared, others)]
    hosts = sorted(node.hostname for node in inside if node.labels in shared and node.hostname)
    terms += [_expressions({_HOSTNAME: tuple(hosts)})] if hosts else []
    names = [node.name for node in inside if node.labels in shared and not node.hostname]
    terms += [{"matchFields": [_rule("metadata.name", "In", name)]} for name in names]
    return _required(terms)


def _required(terms: list[dict[str, Any]]) -> dict[str, Any]:
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}


def _rule(key: str, operator: str, *values: object) -> dict[str, Any]:
    return {"key": key, "operator": operator, "values": [str(value) for value in values]}


def _expressions(term: _Term) -> dict[str, Any]:
    rows = (
        _rule(key, "In", *values) if values else {"key": key, "operator": "DoesNotExist"}
        for key, values in term.items()
    )
    return {"matchExpressions": list(rows)}


_Labels = tuple[tuple[str, str], ...]


def _terms(inside: Collection[_Labels], outside: Collection[_Labels]) -> list[_Term]:
    """The fewest labels that tell these nodes from those, and their values: any of the terms holds.

    A term without labels would select nothing, so one label stays where all nodes are inside.
    """
    keys = list(dict.fromkeys(key for labels in (*inside, *outside) for key, _ in labels))
    preferred: list[str] = names_of("kubernetes")["preferred"]
    keys.sort(key=lambda key: (preferred.index(key) if key in preferred else len(preferred), key))
    mine, others = [dict(labels) for labels in inside], [dict(labels) for labels in outside]

    def values(rows: Iterable[Mapping[str, str]], kept: Sequence[str]) -> set[tuple[str | None, ...]]:
        return {tuple(row.get(key) for key in kept) for row in rows}

    for key in reversed(keys.copy()):
        fewer = [other for other in keys if other != key]
        if fewer and not values(mine, fewer) & values(others, fewer):
            keys = fewer
    found: list[_Term] = [
        {key: () if value is None else (value,) for key, value in zip(keys, row, strict=True)}
        for row in sorted(values(mine, keys), key=str)
    ]
    for key in keys:
        found = _merged(found, key)
    return found


def _merged(terms: list[_Term], key: str) -> list[_Term]:
    """Terms that differ in one label only become one, with all its values."""
    groups: dict[object, _Term] = {}
    for term in terms:
        rest = (tuple((name, term[name]) for name in term if name != key), bool(term[key]))
        before = groups.get(rest)
        groups[rest] = {**term, key: tuple(sorted({*(before or term)[key], *term[key]}))}
    return list(groups.values())


def slurm_constraint(inside: Sequence[Node], outside: Sequence[Node]) -> str | None:
    """What `sbatch --constraint` takes to select exactly these nodes; None: their features cannot say it."""
    others = [{name for name, _ in node.labels} for node in outside]
    parts: dict[str, None] = {}
    for labels in dict.fromkeys(node.labels for node in inside):
        names = [name for name, _ in labels]
        for name in names.copy():
            fewer = [other for other in names if other != name]
            if fewer and not any(set(fewer) <= other for other in others):
                names = fewer
        if not names or any(set(names) <= other for other in others):
            return None
        parts["&".join(names)] = None
    return "|".join(f"({part})" if "&" in part and len(parts) > 1 else part for part in parts)


def slurm_conf(name: str, inside: Sequence[Node], outside: Sequence[Node]) -> str:
    """Lines for `slurm.conf`: the nodes as a set, and the constraint that selects them where there is one."""
    known = re.sub(r"\W", "_", name)
    constraint = slurm_constraint(inside, outside)
    if constraint is None:
        said = f"# No features tell these nodes from others. Give them one: Feature={known}, or a partition:"
    else:
        said = f'# The same nodes by features that they have: sbatch --constraint="{constraint}"'
    nodes = hostlist(node.name for node in inside)
    return f"NodeSet={known} Nodes={nodes}\n{said}\n# PartitionName={known} Nodes={known}\n"


def hostlist(names: Iterable[str]) -> str:
    """Names as Slurm writes them: `gpu[1-4,7],login`."""
    matches = {name: re.fullmatch(r"(.*?)(\d{1,9})", name) for name in names}
    padded = {(m[1], len(m[2])) for m in matches.values() if m is not None and m[2].startswith("0")}
    groups: dict[tuple[str, int], list[int]] = {}
    for name, match in matches.items():
        if match is None:
            groups.setdefault((name, 0), [])
        else:
            width = len(match[2]) if (match[1], len(match[2])) in padded else 0
            groups.setdefault((match[1], width), []).append(int(match[2]))
    found = []
    for (stem, width), numbers in groups.items():
        runs: list[list[int]] = []
        for number in sorted(numbers):
            if runs and number == runs[-1][-1] + 1:
                runs[-1] = [runs[-1][0], number]
            else:
                runs.append([number])
        texts = ["-".join(f"{number:0{width}}" for number in run) for run in runs]
        plain = len(texts) == 1 and "-" not in texts[0]
        found.append(stem + ("".join(texts) if plain else f"[{','.join(texts)}]" if texts else ""))
    return ",".join(found)


def needs_affinity(needs: Sequence[PlatformNeed], catalog: Catalog) -> dict[str, Any]:
    """A Kubernetes Affinity for nodes with the labels of GPU feature discovery, AMD's or Intel's labeller."""
    terms = []
    for need in needs:
        if need.os == "macos" or need.wsl:
            continue
        base = [_rule("kubernetes.io/os", "In", need.os), _rule("kubernetes.io/arch", "In", _ARCH[need.arch])]
        gpus = [rules for row in need.gpus for rules in _gpu_rules(need, row, catalog)]
        terms += [{"matchExpressions": [*base, *rules]} for rules in gpus or [[]]]
    return _required(terms)


def _gpu_rules(need: PlatformNeed, row: GpuNeed, catalog: Catalog) -> Iterable[_Rules]:
    if need.vendor == "amd":
        known = (fact.pci_id for fact in catalog.tables.gpus("amd") if fact.code in row.codes)
        yield [_rule("amd.com/gpu.device-id", "In", *dict.fromkeys(text[5:] for text in known if text))]
        return
    if need.vendor == "intel":
        names = (f"{kind}-{code[5:]}" for code in row.codes for kind in ("0300", "0380"))
        yield from ([_rule(f"gpu.intel.com/device-id.{name}.present", "In", "true")] for name in names)
        return
    minors: dict[str, list[str]] = {}
    for code in row.codes:
        major, _, minor = code.partition(".")
        minors.setdefault(major, []).append(minor)
    for major, found in minors.items():
        gpu = [_rule(f"{_GPU}.major", "In", major), _rule(f"{_GPU}.minor", "In", *found)]
        for window in driver_windows(row, catalog):
            below = [_rule(f"{_DRIVER}.major", "Lt", dotted(window.below)[0])] if window.below else []
            yield from ([*gpu, *rules, *below] for rules in _from(window.low))


def _from(low: str | None) -> Iterable[_Rules]:
    """Drivers from one version on: a later major, or the same and a later minor, and so on."""
    parts = [] if low is None else list(zip(("major", "minor", "revision"), dotted(low), strict=False))
    same: _Rules = []
    for name, part in parts:
        last = name == parts[-1][0]
        yield [*same, _rule(f"{_DRIVER}.{name}", "Gt", part - 1 if last else part)]
        same = [*same, _rule(f"{_DRIVER}.{name}", "In", part)]
    if not parts:
        yield []


def driver_windows(row: GpuNeed, catalog: Catalog) -> list[Window]:
    """The windows of drivers, from the branch on that speaks the CUDA version which PTX needs."""
    return [found for window in row.drivers if (found := window.speaking(row.cuda, catalog))]


def needs_slurm(needs: Sequence[PlatformNeed], catalog: Catalog) -> str:
    """For `sbatch --constraint`, in features such as `sm_90`, `gfx942`, `r580` (the how-to on fleets)."""
    parts: dict[str, None] = {}
    for need in needs:
        if need.os != "linux" or need.wsl:
            continue
        for row in need.gpus:
            names = list(map(sm_text, row.codes))
            branches = [
                f"r{branch}"
                for branch in catalog.tables.branch_cuda
                if any(window.holds((branch,)) for window in driver_windows(row, catalog))
            ]
            gpus = "|".join(name.replace(":", "_") for name in names)
            parts["&".join(f"({part})" for part in (gpus, "|".join(branches)) if part)] = None
    return "|".join(f"({part})" if len(parts) > 1 else part for part in parts)


def needs_filter(needs: Sequence[PlatformNeed], catalog: Catalog) -> list[str]:
    """Lines of a filter as markets of rented GPUs take them; each line is one search."""
    lines: dict[str, None] = {}
    for need in needs:
        if need.os != "linux" or need.wsl:
            continue
        base = f"cpu_arch={_ARCH[need.arch]}"
        if need.vendor is None:
            lines[base] = None
        for row in need.gpus:
            gpu = f"{base} gpu_arch={need.vendor}"
            if need.vendor == "nvidia":
                codes = ",".join(code.replace(".", "") + "0" for code in row.codes)
                for window in driver_windows(row, catalog):
                    rules = [f"compute_cap in [{codes}]"]
                    rules += [f"driver_version>={window.low}"] if dotted_or_none(window.low) else []
                    rules += [f"driver_version<{window.below}"] if window.below else []
                    lines[" ".join([gpu, *rules])] = None
            else:
                lines[f"{gpu} gpu in [{','.join(row.codes)}]"] = None
    return list(lines)


def to_yaml(value: Any, indent: str = "") -> str:
    """Tables, lists and texts as YAML; every text is quoted, as JSON quotes it."""
    table = isinstance(value, dict)
    text = ""
    for key, item in value.items() if table else enumerate(value):
        start = f"{indent}{key}:" if table else f"{indent}-"
        if isinstance(item, (dict, list)) and item:
            below = to_yaml(item, indent + "  ")
            text += f"{start}\n{below}" if table else f"{start} {below.lstrip()}"
        else:
            text += f"{start} {json.dumps(item)}\n"
    return text


def write_folder(folder: Path, files: Mapping[str, str]) -> None:
    """Write files, by path below the folder, all or none; only what an earlier run wrote is replaced.

    Raises:
        UsageError: `export-folder`: something else is there; `cannot-write`.
    """
    if folder.exists() and not _is_ours(folder):
        raise UsageError(
            "export-folder",
            f"{folder} holds something that fleet did not write",
            wanted="a folder that is not there, or that fleet wrote",
            found=str(folder),
            hints=("name a new folder: --export-dir images", f"or remove it: rm -r {folder}"),
        )
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".torchinstall-", dir=folder.parent) as made:
            for name, text in files.items():
                write_file(Path(made, "new", name), text, durable=False)
            if folder.exists():
                folder.rename(Path(made, "old"))
            Path(made, "new").rename(folder)
    except OSError as error:
        raise cannot_write(folder, error, "name another place: --export-dir DIR") from error


def _is_ours(folder: Path) -> bool:
    """Whether everything in a folder was written by an earlier run, as its index says."""
    if not folder.is_dir():
        return False
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
    index = load(folder / INDEX, _Index)
    return there <= {INDEX, *index.files} if index is not None else not there


class _Index(Struct):
    """What is read of the index of an earlier run."""

    files: list[str]
