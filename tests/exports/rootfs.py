"""A bare Linux root made of files of this machine, and commands run in it: what stands in for `python:slim`.

Not a real image, and not debootstrap either, which takes a minute and the network: this root has a shell, the
few commands named below, their libraries, and the interpreter that runs the tests with its standard library
and pip. What it shows is that the steps of a Dockerfile need nothing else: no compiler, no git, no curl, no
CUDA. What it does not show is that the image's name exists, or what BuildKit's own options do.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.support.installing import uv_path

PREFIX = Path(sys.base_prefix)
SEARCH_PATH = f"/usr/local/bin:{PREFIX}/bin:/usr/sbin:/usr/bin:/sbin:/bin"
COMMANDS = ("sh", "env", "mkdir", "cat", "cp", "rm", "ls", "chmod", "chown", "id", "dirname", "useradd")
LEFT_OUT = (
    "test",
    "tests",
    "idlelib",
    "tkinter",
    "turtledemo",
    "lib2to3",
    "__pycache__",
    "site-packages",
    "dist-packages",
)
_LIBRARY = re.compile(r"(?:=>\s*|^\s*)(/\S+) \(0x")

_ENTER = (
    'mount --rbind /dev "$1/dev" && mount --rbind /proc "$1/proc" && '
    'exec chroot --userspec="$2" "$1" /usr/bin/env -i "${@:4}" /bin/sh -c "$3"'
)


def make_root(root: Path) -> Path:
    """Fill an empty folder."""
    for name in (
        "usr/bin",
        "usr/sbin",
        "usr/lib",
        "usr/lib64",
        "dev",
        "proc",
        "etc",
        "root",
        "home",
        "tmp",
        "usr/local/bin",
    ):
        (root / name).mkdir(parents=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    (root / "tmp").chmod(0o1777)
    python = Path(sys._base_executable or sys.executable).resolve()  # type: ignore[attr-defined]  # of every CPython
    programs = [
        path for name in COMMANDS if (path := shutil.which(name, path="/usr/bin:/bin:/usr/sbin:/sbin"))
    ]
    assert len(programs) == len(COMMANDS), programs
    standard = Path(sysconfig.get_path("stdlib", vars={"base": str(PREFIX), "installed_base": str(PREFIX)}))
    shutil.copytree(
        standard,
        root / standard.relative_to("/"),
        symlinks=True,
        ignore=shutil.ignore_patterns(*LEFT_OUT, "config-*"),
    )
    modules = [str(path) for path in (standard / "lib-dynload").glob("*.so")]
    # uv needs libgcc_s, which Debian's libc6 depends on, so that every image of Debian has it.
    for path in {*programs, str(python), *_libraries([*programs, str(python), *modules, uv_path()])}:
        _copy(Path(path), root)
    for name in ("python", "python3", f"python3.{sys.version_info[1]}"):
        (root / "usr/local/bin" / name).symlink_to(python)
    etc = {
        "passwd": "root:x:0:0:root:/root:/bin/sh\n",
        "group": "root:x:0:\n",
        "shadow": "root:*:20000:0:99999:7:::\n",
        "gshadow": "root:*::\n",
        "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
        "hosts": "127.0.0.1 localhost\n",
        "login.defs": "UID_MIN 1000\nGID_MIN 1000\nUSERGROUPS_ENAB yes\nCREATE_HOME yes\n",
        "os-release": 'ID=debian\nVERSION_ID="12"\n',
    }
    for name, text in etc.items():
        (root / "etc" / name).write_text(text, encoding="utf-8")
    run_in(root, "python -m ensurepip --default-pip >/dev/null")
    pip = root / "usr/local/bin/pip"
    pip.unlink(missing_ok=True)
    pip.write_text('#!/bin/sh\nexec python -m pip "$@"\n', encoding="utf-8")
    pip.chmod(0o755)
    return root


def _libraries(files: Iterable[str]) -> set[str]:
    said = subprocess.run(["ldd", *files], capture_output=True, text=True, check=False).stdout
    return {match[1] for line in said.splitlines() if (match := _LIBRARY.search(line))}


def _copy(source: Path, root: Path) -> None:
    """Copy a file to the same place below the root; `/lib` there is a link to `/usr/lib`, as on Debian."""
    first = source.parts[1]
    inside = (
        Path("usr", *source.parts[1:])
        if first in ("bin", "sbin", "lib", "lib64")
        else source.relative_to("/")
    )
    target = root / inside
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source.resolve(), target)


def run_in(
    root: Path,
    command: str,
    env: Mapping[str, str] | None = None,
    *,
    user: str = "0:0",
    cwd: str = "/",
    check: bool = True,
) -> subprocess.CompletedProcess[str]:
    """Run a shell command in the root, in a mount namespace of its own; the network is this machine's."""
    given = {"PATH": SEARCH_PATH, "HOME": "/root", **(env or {})}
    pairs = [f"{name}={value}" for name, value in given.items()]
    done = subprocess.run(
        [
            "unshare",
            "--mount",
            "bash",
            "-c",
            _ENTER,
            "enter",
            str(root),
            user,
            f"cd '{cwd}' && {command}",
            *pairs,
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    assert not check or done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done


def seed_uv(folder: Path, program: str, version: str) -> Path:
    """A wheel of the uv that the tests use, so that `pip install uv==…` needs no network."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"uv-{version}"
    tag = f"py3-none-linux_{os.uname().machine}"
    path = folder / f"{stem}-{tag}.whl"
    members: dict[str, bytes] = {
        f"{stem}.data/scripts/uv": Path(program).read_bytes(),
        f"{stem}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: uv\nVersion: {version}\n".encode(),
        f"{stem}.dist-info/WHEEL": (
            f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: false\nTag: {tag}\n"
        ).encode(),
    }
    record = "".join(f"{name},,\n" for name in (*members, f"{stem}.dist-info/RECORD"))
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (0o100755 if "/scripts/" in name else 0o100644) << 16
            archive.writestr(entry, content)
        archive.writestr(f"{stem}.dist-info/RECORD", record)
    return path
