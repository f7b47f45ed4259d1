"""Record what the probe reads on this machine as a folder, so that a bug report arrives as a fixture.

    python scripts/capture_machine.py FOLDER

`torchinstall probe --root FOLDER` then sees what was seen here. UUIDs, serial numbers, container ids, homes
and the names of machine and user are replaced, of the environment only the names of variables are kept; look
through the folder before you publish it all the same.
"""

from __future__ import annotations

import argparse
import getpass
import json
import os
import socket
import sys
from pathlib import Path

from torchinstall.core.machine import machine_to_json
from torchinstall.probe import probe_machine, real_system
from torchinstall.probe.record import RecordingSystem


def _own_names() -> tuple[str, ...]:
    """What this machine and its user are called."""
    host = socket.gethostname()
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a user without a name, as in many containers
        user = ""
    names = (host, host.partition(".")[0], user, os.environ.get("COMPUTERNAME", ""))
    return tuple(name for name in dict.fromkeys(names) if name and name != "root")


def main() -> int:
    """Capture, and say where and what was seen."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="written to; must not exist or be empty")
    parser.add_argument("--source", default="recorded", help="a remark on where this comes from")
    options = parser.parse_args()
    folder: Path = options.folder
    if folder.exists() and any(folder.iterdir()):
        parser.error(f"{folder} is not empty")
    system = RecordingSystem(real_system(os.environ))
    machine = probe_machine(system)
    system.save(folder, options.source, _own_names())
    text = json.dumps(machine_to_json(machine.anonymous()), indent=2)
    (folder / "machine.json").write_text(text + "\n", encoding="utf-8")
    print(f"{folder}: {len(machine.gpus)} GPUs, {len(machine.findings)} findings", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
