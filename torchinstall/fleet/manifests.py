"""Files of a class for schedulers: what selects exactly its nodes, written in their own words."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torchinstall.core.errors import UsageError
from torchinstall.fleet.nodes import Node, names_of

INDEX = "index.json"
_HOSTNAME = "kubernetes.io/hostname"
_Term = dict[str, tuple[str, ...]]
"""Values by label; no values: the label is not there."""


def affinity(inside: Sequence[Node], outside: Sequence[Node]) -> dict[str, Any]:
    """A Kubernetes Affinity that selects exactly these nodes of a cluster, by labels that they carry.

    Nodes without labels, or with the same as one outside, are selected by their own names.
    """
    shared = {(), *({node.labels for node in inside} & {node.labels for node in outside})}
    alike = {node.labels for node in inside} - shared
    terms = [_expressions(term) for term in _terms(alike, {node.labels for node in outside})]
    hosts = sorted(node.hostname for node in inside if node.labels in shared and node.hostname)
    terms += [_expressions({_HOSTNAME: tuple(hosts)})] if hosts else []
    for node in inside:
        if node.labels in shared and not node.hostname:
            field = {"key": "metadata.name", "operator": "In", "values": [node.name]}
            terms.append({"matchFields": [field]})
    required = {"nodeSelectorTerms": terms}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}


def _expressions(term: _Term) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    for key, values in term.items():
        rows.append({"key": key, "operator": "In", "values": list(values)} if values else _absent(key))
    return {"matchExpressions": rows}


def _absent(key: str) -> dict[str, Any]:
    return {"key": key, "operator": "DoesNotExist"}


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


def to_yaml(value: Any, indent: str = "") -> str:
    """Tables, lists and texts as YAML; every text is quoted, as JSON quotes it."""
    if isinstance(value, dict):
        return "".join(f"{indent}{key}:{_below(item, indent)}" for key, item in value.items())
    rows = (to_yaml(item, indent + "  ") if isinstance(item, (dict, list)) else None for item in value)
    return "".join(
        f"{indent}- {json.dumps(item)}\n" if row is None else f"{indent}- {row.lstrip()}"
        for item, row in zip(value, rows, strict=True)
    )


def _below(item: Any, indent: str) -> str:
    if isinstance(item, (dict, list)):
        return f"\n{to_yaml(item, indent + '  ')}" if item else f" {json.dumps(item)}\n"
    return f" {json.dumps(item)}\n"


def write_folder(folder: Path, files: Mapping[str, str]) -> None:
    """Write a folder whole; one that an earlier run wrote is replaced, any other one is left alone.

    Args:
        folder: where.
        files: text by path below the folder.

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
        made = Path(tempfile.mkdtemp(prefix=".torchinstall-", dir=folder.parent))
        try:
            for name, text in files.items():
                path = made / "new" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8", newline="\n")
            if folder.exists():
                folder.rename(made / "old")
            (made / "new").rename(folder)
        finally:
            shutil.rmtree(made, ignore_errors=True)
    except OSError as error:
        raise UsageError(
            "cannot-write",
            f"{folder} cannot be written: {error.strerror or error}",
            wanted="a folder that this user may write",
            found=str(error),
            hints=("name another place: --export-dir DIR",),
        ) from error


def _is_ours(folder: Path) -> bool:
    """Whether everything in a folder was written by an earlier run, as its index says."""
    if not folder.is_dir():
        return False
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
    try:
        known = set(json.loads((folder / INDEX).read_text(encoding="utf-8"))["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return not there
    return there <= {INDEX, *known}
