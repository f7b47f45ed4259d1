"""Time `torchinstall fleet` on a made-up cluster: 10,000 nodes of 30 kinds; print Markdown.

    python -m scripts.bench --fleet

The nodes are as `kubectl get nodes -o json` prints them, with labels of GPU feature discovery and status. The
design allows 5 seconds and 200 MB.
"""

from __future__ import annotations

import json
import resource
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.fleet.made import gfd, kube_list, kube_node

__all__ = ["fleet", "inventory"]

SECONDS, MEGABYTES = 5.0, 200.0
PRODUCTS = (
    ("Tesla-P100-PCIE-16GB", "6.0"),
    ("Tesla-V100-SXM2-32GB", "7.0"),
    ("Tesla-T4", "7.5"),
    ("NVIDIA-A100-SXM4-80GB", "8.0"),
    ("NVIDIA-A40", "8.6"),
    ("NVIDIA-L40S", "8.9"),
    ("NVIDIA-H100-80GB-HBM3", "9.0"),
    ("NVIDIA-H200", "9.0"),
    ("NVIDIA-B200", "10.0"),
    ("NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition", "12.0"),
)
DRIVERS = (("570.124.06", "12.8"), ("580.95.05", "13.0"), ("580.105.08", "13.0"))


def inventory(count: int) -> str:
    """A cluster of so many nodes, of thirty kinds."""
    kinds = [(product, code, *driver) for product, code in PRODUCTS for driver in DRIVERS]
    nodes = []
    for number in range(count):
        product, code, driver, cuda = kinds[number % len(kinds)]
        nodes.append(kube_node(f"node-{number:05}", gfd(product, code, driver, cuda, 8)))
    return kube_list(*nodes)


def fleet(command: Sequence[str], count: int = 10_000) -> int:
    """Run it and print what it took; 1 where a budget is missed."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        path = Path(folder) / "nodes.json"
        path.write_text(inventory(count), encoding="utf-8")
        size = path.stat().st_size / 1e6
        words = [
            *command,
            "-qq",
            "fleet",
            str(path),
            "torch",
            "--offline",
            "--json",
            "--python-version",
            "3.12",
        ]
        env = {"HOME": folder, "PATH": "/usr/bin:/bin"}
        begin = time.perf_counter()
        done = subprocess.run(words, env=env, cwd=folder, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - begin
    if done.returncode != 0:
        raise SystemExit(f"fleet failed:\n{done.stderr}")
    data = json.loads(done.stdout)
    megabytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    kinds = sum(len(row["kinds"]) for row in data["classes"])
    print("| nodes | kinds | inventory, MB | builds | seconds | peak memory, MB |")
    print("|--:|--:|--:|--:|--:|--:|")
    print(f"| {data['nodes']} | {kinds} | {size:.0f} | {data['builds']} | {seconds:.1f} | {megabytes:.0f} |")
    return 0 if seconds <= SECONDS and megabytes <= MEGABYTES else 1
