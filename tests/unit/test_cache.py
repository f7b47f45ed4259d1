"""Pages on disk: fresh ones cost no request, bad ones are thrown away, several processes share them."""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.faults import garbage, unavailable
from tests.support.index_server import IndexServer
from tests.support.index_tree import IndexTree, real_tree
from tests.support.wheelhouse import torch_wheel
from torchinstall.core.files import cache_dir
from torchinstall.index.cache import CachedPage, PageCache, PageId
from torchinstall.index.fetch import LiveOptions, LiveResult, fetch_pages
from torchinstall.index.pages import Page, parse_page

TAG = "cp312-cp312-manylinux_2_28_x86_64"
TORCH = ("torch", "cu128")
HOUR = 3600.0


class Clock:
    """Seconds since 1970 that stand still until they are moved."""

    def __init__(self) -> None:
        self.time = 1_800_000_000.0

    def __call__(self) -> float:
        return self.time


def make_tree() -> IndexTree:
    return IndexTree({"cu128": [torch_wheel("2.9.1+cu128", TAG)], "cpu": [torch_wheel("2.9.1+cpu", TAG)]})


def fetch(server: IndexServer, folder: Path | None, clock: Clock, **changes: object) -> LiveResult:
    values = {"index_base": server.index_base, "cache_dir": folder, "now": clock, "backoff": 0.01, **changes}
    keys = [TORCH, ("torchaudio", "cu128")]
    return fetch_pages(keys, LiveOptions(**values))  # type: ignore[arg-type]  # keyword by keyword


def versions(result: LiveResult) -> set[str]:
    return {row.full_version for row in result.pages[TORCH]}


def test_a_fresh_page_causes_no_request_at_all(tmp_path: Path) -> None:
    clock = Clock()
    with IndexServer(make_tree()) as server:
        first = fetch(server, tmp_path, clock)
        asked = len(server.log)
        clock.time += 23.9 * HOUR
        second = fetch(server, tmp_path, clock)
        assert len(server.log) == asked == 2
    assert set(second.pages[TORCH]) == set(first.pages[TORCH])
    assert second.found[TORCH].files == first.found[TORCH].files
    assert second.pages["torchaudio", "cu128"] == (), "that a page is not there is remembered too"
    assert second.live == 0


def test_an_old_page_is_asked_for_with_its_etag(tmp_path: Path) -> None:
    clock, tree = Clock(), make_tree()
    with IndexServer(tree) as server:
        fetch(server, tmp_path, clock)
        clock.time += 24.1 * HOUR
        same = fetch(server, tmp_path, clock)
        asked = len(server.log)
        assert versions(same) == {"2.9.1+cu128"}
        fetch(server, tmp_path, clock)
        assert len(server.log) == asked == 4, "304 makes the page fresh again"
        tree.add("cu128", torch_wheel("2.10.0+cu128", TAG))
        clock.time += 24.1 * HOUR
        assert versions(fetch(server, tmp_path, clock)) == {"2.9.1+cu128", "2.10.0+cu128"}


def test_refresh_ignores_freshness(tmp_path: Path) -> None:
    clock, tree = Clock(), make_tree()
    with IndexServer(tree) as server:
        fetch(server, tmp_path, clock)
        tree.add("cu128", torch_wheel("2.10.0+cu128", TAG))
        assert versions(fetch(server, tmp_path, clock)) == {"2.9.1+cu128"}
        assert versions(fetch(server, tmp_path, clock, refresh=True)) == {"2.9.1+cu128", "2.10.0+cu128"}


def test_a_page_from_the_future_is_not_fresh(tmp_path: Path) -> None:
    clock = Clock()
    with IndexServer(make_tree()) as server:
        fetch(server, tmp_path, clock)
        clock.time -= HOUR
        fetch(server, tmp_path, clock)
        assert len(server.log) == 4


def test_offline_never_asks_and_takes_what_there_is(tmp_path: Path) -> None:
    clock = Clock()
    with IndexServer(make_tree()) as server:
        nothing = fetch(server, tmp_path, clock, offline=True)
        assert not nothing.pages
        assert not nothing.failures
        fetch(server, tmp_path, clock)
        asked = len(server.log)
        clock.time += 1000 * HOUR
        old = fetch(server, tmp_path, clock, offline=True, refresh=True)
        assert versions(old) == {"2.9.1+cu128"}
        assert len(server.log) == asked == 2


@pytest.mark.parametrize("fault", [unavailable(10_000), garbage()])
def test_an_old_page_serves_when_the_index_fails_and_it_is_said(tmp_path: Path, fault: object) -> None:
    clock = Clock()
    with IndexServer(make_tree()) as server:
        fetch(server, tmp_path, clock)
        clock.time += 48 * HOUR
        server.fault("*", fault)  # type: ignore[arg-type]  # parametrised fault
        result = fetch(server, tmp_path, clock)
    assert versions(result) == {"2.9.1+cu128"}
    assert [trouble.slug for trouble in result.warnings] == ["index-stale-pages"]
    assert result.error() is None


def test_garbage_is_not_kept(tmp_path: Path) -> None:
    clock = Clock()
    with IndexServer(make_tree()) as server:
        server.fault("*", garbage())
        assert fetch(server, tmp_path, clock).failures
        server.fault("*", None)
        assert versions(fetch(server, tmp_path, clock)) == {"2.9.1+cu128"}


def page_files(folder: Path) -> list[Path]:
    return sorted((folder / "pages").iterdir())


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda _content: b"",
        lambda content: content.replace(b'"fetched":1', b'"fetched":"1'),
        lambda _content: b"\x00" * 4096,
    ],
)
def test_a_torn_or_poisoned_file_is_thrown_away(tmp_path: Path, damage: object) -> None:
    clock = Clock()
    with IndexServer(make_tree()) as server:
        fetch(server, tmp_path, clock)
        for path in page_files(tmp_path):
            path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]  # parametrised function
        assert not fetch(server, tmp_path, clock, offline=True).pages
        assert page_files(tmp_path) == []
        assert versions(fetch(server, tmp_path, clock)) == {"2.9.1+cu128"}


def test_a_file_in_the_place_of_another_is_thrown_away(tmp_path: Path) -> None:
    clock = Clock()
    with IndexServer(make_tree()) as server:
        fetch(server, tmp_path, clock)
        first, second = page_files(tmp_path)
        content = first.read_bytes()
        first.write_bytes(second.read_bytes())
        second.write_bytes(content)
        assert not fetch(server, tmp_path, clock, offline=True).pages


ID = PageId("https://m.example/whl/cu128/torch/", "torch", "cu128", "stable")
TEXT = f'<html><h1>Links for torch</h1><a href="/whl/cu128/torch-2.9.1%2Bcu128-{TAG}.whl">x</a></html>'


def forged(tmp_path: Path, old: bytes, new: bytes) -> CachedPage | None:
    """What the cache makes of a page whose content was changed."""
    cache = PageCache(tmp_path)
    page = parse_page(TEXT, ID.url, "torch", "cu128")
    cache.store(ID, CachedPage(fetched=1.0, page=page))
    path = cache.path(ID)
    assert path is not None
    body = path.read_bytes()
    assert old in body
    path.write_bytes(body.replace(old, new))
    return cache.load(ID)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"url":"https://m.example/whl/cu128/torch-', b'"url":"https://evil.example/whl/cu128/torch-'),
        (f"torch-2.9.1+cu128-{TAG}.whl".encode(), b"../../../etc/passwd"),
        (b'"version":"2.9.1"', b'"version":7'),
        (b'"fetched":1.0', b'"fetched":"soon"'),
        (b'"url":"https://m.example/whl/cu128/torch-', b'"url":"ftp://m.example/whl/cu128/torch-'),
    ],
)
def test_a_forged_page_cannot_point_outside_its_index(tmp_path: Path, old: bytes, new: bytes) -> None:
    assert forged(tmp_path, old, new) is None


def test_a_page_comes_back_as_it_went(tmp_path: Path) -> None:
    cache = PageCache(tmp_path)
    text = real_tree({"torch"}).page("/whl/cu128/torch/", "https://m.example")
    assert text is not None
    page = parse_page(text, ID.url, "torch", "cu128")
    cache.store(ID, CachedPage(fetched=1.5, etag='"x"', page=page))
    found = cache.load(ID)
    assert found is not None
    assert (found.fetched, found.etag, found.missing) == (1.5, '"x"', None)
    assert found.page == page


def test_no_url_chooses_a_path(tmp_path: Path) -> None:
    cache = PageCache(tmp_path)
    for url in (
        "https://m.example/../../../etc/",
        "https://m.example/\x00/",
        "https://m.example/" + "a" * 5000,
    ):
        page = PageId(url=url, package="torch", backend="cu128", channel="stable")
        cache.store(page, CachedPage(fetched=1.0, page=Page()))
        path = cache.path(page)
        assert path is not None
        assert path.parent == tmp_path / "pages"
        assert path.is_file()


def test_credentials_are_not_written_down(tmp_path: Path) -> None:
    clock = Clock()
    with IndexServer(make_tree()) as server:
        base = server.index_base.replace("http://", "http://user:s3cret@")
        fetch(server, tmp_path, clock, index_base=base)
        assert versions(fetch(server, tmp_path, clock)) == {"2.9.1+cu128"}
        assert len(server.log) == 2
    assert not any(b"s3cret" in path.read_bytes() for path in page_files(tmp_path))


def test_a_folder_that_cannot_be_made_costs_only_the_cache(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    clock = Clock()
    with IndexServer(make_tree()) as server:
        result = fetch(server, blocked, clock)
    assert versions(result) == {"2.9.1+cu128"}
    assert not result.warnings
    assert any("could not be stored" in note for note in result.notes)


def _hammer(folder: str, number: int) -> None:
    cache = PageCache(Path(folder))
    text = real_tree({"torch"}).page("/whl/cu128/torch/", "https://m.example")
    assert text is not None
    page = parse_page(text, ID.url, "torch", "cu128")
    for turn in range(30):
        cache.store(ID, CachedPage(fetched=float(number * 1000 + turn), page=page))
        found = cache.load(ID)
        assert found is not None
        assert found.page == page


def test_several_processes_share_a_folder(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_hammer, args=(str(tmp_path), number)) for number in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert len(page_files(tmp_path)) == 1, "no half-written file is left"


def test_a_warm_start_does_not_import_httpx(tmp_path: Path) -> None:
    with IndexServer(make_tree()) as server:
        fetch_pages([TORCH], LiveOptions(index_base=server.index_base, cache_dir=tmp_path))
        script = (
            "import json, pathlib, sys\n"
            "from torchinstall.index.fetch import LiveOptions, fetch_pages\n"
            "base, folder = sys.argv[1:]\n"
            "options = LiveOptions(index_base=base, cache_dir=pathlib.Path(folder))\n"
            "result = fetch_pages([('torch', 'cu128')], options)\n"
            "assert result.pages, result\n"
            "print(json.dumps(sorted({'httpx', 'ssl', 'html.parser', 'rich'} & set(sys.modules))))\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", script, server.index_base, str(tmp_path)],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parents[2],
        )
        assert json.loads(done.stdout) == []
        assert len(server.log) == 1


@pytest.mark.parametrize(
    ("env", "platform", "folder"),
    [
        ({"TORCHINSTALL_CACHE_DIR": "/c", "HOME": "/h"}, "linux", "/c"),
        ({"HOME": "/h"}, "linux", "/h/.cache/torchinstall"),
        ({"HOME": "/h", "XDG_CACHE_HOME": "/x"}, "linux", "/x/torchinstall"),
        ({"HOME": "/h", "XDG_CACHE_HOME": "relative"}, "linux", "/h/.cache/torchinstall"),
        ({"HOME": "/h"}, "darwin", "/h/Library/Caches/torchinstall"),
        ({"LOCALAPPDATA": "/l"}, "win32", "/l/torchinstall/cache"),
        ({}, "linux", None),
        ({}, "win32", None),
    ],
)
def test_where_pages_are_kept(env: dict[str, str], platform: str, folder: str | None) -> None:
    found = cache_dir(env, platform)
    assert found == (None if folder is None else Path(folder))
