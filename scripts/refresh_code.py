"""Read what a torch release is built for from PyTorch's own build scripts, into code.json.

    python -m scripts.refresh_code --torch 2.16 --pytorch ../pytorch              # a checkout of release/2.16
    python -m scripts.refresh_code --torch 2.16 --pytorch https://raw.githubusercontent.com/pytorch/pytorch/release/2.16
    python -m scripts.refresh_code --measured torch-2.16.0+cu130-….whl https://…/torch-2.16.0%2Bcu126-….whl

Read are `.ci/wheel/linux/build_env_setup.py` (or `.ci/manywheel/build_cuda.sh` in older releases),
`.ci/pytorch/windows/internal/cuda_config.bat` and `.ci/docker/manywheel/build.sh`; a file that is missing is
skipped. Rows that rest on a measured wheel or a reported `get_arch_list()` are stronger evidence and stay.
Only backends that wheels.json has for the release get a row. `--measured` reads wheels themselves (as
`torchinstall inspect` does); its rows replace those of any other evidence.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from scripts.refreshing import Row, arguments, code_order, finish, fold, parser, read_source
from torchinstall.catalog.tables import Table, Tables, platform_of
from torchinstall.cli import process_context
from torchinstall.core.versions import dotted
from torchinstall.export.wheel_check import code_of, read_wheel
from torchinstall.index.inspect import WheelReport
from torchinstall.index.wheels import parse_name

LINUX = ".ci/wheel/linux/build_env_setup.py"
LINUX_OLD = ".ci/manywheel/build_cuda.sh"
WINDOWS = ".ci/pytorch/windows/internal/cuda_config.bat"
ROCM = ".ci/docker/manywheel/build.sh"

STRONGER = ("measured wheel", "reported get_arch_list()")

Targets = dict[tuple[str, str], tuple[list[str], list[str] | None]]
"""(backend, platform) -> native targets, PTX targets (None: the script does not say)."""


def main(argv: list[str] | None = None) -> int:
    """Run the refresher; returns its exit code."""
    options = parser(__doc__ or "")
    options.add_argument("--torch", help="minor release, 2.16")
    options.add_argument("--pytorch", help="checkout of the release branch, or its raw URL")
    options.add_argument("--measured", nargs="+", metavar="WHEEL|URL", help="torch wheels to read")
    args = arguments(options, argv)
    tables = Tables(args.data)
    if args.measured:
        reports = [read_wheel(process_context(), where) for where in args.measured]
        return finish(tables, (measured(tables, reports, args.as_of),), write=args.write)
    if not (args.torch and args.pytorch):
        options.error("--torch and --pytorch, or --measured")
    found: list[tuple[str, Targets]] = []
    for name, read in ((LINUX, linux), (LINUX_OLD, linux_old), (WINDOWS, windows), (ROCM, rocm)):
        text = _text(args.pytorch, name)
        if text is None:
            print(f"{name}: not there", file=sys.stderr)
        elif targets := read(text):
            found.append((name, targets))
        else:
            print(f"{name}: nothing recognised", file=sys.stderr)
    if not found:
        raise SystemExit(f"{args.pytorch} has none of the build scripts, or their form has changed")
    return finish(tables, (refreshed(tables, args.torch, found, args.as_of),), write=args.write)


def _text(base: str, name: str) -> str | None:
    if re.match(r"https?://", base):
        try:
            return read_source(f"{base.rstrip('/')}/{name}")
        except SystemExit as error:
            if "404" in str(error):
                return None
            raise
    path = Path(base) / name
    return read_source(str(path)) if path.exists() else None


def linux(text: str) -> Targets:
    """`TORCH_CUDA_ARCH_LIST_TABLE`: toolkit -> machine -> capabilities as integers (120 is 12.0)."""
    found: Targets = {}
    release_has_no_ptx = "_is_release_build" in text
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.AnnAssign) or node.value is None:
            continue
        if isinstance(node.target, ast.Name) and node.target.id == "TORCH_CUDA_ARCH_LIST_TABLE":
            for toolkit, machines in ast.literal_eval(node.value).items():
                for machine, codes in machines.items():
                    native = [f"{code // 10}.{code % 10}" for code in sorted(codes)]
                    ptx: list[str] | None = [] if release_has_no_ptx else None
                    found[_cuda(toolkit), f"linux_{machine}"] = native, ptx
    return found


def linux_old(text: str) -> Targets:
    """`12.8)` … `TORCH_CUDA_ARCH_LIST="7.0;…;12.0+PTX"` of a shell `case`."""
    cases = re.findall(r'^\s*(\d+\.\d+)\)\s*\n\s*TORCH_CUDA_ARCH_LIST="([^"$]+)"', text, re.MULTILINE)
    return {(_cuda(toolkit), "linux_x86_64"): _arch_list(value) for toolkit, value in cases}


def windows(text: str) -> Targets:
    """`"%CUDA_VER%"=="126"` … `CUDA_ARCH_LIST=5.0;6.0;…` of a batch file."""
    cases = re.findall(r'"%CUDA_VER%"=="(\d+)".*?CUDA_ARCH_LIST=([^"]+)"', text, re.DOTALL)
    return {(f"cu{digits}", "win_amd64"): _arch_list(value) for digits, value in cases}


def rocm(text: str) -> Targets:
    """The gfx lists: one for every ROCm, and what legacy images (before 7.14) put before it."""
    common = re.search(r'PYTORCH_ROCM_ARCH="(gfx[^"$]+)"', text)
    if common is None:
        return {}
    base = common[1].split(";")
    legacy = re.search(r'PYTORCH_ROCM_ARCH="(gfx[^"$]+);\$\{PYTORCH_ROCM_ARCH\}"', text)
    older = [*legacy[1].split(";"), *base] if legacy else base
    return {("rocm", "linux_x86_64"): (base, []), ("rocm-legacy", "linux_x86_64"): (older, [])}


def _cuda(toolkit: str) -> str:
    return f"cu{toolkit.replace('.', '')}"


def _arch_list(text: str) -> tuple[list[str], list[str] | None]:
    parts = text.strip().split(";")
    native = [part.removesuffix("+PTX") for part in parts]
    return native, [part.removesuffix("+PTX") for part in parts if part.endswith("+PTX")]


def refreshed(tables: Tables, torch: str, found: list[tuple[str, Targets]], as_of: str) -> Table:
    """code.json with rows of this release from the scripts, where nothing stronger is known."""
    table = tables.file("code.json")
    rows: dict[tuple[str, str, str], Row] = {
        (row["torch"], row["backend"], row["platform"]): row for row in table.rows
    }
    sources: dict[str, str] = {}
    for script, backend, platform, native, ptx in _of_release(tables, torch, found):
        key = torch, backend, platform
        old = rows.get(key)
        if old is not None and table.sources[old["source"]].startswith(STRONGER):
            continue
        if old is not None and (old["native"], old["ptx"]) == (native, ptx):
            continue
        slug = f"script-{torch}-{Path(script).stem}"
        sources[slug] = f"release script: pytorch/pytorch {script} (release/{torch}), read on {as_of}"
        rows[key] = {
            "torch": torch,
            "backend": backend,
            "platform": platform,
            "native": native,
            "ptx": ptx,
            "confidence": "medium",
            "source": slug,
        }
    return fold(table, sorted(rows.values(), key=code_order(tables)), sources, as_of)


def measured(tables: Tables, reports: Iterable[WheelReport], as_of: str) -> Table:
    """code.json with a row for each wheel that says which GPUs it is built for."""
    table = tables.file("code.json")
    rows: dict[tuple[str, str, str], Row] = {
        (row["torch"], row["backend"], row["platform"]): row for row in table.rows
    }
    sources: dict[str, str] = {}
    for report in reports:
        name = parse_name(report.filename)
        kind, _, toolkit = (report.toolkit or "cpu").partition(" ")
        parts = toolkit.split(".")[:2]
        backend = {"cuda": f"cu{''.join(parts)}", "rocm": f"rocm{'.'.join(parts)}"}.get(kind, kind)
        platform = platform_of(name.platform_tag) if name is not None else None
        if name is None or name.package != "torch" or platform is None or not report.targets:
            print(f"{report.filename}: not a torch wheel that says which GPUs it is for", file=sys.stderr)
            continue
        native, ptx = code_of(report.targets)
        key = ".".join(name.version.split(".")[:2]), (name.local or backend), platform
        old = rows.get(key)
        known = old is not None and table.sources[old["source"]].startswith("measured wheel")
        if old is not None and known and (tuple(old["native"]), old["ptx"]) == (native, list(ptx)):
            continue
        slug = f"measured-{key[0]}-{key[1]}-{platform}".replace("_", "-")
        sources[slug] = f"measured wheel: {report.targets_from} of {report.filename}, read on {as_of}"
        rows[key] = {
            "torch": key[0],
            "backend": key[1],
            "platform": platform,
            "native": list(native),
            "ptx": list(ptx),
            "confidence": "high",
            "source": slug,
        }
    return fold(table, sorted(rows.values(), key=code_order(tables)), sources, as_of)


def _of_release(
    tables: Tables, torch: str, found: list[tuple[str, Targets]]
) -> Iterator[tuple[str, str, str, list[str], list[str] | None]]:
    """Each (backend, platform) that the release is published for, with the targets that the scripts name."""
    builds = {
        (row.backend, platform_of(row.platform_tag) or "")
        for row in tables.wheels
        if row.package == "torch" and ".".join(row.version.split(".")[:2]) == torch
    }
    for script, targets in found:
        for backend, platform in sorted(builds):
            key = backend, platform
            if backend.startswith("rocm"):
                family = "rocm" if dotted(backend.removeprefix("rocm")) >= (7, 14) else "rocm-legacy"
                key = family, platform
            if key in targets:
                native, ptx = targets[key]
                yield script, backend, platform, native, ptx


if __name__ == "__main__":
    sys.exit(main())
