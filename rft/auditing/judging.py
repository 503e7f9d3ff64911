"""Findings about completions that deserve no reward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rft.auditing.cases import GradedCase
from rft.auditing.findings import Finding, failed, passed, warned
from rft.auditing.grader_profile import PAID, GraderProfile


def undeserved(profile: GraderProfile, graded: Sequence[GradedCase], kind: str, **figures: Any) -> Finding:
    """Return the finding about completions that deserve no reward.

    The probe fails if a completion earns more than `profile.fail_above`. A grader with partial credit may pay a little
    for a chance resemblance; the probe then warns up to half of full marks.

    Args:
        profile: The graders and tasks.
        graded: The completions, at least one.
        kind: The kind of the completions, in the plural.
        figures: Further numbers for the report.
    """
    grave, slight = profile.paid(graded, above=profile.fail_above), profile.paid(graded)
    figures = {"cases": len(graded), "paid": len(slight), "mean": profile.mean(graded), **figures}
    if grave:
        return failed(f"{len(grave)} of {len(graded)} {kind} are paid", different(grave), **figures)
    if slight:
        message = (
            f"{len(slight)} of {len(graded)} {kind} are paid more than {PAID:.0%} of full marks, as partial credit"
        )
        return warned(message, different(slight), **figures)
    return passed(f"none of {len(graded)} {kind} is paid", **figures)


def different(graded: Sequence[GradedCase]) -> list[GradedCase]:
    """Order the cases so that each note appears once before any repeats."""
    first: dict[str, GradedCase] = {}
    for result in graded:
        first.setdefault(result.case.note, result)
    return [*first.values(), *(result for result in graded if first[result.case.note] is not result)]
