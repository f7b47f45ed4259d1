"""Tiny wheels that are valid: right file names, METADATA, WHEEL and RECORD, and as little else as possible.

`torch_wheel` makes one whose `torch` imports, says what it was built for, and multiplies small matrices.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import io
import re
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

_FAKE_TORCH = Path(__file__).with_name("data") / "fake_torch.py.txt"
_LOCAL_IN_BUILD = re.compile(r"^(\d[^+]*)(\+.*)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class TinyWheel:
    """A wheel that is built when its content is first asked for.

    Attributes:
        name: project name as the file name spells it (`pytorch_triton_rocm`).
        version: with its local segment, `2.9.1+cu128`.
        tag: `cp312-cp312-manylinux_2_28_x86_64`.
        build: build tag of the file name (`1`), empty where there is none.
        requires: `Requires-Dist` lines.
        files: archive member -> text or bytes, beside `<module>/__init__.py`.
    """

    name: str
    version: str
    tag: str = "py3-none-any"
    build: str = ""
    requires: tuple[str, ...] = ()
    requires_python: str | None = None
    files: Mapping[str, str | bytes] = field(default_factory=dict, hash=False)
    odd_filename: str | None = None

    @property
    def filename(self) -> str:
        """The file name; `odd_filename` where the test needs one that breaks the rules."""
        parts = (self.name.replace("-", "_"), self.version, *([self.build] if self.build else []), self.tag)
        return self.odd_filename or "-".join(parts) + ".whl"

    @property
    def normalised(self) -> str:
        """The project name as a simple index spells it."""
        return re.sub(r"[-_.]+", "-", self.name).lower()

    @property
    def metadata(self) -> str:
        """The METADATA file."""
        lines = ["Metadata-Version: 2.1", f"Name: {self.normalised}", f"Version: {self.version}"]
        if self.requires_python:
            lines.append(f"Requires-Python: {self.requires_python}")
        lines.extend(f"Requires-Dist: {line}" for line in self.requires)
        return "\n".join(lines) + "\n"

    def content(self) -> bytes:
        """The archive."""
        return _build(
            self.filename, self.name, self.version, self.tag, self.metadata, tuple(self.files.items())
        )

    @property
    def sha256(self) -> str:
        """Of the archive, in hex."""
        return hashlib.sha256(self.content()).hexdigest()


@functools.lru_cache(maxsize=20_000)
def _build(
    filename: str,
    name: str,
    version: str,
    tag: str,
    metadata: str,
    files: tuple[tuple[str, str | bytes], ...],
) -> bytes:
    del filename  # two wheels with other file names are two wheels, whatever they hold
    stem = f"{name.replace('-', '_')}-{version}.dist-info"
    pythons, abis, platforms = tag.split("-")
    tags = "".join(
        f"Tag: {python}-{abi}-{platform}\n"
        for python in pythons.split(".")
        for abi in abis.split(".")
        for platform in platforms.split(".")
    )
    pure = "true" if tag.endswith("-any") else "false"
    members: dict[str, str | bytes] = {
        f"{name.replace('-', '_')}/__init__.py": f'__version__ = "{version}"\n',
        **dict(files),
        f"{stem}/METADATA": metadata,
        f"{stem}/WHEEL": f"Wheel-Version: 1.0\nGenerator: wheelhouse\nRoot-Is-Purelib: {pure}\n{tags}",
    }
    record = "".join(
        f"{path},sha256={_record_hash(content)},{len(_bytes(content))}\n" for path, content in members.items()
    )
    members[f"{stem}/RECORD"] = f"{record}{stem}/RECORD,,\n"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, text in members.items():
            archive.writestr(zipfile.ZipInfo(path, (2026, 1, 1, 0, 0, 0)), text)
    return buffer.getvalue()


def _bytes(content: str | bytes) -> bytes:
    return content.encode() if isinstance(content, str) else content


def _record_hash(content: str | bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(_bytes(content)).digest()).rstrip(b"=").decode()


def wheel(
    name: str,
    version: str,
    tag: str = "py3-none-any",
    *,
    requires: Iterable[str] = (),
    requires_python: str | None = None,
    files: Mapping[str, str | bytes] | None = None,
    build: str = "",
) -> TinyWheel:
    """Any package."""
    return TinyWheel(
        name=name,
        version=version,
        tag=tag,
        build=build,
        requires=tuple(requires),
        requires_python=requires_python,
        files=files or {},
    )


def torch_wheel(
    version: str,
    tag: str,
    *,
    cuda: str | None = None,
    hip: str | None = None,
    xpu: str | None = None,
    requires: Iterable[str] = (),
    files: Mapping[str, str | bytes] | None = None,
) -> TinyWheel:
    """A `torch` that imports; `cuda` follows from a local version such as `+cu128` where not given."""
    local = version.partition("+")[2]
    if cuda is None and (match := re.fullmatch(r"cu(\d+)(\d)", local)):
        cuda = f"{match[1]}.{match[2]}"
    if hip is None and local.startswith("rocm"):
        hip = f"{local.removeprefix('rocm')}.0"
    version_py = (
        f"__version__ = {version!r}\ndebug = False\ncuda: str | None = {cuda!r}\n"
        f"git_version = 'tiny'\nhip: str | None = {hip!r}\nxpu: str | None = {xpu!r}\n"
    )
    members: dict[str, str | bytes] = {
        "torch/__init__.py": _FAKE_TORCH.read_text("utf-8"),
        "torch/version.py": f"from __future__ import annotations\n{version_py}",
        **(files or {}),
    }
    return wheel("torch", version, tag, requires=requires, files=members)


def wheel_of_name(filename: str, *, requires: Iterable[str] = ()) -> TinyWheel:
    """A wheel for a file name seen in the world, also one that no rule allows (spaces, odd build tags)."""
    parts = filename.removesuffix(".whl").split("-")
    name, version, build, tag = parts[0], parts[1], "", "-".join(parts[-3:])
    if len(parts) == 6:
        build = parts[2]
        if match := _LOCAL_IN_BUILD.match(build):
            version += match[2]
    plain = TinyWheel(name=name, version=version, tag=tag, build=build, requires=tuple(requires))
    if plain.filename == filename:
        return plain
    return TinyWheel(
        name=name, version=version, tag="py3-none-any", requires=tuple(requires), odd_filename=filename
    )


def write_wheels(folder: Path, wheels: Iterable[TinyWheel]) -> list[Path]:
    """Put wheels into a folder (`--find-links`), made where missing."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for item in wheels:
        path = folder / item.filename
        path.write_bytes(item.content())
        paths.append(path)
    return paths
