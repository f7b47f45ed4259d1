"""Ask an interpreter what it is and what is installed in it, with one isolated script.

Nothing is imported there but the standard library, nothing is written, and torch is read as text only.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from torchinstall.core.errors import TargetError
from torchinstall.core.machine import Libc, Os
from torchinstall.core.target import Installed, Target
from torchinstall.core.versions import dotted

if TYPE_CHECKING:
    import subprocess

__all__ = ["Answer", "ask", "backend_of"]

_ANSWER_WITHIN = 20.0
_MARKER = "@torchinstall@"
_OLDEST_PYTHON = "3.7"
"""Our scripts need it, and no torch that we know was published for an older one."""

_ARCHES = {"amd64": "x86_64", "arm64": "aarch64", "x64": "x86_64"}
_OSES: dict[str, Os] = {"linux": "linux", "win32": "windows", "darwin": "macos"}


class Answer(Struct, frozen=True, kw_only=True):
    """What an interpreter said.

    Attributes:
        target: the interpreter as the planner sees it.
        virtual: whether it belongs to a virtual environment.
        site_packages: where it imports installed packages from.
        writable: whether this user may change these folders.
        externally_managed: path of the marker of PEP 668, where it forbids changes.
        distributions: every installed distribution, as (normalised name, version).
    """

    target: Target
    virtual: bool
    site_packages: tuple[str, ...]
    writable: bool
    externally_managed: str | None
    distributions: tuple[tuple[str, str], ...]


def ask(
    python: str,
    *,
    env: Mapping[str, str],
    family: Collection[str],
    why: str = "",
    timeout: float = _ANSWER_WITHIN,
    running: str = sys.executable,
) -> Answer:
    """Run the script in `python` and read its answer; the interpreter that runs us needs no child for it.

    Args:
        python: path of an interpreter.
        env: its environment.
        family: normalised names of the packages that move with torch; they become `Target.installed`.
        why: how this interpreter was chosen, for `Target.why`.
        timeout: seconds it may take.
        running: path of the interpreter that runs us; empty: always start a child.

    Raises:
        TargetError: `python-not-found`, `python-broken`, or `unsupported-python` where it is too old.
    """
    if _is_running(python, running):
        from torchinstall.install.interpreter_script import answer

        return _answer(answer(sorted(family)), python, why, frozenset(family))
    script = (Path(__file__).parent / "interpreter_script.py").read_text(encoding="utf-8")
    said = _run([python, "-I", "-c", script, ",".join(sorted(family))], python, env, timeout)
    _, marker, text = said.stdout.rpartition(_MARKER)
    if said.returncode == 0 and marker:
        import ast

        return _answer(ast.literal_eval(text.strip()), python, why, frozenset(family))
    version = _run([python, "-c", "import sys; sys.stdout.write(sys.version)"], python, env, timeout)
    if version.returncode == 0 and re.match(r"\d+\.\d+", version.stdout):
        _refuse_old(version.stdout.split()[0], python)
    last = said.stderr.strip().splitlines()
    raise _broken(python, f"exit status {said.returncode}" + (f": {last[-1]}" if last else ""))


def _is_running(python: str, running: str) -> bool:
    """Whether it is the interpreter that runs us, under this name or another in the same folder.

    Not where the process was started in a way that a child would not be, and not on macOS, whose version
    depends on a variable that only a child can be given.
    """
    if not running or sys.platform == "darwin" or os.environ.get("PYTHONHOME"):
        return False
    path, ours = Path(python), Path(running)
    try:
        return path.parent == ours.parent and path.samefile(ours)
    except OSError:
        return False


def _run(
    argv: list[str], python: str, env: Mapping[str, str], timeout: float
) -> subprocess.CompletedProcess[str]:
    import subprocess

    try:
        return subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
            # Without this, macOS tells an interpreter built with an old SDK that it is 10.16.
            env={**env, "SYSTEM_VERSION_COMPAT": "0", "PYTHONIOENCODING": "utf-8"},
            check=False,
            encoding="utf-8",
            errors="replace",
        )
    except subprocess.TimeoutExpired:
        raise _broken(python, f"no answer within {timeout:g} s") from None
    except FileNotFoundError:
        raise TargetError(
            "python-not-found",
            f"there is no Python interpreter at {python}",
            wanted="the path of an interpreter, or a version such as 3.12",
            found="no such file",
            hints=("uv python list shows the interpreters of this machine",),
        ) from None
    except OSError as error:
        raise _broken(python, str(error)) from error


def _broken(python: str, found: str) -> TargetError:
    return TargetError(
        "python-broken",
        f"the Python interpreter at {python} does not run",
        wanted="an interpreter that runs a script",
        found=found,
        hints=(
            "make the environment anew: uv venv --clear",
            "name another interpreter: --python PATH|3.12",
        ),
    )


def _refuse_old(version: str, python: str) -> None:
    if dotted(version) < dotted(_OLDEST_PYTHON):
        raise TargetError(
            "unsupported-python",
            f"Python {version} is too old to be installed into",
            wanted=f"Python {_OLDEST_PYTHON} or newer",
            found=f"Python {version} at {python}",
            hints=("torchinstall auto --venv .venv --python 3.12",),
        )


def _answer(data: dict[str, Any], python: str, why: str, family: frozenset[str]) -> Answer:
    from torchinstall.core.tags import platform_tags

    _refuse_old(data["version"], python)
    os_name = _OSES.get("linux" if data["sys_platform"].startswith("linux") else data["sys_platform"])
    if os_name is None:
        raise TargetError(
            "unsupported-platform",
            f"PyTorch publishes nothing for {data['sys_platform']}",
            wanted="linux, windows or macos",
            found=f"{data['sys_platform']} (from {python})",
            hints=("build PyTorch from source",),
        )
    arch = _arch(data)
    libc = Libc(family=data["libc"][0], version=data["libc"][1]) if data["libc"] else None
    rows = [(name, version, text) for name, version, text in data["distributions"]]
    target = Target(
        python_version=data["version"],
        abi=data["abi"],
        os=os_name,
        arch=arch,
        implementation=data["implementation"],
        os_version=data["macos"],
        libc=libc,
        platform_tags=platform_tags(os_name, arch, libc, data["macos"]),
        python=python,
        prefix=data["prefix"],
        why=why,
        installed=tuple(
            Installed(name=name, version=version, backend=backend_of(version, text))
            for name, version, text in rows
            if name in family
        ),
    )
    return Answer(
        target=target,
        virtual=data["virtual"],
        site_packages=tuple(data["site_packages"]),
        writable=data["writable"],
        externally_managed=data["externally_managed"],
        distributions=tuple((name, version) for name, version, _ in rows),
    )


def _arch(data: dict[str, Any]) -> str:
    """Of the interpreter, which may differ from the machine's (x86-64 Python on Windows for ARM)."""
    name: str = data["platform"].rpartition("-")[2].lower()
    if name in ("universal2", "universal", "fat", "intel"):
        name = data["machine"].lower()
    if name == "win32" or (data["bits"] == 32 and name in ("x86_64", "amd64")):
        return "x86"
    return _ARCHES.get(name, name)


_LOCAL = re.compile(r"(cpu|xpu|cu\d{2,4}|rocm\d+(?:\.\d+)*)(?:\.[a-z].*)?")
_ASSIGNED = re.compile(r"^(__version__|cuda|hip|xpu)\b[^=\n]*=\s*['\"]([^'\"]*)['\"]", re.MULTILINE)
_UNSET = re.compile(r"^cuda\b[^=\n]*=\s*None", re.MULTILINE)


def backend_of(version: str, text: str | None) -> str | None:
    """The backend that a package was built for.

    Args:
        version: of its metadata; a local segment such as `+cu128` says it.
        text: of the package's `version.py`, which says it where the metadata does not (torch from PyPI).
    """
    said: dict[str, str] = dict(_ASSIGNED.findall(text or ""))
    for local in (version.partition("+")[2], said.get("__version__", "").partition("+")[2]):
        if match := _LOCAL.fullmatch(local):
            return match.group(1)
    if said.get("cuda"):
        return "cu" + said["cuda"].replace(".", "")
    if said.get("hip"):
        return "rocm" + ".".join(said["hip"].split(".")[:2])
    if said.get("xpu"):
        return "xpu"
    return "cpu" if _UNSET.search(text or "") else None
