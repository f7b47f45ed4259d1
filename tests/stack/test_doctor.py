"""What `doctor` says of packages that are built against another torch."""

from __future__ import annotations

from tests.doctor.environments import dist, healthy
from torchinstall.doctor.checks import examine


def test_the_remedy_keeps_the_set_together() -> None:
    seen = healthy(dist("vllm", "0.26.0", "torch==2.11.0"), dist("flash-attn", "2.8.3"))
    (found,) = [item for item in examine(seen) if item.slug == "built-for-other-torch"]
    assert found.message.startswith("vllm 0.26.0 needs torch==2.11.0")
    command = found.remedies[0].command.split()
    assert command[:2] == ["torchinstall", "auto"]
    assert {"torch", "vllm", "flash-attn"} <= set(command)
    assert not any(word.startswith("torch==") for word in command)
