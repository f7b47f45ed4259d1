"""Types are learnt by one thread at a time."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import torchinstall

_RACE = """
import sys, threading
from typing import Literal
import msgspec
from torchinstall.core.decoding import convert, decoder

sys.setswitchinterval(1e-6)
for turn in range(200):
    word = Literal[tuple(f"{turn}-{number}" for number in range(4))]
    row = msgspec.defstruct("Row", [("word", word), ("text", str), ("more", str | None, None)], frozen=True)
    plain = {"p": {"k": {"word": f"{turn}-1", "text": "x"}}}
    data, found, start = msgspec.json.encode(plain), [], threading.Barrier(4)

    def read(number):
        start.wait()
        kind = dict[str, dict[str, row]]
        value = decoder(kind).decode(data) if number % 2 else convert(plain, kind)
        found.append(value["p"]["k"].word)

    threads = [threading.Thread(target=read, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [f"{turn}-1"] * 4, found
"""


def test_threads_that_meet_a_type_at_once_all_read_it() -> None:
    """With `msgspec.json.decode` in place of `decoder` this ends by a segmentation fault (msgspec 0.22)."""
    done = subprocess.run(
        [sys.executable, "-c", _RACE], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_nobody_decodes_into_a_type_elsewhere() -> None:
    found = [
        path.name
        for path in sorted(Path(torchinstall.__file__).parent.rglob("*.py"))
        if re.search(r"msgspec\.convert\(|json\.decode\([^)]*type=", path.read_text(encoding="utf-8"))
    ]
    # The journal holds paths, which need a hook; it asks for the decoder first.
    assert found == ["decoding.py", "journal.py"]
