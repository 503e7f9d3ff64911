"""From what undeserving completions were paid to a finding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rft.auditing.cases import Graded
from rft.auditing.findings import Finding, failed, passed, warned
from rft.auditing.subject import PAID, Subject


def undeserved(subject: Subject, graded: Sequence[Graded], what: str, **figures: Any) -> Finding:
    """Judge completions that deserve nothing.

    Any that is paid fails; but of a grader that gives partial credit, what resembles a right answer by chance earns a
    little, so that up to half of full marks is for a person to look at.

    Args:
        subject: What is audited.
        graded: The completions, at least one.
        what: What they are, in the plural.
        figures: More numbers for the report.
    """
    grave, slight = subject.paid(graded, above=subject.fail_above), subject.paid(graded)
    figures = {"cases": len(graded), "paid": len(slight), "mean": subject.mean(graded), **figures}
    if grave:
        return failed(f"{len(grave)} of {len(graded)} {what} are paid", different(grave), **figures)
    if slight:
        said = f"{len(slight)} of {len(graded)} {what} are paid more than {PAID:.0%} of full marks, as partial credit"
        return warned(said, different(slight), **figures)
    return passed(f"none of {len(graded)} {what} is paid", **figures)


def different(graded: Sequence[Graded]) -> list[Graded]:
    """Cases made in different ways first."""
    first: dict[str, Graded] = {}
    for one in graded:
        first.setdefault(one.case.note, one)
    return [*first.values(), *(one for one in graded if first[one.case.note] is not one)]
