"""From a plan to the uv command that carries it out; pure.

uv gets a generated project file. In it every package that must come from one index is pinned, with its local
version, to an index that is `explicit`; everything else stays a plain requirement, which uv takes from
wherever the user takes packages from.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping

from msgspec import structs

from torchinstall.core.errors import UsageError
from torchinstall.core.files import quoted
from torchinstall.core.messages import is_url, redact
from torchinstall.core.plan import Package, Plan
from torchinstall.core.request import Requirement, canonical_name, extras_text, requirement
from torchinstall.index.urls import LINKS
from torchinstall.install.uv import UNDOES_SOURCES

PROJECT_FILE = "torchinstall-request/pyproject.toml"
"""What the command calls the project file; `execute` writes it to a private folder instead.

uv reads sources from a file of this name only.
"""

_PATIENCE = "300"
"""Seconds without a byte before uv gives up; its own 30 s is short for wheels of 3 GB on slow links."""

_TIMEOUTS = ("UV_HTTP_TIMEOUT", "UV_REQUEST_TIMEOUT", "HTTP_TIMEOUT")

_OTHER_NAMES = {
    "-i": "--default-index",
    "--index-url": "--default-index",
    "--extra-index-url": "--index",
    "-f": "--find-links",
    "--trusted-host": "--allow-insecure-host",
    "-e": "--editable",
    "-p": "--python",
}
_WITH_VALUE = frozenset(
    {"--default-index", "--index", "--find-links", "--index-strategy", "--keyring-provider", "--prerelease"}
    | {"--allow-insecure-host", "--cache-dir", "--link-mode", "--only-binary", "--no-binary", "--editable"}
)


def uv_name(option: str) -> str:
    """An option under uv's own name, however pip or uv let it be spelled."""
    return _OTHER_NAMES.get(option, option)


def options_in(uv_args: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Arguments for uv as (option under uv's own name, value); without a value that of what anybody asks."""
    rest = iter(uv_args)
    for word in rest:
        spelled, equals, value = word.partition("=")
        name = uv_name(spelled)
        yield name, value if equals or name not in _WITH_VALUE else next(rest, "")


def values_of(option: str, uv_args: Iterable[str]) -> tuple[str, ...]:
    """What arguments for uv say of one option."""
    return tuple(value for name, value in options_in(uv_args) if name == option)


_OURS = {
    "--torch-backend": "--backend BACKEND",
    "--no-sources": "omit it: the index of each package is a source",
    "--python": "--python before `--`",
    "--system": "--system before `--`",
    "--target": "omit it: it installs outside the environment that was inspected",
    "--prefix": "omit it: it installs outside the environment that was inspected",
    "--output-format": "--json before `--`",
}


def check_uv_args(uv_args: Iterable[str]) -> None:
    """Refuse arguments for uv that would undo the plan.

    Raises:
        UsageError: `bad-uv-argument`.
    """
    for name, _ in options_in(uv_args):
        if name in _OURS:
            raise UsageError(
                "bad-uv-argument",
                f"{name} cannot be passed to uv: it would undo the plan",
                wanted="arguments that change neither the environment nor the indexes",
                found=name,
                hints=(_OURS[name],),
            )


def command(
    plan: Plan,
    *,
    uv: str,
    env: Mapping[str, str] | None = None,
    constraints: Iterable[str] = (),
    uv_args: Iterable[str] = (),
    dry_run: bool = False,
    offline: bool = False,
    upgrade: bool = False,
) -> Plan:
    """The plan with `command`, `env` and `project` filled.

    A timeout in the user's `env` stays, and `uv_args`, which were checked, are appended as they are. An
    installed build with a local version (`2.9.1+cu128`) is pushed out where one without it (`2.9.1`) is
    wanted: uv takes it for good.

    Raises:
        UsageError: `foreign-target`: there is no interpreter to install into.
    """
    if plan.target.python is None:
        raise UsageError(
            "foreign-target",
            "nothing can be installed for a Python that is not on this machine",
            wanted="an interpreter on this machine",
            found=f"Python {plan.target.python_version} (from --python-version)",
            hints=("omit --python-version, or name an interpreter with --python",),
        )
    argv = [uv, "pip", "install", "--python", plan.target.python, "-r", PROJECT_FILE]
    wanted = {package.name: f"{package.version}+" for package in plan.packages}
    rows = plan.target.installed
    in_the_way = (item.name for item in rows if item.version.startswith(wanted.get(item.name, "+")))
    argv += [item for name in in_the_way for item in ("--reinstall-package", name)]
    argv += [item for name in plan.builds for item in ("--no-build-isolation-package", name)]
    argv += shared_options(plan, constraints, offline=offline)
    flags = {"--upgrade": upgrade, "--dry-run": dry_run}
    argv += [*(flag for flag, is_set in flags.items() if is_set), "--output-format", "json", *uv_args]
    patient = not any((env or {}).get(name) for name in _TIMEOUTS)
    return structs.replace(
        plan,
        command=tuple(argv),
        env=(
            *((name, value) for name, value in plan.env if name.startswith("NV_VARIANT_")),
            *((("UV_HTTP_TIMEOUT", _PATIENCE),) if patient else ()),
            *((name, None) for name in UNDOES_SOURCES),
        ),
        project=project_text(plan),
    )


def shared_options(plan: Plan, constraints: Iterable[str], *, offline: bool) -> list[str]:
    """What `uv pip install` and `uv pip compile` must both be told, to take the same files."""
    argv = [item for path in constraints for item in ("-c", _absolute(path))]
    argv += [item for place in plan.find_links for item in ("--find-links", _absolute(place))]
    if plan.channel != "stable":
        routed = (package.name for package in _routed(plan))
        argv += [item for name in routed for item in ("--prerelease-package", f"{name}=allow")]
    if any(package.variant for package in plan.packages):
        argv += ["--preview-features", "wheel-variants"]
    argv += [item for name in plan.ready_only for item in ("--only-binary", name)]
    return [*argv, *(["--offline"] if offline else [])]


def before_builds(plan: Plan) -> Plan:
    """The plan without what is built from source, which needs an installed torch; with the tools for it."""
    if not plan.builds:
        return plan
    kept = [text for text in plan.requirements if requirement(text).package not in plan.builds]
    rest = structs.replace(
        plan,
        requirements=(*kept, *plan.build_tools),
        packages=tuple(item for item in plan.packages if item.name not in plan.builds),
        builds=(),
    )
    return structs.replace(rest, project=project_text(rest))


def _routed(plan: Plan) -> list[Package]:
    """The packages that must come from one index; not those whose requirement has a URL."""
    routed = (package for package in plan.packages if package.routed and package.url is None)
    return [package for package in routed if package.name not in plan.direct]


def new_index_name(prefix: str, url: str, taken: Collection[str]) -> str:
    """A name for an index, `pytorch-cu128`, that no other one has."""
    tail = re.sub(r"[^a-z0-9]+", "-", url.rstrip("/").rpartition("/")[2].lower()).strip("-")
    stem = f"{prefix}-{tail or 'index'}"
    choices = (stem, *(f"{stem}-{number}" for number in range(2, len(taken) + 2)))
    return next(name for name in choices if name not in taken)


def project_text(plan: Plan) -> str:
    """The project file of a plan, also of one for a Python that is not here."""
    lines = ["[project]", 'name = "your-request"', 'version = "0"', "dependencies = ["]
    lines += [*(f"  {quoted(text)}," for text in _dependencies(plan)), "]"]
    names: dict[str, str] = {}
    sources = ["", "[tool.uv.sources]"]
    for package in _routed(plan):
        # Without an index it is in the folder; of several folders uv finds the one that has the version.
        source = package.index_url or (plan.find_links[0] if len(plan.find_links) == 1 else None)
        if source is None:
            continue
        if (place := _absolute(source)) not in names:
            flat = not is_url(source) or source in plan.find_links or source.endswith(LINKS)
            name = new_index_name("torchinstall", "folder" if flat else source, names.values())
            names[place], url = name, place.removesuffix(LINKS)
            lines += ["", "[[tool.uv.index]]", f"name = {quoted(name)}", f"url = {quoted(url)}"]
            lines += [*(['format = "flat"'] if flat else []), "explicit = true"]
        sources.append(f"{quoted(package.name)} = {{ index = {quoted(names[place])} }}")
    return "\n".join([*lines, *(sources if names else [])]) + "\n"


def _dependencies(plan: Plan) -> list[str]:
    """Every requirement as asked, the packages of the plan pinned; a package nobody asked for is added."""
    packages = {canonical_name(package.name): package for package in plan.packages}
    asked = {text: requirement(text) for text in plan.requirements}
    entries = [
        text if item.url or item.package not in packages else _pin(packages[item.package], item)
        for text, item in asked.items()
    ]
    seen = {item.package for item in asked.values()}
    entries += [_pin(item, Requirement(name)) for name, item in packages.items() if name not in seen]
    return list(dict.fromkeys(entries))


def _pin(package: Package, asked: Requirement) -> str:
    """`torch[opt]==2.9.1+cu128 ; marker`: extras and marker as asked, the version as planned."""
    marker = f" ; {asked.marker}" if asked.marker else ""
    name = package.name + extras_text({*package.extras, *asked.extras})
    if package.url is not None:
        digest = f"#sha256={package.sha256}" if package.sha256 else ""
        return f"{name} @ {package.url}{digest}{marker}"
    return name + (asked.specifier if package.version is None else f"=={package.version}") + marker


def _absolute(place: str) -> str:
    """Paths in a project file count from its folder, so they are made absolute; URLs stay."""
    if is_url(place):
        return place
    return os.path.abspath(os.path.expanduser(place))  # noqa: PTH100, PTH111  links stay as they were named


def shell(plan: Plan) -> str:
    """The command as lines that a person can paste into a POSIX shell; credentials are omitted."""
    if not plan.command:
        return ""
    first = shell(before_builds(plan)) if plan.builds else ""
    argv = [redact(item) for item in plan.command]
    unset = [item for name, value in plan.env if value is None for item in ("-u", name)]
    settings = [f"{name}={redact(value)}" for name, value in plan.env if value is not None]
    lines = []
    if plan.project is not None:
        path = argv[argv.index("-r") + 1]
        folder = os.path.dirname(path)  # noqa: PTH120  text of the plan, not a path of this machine
        lines += [f"mkdir -p {shlex.quote(folder)}"] if folder else []
        lines += [f"cat > {shlex.quote(path)} <<'TOML'", redact(plan.project).rstrip("\n"), "TOML"]
    lines.append(shlex.join(["env", *unset, *settings, *argv]))
    return first + "\n".join(lines) + "\n"
