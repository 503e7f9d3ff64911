"""Probes of repeated calls: the same completion must get the same score in any order and in any process."""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence

from rft.auditing.audit_panel import asks_a_service
from rft.auditing.cases import Case, GradedCase
from rft.auditing.findings import Finding, failed, not_applicable, passed, warned
from rft.auditing.grader_profile import GraderProfile
from rft.auditing.probe import Probe

TIMES = 5
NUM_TASKS = 6
SPREAD = 0.1
"""Largest standard deviation of a judge's repeated scores, as a share of full marks."""
CLOSE = 1e-9
IN_BETWEEN = "a hostile case in between"


async def determinism(profile: GraderProfile) -> Finding:
    """Check that cases get the same scores in order, shuffled, in one worker and in several."""
    cases = _ordinary_cases(profile)
    shuffled = random.Random(0).sample(range(len(cases)), len(cases))
    orders = [*range(len(cases)), *shuffled]
    gradings: list[list[GradedCase]] = [[result] for result in await profile.panel.grade(cases)]
    for one_worker in (True, False):
        again = await profile.panel.grade_apart([cases[place] for place in orders], one_worker=one_worker)
        for place, graded in zip(orders, again, strict=True):
            gradings[place].append(graded)
    differing: list[GradedCase] = []
    spreads = [0.0]
    unstable: set[str] = set()
    for same in gradings:
        names = [name for name in same[0].grade.scores if _differ([result.grade.scores[name].value for result in same])]
        if names:
            unstable |= set(names)
            differing += _pair(same, names[0])
        shares = [share for result in same if (share := profile.total_share(result)) is not None]
        spreads.append(statistics.pstdev(shares) if len(shares) > 1 else 0.0)
    figures = {"cases": len(cases), "times": TIMES, "unstable": sorted(unstable), "largest_sd": max(spreads)}
    if not unstable:
        return passed(
            f"{len(cases)} cases got the same scores {TIMES} times, in any order, in one worker and in several",
            **figures,
        )
    services = {grader.name for grader in profile.panel.declared if asks_a_service(grader) and not grader.is_cached}
    spread = f"sd up to {max(spreads):.2f} of the reward"
    message = f"the same input got different scores from {', '.join(sorted(unstable))} ({spread})"
    if unstable <= services and max(spreads) <= SPREAD:
        return warned(
            f"{message}: the noise of a judge hides small differences between completions", differing, **figures
        )
    return failed(message, differing, **figures)


async def row_isolation(profile: GraderProfile) -> Finding:
    """Check that a score does not depend on earlier calls in the same process."""
    cases = _ordinary_cases(profile)
    if len(cases) < 2:
        return not_applicable("the tasks give only one case")
    hostile = [
        Case(task=case.task, completion=text, note=IN_BETWEEN)
        for case in cases[:2]
        for text in ("", "\x00", "{" * 2_000, "9" * 5_000, "import os; os.chdir('/'); raise SystemExit(1)", "\\boxed{")
    ]
    clean = cases[:NUM_TASKS]
    alone = await profile.panel.grade_apart(clean, one_worker=True)
    among = [result for number, case in enumerate(clean) for result in (*hostile[number % 2 :: 2], case)]
    mixed = await profile.panel.grade_apart(among, one_worker=True)
    graded = [result for result in mixed if result.case.note != IN_BETWEEN]
    moved = [
        pair
        for first, later in zip(alone, graded, strict=True)
        if any(_differ([first.grade.scores[name].value, later.grade.scores[name].value]) for name in first.grade.scores)
        for pair in (first, later)
    ]
    if moved:
        return failed(f"{len(moved) // 2} of {len(alone)} cases got another score after hostile cases", moved)
    return passed(f"{len(alone)} cases got the same score with and without hostile cases in between", cases=len(alone))


def _ordinary_cases(profile: GraderProfile) -> list[Case]:
    """Return a few right and wrong answers."""
    graded = [*profile.right[:NUM_TASKS], *profile.wrong[:NUM_TASKS]]
    if graded:
        return [result.case for result in graded]
    return [
        Case(task=task, completion=text, note="some text")
        for task in profile.tasks[:NUM_TASKS]
        for text in ("Yes.", "42")
    ]


def _pair(same: Sequence[GradedCase], name: str) -> list[GradedCase]:
    """Return the first grading of a case and the first that differs."""
    values = [result.grade.scores[name].value for result in same]
    return [same[0], next(result for result, value in zip(same, values, strict=True) if _differ([values[0], value]))]


def _differ(values: Sequence[float | None]) -> bool:
    """Whether the values differ, or only some of them are None."""
    known = [value for value in values if value is not None]
    return bool(known) and (len(known) < len(values) or max(known) - min(known) > CLOSE)


PROBES = (
    Probe(
        name="determinism",
        family="stability",
        why="Training takes noise within a group for a difference between completions, so the gradient follows the "
        "noise. A cached score keeps its error.",
        how=f"Right and wrong answers, {TIMES} times each, in order and shuffled, in one worker process and in "
        "several.",
        threshold="fails if any score differs; warns for a judge with a standard deviation up to 10% of the range",
        remedy="Derive seeds from the task's id, keep no state between calls, and use temperature 0 for judges.",
        run=determinism,
    ),
    Probe(
        name="row isolation",
        family="stability",
        why="A call that changes module state, a random generator, the working directory or a signal handler changes "
        "the scores of later calls.",
        how="Cases in one new process, and in another one with hostile cases in between.",
        threshold="fails if any score differs",
        remedy="Keep no state between calls, and restore every changed setting.",
        run=row_isolation,
    ),
)
