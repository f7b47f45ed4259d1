"""The golden machine file beside each machine folder: compare, or write with `--write` and read the diff."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from torchinstall.core.machine import machine_to_json
from torchinstall.probe.detect import probe_machine
from torchinstall.probe.recording import folder_system

HERE = Path(__file__).parent
MACHINES = tuple(sorted(path for path in HERE.iterdir() if (path / "_recorded.json").is_file()))
GOLDEN = "machine.json"


def seen(folder: Path) -> str:
    """What the probe makes of a folder, as text of a machine file."""
    machine = probe_machine(folder_system(folder))
    return json.dumps(machine_to_json(machine), indent=1, ensure_ascii=False) + "\n"


def main(argv: list[str]) -> int:
    """Name the machines whose golden file differs; with `--write`, replace it."""
    changed = 0
    for folder in MACHINES:
        golden, text = folder / GOLDEN, seen(folder)
        if golden.is_file() and golden.read_text(encoding="utf-8") == text:
            continue
        changed += 1
        sys.stdout.write(f"{folder.name}\n")
        if "--write" in argv:
            golden.write_text(text, encoding="utf-8")
    return 1 if changed and "--write" not in argv else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
