"""Interpreters through uv: find one by path or version, make an environment with one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from torchinstall.errors import TargetError

if TYPE_CHECKING:
    import subprocess

__all__ = ["find_python", "make_venv"]

_FOUND_WITHIN = 60.0
_MADE_WITHIN = 120.0


def find_python(request: str, *, env: Mapping[str, str], uv: str, cwd: Path, system: bool) -> str:
    """Path of the interpreter that `request` means; nothing is downloaded.

    Args:
        request: path of an interpreter or of an environment, a name on PATH, or a version such as `3.12`
            or `cpython-3.13t`; empty: uv's first choice.
        env: environment of uv.
        uv: path of uv.
        cwd: folder that uv looks from.
        system: leave out interpreters of environments.

    Raises:
        TargetError: `python-not-found`, with uv's words.
    """
    direct = cwd / Path(request).expanduser()
    if request and (os.sep in request or "/" in request) and direct.is_file():
        return str(direct)
    argv = [uv, "python", "find", "--no-project", *(("--system",) if system else ())]
    done = _uv([*argv, "--", request] if request else argv, env, cwd, _FOUND_WITHIN)
    found = done.stdout.strip()
    if done.returncode == 0 and found:
        return found
    raise TargetError(
        "python-not-found",
        f"no Python interpreter fits {request!r}" if request else "no Python interpreter was found",
        wanted=request or "any interpreter that uv can use",
        found=_last_words(done),
        hints=("uv python list shows the interpreters of this machine", _install_hint(request)),
    )


def _install_hint(request: str) -> str:
    return f"uv python install {request}" if request[:1].isdigit() else "uv python install 3.12"


def make_venv(path: str, *, base: str, uv: str, env: Mapping[str, str]) -> None:
    """Make a virtual environment with `uv venv`.

    Raises:
        TargetError: `environment-not-made`, with uv's words.
    """
    done = _uv([uv, "venv", "--no-project", "--python", base, "--", path], env, Path.cwd(), _MADE_WITHIN)
    if done.returncode != 0:
        raise TargetError(
            "environment-not-made",
            f"uv could not make the environment {path}",
            wanted=f"uv venv --python {base} {path}",
            found=_last_words(done),
            hints=("name another folder: --venv DIR", "name another interpreter: --python PATH|3.12"),
        )


def _uv(
    argv: list[str], env: Mapping[str, str], cwd: Path, timeout: float
) -> subprocess.CompletedProcess[str]:
    import subprocess

    try:
        return subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
            cwd=cwd,
            # A Python that nobody asked to download is not "this machine's Python".
            env={**env, "UV_PYTHON_DOWNLOADS": "never", "NO_COLOR": "1"},
            check=False,
            encoding="utf-8",
            errors="replace",
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(argv, 1, "", f"no answer within {timeout:g} s")
    except OSError as error:
        return subprocess.CompletedProcess(argv, 1, "", str(error))


def _last_words(done: subprocess.CompletedProcess[str]) -> str:
    words = " ".join(done.stderr.split())
    return words.removeprefix("error: ")[:300] or f"exit status {done.returncode}"
