"""Read what is in an environment, through one isolated script in its own interpreter."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torchinstall.doctor.model import Dist, Inventory
from torchinstall.errors import TargetError
from torchinstall.install.keep import KEEP_PREFIX

__all__ = ["take_inventory"]

_MARKER = "@torchinstall@"
_DEADLINE = 60.0
"""Seconds; torch alone is a list of ten thousand files, and the filesystem may be a slow network one."""

_LIBRARIES = (r"nvidia-", r"cuda-", r"triton", r"pytorch-triton")
"""Distributions that carry what torch loads, besides torch's own family."""


def take_inventory(
    python: str, family: Iterable[str], *, env: Mapping[str, str], deadline: float = _DEADLINE
) -> Inventory:
    """Run the script in `python`.

    Args:
        python: interpreter of the environment.
        family: names of the packages that move with torch; their files are looked at.
        env: its environment.
        deadline: seconds that it may take.

    Raises:
        TargetError: `environment-unreadable`: it gave no answer.
    """
    script = (Path(__file__).parent / "inventory_script.py").read_text(encoding="utf-8")
    watched = [*(re.escape(name) + "$" for name in sorted(family)), *_LIBRARIES]
    try:
        done = subprocess.run(
            [python, "-I", "-c", script, json.dumps([watched, KEEP_PREFIX])],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=deadline,
            env={**env, "PYTHONIOENCODING": "utf-8"},
            check=False,
            encoding="utf-8",
            errors="replace",
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _unreadable(python, str(error)) from error
    _, marker, text = done.stdout.rpartition(_MARKER)
    if done.returncode != 0 or not marker:
        raise _unreadable(python, (done.stderr.strip().splitlines() or ["no answer"])[-1])
    return _inventory(json.loads(text))


def _inventory(data: dict[str, Any]) -> Inventory:
    return Inventory(
        python=data["python"],
        prefix=data["prefix"],
        sites=tuple(data["sites"]),
        dists=tuple(
            Dist(
                name=row["name"],
                version=row["version"],
                requires=tuple(row["requires"]),
                site=row["site"],
                missing=tuple(row["missing"]),
                altered=tuple(row["altered"]),
                built_for=row["built_for"],
            )
            for row in data["dists"]
        ),
        leftovers=tuple(data["leftovers"]),
        kept=tuple(data["kept"]),
        user_torch=data["user_torch"],
        markers=data["markers"],
    )


def _unreadable(python: str, found: str) -> TargetError:
    return TargetError(
        "environment-unreadable",
        f"what is installed for {python} cannot be read",
        wanted="an answer to one script of the standard library",
        found=found,
        hints=("make the environment anew: uv venv --clear, then torchinstall auto",),
    )
