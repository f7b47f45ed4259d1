"""The pure parts: markers, bounds, Poetry's constraints, choices, plans made into layouts."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.markers import Marker
from packaging.specifiers import SpecifierSet

from tests.project.small import small_catalog
from tests.support.planning import decide, linux, mac, nvidia, windows
from torchinstall.cli.configure import parse_on
from torchinstall.core.errors import TorchInstallError
from torchinstall.core.messages import Message
from torchinstall.core.plan import Plan
from torchinstall.project.choices import routed_in
from torchinstall.project.configure import FileEdit, ProjectChange, edit_files
from torchinstall.project.edit import edit_text
from torchinstall.project.files import loads, tidy
from torchinstall.project.layouts import complete, current_layout, layout_for, plan_caps, plan_platform
from torchinstall.project.migrate import migrate_text
from torchinstall.project.model import (
    PLATFORMS,
    Layout,
    LayoutName,
    Route,
    Scope,
    complement,
    marker_at,
    marker_environment,
    marker_of,
    points_of,
    points_where,
    separation,
)
from torchinstall.project.poetry import specifier
from torchinstall.project.pyproject import ProjectView, project_view, same_url, workspace_root
from torchinstall.project.sync import choose, scope_flags
from torchinstall.project.write import excludes

MINORS = ("3.10", "3.11", "3.12", "3.13")
platform_sets = st.frozensets(st.sampled_from(PLATFORMS), min_size=1)


def holds(marker: str | None, platform: str) -> bool:
    return marker is None or Marker(marker).evaluate(dict(marker_environment(platform, "3.12")))


@settings(deadline=None)
@given(platform_sets)
def test_a_marker_holds_exactly_on_its_platforms(platforms: frozenset[str]) -> None:
    assert {platform for platform in PLATFORMS if holds(marker_of(platforms), platform)} == platforms


@settings(deadline=None)
@given(platform_sets)
def test_the_complement_holds_exactly_elsewhere(platforms: frozenset[str]) -> None:
    if platforms != frozenset(PLATFORMS):
        assert {platform for platform in PLATFORMS if holds(complement(platforms), platform)} == set(
            PLATFORMS
        ) - platforms


@settings(deadline=None)
@given(st.lists(platform_sets, min_size=1, max_size=4))
def test_a_partition_covers_each_platform_once_and_cuts_no_route(served: list[frozenset[str]]) -> None:
    routes = (Route(backend="cpu", url="", points=points_of(item, MINORS)) for item in served)
    markers = separation(routes, MINORS)
    for platform in PLATFORMS:
        assert not markers or sum(holds(marker, platform) for marker in markers) == 1
    for platforms in served:
        for marker in markers:
            inside = {platform for platform in PLATFORMS if holds(marker, platform)}
            assert inside <= platforms or not inside & platforms


def test_a_marker_for_no_platform_is_a_bug() -> None:
    with pytest.raises(ValueError, match="no platform"):
        marker_of(())


def test_a_bug_of_ours_is_not_called_a_fault_of_the_file() -> None:
    with pytest.raises(ValueError, match="no platform"):
        edit_text("a = 1\n", lambda _document: (Message("never", str(marker_of(()))),))


@settings(deadline=None)
@given(st.frozensets(st.tuples(st.sampled_from(PLATFORMS), st.sampled_from(MINORS)), min_size=1))
def test_a_marker_holds_exactly_at_its_points(points: frozenset[tuple[str, str]]) -> None:
    marker = marker_at(points, MINORS)
    assert points_where(marker or "", MINORS) == points


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("^2.1", ">=2.1,<3.0"),
        ("^0.2.3", ">=0.2.3,<0.3.0"),
        ("^0.0.3", ">=0.0.3,<0.0.4"),
        ("^0.0", ">=0.0,<0.1"),
        ("~1.2", ">=1.2,<1.3"),
        ("~1.2.3", ">=1.2.3,<1.3.0"),
        ("~1", ">=1,<2"),
        ("*", ""),
        ("1.4.2", "==1.4.2"),
        ("2.*", "==2.*"),
        (">=1.2 <2", ">=1.2,<2"),
        (">=1.2,<2", ">=1.2,<2"),
        ("~=1.4", "~=1.4"),
        ("^1.2 || ^2.0", None),
        ("^x", None),
        ("latest", None),
    ],
)
def test_poetry_constraints(text: str, wanted: str | None) -> None:
    found = specifier(text)
    assert (found is None) == (wanted is None)
    if found is not None and wanted is not None:
        assert SpecifierSet(found) == SpecifierSet(wanted)


@pytest.mark.parametrize(
    ("spec", "cap", "wanted"),
    [
        ("<2.10", "2.11", True),
        ("==2.9.*", "2.11", True),
        (">=2.9", "2.11", False),
        ("~=2.9", "2.11", False),
        ("", "2", False),
    ],
)
def test_bounds_that_are_there_already(spec: str, cap: str, wanted: bool) -> None:
    assert excludes(SpecifierSet(spec), cap) is wanted


def test_urls_of_one_index() -> None:
    assert same_url("https://Mirror.example/whl/cu128/", "https://mirror.example/whl/cu128")
    assert same_url("https://user:secret@mirror.example/whl/cu128", "https://mirror.example/whl/cu128")
    assert not same_url("https://mirror.example/whl/cu128", "https://mirror.example/whl/cu130")
    assert not same_url("https://mirror.example/WHL/cu128", "https://mirror.example/whl/cu128")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("linux=cu130", ("linux_x86_64", "cu130")),
        ("linux-aarch64=cu130", ("linux_aarch64", "cu130")),
        ("windows=default", ("win_amd64", "default")),
        ("macos=default", ("macos_arm64", "default")),
    ],
)
def test_platforms_as_typed(text: str, wanted: tuple[str, str]) -> None:
    assert parse_on(text) == wanted


HEAD = '[project]\nname = "demo"\nversion = "1"\nrequires-python = ">=3.11"\n'
ADA = nvidia("NVIDIA GeForce RTX 4090", "8.9")
VOLTA = nvidia("Tesla V100", "7.0")


def layout(plan: Plan, name: LayoutName, **asked: Any) -> Layout:
    return complete(Layout(name=name, **asked), plan, small_catalog())


def test_a_plan_becomes_a_layout() -> None:
    plan = decide(linux(ADA, driver="580.95"), "torch", backend="cu128")
    assert plan_platform(plan) == "linux_x86_64"
    made = layout(plan, "this-machine")
    assert made.backends == ("cu128",)
    assert made.required == ("linux_x86_64",)
    made = layout(plan, "groups")
    assert (made.backends, made.default, made.required) == (("cpu", "cu128"), "cu128", PLATFORMS)
    made = layout(plan, "markers", on=(("win_amd64", "cu126"), ("linux_aarch64", "default")))
    assert made.on == (("linux_x86_64", "cu128"), ("win_amd64", "cu126"))


def test_a_lock_must_not_move_past_what_the_gpu_runs() -> None:
    """The last build with code for Volta is capped: a newer torch in the same index would not run."""
    plan = decide(linux(VOLTA, driver="580.95"), "torch", backend="cu128")
    assert plan.torch == "2.10.0+cu128"
    assert plan_caps(plan) == (("cu128", "2.11"),)
    free = decide(linux(ADA, driver="580.95"), "torch", backend="cu128")
    assert plan_caps(free) == ()


def test_a_mac_routes_nothing() -> None:
    plan = decide(mac(), "torch")
    assert layout(plan, "this-machine").backends == ()
    with pytest.raises(TorchInstallError) as caught:
        layout(plan, "groups")
    assert caught.value.slug == "backends-missing"
    assert layout(plan, "groups", backends=("cpu", "cu130")).default == "cu130"


def test_windows_keeps_its_platform() -> None:
    plan = decide(windows(ADA, driver="581.29"), "torch")
    assert plan_platform(plan) == "win_amd64"


def test_no_plan_is_no_layout_unless_backends_are_named() -> None:
    broken = decide(mac(rosetta=True), "torch")
    with pytest.raises(TorchInstallError) as caught:
        layout(broken, "this-machine")
    assert caught.value.slug == "rosetta"
    assert layout(broken, "groups", backends=("cpu", "cu130")).backends == ("cpu", "cu130")


def configured(text: str, wanted: Layout, *, migrate: bool = False) -> str:
    file = FileEdit(Path("pyproject.toml"), text, text)
    return edit_files(
        (file,), ProjectChange(layout_of=lambda _view: wanted, migrate=migrate), small_catalog()
    ).text


def with_layout(text: str, wanted: Layout) -> ProjectView:
    return project_view(configured(text, wanted))


@pytest.mark.parametrize("marker", ["python_full_version < '3.11.4'", "platform_release != '5.15-microsoft'"])
def test_what_no_source_can_say_stops_a_migration(marker: str) -> None:
    text = HEAD + f'dependencies = ["torch==2.5.1+cu121 ; {marker}"]\n'
    stopped = migrate_text(text, small_catalog()).error
    assert stopped is not None
    assert stopped.slug == "not-carried"
    assert marker.replace("'", '"') in str(stopped.message)
    text = text.replace("3.11.4", "3.12").replace("platform_release", "os_name")
    assert "pytorch-cu121" in migrate_text(text, small_catalog()).text


@pytest.mark.parametrize(
    "more",
    [
        '[project.optional-dependencies]\ncu128 = "torch"\n\n[tool.uv]\nconflicts = "none"\n',
        '[tool.uv]\nindex = "x"\nsources = []\n',
        '[tool.rye]\ndev-dependencies = "pytest"\nsources = 1\n',
        "[tool.pdm]\ndev-dependencies = { dev = 1 }\nsource = [1]\n",
        "[tool.poetry]\nsource = [{ url = 1 }]\ndependencies = { torch = { source = [] } }\n",
        "[tool.hatch]\nenvs = [1]\n",
        "[tool.uv]\npackage = false\n\n[tool.pixi]\nfeature = 1\npypi-dependencies = { torch = 1 }\n",
    ],
)
@pytest.mark.parametrize("migrate", [False, True])
def test_what_has_the_wrong_type_is_named_or_left_alone(more: str, migrate: bool) -> None:
    text = HEAD + 'dependencies = ["torch"]\n\n' + more
    stopped = None
    try:
        assert loads(configured(text, EXTRAS, migrate=migrate)) is not None
    except TorchInstallError as error:
        stopped = error.slug
    assert stopped in (None, "bad-pyproject", "needs-migration")


EXTRAS = Layout(name="extras", backends=("cpu", "cu126", "cu130"))
GROUPS = Layout(name="groups", backends=("cpu", "cu126", "cu130"), default="cu130")
MARKERS = Layout(
    name="markers", backends=("cu130", "cpu"), on=(("linux_x86_64", "cu130"), ("win_amd64", "cpu"))
)


@pytest.mark.parametrize(
    "wanted", [EXTRAS, GROUPS, MARKERS, Layout(name="this-machine", backends=("cu128",))]
)
def test_the_layout_in_a_file_is_read_back(wanted: Layout) -> None:
    found = current_layout(with_layout(HEAD + 'dependencies = ["torch"]\n', wanted), small_catalog())
    assert found is not None
    assert (found.name, found.backends, found.default) == (wanted.name, wanted.backends, wanted.default)
    assert found.on == wanted.on


def test_a_platform_may_replace_every_offer() -> None:
    plan = decide(linux(ADA, driver="580.95"), "torch")
    view = with_layout(HEAD + 'dependencies = ["torch"]\n', EXTRAS)
    asked = Layout(name="this-machine", on=(("linux_x86_64", "cu126"),))
    made = layout_for(view, asked, plan, small_catalog(), without=EXTRAS.backends, named=False)
    assert (made.name, made.on) == ("markers", asked.on)


def test_no_layout_in_a_plain_file() -> None:
    view = project_view(HEAD + 'dependencies = ["torch"]\n')
    assert current_layout(view, small_catalog()) is None
    assert routed_in(view, small_catalog()) == ()


@pytest.mark.parametrize(
    ("driver", "wanted"),
    [("580.95", ("--extra", "cu130")), ("550.54", ("--extra", "cu126")), (None, ("--extra", "cpu"))],
)
def test_the_extra_that_fits(driver: str | None, wanted: tuple[str, ...]) -> None:
    machine = linux(ADA, driver=driver) if driver else linux()
    view = with_layout(HEAD + "dependencies = []\n", EXTRAS)
    assert choose(view, decide(machine, "torch"), small_catalog()).flags == wanted


def test_the_group_that_fits_and_its_rivals() -> None:
    view = with_layout(HEAD + "dependencies = []\n", GROUPS)
    there = {route.backend: scope_flags(route.scope, view) for route in routed_in(view, small_catalog())}
    assert there == {
        "cu130": (),
        "cu126": ("--no-group", "cu130", "--group", "cu126"),
        "cpu": ("--no-group", "cu130", "--group", "cpu"),
    }


def test_the_lock_decides_which_build_is_judged() -> None:
    """An offer is refused when the locked version does not run here, though an older one would."""
    plan = decide(linux(VOLTA, driver="580.95"), "torch")
    rejected = {
        item.torch for item in plan.candidates if item.backend == "cu128" and item.rule == "no-code-for-gpu"
    }
    view = with_layout(HEAD + "dependencies = []\n", Layout(name="extras", backends=("cpu", "cu128")))
    extra = Scope("extra", "cu128")
    assert choose(view, plan, small_catalog(), locked={extra: "2.10.0+cu128"}).flags == ("--extra", "cu128")
    assert "2.11.0" in rejected
    newer = choose(view, plan, small_catalog(), locked={extra: "2.11.0+cu128"})
    assert newer.flags == ("--extra", "cpu")
    assert [note.slug for note in newer.notes] == ["gpu-not-offered"]


def test_nothing_that_is_offered_fits() -> None:
    view = with_layout(HEAD + "dependencies = []\n", Layout(name="extras", backends=("cu126", "cu130")))
    with pytest.raises(TorchInstallError) as caught:
        choose(view, decide(linux(), "torch"), small_catalog())
    assert caught.value.slug == "nothing-offered-fits"
    assert "--with cpu" in caught.value.hints[0]


BLOCKS = (
    HEAD.replace('"demo"', '"demo"  # n') + 'dependencies = ["torch>=2.8"]\n',
    "# groups\n[dependency-groups]\ndev = ['pytest']\n",
    "[tool.uv]\npackage = false # p\n",
    '[tool.uv.sources]\nmylib = { path = "../mylib" }\n# end of sources\n',
    '[[tool.uv.index]]\nname = "corp"\nurl = "https://corp.example/simple"\n',
    "[tool.ruff]\nline-length = 100\n\n# rules\n[tool.ruff.lint]\nselect = ['E']\n",
    '[project.scripts]\ndemo = "demo:main"\n',
)


@settings(max_examples=60, deadline=None)
@given(
    st.permutations(BLOCKS),
    st.sampled_from(["\n", "", "\n\n"]),
    st.sampled_from([EXTRAS, GROUPS, MARKERS, Layout(name="this-machine", backends=("cu128",))]),
    st.sampled_from(["\n", "\r\n"]),
)
def test_any_order_of_tables(blocks: list[str], gap: str, wanted: Layout, end: str) -> None:
    """Whatever the order: nothing is lost, comments stay, twice is once."""
    text = gap.join(blocks).replace("\n", end)
    once = configured(text, wanted)
    again = configured(once, wanted)
    assert again == once
    before, after = loads(text), loads(once)
    assert before is not None
    assert after is not None
    assert after["tool"]["ruff"] == before["tool"]["ruff"]
    assert after["tool"]["uv"]["sources"]["mylib"] == {"path": "../mylib"}
    assert after["tool"]["uv"]["index"][0]["name"] == "corp"
    assert ("\r\n" in once) == (end == "\r\n")
    for line in text.splitlines():
        assert line in once.splitlines() or "dev" in line


def test_lines_that_repeat_thousands_of_times_are_compared_in_time_by_their_number() -> None:
    """A project file of many tiny tables, changed at both of its ends."""
    rows = ["[[a]]\n"] * 30_000
    began = time.process_time()
    after = tidy("".join(["[b]\n", *rows]), "".join(["[c]\n", *rows, "[d]\n"]))
    assert time.process_time() - began < 5
    assert after.startswith("[c]\n")
    assert after.endswith("[[a]]\n\n[d]\n")


@pytest.mark.parametrize(
    ("members", "folder", "found"),
    [
        ("packages/*", "packages/a", True),
        ("packages/*", "packages/deep/a", False),
        ("packages/**", "packages/deep/a", True),
        ("**/a", "packages/deep/a", True),
        ("packages/**/a", "packages/a", True),
        ("packages/**/b", "packages/a", False),
    ],
)
def test_members_of_a_workspace(tmp_path: Path, members: str, folder: str, found: bool) -> None:
    (tmp_path / "pyproject.toml").write_text(f'[tool.uv.workspace]\nmembers = ["{members}"]\n', "utf-8")
    member = tmp_path / folder
    member.mkdir(parents=True)
    assert (workspace_root(member) == tmp_path.resolve()) == found
