"""What the page asks of torchinstall: the command line itself, run in the browser on described machines.

`run` calls the `main` that `torchinstall` calls in a shell, so every answer is the command line's, byte for
byte. There is no machine to probe, no uv to start and no network; whatever would need one of them ends in an
error. Answers are JSON, since the page speaks no Python.
"""

from __future__ import annotations

import io
import json
import platform
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, TextIO

from msgspec import to_builtins

from torchinstall import __version__
from torchinstall.catalog.catalog import load_catalog
from torchinstall.cli import main
from torchinstall.core.errors import ToolMissingError, TorchInstallError, UsageError
from torchinstall.core.machine import machine_to_json
from torchinstall.export.containers import IMAGE_LIBC
from torchinstall.fleet.inventories import read_inventories
from torchinstall.fleet.nodes import parse_assumed
from torchinstall.install.uv import Uv
from torchinstall.planner.explain import RULE_WORDS
from torchinstall.planning.context import Context

_BUILD = Path(__file__).with_name("torchinstall_site.json")


def _no_machine(_env: Mapping[str, str]) -> NoReturn:
    raise ToolMissingError(
        "no-machine-here",
        "a web page cannot probe a machine",
        hints=("describe it, or paste a machine file",),
    )


def _context(stdin: TextIO, stdout: TextIO, stderr: TextIO) -> Context:
    uv = Uv(path="uv", version=json.loads(_BUILD.read_text())["uv"], source="described")
    return Context(
        env={},
        cwd=Path.cwd(),
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        system=_no_machine,
        find_uv=lambda _env: uv,
        now=time.time,
        python_version=platform.python_version(),
    )


def run(words: list[str], stdin: str = "") -> str:
    """Run the command line: `{"code": 0, "out": "…", "err": "…"}`.

    Args:
        words: what would be typed after `torchinstall`.
        stdin: what would be piped into it.
    """
    out, err = io.StringIO(), io.StringIO()
    code = main(words, _context(io.StringIO(stdin), out, err))
    return json.dumps({"code": code, "out": out.getvalue(), "err": err.getvalue()})


def read(text: str, assumed: list[str]) -> str:
    """The machines of a pasted text, equal ones once: `{"nodes": […]}`, or `{"error": …, "asks": …}`.

    `asks` says that the text wants to be an inventory or a machine file, so that its error counts.

    Args:
        text: an inventory that `torchinstall fleet` reads.
        assumed: as `--assume`, for what the text does not say.
    """
    streams = io.StringIO(text), io.StringIO(), io.StringIO()
    catalog = load_catalog()
    try:
        taken = parse_assumed(assumed, catalog)
        found = read_inventories(_context(*streams), ("-",), None, catalog, taken, IMAGE_LIBC)
    except TorchInstallError as error:
        return json.dumps({"error": error.to_json(), "asks": text.lstrip()[:1] in ("{", "[")})
    same: dict[str, dict[str, Any]] = {}
    for node in found:
        if node.machine is None:
            continue
        machine = machine_to_json(node.machine.anonymous())
        row = {"names": [], "machine": machine, "assumed": [to_builtins(one) for one in node.assumed]}
        same.setdefault(json.dumps(machine), row)["names"].append(node.name)
    if same:
        return json.dumps({"nodes": list(same.values())})
    reasons = dict.fromkeys(node.unusable for node in found)
    nothing = UsageError("no-usable-node", f"nothing can be planned for this: {'; '.join(map(str, reasons))}")
    return json.dumps({"error": nothing.to_json(), "asks": True})


def facts() -> str:
    """What can be chosen, and the sentence of each rule."""
    tables = load_catalog().tables
    torch = [row for row in tables.wheels if row.package == "torch"]
    pythons = {match for row in torch for match in re.findall(r"cp3(\d+)-cp3\d+(t?)\b", row.tag_list)}
    found: dict[str, Any] = {
        "version": __version__,
        "snapshot": tables.snapshot,
        "rules": RULE_WORDS,
        "gpus": {
            vendor: sorted(
                {row.name for row in tables.gpus(vendor) if row.name and row.supported is not False}
            )
            for vendor in ("nvidia", "amd", "intel")
        },
        "drivers": [str(row.branch) for row in tables.branches],
        "pythons": [
            f"3.{minor}{free}" for minor, free in sorted(pythons, key=lambda one: (int(one[0]), one[1]))
        ],
        "backends": [row.backend for row in tables.backends if row.retired is None],
    }
    return json.dumps(found)
