"""Reading pages from a loopback index: what is asked, what comes, and every way in which it goes wrong."""

from __future__ import annotations

import gzip
import threading
import time
import tracemalloc
from base64 import b64encode
from pathlib import Path

import pytest

from tests.support.connect_proxy import ConnectProxy
from tests.support.faults import (
    Answer,
    cut_in_half,
    drop,
    endless,
    garbage,
    huge,
    instead,
    never,
    redirect,
    slow,
    unavailable,
)
from tests.support.index_server import IndexServer, TestAuthority
from tests.support.index_tree import IndexTree, real_tree
from tests.support.wheelhouse import torch_wheel, wheel
from torchinstall.core.errors import UsageError
from torchinstall.index.fetch import LiveOptions, LiveResult, fetch_pages

TAG = "cp312-cp312-manylinux_2_28_x86_64"
TORCH = ("torch", "cu128")
PATH = "/whl/cu128/torch/"


def make_tree() -> IndexTree:
    return IndexTree(
        {
            "cu128": [torch_wheel("2.9.1+cu128", TAG), wheel("torchvision", "0.24.1+cu128", TAG)],
            "cpu": [torch_wheel("2.9.1+cpu", TAG)],
        }
    )


def options(server: IndexServer, **changes: object) -> LiveOptions:
    values = {"index_base": server.index_base, "backoff": 0.01, "budget": 5.0, **changes}
    return LiveOptions(**values)  # type: ignore[arg-type]  # keyword by keyword as the test wrote them


def versions(result: LiveResult, key: tuple[str, str] = TORCH) -> set[str]:
    return {row.full_version for row in result.pages[key]}


def failure(result: LiveResult, key: tuple[str, str] = TORCH) -> str:
    return result.failures[key].slug


def test_each_page_is_asked_for_once_and_nothing_else() -> None:
    with IndexServer(make_tree()) as server:
        result = fetch_pages([TORCH, ("torchvision", "cu128"), ("torch", "cpu"), TORCH], options(server))
        assert sorted(server.log) == [
            ("GET", "/whl/cpu/torch/"),
            ("GET", "/whl/cu128/torch/"),
            ("GET", "/whl/cu128/torchvision/"),
        ]
    assert versions(result) == {"2.9.1+cu128"}
    assert versions(result, ("torch", "cpu")) == {"2.9.1+cpu"}
    assert result.live == len(result.pages)
    assert not result.failures
    assert not result.warnings
    assert result.error() is None


def test_pages_are_asked_for_all_at_once() -> None:
    tree = IndexTree({f"cu12{n}": [torch_wheel(f"2.9.1+cu12{n}", TAG)] for n in range(8)})
    with IndexServer(tree, latency=0.2) as server:
        start = time.monotonic()
        result = fetch_pages([("torch", f"cu12{n}") for n in range(8)], options(server))
        assert time.monotonic() - start < 1.2
    assert len(result.pages) == 8


def test_real_names_give_real_rows() -> None:
    keys = [("torch", "cu118"), ("torch", "rocm7.2"), ("torchvision", "cu128"), ("triton-rocm", "rocm7.2")]
    with IndexServer(real_tree()) as server:
        result = fetch_pages(keys, options(server, shared=frozenset({"triton-rocm"})))
    assert "2.7.1+cu118" in versions(result, ("torch", "cu118"))
    assert {row.local for row in result.pages["torch", "rocm7.2"]} == {"rocm7.2"}
    assert all(result.pages[key] for key in keys)


@pytest.mark.parametrize("channel", ["nightly", "test"])
def test_a_channel_has_its_own_pages(channel: str) -> None:
    tree = IndexTree()
    tree.add("cu130", torch_wheel("2.15.0.dev20260815+cu130", TAG), channel=channel)
    with IndexServer(tree) as server:
        result = fetch_pages([("torch", "cu130")], options(server, channel=channel))
        assert server.paths() == [f"/whl/{channel}/cu130/torch/"]
    (row,) = result.pages["torch", "cu130"]
    assert row.channel == channel


def test_a_template_says_where_pages_lie() -> None:
    with IndexServer(make_tree()) as server:
        result = fetch_pages([TORCH], options(server, index_base=f"{server.origin}/whl/{{backend}}/"))
    assert versions(result) == {"2.9.1+cu128"}


def test_a_companion_that_is_not_there_is_an_empty_page() -> None:
    with IndexServer(make_tree()) as server:
        result = fetch_pages([TORCH, ("torchaudio", "cu128")], options(server))
    assert result.pages["torchaudio", "cu128"] == ()
    assert not result.failures


@pytest.mark.parametrize(("status", "slug"), [(403, "index-forbidden"), (404, "index-not-found")])
def test_an_index_without_any_torch_is_no_index(status: int, slug: str, tmp_path: Path) -> None:
    with IndexServer(IndexTree(missing_status=status)) as server:
        given = options(server, cache_dir=tmp_path)
        for _ in range(2):
            result = fetch_pages([TORCH, ("torch", "cpu"), ("torchvision", "cpu")], given)
            assert not result.pages
            error = result.error()
            assert error is not None
            assert (error.slug, error.exit_code) == (slug, 8)
            assert [hint.split()[0] for hint in error.hints] == ["--index-base", "--find-links"]
        assert len(server.log) == 6, "a refusal of everything must not be remembered"


def test_503_twice_is_waited_out() -> None:
    with IndexServer(make_tree()) as server:
        server.fault(PATH, unavailable(2))
        result = fetch_pages([TORCH], options(server))
        assert server.paths() == [PATH] * 3
    assert versions(result) == {"2.9.1+cu128"}


def test_503_for_ever_is_one_clear_error() -> None:
    with IndexServer(make_tree()) as server:
        server.fault(PATH, unavailable(1000))
        result = fetch_pages([TORCH, ("torch", "cpu")], options(server))
        assert server.paths().count(PATH) == 4
    assert failure(result) == "index-unavailable"
    assert [trouble.slug for trouble in result.warnings] == ["index-unavailable"]
    assert versions(result, ("torch", "cpu")) == {"2.9.1+cpu"}


def test_uv_http_retries_counts_here_too() -> None:
    with IndexServer(make_tree()) as server:
        server.fault(PATH, unavailable(1000))
        fetch_pages([TORCH], options(server, env={"UV_HTTP_RETRIES": "0"}))
        assert server.paths() == [PATH]


def test_retry_after_beyond_the_budget_is_not_waited_for() -> None:
    with IndexServer(make_tree()) as server:
        server.fault(PATH, unavailable(1, 429, {"Retry-After": "3600"}))
        start = time.monotonic()
        result = fetch_pages([TORCH], options(server))
        assert time.monotonic() - start < 2
    assert failure(result) == "index-unavailable"


@pytest.mark.parametrize("declared", [True, False])
def test_a_page_cut_in_half_once_is_read_again(*, declared: bool) -> None:
    with IndexServer(make_tree()) as server:
        server.fault(PATH, cut_in_half(1, declared=declared))
        result = fetch_pages([TORCH], options(server))
        assert server.paths() == [PATH] * 2
    assert versions(result) == {"2.9.1+cu128"}


@pytest.mark.parametrize("declared", [True, False])
def test_a_page_always_cut_in_half_is_an_error_and_never_half_an_answer(*, declared: bool) -> None:
    with IndexServer(make_tree()) as server:
        server.fault(PATH, cut_in_half(declared=declared))
        result = fetch_pages([TORCH], options(server))
    assert failure(result) == "index-page-cut"
    assert TORCH not in result.pages


@pytest.mark.parametrize("declared", [True, False])
def test_a_page_of_60_mb_is_an_error_not_memory(*, declared: bool) -> None:
    with IndexServer(make_tree()) as server:
        server.fault(PATH, huge(60, declared=declared))
        fetch_pages([("torch", "cpu")], options(server))
        tracemalloc.start()
        result = fetch_pages([TORCH], options(server, budget=30.0))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert failure(result) == "index-page-too-large"
    assert peak < 45_000_000


def test_a_compressed_page_is_read_and_a_compressed_bomb_is_not() -> None:
    def compressed(body: bytes) -> Answer:
        return Answer(
            headers={"Content-Type": "text/html", "Content-Encoding": "gzip"}, body=gzip.compress(body)
        )

    with IndexServer(make_tree()) as server:
        server.fault(PATH, lambda right: compressed(right.body))
        assert versions(fetch_pages([TORCH], options(server))) == {"2.9.1+cu128"}
        server.fault(PATH, lambda _right: compressed(b"<br>" * 15_000_000))
        assert failure(fetch_pages([TORCH], options(server))) == "index-page-too-large"


def test_a_redirect_to_another_host_is_refused() -> None:
    with IndexServer(make_tree()) as elsewhere, IndexServer(make_tree()) as server:
        server.fault(PATH, redirect(f"{elsewhere.origin}{PATH}"))
        result = fetch_pages([TORCH], options(server))
        assert elsewhere.log == []
    assert failure(result) == "index-redirect"
    assert elsewhere.origin in result.failures[TORCH].message


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "//evil.example/x/", "https://[bad/", "gopher://x/"]
)
def test_odd_redirects_are_refused(target: str) -> None:
    with IndexServer(make_tree()) as server:
        server.fault(PATH, redirect(target))
        result = fetch_pages([TORCH], options(server))
    assert failure(result) == "index-redirect"


def test_a_redirect_within_the_index_is_followed_and_a_loop_ends() -> None:
    with IndexServer(make_tree()) as server:
        server.fault(PATH, redirect("/whl/cpu/torch/"))
        assert versions(fetch_pages([TORCH], options(server))) == set(), "pages of cpu hold nothing for cu128"
        server.fault(PATH, redirect(PATH))
        assert failure(fetch_pages([TORCH], options(server))) == "index-redirect"


def test_links_outside_the_index_are_ignored_or_an_error() -> None:
    outside = "https://evil.example/whl/cu128/torch-9.9.9%2Bcu128-cp312-cp312-linux_x86_64.whl"
    tree = make_tree()
    tree.add("cu128", torch_wheel("9.9.9+cu128", TAG), href=outside)
    with IndexServer(tree) as server:
        mixed = fetch_pages([TORCH], options(server))
        tree.remove(f"torch-2.9.1+cu128-{TAG}.whl")
        only = fetch_pages([TORCH], options(server))
    assert versions(mixed) == {"2.9.1+cu128"}
    assert any("evil.example" in note for note in mixed.notes)
    assert all(file.url.startswith(server.origin) for page in mixed.found.values() for file in page.files)
    assert failure(only) == "index-links-outside"


def test_a_login_page_is_not_an_index() -> None:
    with IndexServer(make_tree()) as server:
        server.fault("*", garbage())
        result = fetch_pages([TORCH], options(server))
        error = result.error()
    assert error is not None
    assert error.slug == "index-garbage"


@pytest.mark.parametrize("fault", [never(), endless()])
def test_an_index_that_never_answers_costs_the_budget(fault: object) -> None:
    with IndexServer(make_tree()) as server:
        server.fault(PATH, fault)  # type: ignore[arg-type]  # parametrised fault
        start = time.monotonic()
        result = fetch_pages([TORCH, ("torch", "cpu")], options(server, budget=0.6))
        assert time.monotonic() - start < 1.5
        assert failure(result) == "index-timeout"
        assert versions(result, ("torch", "cpu")) == {"2.9.1+cpu"}
        wait_for_workers()


def test_a_slow_page_within_the_budget_is_read() -> None:
    with IndexServer(make_tree()) as server:
        server.fault(PATH, slow(0.4))
        assert versions(fetch_pages([TORCH], options(server))) == {"2.9.1+cu128"}


def test_nobody_listens() -> None:
    with IndexServer(make_tree()) as server:
        gone = options(server)
    start = time.monotonic()
    result = fetch_pages([TORCH, ("torch", "cpu")], gone)
    assert time.monotonic() - start < 3
    error = result.error()
    assert error is not None
    assert (error.slug, error.exit_code) == ("index-unreachable", 8)
    assert "127.0.0.1" in error.message


def test_a_connection_dropped_once_is_opened_again() -> None:
    with IndexServer(make_tree()) as server:
        server.fault(PATH, drop(1))
        assert versions(fetch_pages([TORCH], options(server))) == {"2.9.1+cu128"}


def test_an_index_that_changes_between_two_pages_gives_each_page_as_it_was() -> None:
    """The index is asked once per page; what is published meanwhile is for the next run."""
    tree = make_tree()
    with IndexServer(tree) as server:
        before = fetch_pages([TORCH], options(server))
        tree.add("cu128", torch_wheel("2.10.0+cu128", TAG))
        tree.remove(f"torch-2.9.1+cu128-{TAG}.whl")
        after = fetch_pages([TORCH], options(server))
    assert versions(before) == {"2.9.1+cu128"}
    assert versions(after) == {"2.10.0+cu128"}


def test_a_name_with_two_contents_has_no_hash_by_name() -> None:
    """The aarch64 wheels of torchvision have one name and other bytes in each directory."""
    name = "torchvision-0.24.1-cp312-cp312-manylinux_2_28_aarch64.whl"
    first = wheel("torchvision", "0.24.1", "cp312-cp312-manylinux_2_28_aarch64")
    second = wheel("torchvision", "0.24.1", "cp312-cp312-manylinux_2_28_aarch64", requires=["numpy"])
    tree = IndexTree({"cu126": [first], "cu128": [second]})
    keys = [("torchvision", "cu126"), ("torchvision", "cu128")]
    with IndexServer(tree) as server:
        result = fetch_pages(keys, options(server))
    assert name not in result.hashes
    assert [result.found[key].files[0].sha256 for key in keys] == [first.sha256, second.sha256]


def test_the_root_page_names_new_backends() -> None:
    tree = make_tree()
    tree.add("rocm7.14", torch_wheel("2.15.0+rocm7.14", TAG))
    with IndexServer(tree) as server:
        names = fetch_pages((), options(server), discover=True).backends
        assert names is not None
        assert {"cu128", "rocm7.14"} <= set(names)
        both = fetch_pages([TORCH], options(server), discover=True)
        assert set(both.pages) == {TORCH}
        assert both.backends is not None
        server.fault("*", unavailable(1000))
        assert fetch_pages((), options(server), discover=True).backends is None


def test_plain_http_to_another_host_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(UsageError) as caught:
        fetch_pages([TORCH], LiveOptions(index_base="http://mirror.example/whl"))
    assert caught.value.slug == "insecure-index"


def test_credentials_reach_the_index_and_no_message() -> None:
    with IndexServer(make_tree()) as server:
        base = server.index_base.replace("http://", "http://user:s3cret@")
        fine = fetch_pages([TORCH], options(server, index_base=base))
        assert server.sent_headers(PATH)[-1]["Authorization"] == "Basic " + b64encode(b"user:s3cret").decode()
        server.fault(PATH, unavailable(1, 401))
        refused = fetch_pages([TORCH], options(server, index_base=base))
    assert versions(fine) == {"2.9.1+cu128"}
    assert failure(refused) == "index-unauthorized"
    assert "s3cret" not in repr((fine, refused))
    assert refused.index_base == f"http://****@127.0.0.1:{server.port}/whl"


def test_https_needs_a_certificate_that_is_trusted(tmp_path: Path) -> None:
    authority = TestAuthority(tmp_path)
    with IndexServer(make_tree(), authority=authority) as server:
        trusted = fetch_pages([TORCH], options(server, env={"SSL_CERT_FILE": str(authority.bundle)}))
        assert versions(trusted) == {"2.9.1+cu128"}
        assert failure(fetch_pages([TORCH], options(server))) == "index-certificate"
        named = fetch_pages([TORCH], options(server, env={"UV_INSECURE_HOST": "127.0.0.1"}))
        assert versions(named) == {"2.9.1+cu128"}
        with pytest.raises(UsageError) as caught:
            fetch_pages([TORCH], options(server, env={"SSL_CERT_FILE": str(tmp_path / "missing.pem")}))
        assert caught.value.slug == "bad-certificate-file"


def test_the_official_index_through_a_proxy_and_its_three_hosts(tmp_path: Path) -> None:
    authority = TestAuthority(tmp_path)
    tree = make_tree()
    r2 = f"https://download-r2.pytorch.org/whl/cu128/torch-2.10.0%2Bcu128-{TAG}.whl"
    tree.add("cu128", torch_wheel("2.10.0+cu128", TAG), href=r2)
    with IndexServer(tree, authority=authority) as server, ConnectProxy(server.port) as proxy:
        env = {"HTTPS_PROXY": proxy.url, "SSL_CERT_FILE": str(authority.bundle)}
        result = fetch_pages([TORCH], LiveOptions(env=env))
        assert proxy.hosts == ["download.pytorch.org:443"]
        server.fault(PATH, instead("", "text/html"))
        refused = fetch_pages([TORCH], LiveOptions(env={**env, "NO_PROXY": "pytorch.org"}, budget=0.5))
    assert versions(result) == {"2.9.1+cu128", "2.10.0+cu128"}
    assert refused.failures
    assert len(proxy.hosts) == 1
    wait_for_workers()


def wait_for_workers() -> None:
    """Let threads that were left behind end, so that they do not outlive their test."""
    for thread in threading.enumerate():
        if thread.name.startswith("index-page"):
            thread.join(10)
