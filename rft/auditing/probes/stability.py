"""Same input, same score: whatever came before, whoever grades it, and in whatever order."""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence

from rft.auditing.bench import asks_a_service
from rft.auditing.cases import Case, Graded
from rft.auditing.findings import Finding, failed, not_applicable, passed, warned
from rft.auditing.probe import Probe
from rft.auditing.subject import Subject

TIMES = 5
NUM_TASKS = 6
SPREAD = 0.1
"""Of full marks: what a judge may differ from itself, as a standard deviation."""
CLOSE = 1e-9
IN_BETWEEN = "a hostile row in between"


async def same_score_each_time(subject: Subject) -> Finding:
    """Grade the same cases again: in order, shuffled, in one worker and in several."""
    cases = _some(subject)
    shuffled = random.Random(0).sample(range(len(cases)), len(cases))
    orders = [*range(len(cases)), *shuffled]
    gradings: list[list[Graded]] = [[one] for one in await subject.bench.grade(cases)]
    for one_worker in (True, False):
        again = await subject.bench.grade_apart([cases[place] for place in orders], one_worker=one_worker)
        for place, graded in zip(orders, again, strict=True):
            gradings[place].append(graded)
    differing: list[Graded] = []
    spreads = [0.0]
    unstable: set[str] = set()
    for same in gradings:
        names = [name for name in same[0].grade.scores if _differ([one.grade.scores[name].value for one in same])]
        if names:
            unstable |= set(names)
            differing += _pair(same, names[0])
        shares = [share for one in same if (share := subject.total_share(one)) is not None]
        spreads.append(statistics.pstdev(shares) if len(shares) > 1 else 0.0)
    figures = {"cases": len(cases), "times": TIMES, "unstable": sorted(unstable), "largest_sd": max(spreads)}
    if not unstable:
        return passed(
            f"{len(cases)} cases got the same scores {TIMES} times, in any order, in one worker or several", **figures
        )
    services = {grader.name for grader in subject.bench.declared if asks_a_service(grader) and not grader.is_cached}
    spread = f"sd up to {max(spreads):.2f} of the reward"
    said = f"the same input got different scores from {', '.join(sorted(unstable))} ({spread})"
    if unstable <= services and max(spreads) <= SPREAD:
        return warned(
            f"{said}: noise of a judge, which hides small differences between completions", differing, **figures
        )
    return failed(said, differing, **figures)


async def rows_are_apart(subject: Subject) -> Finding:
    """A row's score does not depend on the rows before it in the same process."""
    cases = _some(subject)
    if len(cases) < 2:
        return not_applicable("there is only one case")
    hostile = [
        Case(task=case.task, completion=text, note=IN_BETWEEN)
        for case in cases[:2]
        for text in ("", "\x00", "{" * 2_000, "9" * 5_000, "import os; os.chdir('/'); raise SystemExit(1)", "\\boxed{")
    ]
    clean = cases[:NUM_TASKS]
    alone = await subject.bench.grade_apart(clean, one_worker=True)
    among = [one for number, case in enumerate(clean) for one in (*hostile[number % 2 :: 2], case)]
    mixed = await subject.bench.grade_apart(among, one_worker=True)
    graded = [one for one in mixed if one.case.note != IN_BETWEEN]
    moved = [
        pair
        for first, later in zip(alone, graded, strict=True)
        if any(_differ([first.grade.scores[name].value, later.grade.scores[name].value]) for name in first.grade.scores)
        for pair in (first, later)
    ]
    if moved:
        return failed(f"{len(moved) // 2} of {len(alone)} cases got another score behind hostile rows", moved)
    return passed(f"{len(alone)} cases got the same score with and without hostile rows between them", cases=len(alone))


def _some(subject: Subject) -> list[Case]:
    """A few right and wrong answers."""
    graded = [*subject.right[:NUM_TASKS], *subject.wrong[:NUM_TASKS]]
    if graded:
        return [one.case for one in graded]
    return [
        Case(task=task, completion=text, note="some text")
        for task in subject.tasks[:NUM_TASKS]
        for text in ("Yes.", "42")
    ]


def _pair(same: Sequence[Graded], name: str) -> list[Graded]:
    """The first of some gradings of one case, and the first that differs from it."""
    values = [one.grade.scores[name].value for one in same]
    return [same[0], next(one for one, value in zip(same, values, strict=True) if _differ([values[0], value]))]


def _differ(values: Sequence[float | None]) -> bool:
    """Whether some have a value and some have none, or the values differ."""
    known = [value for value in values if value is not None]
    return bool(known) and (len(known) < len(values) or max(known) - min(known) > CLOSE)


PROBES = (
    Probe(
        name="determinism",
        family="stability",
        why="Noise within a group is taken for a difference between completions: the gradient then follows the noise. "
        "A cached score is wrong for ever.",
        how=f"Right and wrong answers {TIMES} times, in order and shuffled, in one worker process and in several.",
        threshold="fails if any score differs; a judge's may, with a standard deviation up to 10% of the range: warns",
        remedy="Seed by the task's id, or not at all; keep no state between calls; temperature 0 for judges.",
        look=same_score_each_time,
    ),
    Probe(
        name="row isolation",
        family="stability",
        why="Module state, a random generator, the working directory or a signal handler that one row leaves behind "
        "changes the score of the next.",
        how="Cases in one fresh process, and in another with hostile rows between them.",
        threshold="fails if any score differs",
        remedy="Keep no state between calls, and restore what the call changes.",
        look=rows_are_apart,
    ),
)
