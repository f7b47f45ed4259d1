"""What verify found, with the cause where the words of the failure are known."""

from __future__ import annotations

from collections.abc import Iterator

from torchinstall.doctor.checks.remedies import by_hand, reinstall
from torchinstall.doctor.model import Diagnosis, Environment
from torchinstall.doctor.symptoms import explain

__all__ = ["does_not_compute"]


def does_not_compute(seen: Environment) -> Iterator[Diagnosis]:
    """A check of verify failed; failures with the same words are one finding."""
    told: set[str] = set()
    for check in seen.report.failed if seen.report is not None else ():
        if check.found in told:
            continue
        told.add(check.found)
        known = explain(f"{check.found}\n{check.detail}", seen.catalog, platform=seen.target.platform)
        evidence = (f"wanted: {check.wanted}", f"found: {check.found}")
        if known:
            best = known[0]
            yield Diagnosis(
                slug="does-not-compute",
                severity="error",
                message=f"the check {check.name} failed: {best.cause}",
                evidence=(*evidence, f"known as {best.slug}"),
                remedies=tuple(by_hand(command) for command in best.commands),
                advice=best.advice,
            )
        else:
            package = check.name.removeprefix("import-") if check.name.startswith("import-") else "torch"
            yield Diagnosis(
                slug="does-not-compute",
                severity="error",
                message=f"the check {check.name} failed",
                evidence=evidence,
                remedies=(reinstall(seen, package),),
            )
