"""Find the uv that does the installing, and make sure that it runs and is new enough."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from torchinstall.core.errors import TargetError, ToolMissingError
from torchinstall.core.versions import at_least, dotted, dotted_or_none

if TYPE_CHECKING:
    import subprocess

__all__ = ["UV_FLOOR", "Uv", "find_python", "find_uv", "make_venv", "uv_beside_us"]


UV_FLOOR = "0.13"
"""The oldest uv with all that we use: JSON output of `uv pip install`, flat and explicit indexes.

`pyproject.toml` names the same floor; a test compares the two.
"""

_ANSWER_WITHIN = 10.0
_BESIDE = "beside torchinstall"
_WAYS_ON = ("uv pip install --upgrade 'uv>=" + UV_FLOOR + "'", "python -m pip install --upgrade uv")


class Uv(Struct, frozen=True, kw_only=True):
    """A uv that runs, or that lies where its package put it, unchanged.

    Attributes:
        source: how it was found: `TORCHINSTALL_UV`, `beside torchinstall`, `PATH`.
    """

    path: str
    version: str
    source: str


def uv_beside_us() -> str | None:
    """The uv that was installed together with us (the package `uv` carries the program)."""
    try:
        from uv import find_uv_bin
    except ImportError:
        return None
    try:
        return str(find_uv_bin())
    except FileNotFoundError:
        return None


def recorded_version(path: str) -> str | None:
    """The version of the uv that was installed together with us, as its package's metadata has it.

    None where `path` is not that package's program, or not as long as the package says: such a uv must show
    that it runs, which costs a process.
    """
    try:
        import uv
    except ImportError:
        return None
    site = Path(uv.__file__).parents[1]
    for folder in site.glob("uv-*.dist-info"):
        try:
            record = (folder / "RECORD").read_text(encoding="utf-8")
        except OSError:
            continue
        for line in record.splitlines():
            name, _, rest = line.partition(",")
            if name.endswith(("/uv", "/uv.exe")) and os.path.normpath(site / name) == path:
                size = rest.rpartition(",")[2]
                right = size == str(Path(path).stat().st_size) and os.access(path, os.X_OK)
                return folder.name[len("uv-") : -len(".dist-info")] if right else None
    return None


def find_uv(
    env: Mapping[str, str],
    *,
    beside: Callable[[], str | None] = uv_beside_us,
    timeout: float = _ANSWER_WITHIN,
) -> Uv:
    """Find uv: the one named by `TORCHINSTALL_UV`, else beside the running interpreter, else on PATH.

    One that is too old or broken is passed over where another may do, but never one that was named.

    Args:
        env: the environment (`PATH`, `TORCHINSTALL_UV`); the check runs with it too.
        beside: finds the uv that was installed with us.
        timeout: seconds that `uv --version` may take.

    Raises:
        ToolMissingError: `uv-not-found`, `uv-too-old` or `uv-broken`.
    """
    problems: list[ToolMissingError] = []
    for path, source in _candidates(env, beside):
        checked = _checked(path, source, env, timeout)
        if isinstance(checked, Uv):
            return checked
        problems.append(checked)
    if problems:
        raise problems[0]
    raise ToolMissingError(
        "uv-not-found",
        "uv was not found beside torchinstall or on PATH",
        wanted=f"uv {UV_FLOOR} or newer",
        hints=_WAYS_ON,
    )


def _candidates(env: Mapping[str, str], beside: Callable[[], str | None]) -> Iterator[tuple[str, str]]:
    named = env.get("TORCHINSTALL_UV")
    if named:
        path = _which(named, env)
        if path is None:
            raise ToolMissingError(
                "uv-not-found",
                "the uv that TORCHINSTALL_UV names is not there",
                wanted="an executable file",
                found=f"{named} (from TORCHINSTALL_UV)",
                hints=("unset TORCHINSTALL_UV, or set it to the path of a uv",),
            )
        yield path, "TORCHINSTALL_UV"
        return
    ours = beside()
    if ours is not None:
        yield ours, _BESIDE
    on_path = _which("uv", env)
    if on_path is not None and on_path != ours:
        yield on_path, "PATH"


def _which(name: str, env: Mapping[str, str]) -> str | None:
    import shutil  # it brings every compression module with it

    return shutil.which(name, path=env.get("PATH", ""))


def _checked(path: str, source: str, env: Mapping[str, str], timeout: float) -> Uv | ToolMissingError:
    """This uv, once it is known to run and to be new enough; else what is wrong with it."""
    said, problem = "", None
    version = recorded_version(path) if source == _BESIDE else None
    if version is None:
        said, problem = _first_answer(path, env, timeout)
        words = said.split()
        version = words[1] if len(words) > 1 and words[0] == "uv" else ""
    number = dotted_or_none(version)
    if problem is None and number is None:
        problem = f"`--version` said {said[:60]!r}"
    if problem is not None or number is None:
        return ToolMissingError(
            "uv-broken",
            f"uv at {path} does not run",
            wanted="an answer to `uv --version`",
            found=f"{problem} ({source})",
            hints=("uv pip install --reinstall uv", "set TORCHINSTALL_UV to the path of a uv that runs"),
        )
    if not at_least(number, dotted(UV_FLOOR)):
        return ToolMissingError(
            "uv-too-old",
            f"uv {version} is too old",
            wanted=f"uv {UV_FLOOR} or newer",
            found=f"uv {version} at {path} ({source})",
            hints=_WAYS_ON,
        )
    return Uv(path=path, version=version, source=source)


def _first_answer(path: str, env: Mapping[str, str], timeout: float) -> tuple[str, str | None]:
    """What `uv --version` printed, and what went wrong."""
    import subprocess

    try:
        done = subprocess.run(
            [path, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
            env=dict(env),
            check=False,
            encoding="utf-8",
            errors="replace",
        )
    except subprocess.TimeoutExpired:
        return "", f"no answer to `--version` within {timeout:g} s"
    except OSError as error:
        return "", str(error)
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        return "", f"exit status {done.returncode}" + (f": {said[-1]}" if said else "")
    return done.stdout.strip(), None


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
