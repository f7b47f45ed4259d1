"""Wheels: what a file name says, wheel variants, and wheels in folders (`--find-links DIR`) as builds.

Which backend a wheel was built for: its local version says so (`+cu128`); a torch without one (PyPI's own
wheels have none) is asked itself, since `torch/version.py` holds `cuda`, `hip` and `xpu`; any other package
without one follows the torch builds that lie beside it, with low confidence where these are several.

Wheel variants (PEP 817 and 825) are wheels of one version that differ in what hardware they are built for.
The label at the end of a file name (`…-manylinux_2_28_x86_64-cu130.whl`) stands for properties, which the
index lists in `{name}-{version}-variants.json`. Only what NVIDIA's provider names is understood, and the null
variant; these are also all that uv can install for a GPU.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import Struct, field, structs
from packaging.version import Version

from torchinstall.catalog.model import Code, Wheels
from torchinstall.catalog.tables import platform_of
from torchinstall.core.decoding import decoder
from torchinstall.core.errors import UsageError
from torchinstall.core.machine import Gpu, capability_named, capability_text
from torchinstall.core.request import canonical_name
from torchinstall.core.versions import dotted_or_none
from torchinstall.index.urls import backend_of_local, file_name, file_path

_PROJECT = r"[A-Za-z0-9](?:[A-Za-z0-9._]*[A-Za-z0-9])?"
_TAG = r"[A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)*"
_PYTHON = r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*"
_LABEL = r"[a-z0-9_.]*[a-z0-9][a-z0-9_.]*"
_BUILD = r"\d[A-Za-z0-9_.]*"
_ASSIGNED = r"(?m)^(__version__|cuda|hip|rocm|xpu)\b[^=\n]*=\s*['\"]([^'\"]+)['\"]"
_UNSET = r"(?m)^cuda\b[^=\n]*=\s*None"
_VERSION_FILE = "torch/version.py"
_MAX_VERSION_FILE = 100_000


def merged(rows: Iterable[Wheels]) -> tuple[Wheels, ...]:
    """Rows that differ in nothing but their tags, made one."""
    tags: dict[Wheels, set[str]] = {}
    for row in rows:
        tags.setdefault(structs.replace(row, tag_list=""), set()).add(row.tag_list)
    return tuple(structs.replace(row, tag_list=" ".join(sorted(found))) for row, found in tags.items())


def parse_name(filename: str, *, variants: bool = False) -> Wheels | None:
    """The row of a wheel, as far as its name says it; None for what is no wheel, or follows no rule.

    It accepts what `packaging.utils.parse_wheel_filename` accepts (a test holds the two against each other)
    but for a space in the platform tag (a download that was renamed, `…_x86_64 (1).whl`) and a `+` in the
    build tag: there the local version slid into it (`torch-2.10.0-1+cu128-…`), so the name contradicts the
    wheel. With `variants` it also accepts a label at the end.
    """
    parts = filename[:-4].split("-") if filename.endswith(".whl") else []
    row = _parse_parts(parts)
    if row is None and variants and parts and re.fullmatch(_LABEL, parts[-1]):
        row = _parse_parts(parts[:-1])
        return None if row is None else structs.replace(row, variant=parts[-1])
    return row


def _parse_parts(parts: list[str]) -> Wheels | None:
    if len(parts) not in (5, 6):
        return None
    project, build = parts[0], parts[2] if len(parts) == 6 else ""
    python, abi, platform = parts[-3:]
    version = _version(parts[1])
    tags_fine = re.fullmatch(_PYTHON, python) and re.fullmatch(_TAG, abi) and re.fullmatch(_TAG, platform)
    if version is None or not tags_fine or not re.fullmatch(_PROJECT, project) or "__" in project:
        return None
    if build and not re.fullmatch(_BUILD, build):
        return None
    return Wheels(
        package=canonical_name(project),
        version=version[0],
        local=version[1],
        backend=backend_of_local(version[1]) or "",
        platform_tag=platform,
        tag_list=f"{python}-{abi}",
        build=build,
        origin="find-links",
        confidence="high",
        source="",
    )


@lru_cache(maxsize=4096)
def _version(text: str) -> tuple[str, str] | None:
    """Public and local part as written, None where it is no version."""
    try:
        Version(text)
    except ValueError:  # InvalidVersion is one, and so is a number of 5,000 digits
        return None
    public, _, local = text.partition("+")
    return public, local


def metadata_values(metadata: str, field: str) -> list[str]:
    """Every value of one field of a METADATA file."""
    pairs = (line.partition(":") for line in metadata.replace("\r\n", "\n").partition("\n\n")[0].splitlines())
    return [value.strip() for name, _, value in pairs if name.lower() == field.lower()]


class File(Struct, frozen=True, omit_defaults=True):
    """One file that an index lists, or that will be installed.

    Attributes:
        url: where it is downloaded from, without fragment and credentials; `file:` for one that lies here. A
            stored page has none where it may link to any host.
        sha256: as the index says it, or as uv found it where the index says nothing.
        size: in bytes, where the index says it.
        name: of the package, and its `version`: only of a file that will be installed.
    """

    filename: str = field(name="file")
    url: str
    sha256: str | None
    size: int | None = None
    name: str = ""
    version: str | None = None

    @property
    def directory(self) -> str:
        """The URL of its folder."""
        return self.url.rpartition("/")[0] + "/"


class FileSize(NamedTuple):
    """A file that will be taken, the bytes that come down and those unpacked; None: nobody says."""

    file: str = ""
    down: int | None = None
    unpacked: int | None = None


def local_wheels(
    folders: Iterable[Path | str], urls: Iterable[str] = (), note: Callable[[str], object] = str
) -> tuple[Wheels, ...]:
    """The wheels in these folders (not below them), as `uv pip install --find-links` sees them, and at URLs.

    Rows have the origin `find-links`, and the folder or URL as `source`. Nothing is hashed: wheels are large.
    A file that lies here is looked into; of one elsewhere (`torch @ https:…`) only the name is known, so one
    whose local version names no backend gives no row. `note` is told what is passed over.

    Raises:
        UsageError: `find-links-not-a-folder`, `wheel-not-found`.
    """
    rows: list[Wheels] = []
    for folder in folders:
        path = _folder(folder)
        found: list[tuple[Path, Wheels]] = []
        for file in sorted(path.glob("*.whl")):
            if (named := parse_name(file.name)) is not None:
                found.append((file, named))
            else:
                note(f"{file}: the name follows no rule")
        torch = {file: _torch_backend(file, row, note) for file, row in found if row.package == "torch"}
        for file, row in found:
            own, tag = row.backend or torch.get(file), row.platform_tag
            beside = {torch[at] for at, its in found if at in torch and tag in (its.platform_tag, "any")}
            backends = {own} if own else beside or {"cpu"}
            confidence = "low" if len(backends) > 1 and tag != "any" else "high"
            row = structs.replace(row, source=str(path), confidence=confidence)
            rows += (structs.replace(row, backend=backend) for backend in sorted(backends))
    rows += filter(None, (_named_wheel(url, note) for url in urls))
    return merged(rows)


def _named_wheel(url: str, note: Callable[[str], object]) -> Wheels | None:
    row = parse_name(file_name(url))
    if row is None:
        return None  # a source archive, a repository: nobody knows before it is built
    backend = row.backend
    if url.startswith("file:"):
        path = existing_wheel(file_path(url))
        backend = (_torch_backend(path, row, note) if row.package == "torch" else backend) or "cpu"
    return structs.replace(row, backend=backend, source=url) if backend else None


def version_at(url: str) -> str | None:
    """The version in the name of the wheel that a URL leads to."""
    row = parse_name(file_name(url))
    return None if row is None else row.full_version


def existing_wheel(path: Path) -> Path:
    """The path of a wheel that somebody named.

    Raises:
        UsageError: `wheel-not-found`.
    """
    if path.is_file():
        return path
    raise UsageError(
        "wheel-not-found",
        f"there is no wheel {path}",
        wanted="a .whl file that exists",
        found="a folder" if path.is_dir() else "nothing",
        hints=(f"ls {next(folder for folder in (path, *path.parents) if folder.is_dir())}",),
    )


def _folder(folder: Path | str) -> Path:
    text = str(folder)
    path = file_path(text)
    if re.match(r"https?:/", text) or not path.is_dir():
        web = text.startswith("http")
        parent, wanted = shlex.quote(str(path.parent)), shlex.quote(text)
        hint = f"--find-links {parent}" if path.exists() else f"mkdir -p {wanted}"
        raise UsageError(
            "find-links-not-a-folder",
            "--find-links takes a folder of wheels",
            wanted="a folder that exists",
            found="a web page" if web else text,
            hints=("--index-base URL takes an index on the web" if web else hint,),
        )
    return path


def _torch_backend(file: Path, row: Wheels, note: Callable[[str], object]) -> str:
    """What a torch wheel was built for: one whose local version does not tell is asked itself."""
    if row.backend:
        return row.backend
    from torchinstall.index.archives import member_text  # it loads zipfile

    text = None
    try:
        text = member_text(file, f"/{_VERSION_FILE}", _MAX_VERSION_FILE)
    except (OSError, ValueError):
        note(f"{file}: {_VERSION_FILE} cannot be read, so it counts as a CPU build")
    return backend_of("", text) or "cpu"


def version_values(text: str) -> dict[str, str]:
    """What the `version.py` of a package sets: `__version__`, and `cuda`, `hip`, `rocm` or `xpu`."""
    return dict(re.findall(_ASSIGNED, text))


def backend_of(version: str, text: str | None) -> str | None:
    """The backend that a package was built for; None where neither says it.

    A local segment (`+cu128`) of its version says it, or the text of its `version.py`: `cuda = '12.8'`.
    """
    said = version_values(text or "")
    for local in (version.partition("+")[2], said.get("__version__", "").partition("+")[2]):
        if backend := backend_of_local(local):
            return backend
    for name, key, dot in (("cu", "cuda", ""), ("rocm", "hip", ".")):
        number = dotted_or_none(said.get(key))
        if number is not None and len(number) > 1:
            return f"{name}{number[0]}{dot}{number[1]}"
    if "xpu" in said:
        return "xpu"
    return "cpu" if re.search(_UNSET, text or "") else None


Properties = Mapping[str, Mapping[str, tuple[str, ...]]]
"""Namespace -> feature -> values: the machine must have one of the values of each feature."""


class _VariantsFile(Struct):
    variants: dict[str, dict[str, dict[str, tuple[str, ...]]]]


def read_variants(text: str | bytes) -> dict[str, Properties]:
    """The properties of each label, from a `variants.json` of an index or the `variant.json` of a wheel.

    Raises:
        ValueError: it is no such file.
    """
    try:
        return dict(decoder(_VariantsFile).decode(text).variants)
    except msgspec.DecodeError as error:
        raise ValueError(f"no list of variants: {error}") from error


def variant_code(row: Wheels, properties: Properties) -> Code | None:
    """What a variant of this row with these properties is built for, in the words of the tables.

    None where they ask for something that is not understood.
    """
    backend = "cpu"
    native, ptx = [], []
    if properties:
        nvidia = properties.get("nvidia", {})
        toolkit = dotted_or_none(min(nvidia.get("cuda_version_lower_bound", ("",))))
        if set(properties) != {"nvidia"} or toolkit is None or len(toolkit) < 2:
            return None
        backend = f"cu{toolkit[0]}{toolkit[1]}"
        for value in nvidia.get("sm_arch", ()):
            if (code := capability_named(value)) is None:
                return None
            native += [capability_text(code)] if not value.endswith("virtual") else []
            ptx += [capability_text(code)] if not value.endswith("real") else []
    return Code(
        torch=".".join(row.version.split(".")[:2]),
        backend=backend,
        platform=platform_of(row.platform_tag) or "",
        native=tuple(native),
        ptx=tuple(ptx),
        confidence="high",
        source=f"the properties of variant {row.variant}",
    )


def provider_env(properties: Iterable[Properties], gpus: Iterable[Gpu]) -> dict[str, str]:
    """Variables with which uv accepts these variants for these GPUs.

    uv looks at the machine itself, in its own way: it counts the driver's CUDA version without the
    minor-version compatibility, and sees nothing where `nvidia-smi` is missing.
    """
    bounds = [row["nvidia"]["cuda_version_lower_bound"][0] for row in properties if "nvidia" in row]
    best = max((gpu.compute_capability for gpu in gpus if gpu.compute_capability), default=None)
    if not bounds or best is None:
        return {}
    newest = max(bounds, key=lambda text: dotted_or_none(text) or ())
    return {
        "NV_VARIANT_PROVIDER_FORCE_CUDA_DRIVER_VERSION": newest,
        "NV_VARIANT_PROVIDER_FORCE_SM_ARCH": capability_text(best),
    }
