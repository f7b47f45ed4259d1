"""Whatever a file, a command or a library says, the probe answers with a machine file that can be read."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.machines.golden import GOLDEN, MACHINES
from torchinstall.core.machine import decode_machine, machine_to_json
from torchinstall.probe.detect import probe_machine
from torchinstall.probe.recording import RECORD, folder_system

ARCHES = ("x86_64", "aarch64")
RICH = [folder for folder in MACHINES if sum(path.is_file() for path in folder.rglob("*")) > 4]

json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)

texts = st.one_of(
    st.binary(max_size=200),
    st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.integers(min_value=0, max_value=1 << 70).map(lambda number: f"{number}\n".encode()),
    st.sampled_from(
        (b"gfx_target_version 99999999999999999999\nsimd_count 1\n", b"9" * 5000, b"0x\n", b"\0" * 64)
    ),
)


def check(folder: Path) -> None:
    machine = probe_machine(folder_system(folder))
    assert not [finding for finding in machine.findings if finding.slug == "probe-crashed"], machine.findings
    if machine.arch in ARCHES:
        text = json.dumps(machine_to_json(machine))
        assert decode_machine(text, "the machine file") == machine


slow = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@slow
@given(data=st.data(), folder=st.sampled_from(RICH))
def test_random_files(data: st.DataObject, folder: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "machine"
        shutil.copytree(folder, copy)
        (copy / GOLDEN).unlink()
        paths = sorted(path for path in copy.rglob("*") if path.is_file())
        for path in data.draw(st.lists(st.sampled_from(paths), min_size=1, max_size=5, unique=True)):
            path.write_bytes(data.draw(texts))
        check(copy)


@slow
@given(data=st.data(), folder=st.sampled_from(MACHINES))
def test_random_records(data: st.DataObject, folder: Path) -> None:
    """Answers, command outputs and tables of the record, one or more of them replaced or damaged."""
    record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    for key in data.draw(st.lists(st.sampled_from(sorted(record)), min_size=1, max_size=4, unique=True)):
        if key not in ("schema_version", "machine"):
            record[key] = data.draw(json_values)
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "machine"
        shutil.copytree(folder, copy)
        (copy / RECORD).write_text(json.dumps(record), encoding="utf-8")
        check(copy)


ROWS = ("library", "init", "driver", "cuda", "count", "gpu", "libcuda", "cuda-gpu", "end")
KEYS = [
    "path",
    "problem",
    "code",
    "text",
    "version",
    "value",
    "index",
    "name",
    "capability",
    "memory",
    "uuid",
    "bus",
    "device",
    "mig",
    "codes",
    "integrated",
]

rows = st.lists(
    st.dictionaries(st.sampled_from(KEYS), json_values, max_size=6).flatmap(
        lambda row: st.sampled_from(ROWS).map(lambda what: {"what": what, **row})
    ),
    max_size=8,
)


@slow
@given(rows=rows, problem=st.none() | st.text(max_size=20) | st.sampled_from(("timeout", "crash: SIGSEGV")))
def test_random_answers_of_the_library(rows: list[dict[str, Any]], problem: str | None) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        record = {
            "machine": "x86_64",
            "env": {"TORCHINSTALL_NVML_LIBRARY": "/somewhere"},
            "answers": {"nvidia": {"rows": rows, "problem": problem}},
        }
        (folder / RECORD).write_text(json.dumps(record), encoding="utf-8")
        check(folder)


@slow
@given(
    output=st.text(max_size=300)
    | st.lists(st.text(alphabet="0123456789abc, .[]GPU-\r\n\0", max_size=80)).map("\n".join)
)
def test_random_output_of_commands(output: str) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        row = {"returncode": 0, "stdout": output, "stderr": output}
        for platform in ("linux", "darwin", "win32"):
            record = {
                "machine": "x86_64",
                "platform": platform,
                "libraries": {"libnvidia-ml.so.1": "/x", "librocdxg.so": "/y"},
                "commands": dict.fromkeys(
                    ("nvidia-smi", "rocminfo", "sw_vers", "sysctl", "/lib/ld-musl-x"), row
                ),
                "adapters": [{"device_id": output, "name": output, "driver_version": output}],
            }
            (folder / RECORD).write_text(json.dumps(record), encoding="utf-8")
            for path in ("dev/dxg", "lib/ld-musl-x"):
                (folder / path).parent.mkdir(exist_ok=True)
                (folder / path).touch()
            check(folder)
