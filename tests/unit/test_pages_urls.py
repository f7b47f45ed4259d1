"""URLs of an index: building, belonging, showing."""

from __future__ import annotations

import pytest

from torchinstall.core.errors import UsageError
from torchinstall.index.urls import (
    check_secure,
    index_url,
    is_loopback,
    origin_of,
    page_url,
    redact,
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


def test_credentials_are_never_shown() -> None:
    assert redact("https://user:s3cret@m.example/whl?token=t") == "https://****@m.example/whl?…"
    assert redact("https://m.example/whl") == "https://m.example/whl"
    assert "s3cret" not in redact("https://user:s3c@ret@m.example/whl".replace("s3c@ret", "s3cret@x"))


def test_an_origin_owns_only_itself() -> None:
    mirror = origin_of("https://m.example/whl")
    assert mirror.owns("https://M.example:443/x")
    assert not mirror.owns("http://m.example/x")
    assert not mirror.owns("https://m.example:444/x")
    assert not mirror.owns(f"{BASE}/x")
    assert not origin_of(BASE).owns("https://m.example/x")
    assert origin_of("http://m.example/whl").owns("https://m.example/x")
