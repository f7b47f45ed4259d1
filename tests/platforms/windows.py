"""Run a piece of code as on Windows: a child whose `sys.platform` is `win32`, with recorded Windows answers.

The child first loads what it needs of the standard library and third parties: that is this system's. Then it
calls itself Windows, takes `winreg` and the two libraries that the probe asks from the recording, and imports
torchinstall.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

_CHILD = """
import asyncio, ctypes, http.client, json, logging, multiprocessing, os, pathlib, platform, shutil, signal
import socket, ssl, subprocess, sys, sysconfig, tempfile, threading, types, uuid, zipfile
import click, filelock, httpx, msgspec, packaging.tags, psutil, tomlkit

answers = json.loads(sys.argv[1])


class Key:
    def __init__(self, path):
        self.path = path

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


def open_key(root, path):
    if path not in answers["registry"]:
        raise FileNotFoundError(2, path)
    return Key(path)


def query(key, name):
    values = answers["registry"][key.path]
    if name not in values:
        raise FileNotFoundError(2, name)
    return values[name], 1


class Call:
    def __init__(self, function):
        self.function, self.argtypes, self.restype = function, None, None

    def __call__(self, *words):
        return self.function(*words)


class Manager:
    def __init__(self):
        listed = "".join(device + "\\0" for device in answers["devices"]) + "\\0"

        def size(pointer, wanted_class, flags):
            pointer._obj.value = len(listed)
            return answers.get("manager_error", 0)

        def copy(wanted_class, buffer, room, flags):
            for at, letter in enumerate(listed):
                buffer[at] = letter
            return 0

        self.CM_Get_Device_ID_List_SizeW, self.CM_Get_Device_ID_ListW = Call(size), Call(copy)


class Kernel:
    def __init__(self):
        self.GetCurrentProcess = Call(lambda: 1)
        if answers["native"] is not None:

            def ask(process, emulated, native):
                native._obj.value = answers["native"]
                return 1

            self.IsWow64Process2 = Call(ask)


registry = types.ModuleType("winreg")
registry.HKEY_LOCAL_MACHINE, registry.OpenKey, registry.QueryValueEx = 0, open_key, query
sys.modules["winreg"] = registry
ctypes.WinDLL = lambda name: {"cfgmgr32": Manager, "kernel32": Kernel}[name]()
sys.platform = "win32"
sys.path.insert(0, os.getcwd())
"""

NOTHING: dict[str, Any] = {"registry": {}, "devices": [], "native": 0x8664}


def on_windows(code: str, answers: dict[str, Any] | None = None, *, env: dict[str, str] | None = None) -> Any:
    """What `code` leaves in `result`, read as JSON.

    Args:
        code: statements; they may import torchinstall.
        answers: `registry` (key -> name -> value), `devices` (instance ids), `native` (IMAGE_FILE_MACHINE_*,
            None before Windows 10 1709), and `manager_error`.
        env: the whole environment of the child beside this process's `PATH`.
    """
    script = f"{_CHILD}\n{code}\nprint(json.dumps(result))"
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps({**NOTHING, **(answers or {})})],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", **(env or {})},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])
