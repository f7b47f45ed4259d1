"""URLs of an index: building, belonging, showing."""

from __future__ import annotations

import pytest

from torchinstall.catalog.catalog import load_catalog
from torchinstall.core.errors import UsageError
from torchinstall.index.urls import (
    BACKEND_NAME,
    PyTorchIndex,
    check_secure,
    index_url,
    is_loopback,
    origin_of,
    page_url,
    pytorch_index,
    root_url,
)

BASE = "https://download.pytorch.org/whl"


@pytest.mark.parametrize(
    ("base", "channel", "url"),
    [
        (BASE, "stable", f"{BASE}/cu128"),
        (BASE, "nightly", f"{BASE}/nightly/cu128"),
        (BASE, "test", f"{BASE}/test/cu128"),
        (f" {BASE}/// ", "stable", f"{BASE}/cu128"),
        ("https://m.example/{backend}/simple//", "stable", "https://m.example/cu128/simple"),
        ("https://m.example/{channel}/{backend}", "nightly", "https://m.example/nightly/cu128"),
        ("https://m.example/{channel}/{backend}", "stable", "https://m.example/cu128"),
        ("https://m.example/{backend}/{channel}", "stable", "https://m.example/cu128"),
        ("https://u:p@m.example/whl", "stable", "https://u:p@m.example/whl/cu128"),
    ],
)
def test_index_url(base: str, channel: str, url: str) -> None:
    assert index_url(base, channel, "cu128") == url
    assert page_url(base, channel, "cu128", "torch") == f"{url}/torch/"


@pytest.mark.parametrize(
    ("base", "channel", "slug"),
    [
        ("", "stable", "bad-index-base"),
        ("mirror.example/whl", "stable", "bad-index-base"),
        ("file:///wheels", "stable", "bad-index-base"),
        ("https:///whl", "stable", "bad-index-base"),
        ("https://m.example:port/whl", "stable", "bad-index-base"),
        ("https://m.example/whl?token=x", "stable", "bad-index-base"),
        ("https://m.example/a b", "stable", "bad-index-base"),
        ("https://m.example/{torch}", "stable", "bad-index-base"),
        ("https://m.example/{channel}", "stable", "bad-index-base"),
        ("https://m.example/{backend}", "nightly", "index-template-without-channel"),
    ],
)
def test_bad_bases_are_usage_errors_with_a_way_on(base: str, channel: str, slug: str) -> None:
    with pytest.raises(UsageError) as caught:
        index_url(base, channel, "cu128")
    assert caught.value.slug == slug
    assert caught.value.hints
    assert "token=x" not in f"{caught.value.found}{caught.value.message}"


@pytest.mark.parametrize("name", ["../evil", "a/b", "", "a b", "%2e%2e", "?x"])
def test_a_name_cannot_change_the_url(name: str) -> None:
    with pytest.raises(UsageError):
        page_url(BASE, "stable", name, "torch")
    with pytest.raises(UsageError):
        page_url(BASE, "stable", "cu128", name)


def test_a_template_has_no_root_page() -> None:
    assert root_url("https://m.example/{backend}", "stable") is None
    assert root_url(BASE, "nightly") == f"{BASE}/nightly"


def test_http_is_for_this_machine_or_for_named_hosts() -> None:
    for fine in (
        "https://m.example/whl",
        "http://127.0.0.1:8080/whl",
        "http://[::1]/whl",
        "http://localhost/whl",
    ):
        check_secure(fine, ())
    check_secure("http://m.example/whl", ("m.example",))
    check_secure("http://m.example:8080/whl", ("m.example:8080",))
    for entry in ((), ("other.example",), ("m.example:81",), ("m.example:port",), ("example",)):
        with pytest.raises(UsageError) as caught:
            check_secure("http://m.example/whl", entry)
        assert caught.value.slug == "insecure-index"


@pytest.mark.parametrize("host", ["127.0.0.1.evil.example", "localhost.evil.example", "example", "10.0.0.1"])
def test_what_only_looks_like_this_machine_is_not(host: str) -> None:
    assert not is_loopback(host)


def test_an_origin_owns_only_itself() -> None:
    mirror = origin_of("https://m.example/whl")
    assert mirror.owns("https://M.example:443/x")
    assert not mirror.owns("http://m.example/x")
    assert not mirror.owns("https://m.example:444/x")
    assert not mirror.owns(f"{BASE}/x")
    assert not origin_of(BASE).owns("https://m.example/x")
    assert origin_of("http://m.example/whl").owns("https://m.example/x")


@pytest.mark.parametrize(
    ("url", "backend", "channel", "certain"),
    [
        (f"{BASE}/cu128", "cu128", "stable", True),
        (f"{BASE}/nightly/rocm7.14/", "rocm7.14", "nightly", True),
        (f"{BASE}/torch_stable.html", None, "stable", True),
        (BASE, None, "stable", True),
        ("http://download.pytorch.org/whl/cu118", "cu118", "stable", True),
        ("https://download-r2.pytorch.org/whl/test/cu128", "cu128", "test", True),
        ("https://user:pass@download.pytorch.org/whl/xpu", "xpu", "stable", True),
        (f"{BASE}/cpu/torch-2.9.1%2Bcpu-cp312-cp312-win_amd64.whl", "cpu", "stable", True),
        ("https://mirror.example/whl/cu128", "cu128", "stable", False),
        ("https://mirror.example/cu128/simple/", "cu128", "stable", False),
        ("https://mirror.example/team/cu128/+simple/", "cu128", "stable", False),
        ("https://mirror.example/cpu/torch_stable.html", "cpu", "stable", False),
        ("https://mirror.example/whl/torch_stable.html", None, "stable", False),
    ],
)
def test_an_index_of_pytorch_is_recognised(
    url: str, backend: str | None, channel: str, certain: bool
) -> None:
    assert pytorch_index(url) == PyTorchIndex(backend, channel, certain)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "https://index.example/simple",
        "https://download.pytorch.org.evil.example/whl/torch",
        "https://flashinfer.ai/whl/cu121/torch2.4",
        "https://data.pyg.org/whl/torch-2.8.0+cu128.html",
        "wheels/cu128",
        "file:///wheels/cu128",
        "https://[broken/whl/cu128",
    ],
)
def test_another_place_is_no_index_of_pytorch(url: str) -> None:
    assert pytorch_index(url) is None


@pytest.mark.parametrize(
    ("base", "inside", "outside"),
    [
        ("https://m.example/whl", "https://m.example/whl/cu128", "https://m.example/whl2/simple"),
        ("https://u:p@m.example/whl/", "https://m.example/whl", "https://m.example/pypi"),
        (
            "https://m.example/pytorch-{backend}/simple",
            "https://m.example/pytorch-cu128/simple",
            "https://m.example/pypi",
        ),
        (
            "https://m.example/{channel}/{backend}",
            "https://m.example/nightly/cu128",
            "https://m.example/pypi/a/b",
        ),
        ("https://m.example/{backend}/{channel}", "https://m.example/cu128", "https://m.example"),
    ],
)
def test_the_index_base_in_use_is_certain(base: str, inside: str, outside: str) -> None:
    found = pytorch_index(inside, index_base=base)
    assert found is not None
    assert found.certain
    assert found.backend == ("cu128" if "cu128" in inside else None)
    assert pytorch_index(outside, index_base=base) is None


def test_the_names_of_backends_are_those_of_the_tables() -> None:
    catalog = load_catalog()
    for name in (
        "cu102",
        "cu128",
        "cu1281",
        "rocm6.4",
        "rocm7.14",
        "rocm6.4.1",
        "cpu",
        "xpu",
        "tpu",
        "cu",
        "cu1",
    ):
        assert bool(BACKEND_NAME.fullmatch(name)) is (catalog.backend(name) is not None), name
