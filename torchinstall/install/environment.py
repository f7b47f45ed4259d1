"""Which environment to install into: the one that was named, the active one, `.venv` here or above, our own.

Nothing is changed while looking; `create` makes what `--venv` asked for, `require_changeable` refuses an
environment that must not be changed, and `require_writable` one that cannot be.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Mapping
from pathlib import Path

from msgspec import Struct, structs

from torchinstall.core.errors import TargetError
from torchinstall.core.files import names_in, user_path
from torchinstall.core.messages import is_on
from torchinstall.install.interpreter import PythonEnvironment, inspect_python
from torchinstall.install.uv import run_uv

STATE = ".torchinstall"
"""The folder in an environment that holds what is needed while it changes; it is gone afterwards."""

_TIMEOUT = 120.0
"""Seconds that uv may take to find a Python or to create an environment."""


class Running(Struct, frozen=True, kw_only=True):
    """The interpreter that runs torchinstall."""

    prefix: str = sys.prefix
    base_prefix: str = sys.base_prefix

    @property
    def private(self) -> bool:
        """Whether the environment belongs to a tool runner (uvx, `uv tool`, pipx) and not to the user.

        `uv tool` leaves `uv-receipt.toml` in it and pipx `pipx_metadata.json`; uvx and `uv run --with` keep
        theirs in uv's cache, in folders named `archive-v0`, `environments-v2`, `builds-v0`.
        """
        prefix = Path(self.prefix)
        cached = (
            folder.name.rpartition("-v")[0] in ("archive", "environments", "builds")
            and (folder.parent / "CACHEDIR.TAG").is_file()
            for folder in prefix.parents
        )
        receipts = ("uv-receipt.toml", "pipx_metadata.json")
        return any((prefix / name).is_file() for name in receipts) or any(cached)


class Search(Struct, frozen=True, kw_only=True):
    """Finds the environment to install into; the first of these that applies wins.

    `venv`, `python` or `system` as asked; the active environment (`VIRTUAL_ENV`, `CONDA_PREFIX`); `.venv` in
    the current folder or above; the environment that runs torchinstall, unless it is a tool's private one.
    Conda's `base` yields to a `.venv`, as with uv.

    `python` is the path of an interpreter or environment, or a version; with `venv`, what to create it with.
    `system` means the first interpreter outside environments.
    """

    env: Mapping[str, str]
    cwd: Path
    python: str | None = None
    venv: str | None = None
    system: bool = False
    running: Running = Running()

    def folder(self) -> Path | None:
        """The folder that `locate` will find, without asking an interpreter; None where only one can say."""
        if self.venv is not None:
            return user_path(self.cwd, self.venv)
        if self.system or self.python is not None:
            path = user_path(self.cwd, self.python or "")
            near = (path, path.parent.parent) if self.python else ()
            return next((folder for folder in near if (folder / "pyvenv.cfg").is_file()), None)
        try:
            return self._implicit()[0]
        except TargetError:
            return None

    def locate(self, uv: str, family: Collection[str]) -> PythonEnvironment:
        """Find the environment and inspect its interpreter; `family` moves with torch.

        Raises:
            TargetError: it is not there, or cannot be installed into.
            ToolMissingError: `uv-broken`.
        """
        if self.venv is not None:
            return self._venv(self.venv, uv, family)
        if self.system or self.python is not None:
            words = ("--system" if self.system else "", f"--python {self.python}" if self.python else "")
            found = self._find_python(self.python or "", uv, system=self.system)
            return self._inspect(found, family, " ".join(filter(None, words)))
        folder, why = self._implicit()
        return self._inspect(_interpreter(folder, why), family, why)

    def _inspect(self, python: str, family: Collection[str], why: str = "") -> PythonEnvironment:
        return inspect_python(python, env=self.env, family=family, why=why)

    def _venv(self, shown: str, uv: str, family: Collection[str]) -> PythonEnvironment:
        """The environment of `--venv`, or what it will be once it is created."""
        path, why, python = user_path(self.cwd, shown), f"--venv {shown}", self.python
        if (path / "pyvenv.cfg").is_file():
            found = self._inspect(_interpreter(path, why), family, why)
            if python is not None:
                wanted = self._inspect(self._find_python(python, uv, system=True), ())
                if found.target.python_minor != wanted.target.python_minor:
                    raise TargetError(
                        "python-mismatch",
                        f"the environment {shown} has another Python",
                        wanted=f"Python {wanted.target.python_version} (from --python {python})",
                        found=f"Python {found.target.python_version}",
                        hints=(f"uv venv --clear --python {python} {shown}", "omit --python"),
                    )
            return found
        if path.exists() and not (path.is_dir() and is_empty(path)):
            raise TargetError(
                "not-an-environment",
                f"{shown} is not a virtual environment",
                wanted="a virtual environment, an empty folder, or nothing yet",
                found="a folder without pyvenv.cfg" if path.is_dir() else "a file",
                hints=(_another(path), f"move {shown} away and try again"),
            )
        base = self._find_python(python or "", uv, system=True)
        found = self._inspect(base, ())
        why = f"{why}, to be created with {base}"
        target = structs.replace(found.target, python=str(_interpreter_path(path)), prefix=str(path), why=why)
        return structs.replace(
            found, target=target, writable=True, externally_managed=None, site_packages=(), base=base
        )

    def _implicit(self) -> tuple[Path, str]:
        """Folder of the environment that nobody named, and why it was chosen."""
        running, active, conda = self.running, self.env.get("VIRTUAL_ENV"), self.env.get("CONDA_PREFIX")
        if active and not (Path(active) == Path(running.prefix) and running.private):
            return Path(active), "the active environment (VIRTUAL_ENV)"
        if conda and self.env.get("CONDA_DEFAULT_ENV") not in ("base", "root"):
            return Path(conda), "the active environment (CONDA_PREFIX)"
        for folder in (self.cwd, *self.cwd.parents):
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
            found=f"neither, seen from {self.cwd}",
            hints=(
                "torchinstall auto --venv .venv",
                "torchinstall auto --python PATH|3.12",
                "torchinstall auto --system",
            ),
        )

    def _find_python(self, request: str, uv: str, *, system: bool) -> str:
        """Path of the interpreter that `request` means; nothing is downloaded.

        It is a path of an interpreter or of an environment, a name on PATH, or a version such as `3.12` or
        `cpython-3.13t`; empty: uv's first choice. `system` passes over interpreters of environments.
        """
        direct = user_path(self.cwd, request)
        if request and (os.sep in request or "/" in request) and direct.is_file():
            return str(direct)
        flags = [*(["--system"] if system else []), *(["--", request] if request else [])]
        found, words = _ask_uv([uv, "python", "find", "--no-project", *flags], self.env, self.cwd)
        if found:
            return found
        version = request if request[:1].isdigit() else "3.12"
        raise TargetError(
            "python-not-found",
            f"no Python interpreter fits {request!r}" if request else "no Python interpreter was found",
            wanted=request or "any interpreter that uv can use",
            found=words,
            hints=(
                "uv python list shows the interpreters of this machine",
                f"uv python install {version}",
            ),
        )


def _ask_uv(argv: list[str], env: Mapping[str, str], cwd: Path) -> tuple[str | None, str]:
    """What uv answers (None: it failed), and its last words."""
    # A Python that nobody asked to download is not "this machine's Python".
    changes = (("UV_PYTHON_DOWNLOADS", "never"), ("NO_COLOR", "1"))
    done = run_uv(argv, env=env, changes=changes, cwd=cwd, timeout=_TIMEOUT)
    said = " ".join(done.stderr.split())
    words = (said.partition("error: ")[2] or said)[:300] or done.ending
    return done.stdout.strip() if done.returncode == 0 else None, words


def is_empty(prefix: Path) -> bool:
    """Whether a folder holds no more than what `rm -rf .venv/*` leaves of an environment."""
    return {STATE, ".gitignore", ".lock"}.issuperset(names_in(prefix))


def _another(prefix: Path) -> str:
    """What names an environment of one's own that is not this one."""
    return f"--venv {'.venv-new' if prefix.name == '.venv' else '.venv'}"


def _interpreter_path(environment: Path) -> Path:
    if sys.platform == "win32":
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


def create(environment: PythonEnvironment, *, uv: str, env: Mapping[str, str]) -> PythonEnvironment:
    """Create an environment that is still missing with `uv venv`, and inspect it again.

    Raises:
        TargetError: `environment-not-made` with uv's words, or what `inspect_python` raises.
    """
    base, path = environment.base, environment.target.prefix
    if base is None or path is None:
        return environment
    argv = [uv, "venv", "--no-project", "--allow-existing", "--python", base, "--", path]
    made, words = _ask_uv(argv, env, Path.cwd())
    if made is None:
        raise TargetError(
            "environment-not-made",
            f"uv could not create the environment {path}",
            wanted=f"uv venv --python {base} {path}",
            found=words,
            hints=("name another folder: --venv DIR", "name another interpreter: --python PATH|3.12"),
        )
    why = environment.target.why.partition(", to be created")[0] + f", created with {base}"
    python = str(_interpreter_path(Path(path)))
    return inspect_python(python, env=env, family=(), why=why)


def require_changeable(
    environment: PythonEnvironment, env: Mapping[str, str], uv_args: tuple[str, ...] = ()
) -> None:
    """Refuse an environment that must not be changed (PEP 668, as in uv).

    Raises:
        TargetError: `externally-managed`.
    """
    forced = is_on(env.get("UV_BREAK_SYSTEM_PACKAGES"))
    if environment.externally_managed and not forced and "--break-system-packages" not in uv_args:
        why = environment.target.why
        place = f"{why} " if why.startswith("--") else ""
        raise TargetError(
            "externally-managed",
            "this Python belongs to the operating system, whose package manager owns its packages",
            wanted="an environment of your own",
            found=f"{environment.externally_managed} ({why})",
            hints=("torchinstall auto --venv .venv", f"torchinstall auto {place}-- --break-system-packages"),
        )


def require_writable(environment: PythonEnvironment) -> None:
    """Refuse an environment that this user cannot change.

    Raises:
        TargetError: `read-only-environment`.
    """
    if not environment.writable:
        prefix = str(environment.target.prefix)
        other = _another(Path(prefix))
        raise TargetError(
            "read-only-environment",
            "the environment cannot be written to",
            wanted="write access to " + ", ".join((prefix, *environment.site_packages)),
            found=f"no write access for this user ({environment.target.why})",
            hints=(f"torchinstall auto {other}", "change the owner of the environment to yourself"),
        )
