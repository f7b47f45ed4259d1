"""The snippets of the how-to on fleets are what their tools take."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.fleet.made import read_text
from tests.fleet.test_inventories import driver, slurm_node, slurm_text
from tests.support.systems import POSIX

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "fleets.md"
SCHEMA = Path(__file__).with_name("daemonset.schema.json")
LOAD = """
import json, sys, yaml
print(json.dumps([yaml.safe_load(text) for text in json.load(sys.stdin)]))
"""
CHECK = """
import json, sys, jsonschema
jsonschema.Draft202012Validator(json.load(open(sys.argv[1]))).validate(json.load(sys.stdin))
"""


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def loaded(python: str) -> list[Any]:
    texts = json.dumps(blocks("yaml"))
    done = subprocess.run([python, "-c", LOAD], input=texts, capture_output=True, text=True, check=True)
    found: list[Any] = json.loads(done.stdout)
    return found


def test_the_role_has_the_shape_of_tasks(yaml_python: str) -> None:
    """`ansible-playbook --syntax-check` was run on it by hand; this holds its shape."""
    defaults, tasks, playbook, _ = loaded(yaml_python)
    assert set(defaults) == {"torchinstall_facts_command"}
    modules = {"ansible.builtin.file", "ansible.builtin.command", "ansible.builtin.copy"}
    for task in tasks:
        assert set(task) - {"name", "register", "changed_when"} <= modules
        assert task["name"][0].isupper()
    assert tasks[-1]["ansible.builtin.copy"]["dest"] == "/etc/ansible/facts.d/torchinstall.fact"
    assert playbook[0]["roles"] == ["torchinstall_facts"]
    named = re.findall(r"\{\{ (\w+)", json.dumps(tasks))
    assert set(named) <= {"torchinstall_facts_command", "torchinstall_facts_probe"}


def test_the_daemonset_fits_the_schema(yaml_python: str) -> None:
    daemonset = json.dumps(loaded(yaml_python)[3])
    words = [yaml_python, "-c", CHECK, str(SCHEMA)]
    done = subprocess.run(words, input=daemonset, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.only_on(POSIX, "a shell script stands in for a program")
def test_the_shell_parses_and_slurms_extra_is_what_fleet_reads(tmp_path: Path) -> None:
    for text in blocks("bash"):
        subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    tools = {
        "nvidia-smi": "echo 580.95.05; echo 580.95.05",
        "getconf": "echo glibc 2.34",
        "hostname": "echo gpu7",
        "scontrol": f'printf "%s\\n" "$@" > {tmp_path}/said',
    }
    for name, body in tools.items():
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    script = next(text for text in blocks("bash") if "scontrol update" in text)
    env = {"PATH": f"{tmp_path}{os.pathsep}/usr/bin{os.pathsep}/bin"}
    subprocess.run(["bash", "-c", script], env=env, check=True)
    update, node, extra = (tmp_path / "said").read_text().split()
    assert (update, node) == ("update", "NodeName=gpu7")
    text = slurm_text(slurm_node("gpu7", "gpu:h100:8", extra=extra.removeprefix("Extra=")))
    found = read_text(tmp_path, text)["gpu7"]
    assert driver(found) == "580.95.05"
    assert found.assumed == ()
