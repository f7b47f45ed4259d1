"""Ask an interpreter what it is, with one isolated script, and read what is installed in it."""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field

from torchinstall.core.errors import TargetError
from torchinstall.core.files import names_in, text_in
from torchinstall.core.machine import OS_NAMES, Libc, machine_arch
from torchinstall.core.request import canonical_name
from torchinstall.core.target import Installed, Target
from torchinstall.core.versions import dotted
from torchinstall.index.wheels import backend_of, read_variants
from torchinstall.install import interpreter_script
from torchinstall.install.distributions import DistInfo, distributions

if TYPE_CHECKING:
    from torchinstall.core.processes import Completed

MARKER = "@torchinstall@"
"""Stands before what our scripts say; an interpreter that starts may say something of its own."""

_TIMEOUT = 20.0

_OLDEST_PYTHON = "3.7"
"""Our scripts need it, and no torch that we know was published for an older one."""

_FILES_AT_MOST = 20

_LIBRARIES = ("nvidia-", "cuda-", "triton", "pytorch-triton")
"""Beginnings of names of distributions that carry what torch loads, besides torch's own family."""


class PythonEnvironment(Struct, frozen=True, kw_only=True):
    """A Python interpreter and its environment.

    Attributes:
        target: the interpreter as the planner sees it; of a missing environment, as it will be.
        writable: whether this user may change its folder, and those that it imports installed packages from.
        externally_managed: path of the marker of PEP 668, where it forbids changes.
        user_torch: a torch in the user's own site-packages that this interpreter would import too.
        base: interpreter to create the environment with first; None: it is there.
    """

    target: Target
    site_packages: tuple[str, ...]
    writable: bool
    externally_managed: str | None
    user_torch: str | None = None
    base: str | None = None


class Dist(Struct, frozen=True, kw_only=True):
    """An installed distribution with the state of its files.

    Attributes:
        name: normalised.
        requires: its `Requires-Dist` lines.
        missing: files that its list names and that do not exist (at most 20).
        altered: files whose size is not what its list says (at most 20).
        built_for: what its binaries were made for, where it says: `torch`, `cuda`.
    """

    name: str
    version: str
    requires: tuple[str, ...] = ()
    site: str = ""
    missing: tuple[str, ...] = ()
    altered: tuple[str, ...] = ()
    built_for: Mapping[str, str] = field(default_factory=dict)


class Inventory(Struct, frozen=True, kw_only=True):
    """What is in an environment.

    Attributes:
        leftovers: paths of folders that begin with `~`, left by an interrupted uninstall.
        user_torch: see `PythonEnvironment`.
    """

    dists: tuple[Dist, ...] = ()
    leftovers: tuple[str, ...] = ()
    user_torch: str | None = None


def inspect_python(
    python: str,
    *,
    env: Mapping[str, str],
    family: Collection[str],
    why: str = "",
    timeout: float = _TIMEOUT,
    running: str = sys.executable,
) -> PythonEnvironment:
    """What an interpreter is; the one that runs us (`running`) needs no child for it.

    Of the packages in `family`, those that are there become `Target.installed`.

    Raises:
        TargetError: `python-not-found`, `python-broken`, `unsupported-platform`, or `unsupported-python`
            where it is too old.
    """
    if not env.get("PYTHONHOME") and _is_running(python, running):
        return _environment(interpreter_script.inspect(), python, why, family)
    try:
        done = run_script("interpreter_script", python, env=env, timeout=timeout)
        _, marker, text = done.stdout.rpartition(MARKER)
        if done.returncode == 0 and marker:
            return _environment(ast.literal_eval(text.strip()), python, why, family)
        problem = done.problem
    except FileNotFoundError:
        raise TargetError(
            "python-not-found",
            f"there is no Python interpreter at {python}",
            wanted="the path of an interpreter, or a version such as 3.12",
            found="no such file",
            hints=("uv python list shows the interpreters of this machine",),
        ) from None
    except OSError as error:
        problem = str(error)
    raise TargetError(
        "python-broken",
        f"the Python interpreter at {python} does not run",
        wanted="an interpreter that runs a script",
        found=problem,
        hints=(
            "recreate the environment: uv venv --clear",
            "name another interpreter: --python PATH|3.12",
        ),
    )


def take_inventory(place: PythonEnvironment, family: Iterable[str]) -> Inventory:
    """Everything that is installed, and whether what is in `family`, or what torch asks for, is whole."""
    sites = [Path(site) for site in place.site_packages]
    found = distributions(sites)
    needs = (text for row in found if row.name == "torch" for text in row.metadata("requires-dist"))
    watched = {*family, *(canonical_name(re.split(r"[^\w.-]", text)[0]) for text in needs)}
    return Inventory(
        dists=tuple(_dist(row, watched) for row in found),
        leftovers=tuple(str(site / name) for site in sites for name in names_in(site) if name[0] == "~"),
        user_torch=place.user_torch,
    )


def _dist(row: DistInfo, family: Collection[str]) -> Dist:
    watched = row.name in family or row.name.startswith(_LIBRARIES)
    # What has no list and was never installed by those who write one is no damage; without metadata it is.
    known = row.text("RECORD") or not row.text("METADATA") or row.text("INSTALLER").strip() in ("uv", "pip")
    faults = row.damage() if watched and known else []
    version = _version(row)
    return Dist(
        name=row.name,
        version=version,
        requires=tuple(row.metadata("requires-dist")),
        site=str(row.site),
        missing=tuple(name for name, missing in faults if missing)[:_FILES_AT_MOST],
        altered=tuple(name for name, missing in faults if not missing)[:_FILES_AT_MOST],
        built_for=_built_for(row, version),
    )


def _version(found: DistInfo) -> str:
    return next(iter(found.metadata("version")), found.version)


def run_script(name: str, python: str, *arguments: str, env: Mapping[str, str], timeout: float) -> Completed:
    """Run one of our scripts in `python`, apart from the user's site, PYTHONPATH and the current folder."""
    from torchinstall.core.processes import capture

    text = (Path(__file__).parent / f"{name}.py").read_text(encoding="utf-8")
    # Without the first, macOS tells an interpreter built with an old SDK that it is 10.16.
    env = {**env, "SYSTEM_VERSION_COMPAT": "0", "PYTHONIOENCODING": "utf-8"}
    return capture([python, "-I", "-c", text, *arguments], env=env, timeout=timeout)


def _is_running(python: str, running: str) -> bool:
    """Whether it is the interpreter that runs us, under this name or another in the same folder.

    Not on macOS, whose version depends on a variable that only a child can be given.
    """
    if not running or sys.platform == "darwin":
        return False
    path, ours = Path(python), Path(running)
    try:
        return path.parent == ours.parent and path.samefile(ours)
    except OSError:
        return False


def _environment(data: dict[str, Any], python: str, why: str, family: Collection[str]) -> PythonEnvironment:
    if dotted(data["version"]) < dotted(_OLDEST_PYTHON):
        raise TargetError(
            "unsupported-python",
            f"Python {data['version']} is too old to be installed into",
            wanted=f"Python {_OLDEST_PYTHON} or newer",
            found=f"Python {data['version']} at {python}",
            hints=("torchinstall auto --venv .venv --python 3.12",),
        )
    os_name = OS_NAMES.get("linux" if data["sys_platform"].startswith("linux") else data["sys_platform"])
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
    target = Target(
        python_version=data["version"],
        abi=data["abi"],
        os=os_name,
        arch=arch,
        implementation=data["implementation"],
        os_version=data["macos"],
        libc=libc,
        python=python,
        prefix=data["prefix"],
        why=why,
        installed=_installed(map(Path, data["site_packages"]), family),
    )
    return PythonEnvironment(
        target=target,
        site_packages=tuple(data["site_packages"]),
        writable=data["writable"],
        externally_managed=data["externally_managed"],
        user_torch=data["user_torch"],
    )


def _installed(sites: Iterable[Path], family: Collection[str]) -> tuple[Installed, ...]:
    """The packages of a family; beside a whole one, what lost its list is a remainder.

    Of two records of one package, the first is the one that its files speak of.
    """
    found = distributions(sites, family)
    listed = {dist.name for dist in found if dist.listed}
    rows = []
    for dist in found:
        if dist.listed or dist.name not in listed:
            code = text_in(dist.site / dist.name.replace("-", "_") / "version.py", 8192)
            variant = None
            with suppress(ValueError):  # the label in a wheel's own list of its variant
                variant = next(iter(read_variants(dist.text("variant.json") or "{}")), None)
            version = _version(dist)
            backend = backend_of(version, code)
            row = Installed(name=dist.name, version=version, backend=backend, variant=variant)
            rows.append((dist.name, version not in code, row))
    return tuple(row for *_, row in sorted(rows, key=lambda item: item[:2]))


def _arch(data: dict[str, Any]) -> str:
    """Of the interpreter, which may differ from the machine's (x86-64 Python on Windows for ARM)."""
    name: str = data["platform"].rpartition("-")[2].lower()
    if name in ("universal2", "universal", "fat", "intel"):
        name = data["machine"].lower()
    if name == "win32" or (data["bits"] == 32 and name in ("x86_64", "amd64")):
        return "x86"
    return machine_arch(name)


def _built_for(dist: DistInfo, version: str) -> dict[str, str]:
    """What the binaries of an extension were made for, as a file of it or its version says."""
    found: Any = {}
    if dist.name == "xformers":
        with suppress(ValueError, KeyError, TypeError):
            found = json.loads(text_in(dist.site / "xformers/cpp_lib.json"))["version"]
    elif dist.name == "bitsandbytes":
        names = " ".join(names_in(dist.site / "bitsandbytes"))
        found = {"cuda": ",".join(sorted(set(re.findall(r"cuda(\d+)", names))))}
    elif match := re.search(r"\+(?:.*?cu(?P<cuda>\d+))?.*?(?:torch|pt)(?P<torch>\d+\.\d+)", version):
        found = match.groupdict()
    pairs = {key: found.get(key) for key in ("torch", "cuda")} if isinstance(found, Mapping) else {}
    return {key: str(value) for key, value in pairs.items() if value}
