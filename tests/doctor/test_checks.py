"""Each check finds its fault, says what to type, and is silent where all is well."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from tests.doctor.environments import ADA, dist, environment, healthy, project
from tests.support.planning import amd, decide, linux, nvidia, windows
from torchinstall.core.machine import Finding, Machine
from torchinstall.core.messages import Message
from torchinstall.doctor.checks import CHECKS, examine
from torchinstall.doctor.model import Diagnosis, Environment, Project, Surroundings, family_requirements
from torchinstall.install.interpreter import Inventory
from torchinstall.install.record import decision_of
from torchinstall.install.verify import Check, Report

GIB = 2**30
DOCS = Path(__file__).parents[2] / "docs" / "reference" / "doctor.md"


def around(**values: Any) -> Surroundings:
    return Surroundings(**values)


def system_cuda(*names: str) -> Surroundings:
    """`LD_LIBRARY_PATH` with libraries, where the wheels bring those of CUDA 12."""
    own = frozenset({"libnvJitLink.so.12", "libcublas.so.12"})
    return around(libraries=(("/usr/local/cuda/lib64", names),), own_libraries=own)


def with_inventory(base: Environment, **values: Any) -> Environment:
    return structs.replace(base, inventory=structs.replace(base.inventory, **values))


def told(slug: str, detail: str, machine: Machine = ADA) -> Machine:
    """A machine with a finding about the host."""
    return structs.replace(
        machine, findings=(Finding(probe="host", status="found", slug=slug, detail=detail),)
    )


def torch_only(version: str, backend: str) -> tuple[tuple[str, str, str | None], ...]:
    return (("torch", version, backend),)


def stored(*packages: tuple[str, str], machine: Any = ADA, backend: str | None = None) -> Any:
    plan = decide(machine, "torch", **({} if backend is None else {"backend": backend}))
    made = decision_of(plan, machine, made_at="2026-11-01T10:00:00+00:00", uv="0.13.9")
    return structs.replace(made, packages=dict(packages))


def failed(name: str, found: str, detail: str = "") -> Report:
    return Report(
        ok=False, checks=(Check(name=name, ok=False, wanted="it works", found=found, detail=detail),)
    )


OLD_DRIVER = linux(nvidia("NVIDIA GeForce RTX 4090", "8.9"), driver="535.129.03")
PASCAL = linux(nvidia("NVIDIA GeForce GTX 1080 Ti", "6.1"), driver="580.95.05")
TWO = linux(
    nvidia("NVIDIA GeForce RTX 5090", "12.0", 0),
    nvidia("NVIDIA GeForce GTX 1080 Ti", "6.1", 1),
    driver="580.95.05",
)
COMPAT = Finding(
    probe="nvidia", status="overridden", detail="compat", source="/opt/compat", slug="cuda-compat"
)
CHANGES = {"torch": "2.9.1", "six": "1.0"}
ROUTED = """
[project]
name = "demo"
dependencies = ["torch"]

[tool.uv]
sources = { torch = { index = "cu128" } }
index = [{ name = "cu128", url = "https://download.pytorch.org/whl/cu128", explicit = true }]
"""

FAULTY: list[tuple[str, str, Callable[[], Environment], str]] = [
    # slug, severity, environment, part of the command
    ("torch-missing", "error", lambda: environment(installed=()), "torchinstall auto"),
    (
        "cpu-build-on-gpu-machine",
        "error",
        lambda: environment(installed=torch_only("2.9.1+cpu", "cpu")),
        "torchinstall auto torch==2.9.1",
    ),
    (
        "cpu-build-on-gpu-machine",
        "info",
        lambda: environment(
            installed=torch_only("2.9.1+cpu", "cpu"), decision=stored(("torch", "2.9.1+cpu"), backend="cpu")
        ),
        "torchinstall auto",
    ),
    (
        "driver-too-old",
        "error",
        lambda: environment(OLD_DRIVER, torch_only("2.14.0+cu132", "cu132")),
        "torchinstall auto torch==2.14.0",
    ),
    (
        "no-code-for-gpu",
        "error",
        lambda: environment(PASCAL, torch_only("2.9.1+cu128", "cu128")),
        "torchinstall auto torch==2.9.1",
    ),
    (
        "no-gpu-of-vendor",
        "info",
        lambda: environment(linux(), torch_only("2.9.1+cu128", "cu128")),
        "torchinstall auto",
    ),
    (
        "some-gpus-without-code",
        "warning",
        lambda: environment(TWO, torch_only("2.9.1+cu128", "cu128")),
        "torchinstall plan",
    ),
    (
        "mixed-backends",
        "error",
        lambda: environment(
            installed=(("torch", "2.9.1+cu128", "cu128"), ("torchvision", "0.24.1+cpu", "cpu"))
        ),
        "torchinstall auto torch==2.9.1 torchvision",
    ),
    (
        "mixed-releases",
        "error",
        lambda: environment(
            installed=(("torch", "2.9.1+cu128", "cu128"), ("torchvision", "0.23.0+cu128", "cu128"))
        ),
        "torchinstall auto torch==2.9.1 torchvision",
    ),
    (
        "replaced-since",
        "warning",
        lambda: healthy(decision=stored(("torch", "2.8.0+cu126"))),
        "torch==2.8.0",
    ),
    (
        "decided-for-another-machine",
        "info",
        lambda: healthy(decision=stored(("torch", "2.9.1+cu128"), machine=PASCAL)),
        "torchinstall auto",
    ),
    (
        "interrupted-install",
        "error",
        lambda: healthy(unfinished=Message("interrupted-install", "a run was killed")),
        "torchinstall doctor --fix",
    ),
    (
        "environment-busy",
        "warning",
        lambda: healthy(unfinished=Message("environment-busy", "a run is at work")),
        "",
    ),
    (
        "installed-twice",
        "error",
        lambda: healthy(dist("torch", "2.8.0+cpu")),
        "torchinstall auto torch==2.9.1 torchvision -- --reinstall-package torch",
    ),
    (
        "installed-twice",
        "warning",
        lambda: with_inventory(healthy(), user_torch="/home/me/.local/lib/python3.12/site-packages/torch"),
        "pip uninstall torch",
    ),
    (
        "damaged-files",
        "error",
        lambda: environment(dists=(dist("torch", "2.9.1+cu128", missing=("torch/lib/libtorch_cuda.so",)),)),
        "torchinstall auto torch==2.9.1 torchvision -- --reinstall-package torch",
    ),
    (
        "damaged-files",
        "error",
        lambda: healthy(dist("nvidia-cudnn-cu12", "9.10.2.21", altered=("nvidia/cudnn/lib/libcudnn.so.9",))),
        "--reinstall-package nvidia-cudnn-cu12 --no-deps nvidia-cudnn-cu12==9.10.2.21",
    ),
    (
        "missing-dependency",
        "error",
        lambda: environment(
            installed=torch_only("2.9.1+cu128", "cu128"),
            dists=(dist("torch", "2.9.1+cu128", "nvidia-cublas-cu12==12.8.4.1; sys_platform == 'linux'"),),
        ),
        "uv pip install --python /venv/bin/python nvidia-cublas-cu12==12.8.4.1",
    ),
    (
        "triton-missing",
        "warning",
        lambda: environment(
            installed=torch_only("2.9.1+cu128", "cu128"),
            dists=(dist("torch", "2.9.1+cu128", "triton==3.5.1"),),
        ),
        "triton==3.5.1",
    ),
    (
        "triton-missing",
        "info",
        lambda: environment(
            windows(nvidia("NVIDIA GeForce RTX 4090", "8.9"), driver="580.95"),
            torch_only("2.9.1+cu128", "cu128"),
        ),
        "triton-windows",
    ),
    (
        "built-for-other-torch",
        "error",
        lambda: healthy(dist("xformers", "0.0.32", built_for={"torch": "2.8.0+cu128", "cuda": "1208"})),
        "xformers",
    ),
    (
        "built-for-other-torch",
        "error",
        lambda: healthy(dist("flash-attn", "2.8.3+cu12torch2.8cxx11abiTRUE", built_for={"torch": "2.8"})),
        "flash-attn",
    ),
    (
        "built-for-other-torch",
        "error",
        lambda: healthy(dist("bitsandbytes", "0.45.0", built_for={"cuda": "118,121,124"})),
        "bitsandbytes",
    ),
    (
        "built-for-other-torch",
        "error",
        lambda: healthy(dist("some-kernels", "1.0", "torch<2.8")),
        "some-kernels",
    ),
    (
        "shadowed-package",
        "error",
        lambda: healthy(surroundings=around(shadows=("/home/me/torch.py",))),
        "mv /home/me/torch.py /home/me/my_torch.py",
    ),
    (
        "system-cuda-first",
        "error",
        lambda: healthy(surroundings=system_cuda("libnvJitLink.so.12")),
        "unset LD_LIBRARY_PATH",
    ),
    (
        "system-cuda-first",
        "info",  # another major version has other names
        lambda: healthy(surroundings=system_cuda("libcublas.so.11")),
        "unset LD_LIBRARY_PATH",
    ),
    (
        "compat-on-consumer-gpu",
        "error",
        lambda: environment(structs.replace(ADA, findings=(COMPAT,))),
        "unset LD_LIBRARY_PATH",
    ),
    (
        "unreadable-hardware",
        "error",
        lambda: environment(
            linux(
                findings=(
                    Finding(
                        probe="nvidia",
                        status="broken",
                        detail="the driver and its library have different versions",
                        slug="driver-library-mismatch",
                        hint="sudo reboot",
                    ),
                )
            ),
            torch_only("2.9.1+cpu", "cpu"),
        ),
        "sudo reboot",
    ),
    (
        "unreadable-hardware",
        "error",
        lambda: environment(
            linux(
                amd("gfx1100"),
                findings=(
                    Finding(
                        probe="amd",
                        status="denied",
                        detail="/dev/kfd may not be opened",
                        hint="sudo usermod -aG render $USER",
                    ),
                ),
            ),
            torch_only("2.9.1+cpu", "cpu"),
        ),
        "usermod -aG render",
    ),
    (
        "does-not-compute",
        "error",
        lambda: healthy(
            report=failed("import-torch", "ImportError: libfoo.so: cannot open shared object file")
        ),
        "torchinstall auto torch==2.9.1 torchvision -- --reinstall-package torch",
    ),
    (
        "project-would-undo",
        "error",
        lambda: healthy(surroundings=around(project=Project(root="/home/me", changes=CHANGES))),
        "torchinstall configure",
    ),
    (
        "project-would-undo",
        "error",
        lambda: healthy(
            surroundings=around(
                project=Project(root="/home/me", files={"pyproject.toml": ROUTED}, changes=CHANGES)
            )
        ),
        "torchinstall sync",
    ),
    (
        "project-would-undo",
        "warning",
        lambda: healthy(surroundings=around(project=Project(root="/home/me", changes={"torch": None}))),
        "torchinstall configure",
    ),
    (
        "project-choice",
        "warning",
        lambda: healthy(
            surroundings=around(project=Project(root="/home/me", changes={}, choice=("--extra", "cu128")))
        ),
        "torchinstall sync",
    ),
    (
        "torch-backend-ignored",
        "warning",
        lambda: healthy(
            surroundings=around(
                project=project(pyproject="[project]\nname='x'\n[tool.uv.pip]\ntorch-backend='auto'")
            )
        ),
        "torchinstall configure",
    ),
    (
        "unsafe-index-strategy",
        "warning",
        lambda: healthy(surroundings=around(project=project(uv="index-strategy = 'unsafe-best-match'"))),
        "torchinstall configure",
    ),
    (
        "index-not-explicit",
        "warning",
        lambda: healthy(
            surroundings=around(
                project=project(
                    pyproject="[[tool.uv.index]]\nname='pt'\nurl='https://mirror.example/whl/cu128'\n"
                    "[[tool.uv.index]]\nname='ok'\nurl='https://download.pytorch.org/whl/cpu'\nexplicit=true"
                )
            )
        ),
        "torchinstall configure",
    ),
    (
        "source-without-dependency",
        "warning",
        lambda: healthy(
            surroundings=around(
                project=project(
                    pyproject="[project]\nname='x'\nversion='1'\ndependencies=['transformers']\n"
                    "[tool.uv.sources]\ntorch={index='pt'}"
                )
            )
        ),
        "uv add torch",
    ),
    (
        "leftover-folders",
        "warning",
        lambda: with_inventory(healthy(), leftovers=("/venv/lib/python3.12/site-packages/~orch",)),
        "rm -r '/venv/lib/python3.12/site-packages/~orch'",
    ),
    (
        "mixed-cuda-packages",
        "warning",
        lambda: healthy(dist("nvidia-cublas-cu13", "13.0.0")),
        "uv pip uninstall --python /venv/bin/python nvidia-cublas-cu13",
    ),
    (
        "wrong-interpreter",
        "warning",
        lambda: healthy(surroundings=around(env={"VIRTUAL_ENV": "/venv"}, path_python="/usr/bin/python")),
        "source /venv/bin/activate",
    ),
    (
        "hsa-override",
        "warning",
        lambda: environment(told("hsa-override", "it makes ROCm treat the GPU as another one")),
        "unset HSA_OVERRIDE_GFX_VERSION",
    ),
    (
        "gpus-hidden",
        "info",
        lambda: healthy(surroundings=around(env={"CUDA_VISIBLE_DEVICES": "-1"})),
        "unset CUDA_VISIBLE_DEVICES",
    ),
    (
        "low-disk",
        "warning",
        lambda: environment(told("low-disk", "only 3.0 GiB are free"), torch_only("2.9.1+cpu", "cpu")),
        "uv cache prune",
    ),
    (
        "low-memory",
        "warning",
        lambda: environment(structs.replace(ADA, memory_bytes=GIB)),
        "--backend cpu",
    ),
    (
        "separate-file-systems",
        "info",
        lambda: environment(told("separate-file-systems", "two disks")),
        "UV_LINK_MODE=copy",
    ),
    ("long-paths-disabled", "warning", lambda: _deep_windows(), "uv venv"),
    (
        "vc-runtime-missing",
        "warning",
        lambda: environment(told("vc-runtime-missing", "it is missing")),
        "winget",
    ),
    ("vc-runtime-old", "warning", lambda: environment(told("vc-runtime-old", "it is 14.30")), "winget"),
]


def _deep_windows() -> Environment:
    base = environment(told("long-paths-disabled", "260", windows()), torch_only("2.9.1+cpu", "cpu"))
    return structs.replace(base, target=structs.replace(base.target, prefix="C:\\Users\\" + "deep\\" * 20))


def of_slug(found: tuple[Diagnosis, ...], slug: str) -> Diagnosis:
    hits = [item for item in found if item.slug == slug]
    assert hits, f"{slug} was not found, only {[item.slug for item in found]}"
    return hits[0]


@pytest.mark.parametrize(
    ("slug", "severity", "make", "command"), FAULTY, ids=[f"{i}-{row[0]}" for i, row in enumerate(FAULTY)]
)
def test_names_the_fault_and_what_to_type(
    slug: str, severity: str, make: Callable[[], Environment], command: str
) -> None:
    item = of_slug(examine(make()), slug)
    assert item.severity == severity
    assert command in " ; ".join(remedy.command for remedy in item.remedies)
    assert item.evidence
    assert not item.message.endswith(".")
    assert "\n" not in item.message


def test_nothing_is_wrong_with_a_healthy_environment() -> None:
    assert examine(healthy()) == ()


def test_healthy_with_everything_around_it() -> None:
    """Files, variables and packages that are all as they should be."""
    good = healthy(
        dist("xformers", "0.0.33", "torch==2.9.1", built_for={"torch": "2.9.1+cu128"}),
        dist("flash-attn", "2.8.3+cu12torch2.9cxx11abiTRUE", built_for={"torch": "2.9", "cuda": "12"}),
        dist("bitsandbytes", "0.48", built_for={"cuda": "118,126,128,129"}),
        surroundings=around(
            env={"VIRTUAL_ENV": "/venv", "CUDA_VISIBLE_DEVICES": "0"},
            path_python="/venv/bin/python",
            project=Project(
                root="/home/me",
                files={
                    "pyproject.toml": "[project]\nname='x'\ndependencies=['torch']\n"
                    "[tool.uv.sources]\ntorch={index='pt'}\n[[tool.uv.index]]\nname='pt'\n"
                    "url='https://download.pytorch.org/whl/cu128'\nexplicit=true\n",
                    "requirements.txt": "--index-url https://pypi.example/simple\nsix\n",
                },
                changes={"six": "1.17.0"},
            ),
        ),
        decision=stored(("torch", "2.9.1+cu128"), ("torchvision", "0.24.1+cu128")),
        report=Report(ok=True, checks=(Check(name="import-torch", ok=True, wanted="x", found="x"),)),
    )
    assert examine(good) == ()


def test_every_check_is_shown_by_a_scene_and_every_slug_is_explained_in_the_reference() -> None:
    scenes = [make() for _, _, make, _ in FAULTY]
    silent = {check.__name__ for check in CHECKS if not any(list(check(scene)) for scene in scenes)}
    assert silent == set()
    slugs = {item.slug for scene in scenes for item in examine(scene)} | {row[0] for row in FAULTY}
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", slug) for slug in slugs)
    explained = set(re.findall(r"^\| `([a-z][a-z-]+)` \|", DOCS.read_text(encoding="utf-8"), re.MULTILINE))
    assert explained == slugs


def test_errors_come_first() -> None:
    found = examine(
        with_inventory(environment(installed=torch_only("2.9.1+cpu", "cpu")), leftovers=("/venv/~orch",))
    )
    assert [item.severity for item in found] == ["error", "warning"]


def test_no_build_of_the_pinned_release_asks_for_torch_by_name() -> None:
    """Torch 2.15 has no build for Pascal: pinning it again would end in exit 3."""
    old = environment(PASCAL, torch_only("2.15.0+cu130", "cu130"))
    item = of_slug(examine(old), "no-code-for-gpu")
    assert item.remedies[0].command == "torchinstall auto torch"


def test_what_only_another_backend_has_is_not_asked_for() -> None:
    """A ROCm build on an NVIDIA machine: its Triton is not published for CUDA, and torch brings its own."""
    rocm = (
        ("torch", "2.9.1+rocm6.4", "rocm6.4"),
        ("torchvision", "0.24.1+rocm6.4", "rocm6.4"),
        ("pytorch-triton-rocm", "3.5.1", None),
    )
    seen = environment(installed=rocm)
    assert family_requirements(seen) == ("torch==2.9.1", "torchvision")


def test_commands_repeat_where_the_doctor_looked() -> None:
    item = of_slug(examine(environment(installed=(), flags=("--venv", "/my env"))), "torch-missing")
    assert item.remedies[0].command == "torchinstall auto --venv '/my env'"
    assert item.remedies[0].argv == ("torchinstall", "auto", "--venv", "/my env")
    left = Message("interrupted-install", "a run was killed")
    killed = healthy(flags=("--venv", "/my env"), unfinished=left)
    item = of_slug(examine(killed), "interrupted-install")
    assert item.remedies[0].command == "torchinstall doctor --venv '/my env' --fix"


def test_failure_with_known_words_names_the_cause() -> None:
    text = "undefined symbol: __nvJitLinkComplete_12_4, version libnvJitLink.so.12"
    item = of_slug(
        examine(healthy(report=failed("import-torch", f"ImportError: {text}"))), "does-not-compute"
    )
    assert "LD_LIBRARY_PATH" in item.message
    assert item.remedies[0].command == "unset LD_LIBRARY_PATH"


def test_a_torch_that_is_imported_from_elsewhere_is_not_reinstalled() -> None:
    """What else fails is of that torch, too."""
    origin, files = failed("torch-origin", "/old/torch/__init__.py"), failed("torch-files", "1.0")
    report = structs.replace(origin, checks=(*origin.checks, *files.checks))
    (item,) = examine(healthy(report=report))
    assert item.remedies == ()
    assert ".pth" in str(item.advice)


def test_the_command_of_a_cause_goes_to_the_environment_that_was_examined() -> None:
    text = "ImportError: numpy.core.multiarray failed to import"
    where = 'File "/venv/lib/python3.12/site-packages/torch/storage.py", line 27'
    item = of_slug(examine(healthy(report=failed("import-torch", text, where))), "does-not-compute")
    assert item.remedies[0].command == 'uv pip install --python /venv/bin/python "numpy<2"'


def test_libraries_that_something_asks_for_are_not_removed() -> None:
    found = examine(healthy(dist("nvidia-cublas-cu13", "13.0"), dist("vllm", "1.0", "nvidia-cublas-cu13")))
    item = of_slug(found, "mixed-cuda-packages")
    assert item.severity == "info"
    assert item.remedies == ()


def cudnn(of: str, **state: Any) -> Any:
    return dist(f"nvidia-cudnn-{of}", "9.10", **state)


@pytest.mark.parametrize(
    ("twelve", "eleven", "severity"),
    [
        (cudnn("cu12", altered=("nvidia/cudnn/lib/libcudnn.so.9",)), cudnn("cu11"), "error"),
        (cudnn("cu12"), cudnn("cu11", altered=("nvidia/cudnn/lib/libcudnn.so.9",)), "warning"),
    ],
)
def test_libraries_in_one_place_are_removed_and_written_again(
    twelve: Any, eleven: Any, severity: str
) -> None:
    """To write only the damaged one again would damage the other, and to remove one takes files of both."""
    asks = dist("asks", "1", "nvidia-cudnn-cu12")
    (item,) = examine(healthy(asks, twelve, eleven))
    assert (item.slug, item.severity) == ("mixed-cuda-packages", severity)
    assert [remedy.command.partition(" --python /venv/bin/python ")[2] for remedy in item.remedies] == [
        "nvidia-cudnn-cu11",
        "--reinstall-package nvidia-cudnn-cu12 --no-deps nvidia-cudnn-cu12==9.10",
    ]


TORCH, VISION = ("torch", "2.9.1+cu128", "cu128"), ("torchvision", "0.24.1+cu128", "cu128")


@pytest.mark.parametrize(
    ("make", "slugs", "command"),
    [
        # Of a torchvision for another torch its own metadata says the same.
        (
            lambda: environment(
                installed=(TORCH, ("torchvision", "0.23.0+cu128", "cu128")),
                dists=(dist("torch", "2.9.1+cu128"), dist("torchvision", "0.23.0+cu128", "torch==2.8.0")),
                report=failed("torchvision-pins-torch", "torch 2.9.1+cu128"),
            ),
            ["mixed-releases"],
            "torchinstall auto torch==2.9.1 torchvision",
        ),
        (
            lambda: environment(
                installed=(TORCH, ("torchvision", "0.24.1+cpu", "cpu")),
                report=failed("torchvision-build", "+cpu"),
            ),
            ["mixed-backends"],
            "torchinstall auto torch==2.9.1 torchvision",
        ),
        # Nobody knows which of the two records its files are of.
        (
            lambda: environment(
                installed=(TORCH, ("torch", "2.8.0+cu126", "cu126"), VISION),
                dists=(
                    dist("torch", "2.8.0+cu126", altered=("torch/version.py",)),
                    dist("torch", "2.9.1+cu128"),
                    dist("torchvision", "0.24.1+cu128", "torch==2.9.1"),
                ),
            ),
            ["installed-twice"],
            "torchinstall auto torch==2.9.1 torchvision -- --reinstall-package torch",
        ),
        (
            lambda: environment(
                installed=(TORCH,), dists=(dist("torch", "2.9.1+cu128", "filelock", "sympy>=1.13", "jinja2"),)
            ),
            ["missing-dependency"],
            "uv pip install --python /venv/bin/python filelock 'sympy>=1.13' jinja2",
        ),
        # It was built for NumPy 1, which its metadata does not say.
        (
            lambda: environment(
                installed=(("torch", "2.2.2+cu121", "cu121"),),
                dists=(dist("torch", "2.2.2+cu121"), dist("numpy", "2.3.3")),
            ),
            ["missing-dependency"],
            "uv pip install --python /venv/bin/python 'numpy<2'",
        ),
        (
            lambda: environment(installed=(VISION,), dists=(dist("torchvision", "0.24.1", "torch==2.9.1"),)),
            ["torch-missing"],
            "torchinstall auto",
        ),
        # torch's own metadata names its Triton; `auto` does not take it by name.
        (
            lambda: environment(
                installed=(TORCH, ("triton", "3.4.0", None)),
                dists=(dist("torch", "2.9.1+cu128", "triton==3.5.1"), dist("triton", "3.4.0")),
            ),
            ["triton-missing"],
            "uv pip install --python /venv/bin/python triton==3.5.1",
        ),
        (
            lambda: environment(installed=(TORCH, ("torchao", "0.14.0", None))),
            ["mixed-releases"],
            "torchinstall auto torch==2.9.1 torchao==0.15.0",
        ),
        (
            lambda: environment(
                installed=(
                    ("torch", "2.15.0.dev20261101+cu130", "cu130"),
                    ("torchvision", "0.30.0.dev20261020+cu130", "cu130"),
                ),
                dists=(
                    dist("torch", "2.15.0.dev20261101+cu130"),
                    dist("torchvision", "0.30.0.dev20261020+cu130", "torch==2.15.0.dev20261020"),
                ),
            ),
            ["built-for-other-torch"],
            "torchinstall auto --channel nightly torch torchvision",
        ),
        (
            lambda: healthy(surroundings=around(on_path=("/ros/torch/__init__.py", "/ros/numpy.py"))),
            ["shadowed-package"],
            "unset PYTHONPATH",
        ),
    ],
)
def test_one_cause_is_one_finding_with_one_command(
    make: Callable[[], Environment], slugs: list[str], command: str
) -> None:
    found = examine(make())
    assert [item.slug for item in found] == slugs
    assert [remedy.command for remedy in found[0].remedies] == [command]


def test_what_fails_may_be_the_effect_of_another_fault() -> None:
    found = examine(
        structs.replace(
            environment(dists=(dist("torch", "2.9.1+cu128", missing=("torch/__init__.py",)),)),
            report=failed("import-torch", "ModuleNotFoundError: No module named 'torch'"),
        )
    )
    assert [item.slug for item in found] == ["damaged-files", "does-not-compute"]
    assert found[1].message == "the check import-torch failed"
    assert found[1].remedies == ()


@pytest.mark.parametrize(
    "version", ["2.9.0a0+145a3a7bda.nv25.10", "2.9.0a0+git1234567", "2.5.0a0+872d972e41.nv24.08"]
)
def test_a_build_of_somebody_else_is_not_held_against_the_tables(version: str) -> None:
    """They know PyTorch's own builds; which GPUs this one has code for, only its maker knows."""
    seen = environment(PASCAL, (("torch", version, "cu130"), ("torchvision", "0.24.0a0+094e7af5", None)))
    assert examine(seen) == ()


def test_replacing_what_someone_replaced_is_not_done_by_itself() -> None:
    item = of_slug(examine(healthy(decision=stored(("torch", "2.8.0+cu126")))), "replaced-since")
    assert not any(remedy.safe for remedy in item.remedies)


def test_one_lost_gpu_beside_others_that_work_is_a_warning() -> None:
    lost = Finding(
        probe="nvidia", status="broken", detail="GPU 1 is lost", slug="gpu-lost", hint="sudo reboot"
    )
    item = of_slug(examine(environment(structs.replace(ADA, findings=(lost,)))), "unreadable-hardware")
    assert item.severity == "warning"


def test_unknown_build_is_left_alone() -> None:
    """A torch that somebody built has no backend that the tables know."""
    own = environment(installed=(("torch", "2.9.0a0+gitabc", None),))
    assert [item.slug for item in examine(own) if item.severity == "error"] == []


def test_empty_inventory_does_no_harm() -> None:
    bare = structs.replace(environment(installed=()), inventory=Inventory())
    assert [item.slug for item in examine(bare)] == ["torch-missing"]
