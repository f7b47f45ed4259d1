"""Explanations: every rule has words, and they say what a person needs."""

from __future__ import annotations

from msgspec import structs

from tests.support.planning import decide, linux, nvidia, shipped
from torchinstall.cli.text import chosen_text, download_text, why_not_text
from torchinstall.core.machine import Machine
from torchinstall.core.messages import Message
from torchinstall.core.plan import Download, Plan, Room
from torchinstall.core.request import Request, requirement
from torchinstall.core.target import Installed, foreign_target
from torchinstall.planner.explain import RULE_WORDS, explain, why_not
from torchinstall.planner.rules import RULES
from torchinstall.planner.selection import plan

H200 = linux(nvidia("NVIDIA H200", "9.0"), driver="615.10")
PASCAL = linux(nvidia("NVIDIA GeForce GTX 1080 Ti", "6.1"), driver="580.95.05")


def test_every_rule_has_words() -> None:
    assert {slug for slug, _ in RULES} <= set(RULE_WORDS)


def test_every_rule_that_can_be_named_has_words() -> None:
    for python in ("3.8", "3.12", "3.15"):
        for item in decide(PASCAL, python=python).candidates:
            assert item.rule is None or item.rule in RULE_WORDS


def test_why_not_names_the_missing_code() -> None:
    text = " ".join(why_not(decide(PASCAL), "cu130"))
    assert "code for compute capability 6.1" in text
    assert "no kernel image" in text


def test_the_chosen_one_is_explained() -> None:
    text = " ".join(explain(decide(PASCAL), "cu126"))
    assert "2.14.1+cu126 was chosen" in text
    assert "GTX 1080 Ti" in text


def test_the_second_best_is_not_called_rejected() -> None:
    made = decide(linux(nvidia("NVIDIA GeForce RTX 4090", "8.9"), driver="615.10"))
    text = " ".join(explain(made, "cu126"))
    assert "torch 2.14.1+cu126 was not chosen. Would run, but its newest torch is 2.14.1." in text


def test_an_unknown_backend_is_said_to_be_unknown() -> None:
    assert "not considered" in explain(decide(PASCAL), "cu999")[0]
    assert shipped().backend("cu999") is not None


def with_torch(machine: Machine, version: str, backend: str, *more: str) -> Plan:
    there = (Installed(name="torch", version=f"{version}+{backend}", backend=backend),)
    target = structs.replace(foreign_target(machine, "3.12"), installed=there)
    return plan(Request(requirements=tuple(map(requirement, ("torch", *more)))), machine, target, shipped())


def lines_of(made: Plan) -> dict[str, str]:
    """What the table says of each backend that would run."""
    rows = (line.split(None, 2) for line in why_not_text(made).splitlines() if "Would run" in line)
    return {row[0]: row[2] for row in rows}


def test_what_lost_to_what_is_installed_is_not_said_to_serve_fewer_gpus() -> None:
    made = with_torch(H200, "2.11.0", "cu130")
    assert (made.status, made.backend) == ("satisfied", "cu130")
    said = lines_of(made)
    assert said.pop("cpu") == "Would run on the CPU only."
    newer = {said[name] for name in ("cu132", "cu126")}
    assert newer == {"Would run; what is installed is kept without"}
    assert "--upgrade" in " ".join(why_not(made, "cu132"))
    assert "more of this machine's GPUs" not in " ".join(why_not(made, "cu132"))


def test_what_is_added_to_a_torch_that_is_kept_does_not_make_it_the_better_match() -> None:
    made = with_torch(H200, "2.11.0", "cu126", "torchvision")
    assert (made.status, made.backend, made.kept) == ("ready", "cu126", True)
    assert "better" not in why_not_text(made)
    assert "what is installed is kept" in lines_of(made)["cu130"]
    said = [" ".join(line.split()) for line in chosen_text(made).splitlines()[1:3]]
    assert said == ["installed torch 2.11.0+cu126", "installs torchvision 0.26.0+cu126"]


def test_a_cpu_build_would_run_on_the_cpu_only_wherever_a_gpu_is_used() -> None:
    for made in (decide(H200, "torch"), decide(PASCAL, "torch")):
        assert lines_of(made)["cpu"] == "Would run on the CPU only."


def test_a_build_that_covers_the_only_gpu_is_not_said_to_cover_fewer() -> None:
    for driver in ("525.60", "550.54", "580.95", "615.10"):
        for gpu in (("NVIDIA H200", "9.0"), ("NVIDIA GeForce RTX 4090", "8.9"), ("Tesla V100", "7.0")):
            said = why_not_text(decide(linux(nvidia(*gpu), driver=driver)))
            assert "not on every GPU" not in said


def test_disk_that_is_not_taken_is_not_counted() -> None:
    room = Room(folder="/env", bytes=0, free=10**10)
    shared = download_text(Download(bytes=0, disk_bytes=0, rooms=(room,)))
    assert shared == "downloads: nothing, uv has all of it; takes hardly any disk, for /env shares uv's files"
    full = structs.replace(room, bytes=700_000_000)
    cache = structs.replace(room, folder="/cache")
    copied = download_text(Download(bytes=0, disk_bytes=0, rooms=(cache, full)))
    assert copied == (
        "downloads: nothing, all of it is on this machine; takes about 700 MB in /env (10.0 GB free)"
    )


def test_what_a_source_of_last_resort_lacks_is_not_said_to_be_unknown() -> None:
    instead = structs.replace(decide(H200), warnings=(Message("fallback-source", "taken instead: …"),))
    said = " ".join(why_not(instead, "cu999"))
    assert said == "cu999 was not considered: the source that stands in for the index has no build of it."
