"""Tiny source distributions that are valid, each with a build backend of its own."""

from __future__ import annotations

import gzip
import io
import tarfile
from dataclasses import dataclass

from tests.support.wheelhouse import TinyWheel

_BACKEND = """
import zipfile
import {imports}

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    name = "{module}-{version}-py3-none-any.whl"
    info = "{module}-{version}.dist-info"
    files = {{
        "{module}/__init__.py": "built_for = " + repr({imports}.__version__),
        info + "/METADATA": "Metadata-Version: 2.1\\nName: {module}\\nVersion: {version}\\n",
        info + "/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    }}
    files[info + "/RECORD"] = "".join(f"{{path}},,\\n" for path in [*files, info + "/RECORD"])
    with zipfile.ZipFile(wheel_directory + "/" + name, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return name
"""


_PYPROJECT = '[build-system]\nrequires = [{tools}]\nbuild-backend = "backend"\nbackend-path = ["."]\n'


@dataclass(frozen=True, slots=True, kw_only=True)
class TinySdist(TinyWheel):
    """The sources of a package; its build imports a module, maybe of its `tools`, and tells its version."""

    imports: str = "torch"
    tools: str = ""

    @property
    def filename(self) -> str:
        """The file name."""
        return f"{self.name}-{self.version}.tar.gz"

    def content(self) -> bytes:
        """The archive."""
        words = {"module": self.name, "version": self.version, "imports": self.imports}
        files = {
            "PKG-INFO": self.metadata,
            "pyproject.toml": _PYPROJECT.format(tools=f'"{self.tools}"' if self.tools else ""),
            "backend.py": _BACKEND.format(**words),
        }
        buffer = io.BytesIO()
        with (
            gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w") as archive,
        ):
            for path, text in files.items():
                info = tarfile.TarInfo(f"{self.name}-{self.version}/{path}")
                info.size = len(text.encode())
                archive.addfile(info, io.BytesIO(text.encode()))
        return buffer.getvalue()


def sdist(name: str, version: str, *, imports: str = "torch", tools: str = "") -> TinySdist:
    """Sources of a package."""
    return TinySdist(name=name, version=version, imports=imports, tools=tools)
