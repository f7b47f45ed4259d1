"""Pages of an index made into rows: the traps of download.pytorch.org, one by one."""

from __future__ import annotations

import contextlib
import html
import json
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from tests.support.index_tree import IndexTree, real_tree
from tests.support.wheelhouse import torch_wheel, wheel, wheel_of_name
from torchinstall.core.request import Channel
from torchinstall.index.faults import FetchError
from torchinstall.index.pages import Page, links_of, parse_page, parse_root
from torchinstall.index.wheels import parse_name

ORIGIN = "https://download.pytorch.org"
PAGE = f"{ORIGIN}/whl/cu128/torch/"
TAG = "cp312-cp312-manylinux_2_28_x86_64"


def links(*hrefs: str, title: str = "Links for torch") -> str:
    anchors = "".join(f'<a href="{html.escape(href)}">x</a><br/>\n' for href in hrefs)
    return f"<!DOCTYPE html>\n<html>\n<body>\n<h1>{title}</h1>\n{anchors}</body>\n</html>\n"


def versions(page: Page) -> set[str]:
    return {row.full_version for row in page.wheels}


def read(
    tree: IndexTree, backend: str, package: str, *, shared: bool = False, channel: Channel = "stable"
) -> Page:
    path = f"{'/whl' if channel == 'stable' else f'/whl/{channel}'}/{backend}/{package}/"
    text = tree.page(path, ORIGIN)
    assert text is not None
    return parse_page(text, f"{ORIGIN}{path}", package, backend, channel, shared=shared)


@pytest.mark.parametrize("hrefs", ["root", "relative", "absolute"])
def test_every_way_of_writing_a_link_gives_the_same_rows(hrefs: str) -> None:
    tree = IndexTree(
        {"cu128": [torch_wheel("2.9.1+cu128", TAG), torch_wheel("2.9.1+cu128", TAG.replace("312", "313"))]},
        hrefs=hrefs,  # type: ignore[arg-type]  # parametrised text
    )
    page = read(tree, "cu128", "torch")
    (row,) = page.wheels
    assert row.full_version == "2.9.1+cu128"
    assert row.tags == {"cp312-cp312", "cp313-cp313"}
    assert (row.platform_tag, row.backend, row.origin) == ("manylinux_2_28_x86_64", "cu128", "index")
    assert {file.url for file in page.files} == {
        f"{ORIGIN}/whl/cu128/torch-2.9.1%2Bcu128-cp31{minor}-cp31{minor}-manylinux_2_28_x86_64.whl"
        for minor in (2, 3)
    }
    assert {row.filename(tag) for tag in row.tags} == {file.filename for file in page.files}


def test_a_link_without_hash_is_a_link() -> None:
    tree = IndexTree()
    tree.add("cu126", torch_wheel("2.11.0+cu126", TAG), hashed=False)
    page = read(tree, "cu126", "torch")
    assert versions(page) == {"2.11.0+cu126"}
    assert {file.sha256 for file in page.files} == {None}


def test_the_hash_of_a_link_is_that_of_the_file() -> None:
    item = torch_wheel("2.9.1+cu128", TAG)
    (file,) = read(IndexTree({"cu128": [item]}), "cu128", "torch").files
    assert (file.filename, file.sha256) == (item.filename, item.sha256)


def test_root_objects_of_torch_are_not_builds_of_a_backend() -> None:
    """The aarch64 CPU torch 2.0.1 lies at the root and is listed on every CUDA and ROCm page."""
    tree = real_tree({"torch"})
    page = read(tree, "cu128", "torch")
    assert "2.0.1" not in versions(page)
    assert {row.local for row in page.wheels} == {"cu128"}


def test_root_objects_of_shared_packages_serve_every_backend() -> None:
    tree = IndexTree(
        {
            "": [wheel("pytorch_triton_rocm", "3.5.1", "cp312-cp312-linux_x86_64")],
            "rocm6.4": [wheel("pytorch_triton_rocm", "3.1.0", "cp312-cp312-linux_x86_64")],
        }
    )
    assert versions(read(tree, "rocm6.4", "pytorch-triton-rocm", shared=True)) == {"3.1.0", "3.5.1"}
    assert versions(read(tree, "rocm6.4", "pytorch-triton-rocm")) == {"3.1.0"}


def test_companions_without_local_version_belong_to_their_directory() -> None:
    """Up to 0.24.1 torchvision for aarch64 carries no local version inside cu128."""
    tree = IndexTree({"cu128": [wheel("torchvision", "0.24.1", "cp312-cp312-manylinux_2_28_aarch64")]})
    (row,) = read(tree, "cu128", "torchvision").wheels
    assert (row.local, row.backend, row.version) == ("", "cu128", "0.24.1")


def test_names_that_follow_no_rule_are_skipped() -> None:
    tree = IndexTree({"cu126": [torch_wheel("2.9.1+cu126", TAG)]})
    tree.add("cu126", wheel_of_name("torch-2.9.0+cu126-cp312-cp312-manylinux2014_x86_64 (1).whl"))
    tree.add("cu126", wheel_of_name("torch-not.a.version!-cp312-cp312-linux_x86_64.whl"))
    tree.add("cu126", wheel_of_name("torch-2.10.0-1+cu126-cp312-cp312-manylinux_2_28_x86_64.whl"))
    page = read(tree, "cu126", "torch")
    assert versions(page) == {"2.9.1+cu126"}


def test_build_tags_are_kept_apart() -> None:
    tree = IndexTree(
        {
            "cpu": [
                wheel_of_name(f"torch-2.10.0-{build}cp312-none-macosx_11_0_arm64.whl")
                for build in ("", "1-", "2-")
            ]
        }
    )
    page = read(tree, "cpu", "torch")
    assert {row.build for row in page.wheels} == {"", "1", "2"}
    assert {row.filename(tag) for row in page.wheels for tag in row.tags} == {
        file.filename for file in page.files
    }


def test_nightlies_keep_their_date() -> None:
    tree = IndexTree()
    tree.add("cu130", torch_wheel("2.15.0.dev20260815+cu130", TAG), channel="nightly", hashed=False)
    (row,) = read(tree, "cu130", "torch", channel="nightly").wheels
    assert (row.version, row.local, row.channel) == ("2.15.0.dev20260815", "cu130", "nightly")


def test_the_three_official_hosts_are_one_index() -> None:
    text = links(
        f"https://download-r2.pytorch.org/whl/cu128/torch-2.9.1%2Bcu128-{TAG}.whl",
        f"https://d21usjoq99fcb9.cloudfront.net/whl/cu128/torch-2.9.0%2Bcu128-{TAG}.whl",
        f"/whl/cu128/torch-2.8.0%2Bcu128-{TAG}.whl",
    )
    assert versions(parse_page(text, PAGE, "torch", "cu128")) == {"2.9.1+cu128", "2.9.0+cu128", "2.8.0+cu128"}


@pytest.mark.parametrize(
    "outside",
    [
        f"https://evil.example/whl/cu128/torch-9.9.9%2Bcu128-{TAG}.whl",
        f"//evil.example/whl/cu128/torch-9.9.9%2Bcu128-{TAG}.whl",
        f"http://download.pytorch.org/whl/cu128/torch-9.9.9%2Bcu128-{TAG}.whl",
        f"https://download.pytorch.org:8443/whl/cu128/torch-9.9.9%2Bcu128-{TAG}.whl",
        f"https://download.pytorch.org@evil.example/whl/cu128/torch-9.9.9%2Bcu128-{TAG}.whl",
        f"https://download.pytorch.org.evil.example/whl/cu128/torch-9.9.9%2Bcu128-{TAG}.whl",
        f"file:///whl/cu128/torch-9.9.9%2Bcu128-{TAG}.whl",
        f"javascript:/cu128/torch-9.9.9%2Bcu128-{TAG}.whl",
        f"https://[bad/whl/cu128/torch-9.9.9%2Bcu128-{TAG}.whl",
    ],
)
def test_a_page_cannot_point_outside_its_index(outside: str) -> None:
    page = parse_page(links(outside, f"/whl/cu128/torch-2.9.1%2Bcu128-{TAG}.whl"), PAGE, "torch", "cu128")
    assert versions(page) == {"2.9.1+cu128"}
    assert all(file.url.startswith(f"{ORIGIN}/") for file in page.files)
    assert any("ignored 1 links" in note for note in page.notes)
    with pytest.raises(FetchError) as caught:
        parse_page(links(outside), PAGE, "torch", "cu128")
    assert caught.value.slug == "index-links-outside"


def test_a_base_element_does_not_move_links_off_the_index() -> None:
    text = links(f"torch-9.9.9%2Bcu128-{TAG}.whl").replace(
        "<body>", '<base href="https://evil.example/cu128/"><body>'
    )
    with pytest.raises(FetchError) as caught:
        parse_page(text, PAGE, "torch", "cu128")
    assert caught.value.slug == "index-links-outside"


@pytest.mark.parametrize(
    "name", ["..%2F..%2Fetc%2Ftorch-1.0-py3-none-any.whl", "torch-1.0%00-py3-none-any.whl"]
)
def test_a_file_name_is_never_a_path(name: str) -> None:
    page = parse_page(links(f"/whl/cu128/{name}"), PAGE, "torch", "cu128")
    assert page.files == ()


def test_a_mirror_with_a_layout_of_its_own() -> None:
    """Artifactory and Nexus keep files in a folder per version: only the local version tells the backend."""
    text = links(
        f"../../packages/torch/2.9.1/torch-2.9.1%2Bcu128-{TAG}.whl#sha256={'a' * 64}",
        f"../../packages/torch/2.9.1/torch-2.9.1%2Bcu126-{TAG}.whl",
    )
    page = parse_page(text, "https://mirror.example/api/cu128/torch/", "torch", "cu128")
    assert versions(page) == {"2.9.1+cu128"}
    assert [file.sha256 for file in page.files if file.sha256] == ["a" * 64]


def test_pep_691_json_says_the_same_as_html() -> None:
    tree = IndexTree({"cu128": [torch_wheel("2.9.1+cu128", TAG), torch_wheel("2.8.0+cu128", TAG)]})
    text = tree.json_page("/whl/cu128/torch/", ORIGIN)
    assert text is not None
    as_json, as_html = parse_page(text, PAGE, "torch", "cu128"), read(tree, "cu128", "torch")
    assert set(as_json.wheels) == set(as_html.wheels)
    assert set(as_json.files) == set(as_html.files)


@pytest.mark.parametrize(
    "row",
    [7, {}, {"filename": 1, "url": "x"}, {"filename": "torch-1.0-py3-none-any.whl", "url": None}, None],
)
def test_odd_json_rows_are_skipped(row: object) -> None:
    text = json.dumps({"meta": {"api-version": "1.1"}, "name": "torch", "files": [row]})
    assert parse_page(text, PAGE, "torch", "cu128").wheels == ()


def test_withdrawn_files_are_left_out() -> None:
    text = links(f"/whl/cu128/torch-2.9.1%2Bcu128-{TAG}.whl").replace("<a ", '<a data-yanked="broken" ')
    assert parse_page(text, PAGE, "torch", "cu128").wheels == ()


@pytest.mark.parametrize(
    ("text", "slug"),
    [
        ("<html><body><h1>Please sign in</h1><a href='/login'>in</a></body></html>", "index-garbage"),
        ("", "index-garbage"),
        ("not even html", "index-garbage"),
        ('{"error": "no"}', "index-garbage"),
        ('{"files": [', "index-page-cut"),
        ('{"a":' * 50_000, "index-page-cut"),
        (links(f"/whl/cu128/torch-2.9.1%2Bcu128-{TAG}.whl")[:120], "index-page-cut"),
    ],
)
def test_what_is_no_page_is_refused(text: str, slug: str) -> None:
    with pytest.raises(FetchError) as caught:
        parse_page(text, PAGE, "torch", "cu128")
    assert caught.value.slug == slug
    assert caught.value.retry is (slug == "index-page-cut")


def test_an_empty_page_of_links_is_empty() -> None:
    assert parse_page(links(), PAGE, "torch", "cu128").wheels == ()


def test_credentials_of_the_page_url_show_nowhere() -> None:
    url = "https://user:secret@mirror.example/whl/cu128/torch/"
    page = parse_page(
        links(f"torch-2.9.1%2Bcu128-{TAG}.whl", "https://e.example/a.whl"), url, "torch", "cu128"
    )
    assert "secret" not in repr((page.wheels, page.notes))


def test_the_root_page_lists_backends_and_packages() -> None:
    text = real_tree().page("/whl/", ORIGIN)
    assert text is not None
    names = parse_root(text, f"{ORIGIN}/whl/")
    assert {"cpu", "cu118", "cu130", "rocm7.2", "xpu", "torch", "nightly", "test"} <= set(names)
    with pytest.raises(FetchError):
        parse_root("<html><body>hello</body></html>", f"{ORIGIN}/whl/")


def test_real_names_parse_as_packaging_parses_them() -> None:
    for stored in real_tree().stored.values():
        filename = stored.wheel.filename
        mine = parse_name(filename)
        try:
            project, version, build, tags = parse_wheel_filename(filename)
        except InvalidWheelFilename:
            assert mine is None
            continue
        if " " in filename or any("+" in str(part) for part in build):
            assert mine is None
            continue
        assert mine is not None
        assert canonicalize_name(project) == mine.package
        assert str(version) == mine.version + (f"+{mine.local}" if mine.local else "")
        assert {str(tag) for tag in tags} == {
            f"{python}-{abi}-{platform}"
            for python in mine.tag_list.split("-")[0].split(".")
            for abi in mine.tag_list.split("-")[1].split(".")
            for platform in mine.platform_tag.split(".")
        }


@settings(suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no fault of the names
@given(st.from_regex(r"[a-zA-Z0-9._ +()-]{0,12}(-[0-9a-z.+]{0,6}){0,5}(\.whl)?", fullmatch=True))
def test_made_up_names_are_accepted_only_where_packaging_accepts_them(filename: str) -> None:
    if parse_name(filename) is not None:
        parse_wheel_filename(filename)


@pytest.mark.parametrize(
    "text",
    [
        '<a href="x.whl" data-requires-python=">=3.8">x</a>',
        "<A HREF='x.whl'>x</A><a href=y.whl>y</a>",
        '<!-- <a href="no.whl"> --><a\n  href="a&amp;b.whl"\n>x</a>',
        '<script>"<a href=no.whl>"</script><a class="b" href="yes.whl" href="no.whl">',
        '<abbr href="no.whl"><a name="no">z</a><a href="x (1).whl">s</a>',
    ],
)
def test_links_are_those_of_anchors(text: str) -> None:
    names = [link.filename for link in links_of(text, PAGE)]
    assert names
    assert not [name for name in names if "no" in name]
    assert set(names) <= {"x.whl", "y.whl", "a&b.whl", "yes.whl", "x (1).whl"}


@given(st.text(alphabet="<>a/hrefbs=\"'! -\n", max_size=200))
def test_no_page_upsets_the_parser(text: str) -> None:
    with contextlib.suppress(FetchError):
        links_of(text, PAGE)


@pytest.mark.parametrize("piece", ['<a "', "<a ", "<!--", "<script", "<a href='", "<h1", "<meta "])
def test_a_hostile_page_costs_linear_time(piece: str) -> None:
    text = piece * (2_000_000 // len(piece))
    start = time.process_time()
    with contextlib.suppress(FetchError):
        links_of(text, PAGE)
    assert time.process_time() - start < 2.0
