"""What a build needs, in the words of schedulers and markets: node affinity, Slurm's constraint, a filter."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torchinstall.catalog.catalog import Catalog
from torchinstall.core.versions import dotted, dotted_or_none
from torchinstall.fleet.requires import GpuNeed, PlatformNeed, Window

_ARCH = {"x86_64": "amd64", "aarch64": "arm64"}
_DRIVER = "nvidia.com/cuda.driver-version"
_Rules = list[dict[str, Any]]


def _rule(key: str, operator: str, *values: object) -> dict[str, Any]:
    return {"key": key, "operator": operator, "values": [str(value) for value in values]}


def needs_affinity(needs: Sequence[PlatformNeed], catalog: Catalog) -> dict[str, Any]:
    """A Kubernetes Affinity for nodes with the labels of GPU feature discovery, AMD's or Intel's labeller."""
    terms = []
    for need in needs:
        if need.os == "macos" or need.wsl:
            continue
        base = [_rule("kubernetes.io/os", "In", need.os), _rule("kubernetes.io/arch", "In", _ARCH[need.arch])]
        for row in need.gpus:
            terms += [{"matchExpressions": [*base, *rules]} for rules in _gpu_rules(need, row, catalog)]
        terms += [] if need.gpus else [{"matchExpressions": base}]
    required = {"nodeSelectorTerms": terms}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}


def _gpu_rules(need: PlatformNeed, row: GpuNeed, catalog: Catalog) -> Iterable[_Rules]:
    if need.vendor == "amd":
        ids = [
            fact.pci_id[5:] for fact in catalog.tables.gpus("amd") if fact.pci_id and fact.code in row.codes
        ]
        yield [_rule("amd.com/gpu.device-id", "In", *dict.fromkeys(ids))]
        return
    if need.vendor == "intel":
        for code in row.codes:
            for kind in ("0300", "0380"):
                yield [_rule(f"gpu.intel.com/device-id.{kind}-{code[5:]}.present", "In", "true")]
        return
    majors: dict[str, list[str]] = {}
    for code in row.codes:
        major, _, minor = code.partition(".")
        majors.setdefault(major, []).append(minor)
    for major, minors in majors.items():
        gpu = [
            _rule("nvidia.com/gpu.compute.major", "In", major),
            _rule("nvidia.com/gpu.compute.minor", "In", *minors),
        ]
        for window in driver_windows(row, catalog):
            below = [_rule(f"{_DRIVER}.major", "Lt", dotted(window.below)[0])] if window.below else []
            yield from ([*gpu, *rules, *below] for rules in _from(window.low))


def _from(low: str | None) -> Iterable[_Rules]:
    """Drivers from one version on: a later major, or the same and a later minor, and so on."""
    parts = [] if low is None else list(dotted(low))
    names = ("major", "minor", "revision")[: len(parts)]
    same: _Rules = []
    for place, (name, part) in enumerate(zip(names, parts, strict=False)):
        last = place == len(names) - 1
        yield [*same, _rule(f"{_DRIVER}.{name}", "Gt", part - 1 if last else part)]
        same = [*same, _rule(f"{_DRIVER}.{name}", "In", part)]
    if not parts:
        yield []


def driver_windows(row: GpuNeed, catalog: Catalog) -> list[Window]:
    """The windows of drivers, from the branch on that speaks the CUDA version which PTX needs."""
    if row.cuda is None:
        return list(row.drivers)
    branches = catalog.tables.branch_cuda.items()
    wanted = dotted(row.cuda)
    first = min((branch for branch, cuda in branches if dotted(cuda) >= wanted), default=None)
    found = []
    for window in row.drivers if first is not None else ():
        low = max((window.low or "0", str(first)), key=dotted)
        if window.below is None or dotted(low) < dotted(window.below):
            found.append(Window(low, window.below))
    return found


def needs_slurm(needs: Sequence[PlatformNeed], catalog: Catalog) -> str:
    """For `sbatch --constraint`, in features such as `sm_90`, `gfx942`, `r580` (the how-to on fleets)."""
    parts: dict[str, None] = {}
    for need in needs:
        if need.os != "linux" or need.wsl:
            continue
        for row in need.gpus:
            names = [f"sm_{code.replace('.', '')}" if need.vendor == "nvidia" else code for code in row.codes]
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
