"""Where to install: the place that was named, the active environment, `.venv` here or above, our own.

Nothing is changed while looking; `make` creates what `--venv` asked for, and `require_changeable` refuses a
place that must not or cannot be changed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct, structs

from torchinstall.core.errors import TargetError
from torchinstall.core.target import Target
from torchinstall.install.interpreter import Answer, ask
from torchinstall.install.uv import run_uv

if TYPE_CHECKING:
    from torchinstall.install.stream import Completed

__all__ = ["Place", "Running", "locate", "make", "require_changeable"]

_TIMEOUT = 120.0
"""Seconds that uv may take to find a Python or to create an environment."""


class Running(Struct, frozen=True, kw_only=True):
    """The interpreter that runs torchinstall."""

    executable: str
    prefix: str
    base_prefix: str

    @classmethod
    def here(cls) -> Running:
        """This process."""
        return cls(executable=sys.executable, prefix=sys.prefix, base_prefix=sys.base_prefix)

    @property
    def private(self) -> bool:
        """Whether the environment belongs to a tool runner (uvx, `uv tool`, pipx) and not to the user.

        `uv tool` leaves `uv-receipt.toml` in it and pipx `pipx_metadata.json`; uvx and `uv run --with` keep
        theirs in uv's cache, in folders named `archive-v0`, `environments-v2`, `builds-v0`.
        """
        prefix = Path(self.prefix)
        if (prefix / "uv-receipt.toml").is_file() or (prefix / "pipx_metadata.json").is_file():
            return True
        return any(
            folder.name.rpartition("-v")[0] in ("archive", "environments", "builds")
            and (folder.parent / "CACHEDIR.TAG").is_file()
            for folder in prefix.parents
        )


class Place(Struct, frozen=True, kw_only=True):
    """A place to install into.

    Attributes:
        target: as the planner sees it; for an environment that is still to be made, of the interpreter that
            it will be made with, nothing installed.
        base: interpreter that the environment must be made with first; None: it is there.
        answer: all that the interpreter said.
    """

    target: Target
    base: str | None
    answer: Answer


def locate(
    env: Mapping[str, str],
    *,
    uv: str,
    family: Collection[str],
    python: str | None = None,
    venv: str | None = None,
    system: bool = False,
    cwd: Path | None = None,
    running: Running | None = None,
) -> Place:
    """Find the place to install into and ask its interpreter; the first of these that applies wins.

    `venv`, `python` or `system` as asked; the active environment (`VIRTUAL_ENV`, `CONDA_PREFIX`); `.venv` in
    the current folder or above; the environment that runs torchinstall, unless it is a tool's private one.
    Conda's `base` yields to a `.venv`, as with uv.

    Args:
        env: the environment of the process.
        uv: path of uv, which resolves versions (`3.12`) and finds system interpreters.
        family: names of the packages that move with torch.
        python: path of an interpreter or environment, or a version; with `venv`, what to make it with.
        venv: folder of the environment, made by `make` where it is missing.
        system: the first interpreter outside environments.
        cwd: current folder.
        running: the interpreter that runs torchinstall.

    Raises:
        TargetError: `no-environment`, `not-an-environment`, `environment-broken`, `python-mismatch`,
            `python-not-found`, `python-broken`, `unsupported-python`, `unsupported-platform`.
    """
    here = (cwd or Path.cwd()).absolute()
    if venv is not None:
        return _in_venv(here / Path(venv).expanduser(), venv, python, env, uv, family, here)
    if system or python is not None:
        request = python if python is not None else ""
        found = _find_python(request, env=env, uv=uv, cwd=here, system=system)
        why = " ".join((*(("--system",) if system else ()), *((f"--python {python}",) if python else ())))
        return _there(ask(found, env=env, family=family, why=why))
    path, why = _environment(env, here, running or Running.here())
    return _there(ask(_interpreter(path, why), env=env, family=family, why=why))


def _there(answer: Answer) -> Place:
    return Place(target=answer.target, base=None, answer=answer)


def _in_venv(
    path: Path,
    shown: str,
    python: str | None,
    env: Mapping[str, str],
    uv: str,
    family: Collection[str],
    cwd: Path,
) -> Place:
    why = f"--venv {shown}"
    if (path / "pyvenv.cfg").is_file():
        answer = ask(_interpreter(path, why), env=env, family=family, why=why)
        version = answer.target.python_version
        if python is not None:
            wanted = ask(_find_python(python, env=env, uv=uv, cwd=cwd, system=True), env=env, family=family)
            if wanted.target.python_version.split(".")[:2] != version.split(".")[:2]:
                raise TargetError(
                    "python-mismatch",
                    f"the environment {shown} has another Python",
                    wanted=f"Python {wanted.target.python_version} (from --python {python})",
                    found=f"Python {version}",
                    hints=(f"uv venv --clear --python {python} {shown}", "leave --python out"),
                )
        return _there(answer)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise TargetError(
            "not-an-environment",
            f"{shown} is not a virtual environment",
            wanted="a virtual environment, an empty folder, or nothing yet",
            found="a folder without pyvenv.cfg" if path.is_dir() else "a file",
            hints=("--venv .venv", f"move {shown} away and try again"),
        )
    base = _find_python(python or "", env=env, uv=uv, cwd=cwd, system=True)
    answer = ask(base, env=env, family=family)
    target = structs.replace(
        answer.target,
        python=str(_interpreter_path(path)),
        prefix=str(path),
        why=f"{why}, to be made with {base}",
        installed=(),
    )
    answer = structs.replace(answer, target=target, virtual=True, writable=True, externally_managed=None)
    return Place(target=target, base=base, answer=structs.replace(answer, distributions=(), site_packages=()))


def _environment(env: Mapping[str, str], cwd: Path, running: Running) -> tuple[Path, str]:
    """Folder of the environment and why it was chosen."""
    active = env.get("VIRTUAL_ENV")
    if active and not (Path(active) == Path(running.prefix) and running.private):
        return Path(active), "the active environment (VIRTUAL_ENV)"
    conda = env.get("CONDA_PREFIX")
    is_base = env.get("CONDA_DEFAULT_ENV") in ("base", "root")
    if conda and not is_base:
        return Path(conda), "the active environment (CONDA_PREFIX)"
    for folder in (cwd, *cwd.parents):
        if (folder / "pyvenv.cfg").is_file():
            return folder, "the environment that the current folder lies in"
        if (folder / ".venv").is_dir():
            return folder / ".venv", f".venv in {folder}"
    if conda:
        return Path(conda), "the active environment (CONDA_PREFIX)"
    if running.prefix != running.base_prefix and not running.private:
        return Path(running.prefix), "the environment that torchinstall is installed in"
    raise TargetError(
        "no-environment",
        "there is no environment to install into",
        wanted="an active environment, or .venv here or above",
        found=f"neither, seen from {cwd}",
        hints=(
            "torchinstall auto --venv .venv",
            "torchinstall auto --python PATH|3.12",
            "torchinstall auto --system",
        ),
    )


def _interpreter_path(environment: Path) -> Path:
    if os.name == "nt":
        scripts = environment / "Scripts" / "python.exe"
        # Conda keeps its interpreter at the top of the environment on Windows.
        return environment / "python.exe" if (environment / "conda-meta").is_dir() else scripts
    return environment / "bin" / "python"


def _interpreter(environment: Path, why: str) -> str:
    path = _interpreter_path(environment)
    if path.exists():
        return str(path)
    raise TargetError(
        "environment-broken",
        f"the environment {environment} has no Python that runs",
        wanted=f"an interpreter at {path}",
        found=("a link to nothing" if path.is_symlink() else "no such file") + f" ({why})",
        hints=(f"uv venv --clear {environment}", "torchinstall auto --python PATH|3.12"),
    )


def make(place: Place, *, uv: str, env: Mapping[str, str], family: Collection[str]) -> Place:
    """Make the environment of `place` where it is still missing, and ask it again.

    Raises:
        TargetError: `environment-not-made` with uv's words, or what `ask` raises.
    """
    if place.base is None:
        return place
    python, prefix = place.target.python, place.target.prefix
    if python is None or prefix is None:
        raise TypeError("a foreign target has no environment to make")
    _make_venv(prefix, base=place.base, uv=uv, env=env)
    why = place.target.why.partition(", to be made")[0]
    return _there(ask(python, env=env, family=family, why=f"{why}, made with {place.base}"))


def require_changeable(place: Place, env: Mapping[str, str], uv_args: tuple[str, ...] = ()) -> None:
    """Refuse a place that must not or cannot be changed.

    `UV_BREAK_SYSTEM_PACKAGES` and `-- --break-system-packages` lift the first refusal, as in uv.

    Raises:
        TargetError: `externally-managed` (PEP 668) or `read-only-environment`.
    """
    answer = place.answer
    forced = env.get("UV_BREAK_SYSTEM_PACKAGES", "").lower() in ("1", "true", "yes", "on", "t", "y")
    if answer.externally_managed and not forced and "--break-system-packages" not in uv_args:
        raise TargetError(
            "externally-managed",
            "this Python belongs to the operating system, whose package manager owns its packages",
            wanted="an environment of your own",
            found=f"{answer.externally_managed} ({place.target.why})",
            hints=("torchinstall auto --venv .venv", "torchinstall auto -- --break-system-packages"),
        )
    if not answer.writable:
        raise TargetError(
            "read-only-environment",
            "the environment cannot be written to",
            wanted="write access to " + ", ".join(answer.site_packages),
            found=f"no write access for this user ({place.target.why})",
            hints=("torchinstall auto --venv .venv", "change the owner of the environment to yourself"),
        )


def _find_python(request: str, *, env: Mapping[str, str], uv: str, cwd: Path, system: bool) -> str:
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
    done = _ask_uv([*argv, "--", request] if request else argv, env, cwd)
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


def _make_venv(path: str, *, base: str, uv: str, env: Mapping[str, str]) -> None:
    """Make a virtual environment with `uv venv`.

    Raises:
        TargetError: `environment-not-made`, with uv's words.
    """
    done = _ask_uv([uv, "venv", "--no-project", "--python", base, "--", path], env, Path.cwd())
    if done.returncode != 0:
        raise TargetError(
            "environment-not-made",
            f"uv could not make the environment {path}",
            wanted=f"uv venv --python {base} {path}",
            found=_last_words(done),
            hints=("name another folder: --venv DIR", "name another interpreter: --python PATH|3.12"),
        )


def _ask_uv(argv: list[str], env: Mapping[str, str], cwd: Path) -> Completed:
    # A Python that nobody asked to download is not "this machine's Python".
    changes = (("UV_PYTHON_DOWNLOADS", "never"), ("NO_COLOR", "1"))
    return run_uv(argv, env=env, changes=changes, cwd=cwd, timeout=_TIMEOUT)


def _last_words(done: Completed) -> str:
    return " ".join(done.stderr.split()).removeprefix("error: ")[:300] or done.ending
