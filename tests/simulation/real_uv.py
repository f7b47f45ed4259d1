"""The real uv, asked on loopback what it would choose on a described machine.

download.pytorch.org and the default index are a test server with a throw-away certificate, reached through a
CONNECT proxy; uv is told the machine in its own words (UV_CUDA_DRIVER_VERSION, UV_AMD_GPU_ARCHITECTURE,
`--python-platform`, `--python-version`).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.simulation.field import Choice
from tests.simulation.published import companions_of, release_of
from tests.support.connect_proxy import ConnectProxy
from tests.support.index_server import IndexServer, TestAuthority
from tests.support.index_tree import IndexTree
from tests.support.variant_wheels import Properties, nvidia, variant_files
from tests.support.wheelhouse import TinyWheel
from torchinstall.catalog.tables import platform_of

if TYPE_CHECKING:
    from tests.simulation.case import Case
    from torchinstall.catalog.catalog import Catalog
    from torchinstall.catalog.model import Wheels

_PACKAGES = ("torch", "torchvision", "torchaudio")
_LINE = re.compile(r"^torch==([^\s+]+)(?:\+(\S+))?\s*$", re.MULTILINE)
_SELECTED = re.compile(
    r"Selecting: torch==(\S+) .*?\(torch-[^()]*?(?:64|universal2)(?:-([0-9a-z_.]+))?\.whl\)"
)
_FROM = re.compile(r"^torch==\S+\s*\n(?:\s+#.*\n)*?\s+# from (\S+)", re.MULTILINE)


def trees(catalog: Catalog, *, hashed: bool = False) -> tuple[IndexTree, IndexTree]:
    """The PyTorch index and the default index with every file that the catalog does not merely guess.

    `hashed`: pages say the hashes of files, as the real ones do; the files must be made for that.
    """
    pytorch, default = IndexTree(hrefs="relative"), IndexTree(kind="pypi")
    for row in catalog.tables.wheels:
        if row.package not in _PACKAGES or row.confidence == "low" or row.channel != "stable":
            continue
        wheels = [
            TinyWheel(
                name=row.package,
                version=row.full_version,
                tag=f"{tag}-{row.platform_tag}",
                build=row.build,
                requires=_requires(row.package, row.version),
            )
            for tag in row.tags
        ]
        if row.origin == "index":
            pytorch.add(row.backend, *wheels, hashed=hashed)
        elif row.origin == "default":
            default.add("", *wheels, hashed=hashed)
            if row.platform_tag.startswith("macosx"):  # the index has the same names in `cpu`
                pytorch.add("cpu", *wheels, hashed=hashed)
    return pytorch, default


def variant_tree(catalog: Catalog) -> IndexTree:
    """One index for everything: each build of torch as a wheel variant with its properties, CPU as `null`.

    A label has one set of properties, and builds of one backend differ between platforms, so a label names
    both. Companions are plain wheels: what they need is the right torch.
    """
    tree = IndexTree(kind="pypi")
    releases: dict[str, list[tuple[str, TinyWheel, Properties]]] = {}
    for row in catalog.tables.wheels:
        if row.package not in _PACKAGES or row.confidence == "low" or row.channel != "stable":
            continue
        wheels = [
            TinyWheel(
                name=row.package,
                version=row.version,
                tag=f"{tag}-{row.platform_tag}",
                requires=_requires(row.package, row.version),
            )
            for tag in row.tags
        ]
        mac = row.platform_tag.startswith("macosx")
        if row.origin == "default" and (mac or row.package != "torch"):
            tree.add("", *wheels, hashed=False, described=True)
        elif row.origin == "index" and row.package == "torch" and not mac:
            found = _properties(row, catalog)
            if found is not None:
                label, properties = found
                releases.setdefault(row.version, []).extend((label, item, properties) for item in wheels)
    for wheels_of_release in releases.values():
        tree.add("", *variant_files(wheels_of_release), hashed=False, described=False)
    return tree


def _properties(row: Wheels, catalog: Catalog) -> tuple[str, Properties] | None:
    backend, platform = catalog.backend(row.backend), platform_of(row.platform_tag)
    if backend is None or platform is None:
        return None
    if backend.kind.kind == "cpu":
        return "null", {}
    code = catalog.code(row.version, backend, platform)
    if code is None or backend.toolkit is None:
        return None
    label = f"{backend.name}_{platform}"
    if backend.kind.kind == "cuda":
        return label, nvidia(".".join(map(str, backend.toolkit)), code.native, code.ptx or ())
    return label, {"amd": {"gfx_arch": list(code.native)}}


def _requires(package: str, version: str) -> tuple[str, ...]:
    """The pin on torch in a companion's metadata, as it was published."""
    if package == "torch" or (package, version) == ("torchaudio", "2.11.0"):
        return ()
    if package == "torchvision" and version in ("0.29.1", "0.29.2"):
        return ("torch>=2.14.0",)
    owner = next((torch for torch in _torches() if version in companions_of(torch, package)[:1]), None)
    return (f"torch=={owner}",) if owner else ()


def _torches() -> Iterator[str]:
    from tests.simulation.facts import facts

    return (release.torch for release in facts().releases)


@dataclass(frozen=True, slots=True)
class RealUv:
    """uv, its environment on loopback, and a folder for its cache."""

    path: str
    environment: dict[str, str]
    folder: Path
    variants: str = ""
    catalog: Catalog | None = None

    @classmethod
    @contextmanager
    def serving(cls, path: str, catalog: Catalog) -> Iterator[RealUv]:
        """Serve the indexes for as long as the `with` block lasts."""
        pytorch, default = trees(catalog)
        with tempfile.TemporaryDirectory(prefix="compare-with-uv-") as name:
            folder = Path(name)
            authority = TestAuthority(folder)
            with (
                IndexServer(pytorch, default=default, authority=authority) as server,
                IndexServer(default=variant_tree(catalog)) as variants,
                ConnectProxy(server.port) as proxy,
            ):
                passed_on = {key: os.environ[key] for key in ("HOME", "SystemRoot") if key in os.environ}
                yield cls(
                    path,
                    {
                        **passed_on,
                        "HTTPS_PROXY": proxy.url,
                        "NO_PROXY": "127.0.0.1",
                        "SSL_CERT_FILE": str(authority.bundle),
                        "UV_DEFAULT_INDEX": server.default_index,
                        "UV_CACHE_DIR": str(folder / "cache"),
                        "UV_PYTHON_DOWNLOADS": "never",
                        "UV_NO_CONFIG": "1",
                        "UV_NO_PROGRESS": "1",
                    },
                    folder,
                    variants.default_index,
                    catalog,
                )

    def version(self) -> str:
        """`0.13.9`."""
        text = subprocess.run([self.path, "--version"], capture_output=True, text=True, check=True).stdout
        return text.split()[1]

    def choose(self, case: Case) -> tuple[Choice | None, str]:
        """What `uv pip compile --torch-backend=auto` chooses, and what it said."""
        environment = dict(self.environment)
        if case.driver:
            environment["UV_CUDA_DRIVER_VERSION"] = case.driver
        amd = [part.code for part in case.parts if part.vendor == "amd"]
        if amd and case.system.os == "linux":  # nowhere else does uv look for one
            environment["UV_AMD_GPU_ARCHITECTURE"] = amd[0]
        if case.system.macos:
            environment["MACOSX_DEPLOYMENT_TARGET"] = case.system.macos
        done = self._compile(case, environment)
        if done.returncode != 0 and "Unknown AMD GPU architecture" in done.stderr:
            # Where uv asks the system instead of the variable, it passes over names that it does not know.
            del environment["UV_AMD_GPU_ARCHITECTURE"]
            done = self._compile(case, environment)
        if done.returncode != 0:
            return None, done.stderr
        return choice_in(done.stdout, case), done.stdout

    def choose_variant(self, case: Case) -> Choice | None:
        """What uv chooses among wheel variants (`--preview-features wheel-variants`).

        It is told what its own provider would read: the CUDA version of the driver, and the compute
        capability of the first NVIDIA GPU.
        """
        environment = {**self.environment, "UV_DEFAULT_INDEX": self.variants}
        codes = [part.code for part in case.parts if part.vendor == "nvidia"]
        assert self.catalog is not None
        if codes and case.driver:
            cuda = self.catalog.cuda_of_branch(int(case.driver.partition(".")[0]))
            environment["NV_VARIANT_PROVIDER_FORCE_SM_ARCH"] = codes[0]
            environment["NV_VARIANT_PROVIDER_FORCE_CUDA_DRIVER_VERSION"] = str(cuda)
        if case.system.macos:
            environment["MACOSX_DEPLOYMENT_TARGET"] = case.system.macos
        done = self._run(case, environment, "--preview-features", "wheel-variants", "--verbose")
        selected = _SELECTED.findall(done.stderr)
        if done.returncode != 0 or not selected:
            return None
        version, label = selected[-1]
        mac = (case.system.os == "macos") and not label
        return Choice(version, "cpu" if mac or label in ("", "null") else label.partition("_")[0])

    def _compile(self, case: Case, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
        return self._run(case, environment, "--emit-index-annotation", "--torch-backend=auto")

    def _run(
        self, case: Case, environment: dict[str, str], *options: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                *(self.path, "pip", "compile", "-", "--no-header", *options, "--python", sys.executable),
                *("--python-version", case.python, "--python-platform", _platform(case)),
            ],
            input="".join(f"{name}\n" for name in case.packages),
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


def _platform(case: Case) -> str:
    system = case.system
    if system.os == "windows":
        return "x86_64-pc-windows-msvc" if system.arch == "x86_64" else "aarch64-pc-windows-msvc"
    if system.os == "macos":
        return "aarch64-apple-darwin" if system.arch == "aarch64" else "x86_64-apple-darwin"
    minor = int((system.glibc or "2.28").split(".")[1])
    # uv knows these only: the highest that is not above the machine's own.
    known = [28, *range(31, 41)]
    return f"{system.arch}-manylinux_2_{max((item for item in known if item <= minor), default=17)}"


def choice_in(text: str, case: Case) -> Choice | None:
    """The torch that uv names; its backend is its local version, else that of the index it is from."""
    found = _LINE.search(text)
    if found is None:
        return None
    version, local = found[1], found[2]
    if local:
        return Choice(version, local)
    source = _FROM.search(text)
    if source and (match := re.search(r"/whl/([^/\s]+)", source[1])):
        return Choice(version, match[1])
    release = release_of(version)
    return Choice(version, (release.pypi.get(case.system.platform) if release else None) or "cpu")
