"""Verifying: stand-ins for torch in a real environment, each wrong in one way."""

from __future__ import annotations

import io
import json
import shutil
import textwrap
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.installing import Place, a_plan, an_environment, here, pin
from tests.support.wheelhouse import TinyWheel, torch_wheel, wheel
from torchinstall.catalog.catalog import load_catalog
from torchinstall.core.machine import Vendor
from torchinstall.core.plan import GpuVerdict
from torchinstall.install.verify import (
    Check,
    Checklist,
    Report,
    checklist_of,
    failure,
    report_to_json,
    verify,
)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Place:
    root = tmp_path_factory.mktemp("verify")
    return here(root / "env", an_environment(root))


Fill = Callable[..., None]


@pytest.fixture
def fill(environment: Place) -> Iterator[Fill]:
    """Unpack wheels into the environment; they are gone after the test."""
    site = Path(environment.ask().site_packages[0])
    before = set(site.iterdir())

    def unpack(*wheels: TinyWheel) -> None:
        for item in wheels:
            with zipfile.ZipFile(io.BytesIO(item.content())) as archive:
                archive.extractall(site)

    yield unpack
    for path in set(site.iterdir()) - before:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def look(place: Place, wanted: Checklist, timeout: float = 30.0) -> Report:
    return verify(place.python, wanted, env=place.env, timeout=timeout)


def with_code(code: str, version: str = "2.9.1+cu128") -> TinyWheel:
    """The tiny torch, and then this code."""
    base = str(torch_wheel(version, "py3-none-any").files["torch/__init__.py"])
    return torch_wheel(
        version,
        "py3-none-any",
        files={"torch/__init__.py": base + textwrap.dedent(code)},
    )


def a_gpu(*, capability: tuple[int, int] = (8, 6), listed: str = "sm_80 sm_90", product: str = "") -> str:
    """Code for a torch that sees one CUDA device."""
    return f"""
    class Device(_Absent):
        is_available = staticmethod(lambda: True)
        device_count = staticmethod(lambda: 1)
        get_device_capability = staticmethod(lambda index: {capability})
        get_arch_list = staticmethod(lambda: {listed.split()})
    cuda = Device()
    _to = Tensor.to
    def to(self, where="cpu", *_, **__):
        {product or "return self"}
    Tensor.to = to
    """


CUDA = Checklist(packages={"torch": "2.9.1+cu128"}, toolkit={"cuda": "12.8", "hip": "none"}, device="cuda")
CPU = Checklist(packages={"torch": "2.9.1+cpu"}, toolkit={"cuda": "none", "hip": "none"})


def test_a_cpu_build_that_computes(environment: Place, fill: Fill) -> None:
    fill(torch_wheel("2.9.1+cpu", "py3-none-any"))

    report = look(environment, CPU)

    assert report.ok
    assert [check.name for check in report.checks] == [
        "import-torch",
        "torch-origin",
        "version-torch",
        "torch-files",
        "toolkit-cuda",
        "toolkit-hip",
        "matrix-product-cpu",
    ]
    assert json.loads(json.dumps(report_to_json(report)))["ok"] is True


def test_local_versions_that_name_no_backend_are_not_compared(environment: Place, fill: Fill) -> None:
    """Of builds that somebody made himself, each has a commit of its own."""
    vision = wheel("torchvision", "0.24.0a0+094e7af5", requires=("torch",))
    fill(torch_wheel("2.9.0a0+145a3a7bda.nv25.10", "py3-none-any"), vision)

    report = look(environment, Checklist())

    assert report.ok, report.failed
    assert report.computes


def test_a_gpu_build_on_a_gpu(environment: Place, fill: Fill) -> None:
    fill(with_code(a_gpu()))

    report = look(environment, CUDA)

    assert report.ok, report
    assert {"device-cuda", "code-cuda-0", "matrix-product-cuda-0"} <= {check.name for check in report.checks}


@pytest.mark.parametrize(
    ("torch", "wanted", "failed", "slug", "blames"),
    [
        (None, CPU, "import-torch", "import-failed", False),
        (with_code("import libnothing", "2.9.1+cpu"), CPU, "import-torch", "import-failed", False),
        (with_code("raise SystemExit(3)", "2.9.1+cpu"), CPU, "import-torch", "verify-crashed", False),
        (with_code("import os; os.abort()", "2.9.1+cpu"), CPU, "import-torch", "verify-crashed", False),
        (torch_wheel("2.9.0+cpu", "py3-none-any"), CPU, "version-torch", "wrong-build-installed", False),
        (
            torch_wheel("2.9.1+cpu", "py3-none-any", cuda="12.8"),
            CPU,
            "toolkit-cuda",
            "wrong-build-installed",
            False,
        ),
        (with_code("__version__ = '2.8.0'", "2.9.1+cpu"), CPU, "torch-files", "wrong-build-installed", False),
        (
            with_code("del Tensor.__matmul__", "2.9.1+cpu"),
            CPU,
            "matrix-product-cpu",
            "cpu-does-not-compute",
            False,
        ),
        (
            with_code("Tensor.__matmul__ = lambda a, b: a", "2.9.1+cpu"),
            CPU,
            "matrix-product-cpu",
            "cpu-does-not-compute",
            False,
        ),
        (torch_wheel("2.9.1+cu128", "py3-none-any"), CUDA, "device-cuda", "gpu-does-not-compute", True),
        (
            with_code(
                "class D(_Absent):\n  def init(self): raise RuntimeError('driver too old')\ncuda = D()\n"
            ),
            CUDA,
            "device-cuda",
            "gpu-does-not-compute",
            True,
        ),
        (with_code(a_gpu(capability=(12, 0))), CUDA, "code-cuda-0", "gpu-does-not-compute", True),
        (with_code(a_gpu(capability=(7, 5))), CUDA, "code-cuda-0", "gpu-does-not-compute", True),
        (
            with_code(
                a_gpu(product="if where != 'cpu': raise RuntimeError('no kernel image')\n        return self")
            ),
            CUDA,
            "matrix-product-cuda-0",
            "gpu-does-not-compute",
            True,
        ),
        (
            with_code(a_gpu(product="return self if where == 'cpu' else self * 2")),
            CUDA,
            "matrix-product-cuda-0",
            "gpu-does-not-compute",
            True,
        ),
        (
            with_code(
                a_gpu(product="if where != 'cpu': import os; os.kill(os.getpid(), 11)\n        return self")
            ),
            CUDA,
            "matrix-product-cuda-0",
            "verify-crashed",
            True,
        ),
    ],
)
def test_what_is_wrong_is_named(
    environment: Place,
    fill: Fill,
    torch: TinyWheel | None,
    wanted: Checklist,
    failed: str,
    slug: str,
    blames: bool,
) -> None:
    if torch is not None:
        fill(torch)

    report = look(environment, wanted)

    assert not report.ok
    assert report.failed[0].name == failed, report
    error = failure(report)
    assert (error.slug, error.exit_code) == (slug, 7)
    assert error.hints
    assert report.blames_build is blames


@pytest.mark.parametrize(
    ("found", "detail", "backend"),
    [
        ("ended by SIGABRT", "rocBLAS error: Cannot read /x/TensileLibrary.dat: Illegal seek", True),
        ("ended by SIGILL", "", True),
        ("exit status 3221225477 (0xC0000005)", "", True),
        ("RuntimeError: HIP error: device kernel image is invalid", "", True),
        ("RuntimeError: hipErrorInvalidImage", "", True),
        ("RuntimeError: CUDA out of memory", "", False),
        ("nothing", "no kernel image is available for execution on the device", False),
    ],
)
def test_a_library_at_fault_blames_the_backend(found: str, detail: str, *, backend: bool) -> None:
    check = Check(name="matrix-product-cuda-0", ok=False, wanted="a product", found=found, detail=detail)
    assert Report(ok=False, checks=(check,)).blames_backend is backend


def test_a_hang_is_a_failed_check(environment: Place, fill: Fill) -> None:
    fill(with_code("import time; time.sleep(60)", "2.9.1+cpu"))

    report = look(environment, CPU, timeout=1.0)

    assert [check.name for check in report.failed] == ["import-torch"]
    assert "within 1 s" in report.failed[0].found


def test_noise_on_stdout_does_no_harm(environment: Place, fill: Fill) -> None:
    fill(with_code("print('warning: @torchinstall@', end='')", "2.9.1+cpu"))

    assert look(environment, CPU).ok


def test_the_current_folder_and_pythonpath_do_not_shadow(
    environment: Place, fill: Fill, tmp_path: Path
) -> None:
    fill(torch_wheel("2.9.1+cpu", "py3-none-any"))
    (tmp_path / "torch.py").write_text("raise RuntimeError('shadow')\n")

    report = verify(environment.python, CPU, env={**environment.env, "PYTHONPATH": str(tmp_path)})

    assert report.ok


@pytest.mark.parametrize(
    ("vision", "failed"),
    [
        (wheel("torchvision", "0.24.1+cpu", requires=("torch==2.9.1",)), []),
        (wheel("torchvision", "0.24.1", requires=("torch (==2.9.1)",)), []),
        (wheel("torchvision", "0.23.0+cpu", requires=("torch==2.8.0",)), ["torchvision-pins-torch"]),
        (wheel("torchvision", "0.24.1+cu128", requires=("torch==2.9.1",)), ["torchvision-build"]),
        (
            wheel("torchvision", "0.24.1+cpu", files={"torchvision/__init__.py": "import torch.nothing\n"}),
            ["import-torchvision"],
        ),
        (
            wheel(
                "torchvision",
                "0.24.1+cpu",
                files={
                    "torchvision/__init__.py": "from torchvision import ops\n",
                    "torchvision/ops.py": "def nms(*_):\n    raise RuntimeError('no such operator')\n",
                },
            ),
            ["nms-cpu"],
        ),
    ],
)
def test_companions_fit_torch(environment: Place, fill: Fill, vision: TinyWheel, failed: list[str]) -> None:
    fill(torch_wheel("2.9.1+cpu", "py3-none-any"), vision)

    assert [check.name for check in look(environment, CPU).failed] == failed


def test_a_companion_of_the_plan_that_is_missing(environment: Place, fill: Fill) -> None:
    fill(torch_wheel("2.9.1+cpu", "py3-none-any"))
    wanted = Checklist(packages={"torch": "2.9.1+cpu", "torchvision": "0.24.1+cpu"})

    failed = [check.name for check in look(environment, wanted).failed]

    assert failed == ["import-torchvision", "version-torchvision"]


@pytest.mark.parametrize(
    ("backend", "vendor", "toolkit", "device"),
    [
        ("cu128", "nvidia", {"cuda": "12.8", "hip": "none"}, "cuda"),
        ("cu92", "nvidia", {"cuda": "9.2", "hip": "none"}, "cuda"),
        ("rocm6.4", "amd", {"cuda": "none", "hip": "6.4"}, "cuda"),
        ("xpu", "intel", {"cuda": "none", "hip": "none", "xpu": "any"}, "xpu"),
        ("cpu", None, {"cuda": "none", "hip": "none"}, None),
        ("cu128", "amd", {"cuda": "12.8", "hip": "none"}, None),
        ("cpu", "apple", {"cuda": "none", "hip": "none"}, "mps"),
    ],
)
def test_what_a_plan_promises(
    backend: str, vendor: Vendor | None, toolkit: dict[str, str], device: str | None
) -> None:
    gpus = (GpuVerdict(vendor=vendor, index=0, name=None, covered=True, by=""),) if vendor else ()
    plan = a_plan(pin("torch", "2.9.1"), pin("triton", None), backend=backend, gpus=gpus)

    wanted = checklist_of(plan, load_catalog().backend(backend), described=False)

    assert (dict(wanted.toolkit), wanted.device) == (toolkit, device)
    assert wanted.packages == {"torch": "2.9.1"}
