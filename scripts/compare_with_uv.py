"""Send uv's `--torch-backend=auto` and our planner to the same machines; print what runs, as Markdown.

    python -m scripts.compare_with_uv --machines 540

The real uv resolves against a loopback copy of the PyTorch index and, for the column "uv wheel variants",
against an index with the same builds as wheel variants (`--preview-features wheel-variants`). An oracle that
was written from published facts, and shares nothing with the planner, judges all. Intel GPUs are omitted: uv
can only see those that are really in the computer that it runs on.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.simulation.case import Case
from tests.simulation.field import Choice, Verdict, field, verdict
from tests.simulation.real_uv import RealUv
from tests.simulation.run import plan_for
from torchinstall.catalog.catalog import load_catalog
from torchinstall.core.errors import ToolMissingError


@dataclass(frozen=True, slots=True)
class Pair:
    """One machine and what each tool chose there."""

    case: Case
    ours: Choice | None
    theirs: Choice | None
    said: str
    variant: Choice | None = None

    def verdicts(self) -> tuple[Verdict, Verdict, Verdict]:
        """Ours, uv's, uv's among wheel variants."""
        return (
            verdict(self.case, self.ours),
            verdict(self.case, self.theirs),
            verdict(self.case, self.variant),
        )


def _ours(case: Case) -> Choice | None:
    plan = plan_for(case)
    if plan.torch is None or plan.backend is None:
        return None
    return Choice(plan.torch.partition("+")[0], plan.backend)


def _share(hits: int, total: int) -> str:
    return f"{100 * hits / total:.0f} % ({hits})"


_GENERATIONS = ("Kepler and older", "Maxwell, Pascal", "Volta", "Turing to Hopper", "Blackwell")


def _generation(case: Case) -> str | None:
    """Of the newest NVIDIA GPU in a machine."""
    codes = [tuple(map(int, part.code.split("."))) for part in case.parts if part.vendor == "nvidia"]
    if not codes:
        return None
    first_of_later = ((5, 0), (7, 0), (7, 5), (10, 0))
    return _GENERATIONS[sum(max(codes) >= code for code in first_of_later)]


def _table(pairs: list[Pair], group_of: Callable[[Case], str | None], *, total: bool = True) -> str:
    groups: dict[str, list[Pair]] = {}
    for pair in pairs:
        if name := group_of(pair.case):
            groups.setdefault(name, []).append(pair)
    rows = list(groups.items())
    if group_of is _generation:
        rows.sort(key=lambda row: _GENERATIONS.index(row[0]))
    if total:
        rows.append(("**all**", pairs))
    tools, verdicts = ("uv", "uv wheel variants", "torchinstall"), ("runs", "newest")
    lines = [
        f"| machines | number | {' | '.join(f'{tool}: {what}' for tool in tools for what in verdicts)} |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, items in rows:
        both = [pair.verdicts() for pair in items]
        number = len(items)
        cells = [
            name,
            str(number),
            _share(sum(row[1].runs for row in both), number),
            _share(sum(row[1].newest for row in both), number),
            _share(sum(row[2].runs for row in both), number),
            _share(sum(row[2].newest for row in both), number),
            _share(sum(row[0].runs for row in both), number),
            _share(sum(row[0].newest for row in both), number),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _reasons(pairs: list[Pair]) -> str:
    lines = []
    for tool, position in (("uv", 1), ("uv wheel variants", 2), ("torchinstall", 0)):
        counts = Counter(pair.verdicts()[position].why for pair in pairs)
        del counts[""]
        text = ", ".join(f"{why}: {number}" for why, number in counts.most_common()) or "always runs"
        lines.append(f"{tool}: {text}.")
    return "\n".join(lines)


def _record(pair: Pair) -> dict[str, object]:
    ours, theirs, variant = pair.verdicts()
    return {
        "group": pair.case.group,
        "gpus": [part.name for part in pair.case.parts],
        "driver": pair.case.driver,
        "platform": pair.case.system.platform,
        "python": pair.case.python,
        "packages": pair.case.packages,
        "uv": pair.theirs and f"{pair.theirs.torch}+{pair.theirs.backend}",
        "uv_verdict": theirs.why or "runs",
        "uv_said": pair.said if pair.theirs is None else "",
        "uv_variants": pair.variant and f"{pair.variant.torch}+{pair.variant.backend}",
        "uv_variants_verdict": variant.why or "runs",
        "torchinstall": pair.ours and f"{pair.ours.torch}+{pair.ours.backend}",
        "torchinstall_verdict": ours.why or "runs",
        "reproduce": pair.case.reproduce(),
    }


def main(argv: list[str] | None = None) -> int:
    """Compare; returns 1 where one of our own choices does not run."""
    parser = argparse.ArgumentParser(prog="python -m scripts.compare_with_uv", description=__doc__)
    parser.add_argument("--machines", type=int, default=540, help="at least so many (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=20261122, help="of the sample (default: %(default)s)")
    parser.add_argument("--uv", help="the uv to ask (default: beside this Python, or on PATH)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="uv processes at a time")
    parser.add_argument("--details", type=Path, help="write one JSON line per machine here")
    arguments = parser.parse_args(argv)

    beside = Path(sys.executable).with_name("uv")
    uv = arguments.uv or (str(beside) if beside.exists() else shutil.which("uv"))
    if uv is None:
        raise ToolMissingError("uv-not-found", "uv is needed for the comparison", hints=("--uv PATH",))
    cases = field(arguments.machines, arguments.seed)
    with RealUv.serving(uv, load_catalog()) as real, ThreadPoolExecutor(arguments.jobs) as pool:
        answers = list(pool.map(real.choose, cases))
        variants = list(pool.map(real.choose_variant, cases))
        version = real.version()
    rows = zip(cases, answers, variants, strict=True)
    pairs = [Pair(case, _ours(case), *answer, variant) for case, answer, variant in rows]
    if arguments.details:
        lines = (json.dumps(_record(pair)) for pair in pairs)
        arguments.details.write_text("\n".join(lines) + "\n", encoding="utf-8")
    today = dt.datetime.now(tz=dt.timezone.utc).date()
    print(f"uv {version} with `--torch-backend=auto`, {len(pairs)} described machines, {today}:\n")
    print(_table(pairs, lambda case: case.group))
    print("\nThe same machines by the generation of their newest NVIDIA GPU:\n")
    print(_table(pairs, _generation, total=False))
    print(f"\n{_reasons(pairs)}")
    return 0 if all(pair.verdicts()[0].runs for pair in pairs) else 1


if __name__ == "__main__":
    sys.exit(main())
