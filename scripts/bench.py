"""Time `torchinstall auto --dry-run` beside `uv pip install --torch-backend=auto --dry-run`; print Markdown.

    python -m scripts.bench --torchinstall .venv/bin/torchinstall --pairs 10
    python -m scripts.bench --startup
    python -m scripts.bench --proved .venv

Both plan torch and torchvision for one described CUDA machine, on a loopback copy of download.pytorch.org and
of the default index that waits 80 ms before each answer. They take turns, so that a machine whose speed
drifts treats both alike; medians and the median of the ratios of the pairs are printed. Cold: neither has a
cache. Warm: both have run a moment ago. Seconds of processors (of everything that a tool starts) are printed
too: they tell more than the clock where other programs run.

`--startup` measures what starting costs instead: instructions under callgrind (where valgrind is installed),
which do not depend on how busy the machine is, and time of a processor beyond that of a bare interpreter.
`--proved DIR` times `auto` in an environment where all is right: once with every check, then without them.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.bench_fleet import fleet
from tests.simulation.real_uv import trees
from tests.support.connect_proxy import ConnectProxy
from tests.support.index_server import IndexServer, TestAuthority
from torchinstall.catalog.catalog import load_catalog

DRIVER = "570.124.06"
MACHINE = {
    "schema_version": 1,
    "os": "linux",
    "os_version": "24.04",
    "arch": "x86_64",
    "libc": {"family": "glibc", "version": "2.39"},
    "environment": [],
    "memory_bytes": 1 << 36,
    "drivers": [{"vendor": "nvidia", "version": DRIVER, "cuda_version": "12.8", "source": "nvml"}],
    "gpus": [{"vendor": "nvidia", "index": 0, "name": "NVIDIA H100", "compute_capability": "9.0"}],
    "findings": [],
}
PACKAGES = ("torch", "torchvision")
PLAN_SECONDS, PLAN_INSTRUCTIONS = 0.15, 484_000_000
"""Of `plan --offline --machine FILE --json` on CPython 3.11; the seconds are those beyond a bare start."""


PROVED_SECONDS = 0.25
"""What `auto` may take where nothing has changed since it proved that torch computes."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A command and the environment it runs in."""

    name: str
    argv: tuple[str, ...]
    env: dict[str, str]
    caches: tuple[Path, ...]

    def run(self, cwd: Path, *, cold: bool) -> tuple[float, str]:
        """Wall seconds, and what it printed."""
        for cache in self.caches if cold else ():
            shutil.rmtree(cache, ignore_errors=True)
        begin = time.perf_counter()
        done = subprocess.run(self.argv, env=self.env, cwd=cwd, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - begin
        if done.returncode != 0:
            raise SystemExit(f"{self.name} failed:\n{done.stdout}{done.stderr}")
        return seconds, done.stdout + done.stderr


@dataclass(frozen=True, slots=True)
class Turn:
    """One run of a tool: seconds by the clock and of processors, what it asked for and got."""

    wall: float
    busy: float
    requests: tuple[str, ...]
    received: int


@dataclass(frozen=True, slots=True)
class Pairs:
    """The runs of both tools, turn by turn."""

    ours: tuple[Turn, ...]
    theirs: tuple[Turn, ...]

    @property
    def ratio(self) -> float:
        """Median of the ratios of the pairs."""
        return statistics.median(a.wall / b.wall for a, b in zip(self.ours, self.theirs, strict=True))

    @property
    def busy_ratio(self) -> float:
        """The same, of processors' seconds."""
        return statistics.median(a.busy / b.busy for a, b in zip(self.ours, self.theirs, strict=True))


def compare(tools: tuple[Tool, Tool], server: IndexServer, cwd: Path, pairs: int, *, cold: bool) -> Pairs:
    """Let both run in turn."""
    for tool in tools:
        tool.run(cwd, cold=cold)
    turns: tuple[list[Turn], list[Turn]] = ([], [])
    for _ in range(pairs):
        for tool, mine in zip(tools, turns, strict=True):
            server.log.clear()
            received, busy = server.sent_bytes, _busy()
            wall = tool.run(cwd, cold=cold)[0]
            paths = tuple(path for _, path in server.log)
            mine.append(Turn(wall, _busy() - busy, paths, server.sent_bytes - received))
    return Pairs(tuple(turns[0]), tuple(turns[1]))


def _busy() -> float:
    """Seconds of processors that children took so far, once they have been waited for."""
    times = os.times()
    return times.children_user + times.children_system


def _chosen(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if "torch" in line and "+cu" in line), "?")


def _tools(args: argparse.Namespace, folder: Path, env: dict[str, str]) -> tuple[Tool, Tool]:
    machine = folder / "machine.json"
    machine.write_text(json.dumps(MACHINE), encoding="utf-8")
    mine, theirs = folder / "cache-ours", folder / "cache-uv"
    ours_env = {**env, "UV_CACHE_DIR": str(mine / "uv"), "TORCHINSTALL_CACHE_DIR": str(mine / "pages")}
    uv_env = {**env, "UV_CACHE_DIR": str(theirs), "UV_CUDA_DRIVER_VERSION": DRIVER}
    ours = (*args.torchinstall, "auto", *PACKAGES, "--dry-run", "--machine", str(machine))
    uv = (args.uv, "pip", "install", *PACKAGES, "--torch-backend=auto", "--dry-run")
    return Tool("torchinstall", ours, ours_env, (mine,)), Tool("uv", uv, uv_env, (theirs,))


def startup(torchinstall: Sequence[str], pairs: int) -> int:
    """Print what starting costs; 1 where a plan takes more instructions than it may."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        machine = Path(name) / "machine.json"
        machine.write_text(json.dumps(MACHINE), encoding="utf-8")
        plan = ("plan", "--offline", "--machine", str(machine), "--python-version", "3.12", "--json")
        env = {"HOME": name, "PATH": "/usr/bin:/bin"}
        print("| command | million instructions | ms of a processor beyond a bare start |\n|---|--:|--:|")
        count, beyond = None, 0.0
        for words in (("--version",), ("--help",), plan):
            argv, bare = (*torchinstall, *words), (sys.executable, "-c", "")
            beyond = min(_busy_in(argv, env) for _ in range(pairs))
            beyond -= min(_busy_in(bare, env) for _ in range(pairs))
            count = _instructions(argv, env)
            shown = "?" if count is None else f"{count / 1e6:.0f}"
            print(f"| {' '.join(words[:2])} | {shown} | {beyond * 1000:.0f} |")
    return int(beyond > PLAN_SECONDS or (count or 0) > PLAN_INSTRUCTIONS)


def _busy_in(argv: Sequence[str], env: dict[str, str]) -> float:
    before = _busy()
    subprocess.run(argv, env=env, capture_output=True, check=True)
    return _busy() - before


def proved(torchinstall: Sequence[str], environment: str, pairs: int) -> int:
    """Print what `auto` takes where all is right; 1 where it takes longer than it may."""
    argv = (*torchinstall, "auto", "torch", "--venv", environment)
    env = {"HOME": environment, "PATH": "/usr/bin:/bin"}
    checked = _seconds((*argv, "--verify"), env)
    times = [_seconds(argv, env) for _ in range(pairs)]
    print("| `auto` where all is right | ms |\n|---|--:|")
    print(f"| with every check | {checked * 1000:.0f} |")
    print(f"| after a proof, median of {pairs} | {statistics.median(times) * 1000:.0f} |")
    print(f"| after a proof, least | {min(times) * 1000:.0f} |")
    return int(min(times) > PROVED_SECONDS)


def _seconds(argv: Sequence[str], env: dict[str, str]) -> float:
    begin = time.perf_counter()
    subprocess.run(argv, env=env, capture_output=True, check=True)
    return time.perf_counter() - begin


def _instructions(argv: Sequence[str], env: dict[str, str]) -> int | None:
    """Instructions of the process itself; None without valgrind."""
    if shutil.which("valgrind") is None:
        return None
    callgrind = ("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null")
    fixed = {**env, "PYTHONHASHSEED": "0"}
    done = subprocess.run((*callgrind, *argv), env=fixed, capture_output=True, text=True, check=True)
    match = re.search(r"Collected : (\d+)", done.stderr)
    return int(match[1]) if match else None


def main(argv: Sequence[str] | None = None) -> int:
    """Compare; returns 1 where a budget of the design is missed."""
    parser = argparse.ArgumentParser(prog="python -m scripts.bench", description=__doc__)
    parser.add_argument(
        "--torchinstall",
        nargs="+",
        default=[sys.executable, "-m", "torchinstall"],
        help="command of an installed, compiled copy (default: this Python's)",
    )
    parser.add_argument("--uv", help="uv to compare with (default: beside torchinstall, or on PATH)")
    parser.add_argument("--pairs", type=int, default=10, help="turns of each kind (default: %(default)s)")
    parser.add_argument("--latency", type=float, default=0.08, help="seconds before an answer")
    parser.add_argument("--requests", action="store_true", help="print what each asked for")
    parser.add_argument("--startup", action="store_true", help="measure what starting costs instead")
    parser.add_argument("--proved", metavar="DIR", help="time auto in an environment where all is right")
    parser.add_argument("--fleet", action="store_true", help="time fleet on 10,000 nodes instead")
    args = parser.parse_args(argv)
    if args.fleet:
        return fleet(args.torchinstall)
    if args.proved:
        return proved(args.torchinstall, args.proved, args.pairs)
    if args.startup:
        return startup(args.torchinstall, args.pairs)
    beside = Path(args.torchinstall[0]).with_name("uv")
    args.uv = args.uv or (str(beside) if beside.exists() else shutil.which("uv"))

    pytorch, default = trees(load_catalog(), hashed=True)
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        authority = TestAuthority(folder)
        with (
            IndexServer(
                pytorch, default=default, latency=args.latency, authority=authority, dated=True
            ) as server,
            ConnectProxy(server.port) as proxy,
        ):
            venv = folder / "venv"
            subprocess.run([args.uv, "venv", "-q", "--python", sys.executable, str(venv)], check=True)
            env = {
                "HOME": str(folder),
                "PATH": "/usr/bin:/bin",
                "VIRTUAL_ENV": str(venv),
                "HTTPS_PROXY": proxy.url,
                "NO_PROXY": "127.0.0.1",
                "SSL_CERT_FILE": str(authority.bundle),
                "UV_DEFAULT_INDEX": server.default_index,
                "UV_PYTHON_DOWNLOADS": "never",
                "UV_NO_PROGRESS": "1",
            }
            tools = _tools(args, folder, env)
            found = {
                "cold": compare(tools, server, folder, args.pairs, cold=True),
                "warm": compare(tools, server, folder, args.pairs, cold=False),
            }
            chosen = [_chosen(tool.run(folder, cold=False)[1]) for tool in tools]
    print(f"torchinstall: {chosen[0]}; uv: {chosen[1]}; {args.pairs} pairs, {args.latency * 1000:.0f} ms\n")
    print("| caches | tool | ms | ratio | ms of processors | ratio | requests | KB received |")
    print("|---|---|--:|--:|--:|--:|--:|--:|")
    for kind, row in found.items():
        for tool, turns in zip(tools, (row.ours, row.theirs), strict=True):
            wall, busy = (
                statistics.median(times) * 1000
                for times in ([turn.wall for turn in turns], [turn.busy for turn in turns])
            )
            first = turns is row.ours
            ratios = [f"{ratio:.2f}" if first else "" for ratio in (row.ratio, row.busy_ratio)]
            got = f"{len(turns[-1].requests)} | {turns[-1].received / 1000:.0f}"
            print(f"| {kind} | {tool.name} | {wall:.0f} | {ratios[0]} | {busy:.0f} | {ratios[1]} | {got} |")
    if args.requests:
        for kind, row in found.items():
            for tool, turns in zip(tools, (row.ours, row.theirs), strict=True):
                asked = turns[-1].requests
                print(f"\n{tool.name}, {kind}:\n" + "\n".join(f"  {path}" for path in asked))
    return 0 if found["warm"].ratio <= 0.8 and found["cold"].ratio <= 1.0 else 1


if __name__ == "__main__":
    sys.exit(main())
